//! The optimiser.

use super::network::Network;

/// Decay of the mean gradient and of the mean square gradient, from one step to the next.
const BETAS: (f32, f32) = (0.9, 0.99);

/// Added to the root of the mean square gradient.
const EPSILON: f32 = 1e-8;

/// Decay of the weights (not of the bias), as a share of the learning rate.
const DECAY: f32 = 0.01;

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2).
#[derive(Default)]
pub(super) struct AdamW {
    step: i32,
    first: Moments,
    second: Moments,
    bias: Moments,
}

impl AdamW {
    /// Moves the network against a gradient.
    pub(super) fn step(&mut self, network: &mut Network, gradient: &Network, rate: f32) {
        self.step += 1;
        let step = |moments: &mut Moments, w: &mut [f32], g: &[f32], decay: f32| {
            moments.step(w, g, rate, decay, self.step);
        };
        let (n, g) = (network, gradient);
        step(&mut self.first, n.first.as_mut_slice(), g.first.as_slice(), DECAY);
        step(&mut self.second, n.second.as_mut_slice(), g.second.as_slice(), DECAY);
        step(&mut self.bias, n.bias.as_mut_slice(), g.bias.as_slice(), 0.0);
    }
}

/// Running means of a gradient and of its squares.
#[derive(Default)]
struct Moments {
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Moments {
    fn step(&mut self, weights: &mut [f32], gradient: &[f32], rate: f32, decay: f32, step: i32) {
        self.mean.resize(weights.len(), 0.0);
        self.square.resize(weights.len(), 0.0);
        // The means start at 0: what they have seen so far is this share of a mean.
        let seen = (1.0 - BETAS.0.powi(step), 1.0 - BETAS.1.powi(step));
        let means = self.mean.iter_mut().zip(&mut self.square);
        for ((w, g), (mean, square)) in weights.iter_mut().zip(gradient).zip(means) {
            *mean += (1.0 - BETAS.0) * (g - *mean);
            *square += (1.0 - BETAS.1) * (g * g - *square);
            let direction = *mean / seen.0 / ((*square / seen.1).sqrt() + EPSILON);
            *w -= rate * (direction + decay * *w);
        }
    }
}
