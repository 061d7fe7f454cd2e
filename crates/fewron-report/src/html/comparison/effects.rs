//! What changes from one variant to the other, with its interval, and how many samples bear it out.

use fewron_eval::record::Interval;
use fewron_eval::tasks::{CategoryComparison, MetricComparison, TaskComparison};
use maud::{Markup, html};

use super::super::changes::Sides;
use super::super::csv::Csv;
use super::super::metrics::{self, Unit, turned};
use super::super::rows::{FULL, Mark, Row, RowPlot};
use super::super::variants::Style;

/// A relative effect beyond this is drawn at the edge.
const MOST: f64 = 1.0;

/// Categories of a task that are drawn; the CSV has all.
const CATEGORIES: usize = 20;

/// What an interval says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Better,
    Worse,
    /// The interval holds 0, or there is none.
    Open,
}

impl Verdict {
    fn of(metric: &MetricComparison) -> Self {
        match gain(metric) {
            Some(gain) if gain.low > 0.0 => Self::Better,
            Some(gain) if gain.high < 0.0 => Self::Worse,
            _ => Self::Open,
        }
    }

    /// By the task's first metric.
    pub(super) fn of_task(task: &TaskComparison) -> Self {
        task.metrics.first().map_or(Self::Open, Self::of)
    }

    /// Two colours and a third marker, which is open: colour is never the only difference.
    fn style(self) -> Style {
        match self {
            Self::Better => Style::Slot(0),
            Self::Worse => Style::Slot(1),
            Self::Open => Style::Slot(8),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Open => "not told apart",
        }
    }
}

/// The relative change turned so that more is better.
fn gain(metric: &MetricComparison) -> Option<Interval> {
    metric.loss().map(turned)
}

/// The section.
pub(super) fn section(sides: &Sides<'_>, tasks: &[TaskComparison]) -> Markup {
    html! {
        section #effects aria-labelledby="effects-title" {
            h2 #effects-title { "How large the difference is" }
            (forest(sides, tasks))
            (movements(sides, tasks))
            @for task in tasks { (categories(sides, task)) }
        }
    }
}

/// Rows around 0, the better to the right.
fn around_zero(title: String, rows: Vec<Row>) -> RowPlot<'static> {
    RowPlot {
        title,
        rows,
        mark: Mark::Dot,
        unit: Unit::Change,
        ends: (-MOST, MOST),
        reference: Some(0.0),
        sides: Some(("worse", "better")),
        heads: &["change", "p", "values"],
    }
}

/// One line for each metric.
fn forest(sides: &Sides<'_>, tasks: &[TaskComparison]) -> Markup {
    let row = |(task, metric): (&TaskComparison, &MetricComparison)| {
        let label = format!("{} · {}", task.task, metrics::words(&metric.metric));
        let first = task.metrics.first().is_some_and(|first| first.metric == metric.metric);
        effect(sides, label, first, metric, metric.p)
    };
    let plot = around_zero(
        format!(
            "Relative change of each metric from {} to {}, turned so that right is better",
            sides.a, sides.b
        ),
        all(tasks).filter_map(row).collect(),
    );
    html! {
        figure.plot {
            div.controls { h3 { "Effect" span.muted { " of " (sides.b) " against " (sides.a) ", relative" } } (effects_csv(tasks)) }
            @if plot.rows.is_empty() {
                p.note { "No metric has a relative change: the first variant’s values are 0." }
            } @else {
                (plot.render(FULL))
                p.note {
                    "Paired 95% intervals. Squares are worse and discs better beyond chance; open diamonds are \
                     not told apart. Perplexity and KL are turned round, since less of them is better; the \
                     percentages at the right are the metric’s own change."
                }
            }
        }
    }
}

fn all(tasks: &[TaskComparison]) -> impl Iterator<Item = (&TaskComparison, &MetricComparison)> {
    tasks.iter().flat_map(|task| task.metrics.iter().map(move |metric| (task, metric)))
}

