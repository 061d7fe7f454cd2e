//! How long lists and histories of a large store take: 10,000 runs with 100,000 points.

use std::path::Path;

use divan::Bencher;
use fewron_runs::{Filter, ModelId, NewRun, Point, Store};
use serde_json::json;
use tempfile::TempDir;

const RUNS: usize = 10_000;
const POINTS: usize = 10;

fn main() {
    divan::main();
}

/// Fills a store as runs do.
fn fill(folder: &Path) {
    let points: Vec<Point> = (0..POINTS)
        .map(|number| Point {
            task: format!("task{}", number / 5),
            variant: format!("gate@0.{}", number % 5),
            metric: "acc".to_owned(),
            value: 0.5,
            low: Some(0.4),
            high: Some(0.6),
        })
        .collect();
    for run in 0..RUNS {
        let model = ModelId { name: format!("model{}", run % 7), sha256: "b179".to_owned() };
        let new = NewRun { kind: "eval".to_owned(), model, ..NewRun::default() };
        let recording = Store::open(folder).and_then(|store| store.start(&new, true));
        recording.and_then(|r| r.finish(&json!({"text": "x".repeat(4096)}), &points)).unwrap();
    }
}

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

#[divan::bench(sample_count = 10)]
fn all_runs(bencher: Bencher) {
    let (_folder, store) = store();
    bencher.bench_local(|| assert_eq!(store.runs(&Filter::default()).unwrap().len(), RUNS));
}

#[divan::bench(sample_count = 10)]
fn all_points(bencher: Bencher) {
    let (_folder, store) = store();
    bencher
        .bench_local(|| assert_eq!(store.points(&Filter::default()).unwrap().len(), RUNS * POINTS));
}

#[divan::bench(sample_count = 10)]
fn newest_with_a_variant(bencher: Bencher) {
    let (_folder, store) = store();
    let variant = Some("gate@0.3".to_owned());
    let filter = Filter { variant, limit: Some(20), ..Filter::default() };
    bencher.bench_local(|| assert_eq!(store.runs(&filter).unwrap().len(), 20));
}
