//! `fewron neurons` on tiny models.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Run, fewron, tiny, trained};
use tempfile::TempDir;

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

/// Twelve questions of two categories.
fn questions(folder: &Path) -> String {
    let category = |i: usize| ["law", "health, mostly"][i % 2];
    let line = |i: usize| {
        format!("{{\"question\": \"word {i} and {i}\", \"category\": \"{}\"}}\n", category(i))
    };
    let path = folder.join("questions.jsonl");
    fs::write(&path, (0..12).map(line).collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

const SMALL: [&str; 2] = ["--max-new-tokens", "5"];

#[test]
fn a_run_writes_tables_record_and_page() {
    let home = TempDir::new().unwrap();
    let (data, out) = (questions(home.path()), home.path().join("neurons"));
    let model = tiny("tiny-llama");
    let arguments = ["neurons", &model, "--data", &data, "--scope", "both", "--policy", "gate"];
    let done =
        run(&home, &[&arguments[..], &["--out", out.to_str().unwrap()], &SMALL[..]].concat());
    ok(&done);
    let tested = "gate policy (mlp): units stand out in ";
    assert!(done.stdout.contains(tested) && done.stdout.contains(" of 2 categories"));
    let record: Value =
        serde_json::from_slice(&fs::read(out.join("neurons.json")).unwrap()).unwrap();
    let names: Vec<&str> =
        record["masks"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cor-gxo", "magnitude", "gate policy"]);
    let protocols = ["oracle", "oracle", "runtime"];
    for (mask, protocol) in record["masks"].as_array().unwrap().iter().zip(protocols) {
        assert_eq!(mask["protocol"], protocol);
    }
    assert_eq!(record["categories"].as_array().unwrap().len(), 2);
    for name in ["neurons", "categories", "pairs"] {
        for ending in ["parquet", "csv"] {
            assert!(out.join(format!("{name}.{ending}")).exists(), "{name}.{ending}");
        }
    }
    let csv = fs::read_to_string(out.join("neurons.csv")).unwrap();
    let layers = record["layers"].as_u64().unwrap() as usize;
    // Two metrics with neurons and heads, a policy with neurons alone.
    let units = record["neurons"].as_u64().unwrap() * 3 + record["heads"].as_u64().unwrap() * 2;
    assert_eq!(csv.lines().count(), 1 + layers * units as usize);
    let categories = fs::read_to_string(out.join("categories.csv")).unwrap();
    assert!(categories.starts_with("mask,kind,layer,unit,law,\"health, mostly\"\n"));
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("<svg"));
    assert!(fs::read_to_string(out.join("contexts.jsonl")).unwrap().lines().count() > 0);
}

#[test]
fn a_layer_is_shown_neuron_by_neuron() {
    let home = TempDir::new().unwrap();
    let data = questions(home.path());
    for model in [tiny("tiny-llama"), trained("tiny-phi"), trained("tiny-opt")] {
        let arguments = ["neurons", &model, "--data", &data, "--layer", "1", "--top", "3"];
        let shown = run(&home, &[&arguments[..], &SMALL[..]].concat());
        ok(&shown);
        assert_eq!(shown.stdout.matches("layer 1, neuron ").count(), 3, "{}", shown.stdout);
        assert_eq!(shown.stdout.matches("  promotes   \"").count(), 3, "{}", shown.stdout);
    }
    let model = tiny("tiny-llama");
    let arguments = ["neurons", &model, "--data", &data, "--layer", "0", "--neuron", "7"];
    let json = run(&home, &[&arguments[..], &["--json", "-"], &SMALL[..]].concat());
    ok(&json);
    let record: Value = serde_json::from_str(&json.stdout).unwrap();
    let cards = record["cards"].as_array().unwrap();
    assert_eq!((cards.len(), &cards[0]["neuron"]), (1, &7.into()));
    assert!(cards[0]["contexts"][0]["output"].as_f64().unwrap() != 0.0);
    assert_eq!(cards[0]["promoted"].as_array().unwrap().len(), 10);
}

#[test]
fn the_page_may_go_anywhere_and_data_may_lack_categories() {
    let home = TempDir::new().unwrap();
    let text = home.path().join("plain.txt");
    fs::write(&text, "one two\n\nthree four\n").unwrap();
    let page = home.path().join("page.html");
    let model = tiny("tiny-gemma3");
    let arguments = ["neurons", &model, "--data", text.to_str().unwrap(), "--metrics", "snip"];
    let done = run(&home, &[&arguments[..], &["-o", page.to_str().unwrap()], &SMALL[..]].concat());
    ok(&done);
    assert!(done.stdout.contains("the data names no categories"), "{}", done.stdout);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("Do neighbouring tokens keep the same neurons?"));
    assert!(!page.contains("Which layers tell the categories apart?"));
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    let home = TempDir::new().unwrap();
    let model = tiny("tiny-llama");
    let neurons =
        |extra: &[&str]| run(&home, &[&["neurons", &model, "--limit", "1"], extra].concat());
    fails(&neurons(&["--layer", "99"]), "there is no layer 99: the model has ");
    fails(&neurons(&["--layer", "0", "--neuron", "9999"]), "there is no neuron 9999");
    fails(&neurons(&["--neuron", "3"]), "--layer <L>");
    fails(&neurons(&["--layer", "0", "--scope", "heads"]), "--scope mlp");
    fails(&neurons(&["--policy", "dense"]), "leave out --policy");
    fails(&neurons(&["--policy", "input"]), "not neurons");
    fails(&neurons(&["--policy", "static"]), "fewron calibrate");
    fails(&neurons(&["--metrics", "snip,snip"]), "snip twice");
    fails(&neurons(&["--ratio", "1.5"]), "outside 0 to 1");
    fails(&neurons(&["--max-new-tokens", "1"]), "no answer was longer than one token");
    fails(&neurons(&["--plan", "/nowhere/a.plan"]), "/nowhere/a.plan");
    fails(&neurons(&["-o", "/nowhere/page.html"]), "/nowhere");
    let phi = trained("tiny-phi");
    let gate = run(&home, &["neurons", &phi, "--limit", "1", "--policy", "gate"]);
    fails(&gate, "needs an MLP with a gate");
}
