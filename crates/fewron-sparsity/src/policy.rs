//! Mask sources: replay of chosen masks, run-time policies, and a recorder of what was kept.

use crate::selection::{Kept, Selection, kept_count, top_k};
use fewron_model::{Choice, MaskSource, Probe, Site};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Plays back masks that were chosen before, token by token.
#[derive(Clone, Debug)]
pub struct Replay(pub Vec<Kept>);

impl MaskSource for Replay {
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        replay(&self.0[token].neurons, layer, kept)
    }

    fn heads(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        replay(&self.0[token].heads, layer, kept)
    }
}

fn replay(layers: &[Vec<u32>], layer: usize, kept: &mut Vec<u32>) -> Choice {
    match layers.get(layer) {
        Some(list) => {
            kept.extend_from_slice(list);
            Choice::Listed
        }
        None => Choice::Dense,
    }
}

/// A policy that masks without label and without backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyKind {
    /// Exact outputs, the largest kept: a reference, since everything is computed first.
    Magnitude,
    /// |act(gate_i)|·E|up_i|·‖W_down,i‖ with E|up_i| from calibration text: up rows and down columns
    /// of the others are never touched.
    Gate,
}

/// A name that no policy has.
#[derive(Debug, Error)]
#[error("no policy {0:?}; there are magnitude, gate")]
pub struct UnknownPolicy(String);

impl PolicyKind {
    /// The name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::Magnitude => "magnitude",
            PolicyKind::Gate => "gate",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [PolicyKind::Magnitude, PolicyKind::Gate]
            .into_iter()
            .find(|policy| policy.name() == name)
            .ok_or_else(|| UnknownPolicy(name.into()))
    }
}

/// What policies need to know of a model's usual activations, measured on text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// E|up_i| · ‖W_down,i‖ per layer: the gate policy's weights c_i.
    pub gate_weights: Vec<Vec<f32>>,
    /// Evenly spaced quantiles, ascending, of the gate scores |act(gate_i)|·c_i of a sample of
    /// tokens, per layer: for thresholds.
    pub gate_scores: Vec<Vec<f32>>,
    /// The same of |o_i|.
    pub magnitudes: Vec<Vec<f32>>,
}

/// Which units a run-time policy masks, and how many.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    kind: PolicyKind,
    scope: crate::Scope,
    ratio: f32,
    gate_weights: &'a [Vec<f32>],
    /// Per layer; empty for top-k.
    thresholds: Vec<f32>,
    scores: Vec<f32>,
}

/// A combination that does not exist.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The gate says nothing about heads.
    #[error("policy gate ranks MLP neurons only; use --scope mlp, or policy magnitude for heads")]
    GateHeads,
    /// Global budgets need all layers' scores before the first layer runs.
    #[error(
        "selection global is for the oracle protocol: a running model has no scores of later layers; use layer or threshold"
    )]
    Global,
    /// Thresholds exist for neurons only.
    #[error(
        "selection threshold is calibrated for MLP neurons only; use --scope mlp or --select layer"
    )]
    ThresholdHeads,
}

impl<'a> Policy<'a> {
    /// A policy at a sparsity ratio.
    ///
    /// # Errors
    /// For combinations that a running model cannot have.
    pub fn new(
        kind: PolicyKind,
        scope: crate::Scope,
        selection: Selection,
        ratio: f32,
        calibration: &'a Calibration,
    ) -> Result<Self, PolicyError> {
        if kind == PolicyKind::Gate && scope.has_heads() {
            return Err(PolicyError::GateHeads);
        }
        let thresholds = match selection {
            Selection::Layer => Vec::new(),
            Selection::Global => return Err(PolicyError::Global),
            Selection::Threshold if scope.has_heads() => return Err(PolicyError::ThresholdHeads),
            Selection::Threshold => {
                let layers = match kind {
                    PolicyKind::Gate => &calibration.gate_scores,
                    PolicyKind::Magnitude => &calibration.magnitudes,
                };
                layers.iter().map(|sorted| quantile(sorted, ratio)).collect()
            }
        };
        let gate_weights = &calibration.gate_weights;
        Ok(Self { kind, scope, ratio, gate_weights, thresholds, scores: Vec::new() })
    }
}

/// The value that a share `ratio` of the ascending values lies under. A share of nothing gives −∞:
/// the sample's smallest value would drop what is smaller still.
fn quantile(sorted: &[f32], ratio: f32) -> f32 {
    match (f64::from(ratio) * sorted.len() as f64).round() as usize {
        0 => f32::NEG_INFINITY,
        at => sorted.get(at).copied().unwrap_or(f32::INFINITY),
    }
}

impl MaskSource for Policy<'_> {
    fn neurons(&mut self, _: usize, _: usize, _: &mut Vec<u32>) -> Choice {
        match self.kind {
            _ if !self.scope.has_neurons() => Choice::Dense,
            PolicyKind::Magnitude => Choice::ByOutput,
            PolicyKind::Gate => Choice::ByGate,
        }
    }

    fn select_neurons(&mut self, layer: usize, _: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.scores.clear();
        match self.kind {
            PolicyKind::Magnitude => self.scores.extend(values.iter().map(|v| v.abs())),
            PolicyKind::Gate => {
                let weighted = values.iter().zip(&self.gate_weights[layer]);
                self.scores.extend(weighted.map(|(v, c)| v.abs() * c));
            }
        }
        match self.thresholds.get(layer) {
            Some(&threshold) => {
                let on = self.scores.iter().zip(0..).filter(|&(&s, _)| s >= threshold);
                kept.extend(on.map(|(_, i)| i));
            }
            None => top_k(&self.scores, kept_count(values.len(), self.ratio), kept),
        }
    }

    fn heads(&mut self, _: usize, _: usize, _: &mut Vec<u32>) -> Choice {
        if self.scope.has_heads() { Choice::ByOutput } else { Choice::Dense }
    }

    fn select_heads(
        &mut self,
        _: usize,
        _: usize,
        outputs: &[f32],
        heads: usize,
        kept: &mut Vec<u32>,
    ) {
        self.scores.clear();
        let norm = |head: &[f32]| head.iter().map(|x| x * x).sum::<f32>();
        self.scores.extend(outputs.chunks_exact(outputs.len() / heads).map(norm));
        top_k(&self.scores, kept_count(heads, self.ratio), kept);
    }
}

