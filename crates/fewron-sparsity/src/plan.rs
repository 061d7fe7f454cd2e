//! What a policy needs at run time, layer by layer.

pub mod changes;
mod edits;
pub mod file;
mod maps;
pub mod record;

use crate::calibration::Calibration;
use crate::policy::PolicyKind;
use crate::selection::{Selection, kept_count, top_k};
use crate::{Scope, selection::quantile};
use fewron_model::{InputSite, LowRank, Model, ModelConfig, PerMatrix};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// How a running model masks its tokens: a policy, and what it needs for each layer (design §5).
#[derive(Clone, Debug)]
pub struct Plan {
    /// What scores the neurons.
    pub policy: PolicyKind,
    /// Neurons of a layer.
    pub neurons: usize,
    /// By layer.
    pub layers: Vec<LayerPlan>,
}

/// A layer's part of a [`Plan`].
#[derive(Clone, Default)]
pub struct LayerPlan {
    /// How many neurons run.
    pub cut: Cut,
    /// One for each neuron: the gate policy's c_i, the static policy's scores; else empty.
    pub weights: Arc<[f32]>,
    /// The gate policy's c_i where act(gate_i) is negative; empty where they are the same.
    pub negative_weights: Arc<[f32]>,
    /// Channels that are left out of the inputs of the layer's matrices, by [`InputSite::ALL`]. Policy
    /// `gate` has the last one alone, its second stage: neurons whose output turns out to be small are off
    /// for the down projection.
    pub inputs: [InputCut; 4],
    /// Scores of the neurons from the MLP's input.
    pub predictor: Option<Arc<LowRank>>,
    /// What is added to the MLP's output for the neurons that are off.
    pub compensation: Option<Arc<LowRank>>,
    /// The heads that run.
    pub heads: Heads,
    /// Evenly spaced quantiles, ascending, of the scores on calibration text; empty where they were
    /// not measured.
    pub quantiles: Arc<[f32]>,
    /// Share of calibration tokens that keep each neuron; empty where it was not measured.
    pub frequency: Arc<[f32]>,
}

impl LayerPlan {
    /// The cut of an input.
    pub fn input(&self, site: InputSite) -> &InputCut {
        &self.inputs[site as usize]
    }

    /// The same, to change.
    pub fn input_mut(&mut self, site: InputSite) -> &mut InputCut {
        &mut self.inputs[site as usize]
    }

    /// Scores of the neurons from what the policy sees of them: act(gate), predicted scores, or outputs.
    pub fn score(&self, policy: PolicyKind, values: &[f32], scores: &mut Vec<f32>) {
        scores.clear();
        let weighted = matches!(policy, PolicyKind::Gate | PolicyKind::Magnitude);
        let (weights, negative) = (&*self.weights, &*self.negative_weights);
        if !weighted {
            scores.extend_from_slice(values);
        } else if weights.is_empty() {
            scores.extend(values.iter().map(|v| v.abs()));
        } else if policy == PolicyKind::Magnitude || negative.is_empty() {
            scores.extend(values.iter().zip(weights).map(|(v, c)| v.abs() * c));
        } else {
            let sides = weights.iter().zip(negative);
            let score =
                |(v, (c, n)): (&f32, (&f32, &f32))| v.abs() * if *v > 0.0 { *c } else { *n };
            scores.extend(values.iter().zip(sides).map(score));
        }
    }
}

impl fmt::Debug for LayerPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rank = |map: &Option<Arc<LowRank>>| map.as_ref().map(|map| map.rank());
        f.debug_struct("LayerPlan")
            .field("cut", &self.cut)
            .field("heads", &self.heads)
            .field("predictor", &rank(&self.predictor))
            .field("compensation", &rank(&self.compensation))
            .finish_non_exhaustive()
    }
}

/// How many of a layer's neurons run for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Cut {
    /// All of them.
    #[default]
    Dense,
    /// Those with the highest scores, this many.
    Best(usize),
    /// Those whose score is at least this: tokens that need more get more.
    Above(f32),
}

impl Cut {
    /// Appends the neurons that run to `kept`, ascending.
    pub fn keep(self, scores: &[f32], kept: &mut Vec<u32>) {
        match self {
            Cut::Dense => kept.extend(0..scores.len() as u32),
            Cut::Best(count) => top_k(scores, count, kept),
            Cut::Above(least) => {
                // Without a branch, which the processor could only guess.
                let mut end = kept.len();
                kept.resize(end + scores.len(), 0);
                for (&score, i) in scores.iter().zip(0..) {
                    kept[end] = i;
                    end += usize::from(score >= least);
                }
                kept.truncate(end);
            }
        }
    }
}

