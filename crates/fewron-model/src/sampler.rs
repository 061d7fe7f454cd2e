//! Choosing the next token from logits.
//!
//! The steps, each optional, run in this order (llama.cpp's default chain without its extras):
//!
//! 1. repetition penalty over the recent history (CTRL, arXiv 1909.05858): a logit above zero is
//!    divided by the penalty, one below is multiplied by it;
//! 2. top-k: the k highest logits stay;
//! 3. top-p: the fewest tokens whose probabilities reach p stay (Holtzman et al., arXiv 1904.09751);
//! 4. min-p: tokens with at least min-p times the highest probability stay (arXiv 2407.01082);
//! 5. temperature, then a draw from the softmax of what is left.
//!
//! Steps 3 and 4 therefore see probabilities at temperature 1, as in llama.cpp; `transformers` applies
//! the temperature first. With temperature 0 the choice is greedy: after the penalty, the highest
//! logit, and the lowest id among equals. NaN counts as minus infinity everywhere.

use fewron_kernels::{Isa, max, softmax};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use thiserror::Error;

/// Candidates that top-p and min-p look at first.
const LIKELIEST: usize = 64;

/// What to sample with; the default is greedy without a penalty.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Softmax temperature, 0 for greedy, at most 100.
    pub temperature: f32,
    /// Highest logits kept; 0 keeps all.
    pub top_k: usize,
    /// Probability mass kept, above 0 and up to 1; 1 keeps all.
    pub top_p: f32,
    /// Least probability kept, relative to the highest, from 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// Repetition penalty, above 0; 1 for none.
    pub repetition_penalty: f32,
    /// Tokens of the history, counted from its end, that the penalty looks at.
    pub repetition_window: usize,
    /// Seed of the ChaCha8 generator; equal seeds give equal draws.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        SamplerConfig {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

/// A sampler setting out of range.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{name} must be {expected}, got {got}")]
pub struct SamplerError {
    /// The setting.
    pub name: &'static str,
    /// Its range.
    pub expected: &'static str,
    /// The value given.
    pub got: f32,
}

/// Draws tokens; holds the random state and scratch memory.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    isa: Isa,
    rng: ChaCha8Rng,
    candidates: Vec<Candidate>,
    /// Probabilities of the candidates.
    weights: Vec<f32>,
}

