//! Records of a sweep: what is measured, stored and drawn. Plain data, no arithmetic.

use serde::{Deserialize, Serialize};

/// A whole sweep: the JSON contract of `fewron sweep --json` plus what the report draws.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepRun {
    /// The model that was measured.
    pub model: ModelRecord,
    /// `oracle` (masks know the label) or `runtime` (masks see what a server would see).
    pub protocol: String,
    /// The data set.
    pub data: DataRecord,
    /// Seed of the random metric and of the bootstrap.
    pub seed: u64,
    /// Everything needed to repeat the run.
    pub settings: Settings,
    /// One entry per metric or policy and ratio.
    pub points: Vec<Point>,
    /// What was kept, per neuron and head.
    pub analysis: Analysis,
    /// Answers side by side.
    pub examples: Vec<Example>,
}

/// Identity of a model file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Name in the registry or file name.
    pub name: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// Architecture as the file names it (`llama`, `gemma3`).
    pub arch: String,
    /// Number of weights.
    pub parameters: u64,
}

/// Identity and size of the data that a run used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// `builtin` or the file name.
    pub name: String,
    /// SHA-256 of the data file's bytes, lower-case hex.
    pub sha256: String,
    /// Samples that were measured.
    pub samples: usize,
    /// Tokens that were compared (per point).
    pub tokens: u64,
}

/// How a run was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Version of fewron.
    pub version: String,
    /// The command line that repeats the run.
    pub command: String,
    /// `mlp`, `heads` or `both`.
    pub scope: String,
    /// `layer`, `global` or `threshold`.
    pub selection: String,
    /// Correction strength of `cor-gxo` (½ in the paper).
    pub correction: f32,
    /// Steps of integrated gradients.
    pub ig_steps: usize,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Whether questions went to the model without its chat template.
    pub raw: bool,
    /// Processor name.
    pub cpu: String,
    /// Worker threads.
    pub threads: usize,
    /// Wall time in seconds, summed over resumed parts.
    pub wall_s: f64,
    /// When the run ended, RFC 3339 in UTC.
    pub finished_at: String,
}

/// Quality at one metric or policy and one ratio.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Attribution metric, in the oracle protocol.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metric: Option<String>,
    /// Mask policy, in the runtime protocol.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<String>,
    /// `mlp`, `heads` or `both`.
    pub scope: String,
    /// Nominal sparsity ratio r: the share of a layer's neurons that is off.
    pub ratio: f32,
    /// Sparsity as it came out.
    pub actual: Actual,
    /// Teacher-forced top-1 agreement with the dense model's tokens, 0..1.
    pub agreement: Interval,
    /// Mean KL(dense‖sparse) per token, in nats.
    pub kl: Interval,
    /// BLEU of the sparse free-running text against the dense text, 0..100.
    pub bleu: Interval,
    /// Share of MLP neurons kept in each layer, 0..1; empty when the scope leaves MLPs dense.
    #[serde(default)]
    pub kept_mlp: Vec<f32>,
    /// Share of heads kept in each layer, 0..1; empty when the scope leaves heads dense.
    #[serde(default)]
    pub kept_heads: Vec<f32>,
}

impl Point {
    /// The metric's or the policy's name.
    pub fn name(&self) -> &str {
        self.metric.as_deref().or(self.policy.as_deref()).unwrap_or("dense")
    }
}

/// Actual sparsity over the masked tokens, each 0..1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Actual {
    /// Share of MLP neurons off.
    pub mlp: f32,
    /// Share of heads off.
    pub heads: f32,
    /// heads/3 + mlp·2/3, as the paper weighs them.
    pub paper: f32,
    /// Share of the layers' weight bytes that were skipped.
    pub bytes: f32,
}

/// A mean with its 95% bootstrap interval over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Mean.
    pub mean: f64,
    /// 2.5% quantile of the bootstrap means.
    pub low: f64,
    /// 97.5% quantile of the bootstrap means.
    pub high: f64,
}

/// What the masks kept, at one ratio (`focus_ratio`), for every metric or policy of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Analysis {
    /// The ratio at which activity and overlap were recorded.
    pub focus_ratio: f32,
    /// Layers of the model.
    pub layers: usize,
    /// MLP neurons per layer.
    pub neurons: usize,
    /// Attention heads per layer.
    pub heads: usize,
    /// Per metric: how often each unit was kept.
    pub activity: Vec<Activity>,
    /// Per pair of metrics: mean Jaccard overlap of the kept sets.
    pub overlap: Vec<Overlap>,
}

/// Keep frequencies of one metric or policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Activity {
    /// Metric or policy.
    pub name: String,
    /// `[layers][neurons]`: share of masked tokens at which the neuron was kept, 0..=255 for 0..1.
    /// Empty when the scope leaves MLPs dense.
    pub mlp: Vec<Vec<u8>>,
    /// `[layers][heads]`: mean share of the layer's total absolute head score that the head holds,
    /// 0..1. Empty when the scope leaves heads dense.
    pub head_importance: Vec<Vec<f32>>,
}

/// Overlap of two metrics' kept sets, averaged over tokens and layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// One metric.
    pub a: String,
    /// The other.
    pub b: String,
    /// Mean Jaccard index |A∩B| / |A∪B|, 0..1.
    pub jaccard: f32,
}

/// One question with the dense answer and sparse answers beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Example {
    /// The question.
    pub question: String,
    /// The dense model's greedy answer.
    pub dense: String,
    /// Sparse answers.
    pub sparse: Vec<SparseAnswer>,
}

/// A free-running answer under masks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SparseAnswer {
    /// Metric or policy.
    pub name: String,
    /// Nominal ratio.
    pub ratio: f32,
    /// The text.
    pub text: String,
}
