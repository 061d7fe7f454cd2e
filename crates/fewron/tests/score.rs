//! `fewron score` on tiny models.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::sync::Arc;

use fewron_model::gguf::Gguf;
use fewron_model::tokenizer::{Specials, Tokenizer};
use fewron_model::{Logits, Model, Pool, Session};
use serde_json::Value;
use support::{fewron, fewron_env, fewron_stdin, tiny};

const TEXT: &str = "The lamp on the hill had not been lit for a year, and then one night it was.";

fn score(model: &str, more: &[&str]) -> Value {
    let home = tempfile::tempdir().unwrap();
    let model = tiny(model);
    let start = ["score", &model, "--text-file", "-", "--json"];
    let run = fewron_stdin(home.path(), &[&start, more].concat(), TEXT);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    serde_json::from_str(&run.stdout).unwrap()
}

fn logprobs(score: &Value) -> Vec<f64> {
    score["logprobs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect()
}

fn assert_close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} and {b}"));
}

/// By the definition, in f64, token by token; windows start with BOS where the file asks for it.
fn expected(name: &str, window: usize) -> Vec<f64> {
    let gguf = Gguf::open(tiny(name).as_ref()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let model = Arc::new(Model::from_gguf(gguf).unwrap());
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let tokens = tokenizer.encode(TEXT, Specials::Plain);
    let mut logprobs = Vec::new();
    for part in tokens.chunks(window - bos.iter().len()) {
        let mut session = Session::new(Arc::clone(&model), Arc::new(Pool::new(1)));
        let ids: Vec<u32> = bos.into_iter().chain(part.iter().copied()).collect();
        for pair in ids.windows(2) {
            let logits = session.forward(&pair[..1], None, None, Logits::Last).unwrap();
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            logprobs.push(f64::from(logits[pair[1] as usize]) - total.ln());
        }
    }
    logprobs
}

#[test]
fn every_predicted_token_counts_once() {
    for (model, bos) in [("tiny-llama", 0), ("tiny-gemma3", 1)] {
        let all = score(model, &[]);
        assert_eq!(all["model"], format!("{model}.gguf"));
        assert_eq!((&all["plan"], &all["window"]), (&Value::Null, &Value::from(128)));
        let whole = logprobs(&all);
        assert_eq!(all["tokens"], whole.len());
        let nll = -whole.iter().sum::<f64>() / whole.len() as f64;
        assert!((all["nll"].as_f64().unwrap() - nll).abs() < 1e-6);
        assert!((all["perplexity"].as_f64().unwrap().ln() - nll).abs() < 1e-6);
        assert_close(&whole, &expected(model, 128));

        for window in [2, 3, 10, 37] {
            let cut = logprobs(&score(model, &["--window", &window.to_string()]));
            assert_close(&cut, &expected(model, window));
            let tokens = whole.len() + 1 - bos;
            let missing = if bos == 1 { 0 } else { tokens.div_ceil(window) - 1 };
            assert_eq!(cut.len() + missing, whole.len(), "{model} window {window}");
            // The first window does not know that the text goes on.
            assert_eq!(cut[..window - 1], whole[..window - 1]);
        }
        assert_eq!(logprobs(&score(model, &["--window", "100"])), whole);
    }
}

#[test]
fn masks_act_from_token_33_of_a_window_on() {
    let dense = logprobs(&score("tiny-llama", &[]));
    let sparse = |ratio: &str| score("tiny-llama", &["--policy", "gate", "--sparsity", ratio]);
    assert_eq!(logprobs(&sparse("0")), dense);
    let half = sparse("0.5");
    assert_eq!((&half["plan"], &half["active"]), (&"gate@0.5".into(), &Value::from(0.5)));
    let half = logprobs(&half);
    assert_eq!(half[..32], dense[..32]);
    assert!(half[32..].iter().zip(&dense[32..]).all(|(a, b)| a != b));
}

#[test]
fn words_for_people() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("text.txt");
    fs::write(&file, TEXT).unwrap();
    let file = file.to_str().unwrap();
    let model = tiny("tiny-llama");
    // The last digits depend on the instruction set.
    let arguments = ["score", &model, "--text-file", file, "--policy", "magnitude"];
    let run = fewron_env(home.path(), &[("FEWRON_ISA", "scalar")], &arguments);
    insta::assert_snapshot!("score", run.stdout);
}

#[test]
fn texts_that_have_no_score() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let file = home.path().join("text.txt");
    let name = file.to_str().unwrap();
    let error = |text: &[u8], more: &[&str]| {
        fs::write(&file, text).unwrap();
        let start = ["score", &model, "--text-file", name];
        let run = fewron(home.path(), &[&start, more].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        run.stderr
    };
    assert!(error(b"", &[]).contains("at least 2 tokens, the text makes 0"));
    assert!(error(b"a", &[]).contains("at least 2 tokens, the text makes 1"));
    assert!(error(b"caf\xe9 au lait", &[]).contains("text.txt is not UTF-8 text (byte 3)"));
    let window = "--window 129 is more than the context of tiny-llama.gguf, which holds 128 tokens";
    assert!(error(b"a text", &["--window", "129"]).contains(window));
}