/// A token still in the running.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampler {
    /// A sampler with the given settings.
    ///
    /// # Errors
    /// When a setting is out of range or not a number.
    pub fn new(config: SamplerConfig) -> Result<Self, SamplerError> {
        let check = |ok: bool, name, expected, got| {
            if ok { Ok(()) } else { Err(SamplerError { name, expected, got }) }
        };
        let c = &config;
        check(
            (0.0..=100.0).contains(&c.temperature),
            "temperature",
            "from 0 to 100",
            c.temperature,
        )?;
        check(c.top_p > 0.0 && c.top_p <= 1.0, "top_p", "above 0 and at most 1", c.top_p)?;
        check((0.0..=1.0).contains(&c.min_p), "min_p", "from 0 to 1", c.min_p)?;
        let penalty = c.repetition_penalty;
        check(
            penalty > 0.0 && penalty <= 100.0,
            "repetition_penalty",
            "above 0 and at most 100",
            penalty,
        )?;
        let rng = ChaCha8Rng::seed_from_u64(config.seed);
        // A name that is none is an error of the model, which is opened first.
        let isa = Isa::from_env().unwrap_or_else(|_| Isa::detect());
        Ok(Sampler { config, isa, rng, candidates: Vec::new(), weights: Vec::new() })
    }

    /// How far under the highest logit a token may lie and still matter to the choice: 0 for greedy;
    /// else tokens that are drawn less than 10⁻⁵ times as often as the most likely one, or that min-p
    /// drops, are beyond it. `None` where every logit may matter, under a repetition penalty.
    pub fn depth(&self) -> Option<f32> {
        let c = &self.config;
        let rare = c.temperature * 1e5_f32.ln();
        let dropped = if c.min_p > 0.0 { -c.min_p.ln() } else { f32::INFINITY };
        (c.repetition_penalty == 1.0).then_some(rare.min(dropped))
    }

    /// Chooses a token id, an index into `logits`; `history` holds prompt and answer so far.
    ///
    /// Returns 0 for empty logits.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> u32 {
        if (self.config.temperature, self.config.repetition_penalty) == (0.0, 1.0) {
            return self.largest(logits);
        }
        let c = &self.config;
        if (c.top_k, c.top_p, c.min_p, c.repetition_penalty) == (0, 1.0, 0.0, 1.0) {
            return self.draw_from(logits);
        }
        self.load(logits);
        self.penalize(history);
        if self.config.temperature == 0.0 {
            return highest(&self.candidates);
        }
        self.keep_top_k();
        self.keep_probable();
        self.draw()
    }

    /// As [`argmax`].
    fn largest(&self, logits: &[f32]) -> u32 {
        let largest = max(self.isa, logits);
        let first = logits.iter().zip(0..).find(|(logit, _)| **logit == largest);
        first.filter(|_| largest > f32::NEG_INFINITY).map_or(0, |(_, id)| id)
    }

    fn load(&mut self, logits: &[f32]) {
        self.candidates.clear();
        self.candidates
            .extend(logits.iter().zip(0u32..).map(|(&x, id)| Candidate { id, logit: number(x) }));
    }

    fn penalize(&mut self, history: &[u32]) {
        let penalty = self.config.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let window = history.len().saturating_sub(self.config.repetition_window);
        let mut recent = history[window..].to_vec();
        recent.sort_unstable();
        recent.dedup();
        for id in recent {
            if let Some(c) = self.candidates.get_mut(id as usize) {
                c.logit = if c.logit > 0.0 { c.logit / penalty } else { c.logit * penalty };
            }
        }
    }

    fn keep_top_k(&mut self) {
        let k = self.config.top_k;
        if k > 0 && k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, by_rank);
            self.candidates.truncate(k);
        }
    }

    /// Top-p, then min-p: looks at the likeliest few first, and at more while that does not decide.
    fn keep_probable(&mut self) {
        let (top_p, min_p) = (self.config.top_p, self.config.min_p);
        if top_p >= 1.0 && min_p <= 0.0 {
            return;
        }
        self.weigh(1.0);
        let wanted =
            if top_p < 1.0 { f64::from(top_p) * sum(&self.weights) } else { f64::INFINITY };
        let highest = self.weights.iter().copied().fold(0.0, f32::max);
        let probable = |weight: f32| weight >= min_p * highest;
        let all = self.candidates.len();
        let mut few = LIKELIEST;
        loop {
            if few < all {
                self.candidates.select_nth_unstable_by(few - 1, by_rank);
            }
            self.candidates[..few.min(all)].sort_unstable_by(by_rank);
            self.weigh(1.0);
            let likeliest = &self.weights[..few.min(all)];
            let mut mass = 0.0;
            let reached = likeliest.iter().position(|&weight| {
                mass += f64::from(weight);
                mass >= wanted
            });
            let nucleus = reached.map(|last| last + 1);
            let dropped = likeliest.iter().position(|&weight| !probable(weight));
            let kept = nucleus.into_iter().chain(dropped).min();
            if kept.is_some() || few >= all {
                self.candidates.truncate(kept.unwrap_or(all).max(1));
                return;
            }
            few *= 8;
        }
    }

    /// The softmax of the candidates at a temperature.
    fn weigh(&mut self, temperature: f32) {
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(|c| c.logit / temperature));
        softmax(self.isa, &mut self.weights);
    }

    fn draw(&mut self) -> u32 {
        self.weigh(self.config.temperature);
        self.pick().map_or_else(|| highest(&self.candidates), |at| self.candidates[at].id)
    }

    /// A draw from all tokens, for which nobody needs to be in the running.
    fn draw_from(&mut self, logits: &[f32]) -> u32 {
        let temperature = self.config.temperature;
        self.weights.clear();
        self.weights.extend(logits.iter().map(|&logit| number(logit) / temperature));
        softmax(self.isa, &mut self.weights);
        self.pick().map_or_else(|| self.largest(logits), |at| at as u32)
    }

    /// One of the weights, as often as it is large. None where they are no numbers, beside infinite logits,
    /// or by rounding.
    fn pick(&mut self) -> Option<usize> {
        // 53 random bits make a number in [0, 1).
        let unit = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = unit * sum(&self.weights);
        self.weights.iter().position(|&weight| {
            left -= f64::from(weight);
            left < 0.0
        })
    }
}

fn number(logit: f32) -> f32 {
    if logit.is_nan() { f32::NEG_INFINITY } else { logit }
}

/// The sum, in several parts so that they go side by side.
fn sum(weights: &[f32]) -> f64 {
    let mut parts = [0.0; 16];
    for chunk in weights.chunks(parts.len()) {
        parts.iter_mut().zip(chunk).for_each(|(part, &weight)| *part += f64::from(weight));
    }
    parts.iter().sum()
}

/// The token with the highest logit, the lowest id among equals; 0 for empty logits. NaN counts as
/// minus infinity.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (&logit, id) in logits.iter().zip(0u32..) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0
}

/// Higher logits first, lower ids among equals. Candidates hold no NaN.
fn by_rank(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

fn highest(candidates: &[Candidate]) -> u32 {
    // `-0.0` and `0.0` are equal here, unlike in `by_rank`.
    let mut best: Option<&Candidate> = None;
    for c in candidates {
        let beaten = best.is_none_or(|b| c.logit > b.logit || (c.logit == b.logit && c.id < b.id));
        if beaten {
            best = Some(c);
        }
    }
    best.map_or(0, |c| c.id)
}

#[cfg(test)]
mod tests;
