//! Stores of older and newer versions, and files that are none.

use std::fs;

use fewron_runs::{Filter, NewRun, RunsError, State, Store};
use rusqlite::Connection;

/// The tables of the first version, as it wrote them.
const FIRST: &str = include_str!("first_version.sql");

#[test]
fn a_store_of_the_first_version_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    Connection::open(folder.path().join("runs.db")).unwrap().execute_batch(FIRST).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let runs = store.runs(&Filter::default()).unwrap();
    assert_eq!(runs.len(), 2);
    let old = &runs[1];
    assert_eq!((old.id, old.kind.as_str(), old.state), (1, "eval", State::Done));
    assert_eq!((old.model.name.as_str(), old.tool.commit.as_deref()), ("smollm2", Some("abc")));
    assert_eq!((old.arguments.len(), old.directory.as_str(), old.points), (0, "", 1));
    assert_eq!(store.record(1).unwrap().as_deref(), Some("{\"a\": 1}"));
    assert_eq!(store.points(&Filter::default()).unwrap()[0].point.value, 0.25);
    // Its process is long gone.
    assert_eq!(runs[0].state, State::Interrupted);
    // No new run goes on with an old one, which has no key.
    let recording = store.start(&NewRun::default(), false).unwrap();
    assert_eq!(recording.id(), 3);
    recording.keep(0, 0, &1).unwrap();
    assert_eq!(recording.samples::<i32>(0).unwrap(), [(0, 1)]);
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, RunsError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("update fewron"));
    let db = Connection::open(&path).unwrap();
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0)).unwrap();
    assert_eq!(tables, 0);
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("runs.db"), "no database at all, ".repeat(100)).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("runs.db"), "{error}");
    assert!(fs::read_to_string(folder.path().join("runs.db")).unwrap().starts_with("no database"));
}
