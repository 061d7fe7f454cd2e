//! The results of an evaluation for people.

use comfy_table::{Cell, CellAlignment, Table, presets};
use fewron_eval::tasks::{EvalRun, MetricResult, TaskRecord, VariantResult};

/// All tasks: metric by metric, the variants below each other.
pub(super) fn table(run: &EvalRun) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "task",
        "metric",
        "variant",
        "MLP on",
        "value",
        "±",
        "95%",
        "change to dense (95%)",
    ]);
    for task in &run.tasks {
        for metric in names(task) {
            let of = |result: &VariantResult| {
                result.metrics.iter().find(|m| m.metric == metric).cloned()
            };
            let rows = task.results.iter().filter_map(|result| Some((result, of(result)?)));
            for (at, (result, metric)) in rows.enumerate() {
                table.add_row(row((at == 0).then_some(task), result, &metric));
            }
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

fn row(task: Option<&TaskRecord>, result: &VariantResult, metric: &MetricResult) -> Vec<Cell> {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let first = |text: &str| Cell::new(if task.is_some() { text } else { "" });
    let digits = digits(metric);
    let error = metric.standard_error.map_or(String::new(), |e| format!("{e:.digits$}"));
    let percent = |share: f64| format!("{:+.1}%", 100.0 * share);
    let change = metric.change.map_or(String::new(), |change| {
        let (mean, low, high) = (change.mean, change.low, change.high);
        format!("{} [{}, {}]", percent(mean), percent(low), percent(high))
    });
    vec![
        first(task.map_or("", |task| &task.task)),
        first(&metric.metric),
        Cell::new(&result.variant),
        right(format!("{:.1}%", 100.0 * result.active.unwrap_or(1.0))),
        right(format!("{:.digits$}", metric.value)),
        right(error),
        right(format!("[{:.digits$}, {:.digits$}]", metric.low, metric.high)),
        right(change),
    ]
}

/// Digits behind the point: perplexity and BLEU go by hundredths, shares and KL by ten-thousandths.
fn digits(metric: &MetricResult) -> usize {
    match metric.metric.as_str() {
        "perplexity" | "bleu" | "bleu_dense" => 2,
        _ => 4,
    }
}
