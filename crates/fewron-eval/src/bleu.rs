//! Sentence BLEU with exactly sacreBLEU's definition: 13a tokenizer, `exp` smoothing, effective
//! order, n-grams up to 4.
//!
//! Source: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation"
//! (ACL 2002); Chen and Cherry, "A Systematic Comparison of Smoothing Techniques for
//! Sentence-Level BLEU" (WMT 2014), method 3; tokenizer of NIST `mteval-v13a.pl`.

use crate::overlap::{is_space, shared, words};

/// Longest n-gram that counts.
const MAX_ORDER: usize = 4;

/// BLEU of one text against one reference, 0..100, as
/// `sacrebleu.sentence_bleu(hypothesis, [reference])` gives it.
///
/// Two empty texts score 0: no n-gram matches.
pub fn sentence_bleu(hypothesis: &str, reference: &str) -> f64 {
    let (hypothesis, reference) = (tokenize_13a(hypothesis), tokenize_13a(reference));
    let (hypothesis, reference) = (words(&hypothesis), words(&reference));
    let orders: [Matches; MAX_ORDER] =
        std::array::from_fn(|i| Matches::count(&hypothesis, &reference, i + 1));
    if orders.iter().all(|order| order.correct == 0) {
        return 0.0;
    }
    brevity_penalty(hypothesis.len(), reference.len()) * geometric_mean(&orders)
}

/// `exp(1 − r/h)` where the hypothesis is shorter than the reference, else 1.
fn brevity_penalty(hypothesis: usize, reference: usize) -> f64 {
    match hypothesis {
        0 => 0.0,
        h if h < reference => (1.0 - reference as f64 / h as f64).exp(),
        _ => 1.0,
    }
}

/// Geometric mean of the smoothed precisions in percent, over the orders that the hypothesis is
/// long enough to have (the *effective* order). The k-th order without a match gets precision
/// `1 / (2^k · total)`.
fn geometric_mean(orders: &[Matches]) -> f64 {
    let mut smoothing = 1.0;
    let logs: Vec<f64> = orders
        .iter()
        .take_while(|order| order.total > 0)
        .map(|order| {
            let correct = if order.correct == 0 {
                smoothing *= 2.0;
                1.0 / smoothing
            } else {
                order.correct as f64
            };
            (100.0 * correct / order.total as f64).ln()
        })
        .collect();
    (logs.iter().sum::<f64>() / logs.len() as f64).exp()
}

/// N-grams of one order: how many the hypothesis has, how many of them the reference has too.
struct Matches {
    correct: usize,
    total: usize,
}

impl Matches {
    fn count(hypothesis: &[&str], reference: &[&str], order: usize) -> Self {
        let correct = shared(hypothesis.windows(order), reference.windows(order));
        Self { correct, total: (hypothesis.len() + 1).saturating_sub(order) }
    }
}

/// The text with spaces between tokens (not yet squeezed), as `mteval-v13a.pl` does it.
fn tokenize_13a(text: &str) -> String {
    let mut line = text
        .trim_end_matches(is_space)
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    if line.contains('&') {
        for (entity, plain) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            line = line.replace(entity, plain);
        }
    }
    let spaced: String = format!(" {line} ").chars().flat_map(space_around_symbol).collect();
    let is_stop = |c| c == '.' || c == ',';
    let spaced =
        space_pairs(&spaced, |a, b| !a.is_ascii_digit() && is_stop(b), |a, b| [a, ' ', b, ' ']);
    let spaced =
        space_pairs(&spaced, |a, b| is_stop(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    space_pairs(&spaced, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' '])
}

/// ASCII punctuation but `'`, `,`, `-` and `.` stands alone.
fn space_around_symbol(c: char) -> impl Iterator<Item = char> {
    let alone = matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/');
    let space = alone.then_some(' ');
    space.into_iter().chain([c]).chain(space)
}

/// Rewrites every pair of neighbours that `matches`, from the left and without overlap.
fn space_pairs(
    text: &str,
    matches: impl Fn(char, char) -> bool,
    rewrite: impl Fn(char, char) -> [char; 4],
) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(a) = chars.next() {
        match chars.peek() {
            Some(&b) if matches(a, b) => {
                out.extend(rewrite(a, b));
                chars.next();
            }
            _ => out.push(a),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_text_scores_100() {
        for text in ["one two three four", "one", "Is it 3.5, or 4-5?"] {
            assert!((sentence_bleu(text, text) - 100.0).abs() < 1e-9, "{text}");
        }
    }

    #[test]
    fn nothing_shared_scores_0() {
        assert_eq!(sentence_bleu("a b c", "d e f"), 0.0);
        assert_eq!(sentence_bleu("", "d e f"), 0.0);
        assert_eq!(sentence_bleu("a b c", ""), 0.0);
        assert_eq!(sentence_bleu("", ""), 0.0);
    }

    #[test]
    fn numbers_keep_their_points_and_words_do_not() {
        let text = tokenize_13a("It cost 1,234.50 dollars, e.g. in 1990-95.");
        let expected = "It cost 1,234.50 dollars , e . g . in 1990 - 95 .";
        assert_eq!(words(&text).join(" "), expected);
    }
}
