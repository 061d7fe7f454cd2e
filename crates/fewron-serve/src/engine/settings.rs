//! What the operator sets.

use super::variant::Variant;
use fewron_model::KvType;
use fewron_sparsity::{Plan, PolicyKind};
use std::time::Duration;

/// Makes the plan of a policy at a ratio, the same in every layer; called once for each pair that clients
/// ask for. Errors are told to the client.
pub type PlanMaker = Box<dyn Fn(PolicyKind, f32) -> Result<Plan, String> + Send + Sync>;

/// What the operator sets.
pub struct Settings {
    /// What clients call the model.
    pub name: String,
    /// The sparse variants that have a name; the dense one is there anyhow.
    pub variants: Vec<Variant>,
    /// Shares of the traffic that names no variant, by name: any positive numbers. Empty: the first
    /// variant if there is one, else dense.
    pub split: Vec<(String, f64)>,
    /// Makes plans that clients ask for.
    pub maker: PlanMaker,
    /// Limits.
    pub limits: Limits,
    /// When a variant falls back to dense.
    pub guard: Guard,
    /// Type of keys and values.
    pub kv_type: KvType,
}

/// Limits of the engine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Answers that are written at once.
    pub running: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Bytes of keys and values of all texts, those of shared prompts included.
    pub kv_bytes: usize,
    /// Tokens of prompts that join a batch while answers are being written: more read prompts faster,
    /// fewer make smaller gaps between the tokens of running streams.
    pub prefill_chunk: usize,
    /// Longest time of a request.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running: 64,
            waiting: 256,
            kv_bytes: 1 << 30,
            prefill_chunk: 32,
            timeout: Duration::from_secs(600),
        }
    }
}

/// The quality that sparse variants must keep, by the dense model's own judgement of what was served.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Share of the sparse answers whose tokens are scored again, 0 to 1; 0 watches nothing.
    pub sample: f64,
    /// Least share of tokens where the sparse model's likeliest token is the dense one's. 0: no limit.
    pub min_agreement: f64,
    /// Most Kullback–Leibler divergence, dense from sparse, in nats a token. Infinite: no limit.
    pub max_kl: f64,
    /// Tokens scored before a variant may fall back; at the latest it does when four times as many have
    /// been scored and their mean is beyond a limit.
    pub tokens: usize,
}

impl Default for Guard {
    fn default() -> Self {
        Self { sample: 0.1, min_agreement: 0.0, max_kl: f64::INFINITY, tokens: 256 }
    }
}
