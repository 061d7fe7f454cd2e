//! BLEU against sacreBLEU's own scores (`data/make_bleu.py`).

use fewron_eval::bleu::sentence_bleu;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    hypothesis: String,
    reference: String,
    score: f64,
}

#[test]
fn equals_sacrebleu() {
    let golden: Golden = serde_json::from_str(include_str!("data/bleu.json")).unwrap();
    assert!(golden.pairs.len() > 60);
    for pair in &golden.pairs {
        let score = sentence_bleu(&pair.hypothesis, &pair.reference);
        assert!(
            (score - pair.score).abs() < 1e-9,
            "{:?} against {:?}: {score}, sacreBLEU {}",
            pair.hypothesis,
            pair.reference,
            pair.score
        );
    }
}
