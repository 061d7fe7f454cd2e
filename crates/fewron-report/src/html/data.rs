//! The numbers that the page's script draws and explains, as JSON.

use std::collections::BTreeMap;

use fewron_eval::record::{Activity, Analysis, Interval, SweepRun};
use serde::Serialize;

use super::series::Series;

/// Most characters that the neuron maps of a page may take together.
const ACTIVITY_BUDGET: usize = 2_000_000;

/// One character per neuron, 64 levels of how often it was kept.
const LEVELS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Smallest frequency of a *hot* neuron, of 255: nine tokens in ten.
const HOT: u8 = 230;

#[derive(Serialize)]
struct Page<'a> {
    series: Vec<PageSeries<'a>>,
    names: Vec<&'a str>,
    kept: BTreeMap<&'a str, BTreeMap<&'a str, Vec<KeptRow>>>,
    activity: BTreeMap<&'a str, NeuronMap>,
    heads: BTreeMap<&'a str, Vec<Vec<f64>>>,
    neurons: usize,
    shown: usize,
    stride: usize,
}

#[derive(Serialize)]
struct PageSeries<'a> {
    label: &'a str,
    slot: usize,
    points: Vec<PagePoint>,
}

#[derive(Serialize)]
struct PagePoint {
    ratio: f64,
    agreement: [f64; 3],
    bleu: [f64; 3],
    kl: [f64; 3],
}

#[derive(Serialize)]
struct KeptRow {
    ratio: f64,
    layers: Vec<f64>,
}

#[derive(Serialize)]
pub(super) struct NeuronMap {
    /// `[layers][shown]`, one of [`LEVELS`] each.
    map: String,
    /// Per layer: share of neurons never kept, always kept, hot; mean frequency.
    layers: Vec<[f64; 4]>,
}

/// Whether the page has anything to draw beside the curves.
pub(super) fn has_maps(run: &SweepRun) -> bool {
    run.points.iter().any(|point| !point.kept_mlp.is_empty() || !point.kept_heads.is_empty())
        || run.analysis.activity.iter().any(|one| !one.mlp.is_empty())
        || run.analysis.activity.iter().any(|one| !one.head_importance.is_empty())
}

/// Every `stride`-th neuron of a layer is drawn, so that the page stays a few megabytes.
pub(super) fn stride(analysis: &Analysis) -> usize {
    let maps = analysis.activity.iter().filter(|one| !one.mlp.is_empty()).count();
    let total = maps * analysis.layers.max(1) * widest(analysis);
    total.div_ceil(ACTIVITY_BUDGET).max(1)
}

/// Names that have maps: the series in order, then whatever else the analysis holds.
pub(super) fn names<'a>(run: &'a SweepRun, series: &'a [Series<'a>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let recorded = run.analysis.activity.iter().map(|one| one.name.as_str());
    for name in series.iter().map(|one| one.name).chain(recorded) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The data block, safe inside a `script` element; `both` are the series of the figure of two runs.
pub(super) fn json(run: &SweepRun, series: &[Series<'_>], both: &[Series<'_>]) -> String {
    let stride = stride(&run.analysis);
    let recorded = &run.analysis.activity;
    let page = Page {
        series: series.iter().chain(both).map(page_series).collect(),
        names: names(run, series),
        kept: kept(series),
        activity: recorded
            .iter()
            .filter(|one| !one.mlp.is_empty())
            .map(|one| (one.name.as_str(), neuron_map(one, widest(&run.analysis), stride)))
            .collect(),
        heads: recorded
            .iter()
            .filter(|one| !one.head_importance.is_empty())
            .map(|one| (one.name.as_str(), rounded_rows(&one.head_importance)))
            .collect(),
        neurons: widest(&run.analysis),
        shown: widest(&run.analysis).div_ceil(stride),
        stride,
    };
    super::page::json(&page)
}

