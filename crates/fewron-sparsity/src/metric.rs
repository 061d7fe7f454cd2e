//! Attribution metrics: how much each neuron or head matters for a token.
//!
//! Song et al., "Achieving Sparse Activation in Small Language Models" (arXiv 2406.06562). A unit is
//! an MLP neuron (one output) or a head (`head_dim` outputs); o is its output, g = ∂L/∂o the
//! gradient of the label's cross-entropy. Higher scores are kept.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// An attribution metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// ‖o‖.
    Magnitude,
    /// −mean(g).
    Gradient,
    /// −g·o: the first-order change of the loss when the unit is switched off.
    Gxo,
    /// |g·o| (Lee et al., arXiv 1810.02340).
    Snip,
    /// (g·o)² (Theis et al., arXiv 1801.05787).
    Fisher,
    /// −ḡ·o with ḡ the mean gradient while the layer's outputs grow from 0 to o (integrated
    /// gradients, Sundararajan et al., arXiv 1703.01365).
    Ig,
    /// −g·o + c·‖o‖·‖g‖_layer: `gxo` plus half (c = ½) the bound of the error that switching off
    /// units of earlier layers causes (arXiv 2406.06562, section 4).
    CorGxo,
    /// ‖o‖·‖W_down‖ of the neuron, ‖o‖ of a head (WINA, arXiv 2505.19427).
    Wina,
    /// Seeded noise.
    Random,
}

/// A name that no metric has.
#[derive(Debug, Error)]
#[error("no metric {name:?}; there are {}", Metric::names())]
pub struct UnknownMetric {
    name: String,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 9] = [
        Metric::Magnitude,
        Metric::Gradient,
        Metric::Gxo,
        Metric::Snip,
        Metric::Fisher,
        Metric::Ig,
        Metric::CorGxo,
        Metric::Wina,
        Metric::Random,
    ];

    /// The name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Magnitude => "magnitude",
            Metric::Gradient => "gradient",
            Metric::Gxo => "gxo",
            Metric::Snip => "snip",
            Metric::Fisher => "fisher",
            Metric::Ig => "ig",
            Metric::CorGxo => "cor-gxo",
            Metric::Wina => "wina",
            Metric::Random => "random",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether the score needs gradients.
    pub fn needs_gradient(self) -> bool {
        !matches!(self, Metric::Magnitude | Metric::Wina | Metric::Random)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.name() == name)
            .ok_or_else(|| UnknownMetric { name: name.into() })
    }
}

/// One layer's units of one kind at one token.
#[derive(Clone, Copy, Debug)]
pub struct Units<'a> {
    /// Outputs, `[units, width]`.
    pub outputs: &'a [f32],
    /// Gradients, as long as `outputs`; may be empty for metrics that need none.
    pub gradients: &'a [f32],
    /// Outputs of one unit: 1 for neurons, `head_dim` for heads.
    pub width: usize,
    /// Norm of each unit's outgoing weights; empty stands for ones (heads).
    pub weight_norms: &'a [f32],
}

/// Appends the score of every unit to `scores`, for the metrics that are a function of outputs and
/// gradients alone. `correction` is c of [`Metric::CorGxo`]. For [`Metric::Ig`] the gradients must
/// be the mean gradients ḡ.
///
/// # Panics
/// For [`Metric::Random`], which is no such function.
pub fn score(metric: Metric, units: Units, correction: f32, scores: &mut Vec<f32>) {
    let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    let dot = |g: &[f32], o: &[f32]| g.iter().zip(o).map(|(g, o)| g * o).sum::<f32>();
    let o = units.outputs.chunks_exact(units.width);
    let g = units.gradients.chunks_exact(units.width);
    match metric {
        Metric::Magnitude => scores.extend(o.map(norm)),
        Metric::Wina if units.weight_norms.is_empty() => scores.extend(o.map(norm)),
        Metric::Wina => scores.extend(o.zip(units.weight_norms).map(|(o, w)| norm(o) * w)),
        Metric::Gradient => {
            scores.extend(g.map(|g| -g.iter().sum::<f32>() / g.len() as f32));
        }
        Metric::Gxo | Metric::Ig => scores.extend(g.zip(o).map(|(g, o)| -dot(g, o))),
        Metric::Snip => scores.extend(g.zip(o).map(|(g, o)| dot(g, o).abs())),
        Metric::Fisher => scores.extend(g.zip(o).map(|(g, o)| dot(g, o).powi(2))),
        Metric::CorGxo => {
            let bound = correction * norm(units.gradients);
            scores.extend(g.zip(o).map(|(g, o)| norm(o) * bound - dot(g, o)));
        }
        Metric::Random => panic!("random scores come from a seed"),
    }
}
