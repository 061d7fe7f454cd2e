//! Scores of every neuron and head for traced tokens.

use crate::metric::{Metric, Units, score};
use fewron_model::{Gradients, Model, Resume, Session, Stop, Trace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Which units are scored and masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// MLP neurons.
    Mlp,
    /// Attention heads.
    Heads,
    /// Both.
    Both,
}

/// A name that no scope has.
#[derive(Debug, Error)]
#[error("no scope {0:?}; there are mlp, heads, both")]
pub struct UnknownScope(String);

impl Scope {
    /// The name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Mlp => "mlp",
            Scope::Heads => "heads",
            Scope::Both => "both",
        }
    }

    /// Whether MLP neurons belong to it.
    pub fn has_neurons(self) -> bool {
        self != Scope::Heads
    }

    /// Whether heads belong to it.
    pub fn has_heads(self) -> bool {
        self != Scope::Mlp
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Scope::Mlp, Scope::Heads, Scope::Both]
            .into_iter()
            .find(|scope| scope.name() == name)
            .ok_or_else(|| UnknownScope(name.into()))
    }
}

/// Scores of one metric, by layer and token; empty for a kind outside the scope.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Per layer `[tokens, intermediate]`.
    pub neurons: Vec<Vec<f32>>,
    /// Per layer `[tokens, heads]`.
    pub heads: Vec<Vec<f32>>,
}

/// Computes metrics on traced tokens.
#[derive(Debug)]
pub struct Attribution {
    metrics: Vec<Metric>,
    scope: Scope,
    correction: f32,
    ig_steps: usize,
    seed: u64,
    /// ‖W_down‖ of every neuron, per layer; empty unless WINA is wanted.
    weight_norms: Vec<Vec<f32>>,
}

impl Attribution {
    /// Prepares the metrics for a model. `correction` is the strength of `cor-gxo` (½ in the paper),
    /// `ig_steps` the number of gradients that integrated gradients average.
    pub fn new(
        model: &Model,
        metrics: &[Metric],
        scope: Scope,
        correction: f32,
        ig_steps: usize,
        seed: u64,
    ) -> Self {
        let layers = 0..model.config().layers.len();
        let weight_norms = if metrics.contains(&Metric::Wina) {
            layers.map(|layer| model.down_proj(layer).row_norms(model.isa())).collect()
        } else {
            vec![Vec::new(); layers.len()]
        };
        Self { metrics: metrics.to_vec(), scope, correction, ig_steps, seed, weight_norms }
    }

    /// The metrics, in the order of the scores.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// Scores of every metric for the trace's tokens, given their logits `[tokens, vocab]` and
    /// labels. The session's cache must still hold the text. `sample` varies the random scores.
    pub fn scores(
        &self,
        session: &mut Session,
        trace: &Trace,
        logits: &[f32],
        labels: &[u32],
        sample: u64,
    ) -> Vec<Scores> {
        let gradients = if self.metrics.iter().any(|m| m.needs_gradient()) {
            session.backward(trace, logits, labels, Stop::Everything)
        } else {
            let none = vec![Vec::new(); session.model().config().layers.len()];
            Gradients { neurons: none.clone(), heads: none, loss: Vec::new() }
        };
        let metrics = self.metrics.iter();
        metrics
            .map(|&metric| match metric {
                Metric::Random => self.random(session.model(), trace, sample),
                Metric::Ig => {
                    let mean = self.integrated(session, trace, labels);
                    self.scores_of(metric, session.model(), trace, &mean)
                }
                _ => self.scores_of(metric, session.model(), trace, &gradients),
            })
            .collect()
    }

