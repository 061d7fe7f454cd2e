//! From scores to the units that stay on.

use crate::attribution::Scores;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Among which units a sparsity ratio is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// The best of each layer: the same share everywhere.
    Layer,
    /// One budget across layers: the best of all layers together.
    Global,
    /// A threshold for each layer, set so that the ratio holds over the whole answer: tokens that
    /// need more get more.
    Threshold,
}

/// A name that no selection has.
#[derive(Debug, Error)]
#[error("no selection {0:?}; there are layer, global, threshold")]
pub struct UnknownSelection(String);

impl Selection {
    /// The name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Selection::Layer => "layer",
            Selection::Global => "global",
            Selection::Threshold => "threshold",
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Selection {
    type Err = UnknownSelection;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Selection::Layer, Selection::Global, Selection::Threshold]
            .into_iter()
            .find(|selection| selection.name() == name)
            .ok_or_else(|| UnknownSelection(name.into()))
    }
}

/// The units that stay on for one token: per layer ascending indices; no layers stands for all on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// MLP neurons.
    pub neurons: Vec<Vec<u32>>,
    /// Heads.
    pub heads: Vec<Vec<u32>>,
}

impl Kept {
    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        self.neurons.iter().chain(&self.heads).map(|list| size_of_val(&list[..])).sum()
    }
}

/// How many of `units` stay on at sparsity `ratio`: `units` − round(`ratio` · `units`).
pub fn kept_count(units: usize, ratio: f32) -> usize {
    units - ((ratio as f64 * units as f64).round() as usize).min(units)
}

/// The value that a share `ratio` of the ascending values lies under. A share of nothing gives −∞:
/// the sample's smallest value would drop what is smaller still.
pub fn quantile(sorted: &[f32], ratio: f32) -> f32 {
    match (f64::from(ratio) * sorted.len() as f64).round() as usize {
        0 => f32::NEG_INFINITY,
        at => sorted.get(at).copied().unwrap_or(f32::INFINITY),
    }
}

/// A number that orders scores as they are ordered themselves; not-a-number is the least.
fn rank(score: f32) -> u32 {
    let bits = if score.is_nan() { f32::NEG_INFINITY } else { score }.to_bits();
    // Negative numbers: all bits, so that larger sizes are less; others: the sign alone.
    bits ^ if bits >> 31 == 1 { u32::MAX } else { 1 << 31 }
}

/// Appends the indices of the `count` highest scores to `kept`, ascending. Ties go to the lower
/// index.
pub fn top_k(scores: &[f32], count: usize, kept: &mut Vec<u32>) {
    let indices = 0..scores.len() as u32;
    if count >= scores.len() {
        return kept.extend(indices);
    }
    if count == 0 {
        return;
    }
    let mut ranks: Vec<u32> = scores.iter().map(|&score| rank(score)).collect();
    let (higher, &mut least, _) = ranks.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
    let mut ties = count - higher.iter().filter(|&&rank| rank > least).count();
    kept.extend(indices.filter(|&i| {
        let rank = rank(scores[i as usize]);
        let tie = rank == least && ties > 0;
        ties -= usize::from(tie);
        tie || rank > least
    }));
}

/// The units that stay on for every token, at sparsity `ratio`.
pub fn select(selection: Selection, scores: &Scores, ratio: f32, tokens: usize) -> Vec<Kept> {
    let neurons = select_kind(selection, &scores.neurons, ratio, tokens);
    let heads = select_kind(selection, &scores.heads, ratio, tokens);
    let masks = neurons.into_iter().zip(heads);
    masks.map(|(neurons, heads)| Kept { neurons, heads }).collect()
}

/// Per token, per layer: the units of one kind that stay on.
fn select_kind(
    selection: Selection,
    layers: &[Vec<f32>],
    ratio: f32,
    tokens: usize,
) -> Vec<Vec<Vec<u32>>> {
    match selection {
        Selection::Layer => (0..tokens)
            .map(|token| {
                layers.iter().map(|scores| best(row(scores, token, tokens), ratio)).collect()
            })
            .collect(),
        Selection::Global => (0..tokens)
            .map(|token| {
                let rows: Vec<&[f32]> = layers.iter().map(|s| row(s, token, tokens)).collect();
                split_layers(&best(&rows.concat(), ratio), &rows)
            })
            .collect(),
        Selection::Threshold => {
            // The best of a layer over all tokens: a threshold in all but name, exact under ties.
            let kept: Vec<Vec<Vec<u32>>> = layers
                .iter()
                .map(|scores| {
                    let rows: Vec<&[f32]> = (0..tokens).map(|t| row(scores, t, tokens)).collect();
                    split_layers(&best(scores, ratio), &rows)
                })
                .collect();
            (0..tokens).map(|t| kept.iter().map(|by_token| by_token[t].clone()).collect()).collect()
        }
    }
}

fn row(scores: &[f32], token: usize, tokens: usize) -> &[f32] {
    let units = scores.len() / tokens;
    &scores[token * units..][..units]
}

fn best(scores: &[f32], ratio: f32) -> Vec<u32> {
    let mut kept = Vec::new();
    top_k(scores, kept_count(scores.len(), ratio), &mut kept);
    kept
}

/// Cuts ascending indices into a concatenation of `parts` into indices of each part.
fn split_layers(kept: &[u32], parts: &[&[f32]]) -> Vec<Vec<u32>> {
    let mut rest = kept;
    let mut start = 0;
    let cut = |part: &&[f32]| {
        let end = start + part.len() as u32;
        let count = rest.partition_point(|&i| i < end);
        let (own, others) = rest.split_at(count);
        let own = own.iter().map(|&i| i - start).collect();
        (rest, start) = (others, end);
        own
    };
    parts.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_highest_with_ties_to_the_lower_index() {
        let mut kept = Vec::new();
        top_k(&[1.0, 3.0, 2.0, 3.0, f32::NAN, -1.0], 3, &mut kept);
        assert_eq!(kept, [1, 2, 3]);
        kept.clear();
        top_k(&[2.0, 2.0, 2.0], 2, &mut kept);
        assert_eq!(kept, [0, 1]);
        kept.clear();
        top_k(&[1.0, f32::NAN], 2, &mut kept);
        assert_eq!(kept, [0, 1]);
        kept.clear();
        top_k(&[1.0, 2.0], 0, &mut kept);
        assert!(kept.is_empty());
    }

    #[test]
    fn counts_round_to_the_nearest() {
        assert_eq!(kept_count(1536, 0.8), 307);
        assert_eq!(kept_count(9, 0.5), 4);
        assert_eq!((kept_count(9, 0.0), kept_count(9, 1.0)), (9, 0));
    }

    #[test]
    fn selections_share_the_budget_differently() {
        // Two layers, two tokens, two units each.
        let neurons = vec![vec![9.0, 8.0, 1.0, 2.0], vec![7.0, 0.0, 3.0, 4.0]];
        let scores = Scores { neurons, heads: Vec::new() };
        let kept = |selection| -> Vec<Vec<Vec<u32>>> {
            select(selection, &scores, 0.5, 2).into_iter().map(|k| k.neurons).collect()
        };
        assert_eq!(kept(Selection::Layer), [[[0], [0]], [[1], [1]]]);
        assert_eq!(kept(Selection::Global), [[vec![0, 1], vec![]], [vec![], vec![0, 1]]]);
        assert_eq!(kept(Selection::Threshold), [[vec![0, 1], vec![0]], [vec![], vec![1]]]);
    }
}
