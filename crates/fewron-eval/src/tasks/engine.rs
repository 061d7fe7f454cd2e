//! A worker that runs one sample at a time, dense and under every variant.

use std::sync::Arc;

use fewron_kernels::{Isa, log_sum_exp};
use fewron_model::{
    Choice, InputSite, KvCache, Logits, MaskSource, Model, ModelError, Pool, Session,
};

use super::journal::Active;
use super::{Variant, VariantError, VariantMask};

/// Tokens that run at once, at most.
const MOST_AT_ONCE: usize = 128;

/// Memory for the logits of a batch.
const LOGITS_BYTES: usize = 64 << 20;

/// The dense model (the first) or a variant, on one sample.
pub(super) struct Lane<'a> {
    mask: Option<Box<dyn VariantMask + 'a>>,
    /// MLP neurons that ran at masked tokens, over all layers, and all of them.
    pub(super) active: Active,
}

impl<'a> Lane<'a> {
    /// The dense model and the variants, anew for a sample.
    pub(super) fn start(variants: &'a [&'a dyn Variant]) -> Result<Vec<Self>, VariantError> {
        let dense = Self { mask: None, active: Active::default() };
        let sparse = variants
            .iter()
            .map(|variant| Ok(Self { mask: Some(variant.start()?), active: Active::default() }));
        std::iter::once(Ok(dense)).chain(sparse).collect()
    }
}

/// Tokens that go on a text, for a lane.
pub(super) struct Part<'t> {
    pub(super) lane: usize,
    pub(super) text: KvCache,
    pub(super) tokens: &'t [u32],
}

/// A session and what it has read.
pub(super) struct Engine {
    session: Session,
    /// The tokens in the session's cache, read dense.
    known: Vec<u32>,
    /// Tokens whose logits fit the memory for them.
    at_once: usize,
}

impl Engine {
    /// A worker with kernels on one thread.
    pub(super) fn new(model: &Arc<Model>) -> Self {
        let row_bytes = model.config().vocab * size_of::<f32>();
        let at_once = (LOGITS_BYTES / row_bytes).clamp(1, MOST_AT_ONCE);
        let session = Session::new(Arc::clone(model), Arc::new(Pool::new(1)));
        Self { session, known: Vec::new(), at_once }
    }

    pub(super) fn isa(&self) -> Isa {
        self.session.model().isa()
    }

    pub(super) fn vocab(&self) -> usize {
        self.session.model().config().vocab
    }

    pub(super) fn context(&self) -> usize {
        self.session.model().config().context
    }

    /// Tokens that should run in one batch at most.
    pub(super) fn at_once(&self) -> usize {
        self.at_once
    }

    /// The text of a prompt that a lane reads dense. What it shares with the last prompt is not run
    /// again, unless the lane's mask sees its prompt.
    pub(super) fn read(&mut self, lane: &mut Lane, tokens: &[u32]) -> Result<KvCache, ModelError> {
        match lane.mask.as_mut().filter(|mask| mask.sees_prompt()) {
            Some(mask) => {
                self.session.truncate(0);
                self.known.clear();
                mask.read_prompt(&mut self.session, tokens, Logits::None)?;
            }
            None => {
                let same = self.known.iter().zip(tokens).take_while(|(a, b)| a == b).count();
                self.session.truncate(same);
                self.known.truncate(same);
                self.session.forward(&tokens[same..], None, None, Logits::None)?;
                self.known.extend(&tokens[same..]);
            }
        }
        Ok(self.session.cache().clone())
    }

    /// Runs the parts in one batch: their texts, longer by their tokens, and the logits of all
    /// tokens, `[tokens, vocab]`, part after part.
    pub(super) fn step(
        &mut self,
        lanes: &mut [Lane],
        parts: Vec<Part>,
    ) -> Result<(Vec<KvCache>, &[f32]), ModelError> {
        let mut next = vec![0; lanes.len()];
        let mut owners = Vec::new();
        for part in &parts {
            for _ in part.tokens {
                owners.push((part.lane, next[part.lane]));
                next[part.lane] += 1;
            }
        }
        let neurons = self.session.model().config().intermediate;
        let (mut texts, mut tokens) = (Vec::new(), Vec::new());
        for part in parts {
            texts.push(part.text);
            tokens.push(part.tokens);
        }
        let mut joined = Joined { lanes, owners, neurons };
        let masks = joined.masked().then_some(&mut joined as &mut dyn MaskSource);
        let logits = self.session.forward_each(&mut texts, &tokens, |_| Logits::All, masks)?;
        Ok((texts, logits))
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
