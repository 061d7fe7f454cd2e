//! The numbers behind the curves, and how far the metrics' masks overlap.

use fewron_eval::record::{Interval, Overlap, Point, SweepRun};
use maud::{Markup, html};

use super::csv::Csv;
use super::format::{number, one_decimal, percent, ratio};
use super::names::knows_label;
use super::series::{Series, measured};
use super::story::is_runtime;

/// The sortable table of all points.
pub(super) fn points(run: &SweepRun, series: &[Series<'_>]) -> Markup {
    let kind = if is_runtime(run) { "Policy" } else { "Metric" };
    html! {
        p.note.above { "All points with 95% bootstrap intervals. Choose a column to sort by it." }
        div.scroll.tall tabindex="0" role="region" aria-label="All points, sortable" {
            table #points.sortable {
                caption.unseen { "All points of the run" }
                thead { tr {
                    (column(kind)) (column("Sparsity"))
                    (column("MLP off")) (column("Heads off")) (column("Paper’s")) (column("Bytes"))
                    (column("Agreement, %")) th.plot aria-hidden="true" {} (column("KL, nats")) (column("BLEU"))
                } }
                tbody {
                    @for one in series { @for point in &one.points { (row(one, point)) } }
                }
            }
        }
    }
}

/// Head of a column that sorts.
pub(super) fn column(name: &str) -> Markup {
    html! { th scope="col" aria-sort="none" { button type="button" { (name) } } }
}

/// Head of a column of words that sorts.
pub(super) fn word_column(name: &str) -> Markup {
    html! { th.word scope="col" aria-sort="none" { button type="button" { (name) } } }
}

fn row(one: &Series<'_>, point: &Point) -> Markup {
    let actual = point.actual;
    let share = |share: f32| percent(f64::from(share), 1);
    html! {
        tr data-series=(one.label) {
            th scope="row" data-v=(one.label) { b class={ "swatch s" (one.slot) } { (one.label) } }
            td data-v=(point.ratio) { (ratio(point.ratio)) }
            @for value in [actual.mlp, actual.heads, actual.paper, actual.bytes] {
                td data-v=[sort_key(f64::from(value))] { (share(value)) }
            }
            td data-v=[sort_key(point.agreement.mean)] { (with_interval(point.agreement, |v| percent(v, 1).replace('%', ""))) }
            td.plot aria-hidden="true" { (whisker(point.agreement, one.slot)) }
            td data-v=[sort_key(point.kl.mean)] { (with_interval(point.kl, number)) }
            td data-v=[sort_key(point.bleu.mean)] { (with_interval(point.bleu, one_decimal)) }
        }
    }
}

/// What the table sorts by; a value that is no number has none and goes last.
pub(super) fn sort_key(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn with_interval(interval: Interval, text: impl Fn(f64) -> String) -> Markup {
    html! {
        @if measured(&interval) {
            (text(interval.mean)) " "
            span.interval { "[" (text(interval.low)) ", " (text(interval.high)) "]" }
        } @else { "–" }
    }
}

/// The interval as a small picture on a 0..1 axis.
fn whisker(interval: Interval, slot: usize) -> Markup {
    let x = |share: f64| (share.clamp(0.0, 1.0) * 900.0).round() / 10.0 + 5.0;
    html! {
        @if measured(&interval) {
            svg class={ "whisker s" (slot) } viewBox="0 0 100 14" width="92" height="13" {
                line.rail x1="5" x2="95" y1="7" y2="7" {}
                line.line x1=(x(interval.low)) x2=(x(interval.high)) y1="7" y2="7" {}
                circle.mark cx=(x(interval.mean)) cy="7" r="3.5" {}
            }
        }
    }
}

/// The matrix of mean Jaccard overlaps, or nothing with fewer than two names.
pub(super) fn overlap(run: &SweepRun, series: &[Series<'_>]) -> Markup {
    let names = overlap_names(&run.analysis.overlap, series);
    if names.len() < 2 {
        return html! {};
    }
    html! {
        figure #overlap {
            div.controls { h3 { "How far the masks overlap" } (overlap_csv(&run.analysis.overlap)) }
            p.note {
                "Mean Jaccard index of the kept sets at " (ratio(run.analysis.focus_ratio))
                " sparsity: units kept by both over units kept by either. Two random choices would \
                 share " (percent(chance(run.analysis.focus_ratio), 0)) "."
            }
            div.scroll tabindex="0" role="region" aria-label="Overlap of the masks" {
                table.matrix {
                    caption.unseen { "Mean Jaccard index of each pair of masks" }
                    thead { tr {
                        td {}
                        @for name in &names { th scope="col" { span { (name) } } }
                    } }
                    tbody { @for a in &names {
                        tr {
                            th scope="row" { (name_with_badge(a, run)) }
                            @for b in &names { (overlap_cell(&run.analysis.overlap, a, b)) }
                        }
                    } }
                }
            }
        }
    }
}

fn overlap_csv(overlap: &[Overlap]) -> Markup {
    let mut csv = Csv::new("overlap", &["a", "b", "jaccard"]);
    for pair in overlap {
        csv.row(&[(&pair.a).into(), (&pair.b).into(), pair.jaccard.into()]);
    }
    csv.link()
}

/// Expected overlap of two independent choices that keep the share k: k² / (2k − k²).
fn chance(focus_ratio: f32) -> f64 {
    let keep = (1.0 - f64::from(focus_ratio)).clamp(0.0, 1.0);
    if keep > 0.0 { keep / (2.0 - keep) } else { 0.0 }
}

fn name_with_badge(name: &str, run: &SweepRun) -> Markup {
    html! {
        (name)
        @if !is_runtime(run) && knows_label(name) { sup title="knows the label" { "†" } }
    }
}

fn overlap_names<'a>(overlap: &'a [Overlap], series: &[Series<'_>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in overlap.iter().flat_map(|pair| [pair.a.as_str(), pair.b.as_str()]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let rank = |name: &str| series.iter().position(|one| one.name == name).unwrap_or(usize::MAX);
    names.sort_by_key(|name| rank(name));
    names
}

fn overlap_cell(overlap: &[Overlap], a: &str, b: &str) -> Markup {
    let pair =
        overlap.iter().find(|pair| (pair.a == a && pair.b == b) || (pair.a == b && pair.b == a));
    html! {
        @if a == b { td.self { "·" } }
        @else if let Some(pair) = pair {
            td class=(heat(f64::from(pair.jaccard))) title={ (a) " and " (b) } {
                (format!("{:.2}", pair.jaccard))
            }
        } @else { td { "–" } }
    }
}

/// The heat class of a share: `q0` to `q20`, dark text below `q11`.
pub(super) fn heat(share: f64) -> String {
    format!("q{}", (share.clamp(0.0, 1.0) * 20.0).round())
}
