//! What the engine is doing, for people and for monitoring.

use serde::Serialize;

/// Everything at one moment. Times are in seconds or, where the name says so, milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// What clients call the model.
    pub model: String,
    /// Seconds since the Unix epoch.
    pub time_s: f64,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// Threads of the kernels.
    pub threads: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Tokens of the context.
    pub context: usize,
    /// What runs and waits.
    pub load: Load,
    /// Since the start.
    pub totals: Totals,
    /// Answer tokens a second, over the last seconds.
    pub decode_tok_s: f64,
    /// Prompt tokens a second, over the last seconds, without reused ones.
    pub prefill_tok_s: f64,
    /// Of the last requests of all variants.
    pub latency: Latency,
    /// Memory.
    pub memory: MemoryStatus,
    /// Dense first, then those with a name, then those that clients asked for.
    pub variants: Vec<VariantStatus>,
    /// The latest requests, newest first; at most 50.
    pub requests: Vec<RequestStatus>,
    /// What happened, newest first: fall-backs, re-arming, refusals. At most 50.
    pub log: Vec<LogLine>,
}

/// Something worth telling.
#[derive(Clone, Debug, Serialize)]
pub struct LogLine {
    /// Seconds since the Unix epoch.
    pub time_s: f64,
    /// `info` or `warning`.
    pub level: &'static str,
    /// What happened.
    pub text: String,
}

/// What runs and waits.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Load {
    /// Requests whose prompt is read or whose answer is written.
    pub running: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Most answers at once.
    pub max_running: usize,
    /// Most requests in the queue.
    pub max_waiting: usize,
    /// Whether nothing new is taken on.
    pub draining: bool,
}

/// Counts since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Requests taken on.
    pub requests: u64,
    /// Those that were answered whole.
    pub finished: u64,
    /// Those whose client went away.
    pub cancelled: u64,
    /// Those that failed or took too long.
    pub failed: u64,
    /// Those that were not taken on.
    pub refused: u64,
    /// Times that an answer was set aside for want of memory, to be taken up again later.
    pub parked: u64,
    /// Prompt tokens, reused ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens that were known already.
    pub reused_tokens: u64,
    /// Tokens of answers.
    pub answer_tokens: u64,
}

/// How long clients wait, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// From the request to the first token.
    pub first_token_ms: Percentiles,
    /// From token to token.
    pub inter_token_ms: Percentiles,
    /// Of whole requests.
    pub request_ms: Percentiles,
}

/// Percentiles of the latest observations; 0 without any.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90%.
    pub p90: f64,
    /// 99%.
    pub p99: f64,
    /// Observations.
    pub count: usize,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryStatus {
    /// Of the process, as the system counts it; 0 where it does not say.
    pub resident_bytes: u64,
    /// Weights.
    pub weights_bytes: u64,
    /// Keys and values of running requests, as promised to them.
    pub kv_running_bytes: u64,
    /// Keys and values of prompts that are kept for others.
    pub kv_prefix_bytes: u64,
    /// Most keys and values.
    pub kv_limit_bytes: u64,
}

/// A variant and how it does.
#[derive(Clone, Debug, Serialize)]
pub struct VariantStatus {
    /// `dense`, `plan`, `gate@0.5`.
    pub name: String,
    /// `gate` and so on; none for the dense one.
    pub policy: Option<String>,
    /// Share of the MLP neurons that is off, as asked for.
    pub sparsity: f32,
    /// Share of the traffic that names no variant, 0 to 1.
    pub share: f64,
    /// Whether it is served dense because it left its quality budget.
    pub fallen_back: bool,
    /// Requests taken on.
    pub requests: u64,
    /// Tokens of answers.
    pub answer_tokens: u64,
    /// Answer tokens a second of one stream, the median of the latest requests; 0 without any.
    pub stream_tok_s: f64,
    /// How long its clients wait.
    pub latency: Latency,
    /// Share of the MLP neurons that ran, over the latest tokens; 1 for the dense one.
    pub active: f64,
    /// The same of each layer.
    pub active_by_layer: Vec<f64>,
    /// What the quality monitor found; none for the dense one.
    pub quality: Option<GuardStatus>,
}

/// What the quality monitor found, over the latest scored tokens.
#[derive(Clone, Debug, Serialize)]
pub struct GuardStatus {
    /// Tokens scored since the start or the last re-arming.
    pub tokens: u64,
    /// Answers of which they are.
    pub answers: u64,
    /// Tokens that wait to be scored.
    pub waiting_tokens: u64,
    /// Share of tokens where the likeliest token is the dense one's.
    pub agreement: Interval,
    /// Kullback–Leibler divergence, dense from sparse, in nats a token.
    pub kl: Interval,
    /// Least agreement; 0 for no limit.
    pub min_agreement: f64,
    /// Most divergence; none for no limit.
    pub max_kl: Option<f64>,
}

/// A mean and its 95% interval (normal, answers as clusters).
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Interval {
    /// Mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// In the queue.
    Waiting,
    /// Its prompt is read.
    Reading,
    /// Its answer is written.
    Writing,
    /// It was answered.
    Finished,
    /// Its client went away.
    Cancelled,
    /// It failed.
    Failed,
}

/// A request, without a word of what it says.
#[derive(Clone, Debug, Serialize)]
pub struct RequestStatus {
    /// Number.
    pub id: u64,
    /// Variant that serves it.
    pub variant: String,
    /// Where it is.
    pub state: RequestState,
    /// Seconds since it came.
    pub age_s: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those that were known already.
    pub reused_tokens: usize,
    /// Tokens of all its answers.
    pub answer_tokens: usize,
    /// From its coming to the first token; none yet without one.
    pub first_token_ms: Option<f64>,
    /// Answer tokens a second from the first one on; none without two.
    pub tok_s: Option<f64>,
}
