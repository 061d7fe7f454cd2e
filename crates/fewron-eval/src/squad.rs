//! Exact match and F1 of short answers with exactly the definitions of SQuAD 2.0's script
//! (`evaluate-v2.0.py`): lower case, without ASCII punctuation and articles.
//!
//! Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (EMNLP
//! 2016), section 6.1; Rajpurkar et al., "Know What You Don't Know" (ACL 2018) for empty answers.

use crate::overlap::{f_measure, shared, words};

/// Whether both answers have the same words in the same order.
pub fn exact_match(answer: &str, reference: &str) -> bool {
    let (answer, reference) = (normalized(answer), normalized(reference));
    words(&answer) == words(&reference)
}

/// F1 over the words of both answers, 0..1; where one of them has no words, 1 if the other has none
/// either.
pub fn f1(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (normalized(answer), normalized(reference));
    let (answer, reference) = (words(&answer), words(&reference));
    if answer.is_empty() && reference.is_empty() {
        return 1.0;
    }
    f_measure(shared(answer.iter(), reference.iter()), answer.len(), reference.len())
}

/// The text in lower case, without ASCII punctuation and the words a, an and the.
fn normalized(text: &str) -> String {
    let lower = text.to_lowercase();
    let plain: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut rest = plain.as_str();
    let mut out = String::with_capacity(plain.len());
    while let Some(first) = rest.chars().next() {
        let inside = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != inside).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        out.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = behind;
    }
    out
}
