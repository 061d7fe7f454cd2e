//! Tables of a comparison.

use comfy_table::{Cell, CellAlignment, Table, presets};
use fewron_eval::tasks::{MetricComparison, TaskComparison};

/// Every metric of every task.
pub(super) fn metrics(tasks: &[TaskComparison], a: &str, b: &str) -> String {
    let mut table = table(&["task", "metric", a, b, "change (95%)", "better : worse", "p"]);
    for task in tasks {
        for (at, metric) in task.metrics.iter().enumerate() {
            let head = [if at == 0 { &task.task } else { "" }, &metric.metric];
            let cells = cells(metric).map(right);
            table.add_row(head.into_iter().map(Cell::new).chain(cells));
        }
    }
    table.to_string()
}

/// The first `most` categories of a task.
pub(super) fn categories(task: &TaskComparison, a: &str, b: &str, most: usize) -> Option<String> {
    let categories = &task.categories;
    if most == 0 {
        return None;
    }
    let metric = &categories.first()?.metric.metric;
    let head = ["category", "samples", a, b, "change (95%)", "better : worse", "p", "p (Holm)"];
    let mut table = table(&head);
    for category in categories.iter().take(most) {
        let p_holm = format!("{:.4}", category.p_holm);
        let cells = cells(&category.metric).into_iter().chain([p_holm]).map(right);
        let samples = right(category.samples.to_string());
        table.add_row([Cell::new(&category.category), samples].into_iter().chain(cells));
    }
    let mut text = format!("{}: {metric} by category, largest effect first\n{table}", task.task);
    if categories.len() > most {
        let more = categories.len() - most;
        text += &format!("\n  … {more} more: --categories N shows more, --json all");
    }
    Some(text)
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(head);
    table
}

/// Both values, the change, how many samples got better and worse, and p.
fn cells(metric: &MetricComparison) -> [String; 5] {
    [
        format!("{:.4}", metric.a),
        format!("{:.4}", metric.b),
        change(metric),
        format!("{} : {}", metric.better, metric.worse),
        format!("{:.4}", metric.p),
    ]
}

fn change(metric: &MetricComparison) -> String {
    metric.change.map_or(String::new(), |change| {
        let percent = |share: f64| format!("{:+.1}%", 100.0 * share);
        format!("{} [{}, {}]", percent(change.mean), percent(change.low), percent(change.high))
    })
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}
