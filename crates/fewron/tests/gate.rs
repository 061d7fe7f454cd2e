//! `fewron compare` and `fewron check` on evaluations of a tiny model.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{fewron, tiny};

const SAMPLES: usize = 24;

/// An evaluation of 24 questions, dense and with half of the neurons off.
fn eval(home: &Path) -> (PathBuf, Value) {
    let question = |i: usize| {
        format!(
            "{{\"id\": \"q{i}\", \"query\": \"Question: Who has {i} cats?\", \"choices\": [\"the {i} \
             boys\", \"a girl\", \"no one\"], \"gold\": {}}}\n",
            i % 3
        )
    };
    let data = home.join("arc.jsonl");
    fs::write(&data, (0..SAMPLES).map(question).collect::<String>()).unwrap();
    let (task, out) = (format!("arc_easy={}", data.display()), home.join("eval.json"));
    let text = format!("perplexity={}", home.join("text.txt").display());
    fs::write(home.join("text.txt"), "The cat sat on the mat. ".repeat(200)).unwrap();
    let file = out.to_str().unwrap();
    let tasks = ["--task", &task, "--task", &text, "--policy", "gate", "--json", file];
    let run = fewron(home, &[&["eval", &tiny("tiny-llama")][..], &tasks].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let record = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    (out, record)
}

/// The record with the answers of a variant to the first task right or wrong as `right` says.
fn planted(home: &Path, record: &Value, name: &str, right: impl Fn(usize) -> bool) -> PathBuf {
    let mut record = record.clone();
    let samples = record["tasks"][0]["samples"].as_array_mut().unwrap();
    for (index, sample) in samples.iter_mut().enumerate() {
        let answer = &mut sample["variants"][1];
        assert_eq!(answer["variant"], "gate@0.5");
        (answer["correct"], answer["correct_norm"]) = (json!(right(index)), json!(right(index)));
    }
    let path = home.join(name);
    fs::write(&path, record.to_string()).unwrap();
    path
}

#[test]
fn variants_are_compared_sample_by_sample() {
    let home = tempfile::tempdir().unwrap();
    let (path, record) = eval(home.path());
    let before = planted(home.path(), &record, "before.json", |_| true);
    let after = planted(home.path(), &record, "after.json", |i| i % 4 != 0);
    let (path, before, after) =
        (path.to_str().unwrap(), before.to_str().unwrap(), after.to_str().unwrap());
    let compare = |arguments: &[&str]| {
        let run = fewron(home.path(), &[&["compare"], arguments].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    let gate = ["--a", "gate@0.5", "--json"];
    let found: Value =
        serde_json::from_str(&compare(&[&[before, after], &gate[..]].concat())).unwrap();
    let task = &found["tasks"][0];
    assert_eq!((&found["b"], &task["samples"]), (&json!("gate@0.5"), &json!(SAMPLES)));
    let acc = &task["metrics"][0];
    assert_eq!((&acc["metric"], &acc["a"], &acc["b"]), (&json!("acc"), &json!(1.0), &json!(0.75)));
    assert_eq!((&acc["better"], &acc["worse"]), (&json!(0), &json!(6)));
    assert!((acc["p"].as_f64().unwrap() - 0.03125).abs() < 1e-9);
    assert_eq!(acc["change"]["mean"], json!(-0.25));
    // The same answers: nothing is changed, whatever the tokens.
    assert_eq!(task["changed"], json!([]));

    // Against the dense model, the change is that of the evaluation itself.
    let found: Value = serde_json::from_str(&compare(&[path, "--json"])).unwrap();
    let results = &record["tasks"][1]["results"][1]["metrics"][0];
    let perplexity = &found["tasks"][1]["metrics"][0];
    for key in ["mean", "low", "high"] {
        let (got, want) = (&perplexity["change"][key], &results["change"][key]);
        assert!((got.as_f64().unwrap() - want.as_f64().unwrap()).abs() < 1e-12, "{got} {want}");
    }
    assert!(compare(&[path]).contains("perplexity"));
    let page = home.path().join("compare.html");
    compare(&[path, "--report", page.to_str().unwrap()]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("data-page=\"comparison\"") && page.contains("gate@0.5"));
    let unknown = fewron(home.path(), &["compare", path, "--b", "gate@0.7"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("there are dense, gate@0.5"), "{}", unknown.stderr);
}

/// Half of one category's answers got worse, one of another's; some samples have no category.
#[test]
fn effects_are_told_by_category() {
    let home = tempfile::tempdir().unwrap();
    let (_, mut record) = eval(home.path());
    for (i, sample) in record["tasks"][0]["samples"].as_array_mut().unwrap().iter_mut().enumerate()
    {
        match i {
            0..12 => sample["category"] = json!("big"),
            12..20 => sample["category"] = json!("small"),
            _ => {}
        }
    }
    let before = planted(home.path(), &record, "before.json", |_| true);
    let after = planted(home.path(), &record, "after.json", |i| i >= 6 && i != 12);
    let compare = |more: &[&str]| {
        let (before, after) = (before.to_str().unwrap(), after.to_str().unwrap());
        let run =
            fewron(home.path(), &[&["compare", before, after, "--a", "gate@0.5"], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    let found: Value = serde_json::from_str(&compare(&["--json"])).unwrap();
    let categories = found["tasks"][0]["categories"].as_array().unwrap();
    let of = |name: &str| -> Vec<Value> { categories.iter().map(|c| c[name].clone()).collect() };
    assert_eq!(of("category"), ["big", "small"]);
    assert_eq!((of("samples"), of("metric")), (vec![12.into(), 8.into()], vec!["acc".into(); 2]));
    assert_eq!((of("a"), of("b")), (vec![1.0.into(); 2], vec![0.5.into(), 0.875.into()]));
    assert_eq!(of("worse"), [6, 1]);
    // 2 · 2⁻⁶, and for two tests twice as much.
    for (name, expected) in [("p", [0.03125, 1.0]), ("p_holm", [0.0625, 1.0])] {
        for (p, expected) in of(name).iter().zip(expected) {
            assert!((p.as_f64().unwrap() - expected).abs() < 1e-9, "{name} {p}");
        }
    }
    assert_eq!(categories[0]["change"]["mean"], json!(-0.5));
    assert_eq!(found["tasks"][1]["categories"], json!([]));

    let text = compare(&["--categories", "1"]);
    assert!(text.contains("arc_easy: acc by category, largest effect first"), "{text}");
    assert!(text.contains("big") && !text.contains("small"), "{text}");
    assert!(text.contains("… 1 more: --categories N shows more"), "{text}");
    assert!(!compare(&["--categories", "0"]).contains("by category"));
}

#[test]
fn evaluations_and_benches_are_drawn() {
    let home = tempfile::tempdir().unwrap();
    let (path, _) = eval(home.path());
    let (page, bench) = (home.path().join("page.html"), home.path().join("bench.json"));
    let report = |run: &Path, more: &[&str]| {
        let arguments = ["report", run.to_str().unwrap(), "-o", page.to_str().unwrap()];
        fewron(home.path(), &[&arguments, more].concat())
    };
    let drawn = |run: &Path, kind: &str| {
        let run = report(run, &[]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let page = fs::read_to_string(&page).unwrap();
        assert!(page.contains(&format!("data-page=\"{kind}\"")) && page.contains("<svg"));
    };
    drawn(&path, "evaluation");
    let run = report(&path, &["--beside", path.to_str().unwrap()]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("fewron compare"), "{}", run.stderr);
    let model = tiny("tiny-llama");
    let arguments = ["bench", &model, "--prefill", "8", "--decode", "4", "--kv", "8", "--json"];
    let more = [bench.to_str().unwrap(), "--repetitions", "2"];
    let run = fewron(home.path(), &[&arguments[..], &more[..]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    drawn(&bench, "bench");
}

#[test]
fn a_planted_drop_fails_and_the_same_run_passes() {
    let home = tempfile::tempdir().unwrap();
    let (path, record) = eval(home.path());
    let before = planted(home.path(), &record, "before.json", |_| true);
    let worse = planted(home.path(), &record, "worse.json", |i| i % 4 != 0);
    let once = planted(home.path(), &record, "once.json", |i| i != 3);
    let check = |run: &Path, baseline: &Path, more: &[&str]| {
        let files = ["check", run.to_str().unwrap(), "--baseline", baseline.to_str().unwrap()];
        fewron(home.path(), &[&files, more].concat())
    };
    for _ in 0..10 {
        let run = check(&path, &path, &[]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    }
    let (junit, summary) = (home.path().join("junit.xml"), home.path().join("summary.md"));
    let outputs = ["--junit", junit.to_str().unwrap(), "--markdown", summary.to_str().unwrap()];
    let run = check(&worse, &before, &outputs);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("FAILED"), "{}", run.stdout);
    assert!(fs::read_to_string(junit).unwrap().contains("failures=\"2\""));
    assert!(fs::read_to_string(summary).unwrap().starts_with("### fewron check: 2 of "));
    // One of 24 answers is 4%, which may be chance.
    let run = check(&once, &before, &[]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(run.stdout.contains("within noise"), "{}", run.stdout);
    assert_eq!(check(&worse, &before, &["--max-drop", "40%"]).code, 0);
}

#[test]
fn a_planted_slow_down_fails() {
    let home = tempfile::tempdir().unwrap();
    let bench = |name: &str, factor: f64| {
        let tok_s: Vec<f64> =
            [100.0, 104.0, 97.0, 101.0, 99.0].iter().map(|speed| speed * factor).collect();
        let decode = json!([{"kv_length": 64, "tokens": 48, "tok_s": tok_s}]);
        let record = json!({"results": [{"name": "dense", "decode": decode}]});
        let path = home.path().join(name);
        fs::write(&path, record.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [base, same, slow] = [("a", 1.0), ("b", 0.98), ("c", 0.7)].map(|(n, f)| bench(n, f));
    let check = |run: &str| fewron(home.path(), &["check", run, "--baseline", &base]);
    assert_eq!(check(&same).code, 0);
    let run = check(&slow);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("decode 48 after 64, tokens/s"), "{}", run.stdout);
    let (eval, _) = eval(home.path());
    let mixed = check(eval.to_str().unwrap());
    assert_eq!(mixed.code, 2);
    assert!(mixed.stderr.contains("two of a kind"), "{}", mixed.stderr);
}
