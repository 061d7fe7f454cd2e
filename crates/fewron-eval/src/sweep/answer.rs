//! Dense answers, teacher-forced and free-running sparse ones.

use super::Text;
use fewron_kernels::{kl_divergence, log_sum_exp};
use fewron_model::sampler::argmax;
use fewron_model::{KvCache, Logits, MaskSource, ModelError, Session, Trace};
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

    /// All tokens of the answer.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// What the masked steps computed.
    pub fn trace(&self) -> &Trace {
        &self.trace
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
pub(crate) struct Forced {
    /// Greedy token of each masked step.
    pub(super) predicted: Vec<u32>,
    /// Steps whose greedy token is the label.
    pub(super) agree: u32,
    /// Σ KL(dense‖sparse) over the steps, in nats.
    pub(super) kl: f64,
}

/// The masks of several texts of one batch.
struct Joined<'a> {
    /// Each text's masks, and the step of its first token.
    masks: Vec<(&'a mut dyn MaskSource, usize)>,
    /// Tokens of each text.
    len: usize,
}

impl MaskSource for Joined<'_> {
    fn inner(&mut self, token: usize) -> Option<(&mut dyn MaskSource, usize)> {
        let (masks, first) = &mut self.masks[token / self.len];
        Some((&mut **masks, *first + token % self.len))
    }
}

/// Runs the dense answer's tokens through the model under each of several masks, in one batch; with
/// the texts that come of it.
pub(crate) fn teacher_forced(
    session: &mut Session,
    dense: &Dense,
    masks: Vec<&mut dyn MaskSource>,
) -> Result<Vec<(Forced, KvCache)>, ModelError> {
    let (isa, vocab) = (session.model().isa(), session.model().config().vocab);
    let mut prompt = session.cache().clone();
    prompt.truncate(dense.prompt_len);
    let mut texts = vec![prompt; masks.len()];
    let inputs = vec![dense.inputs(); masks.len()];
    let masks = masks.into_iter().map(|masks| (masks, 0)).collect();
    let mut masks = Joined { masks, len: dense.inputs().len() };
    let logits = session.forward_each(&mut texts, &inputs, |_| Logits::All, Some(&mut masks))?;
    let judge = |logits: &[f32]| {
        let mut forced = Forced { predicted: Vec::new(), agree: 0, kl: 0.0 };
        let rows = logits.chunks_exact(vocab).zip(dense.logits.chunks_exact(vocab));
        for ((row, dense_row), (&norm, &label)) in rows.zip(dense.norms.iter().zip(dense.labels()))
        {
            let token = argmax(row);
            forced.predicted.push(token);
            forced.agree += u32::from(token == label);
            let kl = kl_divergence(isa, dense_row, norm, row, log_sum_exp(isa, row));
            forced.kl += f64::from(kl.max(0.0));
        }
        forced
    };
    Ok(logits.chunks_exact(dense.logits.len()).map(judge).zip(texts).collect())
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
    /// Sets in behind a teacher-forced run with the same masks and its text.
    pub(super) fn new(
        dense: &Dense,
        forced: &Forced,
        mut text: KvCache,
        masks: Box<dyn MaskSource + 'a>,
    ) -> Self {
        let differs = |(predicted, label): (&u32, &u32)| predicted != label;
        let Some(first) = forced.predicted.iter().zip(dense.labels()).position(differs) else {
            return Self { masks, cache: None, tokens: dense.tokens.clone() };
        };
        // Step s predicts token s + 1 of the answer.
        let mut tokens = dense.tokens[..=first].to_vec();
        tokens.push(forced.predicted[first]);
        text.truncate(dense.prompt_len + first + 1);
        Self { masks, cache: Some(text), tokens }
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
    let (mut caches, mut lanes) = (Vec::new(), Vec::new());
    for run in runs {
        if let Some(cache) = run.cache.take() {
            caches.push(cache);
            lanes.push(run);
        }
    }
    loop {
        for lane in (0..caches.len()).rev() {
            let tokens = &lanes[lane].tokens;
            if tokens.len() >= len || text.is_end(tokens[tokens.len() - 1]) {
                caches.swap_remove(lane);
                lanes.swap_remove(lane);
            }
        }
        if caches.is_empty() {
            return Ok(());
        }
        let (mut last, mut masks) = (Vec::new(), Vec::new());
        for FreeRun { masks: source, tokens, .. } in lanes.iter_mut().map(|run| &mut **run) {
            last.push(&tokens[tokens.len() - 1..]);
            masks.push((&mut **source as &mut dyn MaskSource, tokens.len() - 1));
        }
        let mut masks = Joined { masks, len: 1 };
        let logits = session.forward_each(&mut caches, &last, |_| Logits::All, Some(&mut masks))?;
        let next: Vec<u32> = logits.chunks_exact(vocab).map(argmax).collect();
        for (run, token) in lanes.iter_mut().zip(next) {
            run.tokens.push(token);
        }
    }
}
