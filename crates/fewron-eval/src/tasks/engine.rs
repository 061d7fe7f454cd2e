//! A worker that runs one sample at a time, dense and under every variant.

use std::sync::Arc;

use fewron_kernels::{Isa, log_sum_exp};
use fewron_model::sampler::argmax;
use fewron_model::{
    Choice, InputSite, KvCache, Logits, MaskSource, Model, ModelError, Pool, Session,
};

use super::journal::Active;
use super::{Variant, VariantError, VariantMask};

/// Tokens that a model runs at once, at most.
const MOST_AT_ONCE: usize = 128;

/// Memory for the logits of a step.
const LOGITS_BYTES: usize = 128 << 20;

/// The dense model (the first) or a variant, on one sample.
pub(super) struct Lane<'a> {
    mask: Option<Box<dyn VariantMask + 'a>>,
    /// Index of its model's reader.
    pub(super) reader: usize,
    /// MLP neurons that ran at masked tokens, over all layers, and all of them.
    pub(super) active: Active,
}

/// Tokens that go on a text, for a lane.
pub(super) struct Part<'t> {
    pub(super) lane: usize,
    pub(super) text: KvCache,
    pub(super) tokens: &'t [u32],
}

/// The models of all lanes, at work on one sample after the other.
pub(super) struct Engine {
    /// The dense model's is the first.
    readers: Vec<Reader>,
    /// Tokens whose logits fit the memory for them.
    logit_rows: usize,
}

impl Engine {
    /// A worker with kernels on one thread.
    pub(super) fn new(dense: &Arc<Model>) -> Self {
        let logit_rows = LOGITS_BYTES / (dense.config().vocab * size_of::<f32>());
        Self { readers: vec![Reader::new(dense)], logit_rows }
    }

    /// The dense model and the variants, anew for a sample.
    pub(super) fn start<'a>(
        &mut self,
        variants: &'a [&'a dyn Variant],
    ) -> Result<Vec<Lane<'a>>, VariantError> {
        let mut lanes = vec![Lane { mask: None, reader: 0, active: Active::default() }];
        for variant in variants {
            let reader = variant.model().map_or(0, |model| self.reader(model));
            lanes.push(Lane { mask: variant.start()?, reader, active: Active::default() });
        }
        Ok(lanes)
    }

    /// Index of a model's reader.
    fn reader(&mut self, model: &Arc<Model>) -> usize {
        let known = self.readers.iter().position(|reader| Arc::ptr_eq(reader.model(), model));
        known.unwrap_or_else(|| {
            self.readers.push(Reader::new(model));
            self.readers.len() - 1
        })
    }

    pub(super) fn isa(&self) -> Isa {
        self.readers[0].model().isa()
    }

    pub(super) fn vocab(&self) -> usize {
        self.readers[0].model().config().vocab
    }

    pub(super) fn context(&self) -> usize {
        self.readers[0].model().config().context
    }

    /// Tokens of all lanes that should run in one step at most.
    pub(super) fn at_once(&self) -> usize {
        self.logit_rows.clamp(1, MOST_AT_ONCE)
    }

    /// Tokens of each lane that should run in one step at most. Lanes of one model share its batch, and
    /// larger batches are faster; all share the memory.
    pub(super) fn at_once_each(&self, lanes: &[Lane]) -> usize {
        let of_reader = |reader| lanes.iter().filter(|lane| lane.reader == reader).count();
        let most = (0..self.readers.len()).map(of_reader).max().unwrap_or(1);
        (MOST_AT_ONCE / most).min(self.logit_rows / lanes.len()).max(1)
    }

    /// The text of a prompt that a lane reads dense. What it shares with the last prompt of the lane's model
    /// is not run again, unless the lane's mask sees its prompt.
    pub(super) fn read(&mut self, lane: &mut Lane, tokens: &[u32]) -> Result<KvCache, ModelError> {
        let reader = &mut self.readers[lane.reader];
        match lane.mask.as_mut().filter(|mask| mask.sees_prompt()) {
            Some(mask) => reader.read_with(&mut **mask, tokens)?,
            None => reader.read(tokens)?,
        }
        Ok(reader.session.cache().clone())
    }

    /// The greedy token behind a prompt of one token at least, dense, by each reader's model.
    pub(super) fn first_tokens(&mut self, prompt: &[u32]) -> Result<Vec<u32>, ModelError> {
        self.readers.iter_mut().map(|reader| reader.first_token(prompt)).collect()
    }

    /// Runs the parts, those of a model in one batch: their texts, longer by their tokens, and the logits of
    /// each part's tokens, `[tokens, vocab]`.
    pub(super) fn step(
        &mut self,
        lanes: &mut [Lane],
        parts: Vec<Part>,
    ) -> Result<(Vec<KvCache>, Vec<&[f32]>), ModelError> {
        let mut done = Vec::new();
        let mut waiting: Vec<(usize, Part)> = parts.into_iter().enumerate().collect();
        for (index, reader) in self.readers.iter_mut().enumerate() {
            let (own, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(_, part)| lanes[part.lane].reader == index);
            waiting = others;
            let (places, own): (Vec<usize>, Vec<Part>) = own.into_iter().unzip();
            done.extend(places.into_iter().zip(reader.step(lanes, own)?));
        }
        done.sort_by_key(|&(place, _)| place);
        Ok(done.into_iter().map(|(_, result)| result).unzip())
    }
}

