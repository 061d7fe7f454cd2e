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

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use thiserror::Error;

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
    rng: ChaCha8Rng,
    candidates: Vec<Candidate>,
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
        Ok(Sampler { config, rng, candidates: Vec::new() })
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
        self.load(logits);
        self.penalize(history);
        if self.config.temperature == 0.0 {
            return highest(&self.candidates);
        }
        self.keep_top_k();
        self.keep_probable();
        self.draw()
    }

    fn load(&mut self, logits: &[f32]) {
        let number = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
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

    /// Top-p, then min-p.
    fn keep_probable(&mut self) {
        let (top_p, min_p) = (self.config.top_p, self.config.min_p);
        if top_p >= 1.0 && min_p <= 0.0 {
            return;
        }
        self.candidates.sort_unstable_by(by_rank);
        let weights = weights(&self.candidates, 1.0);
        let total: f64 = weights.iter().sum();
        let mut mass = 0.0;
        let reached = weights.iter().position(|w| {
            mass += w;
            mass >= f64::from(top_p) * total
        });
        let nucleus = reached.filter(|_| top_p < 1.0).map_or(weights.len(), |at| at + 1);
        // The highest weight is 1 by construction.
        let probable = weights.partition_point(|&w| w >= f64::from(min_p));
        self.candidates.truncate(nucleus.min(probable).max(1));
    }

    fn draw(&mut self) -> u32 {
        let weights = weights(&self.candidates, self.config.temperature);
        let total: f64 = weights.iter().sum();
        // 53 random bits make a number in [0, 1).
        let unit = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = unit * total;
        for (candidate, weight) in self.candidates.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return candidate.id;
            }
        }
        highest(&self.candidates)
    }
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

/// Softmax numerators at a temperature, the highest 1.
fn weights(candidates: &[Candidate], temperature: f32) -> Vec<f64> {
    let max = candidates.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| {
        if logit == max {
            return 1.0;
        }
        ((f64::from(logit) - f64::from(max)) / f64::from(temperature)).exp()
    };
    candidates.iter().map(|c| weight(c.logit)).collect()
}

#[cfg(test)]
mod tests;
