//! What the masks kept: frames that the page's script fills, and the notes that explain them.

use fewron_eval::record::SweepRun;
use maud::{Markup, html};

use super::csv::drawn_by_script;
use super::data;
use super::format::ratio;
use super::series::Series;
use super::story::is_runtime;
use super::tables;

/// The chapter, or nothing when the run recorded no maps and no overlap.
pub(super) fn section(run: &SweepRun, series: &[Series<'_>]) -> Markup {
    let maps = data::has_maps(run);
    if !maps && run.analysis.overlap.is_empty() {
        return html! {};
    }
    html! {
        section #kept aria-labelledby="kept-title" {
            h2 #kept-title { "What was kept" }
            @if maps {
                (selector(run, series))
                noscript { p.note { "These maps are drawn by a script, which is switched off here." } }
                (by_layer(run))
                (neurons(run))
                (heads(run))
            }
            (tables::overlap(run, series))
        }
    }
}

/// One choice for all maps of the chapter.
fn selector(run: &SweepRun, series: &[Series<'_>]) -> Markup {
    let kind = if is_runtime(run) { "Policy" } else { "Metric" };
    html! {
        div.selector role="group" aria-label={ (kind) " of the maps below" } data-selector="metric" {
            span.group-name { (kind) }
            @for (position, name) in data::names(run, series).into_iter().enumerate() {
                button type="button" data-value=(name) aria-pressed=(position == 0) { (name) }
            }
        }
    }
}

pub(super) fn choice(selector: &str, label: &str, options: &[(&str, &str)]) -> Markup {
    html! {
        div.choice role="group" aria-label=(label) data-selector=(selector) {
            @for (position, (value, text)) in options.iter().enumerate() {
                button type="button" data-value=(value) aria-pressed=(position == 0) { (text) }
            }
        }
    }
}

fn by_layer(run: &SweepRun) -> Markup {
    let has = |heads: bool| {
        let kept = |p: &fewron_eval::record::Point| {
            !(if heads { &p.kept_heads } else { &p.kept_mlp }).is_empty()
        };
        run.points.iter().any(kept)
    };
    if !has(false) && !has(true) {
        return html! {};
    }
    let kinds: Vec<(&str, &str)> = [("mlp", "MLP neurons"), ("heads", "Heads")]
        .into_iter()
        .filter(|(kind, _)| has(*kind == "heads"))
        .collect();
    html! {
        figure {
            h3 { "By layer and ratio" }
            div.controls {
                (choice("kind", "Units", &kinds))
                (choice("scale", "Scale", &[("share", "Share kept"), ("relative", "Against the mean")]))
                (drawn_by_script("kept-by-layer"))
            }
            div.map #kept-map {}
            (legend("none", "all"))
            p.note {
                "Share of each layer’s units that ran, averaged over masked tokens. "
                @if run.settings.selection == "layer" {
                    "Units were ranked within each layer, so every layer keeps the same share."
                } @else {
                    "Units were ranked across layers, so layers that matter more keep more."
                }
            }
        }
    }
}

fn neurons(run: &SweepRun) -> Markup {
    let analysis = &run.analysis;
    if analysis.activity.iter().all(|one| one.mlp.is_empty()) {
        return html! {};
    }
    let stride = data::stride(analysis);
    html! {
        figure {
            h3 { "Neuron by neuron at " (ratio(analysis.focus_ratio)) " sparsity" }
            div.controls {
                (choice("order", "Order of neurons", &[("sorted", "Sorted"), ("natural", "Natural order")]))
                (drawn_by_script("neurons"))
            }
            div.activity {
                div.map {
                    canvas #activity-map role="img" tabindex="0" aria-label="How often each MLP neuron was kept, by layer" {}
                }
                div.map #activity-summary {}
            }
            (legend("never", "always"))
            p.note {
                "Each row is a layer, each column an MLP neuron: how often the mask kept it over the \
                 run’s tokens. “Sorted” puts the most frequent of each layer first; natural order \
                 shows the model’s own numbering. Hot neurons are kept at nine tokens in ten."
                @if stride > 1 {
                    " The map draws every " (stride) "th neuron; the shares at the right count all."
                }
            }
        }
    }
}

fn heads(run: &SweepRun) -> Markup {
    if run.analysis.activity.iter().all(|one| one.head_importance.is_empty()) {
        return html! {};
    }
    html! {
        figure {
            div.controls { h3 { "Which heads matter" } (drawn_by_script("heads")) }
            div.map #head-map {}
            (legend("no share", "the layer’s largest share"))
            p.note {
                "Share of a layer’s total absolute head score that each head holds, averaged over "
                "tokens. With " (run.analysis.heads) " heads an even layer would give each "
                (even(run.analysis.heads)) "."
            }
        }
    }
}

fn even(heads: usize) -> String {
    super::format::percent(1.0 / heads.max(1) as f64, 0)
}

pub(super) fn legend(low: &str, high: &str) -> Markup {
    html! {
        div.legend aria-hidden="true" {
            span { (low) }
            span.ramp { @for step in 0..=20 { i class=(format!("q{step}")) {} } }
            span { (high) }
        }
    }
}
