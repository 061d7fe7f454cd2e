//! What differs from layer to layer: extremes, stability, attribution, overlap of masks.

use fewron_eval::neurons::record::{Kind, LayerRecord, MaskRecord, NeuronRun, Overlap};
use maud::{Markup, html};

use super::super::series::SLOTS;
use super::figure::{Data, cell, figure};
use super::lines::{Line, Lines};
use super::{Drawn, of_kind, panels, section, units, width};

pub(super) fn sections(run: &NeuronRun, drawn: &mut Drawn) {
    let has = |kind: Kind| run.masks.iter().any(|mask| of_kind(mask, kind).next().is_some());
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| has(*kind)).collect();
    let layers = html! {
        @if kinds.contains(&Kind::Mlp) { (extremes(run, drawn)) }
        (attribution(run, drawn))
    };
    drawn.sections.push(("layers", "Layers", section("layers", "Layer by layer", &layers)));
    let tokens = html! {
        @for kind in &kinds { (stability(run, *kind, drawn)) }
        @for kind in &kinds { (overlap(run, *kind, drawn)) }
    };
    drawn.sections.push((
        "tokens",
        "Overlap",
        section("tokens", "From token to token, and between masks", &tokens),
    ));
}

/// A mask's style.
fn slot(position: usize) -> usize {
    position % SLOTS
}

/// A line for each mask that has layers of a kind.
fn by_mask(run: &NeuronRun, kind: Kind, value: impl Fn(&LayerRecord) -> Option<f64>) -> Vec<Line> {
    let line = |(position, mask): (usize, &MaskRecord)| Line {
        label: mask.name.clone(),
        slot: slot(position),
        values: of_kind(mask, kind).map(&value).collect(),
    };
    let lines = run.masks.iter().enumerate().map(line);
    lines.filter(|line| line.values.iter().any(Option::is_some)).collect()
}

/// A chart of lines; its lines go to the script.
fn chart(id: &str, title: &str, lines: Vec<Line>, half: bool, drawn: &mut Drawn) -> Markup {
    let chart = Lines { id, title, lines: &lines };
    let markup = if half { chart.half() } else { chart.wide() };
    drawn.lines.push((id.to_owned(), lines));
    markup
}

fn extremes(run: &NeuronRun, drawn: &mut Drawn) -> Markup {
    let neurons = width(run, Kind::Mlp).max(1) as f64;
    let mut data = Data::new("extremes", &["mask", "layer", "never kept", "hot", "neurons"]);
    for mask in &run.masks {
        for layer in of_kind(mask, Kind::Mlp) {
            let numbers = [layer.layer, layer.dead, layer.hot, run.neurons].map(Into::into);
            data.push([vec![mask.name.as_str().into()], numbers.to_vec()].concat());
        }
    }
    let share = |of: fn(&LayerRecord) -> usize| {
        by_mask(run, Kind::Mlp, |layer| Some(of(layer) as f64 / neurons))
    };
    let (dead, hot) = (share(|layer| layer.dead), share(|layer| layer.hot));
    let picture = html! {
        div.pair {
            div { h4 { "Never kept" } (chart("dead", "Share of a layer’s neurons that are never kept", dead, true, drawn)) }
            div { h4 { "Hot: kept at nine tokens in ten" } (chart("hot", "Share of a layer’s neurons that are kept at nine tokens in ten", hot, true, drawn)) }
        }
    };
    let note = "Shares of the MLP neurons of a layer. With more tokens fewer neurons stay unkept.";
    let question = "Which layers have neurons that never, or nearly always, run?";
    let figure = figure(question, &data, true, &picture, note);
    drawn.tables.push(data);
    figure
}

fn attribution(run: &NeuronRun, drawn: &mut Drawn) -> Markup {
    let columns = ["mask", "kind", "layer", "share", "sum of |score|", "sum of score"];
    let mut data = Data::new("attribution", &columns);
    for mask in &run.masks {
        for layer in &mask.layers {
            let Some(score) = layer.score else { continue };
            data.push(vec![
                mask.name.as_str().into(),
                layer.kind.name().into(),
                layer.layer.into(),
                cell(Some(score.share)),
                cell(Some(score.absolute)),
                cell(Some(score.signed)),
            ]);
        }
    }
    let mut lines = Vec::new();
    for kind in Kind::ALL {
        let of_kind = by_mask(run, kind, |layer| Some(layer.score?.share));
        let label = |line: Line| match kind {
            Kind::Mlp => line,
            Kind::Head => {
                Line { label: format!("{}, heads", line.label), slot: slot(line.slot + 4), ..line }
            }
        };
        lines.extend(of_kind.into_iter().map(label));
    }
    if lines.is_empty() {
        return html! {};
    }
    let title = "Share of the attribution that each layer holds";
    let picture = chart("attribution", title, lines, false, drawn);
    let note = "A layer’s share of the sum of |score| over all layers and kinds that were scored, over all \
                tokens. Sums are means over tokens; the signed sum tells whether the layer’s units pull \
                together.";
    let figure = figure("Where does the attribution lie?", &data, true, &picture, note);
    drawn.tables.push(data);
    figure
}

