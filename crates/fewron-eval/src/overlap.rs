//! What two texts have in common: the counting that BLEU, ROUGE and F1 share.

use std::collections::HashMap;
use std::hash::Hash;

/// Splits as Python's `str.split()` does, which also splits at the ASCII separators 0x1c–0x1f.
pub(crate) fn words(text: &str) -> Vec<&str> {
    text.split(is_space).filter(|word| !word.is_empty()).collect()
}

/// White space as Python has it.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Items that both have, each as often as the one that has fewer of it.
pub(crate) fn shared<T: Eq + Hash>(
    a: impl Iterator<Item = T>,
    b: impl Iterator<Item = T>,
) -> usize {
    let mut available = HashMap::new();
    for item in b {
        *available.entry(item).or_insert(0_usize) += 1;
    }
    let take = |item: &T| match available.get_mut(item) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    a.filter(take).count()
}

/// Harmonic mean of precision and recall, where `shared` items of `found` are among the `wanted`; 0
/// without a shared one.
pub(crate) fn f_measure(shared: usize, found: usize, wanted: usize) -> f64 {
    if shared == 0 {
        return 0.0;
    }
    let (precision, recall) = (shared as f64 / found as f64, shared as f64 / wanted as f64);
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_items_count_as_often_as_both_have_them() {
        let count = |a: &str, b: &str| shared(a.chars(), b.chars());
        assert_eq!(count("aab", "abbb"), 2);
        assert_eq!(count("abbb", "aab"), 2);
        assert_eq!((count("", "a"), count("a", "b")), (0, 0));
    }
}
