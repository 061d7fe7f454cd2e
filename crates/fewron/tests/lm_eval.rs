//! `fewron eval` on the real SmolLM2 against lm-evaluation-harness (`fixtures/goldens/part_lm_eval.py`).
//! Skipped visibly where the model is not in the cache, or the data is not there: `FEWRON_DATA`, else
//! `../shared/data` beside the source.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[allow(dead_code, unreachable_pub)]
mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{fewron, fixture};

/// Predictions that must be the same, and how far apart accuracies may be.
const SAME: f64 = 0.98;
const ACCURACY: f64 = 0.01;

/// SmolLM2's file: named by `FEWRON_SMOLLM2`, else in the cache.
fn model() -> Option<PathBuf> {
    let named = env::var_os("FEWRON_SMOLLM2").map(PathBuf::from);
    let home = || {
        let home = env::var_os("FEWRON_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(env::home_dir()?.join(".cache").join("fewron")))?;
        Some(home.join("models").join("SmolLM2-135M-Instruct.Q4_1.gguf"))
    };
    let file = named.or_else(home)?;
    if file.exists() {
        return Some(file);
    }
    let required = env::var_os("FEWRON_REQUIRE_MODELS").is_some();
    assert!(!required, "no {}, and FEWRON_REQUIRE_MODELS is set", file.display());
    eprintln!("SKIPPED: {} is not there; `fewron pull smollm2` gets it", file.display());
    None
}

/// A data set's file.
fn data(name: &str) -> Option<PathBuf> {
    let folder = env::var_os("FEWRON_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let file = folder.unwrap_or(beside).join(name);
    if !file.is_file() {
        let shown = file.display();
        eprintln!("SKIPPED: no {shown}; FEWRON_DATA names the folder of the data sets");
        return None;
    }
    Some(file)
}

fn golden(task: &str) -> Value {
    let golden = fs::read(fixture("goldens/lm_eval.json")).unwrap();
    serde_json::from_slice::<Value>(&golden).unwrap()["tasks"][task].clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Runs the golden's first samples of a task, and holds each against the golden. `most` is how far off
/// log-likelihoods may be on average, in nats.
fn check(model: &Path, (name, spec): (&str, &str), file: &Path, items: usize, most: f64) {
    let golden = golden(name);
    let expected = golden["samples"].as_array().unwrap();
    let expected = &expected[..items.min(expected.len())];
    let (task, limit) = (format!("{spec}={}", file.display()), expected.len().to_string());
    let home = tempfile::tempdir().unwrap();
    let model = model.to_str().unwrap();
    let run = ["eval", model, "--task", &task, "--limit", &limit, "--json", "-"];
    let run = fewron(home.path(), &run);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let task = serde_json::from_str::<Value>(&run.stdout).unwrap()["tasks"][0].clone();
    assert_eq!(task["data"]["sha256"], golden["sha256"], "{} is another file", file.display());
    let samples = task["samples"].as_array().unwrap();
    assert_eq!(samples.len(), expected.len());
    let (mut same, mut right, mut expected_right, mut off) = (0, 0, 0, Vec::new());
    for (sample, expected) in samples.iter().zip(expected) {
        assert_eq!(sample["id"], expected["id"]);
        let found = &sample["variants"][0];
        same += usize::from(found["prediction"] == expected["prediction"]);
        right += usize::from(found["correct"] == true);
        expected_right += usize::from(expected["correct"] == true);
        let (found, expected) = (numbers(&found["logprobs"]), numbers(&expected["logprobs"]));
        assert_eq!(found.len(), expected.len());
        off.extend(found.iter().zip(&expected).map(|(p, q)| (p - q).abs()));
    }
    let mean = off.iter().sum::<f64>() / off.len() as f64;
    println!(
        "{name}: {same} of {} predictions are the same, {right} right (lm-eval {expected_right}), \
         log-likelihoods off by {mean:.4} on average",
        samples.len()
    );
    let share = |part: usize| part as f64 / samples.len() as f64;
    assert!(share(same) >= SAME, "{name}: {same} predictions are the same");
    assert!((share(right) - share(expected_right)).abs() <= ACCURACY + 1e-9, "{name}: {right}");
    assert!(mean < most, "{name}: log-likelihoods are off by {mean} on average");
}

/// Quantised weights, with inputs of products in 8 bits.
#[test]
fn facts() {
    let Some(model) = model() else { return };
    let (task, file) = (fixture("tasks/facts.toml"), fixture("tasks/facts.jsonl"));
    check(&model, ("facts", &task), Path::new(&file), 24, 0.3);
}

/// The same weights in F32, as lm-evaluation-harness had them. Few samples, since F32 is slow:
/// `scripts/check_lm_eval.py` takes more.
#[test]
fn public_data_sets() {
    let Some(model) = model() else { return };
    let files = [
        ("arc_easy", "arc_easy_test.jsonl", 20),
        ("piqa", "piqa_valid.jsonl", 20),
        ("boolq", "boolq_dev.jsonl", 4),
    ];
    let there = |(task, file, items)| Some((task, data(file)?, items));
    let found: Vec<(&str, PathBuf, usize)> = files.into_iter().filter_map(there).collect();
    if found.is_empty() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let exact = home.path().join("exact.gguf");
    let (input, output) = (model.to_str().unwrap(), exact.to_str().unwrap());
    let run = fewron(home.path(), &["quantize", input, output, "--type", "f32"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for (task, file, items) in found {
        check(&exact, (task, task), &file, items, 0.02);
    }
}
