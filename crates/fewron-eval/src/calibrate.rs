//! Making plans: a policy calibrated on text, fitted layer by layer, measured on text it has not seen.
//!
//! The recipe (design §5): weights of the scores from attribution, the weighting that does best on
//! held-out text; shares of neurons off by layer from each layer's measured sensitivity; thresholds, so
//! that tokens that need more get more; compensation of low rank, fitted on what the layers before it
//! really give once they are sparse.

mod answers;
mod budget;
mod fit;
mod held_out;
mod importance;
mod masks;
mod predictor;
mod recall;
mod windows;

pub use answers::{answer, write_on};
pub use windows::{Part, Window, Windows, WindowsError, openings};

use fewron_model::{Model, ModelError, Pool, Session};
use fewron_sparsity::plan::record::{Compared, HeldOut};
use fewron_sparsity::{
    Heads, Importance, LayerPlan, Plan, PolicyError, PolicyKind, Selection, Weighting,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

/// One window in this many is used to compare weightings.
const COMPARED_EVERY: usize = 4;

/// What a plan is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What scores the neurons.
    pub policy: PolicyKind,
    /// The best of each layer, or a threshold.
    pub selection: Selection,
    /// Rank of the compensation; 0 for none.
    pub compensation: usize,
    /// Rank of the predictor of policy `predict`.
    pub predictor: usize,
    /// The same share in every layer, instead of shares by sensitivity.
    pub uniform: bool,
    /// Whether policy `gate` leaves out its second stage.
    pub single_stage: bool,
    /// Whether heads that matter least go too, where that costs less than neurons.
    pub heads: bool,
    /// The weighting of scores; `None` takes the one that does best.
    pub weighting: Option<Weighting>,
    /// Tokens that go through the backward pass.
    pub traced_tokens: usize,
    /// Seed of what is random.
    pub seed: u64,
}

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum CalibrateError {
    /// The stop flag was set.
    #[error("interrupted")]
    Interrupted,
    /// The model refused a text.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A policy that cannot be had.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A regression without a result.
    #[error(
        "layer {layer}: the calibration text gives no usable numbers for a compensation; use more or \
         other text, or --compensation 0"
    )]
    Singular {
        /// The layer.
        layer: usize,
    },
    /// A predictor without a result.
    #[error(
        "layer {layer}: the calibration text gives no usable numbers for a predictor; give more or other \
         text with --data"
    )]
    Untrained {
        /// The layer.
        layer: usize,
    },
    /// No sparsity keeps the loss.
    #[error(
        "no sparsity of 5% or more keeps the loss under {most}: the lowest costs {least:.4}; allow more, or \
         use another policy or a higher --compensation"
    )]
    NoneUnder {
        /// The limit.
        most: f64,
        /// The loss at the lowest sparsity.
        least: f64,
    },
}

/// A step of the work, for a progress bar: what is done, and how much of it.
pub type Progress<'a> = dyn Fn(&str, usize, usize) + 'a;

/// Makes plans for one model from one text.
pub struct Calibrator<'a> {
    model: Arc<Model>,
    pool: Arc<Pool>,
    windows: &'a Windows,
    settings: Settings,
    session: Session,
    progress: &'a Progress<'a>,
    stop: &'a AtomicBool,
    dense: Option<held_out::Dense>,
}

/// A plan with what it was measured to cost.
#[derive(Clone, Debug)]
pub struct Made {
    /// The plan.
    pub plan: Plan,
    /// Its cost on held-out text.
    pub held_out: HeldOut,
    /// Share of each layer's neurons that are off, on held-out text.
    pub layers: Vec<f32>,
    /// Share of the neurons that predictors keep which are among as many with the highest attribution, on
    /// held-out text; `None` without predictors.
    pub recall: Option<f64>,
}

/// What all plans of a calibrator share: scores, and how sensitive layers are.
pub struct Basis {
    /// A plan with scores and no cuts.
    plan: Plan,
    /// The weighting of its scores, if its policy has one.
    pub weighting: Option<Weighting>,
    /// The weightings that were compared.
    pub compared: Vec<Compared>,
    sensitivity: Option<budget::Sensitivity>,
    importance: Option<Importance>,
}

impl<'a> Calibrator<'a> {
    /// A calibrator; `progress` is told what it does, and `stop` ends it between two windows.
    pub fn new(
        model: Arc<Model>,
        pool: Arc<Pool>,
        windows: &'a Windows,
        settings: Settings,
        progress: &'a Progress<'a>,
        stop: &'a AtomicBool,
    ) -> Self {
        let session = Session::new(Arc::clone(&model), Arc::clone(&pool));
        Self { model, pool, windows, settings, session, progress, stop, dense: None }
    }

    /// Tells what is done, and ends where that is wanted.
    fn step(&self, what: &str, done: usize, of: usize) -> Result<(), CalibrateError> {
        (self.progress)(what, done, of);
        match self.stop.load(Ordering::Relaxed) {
            true => Err(CalibrateError::Interrupted),
            false => Ok(()),
        }
    }

