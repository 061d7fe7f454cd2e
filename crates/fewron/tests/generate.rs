//! `fewron generate` on tiny models.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;

use support::{Run, fewron, fewron_stdin, tiny};

fn generate(home: &Path, model: &str, more: &[&str]) -> Run {
    let model = tiny(model);
    let start = ["generate", model.as_str(), "-p", "Who are you?", "-n", "24"];
    fewron(home, &[&start, more].concat())
}

/// The text of a run that must go well and say nothing else.
fn text(home: &Path, model: &str, more: &[&str]) -> String {
    let run = generate(home, model, more);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{model} {more:?}");
    assert!(run.stdout.ends_with('\n') && run.stdout.len() > 8, "{:?}", run.stdout);
    run.stdout
}

const MODELS: [&str; 3] = ["tiny-llama", "tiny-llama-odd", "tiny-gemma3"];

#[test]
fn greedy_is_the_same_on_any_number_of_threads() {
    let home = tempfile::tempdir().unwrap();
    for model in MODELS {
        let one = text(home.path(), model, &["-t", "1"]);
        assert_eq!(one, text(home.path(), model, &["-t", "3"]), "{model}");
    }
    assert!(!home.path().join("calibration").exists(), "dense needs no calibration");
}

#[test]
fn seeds_decide_the_draws() {
    let home = tempfile::tempdir().unwrap();
    let draw = |seed: &str| {
        text(home.path(), "tiny-llama", &["--temperature", "1", "--top-k", "40", "--seed", seed])
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn a_policy_that_keeps_everything_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    for model in MODELS {
        let dense = text(home.path(), model, &[]);
        for policy in ["gate", "magnitude"] {
            let mask = ["--policy", policy, "--sparsity", "0"];
            assert_eq!(text(home.path(), model, &mask), dense, "{model} {policy}");
            let half = text(home.path(), model, &["--policy", policy, "--sparsity", "0.9"]);
            assert_ne!(half, dense, "{model} {policy}");
            let first = |text: &str| text.chars().next();
            assert_eq!(first(&half), first(&dense), "the first token is dense");
        }
    }
}

#[test]
fn stats_tell_what_was_active_and_read() {
    let home = tempfile::tempdir().unwrap();
    let run = generate(home.path(), "tiny-llama", &["--policy", "gate", "--stats"]);
    let stats: Vec<&str> = run.stderr.lines().collect();
    assert!(stats[0].starts_with("prompt   ") && stats[0].ends_with(" tokens/s"), "{stats:?}");
    assert!(stats[1].starts_with("answer   24 tokens, "), "{stats:?}");
    assert!(stats[1].ends_with(" tokens/s dense"), "{stats:?}");
    assert_eq!(stats[2], "active   50.0% of the MLP neurons");
    // 138 kB of 270 kB are MLP; half of two thirds of that is 46 kB.
    assert_eq!(stats[3], "weights  269.6 kB per token dense, 223.5 kB sparse (17.1% less)");
    let magnitude = generate(home.path(), "tiny-llama", &["--policy", "magnitude", "--stats"]);
    assert!(magnitude.stderr.contains("(0.0% less)"), "{}", magnitude.stderr);
    let dense = generate(home.path(), "tiny-llama", &["--stats"]);
    assert!(!dense.stderr.contains("active"), "{}", dense.stderr);
}

#[test]
fn calibration_is_kept_and_a_damaged_one_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let gate = || text(home.path(), "tiny-llama", &["--policy", "gate", "--sparsity", "0.7"]);
    let first = gate();
    let folder = home.path().join("calibration");
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].to_str().unwrap().ends_with("-1.safetensors"), "{files:?}");
    let kept = fs::read(&files[0]).unwrap();
    fs::write(&files[0], &kept[..kept.len() / 2]).unwrap();
    assert_eq!(gate(), first);
    assert!(fs::read(&files[0]).unwrap() == kept);
}

#[test]
fn prompts_come_from_files_stdin_and_without_a_template() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let file = home.path().join("prompt.txt");
    fs::write(&file, "Who are you?").unwrap();
    let expected = text(home.path(), "tiny-llama", &[]);
    let from = |file: &str, stdin: &str| {
        let arguments = ["generate", &model, "-n", "24", "--prompt-file", file];
        fewron_stdin(home.path(), &arguments, stdin).stdout
    };
    assert_eq!(from(file.to_str().unwrap(), ""), expected);
    assert_eq!(from("-", "Who are you?"), expected);
    assert_ne!(text(home.path(), "tiny-llama", &["--raw"]), expected);
    assert_ne!(text(home.path(), "tiny-llama", &["--system", "Be brief."]), expected);
}

#[test]
fn ends_where_the_context_ends() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let run = fewron(home.path(), &["generate", &model, "--raw", "-p", "a b", "-n", "1000"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, "the context of 128 tokens is full\n"));
    let long = "word ".repeat(100);
    let run = fewron(home.path(), &["generate", &model, "-p", &long]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    let error = run.stderr.trim_end();
    assert!(error.starts_with("error: the prompt has "), "{error}");
    assert!(error.ends_with("holds 128; shorten the prompt"), "{error}");
}

#[test]
fn refuses_what_cannot_be() {
    let home = tempfile::tempdir().unwrap();
    let error = |more: &[&str]| {
        let run = generate(home.path(), "tiny-llama", more);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{more:?}");
        run.stderr
    };
    let top_p = "error: --top-p must be above 0 and at most 1, got 0\n";
    assert_eq!(error(&["--top-p", "0"]), top_p);
    assert!(error(&["--temperature", "-1"]).contains("`-1` is not a number of 0 or more"));
    let run = fewron(home.path(), &["generate", &tiny("tiny-llama"), "--raw", "-p", ""]);
    assert_eq!(run.stderr, "error: the prompt is empty; give the model some text\n");
    let run = fewron(home.path(), &["generate", &tiny("tiny-llama"), "--prompt-file", "no.txt"]);
    assert!(run.stderr.starts_with("error: cannot read no.txt: "), "{}", run.stderr);
}
