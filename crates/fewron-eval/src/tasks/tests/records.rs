//! What a record holds.

use std::collections::BTreeMap;

use super::super::metric::{GenerateMetric, Metric};
use super::super::record::Record;
use super::*;
use crate::rouge::rouge_l;

const EVERY_METRIC: &str = r#"kind = "generate"
prompt = "Q: {{ question }}\nA:"
references = "[answer, 'so it is']"
category = "topic if topic is defined else none"
max_new_tokens = 8
metrics = ["f1", "em", "rouge1", "rouge2", "rougeL", "rougeL_dense", "bleu", "bleu_dense", "exact_match"]
"#;

const TOPICS: &str = r#"{"question": "1+1?", "answer": "2", "topic": " sums "}
{"question": "Who?", "answer": "me", "topic": ""}
{"question": "Where?", "answer": "here"}
"#;

fn text(sample: &SampleRecord, lane: usize) -> (&str, &BTreeMap<String, f64>) {
    let Outcome::Text { text, scores, .. } = &sample.variants[lane].outcome else { panic!() };
    (text, scores)
}

#[test]
fn texts_have_the_scores_that_the_task_asks_for() {
    let (model, _) = tiny();
    let most = Gate::new(&model, 0.9);
    let record = run(&task(EVERY_METRIC, "t.jsonl", TOPICS).unwrap(), &[&most], 2).unwrap();
    let names = |lane: usize| text(&record.samples[0], lane).1.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(0), ["bleu", "em", "f1", "rouge1", "rouge2", "rougeL"]);
    let sparse = ["bleu", "bleu_dense", "em", "f1", "rouge1", "rouge2", "rougeL", "rougeL_dense"];
    assert_eq!(names(1), sparse);
    for sample in &record.samples {
        let ((dense, _), (sparse, scores)) = (text(sample, 0), text(sample, 1));
        assert_eq!(scores["rougeL_dense"], rouge_l(sparse, dense));
    }
    let reported = |lane: usize| -> Vec<&str> {
        record.results[lane].metrics.iter().map(|metric| metric.metric.as_str()).collect()
    };
    assert_eq!(reported(0), ["f1", "em", "rouge1", "rouge2", "rougeL", "bleu", "exact_match"]);
    assert_eq!(reported(1).len(), GenerateMetric::ALL.len());
}

#[test]
fn categories_are_the_records_own() {
    let record = run(&task(EVERY_METRIC, "t.jsonl", TOPICS).unwrap(), &[], 1).unwrap();
    let categories: Vec<_> = record.samples.iter().map(|s| s.category.as_deref()).collect();
    assert_eq!(categories, [Some("sums"), None, None]);
    let json = serde_json::to_value(&record.samples[1]).unwrap();
    assert!(json.get("category").is_none(), "{json}");
    let wrong = EVERY_METRIC.replace(" if topic is defined else none", "");
    let wrong = task(&wrong, "t.jsonl", TOPICS).unwrap_err().to_string();
    assert!(wrong.contains("line 3: ") && wrong.contains("`category`"), "{wrong}");
}

/// As version 0.1.0 first wrote it, and with a field that is not known here.
#[test]
fn records_of_before_can_be_read() {
    let old = r#"{"variant": "gate@0.5", "text": "4", "tokens": 2, "bleu": 12.5, "bleu_dense": 100.0,
        "correct": true, "remark": "new", "list": [1]}"#;
    let record: Record = serde_json::from_str(old).unwrap();
    let scores = [("bleu".to_owned(), 12.5), ("bleu_dense".to_owned(), 100.0)].into();
    let (text, tokens, correct) = ("4".to_owned(), 2, Some(true));
    assert_eq!(record.outcome, Outcome::Text { text, tokens, correct, scores });
    let term = |name: &str| Metric::named(name).unwrap().term(&record.outcome);
    assert_eq!(term("bleu"), Some((12.5, 1.0)));
    assert_eq!((term("exact_match"), term("f1")), (Some((1.0, 1.0)), None));
    let written = serde_json::to_value(&record).unwrap();
    assert_eq!((&written["bleu_dense"], &written["correct"]), (&100.0.into(), &true.into()));
}

#[test]
fn every_metric_goes_by_its_name() {
    for metric in GenerateMetric::ALL {
        assert_eq!(Metric::named(metric.name()), Some(Metric::Generate(*metric)));
    }
    for name in ["perplexity", "kl", "agreement", "acc", "acc_norm", "mc2"] {
        assert_eq!(Metric::named(name).unwrap().name(), name);
    }
    assert_eq!(Metric::named("rouge"), None);
}