/// Passes another source's decisions on and keeps a copy of what stayed on, by token.
pub struct Recorder<'a> {
    source: &'a mut dyn MaskSource,
    /// What was kept, by token of the call.
    pub kept: Vec<Kept>,
}

impl<'a> Recorder<'a> {
    /// Records the decisions of `source`.
    pub fn new(source: &'a mut dyn MaskSource) -> Self {
        Self { source, kept: Vec::new() }
    }

    fn token(&mut self, token: usize) -> &mut Kept {
        if self.kept.len() <= token {
            self.kept.resize_with(token + 1, Kept::default);
        }
        &mut self.kept[token]
    }
}

impl MaskSource for Recorder<'_> {
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let choice = self.source.neurons(layer, token, kept);
        if choice == Choice::Listed {
            self.token(token).neurons.push(kept.clone());
        }
        choice
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.source.select_neurons(layer, token, values, kept);
        self.token(token).neurons.push(kept.clone());
    }

    fn heads(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let choice = self.source.heads(layer, token, kept);
        if choice == Choice::Listed {
            self.token(token).heads.push(kept.clone());
        }
        choice
    }

    fn select_heads(
        &mut self,
        layer: usize,
        token: usize,
        outputs: &[f32],
        heads: usize,
        kept: &mut Vec<u32>,
    ) {
        self.source.select_heads(layer, token, outputs, heads, kept);
        self.token(token).heads.push(kept.clone());
    }
}

/// Gathers a [`Calibration`] as the probe of dense forward calls over text.
#[derive(Debug)]
pub struct CalibrationProbe {
    tokens: usize,
    up_sums: Vec<Vec<f64>>,
    /// |act(gate)| and |o| of every [`SAMPLE_EVERY`]th token, per layer.
    gates: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    activation: fewron_kernels::Activation,
    isa: fewron_kernels::Isa,
    neurons: usize,
}

/// Every how many tokens scores are kept for thresholds.
const SAMPLE_EVERY: usize = 16;

/// Quantiles that a layer's scores are reduced to, at most.
const QUANTILES: usize = 1024;

impl CalibrationProbe {
    /// An empty probe for a model.
    pub fn new(model: &fewron_model::Model) -> Self {
        let config = model.config();
        let (layers, neurons) = (config.layers.len(), config.intermediate);
        Self {
            tokens: 0,
            up_sums: vec![vec![0.0; neurons]; layers],
            gates: vec![Vec::new(); layers],
            outputs: vec![Vec::new(); layers],
            activation: config.activation,
            isa: model.isa(),
            neurons,
        }
    }

    /// The calibration. Memory of the probe: about `intermediate` · 8 bytes for every 16th token
    /// and layer.
    pub fn finish(self, model: &fewron_model::Model) -> Calibration {
        let tokens = self.tokens.max(1) as f64;
        let weights = |(layer, sums): (usize, Vec<f64>)| -> Vec<f32> {
            let norms = model.down_proj(layer).row_norms(self.isa);
            sums.iter().zip(norms).map(|(sum, norm)| (sum / tokens) as f32 * norm).collect()
        };
        let gate_weights: Vec<Vec<f32>> =
            self.up_sums.into_iter().enumerate().map(weights).collect();
        let mut gate_scores = self.gates;
        for (scores, weights) in gate_scores.iter_mut().zip(&gate_weights) {
            for row in scores.chunks_exact_mut(self.neurons) {
                row.iter_mut().zip(weights).for_each(|(score, c)| *score *= c);
            }
        }
        let mut magnitudes = self.outputs;
        gate_scores.iter_mut().chain(&mut magnitudes).for_each(reduce_to_quantiles);
        Calibration { gate_weights, gate_scores, magnitudes }
    }
}

/// Sorts values and keeps [`QUANTILES`] of them, evenly spaced from the lowest on.
fn reduce_to_quantiles(values: &mut Vec<f32>) {
    values.sort_unstable_by(f32::total_cmp);
    if values.len() > QUANTILES {
        let all = std::mem::take(values);
        values.extend((0..QUANTILES).map(|at| all[at * all.len() / QUANTILES]));
    }
}

impl Probe for CalibrationProbe {
    fn begin(&mut self, positions: &[usize]) {
        self.tokens += positions.len();
    }

    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Gate | Site::Up | Site::NeuronOutput)
    }

    fn observe(&mut self, site: Site, layer: usize, values: &[f32]) {
        let sampled = values.chunks_exact(self.neurons).step_by(SAMPLE_EVERY);
        match site {
            Site::Up => {
                for row in values.chunks_exact(self.neurons) {
                    let sums = self.up_sums[layer].iter_mut().zip(row);
                    sums.for_each(|(sum, up)| *sum += f64::from(up.abs()));
                }
            }
            Site::Gate => {
                let mut act = vec![0.0; self.neurons];
                for row in sampled {
                    fewron_kernels::activate(self.isa, self.activation, row, &mut act);
                    self.gates[layer].extend(act.iter().map(|a| a.abs()));
                }
            }
            Site::NeuronOutput => {
                self.outputs[layer].extend(sampled.flatten().map(|o| o.abs()));
            }
            _ => {}
        }
    }
}
