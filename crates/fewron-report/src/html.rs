//! Reports: one HTML file each that needs no network, in the reader's light or dark theme, readable on a phone
//! and on paper.

mod about;
mod answers;
mod chart;
mod data;
mod format;
mod gap;
mod kept;
mod names;
mod neurons;
mod page;
mod scale;
mod series;
mod story;
mod tables;

pub use neurons::render as render_neurons;

use fewron_eval::record::SweepRun;
use maud::{Markup, html};

use chart::{Chart, HALF, NARROW, Quantity, WIDE};
use series::Series;
use story::Finding;

/// Renders `run` as a self-contained page, with the curves of the run `beside` it, of the other
/// protocol, where there is one. Text from the run is escaped; scripts and styles are allowed by their
/// hash alone, and nothing is fetched.
pub fn render(run: &SweepRun, beside: Option<&SweepRun>) -> String {
    let series = series::group(run);
    let both = beside.map_or_else(Vec::new, |beside| series::group_both(run, beside));
    let finding = story::find(&series, story::is_runtime(run));
    let measured = !run.points.is_empty();
    let links = [
        ("#curves", "Curves", measured),
        ("#gap", "Gap", measured),
        ("#kept", "Kept", data::has_maps(run)),
        ("#answers", "Answers", !run.examples.is_empty()),
        ("#about", "Method", true),
    ];
    let body = html! {
        (page::header(&links))
        main #top {
            (hero(run, &series, finding.as_ref()))
            @if !series.is_empty() { (curves(run, &series, finding.as_ref())) }
            (gap::section(run, &series, &both, finding.as_ref()))
            (kept::section(run, &series))
            (answers::section(&run.examples, &series))
            (about::section(run, &series))
        }
        (page::footer(&run.settings.version))
    };
    let title = format!("{}: {} sweep · fewron", run.model.name, run.protocol);
    let data = data::json(run, &series, &both);
    page::document(&title, &body, &data, page::Extra::default()).into_string()
}

fn hero(run: &SweepRun, series: &[Series<'_>], finding: Option<&Finding<'_>>) -> Markup {
    html! {
        section.hero {
            p.eyebrow { (run.model.name) " · " (story::plural(run.data.samples, "question")) " · " (run.protocol) " protocol" }
            h1 { (story::headline(finding, story::is_runtime(run))) }
            p.lede { (story::subject(run, series, &series::ratios(series))) }
            @if let Some(finding) = finding { (figures(finding)) }
        }
    }
}

/// The numbers of the headline, large.
fn figures(finding: &Finding<'_>) -> Markup {
    let point = finding.hero;
    let agreement = point.agreement;
    let interval = |low: &str, high: &str| format!("95% interval {low} – {high}");
    let percent = |share: f64| format::percent(share, 1);
    html! {
        dl.figures {
            div {
                dt { "Tokens kept" } dd { (format::percent_short(agreement.mean)) }
                dd.small { (interval(&percent(agreement.low), &percent(agreement.high))) }
            }
            div {
                dt { "Sparsity" } dd { (format::ratio(point.ratio)) }
                dd.small { (percent(f64::from(point.actual.bytes))) " of the layers’ bytes skipped" }
            }
            div {
                dt { "BLEU" } dd { (format::one_decimal(point.bleu.mean)) }
                dd.small { (interval(&format::one_decimal(point.bleu.low), &format::one_decimal(point.bleu.high))) }
            }
            div {
                dt { "KL, nats" } dd { (format::number(point.kl.mean)) }
                dd.small { (interval(&format::number(point.kl.low), &format::number(point.kl.high))) }
            }
        }
        p.note { "All at the point of the headline: " b { (point.name()) } " at " (format::ratio(point.ratio)) " nominal sparsity." }
    }
}

fn curves(run: &SweepRun, series: &[Series<'_>], finding: Option<&Finding<'_>>) -> Markup {
    let chart =
        |quantity, frame, class: &str| Chart::new(series, quantity, frame).render(class, finding);
    html! {
        section #curves aria-labelledby="curves-title" {
            h2 #curves-title { "Accuracy against sparsity" }
            (legend(series))
            figure.plot {
                h3 { "Agreement" span.muted { " share of tokens that stay the dense model’s" } }
                (chart(Quantity::Agreement, WIDE, "wide"))
                (chart(Quantity::Agreement, NARROW, "narrow"))
                p.note { (reading(series)) }
            }
            div.pair {
                figure.plot {
                    div.controls { h3 { "BLEU" span.muted { " of the free-running text, 0 to 100" } } }
                    (chart(Quantity::Bleu, HALF, "wide"))
                    (chart(Quantity::Bleu, NARROW, "narrow"))
                }
                figure.plot #kl {
                    div.controls {
                        h3 { "KL" span.muted { " from the dense model, nats" } }
                        div.choice role="group" aria-label="KL axis" data-selector="axis" {
                            button type="button" data-value="log" aria-pressed="true" { "Log" }
                            button type="button" data-value="linear" aria-pressed="false" { "Linear" }
                        }
                    }
                    @for (quantity, axis) in [(Quantity::KlLog, "log"), (Quantity::Kl, "linear")] {
                        div data-axis=(axis) hidden[axis == "linear"] {
                            (chart(quantity, HALF, "wide"))
                            (chart(quantity, NARROW, "narrow"))
                        }
                    }
                }
            }
            (tables::points(run, series))
        }
    }
}

/// How to read the charts, and which lines hide others.
fn reading(series: &[Series<'_>]) -> String {
    let mut text = String::from(
        "Bands are 95% bootstrap intervals; the ring is the point of the headline; the dotted line \
         is 95%, the paper’s mark of less than 5% loss.",
    );
    for (index, one) in series.iter().enumerate() {
        for other in series[index + 1..].iter().filter(|other| one.coincides(other)) {
            text.push_str(&format!(" {} and {} coincide at every point.", one.label, other.label));
        }
    }
    text
}

/// One button per series: shows or hides it in all charts.
fn legend(series: &[Series<'_>]) -> Markup {
    html! {
        div.series-legend role="group" aria-label="Shown in the charts" {
            @for one in series {
                button type="button" class={ "s" (one.slot) } data-toggle=(one.label) aria-pressed="true" {
                    svg viewBox="0 0 34 12" width="34" height="12" aria-hidden="true" {
                        line.line x1="1" x2="33" y1="6" y2="6" {}
                        (chart::marker(one.slot, 17.0, 6.0))
                    }
                    (one.label)
                }
            }
        }
    }
}
