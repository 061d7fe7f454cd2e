//! The commands on the real SmolLM2 against `transformers` (`fixtures/goldens`). Skipped visibly
//! where the model is not in the cache.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[allow(dead_code, unreachable_pub)]
mod support;

use std::env;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use support::{fewron, fixture};

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

fn model() -> Option<String> {
    let home = env::var_os("FEWRON_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cache").join("fewron")))?;
    let file = home.join("models").join(FILE);
    if !file.exists() {
        eprintln!("SKIPPED: {} is not there; `fewron pull smollm2` gets it", file.display());
        return None;
    }
    Some(file.to_str()?.to_owned())
}

fn golden(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(&format!("goldens/{name}.json"))).unwrap()).unwrap()
}

/// Answers as far as the reference's lead over the second best token is clear.
#[test]
fn greedy_answers() {
    let Some(model) = model() else { return };
    let home = tempfile::tempdir().unwrap();
    let golden = golden("greedy");
    let mut compared = 0;
    for record in golden["smollm2"].as_array().unwrap() {
        let margins = record["margins"].as_array().unwrap();
        let clear = margins.iter().take_while(|m| m.as_f64().unwrap() > 0.5).count();
        if clear == 0 {
            continue;
        }
        let question = record["question"].as_str().unwrap();
        let clear_text = clear.to_string();
        let run = fewron(home.path(), &["generate", &model, "-p", question, "-n", &clear_text]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        let (answer, expected) = (run.stdout.trim_end(), record["answer"].as_str().unwrap());
        let whole = clear > record["answer_ids"].as_array().unwrap().len();
        println!("{clear} tokens: {answer:?}");
        assert!(!answer.is_empty() && expected.starts_with(answer), "{answer:?}, {expected:?}");
        assert!(!whole || answer == expected);
        compared += clear;
    }
    assert!(compared >= 8, "only {compared} tokens have a clear lead");
}

#[test]
fn log_likelihood() {
    let Some(model) = model() else { return };
    let home = tempfile::tempdir().unwrap();
    let text = fixture("text/prose.txt");
    let run = fewron(home.path(), &["score", &model, "--text-file", &text, "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let score: Value = serde_json::from_str(&run.stdout).unwrap();
    let golden = &golden("nll")["smollm2"];
    assert_eq!(score["tokens"], golden["logprobs"].as_array().unwrap().len());
    let (nll, expected) = (score["nll"].as_f64().unwrap(), golden["nll"].as_f64().unwrap());
    println!("nll {nll:.5}, reference {expected:.5}");
    assert!((nll / expected - 1.0).abs() < 0.005, "nll {nll}, expected {expected}");
}

/// Half of the weights' memory, and the same text.
#[cfg(target_os = "linux")]
#[test]
fn a_budget_saves_memory() {
    let Some(model) = model() else { return };
    let home = tempfile::tempdir().unwrap();
    let resident = |budget: &[&str]| {
        let few = ["--prefill", "0", "--kv", "0", "--decode", "4", "--repetitions", "1"];
        let args = [&["bench", &model, "--json", "-"], &few[..], budget].concat();
        let run = fewron(home.path(), &args);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let bench: Value = serde_json::from_str(&run.stdout).unwrap();
        bench["results"][0]["decode"][0]["resident_bytes"].as_u64().unwrap()
    };
    let (all, half) = (resident(&[]), resident(&["--resident-budget", "49"]));
    println!("{all} bytes, with a budget {half}");
    assert!(half + 30_000_000 < all, "{half} of {all}");
    let answer = |budget: &[&str]| {
        let args =
            [&["generate", &model, "-p", "Why is the sky blue?", "-n", "8"], budget].concat();
        fewron(home.path(), &args).stdout
    };
    let answers = [answer(&[]), answer(&["--resident-budget", "49"])];
    assert!(!answers[0].is_empty() && answers[0] == answers[1], "{answers:?}");
}
