//! Records of an evaluation. Plain data, no arithmetic.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::lower_is_better;
use crate::record::{DataRecord, Interval, ModelRecord};

/// A whole evaluation: the JSON contract of `fewron eval --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvalRun {
    /// Version of fewron.
    pub version: String,
    /// The command line that repeats the run.
    pub command: String,
    /// When the run ended, RFC 3339 in UTC.
    pub finished_at: String,
    /// Processor name.
    pub cpu: String,
    /// Worker threads.
    pub threads: usize,
    /// The model that was measured.
    pub model: ModelRecord,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Names of the variants, `dense` first.
    pub variants: Vec<String>,
    /// One entry per task.
    pub tasks: Vec<TaskRecord>,
}

/// A task's results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Name of the task.
    pub task: String,
    /// `perplexity`, `multiple_choice` or `generate`.
    pub kind: String,
    /// The data; `tokens` are those that were scored or, by the dense model, written.
    pub data: DataRecord,
    /// Solved examples before each prompt.
    pub few_shot: usize,
    /// Wall time in seconds.
    pub wall_s: f64,
    /// One entry per variant, `dense` first.
    pub results: Vec<VariantResult>,
    /// One entry per sample, in the file's order.
    pub samples: Vec<SampleRecord>,
}

/// What a variant achieved on a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantResult {
    /// `dense`, or the variant's name.
    pub variant: String,
    /// Share of MLP neurons that ran at masked tokens; absent for the dense model.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active: Option<f64>,
    /// The task's metrics, the headline first.
    pub metrics: Vec<MetricResult>,
}

impl VariantResult {
    /// The headline metric and how much of it is lost against the dense model, as a share: 0.05 where
    /// accuracy falls from 0.40 to 0.38 or perplexity rises from 20 to 21. `None` for the dense model, and
    /// where the dense value is 0.
    pub fn loss(&self) -> Option<(&str, f64)> {
        let result = self.metrics.first()?;
        let change = result.change?.mean;
        Some((&result.metric, if lower_is_better(&result.metric) { change } else { -change }))
    }
}

/// One metric of one variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricResult {
    /// Name of the metric.
    pub metric: String,
    /// The value over all samples.
    pub value: f64,
    /// Its standard error; absent with less than two samples.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub standard_error: Option<f64>,
    /// 2.5% quantile of the bootstrap values.
    pub low: f64,
    /// 97.5% quantile of the bootstrap values.
    pub high: f64,
    /// Relative change of the metric against the dense model, in paired draws of samples; absent for
    /// the dense model, for what only a comparison has, and where the dense value is 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub change: Option<Interval>,
}

/// One sample, by every variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// The record's own id, or its number from 1.
    pub id: String,
    /// What the record says it is about; absent where the task has no categories.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub category: Option<String>,
    /// In the order of the results.
    pub variants: Vec<Record>,
}

/// One sample by one variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `dense`, or the variant's name.
    pub variant: String,
    /// What came out.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came out of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Of `multiple_choice`.
    Choice {
        /// Index of the choice of the largest log-likelihood.
        prediction: usize,
        /// Whether it is right.
        correct: bool,
        /// Index of the choice of the largest log-likelihood per character.
        prediction_norm: usize,
        /// Whether it is right.
        correct_norm: bool,
        /// Share of the choices' probability that right choices hold, 0..1.
        true_mass: f64,
        /// Tokens of all choices.
        tokens: u64,
        /// Log-likelihood of each choice in nats.
        logprobs: Vec<f64>,
    },
    /// Of `perplexity`.
    Window {
        /// Sum of the tokens' negative log-likelihoods in nats.
        nll: f64,
        /// Tokens that count.
        tokens: u64,
        /// Sum of KL(dense‖sparse) in nats; absent for the dense model.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        kl: Option<f64>,
        /// Tokens whose likeliest token is the dense model's; absent for the dense model.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        agree: Option<u64>,
    },
    /// Of `generate`.
    Text {
        /// The text.
        text: String,
        /// Its tokens, an end token included.
        tokens: usize,
        /// Whether the text's last number is a reference's.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        correct: Option<bool>,
        /// The other metrics that the task asks for, by their names: BLEU 0..100, all others 0..1. Those
        /// against the dense model's text are absent for the dense model.
        #[serde(flatten, deserialize_with = "numbers")]
        scores: BTreeMap<String, f64>,
    },
}

/// Numbers by their names; what else is there is left out.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let all = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    Ok(all.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect())
}
