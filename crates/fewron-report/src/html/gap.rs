//! How far agreement and KL part: what a mask that knows the answer hides.

use fewron_eval::record::{Point, SweepRun};
use maud::{Markup, html};

use super::chart::{Chart, LABELLED, NARROW, Quantity};
use super::csv::Csv;
use super::format::{number, percent, percent_short, ratio};
use super::names::{knows_label, words};
use super::series::{Series, measured};
use super::story::{Finding, is_runtime};
use super::sweep::{csv, legend};

const WIDTH: f64 = 440.0;
const ROW: f64 = 30.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = WIDTH - 22.0;
const TOP: f64 = 30.0;

/// The section, or nothing when no point was measured; `both_runs` are the series of the run and of one by
/// the other protocol.
pub(super) fn section(
    run: &SweepRun,
    series: &[Series<'_>],
    both_runs: &[Series<'_>],
    finding: Option<&Finding<'_>>,
) -> Markup {
    let runtime = is_runtime(run);
    let Some(finding) = finding else { return html! {} };
    let best = best_series(series, finding, runtime);
    let Some(point) = best.at(finding.hero.ratio).filter(|point| both(point)) else {
        return html! {};
    };
    let other = contrast(series, best, point);
    html! {
        section #gap aria-labelledby="gap-title" {
            h2 #gap-title {
                @if runtime { "Masks that never saw the answer" } @else { "What knowing the answer hides" }
            }
            div.prose {
                @if runtime { (runtime_text(best, point)) } @else { (oracle_text(best, point, other)) }
            }
            @if !both_runs.is_empty() { (both_protocols(both_runs)) }
            div.pair {
                (dumbbells(best))
                @if let Some(other) = other { (dumbbells(other)) }
            }
            p.note {
                "exp(−KL) is the geometric mean, over what the dense model would say, of the \
                 probability that the sparse model gives it relative to the dense model: 100% means \
                 the same distribution."
            }
        }
    }
}

/// The curves of an oracle and a runtime run in one figure: what lies between them is the oracle gap.
fn both_protocols(series: &[Series<'_>]) -> Markup {
    let chart =
        |quantity, frame, class: &str| Chart::new(series, quantity, frame).render(class, None);
    html! {
        figure.plot #oracle-gap {
            div.controls {
                h3 { "The oracle gap" span.muted { " agreement of masks that know the answer, and of masks that do not" } }
                (csv(series, Quantity::Agreement, "oracle-gap-agreement"))
            }
            (legend(series))
            (chart(Quantity::Agreement, LABELLED, "wide"))
            (chart(Quantity::Agreement, NARROW, "narrow"))
            p.note {
                "Two runs over the same questions. What lies between the curves of the two protocols is \
                 what a mask gains by knowing the answer."
            }
        }
        figure.plot {
            div.controls {
                h3 { "The same by KL" span.muted { " from the dense model, nats, log axis" } }
                (csv(series, Quantity::Kl, "oracle-gap-kl"))
            }
            (chart(Quantity::KlLog, LABELLED, "wide"))
            (chart(Quantity::KlLog, NARROW, "narrow"))
        }
    }
}

/// The series of the headline; under the oracle the best that knows the label, if any.
fn best_series<'s, 'a>(
    series: &'s [Series<'a>],
    finding: &Finding<'_>,
    runtime: bool,
) -> &'s Series<'a> {
    let hero = &series[finding.series];
    if runtime || knows_label(hero.name) {
        return hero;
    }
    series.iter().find(|one| knows_label(one.name)).unwrap_or(hero)
}

/// Another series at the same ratio, of the other kind if there is one: magnitude first.
fn contrast<'s, 'a>(
    series: &'s [Series<'a>],
    best: &Series<'_>,
    point: &Point,
) -> Option<&'s Series<'a>> {
    let others = || {
        series.iter().filter(|one| one.label != best.label && one.at(point.ratio).is_some_and(both))
    };
    let free = |one: &&Series<'_>| knows_label(one.name) != knows_label(best.name);
    others().find(|one| one.name == "magnitude").or_else(|| others().find(free)).or(others().next())
}

fn both(point: &Point) -> bool {
    measured(&point.agreement) && measured(&point.kl)
}

/// exp(−KL), 0..1.
fn likeness(point: &Point) -> f64 {
    (-point.kl.mean).exp().clamp(0.0, 1.0)
}

fn oracle_text(best: &Series<'_>, point: &Point, other: Option<&Series<'_>>) -> Markup {
    html! {
        p {
            "This is the " strong { "oracle" } " protocol. The masks come from a backward pass whose \
             loss is the very token that the dense model is about to say. Borderline neurons are \
             picked by the sign that favours that token, so it stays on top while the rest of the \
             distribution drifts. Agreement hides the drift; KL shows it."
        }
        p { (numbers(best, point)) @if let Some(other) = other { " " (against(best, point, other)) } }
        p {
            "A server has neither the label nor the backward pass. Read these curves as what some \
             choice of neurons can do, not as what masks made at run time will do; "
            code { "--protocol runtime" } " measures those."
        }
    }
}

fn runtime_text(best: &Series<'_>, point: &Point) -> Markup {
    html! {
        p {
            "This is the " strong { "runtime" } " protocol. The masks saw what a server sees: no \
             label, no backward pass. No neuron was picked because it favours the right token, so a \
             loss in the distribution shows in the tokens too, and these figures are what a \
             deployment gets."
        }
        p { (numbers(best, point)) }
        p {
            "Masks of the " code { "--protocol oracle" } " know the answer and agree far more often \
             at the same sparsity. Never hold one protocol’s figures against the other’s without \
             saying which is which."
        }
    }
}

