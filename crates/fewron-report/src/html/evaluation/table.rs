//! Every number of an evaluation, sortable.

use fewron_eval::tasks::{EvalRun, MetricResult, TaskRecord, VariantResult};
use maud::{Markup, html};

use super::super::format::percent;
use super::super::metrics::{self, Unit};
use super::super::tables::{column, sort_key, word_column};
use super::super::variants::style;

/// The section.
pub(super) fn section(run: &EvalRun) -> Markup {
    let all: Vec<&str> = run.variants.iter().map(String::as_str).collect();
    html! {
        section #numbers aria-labelledby="numbers-title" {
            h2 #numbers-title { "All numbers" }
            p.note { "With 95% intervals over samples. Choose a column to sort by it." }
            div.scroll.tall tabindex="0" role="region" aria-label="All numbers, sortable" {
                table.sortable.words {
                    caption.unseen { "Every metric of every task by every variant" }
                    thead { tr {
                        (column("Task")) (word_column("Metric")) (word_column("Variant")) (column("Neurons on"))
                        (column("Value")) (column("Standard error")) (column("Change")) (column("Samples"))
                    } }
                    tbody {
                        @for task in &run.tasks {
                            @for result in &task.results {
                                @for metric in &result.metrics { (row(task, result, metric, &all)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn row(task: &TaskRecord, result: &VariantResult, metric: &MetricResult, all: &[&str]) -> Markup {
    let unit = metrics::unit(&metric.metric);
    html! {
        tr {
            th scope="row" data-v=(task.task) { (task.task) }
            td.word data-v=(metrics::words(&metric.metric)) { (metrics::words(&metric.metric)) }
            td.word data-v=(result.variant) {
                b class={ "swatch " (style(&result.variant, all).class()) } { (result.variant) }
            }
            td data-v=[result.active] { (result.active.map_or_else(|| "–".to_owned(), |active| percent(active, 1))) }
            td data-v=[sort_key(metric.value)] {
                (unit.text(metric.value)) " "
                span.interval { "[" (unit.text(metric.low)) ", " (unit.text(metric.high)) "]" }
            }
            td data-v=[metric.standard_error] { (metric.standard_error.map_or_else(|| "–".to_owned(), |error| unit.text(error))) }
            td data-v=[metric.change.and_then(|change| sort_key(change.mean))] {
                @if let Some(change) = metric.change {
                    (Unit::Change.text(change.mean)) " "
                    span.interval { "[" (Unit::Change.text(change.low)) ", " (Unit::Change.text(change.high)) "]" }
                } @else { "–" }
            }
            td data-v=(task.data.samples) { (task.data.samples) }
        }
    }
}
