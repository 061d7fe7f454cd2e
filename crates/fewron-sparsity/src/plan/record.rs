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
    /// Share of the neurons that the predictors keep which are among as many with the highest corrected
    /// attribution, on held-out text; `None` without predictors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// The weightings that were compared, by the KL divergence of each on held-out text.
    #[serde(default)]
    pub compared: Vec<Compared>,
    /// Share of each layer's neurons that are off, on held-out text.
    #[serde(default)]
    pub layers: Vec<f32>,
    /// How the model learnt to live with the plan; `None` for a plan as it was calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryRecord>,
}

/// The training of a recovered plan: `recover/FORMAT.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveryRecord {
    /// Version of the package that trained it.
    pub version: String,
    /// SHA-256 of the manifest of the training text.
    pub data_sha256: String,
    /// Tokens that were trained on.
    pub tokens: u64,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Seed of the order of the text.
    pub seed: u64,
    /// Learning rate.
    pub lr: f64,
    /// What was trained: `edits`, `norms`, `compensation`, `scores`.
    pub train: Vec<String>,
    /// The edits of codes, if they were trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edits: Option<EditsRecord>,
    /// Quality on held-out rows of the training text.
    pub held_out: RecoveredQuality,
}

/// How many codes a plan changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditsRecord {
    /// Edits in the plan.
    pub count: u64,
    /// Codes of all matrices that can have edits.
    pub codes: u64,
}

/// Quality before and after recovery.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveredQuality {
    /// Under the plan as it was.
    pub before: Quality,
    /// Under the recovered plan.
    pub after: Quality,
    /// The recovered weights without a mask.
    pub after_dense: Quality,
}

/// Quality on text, against the dense model as its file has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Perplexity.
    pub perplexity: f64,
    /// Mean KL divergence from the dense model, in nats per token.
    pub kl: f64,
    /// Share of tokens whose most likely successor is the dense model's.
    pub agreement: f64,
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