/// A task's first metric in each category, the largest effects first.
fn categories(sides: &Sides<'_>, task: &TaskComparison) -> Markup {
    let row = |category: &CategoryComparison| {
        let label = format!("{} ({})", category.category, category.samples);
        effect(sides, label, category.p_holm < 0.05, &category.metric, category.p_holm)
    };
    let shown = task.categories.len().min(CATEGORIES);
    let plot = around_zero(
        format!(
            "Relative change on {} from {} to {} in each category, turned so that right is better",
            task.task, sides.a, sides.b
        ),
        task.categories.iter().filter_map(row).take(CATEGORIES).collect(),
    );
    html! {
        @if !plot.rows.is_empty() {
            figure.plot {
                div.controls {
                    h3 { "Effect by category" span.muted { " on " (task.task) ", samples in brackets" } }
                    (categories_csv(task))
                }
                (plot.render(FULL))
                p.note {
                    "The first metric alone" @if shown < task.categories.len() {
                        ", the " (shown) " largest effects of " (task.categories.len()) " categories"
                    }
                    ". p is adjusted by Holm’s method for that many tests; few samples give wide intervals, and \
                     an interval without 0 is no finding where p is large."
                }
            }
        }
    }
}

/// A line with the p that is shown.
fn effect(
    sides: &Sides<'_>,
    label: String,
    strong: bool,
    metric: &MetricComparison,
    p: f64,
) -> Option<Row> {
    let (gain, change) = (gain(metric)?, metric.change?);
    let unit = metrics::unit(&metric.metric);
    let verdict = Verdict::of(metric);
    let fact = |name: &str, value: String| (name.to_owned(), value);
    Some(Row {
        label,
        style: verdict.style(),
        strong,
        value: gain.mean,
        interval: Some((gain.low, gain.high)),
        texts: vec![
            Unit::Change.text(change.mean),
            p_text(p),
            format!("{} → {}", unit.text(metric.a), unit.text(metric.b)),
        ],
        facts: vec![
            fact(sides.a, unit.text(metric.a)),
            fact(sides.b, unit.text(metric.b)),
            fact("change", Unit::Change.text(change.mean)),
            fact("95% interval", Unit::Change.range(change.low, change.high)),
            fact("p", p_text(p)),
            fact("verdict", verdict.words().to_owned()),
        ],
    })
}

/// A p value: `<0.001` or three decimals.
pub(super) fn p_text(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

/// How many samples are better and worse by each task's first metric.
fn movements(sides: &Sides<'_>, tasks: &[TaskComparison]) -> Markup {
    let first = |task: &'_ TaskComparison| {
        task.metrics.first().cloned().map(|metric| (task.task.clone(), task.samples, metric))
    };
    let found: Vec<(String, usize, MetricComparison)> = tasks.iter().filter_map(first).collect();
    let rows = found.iter().flat_map(|(task, samples, metric)| {
        [("better", metric.better, Verdict::Better), ("worse", metric.worse, Verdict::Worse)].map(
            |(words, moved, verdict)| movement(task, words, moved, *samples, metric.p, verdict),
        )
    });
    let plot = RowPlot {
        title: format!(
            "Share of samples on which {} is better and worse than {}, by each task’s first metric",
            sides.b, sides.a
        ),
        rows: rows.collect(),
        mark: Mark::Bar,
        unit: Unit::Share,
        ends: (0.0, 1.0),
        reference: None,
        sides: None,
        heads: &["samples", "share", "sign test"],
    };
    html! {
        figure.plot {
            div.controls {
                h3 { "Samples that moved" span.muted { " by each task’s first metric" } }
                (movements_csv(&found))
            }
            (plot.render(FULL))
            p.note {
                "If both variants were as good, better and worse would be as likely as heads and tails: p is how \
                 often chance alone splits them at least as unevenly."
            }
        }
    }
}

