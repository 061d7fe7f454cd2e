//! BLEU, ROUGE, F1 and exact match against sacreBLEU, rouge-score and torchmetrics
//! (`fixtures/goldens/part_bleu.py`, `part_text_metrics.py`).

use fewron_eval::bleu::sentence_bleu;
use fewron_eval::rouge::{rouge_l, rouge_n};
use fewron_eval::squad;
use serde::Deserialize;

#[derive(Deserialize)]
struct Pair {
    hypothesis: String,
    reference: String,
    bleu: f64,
}

#[test]
fn bleu() {
    let golden = include_str!("../../../fixtures/goldens/bleu.json");
    let pairs: Vec<Pair> = serde_json::from_str(golden).unwrap();
    assert!(pairs.len() > 60);
    for Pair { hypothesis, reference, bleu } in &pairs {
        let score = sentence_bleu(hypothesis, reference);
        assert!((score - bleu).abs() < 1e-9, "{hypothesis:?} {reference:?}: {score}, not {bleu}");
    }
}

#[derive(Deserialize)]
struct Scored {
    text: String,
    references: Vec<String>,
    rouge1: f64,
    rouge2: f64,
    #[serde(rename = "rougeL")]
    rouge_l: f64,
    f1: f64,
    em: f64,
}

#[test]
fn rouge_f1_and_exact_match() {
    let golden = include_str!("../../../fixtures/goldens/text_metrics.json");
    let scored: Vec<Scored> = serde_json::from_str(golden).unwrap();
    assert!(scored.len() > 150);
    for case in &scored {
        let check = |name: &str, expected: f64, score: &dyn Fn(&str, &str) -> f64| {
            let scores = case.references.iter().map(|reference| score(&case.text, reference));
            let best = scores.fold(0.0, f64::max);
            let (text, references) = (&case.text, &case.references);
            assert!(
                (best - expected).abs() < 1e-9,
                "{name} of {text:?} and {references:?}: {best}, not {expected}"
            );
        };
        check("rouge1", case.rouge1, &|text, reference| rouge_n(text, reference, 1));
        check("rouge2", case.rouge2, &|text, reference| rouge_n(text, reference, 2));
        check("rougeL", case.rouge_l, &rouge_l);
        check("f1", case.f1, &squad::f1);
        check("em", case.em, &|text, reference| {
            f64::from(u8::from(squad::exact_match(text, reference)))
        });
    }
}
