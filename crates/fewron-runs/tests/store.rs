//! Runs in a store: what is kept, who may write, and what a killed process leaves.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use fewron_runs::{Filter, ModelId, NewRun, Point, RunsError, State, Store};
use serde_json::json;

/// Folder of the store of a process that this file's tests start.
const STORE: &str = "FEWRON_TEST_STORE";
/// What that process does.
const ROLE: &str = "FEWRON_TEST_ROLE";

fn new(kind: &str, key: &str) -> NewRun {
    let model = ModelId { name: "smollm2".to_owned(), sha256: "b179".to_owned() };
    NewRun { kind: kind.to_owned(), key: key.to_owned(), model, ..NewRun::default() }
}

fn point(task: &str, value: f64) -> Point {
    Point {
        task: task.to_owned(),
        variant: "dense".to_owned(),
        metric: "acc".to_owned(),
        value,
        low: Some(value - 0.1),
        high: None,
    }
}

fn open(folder: &Path) -> Store {
    Store::open(folder).unwrap()
}

/// Starts this test program as another process that plays a role.
fn process(folder: &Path, role: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "another_process", "--nocapture"]).stdout(Stdio::null());
    command.env(STORE, folder).env(ROLE, role).spawn().unwrap()
}

/// No test of its own: what the processes do that other tests start.
#[test]
fn another_process() {
    let (Some(folder), Ok(role)) = (env::var_os(STORE), env::var(ROLE)) else { return };
    let folder = Path::new(&folder);
    match role.split_once(' ') {
        Some(("write", writer)) => {
            for number in 0..100 {
                let recording = open(folder).start(&new("eval", writer), true).unwrap();
                recording.keep(0, number, &json!({"number": number})).unwrap();
                let points = [point(writer, number as f64), point("other", 1.0)];
                recording.finish(&json!({"writer": writer, "number": number}), &points).unwrap();
            }
        }
        Some(("hang", key)) => {
            let recording = open(folder).start(&new("eval", key), false).unwrap();
            for number in 0..3 {
                recording.keep(1, number, &json!([0.1, 1.0 / 3.0, number])).unwrap();
            }
            fs::write(folder.join("ready"), "").unwrap();
            thread::sleep(Duration::from_secs(600));
        }
        _ => panic!("{role}"),
    }
}

#[test]
fn a_run_is_there_as_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let given = NewRun {
        command: "fewron eval x".to_owned(),
        arguments: vec!["eval".to_owned(), "a b".to_owned()],
        directory: "/tmp".to_owned(),
        folder: Some("out".to_owned()),
        ..new("eval", "")
    };
    let recording = open(folder.path()).start(&given, false).unwrap();
    let id = recording.id();
    assert_eq!(open(folder.path()).run(id).unwrap().state, State::Running);
    recording.finish(&json!({"value": 0.1}), &[point("arc", 0.5), point("piqa", 0.25)]).unwrap();
    let store = open(folder.path());
    let run = store.run(id).unwrap();
    assert_eq!((run.state, run.points, run.samples), (State::Done, 2, 0));
    assert_eq!((run.command, run.arguments), (given.command, given.arguments));
    assert_eq!(
        (run.directory, run.folder, run.model),
        (given.directory, given.folder, given.model)
    );
    assert!(run.finished_at.unwrap() >= run.started_at);
    assert_eq!(store.record(id).unwrap().unwrap(), r#"{"value":0.1}"#);
    let points = store.points(&Filter::default()).unwrap();
    let found: Vec<&Point> = points.iter().map(|point| &point.point).collect();
    assert_eq!(found, [&point("arc", 0.5), &point("piqa", 0.25)]);
    // Ended runs leave no lock.
    assert_eq!(fs::read_dir(folder.path().join("locks")).unwrap().count(), 0);
}

#[test]
fn ten_processes_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let writers: Vec<Child> =
        (0..10).map(|writer| process(folder.path(), &format!("write {writer}"))).collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let store = open(folder.path());
    let runs = store.runs(&Filter::default()).unwrap();
    assert_eq!(runs.len(), 1000);
    assert!(runs.iter().all(|run| run.state == State::Done && run.points == 2));
    for writer in 0..10 {
        let task = Some(writer.to_string());
        let points = store.points(&Filter { task, ..Filter::default() }).unwrap();
        let values: Vec<f64> = points.iter().map(|point| point.point.value).collect();
        assert_eq!(values, (0..100).map(f64::from).collect::<Vec<_>>());
    }
}

