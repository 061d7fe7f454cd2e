//! Small multiples: one figure for each model, task and metric, with a line for each variant.

use maud::{Markup, html};

use super::super::csv::Csv;
use super::super::lines::{Dot, Line, LinePlot, SMALL, Tick};
use super::super::metrics::{self, Unit};
use super::super::variants::style;
use super::lines::{Figure, day, minute, short};
use super::task;
use crate::history::HistoryPoint;

/// Figures of one kind, a group for each model; nothing without any.
pub(super) fn section(
    anchor: &str,
    title: &str,
    figures: &[&Figure<'_>],
    variants: &[&str],
) -> Markup {
    if figures.is_empty() {
        return html! {};
    }
    let title_id = format!("{anchor}-title");
    html! {
        section id=(anchor) aria-labelledby=(title_id) {
            h2 id=(title_id) { (title) }
            @for group in figures.chunk_by(|a, b| a.model == b.model) {
                div.block data-group {
                    h3 { (group[0].model) }
                    div.many { @for figure in group { (one_figure(figure, variants)) } }
                }
            }
        }
    }
}

fn one_figure(figure: &Figure<'_>, variants: &[&str]) -> Markup {
    let points = figure.lines.iter().flat_map(|line| &line.points);
    let filter = points.clone().next().map_or("", |point| task(point));
    html! {
        figure.plot data-model=(figure.model) data-task=(filter) {
            div.controls {
                h4 {
                    @if !figure.task.is_empty() { (figure.task) " · " } (metrics::words(figure.metric))
                    @if let Some(cpu) = figure.cpu { span.muted { " " (cpu) } }
                }
                (csv(figure))
            }
            (plot(figure, variants).render(SMALL, "small"))
        }
    }
}

fn plot(figure: &Figure<'_>, variants: &[&str]) -> LinePlot {
    let unit = metrics::unit(figure.metric);
    let dot = |point: &HistoryPoint| dot(figure, point, unit);
    let lines = figure.lines.iter().map(|line| Line {
        label: line.variant.to_owned(),
        style: style(line.variant, variants),
        dots: line.points.iter().map(|point| dot(point)).collect(),
    });
    let (order, time) = ticks(figure);
    let what = metrics::words(figure.metric);
    let on = [figure.task, figure.model, figure.cpu.unwrap_or_default()];
    let on: Vec<&str> = on.into_iter().filter(|part| !part.is_empty()).collect();
    LinePlot {
        title: format!("{what} over runs: {}", on.join(", ")),
        lines: lines.collect(),
        unit,
        ends: if unit == Unit::Share { (0.0, 1.0) } else { (0.0, f64::INFINITY) },
        reference: None,
        ticks: order,
        other_ticks: time,
        across: "",
    }
}

fn dot(figure: &Figure<'_>, point: &HistoryPoint, unit: Unit) -> Dot {
    let (order, time) = figure.places(&point.run);
    let interval = point.low.zip(point.high);
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![fact(metrics::words(&point.metric), unit.text(point.value))];
    facts.extend(interval.map(|(low, high)| fact("95% interval", unit.range(low, high))));
    facts.push(fact("run", point.run.clone()));
    facts.extend(point.commit.as_deref().map(|commit| fact("commit", short(commit).to_owned())));
    Dot {
        x: order,
        other_x: Some(time),
        value: point.value,
        interval,
        title: minute(&point.finished_at),
        facts,
    }
}

/// Ticks by order and by time.
fn ticks(figure: &Figure<'_>) -> (Vec<Tick>, Vec<Tick>) {
    let runs = &figure.runs;
    let day = |at: usize| day(runs[at].finished_at).to_owned();
    match runs.len() {
        0 => (Vec::new(), Vec::new()),
        1 => (vec![(0.5, "1".to_owned())], vec![(0.5, day(0))]),
        count => {
            let last = count - 1;
            let step = last.div_ceil(6);
            let order = (0..=last).rev().step_by(step);
            let order = order.map(|at| (at as f64 / last as f64, (at + 1).to_string())).collect();
            (order, vec![(0.0, day(0)), (1.0, day(last))])
        }
    }
}

fn csv(figure: &Figure<'_>) -> Markup {
    let cpu = figure.cpu.unwrap_or_default();
    let name = [figure.model, figure.task, figure.metric, cpu];
    let name: Vec<&str> = name.into_iter().filter(|part| !part.is_empty()).collect();
    let columns = [
        "run",
        "kind",
        "finished_at",
        "model",
        "commit",
        "cpu",
        "task",
        "variant",
        "metric",
        "value",
        "low",
        "high",
    ];
    let mut csv = Csv::new(&name.join("-"), &columns);
    for point in figure.lines.iter().flat_map(|line| &line.points) {
        csv.row(&[
            (&point.run).into(),
            (&point.kind).into(),
            (&point.finished_at).into(),
            (&point.model).into(),
            point.commit.as_deref().into(),
            (&point.cpu).into(),
            (&point.task).into(),
            (&point.variant).into(),
            (&point.metric).into(),
            point.value.into(),
            point.low.into(),
            point.high.into(),
        ]);
    }
    csv.link()
}
