//! The results of an evaluation for people.

use comfy_table::{Cell, CellAlignment, Table, presets};
use fewron_eval::tasks::{EvalRun, MetricResult, TaskRecord, VariantResult};

/// All tasks: a row for each metric, the variants below each other in it.
pub(super) fn table(run: &EvalRun) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["task", "metric", "variant", "MLP on", "value", "95%", "change (95%)"]);
    for task in &run.tasks {
        for (at, metric) in names(task).into_iter().enumerate() {
            table.add_row(row(if at == 0 { &task.task } else { "" }, metric, &task.results));
        }
    }
    table.to_string()
}

/// The task's metrics in the order of their importance.
fn names(task: &TaskRecord) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for metric in task.results.iter().flat_map(|result| &result.metrics) {
        if !names.contains(&metric.metric.as_str()) {
            names.push(&metric.metric);
        }
    }
    names
}

/// A metric of every variant that has it.
fn row(task: &str, metric: &str, results: &[VariantResult]) -> Vec<Cell> {
    let of = |result: &VariantResult| result.metrics.iter().find(|m| m.metric == metric).cloned();
    let lines: Vec<(&VariantResult, MetricResult)> =
        results.iter().filter_map(|result| Some((result, of(result)?))).collect();
    let column = |cell: &dyn Fn(&VariantResult, &MetricResult) -> String| {
        let texts: Vec<String> =
            lines.iter().map(|(result, metric)| cell(result, metric)).collect();
        Cell::new(texts.join("\n"))
    };
    let right = |cell: Cell| cell.set_alignment(CellAlignment::Right);
    vec![
        Cell::new(task),
        Cell::new(metric),
        column(&|result, _| result.variant.clone()),
        right(column(&|result, _| format!("{:.1}%", 100.0 * result.active.unwrap_or(1.0)))),
        right(column(&|_, metric| value(metric))),
        right(column(&|_, metric| interval(metric))),
        right(column(&|_, metric| change(metric))),
    ]
}

fn value(metric: &MetricResult) -> String {
    let (digits, value) = (digits(metric), metric.value);
    match metric.standard_error {
        Some(error) => format!("{value:.digits$} ± {error:.digits$}"),
        None => format!("{value:.digits$}"),
    }
}

fn interval(metric: &MetricResult) -> String {
    let digits = digits(metric);
    format!("[{:.digits$}, {:.digits$}]", metric.low, metric.high)
}

/// Relative change against the dense model.
fn change(metric: &MetricResult) -> String {
    let percent = |share: f64| format!("{:+.1}%", 100.0 * share);
    metric.change.map_or(String::new(), |change| {
        let (mean, low, high) = (percent(change.mean), percent(change.low), percent(change.high));
        format!("{mean} [{low}, {high}]")
    })
}

/// Digits behind the point: perplexity and BLEU go by hundredths, shares and KL by ten-thousandths.
fn digits(metric: &MetricResult) -> usize {
    match metric.metric.as_str() {
        "perplexity" | "bleu" | "bleu_dense" => 2,
        _ => 4,
    }
}
