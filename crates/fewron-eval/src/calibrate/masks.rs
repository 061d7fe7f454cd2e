//! Mask sources and probes that look on while a layer is calibrated.

use fewron_model::{Choice, InputSite, LowRank, MaskSource, Probe, Site};
use fewron_sparsity::{LayerPlan, Plan, Policy, PolicyKind};
use std::sync::Arc;

/// A policy for the tokens of a window behind its dense ones.
pub(super) struct Behind<'a> {
    pub(super) policy: Policy<&'a Plan>,
    pub(super) dense: usize,
    /// Neurons that ran at masked tokens, by layer, and how many could have.
    pub(super) kept: Vec<u64>,
    pub(super) seen: Vec<u64>,
}

impl<'a> Behind<'a> {
    pub(super) fn new(policy: Policy<&'a Plan>, dense: usize) -> Self {
        let layers = policy.plan().layers.len();
        Self { policy, dense, kept: vec![0; layers], seen: vec![0; layers] }
    }

    fn count(&mut self, layer: usize, kept: usize) {
        self.kept[layer] += kept as u64;
        self.seen[layer] += self.policy.plan().neurons as u64;
    }
}

impl MaskSource for Behind<'_> {
    fn inner(&mut self, token: usize) -> Option<(&mut dyn MaskSource, usize)> {
        (token >= self.dense).then_some((&mut self.policy, token))
    }

    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        if token < self.dense {
            return Choice::Dense;
        }
        let choice = self.policy.neurons(layer, token, kept);
        match choice {
            Choice::Dense if self.policy.plan().policy == PolicyKind::Input => {}
            Choice::Dense => self.count(layer, self.policy.plan().neurons),
            Choice::Listed => self.count(layer, kept.len()),
            _ => {}
        }
        choice
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.policy.select_neurons(layer, token, values, kept);
        self.count(layer, kept.len());
    }

    fn thin(&mut self, site: InputSite, layer: usize, token: usize, values: &mut [f32]) {
        if token >= self.dense {
            self.policy.thin(site, layer, token, values);
            if self.policy.plan().layers[layer].input(site).is_some() {
                self.kept[layer] += values.iter().filter(|value| **value != 0.0).count() as u64;
                self.seen[layer] += values.len() as u64;
            }
        }
    }
}

/// Asks a layer's policy what it would keep, and keeps everything.
pub(super) struct Shadow<'a> {
    policy: PolicyKind,
    layer: &'a LayerPlan,
    dense: usize,
    /// The neurons that would run, by token; none for dense tokens.
    pub(super) kept: Vec<Vec<u32>>,
    /// Scores of all tokens that would be masked, if they are wanted.
    pub(super) scores: Option<Vec<f32>>,
    buffer: Vec<f32>,
}

impl<'a> Shadow<'a> {
    pub(super) fn new(policy: PolicyKind, layer: &'a LayerPlan, dense: usize) -> Self {
        Self { policy, layer, dense, kept: Vec::new(), scores: None, buffer: Vec::new() }
    }

    pub(super) fn with_scores(self) -> Self {
        Self { scores: Some(Vec::new()), ..self }
    }

    fn keep(&mut self, token: usize, values: &[f32]) {
        let mut kept = Vec::new();
        self.layer.score(self.policy, values, &mut self.buffer);
        self.layer.cut.keep(&self.buffer, &mut kept);
        if let Some(scores) = &mut self.scores {
            scores.extend_from_slice(&self.buffer);
        }
        self.kept.resize(token + 1, Vec::new());
        self.kept[token] = kept;
    }
}

impl MaskSource for Shadow<'_> {
    fn neurons(&mut self, _: usize, token: usize, _: &mut Vec<u32>) -> Choice {
        match self.policy {
            _ if token < self.dense => Choice::Dense,
            PolicyKind::Gate => Choice::ByGate,
            PolicyKind::Predict => Choice::ByPrediction,
            PolicyKind::Magnitude => Choice::ByOutput,
            PolicyKind::Input => Choice::Dense,
            PolicyKind::Static | PolicyKind::Prompt => {
                let weights = Arc::clone(&self.layer.weights);
                self.keep(token, &weights);
                Choice::Dense
            }
        }
    }

    fn select_neurons(&mut self, _: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.keep(token, values);
        kept.extend(0..values.len() as u32);
    }

    fn predictor(&mut self, _: usize, token: usize) -> Option<Arc<LowRank>> {
        self.layer.predictor.clone().filter(|_| token >= self.dense)
    }
}

/// Looks at the inputs of a layer's matrices.
#[derive(Default)]
pub(super) struct SeenInputs {
    pub(super) dense: usize,
    /// Values of all sparse tokens, by site.
    pub(super) values: [Vec<f32>; 4],
}

impl MaskSource for SeenInputs {
    fn thins(&mut self, token: usize) -> bool {
        token >= self.dense
    }

    fn thin(&mut self, site: InputSite, _: usize, _: usize, values: &mut [f32]) {
        self.values[site as usize].extend_from_slice(values);
    }
}

/// What a layer's MLP read and its neurons gave.
#[derive(Default)]
pub(super) struct SeenMlp {
    /// `[tokens, hidden]`.
    pub(super) input: Vec<f32>,
    /// `[tokens, intermediate]`.
    pub(super) outputs: Vec<f32>,
}

impl Probe for SeenMlp {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::MlpInput | Site::NeuronOutput)
    }

    fn observe(&mut self, site: Site, _: usize, values: &[f32]) {
        match site {
            Site::MlpInput => self.input.extend_from_slice(values),
            _ => self.outputs.extend_from_slice(values),
        }
    }
}

/// The residual stream behind the last block.
#[derive(Default)]
pub(super) struct SeenFinal(pub(super) Vec<f32>);

impl Probe for SeenFinal {
    fn wants(&self, site: Site) -> bool {
        site == Site::ResidFinal
    }

    fn observe(&mut self, _: Site, _: usize, values: &[f32]) {
        self.0.extend_from_slice(values);
    }
}
