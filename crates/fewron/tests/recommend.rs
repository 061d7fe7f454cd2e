//! `fewron recommend` on what other commands made, and `fewron inspect` on plans.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Run, fewron, tiny};

fn plan(home: &Path, model: &str, sparsity: &str, out: &Path) {
    let made = ["--tokens", "1024", "--uniform", "--compensation", "0", "--sparsity", sparsity];
    let out = ["--out", out.to_str().unwrap(), "--weighting", "magnitude"];
    let run = fewron(home, &[&["calibrate", model], &made[..], &out].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// Plans at these sparsities, as one argument.
fn plans(home: &Path, model: &str, sparsities: &[&str]) -> String {
    let make = |sparsity: &&str| {
        let path = home.join(format!("at{sparsity}.plan"));
        plan(home, model, sparsity, &path);
        path.to_str().unwrap().to_owned()
    };
    sparsities.iter().map(make).collect::<Vec<_>>().join(",")
}

fn advice(run: &Run) -> Value {
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn of_plans() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let plans = plans(home.path(), &model, &["0.2", "0.5", "0.8"]);
    let recommend = |more: &[&str]| {
        fewron(home.path(), &[&["recommend", &model, "--plan", &plans], more].concat())
    };
    let slow = ["--bandwidth", "0.001", "--json"];
    let all = advice(&recommend(&[&slow[..], &["--max-loss", "1000"]].concat()));
    assert!(all["run"]["name"].as_str().unwrap().ends_with("at0.8.plan"), "{all}");
    assert_eq!((&all["metric"], &all["protocol"]), (&json!("perplexity"), &json!("runtime")));
    let (dense, front) = (all["speed"]["dense_tok_s"].as_f64().unwrap(), &all["front"]);
    // 269,568 bytes, all read for a token, at a million bytes a second.
    assert!((dense - 1e6 / 269_568.0).abs() < 1e-9, "{all}");
    assert!(all["memory_bytes"].as_u64().unwrap() > 269_568);
    let smallest = front.as_array().unwrap().last().unwrap();
    assert_eq!(smallest, &all["run"]);
    let speed = smallest["speedup"].as_f64().unwrap() * dense;
    assert!((smallest["tok_s"].as_f64().unwrap() / speed - 1.0).abs() < 1e-9);

    let words = recommend(&["--speedup", "1.2", "--metric", "kl", "--bandwidth", "1"]);
    assert_eq!((words.code, words.stderr.as_str()), (0, ""));
    for said in [".plan, the one that loses least at that speed", "loss of kl: ", "at most "] {
        assert!(words.stdout.contains(said), "{said} in {}", words.stdout);
    }
    let error = |more: &[&str]| {
        let run = recommend(more);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{more:?}");
        run.stderr
    };
    let fast = error(&["--speedup", "9", "--bandwidth", "1"]);
    assert!(fast.starts_with("error: nothing reaches 9.00x of the dense speed: "), "{fast}");
    assert!(fast.contains("at0.8.plan comes nearest with 1."), "{fast}");
    let metric = error(&["--metric", "bleu", "--bandwidth", "1"]);
    let has = "error: a plan has no metric bleu; it has perplexity, agreement, kl\n";
    assert_eq!(metric, has);
    let other = fewron(home.path(), &["recommend", &tiny("tiny-gemma3"), "--plan", &plans]);
    assert!(
        other.stderr.contains("was made for model tiny-llama.gguf, not for this"),
        "{}",
        other.stderr
    );
}

#[test]
fn of_a_sweep_and_an_evaluation() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let (folder, eval) = (home.path().join("run"), home.path().join("eval.json"));
    let (folder, eval) = (folder.to_str().unwrap(), eval.to_str().unwrap());
    let made = ["--metrics", "magnitude", "--ratios", ".3,.6,.9", "--limit", "3", "--out", folder];
    let short = ["--max-new-tokens", "6", "--json", "-"];
    let sweep = fewron(home.path(), &[&["sweep", &model], &made[..], &short].concat());
    assert_eq!(sweep.code, 0, "{}", sweep.stderr);
    let found = advice(&fewron(home.path(), &["recommend", folder, "--max-loss", "99%", "--json"]));
    assert_eq!((&found["protocol"], &found["speed"]), (&json!("oracle"), &Value::Null));
    assert_eq!(found["run"]["bytes_per_token"], Value::Null);
    let words = fewron(home.path(), &["recommend", folder, "--metric", "kl"]);
    assert!(words.stdout.contains("These masks know the answer"), "{}", words.stdout);
    let no_bytes = fewron(home.path(), &["recommend", folder, "--speedup", "1.1"]);
    assert!(no_bytes.stderr.ends_with("name the model with --model\n"), "{}", no_bytes.stderr);

    let text = home.path().join("text.txt");
    fs::write(&text, "The old bridge was closed for the winter. ".repeat(12)).unwrap();
    let task = format!("perplexity={}", text.to_str().unwrap());
    let masks = ["--policy", "gate", "--sparsity", ".5,.9", "--task", &task, "--json", eval];
    let run = fewron(home.path(), &[&["eval", &model], &masks[..]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let more = ["--metric", "kl", "--max-loss", "1000", "--bandwidth", "1", "--json"];
    let start = ["recommend", eval, "--model", &model];
    let found = advice(&fewron(home.path(), &[&start[..], &more].concat()));
    assert_eq!((&found["run"]["name"], &found["metric"]), (&json!("gate@0.9"), &json!("kl")));
    // 72 of 80 neurons are off in three layers, whose up and down projections have 48 × 80 weights.
    let bytes = found["run"]["bytes_per_token"].as_f64().unwrap();
    assert!((bytes - (269_568.0 - 72.0 * 3.0 * 2.0 * 48.0 * 4.0)).abs() < 1.0, "{bytes}");
}

#[test]
fn of_nothing() {
    let home = tempfile::tempdir().unwrap();
    let missing = fewron(home.path(), &["recommend", "no-run"]);
    assert!(
        missing.stderr.starts_with("error: give a run of `fewron sweep`")
            && missing.stderr.contains("cannot read no-run"),
        "{}",
        missing.stderr
    );
    let file = home.path().join("x.json");
    fs::write(&file, "{}").unwrap();
    let run = fewron(home.path(), &["recommend", file.to_str().unwrap()]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("is no record of `fewron sweep` or `fewron eval` ("),
        "{}",
        run.stderr
    );
}

#[test]
fn plans_are_inspected_by_themselves_and_beside_their_model() {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("model.gguf");
    fs::copy(tiny("tiny-llama"), &model).unwrap();
    let (model, beside) = (model.to_str().unwrap(), home.path().join("model.gguf.fewron"));
    let unnamed = home.path().join("anything");
    plan(home.path(), model, "0.5", &beside);
    fs::copy(&beside, &unnamed).unwrap();
    for path in [&beside, &unnamed] {
        let path = path.to_str().unwrap();
        let words = fewron(home.path(), &["inspect", path]);
        assert_eq!((words.code, words.stderr.as_str()), (0, ""));
        let policy =
            "policy         gate, 50% of the MLP neurons off, scores weighted by magnitude";
        assert!(words.stdout.contains(policy), "{}", words.stdout);
        let record = advice(&fewron(home.path(), &["inspect", path, "--json"]));
        assert_eq!((&record["policy"], &record["sparsity"]), (&json!("gate"), &json!(0.5)));
    }
    let words = fewron(home.path(), &["inspect", model]).stdout;
    assert!(words.contains("model.gguf.fewron: gate, 50% off; perplexity "), "{words}");
    let facts = advice(&fewron(home.path(), &["inspect", model, "--json"]));
    assert_eq!(facts["plan"], beside.to_str().unwrap());
    assert_eq!(
        (&facts["plan_record"]["policy"], &facts["plan_problem"]),
        (&json!("gate"), &Value::Null)
    );

    fs::copy(tiny("tiny-gemma3"), model).unwrap();
    let words = fewron(home.path(), &["inspect", model]).stdout;
    assert!(words.contains("it was made for another model; `fewron calibrate` makes"), "{words}");
    fs::write(&beside, "no plan").unwrap();
    let facts = advice(&fewron(home.path(), &["inspect", model, "--json"]));
    assert!(facts["plan_problem"].as_str().unwrap().contains("is no plan of fewron"), "{facts}");
    let run = fewron(home.path(), &["inspect", beside.to_str().unwrap()]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("is no plan of fewron, or a damaged one"), "{}", run.stderr);
}