    fn scores_of(&self, metric: Metric, model: &Model, trace: &Trace, g: &Gradients) -> Scores {
        let config = model.config();
        let (head_dim, query_width) = (config.head_dim, config.query_width());
        let mut scores = Scores::default();
        for layer in 0..config.layers.len() {
            if self.scope.has_neurons() {
                let norms = &self.weight_norms[layer];
                let (o, g) = (trace.neuron_outputs(layer), &g.neurons[layer]);
                scores.neurons.push(self.by_token(metric, o, g, config.intermediate, 1, norms));
            }
            if self.scope.has_heads() {
                let (o, g) = (trace.head_outputs(layer), &g.heads[layer]);
                scores.heads.push(self.by_token(metric, o, g, query_width, head_dim, &[]));
            }
        }
        scores
    }

    fn by_token(
        &self,
        metric: Metric,
        outputs: &[f32],
        gradients: &[f32],
        row: usize,
        width: usize,
        weight_norms: &[f32],
    ) -> Vec<f32> {
        let mut scores = Vec::with_capacity(outputs.len() / width);
        for (token, outputs) in outputs.chunks_exact(row).enumerate() {
            let gradients = gradients.get(token * row..(token + 1) * row).unwrap_or(&[]);
            let units = Units { outputs, gradients, width, weight_norms };
            score(metric, units, self.correction, &mut scores);
        }
        scores
    }

    fn random(&self, model: &Model, trace: &Trace, sample: u64) -> Scores {
        let config = model.config();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(sample);
        let mut draw = |wanted: bool, units: usize| -> Vec<Vec<f32>> {
            let layers = if wanted { config.layers.len() } else { 0 };
            let mut row = || (0..trace.tokens() * units).map(|_| rng.random()).collect();
            (0..layers).map(|_| row()).collect()
        };
        Scores {
            neurons: draw(self.scope.has_neurons(), config.intermediate),
            heads: draw(self.scope.has_heads(), config.heads),
        }
    }

    /// Mean gradients along the path from zero to the outputs, for one layer and kind at a time:
    /// right-hand sums at k/n, k = 1..n (design §2; Sundararajan et al., section 5).
    fn integrated(&self, session: &mut Session, trace: &Trace, labels: &[u32]) -> Gradients {
        let config = session.model().config().clone();
        let mut mean = Gradients::default();
        for layer in 0..config.layers.len() {
            let neurons = if self.scope.has_neurons() {
                self.integrated_layer(session, trace, labels, layer, true)
            } else {
                Vec::new()
            };
            let heads = if self.scope.has_heads() {
                self.integrated_layer(session, trace, labels, layer, false)
            } else {
                Vec::new()
            };
            mean.neurons.push(neurons);
            mean.heads.push(heads);
        }
        mean
    }

    fn integrated_layer(
        &self,
        session: &mut Session,
        trace: &Trace,
        labels: &[u32],
        layer: usize,
        neurons: bool,
    ) -> Vec<f32> {
        let outputs = if neurons { trace.neuron_outputs(layer) } else { trace.head_outputs(layer) };
        let row = outputs.len() / trace.tokens();
        let mut mean = vec![0.0; outputs.len()];
        for (token, &label) in labels.iter().enumerate() {
            let outputs = &outputs[token * row..][..row];
            let path: Vec<f32> = (1..=self.ig_steps)
                .map(|k| k as f32 / self.ig_steps as f32)
                .flat_map(|share| outputs.iter().map(move |o| o * share))
                .collect();
            let (from, stop) = if neurons {
                (Resume::Neurons(&path), Stop::Neurons(layer))
            } else {
                (Resume::Heads(&path), Stop::Heads(layer))
            };
            let (resumed, logits) = session.resume(trace, token, layer, from);
            let logits = logits.to_vec();
            let mut g = session.backward(&resumed, &logits, &vec![label; self.ig_steps], stop);
            let g =
                std::mem::take(if neurons { &mut g.neurons[layer] } else { &mut g.heads[layer] });
            for (index, g) in g.iter().enumerate() {
                mean[token * row + index % row] += g / self.ig_steps as f32;
            }
        }
        mean
    }
}
