//! How much of its quality the model keeps with how many of its neurons.

use fewron_eval::record::Interval;
use fewron_eval::tasks::{EvalRun, TaskRecord, VariantResult, lower_is_better};
use maud::{Markup, html};

use super::super::csv::Csv;
use super::super::format::percent;
use super::super::lines::{Dot, Line, LinePlot, NARROW, Tick, WIDE};
use super::super::metrics::{self, Unit};
use super::super::series::SLOTS;
use super::super::variants::{DENSE, Style, family};

/// How far lines stand apart across, so that their intervals do not hide each other.
const APART: f64 = 0.006;

/// A variant on a task.
struct Kept<'a> {
    variant: &'a str,
    active: f64,
    metric: &'a str,
    /// The value over the dense one, or the other way round where less is better.
    kept: Interval,
}

/// The variants of one family on one task.
struct Curve<'a> {
    task: &'a str,
    family: &'a str,
    label: String,
    /// By falling share of neurons.
    points: Vec<Kept<'a>>,
}

/// The section, or nothing where no variant says how many neurons ran.
pub(super) fn section(run: &EvalRun) -> Option<Markup> {
    let curves = curves(run);
    let least = curves.iter().flat_map(|curve| &curve.points).map(|kept| kept.active);
    let least = least.fold(1.0, f64::min);
    if curves.is_empty() || least >= 1.0 {
        return None;
    }
    let plot = plot(&curves, least);
    Some(html! {
        section #active aria-labelledby="active-title" {
            h2 #active-title { "Quality against the neurons that run" }
            figure.plot {
                div.controls {
                    h3 { "Quality kept" span.muted { " of the dense model’s, by each task’s first metric" } }
                    (csv(&curves))
                }
                (legend(&plot))
                (plot.render(WIDE, "wide"))
                (plot.render(NARROW, "narrow"))
                p.note {
                    "The variant’s value over the dense model’s, or the other way round where less is better, \
                     as of perplexity: 100% is the dense model. The dotted line is 95%."
                }
            }
        }
    })
}

fn curves(run: &EvalRun) -> Vec<Curve<'_>> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    let mut families: Vec<&str> =
        run.variants.iter().filter(|name| *name != DENSE).map(|name| family(name)).collect();
    families.sort_unstable();
    families.dedup();
    for task in &run.tasks {
        for kept in task.results.iter().filter_map(kept) {
            let family = family(kept.variant);
            match curves.iter_mut().find(|c| c.task == task.task && c.family == family) {
                Some(curve) => curve.points.push(kept),
                None => curves.push(new_curve(task, family, families.len() > 1, kept)),
            }
        }
    }
    for curve in &mut curves {
        curve.points.sort_by(|a, b| b.active.total_cmp(&a.active));
    }
    curves
}

fn new_curve<'a>(task: &'a TaskRecord, family: &'a str, many: bool, kept: Kept<'a>) -> Curve<'a> {
    let label = if many { format!("{} · {family}", task.task) } else { task.task.clone() };
    Curve { task: &task.task, family, label, points: vec![kept] }
}

fn kept(result: &VariantResult) -> Option<Kept<'_>> {
    let metric = result.metrics.first()?;
    let change = metric.change?;
    let kept = if lower_is_better(&metric.metric) {
        let inverse = |change: f64| 1.0 / (1.0 + change);
        Interval {
            mean: inverse(change.mean),
            low: inverse(change.high),
            high: inverse(change.low),
        }
    } else {
        Interval { mean: 1.0 + change.mean, low: 1.0 + change.low, high: 1.0 + change.high }
    };
    let finite = [kept.mean, kept.low, kept.high].iter().all(|value| value.is_finite());
    let active = result.active.filter(|_| finite)?;
    Some(Kept { variant: &result.variant, active, metric: &metric.metric, kept })
}

fn plot(curves: &[Curve<'_>], least: f64) -> LinePlot {
    let x = |active: f64| (1.0 - active) / (1.0 - least);
    let aside = |at: usize| APART * (at as f64 + 1.0 - curves.len() as f64);
    let line = |(at, curve): (usize, &Curve<'_>)| Line {
        label: curve.label.clone(),
        style: Style::Slot(at % SLOTS),
        dots: std::iter::once(dense_dot())
            .chain(curve.points.iter().map(|kept| dot(kept, x(kept.active) + aside(at))))
            .collect(),
    };
    LinePlot {
        title: "Share of the dense model’s quality that is kept, by share of neurons that ran"
            .to_owned(),
        lines: curves.iter().enumerate().map(line).collect(),
        unit: Unit::Share,
        ends: (0.0, f64::INFINITY),
        reference: Some(0.95),
        ticks: ticks(curves, x),
        other_ticks: Vec::new(),
        across: "MLP neurons that ran",
    }
}

fn dense_dot() -> Dot {
    Dot {
        x: 0.0,
        other_x: None,
        value: 1.0,
        interval: None,
        title: "dense, 100% on".to_owned(),
        facts: vec![("kept".to_owned(), "100%, by definition".to_owned())],
    }
}

fn dot(kept: &Kept<'_>, x: f64) -> Dot {
    Dot {
        x,
        other_x: None,
        value: kept.kept.mean,
        interval: Some((kept.kept.low, kept.kept.high)),
        title: format!("{}, {} on", kept.variant, percent(kept.active, 0)),
        facts: vec![
            (format!("{} kept", metrics::words(kept.metric)), percent(kept.kept.mean, 1)),
            ("95% interval".to_owned(), Unit::Share.range(kept.kept.low, kept.kept.high)),
        ],
    }
}

/// Shares of neurons, from all on the left, where their texts have room.
fn ticks(curves: &[Curve<'_>], x: impl Fn(f64) -> f64) -> Vec<Tick> {
    let mut actives: Vec<f64> = curves.iter().flat_map(|c| &c.points).map(|p| p.active).collect();
    actives.sort_by(f64::total_cmp);
    let mut ticks: Vec<Tick> = vec![(0.0, "100%".to_owned())];
    for active in actives {
        if ticks.iter().all(|(at, _)| (at - x(active)).abs() > 0.12) {
            ticks.push((x(active), percent(active, 0)));
        }
    }
    ticks
}

fn legend(plot: &LinePlot) -> Markup {
    html! {
        ul.key aria-label="Lines" {
            @for line in &plot.lines { li { b class={ "swatch " (line.style.class()) } { (line.label) } } }
        }
    }
}

fn csv(curves: &[Curve<'_>]) -> Markup {
    let mut csv = Csv::new(
        "quality-by-neurons",
        &["line", "task", "variant", "metric", "active", "kept", "low", "high"],
    );
    for curve in curves {
        // Every line begins at the dense model.
        let (one, line) = (1.0.into(), (&curve.label).into());
        let metric = curve.points.first().map(|kept| kept.metric);
        let none = || None::<f64>.into();
        csv.row(&[
            line,
            curve.task.into(),
            DENSE.into(),
            metric.into(),
            1.0.into(),
            one,
            none(),
            none(),
        ]);
        for kept in &curve.points {
            csv.row(&[
                (&curve.label).into(),
                curve.task.into(),
                kept.variant.into(),
                kept.metric.into(),
                kept.active.into(),
                kept.kept.mean.into(),
                kept.kept.low.into(),
                kept.kept.high.into(),
            ]);
        }
    }
    csv.link()
}
