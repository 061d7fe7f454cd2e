//! Self-speculative decoding: a mask drafts tokens one by one, then the whole model verifies them as one
//! batch.
//!
//! The text is the dense model's. Greedy text is the same token for token, since a batch gives each token
//! what it gets alone; drawn text has the same distribution (Leviathan et al., arXiv 2211.17192; Chen et
//! al., arXiv 2302.01318). The draft is of the model itself with parts left out (Zhang et al., arXiv
//! 2309.08168), so it needs no second model, and what it leaves in the KV cache is dropped again: keys
//! and values that stay are dense.

mod length;

pub use length::DraftLength;

use crate::error::ModelError;
use crate::mask::MaskSource;
use crate::sampler::{Distribution, Sampler};
use crate::session::{Logits, Session};
use length::Pace;
use std::time::Instant;

/// What speculation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens that were chosen.
    pub chosen: usize,
    /// Dense batches that verified drafts.
    pub verifications: usize,
    /// Tokens that these batches chose.
    pub verified: usize,
    /// Drafted tokens.
    pub drafted: usize,
    /// Those of them that stayed.
    pub accepted: usize,
}

impl Counts {
    /// Share of drafted tokens that stayed; `None` before there are any.
    pub fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// Tokens of a verification, its own included; `None` before there is one.
    pub fn tokens_per_verification(&self) -> Option<f64> {
        (self.verifications > 0).then(|| self.verified as f64 / self.verifications as f64)
    }

    /// What was done since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            chosen: self.chosen - earlier.chosen,
            verifications: self.verifications - earlier.verifications,
            verified: self.verified - earlier.verified,
            drafted: self.drafted - earlier.drafted,
            accepted: self.accepted - earlier.accepted,
        }
    }
}

/// A text that is being written.
pub struct Running<'a> {
    /// Its session.
    pub session: &'a mut Session,
    /// The tokens in the session's cache.
    pub history: &'a mut Vec<u32>,
    /// Chooses its tokens.
    pub sampler: &'a mut Sampler,
    /// Logits that are exact where they can matter to the sampler.
    pub wanted: Logits,
    /// Whether a token ends it.
    pub is_end: &'a dyn Fn(u32) -> bool,
}

/// Drafts and verifies.
#[derive(Clone, Debug)]
pub struct Speculation {
    pace: Pace,
    drafts: Vec<Draft>,
    chosen: Vec<u32>,
    counts: Counts,
}

/// A drafted token and what it was drawn from.
#[derive(Clone, Debug)]
struct Draft {
    token: u32,
    distribution: Distribution,
}

impl Speculation {
    /// Speculation with drafts of a length.
    pub fn new(length: DraftLength) -> Self {
        let counts = Counts::default();
        Self { pace: Pace::new(length), drafts: Vec::new(), chosen: Vec::new(), counts }
    }

    /// What was done so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Appends `token`, chosen before, and chooses the tokens after it: at least one, at most `most`.
    /// All of them but the last are in the cache then, with their dense keys and values; an end token is
    /// the last.
    ///
    /// # Errors
    /// As [`Session::forward`]: an unknown token, or a full context.
    pub fn advance(
        &mut self,
        text: &mut Running,
        token: u32,
        masks: &mut dyn MaskSource,
        most: usize,
    ) -> Result<&[u32], ModelError> {
        let greedy = text.sampler.config().temperature == 0.0;
        let room = text.session.model().config().context.saturating_sub(text.session.position());
        let longest = room.min(most).saturating_sub(1);
        let length = self.pace.next(greedy).min(longest);
        self.chosen.clear();
        if length == 0 {
            self.step(text, token)?;
        } else {
            self.draft(text, token, masks, length)?;
            self.verify(text, token)?;
        }
        self.counts.chosen += self.chosen.len();
        Ok(&self.chosen)
    }

    /// One dense token.
    fn step(&mut self, text: &mut Running, token: u32) -> Result<(), ModelError> {
        let start = Instant::now();
        let logits = text.session.forward(&[token], None, None, text.wanted)?;
        text.history.push(token);
        self.chosen.push(text.sampler.sample(logits, text.history));
        self.pace.stepped(start.elapsed());
        Ok(())
    }

    /// Drafts up to `length` tokens, up to an end token. Session and history are then as before.
    fn draft(
        &mut self,
        text: &mut Running,
        token: u32,
        masks: &mut dyn MaskSource,
        length: usize,
    ) -> Result<(), ModelError> {
        let (start, known) = (Instant::now(), text.history.len());
        self.drafts.clear();
        let mut last = token;
        while self.drafts.len() < length {
            let logits = text.session.forward(&[last], Some(&mut *masks), None, text.wanted)?;
            text.history.push(last);
            let distribution = text.sampler.distribution(logits, text.history);
            last = text.sampler.draw_from(&distribution);
            self.drafts.push(Draft { token: last, distribution });
            if (text.is_end)(last) {
                break;
            }
        }
        text.history.truncate(known);
        text.session.truncate(text.session.position() - self.drafts.len());
        self.pace.drafted(self.drafts.len(), start.elapsed());
        Ok(())
    }

    /// Runs token and drafts dense, keeps the drafts up to the first that is rejected, and chooses one
    /// token more.
    fn verify(&mut self, text: &mut Running, token: u32) -> Result<(), ModelError> {
        let (start, known) = (Instant::now(), text.session.position());
        let batch: Vec<u32> =
            std::iter::once(token).chain(self.drafts.iter().map(|draft| draft.token)).collect();
        let vocab = text.session.model().config().vocab;
        let logits = text.session.forward(&batch, None, None, Logits::All)?;
        let mut rows = logits.chunks_exact(vocab);
        text.history.push(token);
        let mut accepted = 0;
        for (draft, logits) in self.drafts.iter().zip(&mut rows) {
            let wanted = text.sampler.distribution(logits, text.history);
            let instead = text.sampler.judge(draft.token, &draft.distribution, &wanted);
            self.chosen.push(instead.unwrap_or(draft.token));
            if instead.is_some() {
                break;
            }
            accepted += 1;
            if (text.is_end)(draft.token) {
                break;
            }
            text.history.push(draft.token);
        }
        let ended = self.chosen.last().is_some_and(|&token| (text.is_end)(token));
        if let (true, false, Some(logits)) = (accepted == self.drafts.len(), ended, rows.next()) {
            self.chosen.push(text.sampler.sample(logits, text.history));
        }
        text.session.truncate(known + self.chosen.len());
        self.pace.verified(batch.len(), accepted, start.elapsed());
        self.counts.verifications += 1;
        self.counts.verified += self.chosen.len();
        self.counts.drafted += self.drafts.len();
        self.counts.accepted += accepted;
        Ok(())
    }
}
