//! Of the JSON of `fewron bench`, what is drawn.

use fewron_eval::record::ModelRecord;
use serde::Deserialize;

/// A bench.
#[derive(Clone, Debug, Deserialize)]
pub struct BenchRecord {
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
    /// Repetitions of each phase.
    pub repetitions: usize,
    /// One entry per variant, the dense model first.
    pub results: Vec<BenchResult>,
    /// llama.cpp on the same file, where it took part.
    #[serde(default)]
    pub llama_cpp: Option<BenchRival>,
}

/// How fast a variant is.
#[derive(Clone, Debug, Deserialize)]
pub struct BenchResult {
    /// `dense`, or the variant's name.
    pub name: String,
    /// Weights that a decoded token reads, in bytes.
    pub bytes_per_token: u64,
    /// Share of MLP neurons that ran.
    pub active_fraction: f64,
    /// Reading a prompt; of the dense model alone.
    #[serde(default)]
    pub prefill: Option<BenchSpeed>,
    /// Writing tokens, by KV length.
    #[serde(default)]
    pub decode: Vec<BenchSpeed>,
}

/// How fast llama.cpp is.
#[derive(Clone, Debug, Deserialize)]
pub struct BenchRival {
    /// Of llama-cpp-python.
    pub version: String,
    /// Reading a prompt.
    #[serde(default)]
    pub prefill: Option<BenchSpeed>,
    /// Writing tokens, by KV length.
    #[serde(default)]
    pub decode: Vec<BenchSpeed>,
}

/// One phase of one contestant, in tokens per second over repetitions.
#[derive(Clone, Debug, Deserialize)]
pub struct BenchSpeed {
    /// Tokens in the KV cache at the start; absent for prefill.
    #[serde(default)]
    pub kv_length: Option<usize>,
    /// Tokens of each repetition.
    pub tokens: usize,
    /// Median.
    pub median: f64,
    /// Slowest repetition.
    pub min: f64,
    /// Fastest repetition.
    pub max: f64,
    /// Median of paired ratios.
    #[serde(default)]
    pub ratio_to_dense: Option<f64>,
}