fn page_series<'a>(one: &'a Series<'_>) -> PageSeries<'a> {
    let points = one.points.iter().map(|point| PagePoint {
        ratio: round(f64::from(point.ratio)),
        agreement: triple(point.agreement),
        bleu: triple(point.bleu),
        kl: triple(point.kl),
    });
    PageSeries { label: &one.label, slot: one.slot, points: points.collect() }
}

fn triple(interval: Interval) -> [f64; 3] {
    [round(interval.mean), round(interval.low), round(interval.high)]
}

fn kept<'a>(series: &[Series<'a>]) -> BTreeMap<&'a str, BTreeMap<&'a str, Vec<KeptRow>>> {
    let mut kept: BTreeMap<&str, BTreeMap<&str, Vec<KeptRow>>> = BTreeMap::new();
    for one in series {
        for point in &one.points {
            for (kind, layers) in [("mlp", &point.kept_mlp), ("heads", &point.kept_heads)] {
                if !layers.is_empty() {
                    let layers = layers.iter().map(|share| round(f64::from(*share))).collect();
                    let row = KeptRow { ratio: round(f64::from(point.ratio)), layers };
                    kept.entry(one.name).or_default().entry(kind).or_default().push(row);
                }
            }
        }
    }
    kept
}

fn widest(analysis: &Analysis) -> usize {
    analysis.activity.iter().flat_map(|one| &one.mlp).map(Vec::len).max().unwrap_or(0)
}

/// The map of one metric or policy: every `stride`-th of `width` neurons.
pub(super) fn neuron_map(one: &Activity, width: usize, stride: usize) -> NeuronMap {
    let mut map = String::with_capacity(one.mlp.len() * width.div_ceil(stride));
    for layer in &one.mlp {
        for neuron in (0..width).step_by(stride) {
            map.push(level(layer.get(neuron).copied().unwrap_or(0)));
        }
    }
    NeuronMap { map, layers: one.mlp.iter().map(|layer| summary(layer)).collect() }
}

/// 64 levels of which the first means never and the last always.
fn level(frequency: u8) -> char {
    let level = match frequency {
        0 => 0,
        255 => 63,
        between => 1 + (usize::from(between) - 1) * 61 / 253,
    };
    char::from(LEVELS[level])
}

fn summary(layer: &[u8]) -> [f64; 4] {
    let neurons = layer.len().max(1) as f64;
    let share = |keep: fn(u8) -> bool| layer.iter().filter(|f| keep(**f)).count() as f64 / neurons;
    let mean = layer.iter().map(|frequency| f64::from(*frequency)).sum::<f64>() / neurons / 255.0;
    [share(|f| f == 0), share(|f| f == 255), share(|f| f >= HOT), mean].map(round)
}

fn rounded_rows(rows: &[Vec<f32>]) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().map(|share| round(f64::from(*share))).collect()).collect()
}

/// Four decimals are more than the page shows. JSON has no NaN: the script reads `null`.
pub(super) fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_keep_never_and_always_apart() {
        assert_eq!((level(0), level(255)), ('A', '/'));
        assert_eq!((level(1), level(254)), ('B', '+'));
        assert!((0..255).all(|f| LEVELS.iter().position(|l| char::from(*l) == level(f))
            <= LEVELS.iter().position(|l| char::from(*l) == level(f + 1))));
    }

    #[test]
    fn large_models_are_thinned_and_summaries_are_not() {
        let one = Activity {
            name: "gate".to_owned(),
            mlp: vec![vec![0, 255, 230, 100, 255]; 2],
            head_importance: Vec::new(),
        };
        let map = neuron_map(&one, 5, 2);
        assert_eq!(map.map.len(), 6);
        assert_eq!(map.layers[0], [0.2, 0.4, 0.6, 0.6588]);
        let wide = Activity { mlp: vec![vec![1; 10_240]; 32], ..one };
        let analysis = Analysis {
            layers: 32,
            neurons: 10_240,
            activity: vec![wide; 9],
            ..Analysis::default()
        };
        assert_eq!(stride(&analysis), 2);
    }
}
