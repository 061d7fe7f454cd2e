//! Writes the pages of synthetic runs into a folder: `cargo run -p fewron-report --example pages -- DIR`.
//! A second argument is the number of runs of the history, 24 without it.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::path::PathBuf;

use fewron_eval::tasks::{Side, compare};
use fixture::evaluation::{bench, evaluation, history};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| ".".into()));
    let runs = std::env::args().nth(2).map_or(Ok(24), |runs| runs.parse())?;
    let run = evaluation();
    fewron_report::write_evaluation(&run, &folder.join("evaluation.html"))?;
    let (a, b) = (Side { run: &run, variant: "dense" }, Side { run: &run, variant: "gate@0.7" });
    let tasks = compare(a, b, 0)?;
    fewron_report::write_comparison(a, b, &tasks, &folder.join("comparison.html"))?;
    fewron_report::write_history(&history(runs), &folder.join("history.html"))?;
    fewron_report::write_bench(&bench(), &folder.join("bench.html"))?;
    Ok(())
}
