//! The values of each task's metrics by variant, with their intervals.

use fewron_eval::tasks::{EvalRun, MetricResult, TaskRecord, VariantResult};
use maud::{Markup, html};

use super::super::csv::Csv;
use super::super::format::percent;
use super::super::metrics::{self, Unit};
use super::super::rows::{FULL, HALF, Mark, Row, RowPlot};
use super::super::story::plural;
use super::super::variants::{DENSE, style};

/// The section.
pub(super) fn section(run: &EvalRun) -> Markup {
    html! {
        section #tasks aria-labelledby="tasks-title" {
            h2 #tasks-title { "What it cost, task by task" }
            p.note {
                "Bars through the marks are 95% intervals over samples; the upright line is the dense model. \
                 The percentages are the paired change against it."
            }
            @for task in &run.tasks { (one_task(run, task)) }
        }
    }
}

fn one_task(run: &EvalRun, task: &TaskRecord) -> Markup {
    let metrics = names(task);
    let wide = metrics.len() == 1;
    html! {
        h3 {
            (task.task)
            span.muted {
                " " @if task.kind != task.task { (task.kind.replace('_', " ")) ", " } (plural(task.data.samples, "sample"))
                @if task.few_shot > 0 { ", " (plural(task.few_shot, "solved example")) " shown" }
            }
        }
        div class=[(!wide).then_some("pair")] {
            @for metric in metrics { (figure(run, task, metric, wide)) }
        }
    }
}

/// The task's metrics, the headline first.
pub(super) fn names(task: &TaskRecord) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for metric in task.results.iter().flat_map(|result| &result.metrics) {
        if !names.contains(&metric.metric.as_str()) {
            names.push(&metric.metric);
        }
    }
    names
}

fn figure(run: &EvalRun, task: &TaskRecord, metric: &str, wide: bool) -> Markup {
    let all: Vec<&str> = run.variants.iter().map(String::as_str).collect();
    let of = |result: &'_ VariantResult| {
        result.metrics.iter().position(|m| m.metric == metric && m.value.is_finite())
    };
    let found: Vec<(&VariantResult, &MetricResult)> = task
        .results
        .iter()
        .filter_map(|result| Some((result, &result.metrics[of(result)?])))
        .collect();
    let unit = metrics::unit(metric);
    let dense = found.iter().find(|(result, _)| result.variant == DENSE).map(|(_, m)| m.value);
    let plot = RowPlot {
        title: format!("{} on {} by variant", metrics::words(metric), task.task),
        rows: found.iter().map(|(result, metric)| row(result, metric, &all)).collect(),
        mark: Mark::Dot,
        unit,
        ends: if unit == Unit::Share { (0.0, 1.0) } else { (0.0, f64::INFINITY) },
        reference: dense,
        sides: None,
        heads: &["value", "change", "95% of the change"],
    };
    html! {
        figure.plot {
            div.controls {
                h4 { (metrics::words(metric)) }
                (csv(task, metric, &found))
            }
            (plot.render(if wide { FULL } else { HALF }))
        }
    }
}

fn row(result: &VariantResult, metric: &MetricResult, all: &[&str]) -> Row {
    let unit = metrics::unit(&metric.metric);
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![
        fact("value", unit.text(metric.value)),
        fact("95% interval", unit.range(metric.low, metric.high)),
    ];
    let mut texts = vec![unit.text(metric.value)];
    if let Some(change) = metric.change {
        let interval = Unit::Change.range(change.low, change.high);
        texts.extend([Unit::Change.text(change.mean), interval.clone()]);
        facts.push(fact("against dense", Unit::Change.text(change.mean)));
        facts.push(fact("its 95% interval", interval));
    }
    if let Some(active) = result.active {
        facts.push(fact("neurons on", percent(active, 1)));
    }
    Row {
        label: result.variant.clone(),
        style: style(&result.variant, all),
        strong: false,
        value: metric.value,
        interval: Some((metric.low, metric.high)),
        texts,
        facts,
    }
}

fn csv(task: &TaskRecord, metric: &str, found: &[(&VariantResult, &MetricResult)]) -> Markup {
    let columns = [
        "task",
        "metric",
        "variant",
        "active",
        "value",
        "low",
        "high",
        "change",
        "change_low",
        "change_high",
    ];
    let mut csv = Csv::new(&format!("{}-{metric}", task.task), &columns);
    for (result, metric) in found {
        let change = metric.change;
        csv.row(&[
            (&task.task).into(),
            (&metric.metric).into(),
            (&result.variant).into(),
            result.active.into(),
            metric.value.into(),
            metric.low.into(),
            metric.high.into(),
            change.map(|change| change.mean).into(),
            change.map(|change| change.low).into(),
            change.map(|change| change.high).into(),
        ]);
    }
    csv.link()
}