/// A model's session and what it has read.
struct Reader {
    session: Session,
    /// The tokens in the session's cache, read dense.
    known: Vec<u32>,
}

impl Reader {
    fn new(model: &Arc<Model>) -> Self {
        let session = Session::new(Arc::clone(model), Arc::new(Pool::new(1)));
        Self { session, known: Vec::new() }
    }

    fn model(&self) -> &Arc<Model> {
        self.session.model()
    }

    /// Has these tokens in the session, dense.
    fn read(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        let same = self.known.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.session.truncate(same);
        self.known.truncate(same);
        self.session.forward(&tokens[same..], None, None, Logits::None)?;
        self.known.extend(&tokens[same..]);
        Ok(())
    }

    /// Has these tokens in the session, as a mask reads them.
    fn read_with(&mut self, mask: &mut dyn VariantMask, tokens: &[u32]) -> Result<(), ModelError> {
        self.session.truncate(0);
        self.known.clear();
        mask.read_prompt(&mut self.session, tokens, Logits::None)
    }

    /// The greedy token behind these.
    fn first_token(&mut self, tokens: &[u32]) -> Result<u32, ModelError> {
        let (before, last) = tokens.split_at(tokens.len() - 1);
        self.read(before)?;
        let first = argmax(self.session.forward(last, None, None, Logits::Last)?);
        self.known.extend(last);
        Ok(first)
    }

    /// Runs the parts in one batch: text and logits of each.
    fn step(
        &mut self,
        lanes: &mut [Lane],
        parts: Vec<Part>,
    ) -> Result<Vec<(KvCache, &[f32])>, ModelError> {
        let mut next = vec![0; lanes.len()];
        let mut owners = Vec::new();
        for part in &parts {
            for _ in part.tokens {
                owners.push((part.lane, next[part.lane]));
                next[part.lane] += 1;
            }
        }
        let config = self.model().config();
        let (neurons, vocab) = (config.intermediate, config.vocab);
        let (mut texts, mut tokens) = (Vec::new(), Vec::new());
        for part in parts {
            texts.push(part.text);
            tokens.push(part.tokens);
        }
        let mut joined = Joined { lanes, owners, neurons };
        let masks = joined.masked().then_some(&mut joined as &mut dyn MaskSource);
        let mut rest = self.session.forward_each(&mut texts, &tokens, |_| Logits::All, masks)?;
        let logits = tokens.into_iter().map(|tokens| {
            let (own, others) = rest.split_at(tokens.len() * vocab);
            rest = others;
            own
        });
        Ok(texts.into_iter().zip(logits).collect())
    }
}

/// Log-probability of a token by a row of logits.
pub(super) fn logprob(isa: Isa, logits: &[f32], token: u32) -> f64 {
    f64::from(logits[token as usize]) - f64::from(log_sum_exp(isa, logits))
}

/// The masks of all lanes in one batch.
struct Joined<'b, 'a> {
    lanes: &'b mut [Lane<'a>],
    /// The lane of each token, and the token's number in the lane.
    owners: Vec<(usize, usize)>,
    neurons: usize,
}

impl<'a> Joined<'_, 'a> {
    fn masked(&self) -> bool {
        self.owners.iter().any(|&(lane, _)| self.lanes[lane].mask.is_some())
    }

    fn lane(&mut self, token: usize) -> (&mut Lane<'a>, usize) {
        let (lane, token) = self.owners[token];
        (&mut self.lanes[lane], token)
    }
}

impl MaskSource for Joined<'_, '_> {
    fn inner(&mut self, token: usize) -> Option<(&mut dyn MaskSource, usize)> {
        let (lane, token) = self.lane(token);
        Some((lane.mask.as_mut()?.masks(), token))
    }

    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let all = self.neurons;
        let Some((mask, own)) = self.inner(token) else { return Choice::Dense };
        let choice = mask.neurons(layer, own, kept);
        match choice {
            Choice::Dense => self.lane(token).0.active.add(all, all),
            Choice::Listed => self.lane(token).0.active.add(kept.len(), all),
            _ => {}
        }
        choice
    }

    fn thin(&mut self, site: InputSite, layer: usize, token: usize, values: &mut [f32]) {
        let Some((mask, own)) = self.inner(token) else { return };
        mask.thin(site, layer, own, values);
        let (all, width) = (self.neurons, values.len());
        let off = values.iter().filter(|value| **value == 0.0).count();
        let active = &mut self.lane(token).0.active;
        match site {
            // Beside what was computed, so that the share is the mean of both.
            InputSite::Down => active.add(width - off, width),
            // All rows are computed, from fewer channels.
            InputSite::Mlp => active.kept -= (off * all / width) as i64,
            InputSite::Attention | InputSite::AttentionOutput => {}
        }
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        if let Some((mask, own)) = self.inner(token) {
            mask.select_neurons(layer, own, values, kept);
            self.lane(token).0.active.add(kept.len(), values.len());
        }
    }
}