fn stability(run: &NeuronRun, kind: Kind, drawn: &mut Drawn) -> Markup {
    let id = match kind {
        Kind::Mlp => "stability",
        Kind::Head => "stability-heads",
    };
    let columns = ["mask", "layer", "next token", "other answer", "chance", "pairs"];
    let mut data = Data::new(id, &columns);
    for mask in &run.masks {
        for layer in of_kind(mask, kind) {
            data.push(vec![
                mask.name.as_str().into(),
                layer.layer.into(),
                cell(layer.stability.jaccard),
                cell(layer.between.jaccard),
                cell(layer.stability.chance),
                layer.stability.pairs.into(),
            ]);
        }
    }
    let charts: Vec<Markup> = run
        .masks
        .iter()
        .map(|mask| {
            let line = |label: &str, slot: usize, value: fn(&LayerRecord) -> Option<f64>| Line {
                label: label.to_owned(),
                slot,
                values: of_kind(mask, kind).map(value).collect(),
            };
            let lines = vec![
                line("next token", 0, |layer| layer.stability.jaccard),
                line("other answer", 1, |layer| layer.between.jaccard),
                line("chance", 8, |layer| layer.stability.chance),
            ];
            let title = format!("Overlap of kept {} by layer, {}", units(kind), mask.name);
            chart(&format!("{id}-{}", mask.name), &title, lines, false, drawn)
        })
        .collect();
    let picture = panels(run, |mask| {
        let position = run.masks.iter().position(|other| other.name == mask.name);
        html! { @if let Some(position) = position { (charts[position]) } }
    });
    let question = match kind {
        Kind::Mlp => "Do neighbouring tokens keep the same neurons?",
        Kind::Head => "Do neighbouring tokens keep the same heads?",
    };
    let note = "Jaccard index of two kept sets: units in both over units in either. “Next token”: \
                neighbours of one answer; “other answer”: the same step of two answers, which share what is \
                kept anyway; “chance”: two random sets of these sizes.";
    let figure = figure(question, &data, true, &picture, note);
    drawn.tables.push(data);
    figure
}

fn overlap(run: &NeuronRun, kind: Kind, drawn: &mut Drawn) -> Markup {
    let pairs: Vec<_> = run.overlap.iter().filter(|pair| pair.kind == kind).collect();
    let Some(first) = pairs.first() else { return html! {} };
    let id = match kind {
        Kind::Mlp => "overlap",
        Kind::Head => "overlap-heads",
    };
    let mut data = Data::new(id, &["one mask", "other mask", "layer", "Jaccard", "chance"]);
    for pair in &pairs {
        for (layer, Overlap { jaccard, chance, .. }) in pair.layers.iter().enumerate() {
            let names = [pair.a.as_str().into(), pair.b.as_str().into()];
            data.push([names.to_vec(), vec![layer.into(), cell(*jaccard), cell(*chance)]].concat());
        }
    }
    let mut lines: Vec<Line> = pairs
        .iter()
        .enumerate()
        .map(|(position, pair)| Line {
            label: format!("{} – {}", pair.a, pair.b),
            slot: slot(position),
            values: pair.layers.iter().map(|overlap| overlap.jaccard).collect(),
        })
        .collect();
    let chance = first.layers.iter().map(|overlap| overlap.chance).collect();
    lines.push(Line { label: "chance".to_owned(), slot: SLOTS - 1, values: chance });
    let title = format!("Overlap of the {} that two masks keep, by layer", units(kind));
    let picture = chart(id, &title, lines, false, drawn);
    let question = match kind {
        Kind::Mlp => "Do the masks keep the same neurons?",
        Kind::Head => "Do the masks keep the same heads?",
    };
    let note = "Jaccard index of the sets that two masks keep at the same token. Metrics know the label, \
                policies do not: their overlap says how much of the metric’s choice a running model finds.";
    let figure = figure(question, &data, true, &picture, note);
    drawn.tables.push(data);
    figure
}
