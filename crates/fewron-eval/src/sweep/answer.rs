//! Dense answers, teacher-forced and free-running sparse ones.

use super::Text;
use fewron_kernels::{kl_divergence, log_sum_exp};
use fewron_model::sampler::argmax;
use fewron_model::{Choice, KvCache, Logits, MaskSource, ModelError, Session, Trace};
use fewron_sparsity::{Attribution, Scores};

/// A dense greedy answer with everything the masks are judged by.
pub struct Dense {
    /// The answer's tokens, its end token last if it has one: y₀ … yₙ₋₁.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub(super) prompt_len: usize,
    /// The steps that predict y₁ … yₙ₋₁ from y₀ … yₙ₋₂.
    pub(super) trace: Trace,
    /// Their logits, `[n − 1, vocab]`.
    pub(super) logits: Vec<f32>,
    /// Their log-normalisers.
    pub(super) norms: Vec<f32>,
}

impl Dense {
    /// Answers a prompt greedily; leaves the whole text in the session.
    ///
    /// # Errors
    /// When the prompt or the answer does not fit the model's context.
    pub fn answer(
        session: &mut Session,
        text: &dyn Text,
        prompt: &[u32],
        max_new_tokens: usize,
    ) -> Result<Self, ModelError> {
        session.truncate(0);
        let mut trace = Trace::new(session.model().config());
        let (mut logits, mut norms) = (Vec::new(), Vec::new());
        let isa = session.model().isa();
        let mut tokens = vec![argmax(session.forward(prompt, None, None, Logits::Last)?)];
        while tokens.len() < max_new_tokens {
            let last = tokens[tokens.len() - 1];
            if text.is_end(last) {
                break;
            }
            let row = session.forward(&[last], None, Some(&mut trace), Logits::Last)?;
            tokens.push(argmax(row));
            norms.push(log_sum_exp(isa, row));
            logits.extend_from_slice(row);
        }
        Ok(Self { tokens, prompt_len: prompt.len(), trace, logits, norms })
    }

    /// The labels of the masked steps: y₁ … yₙ₋₁.
    pub fn labels(&self) -> &[u32] {
        &self.tokens[1..]
    }

    /// Attribution scores of the masked steps, by metric. The session must still hold the answer.
    pub fn scores(
        &self,
        session: &mut Session,
        attribution: &Attribution,
        sample: u64,
    ) -> Vec<Scores> {
        attribution.scores(session, &self.trace, &self.logits, self.labels(), sample)
    }

    /// The inputs of the masked steps: y₀ … yₙ₋₂.
    fn inputs(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }
}

/// What the teacher-forced run of one mask shows.
pub(super) struct Forced {
    /// Greedy token of each masked step.
    pub(super) predicted: Vec<u32>,
    /// Steps whose greedy token is the label.
    pub(super) agree: u32,
    /// Σ KL(dense‖sparse) over the steps, in nats.
    pub(super) kl: f64,
}

/// Runs the dense answer's tokens through the masked model, in one batch.
pub(super) fn teacher_forced(
    session: &mut Session,
    dense: &Dense,
    masks: &mut dyn MaskSource,
) -> Result<Forced, ModelError> {
    session.truncate(dense.prompt_len);
    let (isa, vocab) = (session.model().isa(), session.model().config().vocab);
    let logits = session.forward(dense.inputs(), Some(masks), None, Logits::All)?;
    let mut forced = Forced { predicted: Vec::new(), agree: 0, kl: 0.0 };
    let rows = logits.chunks_exact(vocab).zip(dense.logits.chunks_exact(vocab));
    for ((row, dense_row), (&norm, &label)) in rows.zip(dense.norms.iter().zip(dense.labels())) {
        let token = argmax(row);
        forced.predicted.push(token);
        forced.agree += u32::from(token == label);
        let kl = kl_divergence(isa, dense_row, norm, row, log_sum_exp(isa, row));
        forced.kl += f64::from(kl.max(0.0));
    }
    Ok(forced)
}

/// A free-running sparse answer on its way. Up to the first step at which the teacher-forced run
/// disagrees the two are the same run, so it goes on from there.
pub(super) struct FreeRun<'a> {
    masks: Box<dyn MaskSource + 'a>,
    /// The text up to the last token but one; nothing if the answer is complete.
    cache: Option<KvCache>,
    /// The answer so far.
    pub(super) tokens: Vec<u32>,
}

impl<'a> FreeRun<'a> {
    /// Sets in behind a teacher-forced run with the same masks, which the session must still hold.
    pub(super) fn new(
        session: &Session,
        dense: &Dense,
        forced: &Forced,
        masks: Box<dyn MaskSource + 'a>,
    ) -> Self {
        let differs = |(predicted, label): (&u32, &u32)| predicted != label;
        let Some(first) = forced.predicted.iter().zip(dense.labels()).position(differs) else {
            return Self { masks, cache: None, tokens: dense.tokens.clone() };
        };
        // Step s predicts token s + 1 of the answer.
        let mut tokens = dense.tokens[..=first].to_vec();
        tokens.push(forced.predicted[first]);
        let mut cache = session.cache().clone();
        cache.truncate(dense.prompt_len + first + 1);
        Self { masks, cache: Some(cache), tokens }
    }
}

/// The mask sources of several answers; the `token` of a call is the answer's place.
struct Lanes<'a, 'b>(Vec<&'b mut FreeRun<'a>>);

impl Lanes<'_, '_> {
    fn lane(&mut self, lane: usize) -> (&mut dyn MaskSource, usize) {
        let run = &mut *self.0[lane];
        (&mut *run.masks, run.tokens.len() - 1)
    }
}

impl MaskSource for Lanes<'_, '_> {
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let (masks, step) = self.lane(token);
        masks.neurons(layer, step, kept)
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        let (masks, step) = self.lane(token);
        masks.select_neurons(layer, step, values, kept);
    }

    fn heads(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let (masks, step) = self.lane(token);
        masks.heads(layer, step, kept)
    }

    fn select_heads(
        &mut self,
        layer: usize,
        token: usize,
        outputs: &[f32],
        heads: usize,
        kept: &mut Vec<u32>,
    ) {
        let (masks, step) = self.lane(token);
        masks.select_heads(layer, step, outputs, heads, kept);
    }
}

/// Completes answers greedily, all in one batch, to at most `len` tokens each.
pub(super) fn finish_runs(
    session: &mut Session,
    text: &dyn Text,
    runs: &mut [FreeRun],
    len: usize,
) -> Result<(), ModelError> {
    let vocab = session.model().config().vocab;
    let (mut caches, mut lanes) = (Vec::new(), Lanes(Vec::new()));
    for run in runs {
        if let Some(cache) = run.cache.take() {
            caches.push(cache);
            lanes.0.push(run);
        }
    }
    loop {
        for lane in (0..caches.len()).rev() {
            let tokens = &lanes.0[lane].tokens;
            if tokens.len() >= len || text.is_end(tokens[tokens.len() - 1]) {
                caches.swap_remove(lane);
                lanes.0.swap_remove(lane);
            }
        }
        if caches.is_empty() {
            return Ok(());
        }
        let last: Vec<u32> = lanes.0.iter().map(|run| run.tokens[run.tokens.len() - 1]).collect();
        let logits = session.forward_each(&mut caches, &last, Some(&mut lanes))?;
        for (run, row) in lanes.0.iter_mut().zip(logits.chunks_exact(vocab)) {
            run.tokens.push(argmax(row));
        }
    }
}