/// Which channels of an input are left out: those whose product with their weights is small.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputCut {
    /// Least |x_j|·‖W_j‖ of a channel that stays (Chen et al., WINA, 2025); 0 leaves all.
    pub least: f32,
    /// ‖W_j‖ of each channel.
    pub norms: Arc<[f32]>,
}

impl InputCut {
    /// Whether anything is left out.
    pub fn is_some(&self) -> bool {
        self.least > 0.0
    }

    /// Whether a channel with this value stays.
    pub fn keeps(&self, channel: usize, value: f32) -> bool {
        self.norms.get(channel).is_none_or(|norm| value.abs() * norm >= self.least)
    }

    /// Sets the channels under the limit to 0; `values` are those of all channels.
    pub fn thin(&self, values: &mut [f32]) {
        for (value, norm) in values.iter_mut().zip(&*self.norms) {
            *value = if value.abs() * norm < self.least { 0.0 } else { *value };
        }
    }
}

/// The heads of a layer that run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Heads {
    /// All of them.
    #[default]
    All,
    /// These, ascending.
    Listed(Arc<[u32]>),
    /// This many, those with the largest outputs: a reference, since all are computed first.
    Largest(usize),
}

/// A combination that does not exist.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// Only magnitude ranks heads.
    #[error("policy {0} ranks MLP neurons only; use --scope mlp, or policy magnitude for heads")]
    Heads(PolicyKind),
    /// The policy needs more than a quick calibration.
    #[error(
        "policy {0} needs a plan: make one with `fewron calibrate MODEL --policy {0} --out FILE`, and \
         give it with --plan"
    )]
    NeedsPlan(PolicyKind),
    /// The gate policy looks at a gate.
    #[error("policy gate needs an MLP with a gate, which this model does not have; use predict")]
    NoGate,
    /// Global budgets need all layers' scores before the first layer runs.
    #[error(
        "selection global is for the oracle protocol: a running model has no scores of later layers; use layer or threshold"
    )]
    Global,
    /// Thresholds exist for some scores only.
    #[error(
        "selection threshold is calibrated for the MLP neurons of gate and magnitude only; use --scope mlp or --select layer"
    )]
    Threshold,
}

impl Plan {
    /// A plan that switches off the same share of each layer's neurons (or heads).
    ///
    /// # Errors
    /// For combinations that a running model cannot have.
    pub fn uniform(
        config: &ModelConfig,
        policy: PolicyKind,
        scope: Scope,
        selection: Selection,
        ratio: f32,
        calibration: &Calibration,
    ) -> Result<Self, PolicyError> {
        check(config, policy, scope, selection)?;
        let (weights, scores): (&[Vec<f32>], &[Vec<f32>]) = match policy {
            PolicyKind::Gate => (&calibration.gate_weights, &calibration.gate_scores),
            PolicyKind::Magnitude => (&[], &calibration.magnitudes),
            _ => (&[], &[]),
        };
        let of_layer = |rows: &[Vec<f32>], layer: usize| -> Arc<[f32]> {
            rows.get(layer).map_or_else(Arc::default, |row| row.as_slice().into())
        };
        let layer = |layer: usize| LayerPlan {
            weights: of_layer(weights, layer),
            quantiles: of_layer(scores, layer),
            heads: match scope.has_heads() {
                true => Heads::Largest(kept_count(config.heads, ratio)),
                false => Heads::All,
            },
            ..LayerPlan::default()
        };
        let layers = (0..config.layers.len()).map(layer).collect();
        let mut plan = Self { policy, neurons: config.intermediate, layers };
        if scope.has_neurons() {
            plan.cut_all(selection, ratio);
        }
        Ok(plan)
    }

    /// This plan with another share of neurons off, the same in each layer: its scores stay, what was
    /// fitted for its own share (compensation, second stage) goes.
    ///
    /// # Errors
    /// For thresholds that were not calibrated.
    pub fn at_ratio(&self, selection: Selection, ratio: f32) -> Result<Self, PolicyError> {
        let calibrated = self.layers.iter().all(|layer| !layer.quantiles.is_empty());
        match selection {
            Selection::Global => return Err(PolicyError::Global),
            Selection::Threshold if !calibrated => return Err(PolicyError::Threshold),
            _ => {}
        }
        let mut plan = self.clone();
        for layer in &mut plan.layers {
            layer.compensation = None;
            layer.inputs = Default::default();
        }
        plan.cut_all(selection, ratio);
        Ok(plan)
    }

