//! How much neurons matter on calibration text: attribution, and the weights of scores made of it.

use fewron_model::{Gradients, Model, Trace};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the gate policy's weights c_i are made of. A neuron's output is o_i = act(gate_i)·up_i; act(gate_i)
/// is known when it is scored, the rest is what its weight stands for. g = ∂L/∂o at the last position,
/// with the model's own greedy token as label; ‖g‖ is its norm over the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// E|up_i|·‖W_down,i‖: the expected size of what it adds to the residual stream.
    Magnitude,
    /// √E(up_i²)·‖W_down,i‖: the same in the mean square.
    Rms,
    /// √E((g_i·up_i)²): Fisher information of the neuron's gate.
    Fisher,
    /// E(|g_i·up_i| + ½·|up_i|·‖g‖): the size of the corrected attribution −g·o + ½·|o|·‖g‖ (arXiv
    /// 2406.06562) for each unit of the gate.
    Attribution,
}

impl Weighting {
    /// All of them.
    pub const ALL: [Weighting; 4] =
        [Weighting::Magnitude, Weighting::Rms, Weighting::Fisher, Weighting::Attribution];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Weighting::Magnitude => "magnitude",
            Weighting::Rms => "rms",
            Weighting::Fisher => "fisher",
            Weighting::Attribution => "attribution",
        }
    }
}

impl fmt::Display for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Strength of the correction (arXiv 2406.06562).
const CORRECTION: f32 = 0.5;

/// Tokens of the mean that a neuron's figures by sign are drawn towards.
const SHRINKAGE: f64 = 100.0;

/// Sums over traced tokens of what neurons and heads matter, by layer.
#[derive(Clone, Debug)]
pub struct Importance {
    tokens: usize,
    magnitude: Vec<Vec<f64>>,
    /// up², and that and the tokens where act(gate) is positive.
    squares: Vec<Vec<f64>>,
    positive_squares: Vec<Vec<f64>>,
    positive: Vec<Vec<f64>>,
    /// g².
    gradients: Vec<Vec<f64>>,
    fisher: Vec<Vec<f64>>,
    attribution: Vec<Vec<f64>>,
    totals: Vec<Vec<f64>>,
    heads: Vec<Vec<f64>>,
}

impl Importance {
    /// Nothing seen yet.
    pub fn new(model: &Model) -> Self {
        let config = model.config();
        let neurons = vec![vec![0.0; config.intermediate]; config.layers.len()];
        Self {
            tokens: 0,
            magnitude: neurons.clone(),
            squares: neurons.clone(),
            positive_squares: neurons.clone(),
            positive: neurons.clone(),
            gradients: neurons.clone(),
            fisher: neurons.clone(),
            attribution: neurons.clone(),
            totals: neurons,
            heads: vec![vec![0.0; config.heads]; config.layers.len()],
        }
    }

    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Adds traced tokens with their gradients.
    pub fn add(&mut self, trace: &Trace, gradients: &Gradients) {
        self.tokens += trace.tokens();
        for layer in 0..self.totals.len() {
            let n = self.totals[layer].len();
            let rows = gradients.neurons[layer].chunks_exact(n);
            let outputs = trace.neuron_outputs(layer).chunks_exact(n);
            let inputs = trace.up(layer).chunks_exact(n).enumerate();
            for ((g, o), (token, up)) in rows.zip(outputs).zip(inputs) {
                let gate = trace.gate(layer).get(token * n..(token + 1) * n);
                let bound = CORRECTION * g.iter().map(|g| g * g).sum::<f32>().sqrt();
                for i in 0..n {
                    let part = g[i] * up[i];
                    let square = f64::from(up[i] * up[i]);
                    if gate.is_some_and(|gate| gate[i] > 0.0) {
                        self.positive[layer][i] += 1.0;
                        self.positive_squares[layer][i] += square;
                    }
                    self.squares[layer][i] += square;
                    self.gradients[layer][i] += f64::from(g[i] * g[i]);
                    self.magnitude[layer][i] += f64::from(up[i].abs());
                    self.fisher[layer][i] += f64::from(part * part);
                    self.attribution[layer][i] += f64::from(part.abs() + bound * up[i].abs());
                    self.totals[layer][i] += f64::from(bound * o[i].abs() - g[i] * o[i]);
                }
            }
            let (z, g) = (trace.head_outputs(layer), &gradients.heads[layer]);
            self.add_heads(layer, z, g, trace.tokens());
        }
    }

