//! What the metrics make of a written text.

use std::collections::BTreeMap;

use super::definition::Generate;
use super::metric::GenerateMetric;
use super::record::Outcome;
use crate::bleu::sentence_bleu;
use crate::rouge::{rouge_l, rouge_n};
use crate::squad;

/// The record of a text, with the scores that the task asks for; those against the dense model's text
/// are absent without one.
pub(super) fn outcome(
    task: &Generate,
    references: &[String],
    (text, tokens): (String, usize),
    dense: Option<&str>,
) -> Outcome {
    let score = |metric: &GenerateMetric| {
        Some((metric.name().to_owned(), score(*metric, &text, references, dense)?))
    };
    let scores: BTreeMap<String, f64> = task.metrics.iter().filter_map(score).collect();
    let numeric = task.metrics.contains(&GenerateMetric::ExactMatch);
    let correct = numeric.then(|| has_number_of(&text, references));
    Outcome::Text { text, tokens, correct, scores }
}

/// `None` for what there is nothing to compare with, and for `exact_match`, which is no score but right
/// or wrong.
fn score(
    metric: GenerateMetric,
    text: &str,
    references: &[String],
    dense: Option<&str>,
) -> Option<f64> {
    let best = |score: &dyn Fn(&str, &str) -> f64| {
        references.iter().map(|reference| score(text, reference)).fold(0.0, f64::max)
    };
    match metric {
        GenerateMetric::Bleu => Some(best(&sentence_bleu)),
        GenerateMetric::BleuDense => dense.map(|dense| sentence_bleu(text, dense)),
        GenerateMetric::Rouge1 => Some(best(&|text, reference| rouge_n(text, reference, 1))),
        GenerateMetric::Rouge2 => Some(best(&|text, reference| rouge_n(text, reference, 2))),
        GenerateMetric::RougeL => Some(best(&rouge_l)),
        GenerateMetric::RougeLDense => dense.map(|dense| rouge_l(text, dense)),
        GenerateMetric::F1 => Some(best(&squad::f1)),
        GenerateMetric::Em => {
            Some(best(&|text, reference| f64::from(u8::from(squad::exact_match(text, reference)))))
        }
        GenerateMetric::ExactMatch => None,
    }
}

fn has_number_of(text: &str, references: &[String]) -> bool {
    let number = last_number(text);
    number.is_some() && references.iter().any(|reference| last_number(reference) == number)
}

/// The last number of a text, without separators of thousands and closing zeros behind a point: the
/// `flexible-extract` of lm-evaluation-harness's gsm8k.
pub(super) fn last_number(text: &str) -> Option<String> {
    let in_number = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | '-' | '$');
    let words = text.split(|c: char| !in_number(c)).rev();
    let word = words.into_iter().find(|word| word.contains(|c: char| c.is_ascii_digit()))?;
    let word = word.trim_end_matches(['.', ',', '-', '$']);
    let number = word.rsplit_once('-').map_or(word, |(before, _)| &word[before.len()..]);
    let plain: String = number.chars().filter(|c| !matches!(c, ',' | '$')).collect();
    Some(match plain.split_once('.') {
        Some((whole, decimals)) if decimals.bytes().all(|b| b == b'0') => whole.to_owned(),
        _ => plain,
    })
}
