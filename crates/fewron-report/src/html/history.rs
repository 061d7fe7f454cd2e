//! The page of history: every value over the runs that measured it.

mod figure;
mod lines;
mod moves;

use maud::{Markup, html};

use super::format::count;
use super::metrics;
use super::page::{self, Frame};
use super::story::plural;
use super::tables::{column, sort_key, word_column};
use super::variants::{DENSE, style};
use crate::history::HistoryPoint;
use lines::Figure;

const SCRIPTS: [&str; 2] =
    [include_str!("../../assets/legend.js"), include_str!("../../assets/history.js")];

/// What a bench is called among the tasks.
const SPEED: &str = "speed";

/// Renders values of many runs as a self-contained page. Text from the runs is escaped; scripts and styles
/// are allowed by their hash alone, and nothing is fetched.
pub fn render(points: &[HistoryPoint]) -> String {
    let points = lines::in_order(points);
    let figures = lines::figures(&points);
    let variants = variants(&points);
    let moves = moves::find(&figures);
    let of = |speed: bool| -> Vec<&Figure<'_>> {
        figures.iter().filter(|figure| figure.speed == speed).collect()
    };
    let (quality, speed) = (of(false), of(true));
    let sections = html! {
        (hero(&points, &figures, &moves))
        (moves::section(&moves))
        @if !points.is_empty() {
            section #runs aria-labelledby="runs-title" {
                h2 #runs-title { "Over time" }
                (filters(&points))
                (legend(&variants))
                p #found.note role="status" {}
            }
        }
        (figure::section("quality", "Quality", &quality, &variants))
        (figure::section("speed", "Speed", &speed, &variants))
        @if !points.is_empty() { (table(&points, &variants)) }
    };
    let contents = [
        ("moved", "Moved", !moves.is_empty()),
        ("quality", "Quality", !quality.is_empty()),
        ("speed", "Speed", !speed.is_empty()),
        ("numbers", "Numbers", !points.is_empty()),
    ];
    let contents: Vec<(&str, &str)> =
        contents.into_iter().filter(|(.., there)| *there).map(|(to, name, _)| (to, name)).collect();
    let frame = Frame {
        kind: "history",
        title: "History of runs",
        contents: &contents,
        measured_by: "at the commits shown",
        style: "",
        scripts: &SCRIPTS,
    };
    frame.document(&sections, &page::json(&()))
}

/// Names of the variants, the dense model first.
fn variants<'a>(points: &[&'a HistoryPoint]) -> Vec<&'a str> {
    let mut names = distinct(points, |point| &point.variant);
    names.sort_by_key(|name| *name != DENSE);
    names
}