    fn add_heads(&mut self, layer: usize, z: &[f32], g: &[f32], tokens: usize) {
        let heads = self.heads[layer].len();
        let dim = z.len() / (tokens * heads);
        for (at, (z, g)) in z.chunks_exact(dim).zip(g.chunks_exact(dim)).enumerate() {
            let part: f32 = z.iter().zip(g).map(|(z, g)| z * g).sum();
            self.heads[layer][at % heads] += f64::from(part * part);
        }
    }

    /// Weights c_i of the gate policy, by layer.
    pub fn weights(&self, model: &Model, weighting: Weighting) -> Vec<Vec<f32>> {
        match weighting {
            Weighting::Attribution => self.means(&self.attribution),
            Weighting::Fisher => self.roots(&self.fisher),
            Weighting::Magnitude | Weighting::Rms => {
                let mut weights = match weighting {
                    Weighting::Rms => self.roots(&self.squares),
                    _ => self.means(&self.magnitude),
                };
                for (layer, weights) in weights.iter_mut().enumerate() {
                    let norms = model.down_proj(layer).row_norms(model.isa());
                    weights.iter_mut().zip(norms).for_each(|(weight, norm)| *weight *= norm);
                }
                weights
            }
        }
    }

    /// By how much weights grow or shrink where act(gate_i) is positive, and where it is not, by layer: the
    /// root of E(up_i²) there over E(up_i²), drawn towards 1 by a hundred tokens of the mean.
    pub fn by_sign(&self) -> [Vec<Vec<f32>>; 2] {
        let all = self.tokens.max(1) as f64;
        let factor = |layer: usize, i: usize, positive: bool| {
            let mean = self.squares[layer][i] / all;
            let (sum, count) = (self.positive_squares[layer][i], self.positive[layer][i]);
            let (sum, count) = match positive {
                true => (sum, count),
                false => (self.squares[layer][i] - sum, all - count),
            };
            let drawn = (sum + SHRINKAGE * mean) / (count + SHRINKAGE);
            if mean > 0.0 { (drawn / mean).sqrt() as f32 } else { 1.0 }
        };
        [true, false].map(|positive| {
            let layers = self.squares.iter().enumerate();
            layers
                .map(|(layer, row)| (0..row.len()).map(|i| factor(layer, i, positive)).collect())
                .collect()
        })
    }

    /// What a unit of |act(gate_i)| is worth in every layer alike, by layer: √E(g_i²)·√E(up_i²).
    pub fn sensitivity(&self) -> Vec<Vec<f32>> {
        let mut roots = self.roots(&self.gradients);
        let up = self.roots(&self.squares);
        roots.iter_mut().flatten().zip(up.iter().flatten()).for_each(|(g, up)| *g *= up);
        roots
    }

    /// Mean corrected attribution of each neuron, by layer: what the static policy ranks by.
    pub fn attribution(&self) -> Vec<Vec<f32>> {
        self.means(&self.totals)
    }

    /// E((Σ g_h·o_h)²) of each head, by layer: Fisher information of switching it.
    pub fn heads(&self) -> Vec<Vec<f32>> {
        self.means(&self.heads)
    }

    fn roots(&self, layers: &[Vec<f64>]) -> Vec<Vec<f32>> {
        let mut means = self.means(layers);
        means.iter_mut().flatten().for_each(|mean| *mean = mean.sqrt());
        means
    }

    fn means(&self, layers: &[Vec<f64>]) -> Vec<Vec<f32>> {
        let tokens = self.tokens.max(1) as f64;
        let mean = |sums: &Vec<f64>| sums.iter().map(|sum| (sum / tokens) as f32).collect();
        layers.iter().map(mean).collect()
    }
}
