//! ROUGE with exactly the definitions of Google's `rouge-score`: its default tokenizer, no stemmer,
//! the F-measure.
//!
//! Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (ACL workshop 2004), sections
//! 2 (ROUGE-N) and 3 (ROUGE-L).

use crate::overlap::{f_measure, shared};

/// F-measure of the n-grams of `order` words that both texts have, 0..1:
/// `rouge_scorer.RougeScorer(["rouge1"])` and `["rouge2"]`.
///
/// # Panics
/// If `order` is 0.
pub fn rouge_n(hypothesis: &str, reference: &str, order: usize) -> f64 {
    let (hypothesis, reference) = (hypothesis.to_lowercase(), reference.to_lowercase());
    let (hypothesis, reference) = (tokens(&hypothesis), tokens(&reference));
    let total = |tokens: &[&str]| (tokens.len() + 1).saturating_sub(order);
    let both = shared(hypothesis.windows(order), reference.windows(order));
    f_measure(both, total(&hypothesis), total(&reference))
}

/// F-measure of the longest common subsequence of words, 0..1, over the text as a whole:
/// `rouge_scorer.RougeScorer(["rougeL"])`.
pub fn rouge_l(hypothesis: &str, reference: &str) -> f64 {
    let (hypothesis, reference) = (hypothesis.to_lowercase(), reference.to_lowercase());
    let (hypothesis, reference) = (tokens(&hypothesis), tokens(&reference));
    let both = longest_common_subsequence(&hypothesis, &reference);
    f_measure(both, hypothesis.len(), reference.len())
}

/// Runs of ASCII letters and digits of a lower-case text.
fn tokens(text: &str) -> Vec<&str> {
    let outside = |c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit();
    text.split(outside).filter(|token| !token.is_empty()).collect()
}

/// Its length, row by row of the usual table.
fn longest_common_subsequence(a: &[&str], b: &[&str]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (at, other) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[b.len()]
}