fn movement(
    task: &str,
    words: &str,
    moved: usize,
    samples: usize,
    p: f64,
    verdict: Verdict,
) -> Row {
    let share = moved as f64 / samples.max(1) as f64;
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let test = if words == "better" { format!("p {}", p_text(p)) } else { String::new() };
    Row {
        label: format!("{task} · {words}"),
        style: verdict.style(),
        strong: false,
        value: share,
        interval: None,
        texts: vec![moved.to_string(), Unit::Share.text(share), test],
        facts: vec![
            fact("samples", format!("{moved} of {samples}")),
            fact("share", Unit::Share.text(share)),
            fact("p", p_text(p)),
        ],
    }
}

fn effects_csv(tasks: &[TaskComparison]) -> Markup {
    let columns = [
        "task",
        "metric",
        "samples",
        "a",
        "b",
        "change",
        "change_low",
        "change_high",
        "gain",
        "better",
        "worse",
        "p",
    ];
    let mut csv = Csv::new("effects", &columns);
    for (task, metric) in all(tasks) {
        let (Some(gain), Some(change)) = (gain(metric), metric.change) else { continue };
        csv.row(&[
            (&task.task).into(),
            (&metric.metric).into(),
            task.samples.into(),
            metric.a.into(),
            metric.b.into(),
            change.mean.into(),
            change.low.into(),
            change.high.into(),
            gain.mean.into(),
            metric.better.into(),
            metric.worse.into(),
            metric.p.into(),
        ]);
    }
    csv.link()
}

fn categories_csv(task: &TaskComparison) -> Markup {
    let columns = [
        "category",
        "samples",
        "metric",
        "a",
        "b",
        "change",
        "change_low",
        "change_high",
        "better",
        "worse",
        "p",
        "p_holm",
    ];
    let mut csv = Csv::new(&format!("categories-{}", task.task), &columns);
    for CategoryComparison { category, samples, metric, p_holm } in &task.categories {
        let Some(change) = metric.change else { continue };
        csv.row(&[
            category.into(),
            (*samples).into(),
            (&metric.metric).into(),
            metric.a.into(),
            metric.b.into(),
            change.mean.into(),
            change.low.into(),
            change.high.into(),
            metric.better.into(),
            metric.worse.into(),
            metric.p.into(),
            (*p_holm).into(),
        ]);
    }
    csv.link()
}

fn movements_csv(found: &[(String, usize, MetricComparison)]) -> Markup {
    let mut csv = Csv::new(
        "samples-that-moved",
        &["task", "metric", "direction", "moved", "samples", "share", "p"],
    );
    for (task, samples, metric) in found {
        for (words, moved) in [("better", metric.better), ("worse", metric.worse)] {
            csv.row(&[
                task.into(),
                (&metric.metric).into(),
                words.into(),
                moved.into(),
                (*samples).into(),
                (moved as f64 / (*samples).max(1) as f64).into(),
                metric.p.into(),
            ]);
        }
    }
    csv.link()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, mean: f64, low: f64, high: f64) -> MetricComparison {
        MetricComparison {
            metric: name.to_owned(),
            a: 1.0,
            b: 1.0 + mean,
            change: Some(Interval { mean, low, high }),
            better: 0,
            worse: 0,
            p: 1.0,
        }
    }

    #[test]
    fn verdicts_know_the_direction() {
        assert_eq!(Verdict::of(&metric("acc", -0.1, -0.2, -0.01)), Verdict::Worse);
        assert_eq!(Verdict::of(&metric("acc", -0.1, -0.2, 0.01)), Verdict::Open);
        assert_eq!(Verdict::of(&metric("perplexity", 0.1, 0.05, 0.2)), Verdict::Worse);
        assert_eq!(Verdict::of(&metric("perplexity", -0.1, -0.2, -0.05)), Verdict::Better);
        assert_eq!(
            Verdict::of(&MetricComparison { change: None, ..metric("acc", 0.0, 0.0, 0.0) }),
            Verdict::Open
        );
    }

    #[test]
    fn small_p_are_not_zero() {
        assert_eq!([p_text(0.0), p_text(0.0312), p_text(1.0)], ["<0.001", "0.031", "1.000"]);
    }
}
