//! `fewron compare`: two variants of evaluations, sample by sample.

mod changed;
mod tables;

use std::path::Path;

use anyhow::{Context, Result};
use fewron_eval::tasks::{EvalRun, Side, TaskComparison, compare};
use serde::Serialize;

use crate::Outcome;
use crate::cli::CompareArgs;
use crate::runs::read_record;

/// What `--json` prints.
#[derive(Serialize)]
struct Record<'a> {
    a: &'a str,
    b: &'a str,
    tasks: &'a [TaskComparison],
}

pub(crate) fn run(args: &CompareArgs) -> Result<Outcome> {
    let run = read_eval(&args.run)?;
    let other = args.other.as_deref().map(read_eval).transpose()?;
    let other = other.as_ref().unwrap_or(&run);
    let last = other.variants.last().map_or("dense", String::as_str);
    let (a, b) = (args.a.as_str(), args.b.as_deref().unwrap_or(last));
    let (one, two) = (Side { run: &run, variant: a }, Side { run: other, variant: b });
    let tasks = compare(one, two, args.seed)?;
    if let Some(path) = &args.report {
        fewron_report::write_comparison(one, two, &tasks, path)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&Record { a, b, tasks: &tasks })?);
        return Ok(Outcome::Done);
    }
    println!("{}", tables::metrics(&tasks, a, b));
    for task in &tasks {
        let categories = tables::categories(task, a, b, args.categories);
        let changed = changed::text(task, a, b, args.changed);
        categories.iter().chain(&changed).for_each(|text| println!("\n{text}"));
    }
    Ok(Outcome::Done)
}

/// The record of an evaluation.
///
/// # Errors
/// When the file cannot be read or is no such record.
fn read_eval(path: &Path) -> Result<EvalRun> {
    let shown = path.display();
    serde_json::from_str(&read_record(path)?).with_context(|| {
        format!(
            "{shown} is no record of an evaluation; make one with `fewron eval … --json {shown}`"
        )
    })
}