fn numbers(best: &Series<'_>, point: &Point) -> Markup {
    html! {
        "At " (ratio(point.ratio)) " sparsity " (words(best.name)) " agrees with the dense model on "
        strong { (percent_short(point.agreement.mean)) } " of the tokens at a KL of "
        strong { (number(point.kl.mean)) " nats" } ": what the dense model would say gets "
        strong { (percent_short(likeness(point))) } " of the probability that it had."
    }
}

fn against(best: &Series<'_>, point: &Point, other: &Series<'_>) -> Markup {
    let Some(rival) = other.at(point.ratio) else { return html! {} };
    let agreement = (point.agreement.mean - rival.agreement.mean) * 100.0;
    let likeness = (likeness(point) - likeness(rival)) * 100.0;
    let never = !knows_label(other.name) && knows_label(best.name);
    html! {
        "Against " (words(other.name)) @if never { ", which never sees the label," } " at the same \
         sparsity, the lead is " strong { (signed(agreement)) " points" } " by agreement and "
        strong { (signed(likeness)) " points" } " by exp(−KL)."
    }
}

fn signed(value: f64) -> String {
    if value < 0.0 { format!("−{:.0}", -value) } else { format!("{value:.0}") }
}

/// One row per ratio: agreement and exp(−KL), joined by their distance.
fn dumbbells(series: &Series<'_>) -> Markup {
    let points: Vec<&Point> = series.points.iter().copied().filter(|point| both(point)).collect();
    let height = TOP + ROW * points.len() as f64 + 26.0;
    let label = if knows_label(series.name) { "sees the label" } else { "never sees the label" };
    html! {
        figure {
            figcaption.controls {
                span { b class={ "swatch s" (series.slot) } { (series.label) } " " span.muted { (label) } }
                (dumbbell_csv(series, &points))
            }
            svg class={ "chart dumbbell s" (series.slot) } viewBox=(format!("0 0 {WIDTH} {height}"))
                role="img" aria-label=(summary(series, &points)) {
                title { "Agreement and exp(−KL) of " (series.label) " by nominal sparsity" }
                @for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
                    line.gridline x1=(x(share)) x2=(x(share)) y1=(TOP - 8.0) y2=(height - 24.0) {}
                    text.tick x=(x(share)) y=(height - 8.0) text-anchor="middle" { (percent(share, 0)) }
                }
                circle.mark cx=(LEFT + 5.0) cy="8" r="4.5" {}
                text.tick x=(LEFT + 15.0) y="12" { "agreement" }
                circle.mark.open cx=(LEFT + 95.0) cy="8" r="4.5" {}
                text.tick x=(LEFT + 105.0) y="12" { "exp(−KL)" }
                @for (row, point) in points.iter().enumerate() { (one_row(row, point)) }
            }
        }
    }
}

fn dumbbell_csv(series: &Series<'_>, points: &[&Point]) -> Markup {
    let name = format!("{}-agreement-and-likeness", series.label);
    let mut csv = Csv::new(&name, &["ratio", "agreement", "exp(-kl)", "kl"]);
    for point in points {
        let (agreement, kl) = (point.agreement.mean, point.kl.mean);
        csv.row(&[point.ratio.into(), agreement.into(), likeness(point).into(), kl.into()]);
    }
    csv.link()
}

fn one_row(row: usize, point: &Point) -> Markup {
    let y = TOP + ROW * (row as f64 + 0.5);
    let (agreement, likeness) = (point.agreement.mean, likeness(point));
    let (low, high) = (agreement.min(likeness), agreement.max(likeness));
    let text = |share: f64| percent(share, 0);
    html! {
        g.row {
            title {
                (ratio(point.ratio)) ": agreement " (percent(agreement, 1)) ", exp(−KL) "
                (percent(likeness, 1)) ", KL " (number(point.kl.mean)) " nats"
            }
            text.tick x=(LEFT - 12.0) y=(y + 4.0) text-anchor="end" { (ratio(point.ratio)) }
            line.span x1=(x(low)) x2=(x(high)) y1=(y) y2=(y) {}
            circle.mark.open cx=(x(likeness)) cy=(y) r="4.5" {}
            circle.mark cx=(x(agreement)) cy=(y) r="4.5" {}
            @if high - low > 0.04 && low > 0.12 {
                text.value x=(x(low) - 10.0) y=(y + 4.0) text-anchor="end" { (text(low)) }
            } @else if high - low > 0.3 {
                text.value x=(x(low) + 10.0) y=(y + 4.0) { (text(low)) }
            }
            @if high < 0.9 { text.value x=(x(high) + 10.0) y=(y + 4.0) { (text(high)) } }
        }
    }
}

fn x(share: f64) -> f64 {
    ((LEFT + share * (RIGHT - LEFT)) * 10.0).round() / 10.0
}

fn summary(series: &Series<'_>, points: &[&Point]) -> String {
    let mut text = format!("Agreement and exp(−KL) of {}.", series.label);
    for point in points {
        text.push_str(&format!(
            " At {}: {} and {}.",
            ratio(point.ratio),
            percent(point.agreement.mean, 1),
            percent(likeness(point), 1)
        ));
    }
    text
}