#[test]
fn a_killed_run_goes_on_with_its_samples() {
    let folder = tempfile::tempdir().unwrap();
    let mut killed = process(folder.path(), "hang this");
    let start = Instant::now();
    while !folder.path().join("ready").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the other process does not start");
        thread::sleep(Duration::from_millis(10));
    }
    let run = open(folder.path()).runs(&Filter::default()).unwrap().remove(0);
    assert_eq!((run.state, run.samples), (State::Running, 3));
    // While it is at work, the same key is another run, and nobody may delete it.
    let other = open(folder.path()).start(&new("eval", "this"), false).unwrap();
    assert_ne!(other.id(), run.id);
    other.finish(&json!(null), &[]).unwrap();
    let deleted = open(folder.path()).delete(run.id);
    assert!(matches!(deleted, Err(RunsError::AtWork { .. })), "{deleted:?}");

    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(open(folder.path()).run(run.id).unwrap().state, State::Interrupted);
    let elsewhere = open(folder.path()).start(&new("eval", "that"), false).unwrap();
    assert!(elsewhere.id() != run.id && elsewhere.samples::<[f64; 3]>(1).unwrap().is_empty());
    let resumed = open(folder.path()).start(&new("eval", "this"), false).unwrap();
    assert_eq!(resumed.id(), run.id);
    let expected: Vec<(usize, [f64; 3])> =
        (0..3).map(|number| (number, [0.1, 1.0 / 3.0, number as f64])).collect();
    assert_eq!(resumed.samples::<[f64; 3]>(1).unwrap(), expected);
    assert!(resumed.samples::<[f64; 3]>(0).unwrap().is_empty());
    assert!(matches!(resumed.samples::<String>(1), Err(RunsError::Damaged { .. })));
    resumed.finish(&json!({}), &[]).unwrap();
    let store = open(folder.path());
    assert_eq!(store.run(run.id).unwrap().samples, 0);
    // What has come to its end does not go on.
    assert_ne!(store.start(&new("eval", "this"), false).unwrap().id(), run.id);
}

#[test]
fn failed_and_dropped_runs_go_on_unless_anew() {
    let folder = tempfile::tempdir().unwrap();
    let start = |anew| open(folder.path()).start(&new("eval", "k"), anew).unwrap();
    let failed = start(false);
    let id = failed.id();
    failed.fail("the disk is full").unwrap();
    let run = open(folder.path()).run(id).unwrap();
    assert_eq!((run.state, run.problem.as_deref()), (State::Failed, Some("the disk is full")));
    let resumed = start(false);
    assert_eq!(resumed.id(), id);
    drop(resumed);
    let run = open(folder.path()).run(id).unwrap();
    assert_eq!((run.state, run.problem), (State::Interrupted, None));
    assert_ne!(start(true).id(), id);
    // An empty key is nobody's.
    let empty = || open(folder.path()).start(&new("bench", ""), false).unwrap().id();
    assert_ne!(empty(), empty());
}

#[test]
fn filters() {
    let folder = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for (kind, task) in [("eval", "arc"), ("eval", "piqa"), ("bench", "decode")] {
        let recording = open(folder.path()).start(&new(kind, ""), true).unwrap();
        ids.push(recording.finish(&json!({}), &[point(task, 1.0)]).unwrap());
    }
    let store = open(folder.path());
    let found = |filter: Filter| -> Vec<i64> {
        let points = store.points(&filter).unwrap();
        let runs = store.runs(&filter).unwrap();
        let mut of_points: Vec<i64> = points.iter().map(|point| point.run).collect();
        of_points.reverse();
        let runs: Vec<i64> = runs.iter().map(|run| run.id).collect();
        assert_eq!(runs, of_points, "{filter:?}");
        runs
    };
    let text = |text: &str| Some(text.to_owned());
    let all = Filter::default;
    assert_eq!(found(all()), [ids[2], ids[1], ids[0]]);
    assert_eq!(found(Filter { kind: text("eval"), ..all() }), [ids[1], ids[0]]);
    assert_eq!(found(Filter { task: text("piqa"), ..all() }), [ids[1]]);
    assert_eq!(
        found(Filter { kind: text("eval"), variant: text("dense"), ..all() }),
        [ids[1], ids[0]]
    );
    assert_eq!(found(Filter { model: text("LLM"), limit: Some(1), ..all() }), [ids[2]]);
    assert_eq!(found(Filter { ids: vec![ids[0], ids[2]], ..all() }), [ids[2], ids[0]]);
    for none in [
        Filter { model: text("gemma"), ..all() },
        Filter { since: text("2999-01-01"), ..all() },
        Filter { state: Some(State::Failed), ..all() },
        Filter { metric: text("' OR 1 --"), ..all() },
    ] {
        assert!(found(none).is_empty());
    }
    store.delete(ids[1]).unwrap();
    assert_eq!(found(all()), [ids[2], ids[0]]);
    assert!(store.record(ids[1]).unwrap().is_none());
    assert!(matches!(store.delete(ids[1]), Err(RunsError::NoRun { .. })));
}
