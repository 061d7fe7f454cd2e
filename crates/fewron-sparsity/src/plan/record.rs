//! What a plan file says about itself.

use crate::PolicyKind;
use serde::{Deserialize, Serialize};

/// Where a plan comes from, what it was made for and what it was measured to cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// Version of fewron that made it.
    pub version: String,
    /// The model that it was made for.
    pub model: PlanModel,
    /// What scores the neurons.
    pub policy: PolicyKind,
    /// Share of the MLP neurons that is off, over all layers and tokens: as asked for or found.
    pub sparsity: f32,
    /// `layer` (the best of each layer) or `threshold`.
    pub selection: String,
    /// What the weights of the scores are: see [`crate::Weighting`]; empty without weights.
    #[serde(default)]
    pub weighting: String,
    /// Rank of the compensation; 0 for none.
    pub compensation: usize,
    /// Rank of the predictor; 0 for none.
    pub predictor: usize,
    /// The text that it was made from.
    pub calibration: CalibrationRecord,
    /// What it costs on text that it has not seen.
    pub held_out: Option<HeldOut>,
    /// The weightings that were compared, by the KL divergence of each on held-out text.
    #[serde(default)]
    pub compared: Vec<Compared>,
    /// Share of each layer's neurons that are off, on held-out text.
    #[serde(default)]
    pub layers: Vec<f32>,
}

/// Identity and shape of a plan's model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanModel {
    /// Its name when the plan was made.
    pub name: String,
    /// SHA-256 of its files.
    pub sha256: String,
    /// The type that float weights were given while loading, if any.
    #[serde(default)]
    pub quantized: Option<String>,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// MLP neurons of a layer.
    pub intermediate: usize,
    /// Heads of a layer.
    pub heads: usize,
}

/// Calibration text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationRecord {
    /// Its name.
    pub data: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Tokens that the plan was made from.
    pub tokens: usize,
    /// Seed of what is random.
    pub seed: u64,
}

/// Quality on held-out text, in windows whose first tokens are dense and not counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Perplexity of the dense model.
    pub dense_perplexity: f64,
    /// Perplexity under the plan.
    pub perplexity: f64,
    /// Share of tokens whose most likely successor is the dense model's.
    pub agreement: f64,
    /// Mean KL(dense‖sparse) of a token, in nats.
    pub kl: f64,
    /// Share of MLP neurons that ran.
    pub active: f64,
    /// Weight bytes that a token reads, and that a dense token reads.
    pub bytes_per_token: f64,
    /// See [`Self::bytes_per_token`].
    pub dense_bytes_per_token: f64,
}

impl HeldOut {
    /// Perplexity as a multiple of the dense model's.
    pub fn perplexity_ratio(&self) -> f64 {
        self.perplexity / self.dense_perplexity
    }
}

/// A weighting of scores and what it costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The weighting.
    pub weighting: String,
    /// Mean KL(dense‖sparse) of a held-out token, in nats, where each had the same part of the text.
    pub kl: f64,
}
