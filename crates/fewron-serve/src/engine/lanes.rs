//! Answers that are being written, side by side.

use super::request::{ChosenToken, Event, Request};
use super::variant::Variant;
use super::writer::Writer;
use fewron_model::sampler::{Sampler, SamplerConfig};
use fewron_model::{KvCache, MaskSource};
use fewron_sparsity::{Counted, Plan};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// The mask of an answer.
pub(super) type Mask = Counted<Arc<Plan>>;

/// A request at work.
pub(super) struct Ask {
    pub(super) request: Request,
    /// What serves it: dense in place of a variant that has fallen back.
    pub(super) variant: Arc<Variant>,
    pub(super) events: UnboundedSender<Event>,
    pub(super) deadline: Instant,
    /// Answers that have not ended.
    pub(super) open: usize,
}

impl Ask {
    /// Whether the log-probabilities of its prompt are wanted.
    pub(super) fn scores_prompt(&self) -> bool {
        self.request.prompt_logprobs.is_some()
    }
}

/// One answer of a request: its prompt and what has been written so far.
pub(super) struct Lane<'s> {
    /// Number of the request.
    pub(super) ask: u64,
    pub(super) choice: usize,
    /// Prompt and answer. What lies behind the text's position is still to run.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Tokens that the answer had when it ended, or has by now.
    pub(super) written: usize,
    pub(super) sampler: Sampler,
    pub(super) writer: Option<Writer<'s>>,
    /// When the last token came.
    pub(super) last: Option<Instant>,
    /// Without memory for its keys and values, which are computed anew later.
    pub(super) parked: bool,
    /// Log-probabilities of the prompt's tokens, as far as it is read.
    pub(super) prompt_tokens: Vec<ChosenToken>,
    /// Where the mask begins to look at the prompt, until it has: the text is read up to there only.
    pub(super) looks_from: Option<usize>,
}

impl<'s> Lane<'s> {
    /// An answer with nothing written. `writer` makes its text.
    pub(super) fn new(ask: u64, choice: usize, request: &Request, writer: Writer<'s>) -> Self {
        Self {
            ask,
            choice,
            tokens: request.prompt.clone(),
            prompt: request.prompt.len(),
            written: 0,
            sampler: sampler(request, choice),
            writer: Some(writer),
            last: None,
            parked: false,
            prompt_tokens: Vec::new(),
            looks_from: None,
        }
    }

    /// Whether a token is masked: those behind the prompt.
    fn masked(&self, index: usize) -> bool {
        index >= self.prompt
    }
}

/// The sampler of a request's answer.
fn sampler(request: &Request, choice: usize) -> Sampler {
    let seed = request.sampling.seed.wrapping_add(choice as u64);
    let sampler = Sampler::new(SamplerConfig { seed, ..request.sampling.clone() });
    sampler.expect("refused before it was taken on")
}

/// All answers at work, oldest first: what runs as one batch lies side by side.
#[derive(Default)]
pub(super) struct Lanes<'s> {
    pub(super) lanes: Vec<Lane<'s>>,
    pub(super) texts: Vec<KvCache>,
    pub(super) masks: Vec<Option<Mask>>,
}

impl<'s> Lanes<'s> {
    pub(super) fn push(&mut self, lane: Lane<'s>, text: KvCache, mask: Option<Mask>) {
        self.lanes.push(lane);
        self.texts.push(text);
        self.masks.push(mask);
    }

    pub(super) fn remove(&mut self, index: usize) -> (Lane<'s>, KvCache, Option<Mask>) {
        (self.lanes.remove(index), self.texts.remove(index), self.masks.remove(index))
    }

    /// Removes all answers of a request.
    pub(super) fn remove_all(&mut self, ask: u64) {
        while let Some(index) = self.lanes.iter().position(|lane| lane.ask == ask) {
            self.remove(index);
        }
    }

    /// Tokens of a lane that are still to run.
    pub(super) fn pending(&self, index: usize) -> usize {
        self.lanes[index].tokens.len() - self.texts[index].position()
    }

    /// Tokens of a lane that can run now: a mask that is to look at the rest of the prompt stops it there.
    fn ready(&self, index: usize) -> usize {
        let (lane, position) = (&self.lanes[index], self.texts[index].position());
        lane.looks_from.unwrap_or(lane.tokens.len()) - position
    }

    /// Bytes of the keys and values of all lanes, were no pages shared.
    pub(super) fn bytes(&self) -> usize {
        let lanes = self.lanes.iter().zip(&self.texts).filter(|(lane, _)| !lane.parked);
        lanes.map(|(lane, text)| text.bytes_of(lane.tokens.len())).sum()
    }

    /// How many tokens of each lane run in the next batch: one of those that are written, and of those that
    /// are read as many, first come first served, as `chunk` leaves; `alone` where none is written.
    pub(super) fn shares(&self, chunk: usize, alone: usize) -> Vec<usize> {
        let writes = |index: &usize| {
            let lane = &self.lanes[*index];
            !lane.parked && lane.looks_from.is_none() && self.pending(*index) == 1
        };
        let any = (0..self.lanes.len()).any(|index| writes(&index));
        let mut left = if any { chunk } else { alone };
        let share = |index: usize| match self.lanes[index].parked {
            true => 0,
            false if writes(&index) => 1,
            false => {
                let share = self.ready(index).min(left);
                left -= share;
                share
            }
        };
        (0..self.lanes.len()).map(share).collect()
    }

    /// The masks of a batch of these shares; `None` where nothing is masked.
    pub(super) fn owners(&self, shares: &[usize]) -> Option<Vec<Option<usize>>> {
        let mut owners = Vec::new();
        for (index, &share) in shares.iter().enumerate() {
            let first = self.texts[index].position();
            let masked = |token| self.masks[index].is_some() && self.lanes[index].masked(token);
            owners.extend((first..first + share).map(|token| masked(token).then_some(index)));
        }
        owners.iter().any(Option::is_some).then_some(owners)
    }
}

/// The masks of a batch.
pub(super) struct Joined<'a> {
    pub(super) masks: &'a mut [Option<Mask>],
    /// Whose mask acts on each token.
    pub(super) owners: Vec<Option<usize>>,
}

impl MaskSource for Joined<'_> {
    fn inner(&mut self, token: usize) -> Option<(&mut dyn MaskSource, usize)> {
        let mask = self.masks[self.owners[token]?].as_mut()?;
        Some((mask, token))
    }
}
