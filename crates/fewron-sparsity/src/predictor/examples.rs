//! What predictors are trained on.

use crate::selection::top_k;
use nalgebra::DMatrix;

/// Inputs of an MLP with the neurons that matter for each.
#[derive(Clone, Debug)]
pub struct Examples {
    inputs: usize,
    neurons: usize,
    /// `[tokens, inputs]`.
    x: Vec<f32>,
    /// The neurons that matter, a bit for each; every token begins a word.
    targets: Vec<u64>,
}

/// Tokens that go through the network together.
pub(super) struct Batch {
    /// Scaled inputs, `[inputs, tokens]`.
    pub(super) x: DMatrix<f32>,
    /// 1 for neurons that matter, else 0: `[tokens, neurons]`.
    pub(super) targets: Vec<f32>,
}

/// Mean of each input, and one over its standard deviation.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) mean: Vec<f32>,
    pub(super) scale: Vec<f32>,
}

impl Examples {
    /// No tokens yet.
    pub fn new(inputs: usize, neurons: usize) -> Self {
        Self { inputs, neurons, x: Vec::new(), targets: Vec::new() }
    }

    /// Adds a token: the MLP's input, and scores of its neurons, of which the `count` highest are those that
    /// matter.
    ///
    /// # Panics
    /// When a length is not the layer's.
    pub fn add(&mut self, x: &[f32], scores: &[f32], count: usize) {
        assert_eq!((x.len(), scores.len()), (self.inputs, self.neurons));
        self.x.extend_from_slice(x);
        let mut best = Vec::new();
        top_k(scores, count, &mut best);
        let start = self.targets.len();
        self.targets.resize(start + self.words(), 0);
        for neuron in best {
            self.targets[start + neuron as usize / 64] |= 1 << (neuron % 64);
        }
    }

    /// Length of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Neurons of the layer.
    pub fn neurons(&self) -> usize {
        self.neurons
    }

    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.x.len() / self.inputs
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.x[..]) + size_of_val(&self.targets[..])
    }

    fn words(&self) -> usize {
        self.neurons.div_ceil(64)
    }

    /// Whether each neuron matters for a token.
    pub(super) fn target(&self, token: usize) -> impl Iterator<Item = bool> {
        let words = &self.targets[token * self.words()..][..self.words()];
        (0..self.neurons).map(|neuron| words[neuron / 64] >> (neuron % 64) & 1 == 1)
    }

    /// Share of the tokens for which each neuron matters.
    pub(super) fn rates(&self) -> Vec<f32> {
        let mut counts = vec![0u32; self.neurons];
        for token in 0..self.tokens() {
            counts.iter_mut().zip(self.target(token)).for_each(|(n, on)| *n += u32::from(on));
        }
        counts.iter().map(|&count| count as f32 / self.tokens().max(1) as f32).collect()
    }

    /// Mean and spread of the inputs. Inputs that never change are left at 0.
    pub(super) fn scale(&self) -> Scale {
        let tokens = self.tokens().max(1) as f64;
        let mut sums = vec![(0f64, 0f64); self.inputs];
        for row in self.x.chunks_exact(self.inputs) {
            for ((sum, square), &x) in sums.iter_mut().zip(row) {
                *sum += f64::from(x);
                *square += f64::from(x) * f64::from(x);
            }
        }
        let spread = |(sum, square): &(f64, f64)| {
            let variance = (square - sum * sum / tokens) / tokens;
            if variance > 1e-12 * square / tokens { variance.sqrt().recip() as f32 } else { 0.0 }
        };
        let mean = sums.iter().map(|(sum, _)| (sum / tokens) as f32).collect();
        Scale { mean, scale: sums.iter().map(spread).collect() }
    }

    /// Some tokens, side by side.
    pub(super) fn batch(&self, scale: &Scale, tokens: &[usize]) -> Batch {
        let mut x = DMatrix::zeros(self.inputs, tokens.len());
        let mut targets = Vec::with_capacity(tokens.len() * self.neurons);
        for (mut column, &token) in x.column_iter_mut().zip(tokens) {
            let row = &self.x[token * self.inputs..][..self.inputs];
            for (to, (x, (mean, scale))) in
                column.iter_mut().zip(row.iter().zip(scale.mean.iter().zip(&scale.scale)))
            {
                *to = (x - mean) * scale;
            }
            targets.extend(self.target(token).map(|on| f32::from(u8::from(on))));
        }
        Batch { x, targets }
    }
}
