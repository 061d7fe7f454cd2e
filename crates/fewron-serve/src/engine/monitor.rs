//! The quality monitor: what was served sparse is scored again, in time that nobody else needs.
//!
//! A token's result depends on the token and its past alone, to the last bit. So the sparse logits need not be
//! kept: the answer is run again, dense and sparse side by side in one batch, and both see what the client
//! was served.

use super::guard::Scored;
use super::handle::Shared;
use super::lanes::{Joined, Mask};
use super::settings::Guard;
use super::variant::Variant;
use fewron_kernels::{kl_divergence, log_sum_exp};
use fewron_model::sampler::argmax;
use fewron_model::{KvCache, Logits, ModelError, Session};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens that are scored in one batch, and prompt tokens that are read in one.
const CHUNK: usize = 16;
const PROMPT_CHUNK: usize = 64;

/// Answers that wait at most; newer ones are not sampled meanwhile.
const WAITING: usize = 64;

/// While requests are at work the monitor takes one batch in so much time, lest it never comes to its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers that wait to be scored.
#[derive(Default)]
pub(super) struct Monitor {
    waiting: VecDeque<Sample>,
    /// The one at work, with its dense and its sparse text.
    texts: Vec<KvCache>,
    last: Option<Instant>,
}

/// A sparse answer.
struct Sample {
    variant: Arc<Variant>,
    mask: Option<Mask>,
    tokens: Vec<u32>,
    prompt: usize,
}

impl Monitor {
    /// Takes an answer in, if its request's number is one of the sampled.
    pub(super) fn offer(
        &mut self,
        guard: &Guard,
        variant: Arc<Variant>,
        mask: Mask,
        (id, tokens, prompt): (u64, Vec<u32>, usize),
    ) {
        // The last token's own logits were never used, and the first token is the dense model's.
        let sampled = spread(id) < guard.sample && tokens.len() > prompt + 1;
        if sampled && self.waiting.len() < WAITING {
            self.waiting.push_back(Sample { variant, mask: Some(mask), tokens, prompt });
        }
    }

    /// Whether there is something to score, and time for it.
    pub(super) fn is_due(&self, busy: bool) -> bool {
        !self.waiting.is_empty() && (!busy || self.last.is_none_or(|l| l.elapsed() > PATIENCE))
    }

    /// Gives up the answer at work.
    pub(super) fn forget(&mut self) {
        self.waiting.pop_front();
        self.texts.clear();
    }

    /// Tokens of a variant that wait.
    fn tokens_of(&self, variant: &Variant) -> u64 {
        let of = |sample: &&Sample| sample.variant.name == variant.name;
        let left = |sample: &Sample| (sample.tokens.len() - 1 - sample.prompt) as u64;
        self.waiting.iter().filter(of).map(left).sum()
    }

    /// Runs one batch of the answer at work.
    ///
    /// # Errors
    /// As [`Session::forward_each`].
    pub(super) fn score(
        &mut self,
        shared: &Shared,
        session: &mut Session,
        busy: bool,
    ) -> Result<(), ModelError> {
        self.last = Some(Instant::now());
        let Some(sample) = self.waiting.front_mut() else { return Ok(()) };
        if self.texts.is_empty() {
            session.truncate(0);
            self.texts.push(session.cache().clone());
        }
        let done = self.texts[0].position();
        if done < sample.prompt {
            let end = sample.prompt.min(done + if busy { CHUNK } else { PROMPT_CHUNK });
            let tokens = &sample.tokens[done..end];
            session.forward_each(&mut self.texts, &[tokens], |_| Logits::None, None)?;
            return Ok(());
        }
        if self.texts.len() == 1 {
            self.texts.push(self.texts[0].clone());
        }
        let end = (sample.tokens.len() - 1).min(done + CHUNK);
        let scored = compare(shared, session, sample, &mut self.texts, done..end)?;
        let variant = Arc::clone(&sample.variant);
        let ended = end == sample.tokens.len() - 1;
        if ended {
            self.forget();
        }
        let waiting = self.tokens_of(&variant);
        shared.lock().book.judge(&shared.settings.guard, &variant, scored, ended, waiting);
        Ok(())
    }
}

/// Runs some tokens of an answer dense and sparse.
fn compare(
    shared: &Shared,
    session: &mut Session,
    sample: &mut Sample,
    texts: &mut [KvCache],
    range: std::ops::Range<usize>,
) -> Result<Scored, ModelError> {
    let count = range.len();
    let tokens = &sample.tokens[range];
    let mut masks = Joined {
        masks: std::slice::from_mut(&mut sample.mask),
        owners: (0..2 * count).map(|token| (token >= count).then_some(0)).collect(),
    };
    let logits =
        session.forward_each(texts, &[tokens, tokens], |_| Logits::All, Some(&mut masks))?;
    let (isa, vocab) = (shared.model.isa(), shared.model.config().vocab);
    let (dense, sparse) = logits.split_at(count * vocab);
    let mut scored = Scored { tokens: count, ..Scored::default() };
    for (dense, sparse) in dense.chunks_exact(vocab).zip(sparse.chunks_exact(vocab)) {
        scored.agreed += usize::from(argmax(dense) == argmax(sparse));
        let norms = (log_sum_exp(isa, dense), log_sum_exp(isa, sparse));
        scored.kl += f64::from(kl_divergence(isa, dense, norms.0, sparse, norms.1).max(0.0));
    }
    Ok(scored)
}

/// Numbers evenly spread over 0 to 1 (SplitMix64), so that a share of the requests is sampled.
fn spread(id: u64) -> f64 {
    let mut z = id.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