/// The values of a field, each once, in the order of the points.
fn distinct<'a>(
    points: &[&'a HistoryPoint],
    field: impl Fn(&'a HistoryPoint) -> &'a str,
) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for point in points {
        let value = field(point);
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// The point's task in the filter.
fn task(point: &HistoryPoint) -> &str {
    if point.task.is_empty() { SPEED } else { &point.task }
}

fn hero(points: &[&HistoryPoint], figures: &[Figure<'_>], moves: &[moves::Move<'_>]) -> Markup {
    let runs = distinct(points, |point| &point.run).len();
    let models = distinct(points, |point| &point.model).len();
    let lines: usize = figures.iter().map(|figure| figure.lines.len()).sum();
    let day = |point: Option<&&HistoryPoint>| {
        point.map_or_else(|| "–".to_owned(), |point| lines::day(&point.finished_at).to_owned())
    };
    let direction = |better: bool| moves.iter().filter(|m| m.better == better).count();
    html! {
        section.hero {
            p.eyebrow { (plural(runs, "run")) " · " (plural(models, "model")) " · " (count(points.len() as u64)) " values" }
            h1 { (moves::headline(figures, moves)) }
            p.lede {
                "Each variant’s values over the runs that measured it, with 95% intervals where the runs have \
                 them. A value has moved where its interval and that of the run before do not touch."
            }
            @if !points.is_empty() {
                dl.figures {
                    div { dt { "Worse" } dd { (direction(false)) } dd.small { "of " (plural(lines, "line")) ", at the last run" } }
                    div { dt { "Better" } dd { (direction(true)) } dd.small { "of " (plural(lines, "line")) ", at the last run" } }
                    div { dt { "Runs" } dd { (runs) } dd.small { (day(points.first())) " to " (day(points.last())) } }
                    div { dt { "Models" } dd { (models) } dd.small { (plural(figures.len(), "figure")) } }
                }
            }
        }
    }
}

/// Which figures show, and what they are drawn over. It needs the script, which shows it.
fn filters(points: &[&HistoryPoint]) -> Markup {
    let select = |name: &str, label: &str, all: &str, values: Vec<&str>| {
        html! {
            label.pick {
                span.group-name { (label) }
                select name=(name) {
                    option value="" { (all) }
                    @for value in values { option value=(value) { (value) } }
                }
            }
        }
    };
    html! {
        div.selector.filters data-script hidden {
            (select("model", "Model", "all models", distinct(points, |point| &point.model)))
            (select("task", "Task", "all tasks", distinct(points, task)))
            div.choice role="group" aria-label="What lies across" data-selector="across" {
                button type="button" data-value="order" aria-pressed="true" { "In order" }
                button type="button" data-value="time" aria-pressed="false" { "By time" }
            }
        }
    }
}

/// One button per variant: shows or hides it everywhere.
fn legend(variants: &[&str]) -> Markup {
    html! {
        div.series-legend role="group" aria-label="Variants that are shown" {
            @for name in variants {
                @let style = style(name, variants);
                button type="button" class=(style.class()) data-toggle=(name) aria-pressed="true" {
                    svg viewBox="0 0 34 12" width="34" height="12" aria-hidden="true" {
                        line.line x1="1" x2="33" y1="6" y2="6" {}
                        (super::chart::marker(style.marker(), 17.0, 6.0))
                    }
                    (name)
                }
            }
        }
    }
}

/// All values, the newest first.
fn table(points: &[&HistoryPoint], variants: &[&str]) -> Markup {
    html! {
        section #numbers aria-labelledby="numbers-title" {
            h2 #numbers-title { "All values" }
            p.note { "The newest first, as far as the choices above show them. Choose a column to sort by it." }
            div.scroll.tall tabindex="0" role="region" aria-label="All values, sortable" {
                table.sortable.words {
                    caption.unseen { "Every value of every run" }
                    thead { tr {
                        (column("Finished")) (word_column("Run")) (word_column("Commit")) (word_column("Model")) (word_column("Task"))
                        (word_column("Variant")) (word_column("Metric")) (column("Value")) (word_column("Processor"))
                    } }
                    tbody { @for point in points.iter().rev() { (row(point, variants)) } }
                }
            }
        }
    }
}

fn row(point: &HistoryPoint, variants: &[&str]) -> Markup {
    let unit = metrics::unit(&point.metric);
    let word = |text: &str| html! { td.word data-v=(text) { (text) } };
    html! {
        tr data-model=(point.model) data-task=(task(point)) data-series=(point.variant) {
            th scope="row" data-v=(point.finished_at) { (lines::minute(&point.finished_at)) }
            (word(&point.run))
            td.word data-v=[point.commit.as_deref()] { (point.commit.as_deref().map_or("–", lines::short)) }
            (word(&point.model)) (word(task(point)))
            td.word data-v=(point.variant) {
                b class={ "swatch " (style(&point.variant, variants).class()) } { (point.variant) }
            }
            (word(metrics::words(&point.metric)))
            td data-v=[sort_key(point.value)] {
                (unit.text(point.value))
                @if let (Some(low), Some(high)) = (point.low, point.high) {
                    " " span.interval { "[" (unit.text(low)) ", " (unit.text(high)) "]" }
                }
            }
            (word(&point.cpu))
        }
    }
}
