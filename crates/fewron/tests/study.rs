//! sweep, report, attribute and demo on a tiny model.

#[allow(dead_code)]
mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Run, fewron};
use tempfile::TempDir;

/// A tiny Llama with random weights.
fn tiny() -> &'static str {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens/tiny/tiny-llama.gguf");
    path.to_str().unwrap().to_owned().leak()
}

fn run(home: &TempDir, arguments: &[&str]) -> Run {
    fewron(home.path(), arguments)
}

fn ok(run: &Run) {
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// Exit code 2 and one line that says `what`.
fn fails(run: &Run, what: &str) {
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains(what), "{}", run.stderr);
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("internal fault"));
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

const SMALL: [&str; 6] = ["--limit", "2", "--max-new-tokens", "5", "--ratios", ".5,.8"];

#[test]
fn a_sweep_writes_its_contract_and_a_report() {
    let home = TempDir::new().unwrap();
    let out = home.path().join("run");
    let out = out.to_str().unwrap();
    let json = home.path().join("sweep.json");
    let arguments = [
        &["sweep", tiny(), "--metrics", "cor-gxo,snip", "--scope", "both", "--out", out],
        &SMALL[..],
    ]
    .concat();
    ok(&run(&home, &[&arguments[..], &["--json", json.to_str().unwrap()]].concat()));
    let record = read_json(&json);
    assert_eq!(record["protocol"], "oracle");
    assert_eq!(record["points"].as_array().unwrap().len(), 4);
    let point = &record["points"][0];
    for key in ["mlp", "heads", "paper", "bytes"] {
        assert!(point["actual"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    for key in ["agreement", "kl", "bleu"] {
        assert!(
            point[key]["low"].as_f64().unwrap() <= point[key]["high"].as_f64().unwrap(),
            "{key}"
        );
    }
    // The same command again has nothing left to do and says the same.
    let again = run(&home, &arguments);
    ok(&again);
    assert!(
        again.stdout.contains("cor-gxo") && again.stdout.contains("oracle"),
        "{}",
        again.stdout
    );
    fails(&run(&home, &[&arguments[..], &["--seed", "3"]].concat()), "--restart");

    let html = home.path().join("report.html");
    ok(&run(&home, &["report", out, "-o", html.to_str().unwrap()]));
    assert!(fs::read_to_string(&html).unwrap().contains("<svg"));
    fails(&run(&home, &["report", out, "-o", "/nowhere/report.html"]), "/nowhere");
    fails(&run(&home, &["report", home.path().to_str().unwrap()]), "run.json");
    let other = home.path().join("other.json");
    for (json, what) in [
        ("{}", "no record of a run"),
        ("[1", "no JSON"),
        ("{\"points\": 1, \"protocol\": 2}", "damaged"),
    ] {
        fs::write(&other, json).unwrap();
        fails(&run(&home, &["report", other.to_str().unwrap()]), what);
    }
}

#[test]
fn the_runtime_protocol_runs_on_calibrated_policies() {
    let home = TempDir::new().unwrap();
    let run = run(
        &home,
        &[&["sweep", tiny(), "--protocol", "runtime", "--json", "-"], &SMALL[..]].concat(),
    );
    ok(&run);
    let record: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(record["points"][0]["policy"], "gate");
    let skipped = |i: usize| record["points"][i]["actual"]["bytes"].as_f64().unwrap();
    assert!(skipped(0) > 0.0 && skipped(1) > skipped(0));
    assert_eq!(skipped(2), 0.0, "magnitude computes everything");
}

#[test]
fn attribution_scores_are_written() {
    let home = TempDir::new().unwrap();
    let out = home.path().join("scores");
    let arguments =
        ["attribute", tiny(), "--limit", "2", "--max-new-tokens", "4", "--scope", "both"];
    ok(&run(&home, &[&arguments[..], &["--out", out.to_str().unwrap()]].concat()));
    for name in ["scores.parquet", "neurons.parquet", "neurons.csv"] {
        assert!(fs::metadata(out.join(name)).unwrap().len() > 100, "{name}");
    }
    let about = read_json(&out.join("attribution.json"));
    let tokens = about["data"]["tokens"].as_u64().unwrap();
    let model = run(&home, &["inspect", tiny(), "--json"]);
    ok(&model);
    // Two or three layers of 80 neurons and 6 heads each.
    let rows = about["rows"].as_u64().unwrap();
    assert!(rows > 0 && rows.is_multiple_of(tokens * 86), "{rows} rows of {tokens} tokens");
}

#[test]
fn the_demo_runs_on_any_model() {
    let home = TempDir::new().unwrap();
    let out = home.path().join("demo");
    let arguments = ["demo", "--model", tiny(), "--limit", "2", "--max-new-tokens", "4", "--out"];
    let demo = run(&home, &[&arguments[..], &[out.to_str().unwrap()]].concat());
    ok(&demo);
    assert!(demo.stdout.contains("cor-gxo") && out.join("report.html").exists(), "{}", demo.stdout);
}

#[test]
fn bad_studies_are_refused_in_a_line() {
    let home = TempDir::new().unwrap();
    let sweep = |extra: &[&str]| run(&home, &[&["sweep", tiny(), "--limit", "1"], extra].concat());
    fails(&sweep(&["--ratios", "1.5"]), "1.5");
    fails(&sweep(&["--metrics", "nonsense"]), "nonsense");
    fails(&sweep(&["--data", "/nowhere/questions.csv"]), "/nowhere/questions.csv");
    fails(
        &sweep(&["--protocol", "runtime", "--policies", "gate", "--scope", "heads"]),
        "--scope mlp",
    );
    fails(&sweep(&["--protocol", "runtime", "--select", "global"]), "global");
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    fails(&sweep(&["--out", file.join("run").to_str().unwrap()]), "file");
    let empty = home.path().join("empty.csv");
    fs::write(&empty, "").unwrap();
    fails(&sweep(&["--data", empty.to_str().unwrap()]), "empty.csv");
    let long = home.path().join("long.txt");
    fs::write(&long, "many words ".repeat(2000)).unwrap();
    fails(&sweep(&["--data", long.to_str().unwrap()]), "context");
}
