//! `fewron runs`: what commands leave in the store, and evaluations that are killed and go on.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Run, fewron, fewron_env, tiny};

/// An evaluation on questions and a text; `size` words of text.
fn eval(home: &Path, size: usize) -> Vec<String> {
    let question = |i: usize| {
        let query = format!("Question: Who has {i} cats?");
        json!({"id": format!("q{i}"), "query": query, "choices": ["boys", "a girl"], "gold": i % 2})
            .to_string()
    };
    let questions: Vec<String> = (0..12).map(question).collect();
    fs::write(home.join("arc.jsonl"), questions.join("\n")).unwrap();
    let word = |i: usize| ["cat ", "sat ", "lamp ", "hill ", "the ", "red "][i * i % 6];
    fs::write(home.join("text.txt"), (0..size).map(word).collect::<String>()).unwrap();
    let task = |name: &str, file: &str| format!("{name}={}", home.join(file).display());
    let tasks = [task("arc_easy", "arc.jsonl"), task("perplexity", "text.txt")];
    ["eval", &tiny("tiny-llama"), "--task", &tasks[0], "--task", &tasks[1], "--policy", "gate"]
        .map(str::to_owned)
        .to_vec()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn json_of(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

fn runs(home: &Path, more: &[&str]) -> Value {
    json_of(&fewron(home, &[&["runs", "--json"], more].concat()))
}

#[test]
fn commands_are_recorded_with_their_numbers() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let arguments = eval(home, 400);
    let study = home.join("study.html");
    let to = ["--json", "-", "--report", study.to_str().unwrap()];
    let evaluated = json_of(&fewron(home, &[&words(&arguments)[..], &to].concat()));
    assert!(fs::read_to_string(&study).unwrap().contains("arc_easy"));
    let bench = ["bench", &tiny("tiny-llama"), "--prefill", "8", "--kv", "0", "--decode", "4"];
    let benched = json_of(&fewron(home, &[&bench[..], &["--json", "-"]].concat()));
    let out = home.join("sweep");
    let sweep = ["sweep", &tiny("tiny-llama"), "--limit", "1", "--max-new-tokens", "4", "--out"];
    let swept = fewron(home, &[&sweep[..], &[out.to_str().unwrap()]].concat());
    assert_eq!(swept.code, 0, "{}", swept.stderr);

    let listed = runs(home, &[]);
    let column = |name: &str| -> Vec<Value> {
        listed.as_array().unwrap().iter().map(|run| run[name].clone()).collect()
    };
    assert_eq!(column("kind"), ["sweep", "bench", "eval"]);
    assert_eq!(column("state"), ["done", "done", "done"]);
    assert_eq!(listed[0]["folder"], json!(out));
    assert_eq!(listed[2]["model"]["sha256"], evaluated["model"]["sha256"]);
    assert!(listed[2]["command"].as_str().unwrap().starts_with("fewron eval "));
    assert_eq!(runs(home, &["--kind", "bench"]).as_array().unwrap().len(), 1);
    assert_eq!(runs(home, &["--metric", "acc_norm"])[0]["kind"], "eval");
    assert_eq!(runs(home, &["--state", "failed"]), json!([]));
    let table = fewron(home, &["runs"]);
    assert!(table.stdout.contains("eval") && table.stdout.contains("done"), "{}", table.stdout);

    // The record is the one of --json, and other commands take it by its number.
    let shown = json_of(&fewron(home, &["runs", "show", "1", "--json"]));
    assert_eq!(shown["record"], evaluated);
    let of_arc = |point: &&Value| point["task"] == "arc_easy" && point["variant"] == "gate@0.5";
    let points = shown["points"].as_array().unwrap();
    let values: Vec<&Value> = points.iter().filter(of_arc).map(|point| &point["value"]).collect();
    let metrics = evaluated["tasks"][0]["results"][1]["metrics"].as_array().unwrap();
    assert_eq!(values, metrics.iter().map(|metric| &metric["value"]).collect::<Vec<_>>());
    let shown = fewron(home, &["runs", "show", "2"]).stdout;
    assert!(
        shown.contains("time_to_first_token_s") && shown.contains("flops_per_token"),
        "{shown}"
    );
    assert!(benched["results"][0]["prefill"]["time_to_first_token_s"].as_f64().unwrap() > 0.0);
    let compared = json_of(&fewron(home, &["compare", "1", "--json"]));
    assert_eq!(compared["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(fewron(home, &["check", "1", "--baseline", "1"]).code, 0);
    assert_eq!(fewron(home, &["check", "2", "--baseline", "2"]).code, 0);
    let page = home.join("page.html");
    let report = fewron(home, &["report", "latest", "-o", page.to_str().unwrap()]);
    assert!(report.code == 0 && page.exists(), "{}", report.stderr);

    let history = home.join("history.html");
    let drawn = fewron(home, &["runs", "history", "-o", history.to_str().unwrap()]);
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    let history = fs::read_to_string(&history).unwrap();
    assert!(history.contains("arc_easy") && history.contains("decode 4 after 0"));

    let csv = fewron(home, &["runs", "export", "--kind", "eval", "--csv", "-"]).stdout;
    assert!(csv.starts_with("run,kind,finished_at,model,"), "{csv}");
    assert_eq!(csv.lines().count(), 1 + points.len());
    let exported = json_of(&fewron(home, &["runs", "export", "1", "--json", "-"]));
    assert_eq!(exported.as_array().unwrap().len(), points.len());

    let asked = fewron(home, &["runs", "delete", "1", "2"]);
    assert!(asked.stderr.contains("--yes") && runs(home, &[]).as_array().unwrap().len() == 3);
    assert_eq!(fewron(home, &["runs", "delete", "1", "2", "--yes"]).code, 0);
    assert_eq!(runs(home, &[]).as_array().unwrap().len(), 1);
    let gone = fewron(home, &["compare", "1"]);
    assert!(gone.code == 2 && gone.stderr.contains("no run 1"), "{}", gone.stderr);
}

#[test]
fn without_a_store_the_work_is_done_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let arguments = eval(home.path(), 400);
    let off = fewron_env(home.path(), &[("FEWRON_RUNS", "off")], &words(&arguments));
    assert_eq!((off.code, off.stderr.as_str()), (0, ""));
    assert_eq!(runs(home.path(), &[]), json!([]));
    let listed = fewron_env(home.path(), &[("FEWRON_RUNS", "off")], &["runs"]);
    assert!(listed.code == 2 && listed.stderr.contains("FEWRON_RUNS is off"), "{}", listed.stderr);
    let file = home.path().join("arc.jsonl");
    let unusable = [("FEWRON_RUNS", file.to_str().unwrap())];
    let run = fewron_env(home.path(), &unusable, &words(&arguments));
    assert_eq!(run.code, 0);
    assert!(
        run.stderr.contains("this run is not recorded") && !run.stdout.is_empty(),
        "{}",
        run.stderr
    );
}

/// Everything of an evaluation that another run of it must have too.
fn results(mut record: Value) -> Value {
    let fields = record.as_object_mut().unwrap();
    ["command", "finished_at"].iter().for_each(|name| drop(fields.remove(*name)));
    for task in record["tasks"].as_array_mut().unwrap() {
        task.as_object_mut().unwrap().remove("wall_s");
    }
    record
}

fn start(home: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fewron"));
    command.args(arguments).env("FEWRON_HOME", home).env_remove("FEWRON_RUNS");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The run that has not come to its end.
fn unfinished(home: &Path) -> Option<Value> {
    let all = runs(home, &["--kind", "eval"]);
    all.as_array().unwrap().iter().find(|run| run["state"] != "done").cloned()
}

#[test]
fn an_evaluation_that_is_killed_five_times_ends_as_if_it_never_was() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let arguments = eval(home, 20_000);
    let path = home.join("eval.json");
    let with_json =
        [arguments.clone(), ["--json", path.to_str().unwrap()].map(str::to_owned).to_vec()];
    let arguments = with_json.concat();
    let (mut kills, mut known) = (0, 0);
    while kills < 5 {
        let mut child = start(home, &arguments);
        // It is killed as soon as it has measured something more, at no particular place.
        let patience = Instant::now();
        loop {
            assert!(patience.elapsed() < Duration::from_secs(120), "no progress after {known}");
            assert!(
                child.try_wait().unwrap().is_none(),
                "too fast to be killed; give it more text"
            );
            let samples = unfinished(home).map_or(0, |run| run["samples"].as_u64().unwrap());
            if samples > known {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(7 * kills));
        child.kill().unwrap();
        child.wait().unwrap();
        let run = unfinished(home).unwrap();
        assert_eq!((&run["state"], &run["id"]), (&json!("interrupted"), &json!(1)));
        known = run["samples"].as_u64().unwrap();
        kills += 1;
    }
    let resumed = fewron(home, &["runs", "resume", "1"]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(resumed.stderr.contains("going on with run 1"), "{}", resumed.stderr);
    let resumed: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let whole =
        json_of(&fewron(home, &[&words(&arguments)[..arguments.len() - 1], &["-"]].concat()));
    let samples = whole["tasks"][1]["samples"].as_array().unwrap().len() as u64;
    assert!(known < samples + 12, "all {samples} samples were there before the last part");
    assert!(results(resumed) == results(whole), "the records differ");
    assert_eq!(runs(home, &[]).as_array().unwrap().len(), 2);
    let again = fewron(home, &["runs", "resume", "1"]);
    assert!(again.code == 2 && again.stderr.contains("has come to its end"), "{}", again.stderr);
}

#[test]
fn ten_evaluations_at_once_are_all_recorded() {
    let home = tempfile::tempdir().unwrap();
    let arguments = eval(home.path(), 400);
    let mut children: Vec<Child> = (0..10).map(|_| start(home.path(), &arguments)).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    let listed = runs(home.path(), &[]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 10);
    assert!(
        listed.iter().all(|run| run["state"] == "done" && run["points"] == listed[0]["points"])
    );
}