    fn cut_all(&mut self, selection: Selection, ratio: f32) {
        let neurons = self.neurons;
        for layer in &mut self.layers {
            layer.cut = match selection {
                Selection::Threshold => Cut::Above(quantile(&layer.quantiles, ratio)),
                _ => Cut::Best(kept_count(neurons, ratio)),
            };
        }
    }

    /// Refuses a plan without what its policy looks at.
    pub(crate) fn check_complete(&self) -> Result<(), file::PlanError> {
        for (index, layer) in self.layers.iter().enumerate().filter(|(_, l)| l.cut != Cut::Dense) {
            let missing = match self.policy {
                PolicyKind::Gate | PolicyKind::Static => layer.weights.is_empty(),
                PolicyKind::Predict => layer.predictor.is_none(),
                PolicyKind::Prompt | PolicyKind::Magnitude | PolicyKind::Input => false,
            };
            if missing {
                let what = format!("layer {index} of a plan for policy {}", self.policy);
                return Err(file::PlanError::tensor(&what, "has no scores"));
            }
        }
        Ok(())
    }

    /// Bytes that predictors and compensations add to a token.
    pub fn added_bytes(&self) -> usize {
        let maps = self.layers.iter().flat_map(|l| [&l.predictor, &l.compensation]);
        maps.flatten().map(|map| map.bytes()).sum()
    }

    /// Weight bytes that a token reads where `active(layer)` is the share of a layer's neurons that
    /// run, where there is a second stage the mean of those that are computed and those whose outputs are
    /// used: see [`fewron_model::BytesPerToken`]. Heads that are off spare their rows of the query
    /// projection and their columns of the output projection.
    pub fn bytes_per_token(&self, model: &Model, active: impl Fn(usize) -> f64) -> f64 {
        let dense = (model.bytes_per_token().total() + self.added_bytes()) as f64;
        dense - self.spared(model, active, Model::layer_bytes)
    }

    /// Operations of a token behind `kv_length` others, as [`Model::flops_per_token`] counts them: those
    /// of weights that are not read are not done.
    pub fn flops_per_token(
        &self,
        model: &Model,
        active: impl Fn(usize) -> f64,
        kv_length: usize,
    ) -> f64 {
        let maps = self.layers.iter().flat_map(|l| [&l.predictor, &l.compensation]).flatten();
        let added: usize = maps.map(|map| map.rank() * (map.inputs() + map.outputs())).sum();
        let spared = self.spared(model, active, Model::layer_weights);
        model.flops_per_token(kv_length) + 2.0 * (added as f64 - spared)
    }

    /// What a token is spared of a number of each matrix.
    fn spared(
        &self,
        model: &Model,
        active: impl Fn(usize) -> f64,
        number: fn(&Model, usize) -> PerMatrix,
    ) -> f64 {
        let mut total = 0.0;
        for (index, layer) in self.layers.iter().enumerate() {
            let matrices = number(model, index);
            if layer.cut != Cut::Dense || self.policy == PolicyKind::Input {
                total += self.policy.spared(&matrices, active(index));
            }
            if let Heads::Listed(on) = &layer.heads {
                let off = 1.0 - on.len() as f64 / model.config().heads as f64;
                total += off * (matrices.query + matrices.output) as f64;
            }
        }
        total
    }
}

/// Refuses what a running model cannot have.
fn check(
    config: &ModelConfig,
    policy: PolicyKind,
    scope: Scope,
    selection: Selection,
) -> Result<(), PolicyError> {
    match (policy, selection) {
        (_, Selection::Global) => Err(PolicyError::Global),
        (PolicyKind::Predict | PolicyKind::Static | PolicyKind::Input, _) => {
            Err(PolicyError::NeedsPlan(policy))
        }
        (PolicyKind::Gate, _) if !config.gated => Err(PolicyError::NoGate),
        (PolicyKind::Gate | PolicyKind::Prompt, _) if scope.has_heads() => {
            Err(PolicyError::Heads(policy))
        }
        (PolicyKind::Prompt, Selection::Threshold) => Err(PolicyError::Threshold),
        (_, Selection::Threshold) if scope.has_heads() => Err(PolicyError::Threshold),
        _ => Ok(()),
    }
}
