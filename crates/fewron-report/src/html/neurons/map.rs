//! How often each unit is kept: the map of neurons, and the grid of heads.

use std::collections::BTreeMap;

use fewron_eval::neurons::record::{MaskRecord, NeuronRun};
use fewron_eval::record::Activity;
use maud::{Markup, html};
use serde::Serialize;

use super::super::data::{NeuronMap, neuron_map};
use super::super::format::percent;
use super::super::kept::{choice, legend};
use super::super::tables::heat;
use super::figure::{Data, cell, download, figure};
use super::{Drawn, panels, section as chapter};

/// Most characters that the neuron maps of a page may take together.
const BUDGET: usize = 2_000_000;

/// What the script draws the map of.
#[derive(Serialize)]
pub(super) struct Map<'a> {
    names: Vec<&'a str>,
    activity: BTreeMap<&'a str, NeuronMap>,
    neurons: usize,
    shown: usize,
    stride: usize,
}

/// Every `stride`-th neuron is drawn.
fn stride(run: &NeuronRun) -> usize {
    let maps = run.masks.iter().filter(|mask| !mask.mlp.is_empty()).count();
    (maps * run.layers * run.neurons).div_ceil(BUDGET).max(1)
}

pub(super) fn data(run: &NeuronRun) -> Map<'_> {
    let stride = stride(run);
    let map = |mask: &MaskRecord| {
        let activity =
            Activity { name: String::new(), mlp: mask.mlp.clone(), head_importance: Vec::new() };
        neuron_map(&activity, run.neurons, stride)
    };
    let with_neurons = run.masks.iter().filter(|mask| !mask.mlp.is_empty());
    Map {
        names: run.masks.iter().map(|mask| mask.name.as_str()).collect(),
        activity: with_neurons.map(|mask| (mask.name.as_str(), map(mask))).collect(),
        neurons: run.neurons,
        shown: run.neurons.div_ceil(stride),
        stride,
    }
}

pub(super) fn section(run: &NeuronRun, drawn: &mut Drawn) {
    let has =
        |heads: bool| run.masks.iter().any(|m| !(if heads { &m.heads } else { &m.mlp }).is_empty());
    let content = html! {
        @if has(false) { (neurons(run)) }
        @if has(true) { (heads(run, &mut drawn.tables)) }
    };
    if has(false) || has(true) {
        drawn.sections.push(("kept", "Kept", chapter("kept", "What is kept", &content)));
    }
}

fn neurons(run: &NeuronRun) -> Markup {
    let question = "How often is each neuron kept?";
    let stride = stride(run);
    html! {
        figure #figure-activity {
            div.controls { h3 { (question) } (download("activity", question)) }
            noscript { p.note { "This map is drawn by a script, which is switched off here." } }
            div.controls { (choice("order", "Order of neurons", &[("sorted", "Sorted"), ("natural", "Natural order")])) }
            div.activity {
                div.map {
                    canvas #activity-map role="img" tabindex="0" aria-label="How often each MLP neuron is kept, by layer" {}
                }
                div.map #activity-summary {}
            }
            (legend("never", "always"))
            p.note {
                "A row is a layer, a column an MLP neuron. “Sorted” puts the most frequent of each layer \
                 first; natural order shows the model’s own numbering. Hot neurons are kept at nine tokens \
                 in ten. The map has 64 steps; neurons.parquet has exact counts."
                @if stride > 1 { " It draws every " (stride) "th neuron; the shares at the right count all." }
            }
        }
    }
}

fn heads(run: &NeuronRun, tables: &mut Vec<Data>) -> Markup {
    let mut data = Data::new("heads", &["mask", "layer", "head", "kept"]);
    for mask in &run.masks {
        for (layer, heads) in mask.heads.iter().enumerate() {
            for (head, kept) in heads.iter().enumerate() {
                let share = cell(Some(f64::from(*kept) / 255.0));
                data.push(vec![mask.name.as_str().into(), layer.into(), head.into(), share]);
            }
        }
    }
    let grid = panels(run, |mask| {
        html! {
            @if mask.heads.is_empty() { p.missing { (mask.name) " leaves heads alone." } }
            @else { (head_grid(mask)) }
        }
    });
    let note = "A row is a head, a column a layer: percent of tokens at which the head is kept.";
    let drawn = figure("How often is each head kept?", &data, false, &grid, note);
    tables.push(data);
    drawn
}

fn head_grid(mask: &MaskRecord) -> Markup {
    let heads = mask.heads.iter().map(Vec::len).max().unwrap_or(0);
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "How often " (mask.name) " keeps each head, percent" } {
            table.matrix.dense {
                caption.unseen { "How often each head is kept, percent, by " (mask.name) }
                thead { tr { td {} @for layer in 0..mask.heads.len() { th scope="col" { (layer) } } } }
                tbody { @for head in 0..heads {
                    tr {
                        th scope="row" { "head " (head) }
                        @for (layer, kept) in mask.heads.iter().enumerate() {
                            @let share = f64::from(kept[head]) / 255.0;
                            td class=(heat(share)) title={ "layer " (layer) ", head " (head) ": " (percent(share, 1)) } {
                                (format!("{:.0}", share * 100.0))
                            }
                        }
                    }
                } }
            }
        }
    }
}
