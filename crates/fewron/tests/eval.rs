//! `fewron eval` on a tiny model.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{fewron, fewron_env, tiny};

const QUESTIONS: &str = r#"{"id": "a", "query": "Question: What is wet?", "choices": ["a fish", "water"], "gold": 1}
{"query": "Question: What is hot?", "choices": ["ice", "fire", "a stone"], "gold": 1}
{"query": "Question: Who sings?", "choices": ["a bird", "a tree"], "gold": 0}
"#;

fn arc(folder: &Path) -> String {
    let file = folder.join("arc.jsonl");
    fs::write(&file, QUESTIONS).unwrap();
    format!("arc_easy={}", file.display())
}

#[test]
fn json_has_every_variant_and_sample() {
    let home = tempfile::tempdir().unwrap();
    let (model, task) = (tiny("tiny-llama"), arc(home.path()));
    let masks = ["--policy", "gate,magnitude", "--sparsity", "0,.5", "--json", "-", "-t", "2"];
    let arguments = [&["eval", &model, "--task", &task, "--limit", "2"][..], &masks].concat();
    let run = fewron(home.path(), &arguments);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let eval: Value = serde_json::from_str(&run.stdout).unwrap();
    let names = json!(["dense", "gate@0", "gate@0.5", "magnitude@0", "magnitude@0.5"]);
    assert_eq!((&eval["variants"], &eval["threads"]), (&names, &json!(2)));
    let task = &eval["tasks"][0];
    assert_eq!((&task["task"], &task["kind"]), (&json!("arc_easy"), &json!("multiple_choice")));
    assert_eq!((&task["data"]["name"], &task["data"]["samples"]), (&json!("arc.jsonl"), &json!(2)));
    let active: Vec<&Value> = (0..5).map(|lane| &task["results"][lane]["active"]).collect();
    assert_eq!(active, [&Value::Null, &json!(1.0), &json!(0.5), &json!(1.0), &json!(0.5)]);
    for (sample, id) in task["samples"].as_array().unwrap().iter().zip(["a", "2"]) {
        assert_eq!(sample["id"], id);
        let lanes = sample["variants"].as_array().unwrap();
        assert_eq!(lanes.iter().map(|lane| &lane["variant"]).collect::<Vec<_>>().len(), 5);
        for lane in [1, 3] {
            assert_eq!(lanes[lane]["logprobs"], lanes[0]["logprobs"]);
        }
        assert_ne!(lanes[2]["logprobs"], lanes[0]["logprobs"]);
    }
    let metric = &task["results"][2]["metrics"][0];
    assert_eq!(metric["metric"], "acc");
    assert!(metric["value"].is_number() && metric["standard_error"].is_number(), "{metric}");
}

#[test]
fn words_for_people() {
    let home = tempfile::tempdir().unwrap();
    let text = home.path().join("text.txt");
    fs::write(&text, "The lamp on the hill had not been lit for a year. ".repeat(8)).unwrap();
    let (model, arc) = (tiny("tiny-llama"), arc(home.path()));
    let text = format!("perplexity={}", text.display());
    let masks = ["--policy", "gate", "--sparsity", ".5"];
    let arguments = [&["eval", &model, "--task", &text, "--task", &arc][..], &masks].concat();
    // The last digits depend on the instruction set.
    let run = fewron_env(home.path(), &[("FEWRON_ISA", "scalar")], &arguments);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = run.stdout.lines().map(str::trim_end).collect();
    insta::assert_snapshot!("eval", lines.join("\n"));
}

#[test]
fn what_cannot_be_evaluated() {
    let home = tempfile::tempdir().unwrap();
    let (model, arc) = (tiny("tiny-llama"), arc(home.path()));
    let error = |arguments: &[&str]| {
        let run = fewron(home.path(), &[&["eval", &model], arguments].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        run.stderr
    };
    let line = |arguments: &[&str]| {
        let error = error(arguments);
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    assert!(
        line(&["--task", "arc=x.jsonl"]).contains("there is no task arc; there are perplexity")
    );
    assert!(line(&["--task", "piqa=gone.jsonl"]).contains("cannot read data file gone.jsonl"));
    let plan = line(&["--task", &arc, "--plan", "p"]);
    assert!(plan.contains("cannot read the plan p"), "{plan}");
    assert!(line(&["--task", &arc, "--policy", "dense"]).contains("always evaluated"));
    assert!(line(&["--task", &arc, "--sparsity", ".5"]).contains("needs a policy"));
    assert!(line(&["--task", &arc, "--json", "no/x.json"]).contains("no folder no for --json"));
    assert!(error(&["--task", "piqa"]).contains("`piqa` is not NAME=FILE"));
    assert!(error(&[]).contains("--task <NAME=FILE>"));
    let own = home.path().join("own.toml");
    fs::write(&own, "kind = \"perplexity\"\nwindows = 64\n").unwrap();
    let own = line(&["--task", &format!("{}=x.txt", own.display())]);
    assert!(own.contains("own.toml, line 2: unknown field `windows`"), "{own}");
    let short = home.path().join("short.txt");
    fs::write(&short, "too short").unwrap();
    let short = line(&["--task", &format!("perplexity={}", short.display())]);
    assert!(short.contains("34 tokens are needed, the text makes"), "{short}");
}
