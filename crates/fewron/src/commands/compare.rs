//! `fewron compare`: two variants of evaluations, sample by sample.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{Cell, CellAlignment, Table, presets};
use fewron_eval::tasks::{EvalRun, MetricComparison, Side, TaskComparison, compare};
use serde::Serialize;

use crate::Outcome;
use crate::cli::CompareArgs;

/// Characters of an answer that are shown.
const SHOWN: usize = 60;

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
    println!("{}", table(&tasks, a, b));
    for task in &tasks {
        print_changed(task, args.changed);
    }
    Ok(Outcome::Done)
}

/// The record of an evaluation.
///
/// # Errors
/// When the file cannot be read or is no such record.
fn read_eval(path: &Path) -> Result<EvalRun> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{shown} is no record of an evaluation; make one with `fewron eval … --json {shown}`"
        )
    })
}

fn table(tasks: &[TaskComparison], a: &str, b: &str) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["task", "metric", a, b, "change (95%)", "better : worse", "p"]);
    for task in tasks {
        for (at, metric) in task.metrics.iter().enumerate() {
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(if at == 0 { &task.task } else { "" }),
                Cell::new(&metric.metric),
                right(format!("{:.4}", metric.a)),
                right(format!("{:.4}", metric.b)),
                right(change(metric)),
                right(format!("{} : {}", metric.better, metric.worse)),
                right(format!("{:.4}", metric.p)),
            ]);
        }
    }
    table.to_string()
}

fn change(metric: &MetricComparison) -> String {
    metric.change.map_or(String::new(), |change| {
        let percent = |share: f64| format!("{:+.1}%", 100.0 * share);
        format!("{} [{}, {}]", percent(change.mean), percent(change.low), percent(change.high))
    })
}

/// Samples with another answer, side by side from where they part.
fn print_changed(task: &TaskComparison, most: usize) {
    let changed = &task.changed;
    if changed.is_empty() || most == 0 {
        return;
    }
    println!("\n{}: {} of {} answers changed", task.task, changed.len(), task.samples);
    for sample in changed.iter().take(most) {
        let shared = sample.common.unwrap_or(0);
        println!("  {}", sample.id);
        for answer in [&sample.a, &sample.b] {
            println!("    {}", from(answer, shared));
        }
    }
    if changed.len() > most {
        println!("  … {} more: --changed N shows more, --json all", changed.len() - most);
    }
}

/// An answer on one line, from a little before the place where it parts from another.
fn from(answer: &str, shared: usize) -> String {
    let start = shared.saturating_sub(SHOWN / 3);
    let text: String = answer.chars().skip(start).take(SHOWN).collect();
    let (before, after) = (start > 0, answer.chars().count() > start + SHOWN);
    let mark = |cut: bool| if cut { "…" } else { "" };
    format!("{}{}{}", mark(before), text.replace(['\n', '\r'], " "), mark(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_shown_where_they_part() {
        assert_eq!(from("short\nand sweet", 3), "short and sweet");
        let long = "x".repeat(100) + &"y".repeat(100);
        let shown = from(&long, 100);
        assert_eq!(shown.chars().count(), SHOWN + 2);
        assert!(shown.starts_with("…x") && shown.contains("xy") && shown.ends_with("y…"));
    }
}