    /// Measures what plans are made from; `sparsity` is where weightings are compared.
    ///
    /// # Errors
    /// For a policy that the model cannot have, and when told to stop.
    pub fn basis(&mut self, sparsity: f32) -> Result<Basis, CalibrateError> {
        let policy = self.settings.policy;
        if policy == PolicyKind::Gate && !self.model.config().gated {
            return Err(PolicyError::NoGate.into());
        }
        // What the budget weighs is what the gate policy sees; for predicted scores it did harm (tiny-phi at
        // 70%: KL 0.34 against 0.20 with equal shares).
        let by_sensitivity = !self.settings.uniform && policy == PolicyKind::Gate;
        let scored = matches!(policy, PolicyKind::Gate | PolicyKind::Static);
        let needed = by_sensitivity || scored || self.settings.heads;
        let importance = if needed { Some(self.importance()?) } else { None };
        let config = self.model.config();
        let layers = vec![LayerPlan::default(); config.layers.len()];
        let plan = Plan { policy, neurons: config.intermediate, layers };
        let sensitivity = match &importance {
            Some(importance) if by_sensitivity => Some(self.sensitivity(importance)?),
            _ => None,
        };
        let mut basis =
            Basis { plan, weighting: None, compared: Vec::new(), sensitivity, importance };
        match policy {
            PolicyKind::Gate => self.choose_weighting(&mut basis, sparsity)?,
            PolicyKind::Static => basis.rank_by_attribution(),
            PolicyKind::Predict => self.train_predictors(&mut basis.plan)?,
            PolicyKind::Prompt | PolicyKind::Input | PolicyKind::Magnitude => {}
        }
        Ok(basis)
    }

    /// The plan at a share of neurons off.
    ///
    /// # Errors
    /// When a layer cannot be fitted, and when told to stop.
    pub fn plan(&mut self, basis: &Basis, sparsity: f32) -> Result<Made, CalibrateError> {
        let mut plan = basis.plan.clone();
        self.fit(&mut plan, &basis.ratios(sparsity), 1)?;
        let (held_out, layers) = self.held_out(&plan)?;
        let recall = match plan.policy {
            PolicyKind::Predict => Some(self.recall(&plan)?),
            _ => None,
        };
        let made = Made { plan, held_out, layers, recall };
        match &basis.importance {
            Some(importance) if self.settings.heads => self.without_heads(made, importance),
            _ => Ok(made),
        }
    }

    /// Compares weightings, each with its own thresholds and compensation from a part of the text, and
    /// leaves the weights of the best in the basis.
    fn choose_weighting(&mut self, basis: &mut Basis, sparsity: f32) -> Result<(), CalibrateError> {
        let Some(importance) = &basis.importance else { return Ok(()) };
        let candidates = match self.settings.weighting {
            Some(weighting) => vec![weighting],
            None => Weighting::ALL.to_vec(),
        };
        let ratios = basis.ratios(sparsity);
        let [positive, negative] = importance.by_sign();
        let mut best: Option<(f64, Weighting, Plan)> = None;
        let mut compared = Vec::new();
        for &weighting in &candidates {
            let mut candidate = basis.plan.clone();
            let weights = importance.weights(&self.model, weighting);
            for (index, layer) in candidate.layers.iter_mut().enumerate() {
                let by = |factors: &[Vec<f32>]| -> Arc<[f32]> {
                    let weighted = weights[index].iter().zip(&factors[index]);
                    weighted.map(|(weight, factor)| weight * factor).collect()
                };
                (layer.weights, layer.negative_weights) = (by(&positive), by(&negative));
            }
            let mut kl = 0.0;
            if candidates.len() > 1 {
                let mut cut = candidate.clone();
                self.fit(&mut cut, &ratios, COMPARED_EVERY)?;
                kl = self.held_out(&cut)?.0.kl;
                compared.push(Compared { weighting: weighting.to_string(), kl });
            }
            if best.as_ref().is_none_or(|(least, ..)| kl < *least) {
                best = Some((kl, weighting, candidate));
            }
        }
        if let Some((_, weighting, candidate)) = best {
            (basis.plan, basis.weighting) = (candidate, Some(weighting));
        }
        basis.compared = compared;
        Ok(())
    }

    /// Switches off the heads that matter least, as long as a byte saved by them costs less than one
    /// saved by neurons.
    fn without_heads(
        &mut self,
        made: Made,
        importance: &Importance,
    ) -> Result<Made, CalibrateError> {
        let scores = importance.heads();
        let mut order: Vec<(f32, usize, usize)> = Vec::new();
        for (layer, heads) in scores.iter().enumerate() {
            order.extend(heads.iter().enumerate().map(|(head, &score)| (score, layer, head)));
        }
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let h = &made.held_out;
        let saved = (h.dense_bytes_per_token - h.bytes_per_token).max(1.0);
        // What a byte saved by neurons has cost so far; the last ones have cost more.
        let price = h.kl / saved;
        let mut best = made;
        for share in [0.05, 0.1, 0.2, 0.3] {
            let off = &order[..(order.len() as f64 * share) as usize];
            let mut plan = best.plan.clone();
            for (index, layer) in plan.layers.iter_mut().enumerate() {
                let is_off =
                    |head: &u32| off.iter().any(|&(_, l, h)| (l, h as u32) == (index, *head));
                let on = 0..scores[index].len() as u32;
                layer.heads = Heads::Listed(on.filter(|head| !is_off(head)).collect());
            }
            let (held_out, layers) = self.held_out(&plan)?;
            let cost = held_out.kl - best.held_out.kl;
            let bytes = best.held_out.bytes_per_token - held_out.bytes_per_token;
            if cost > price * bytes {
                break;
            }
            best = Made { plan, held_out, layers, ..best };
        }
        Ok(best)
    }
}

impl Basis {
    /// Shares of neurons off by layer.
    fn ratios(&self, sparsity: f32) -> Vec<f32> {
        match &self.sensitivity {
            Some(sensitivity) => sensitivity.ratios(sparsity),
            None => vec![sparsity; self.plan.layers.len()],
        }
    }

    /// Scores of the static policy.
    fn rank_by_attribution(&mut self) {
        let scores = self.importance.as_ref().map(Importance::attribution).unwrap_or_default();
        for (layer, scores) in self.plan.layers.iter_mut().zip(scores) {
            layer.weights = scores.into();
        }
    }
}
