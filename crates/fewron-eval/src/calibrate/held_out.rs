//! What a plan costs on text that it was not made from.

use super::masks::{Behind, SeenFinal};
use super::windows::Window;
use super::{CalibrateError, Calibrator};
use fewron_kernels::{kl_divergence, log_sum_exp};
use fewron_model::sampler::argmax;
use fewron_model::{Logits, MaskSource, ModelError, Session};
use fewron_sparsity::plan::record::HeldOut;
use fewron_sparsity::{Plan, Policy, PolicyKind, prompt_scores};
use std::sync::Arc;

/// Tokens whose logits are held at once.
const ROWS: usize = 16;

/// The dense model on the held-out windows.
pub(super) struct Dense {
    /// Residual streams behind the last block, by window.
    finals: Vec<Vec<f32>>,
}

/// Sums over predicted tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) tokens: usize,
    dense_nll: f64,
    nll: f64,
    agree: usize,
    pub(super) kl: f64,
}

impl Sums {
    /// Adds the predictions of a window's sparse tokens, from the residual streams of both models.
    pub(super) fn add(
        &mut self,
        session: &mut Session,
        window: &Window,
        dense: &[f32],
        sparse: &[f32],
    ) {
        let model = Arc::clone(session.model());
        let (isa, config) = (model.isa(), model.config());
        let rows = window.dense..window.tokens.len() - 1;
        let hidden = config.hidden;
        let starts = rows.clone().step_by(ROWS);
        for start in starts {
            let range = start * hidden..(start + ROWS).min(rows.end) * hidden;
            let dense = session.logits_of(&dense[range.clone()], Logits::All).to_vec();
            let sparse = session.logits_of(&sparse[range], Logits::All);
            let rows = dense.chunks_exact(config.vocab).zip(sparse.chunks_exact(config.vocab));
            for ((dense, sparse), &label) in rows.zip(&window.tokens[start + 1..]) {
                let (norm, sparse_norm) = (log_sum_exp(isa, dense), log_sum_exp(isa, sparse));
                self.tokens += 1;
                self.dense_nll += f64::from(norm - dense[label as usize]);
                self.nll += f64::from(sparse_norm - sparse[label as usize]);
                self.agree += usize::from(argmax(dense) == argmax(sparse));
                let kl = kl_divergence(isa, dense, norm, sparse, sparse_norm);
                self.kl += f64::from(kl.max(0.0));
            }
        }
    }
}

impl Calibrator<'_> {
    /// The dense residual streams of the held-out windows; computed once.
    pub(super) fn dense_finals(&mut self) -> Result<Dense, CalibrateError> {
        if let Some(dense) = self.dense.take() {
            return Ok(dense);
        }
        let mut finals = Vec::new();
        for window in &self.windows.held_out {
            finals.push(run(&mut self.session, window, None)?);
        }
        Ok(Dense { finals })
    }

    /// The cost of a plan, and the share of each layer's neurons that it switched off.
    pub(super) fn held_out(&mut self, plan: &Plan) -> Result<(HeldOut, Vec<f32>), CalibrateError> {
        let dense = self.dense_finals()?;
        let mut sums = Sums::default();
        let (mut kept, mut seen) = (vec![0; plan.layers.len()], vec![0; plan.layers.len()]);
        let windows = self.windows;
        for (index, window) in windows.held_out.iter().enumerate() {
            self.step("measuring", index, windows.held_out.len())?;
            let mut policy = Policy::new(plan);
            if plan.policy == PolicyKind::Prompt {
                self.session.truncate(0);
                let prompt = &window.tokens[..window.dense];
                policy.keep_for_prompt(&prompt_scores(&mut self.session, prompt)?);
            }
            let mut masks = Behind::new(policy, window.dense);
            let sparse = run(&mut self.session, window, Some(&mut masks))?;
            sums.add(&mut self.session, window, &dense.finals[index], &sparse);
            kept.iter_mut().zip(&masks.kept).for_each(|(sum, kept)| *sum += kept);
            seen.iter_mut().zip(&masks.seen).for_each(|(sum, seen)| *sum += seen);
        }
        self.dense = Some(dense);
        let share = |(&kept, &seen): (&u64, &u64)| kept as f64 / seen.max(1) as f64;
        let shares: Vec<f64> = kept.iter().zip(&seen).map(share).collect();
        let tokens = sums.tokens.max(1) as f64;
        let held_out = HeldOut {
            tokens: sums.tokens,
            dense_perplexity: (sums.dense_nll / tokens).exp(),
            perplexity: (sums.nll / tokens).exp(),
            agreement: sums.agree as f64 / tokens,
            kl: sums.kl / tokens,
            active: shares.iter().sum::<f64>() / shares.len() as f64,
            bytes_per_token: plan.bytes_per_token(&self.model, |layer| shares[layer]),
            dense_bytes_per_token: self.model.bytes_per_token().total() as f64,
        };
        Ok((held_out, shares.iter().map(|&share| 1.0 - share as f32).collect()))
    }
}

/// The residual stream behind the last block of a window's tokens, but for the last one, which predicts
/// nothing.
fn run(
    session: &mut Session,
    window: &Window,
    masks: Option<&mut dyn MaskSource>,
) -> Result<Vec<f32>, ModelError> {
    let mut seen = SeenFinal::default();
    session.truncate(0);
    let tokens = &window.tokens[..window.tokens.len() - 1];
    session.forward(tokens, masks, Some(&mut seen), Logits::None)?;
    Ok(seen.0)
}
