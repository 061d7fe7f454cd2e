//! The map that is trained, and its gradient.

use super::examples::Batch;
use crate::ridge::Factors;
use nalgebra::{DMatrix, DVector};

/// `logits = second · first · x + bias`, with a column for each token.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// `[rank, inputs]`.
    pub(super) first: DMatrix<f32>,
    /// `[neurons, rank]`.
    pub(super) second: DMatrix<f32>,
    /// `[neurons]`.
    pub(super) bias: DVector<f32>,
}

impl Network {
    /// The network that a regression of targets with mean `rates` stands for: the logistic function is close
    /// to a line of slope p·(1 − p) around its mean p, so products become logits when they are divided
    /// by it.
    pub(super) fn from_regression(factors: &Factors, rates: &[f32]) -> Self {
        let (neurons, rank) = (rates.len(), factors.second.len() / rates.len());
        let inputs = factors.first.len() / rank;
        let mut first = DMatrix::from_row_slice(rank, inputs, &factors.first);
        let mut second = DMatrix::from_row_slice(neurons, rank, &factors.second);
        for (mut row, p) in second.row_iter_mut().zip(rates) {
            row /= p * (1.0 - p);
        }
        // Both factors get the same size, so that one learning rate suits both.
        for (mut row, mut column) in first.row_iter_mut().zip(second.column_iter_mut()) {
            let balance = (column.norm() / row.norm()).sqrt();
            if balance.is_normal() {
                row *= balance;
                column /= balance;
            }
        }
        let bias = DVector::from_iterator(neurons, rates.iter().map(|p| (p / (1.0 - p)).ln()));
        Self { first, second, bias }
    }

    /// `first · x` and the logits, `[rank, tokens]` and `[neurons, tokens]`.
    pub(super) fn forward(&self, x: &DMatrix<f32>) -> (DMatrix<f32>, DMatrix<f32>) {
        let reduced = &self.first * x;
        let mut logits = &self.second * &reduced;
        logits.column_iter_mut().for_each(|mut column| column += &self.bias);
        (reduced, logits)
    }

    /// The loss of a batch, and its gradient in the shape of the network: binary cross-entropy, summed over
    /// neurons, mean over tokens.
    pub(super) fn gradient(&self, batch: &Batch) -> (f32, Network) {
        let (reduced, mut logits) = self.forward(&batch.x);
        let tokens = batch.x.ncols() as f32;
        let mut loss = 0.0;
        for (logit, &target) in logits.iter_mut().zip(&batch.targets) {
            let (entropy, slope) = cross_entropy(*logit, target);
            loss += entropy;
            *logit = slope / tokens;
        }
        let back = self.second.transpose() * &logits;
        let gradient = Network {
            first: back * batch.x.transpose(),
            bias: logits.column_sum(),
            second: logits * reduced.transpose(),
        };
        (loss / tokens, gradient)
    }

    /// The network for inputs before `(x − mean) · scale`, as rows.
    pub(super) fn unscaled(mut self, mean: &[f32], scale: &[f32]) -> Factors {
        for (mut column, scale) in self.first.column_iter_mut().zip(scale) {
            column *= *scale;
        }
        let shift = &self.second * (&self.first * DVector::from_column_slice(mean));
        let bias = (self.bias - shift).as_slice().to_vec();
        let rows = |matrix: &DMatrix<f32>| matrix.transpose().as_slice().to_vec();
        Factors { first: rows(&self.first), second: rows(&self.second), bias }
    }
}

/// Cross-entropy of a logit with the probability that it should stand for, and its slope. The exponential is
/// of a number that is not positive, so nothing overflows.
fn cross_entropy(logit: f32, target: f32) -> (f32, f32) {
    let e = (-logit.abs()).exp();
    let p = if logit >= 0.0 { 1.0 } else { e } / (1.0 + e);
    (logit.max(0.0) - logit * target + e.ln_1p(), p - target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn small(rng: &mut ChaCha8Rng) -> (Network, Batch) {
        let mut noise = |_: usize, _: usize| 2.0 * rng.random::<f32>() - 1.0;
        let (inputs, rank, neurons, tokens) = (4, 2, 5, 3);
        let network = Network {
            first: DMatrix::from_fn(rank, inputs, &mut noise),
            second: DMatrix::from_fn(neurons, rank, &mut noise),
            bias: DVector::from_fn(neurons, &mut noise),
        };
        let x = DMatrix::from_fn(inputs, tokens, &mut noise);
        let targets = (0..neurons * tokens).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
        (network, Batch { x, targets })
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (network, batch) = small(&mut ChaCha8Rng::seed_from_u64(1));
        let (_, gradient) = network.gradient(&batch);
        let parts: [fn(&mut Network) -> &mut [f32]; 3] = [
            |network| network.first.as_mut_slice(),
            |network| network.second.as_mut_slice(),
            |network| network.bias.as_mut_slice(),
        ];
        let step = 1e-2;
        for part in parts {
            let want = part(&mut gradient.clone()).to_vec();
            for (index, want) in want.into_iter().enumerate() {
                let loss = |by: f32| {
                    let mut moved = network.clone();
                    part(&mut moved)[index] += by;
                    moved.gradient(&batch).0
                };
                let got = (loss(step) - loss(-step)) / (2.0 * step);
                assert!((got - want).abs() < 2e-3 * want.abs().max(1.0), "{got} {want}");
            }
        }
    }

    #[test]
    fn large_logits_are_finite() {
        assert_eq!(cross_entropy(1e30, 1.0), (0.0, 0.0));
        assert_eq!(cross_entropy(-200.0, 1.0), (200.0, -1.0));
        let (loss, slope) = cross_entropy(0.0, 0.25);
        assert!((loss - 2f32.ln()).abs() < 1e-6 && (slope - 0.25).abs() < 1e-6);
    }

    #[test]
    fn unscaled_inputs_give_the_same_logits() {
        let (network, batch) = small(&mut ChaCha8Rng::seed_from_u64(2));
        let (mean, scale) = ([0.5, -1.0, 2.0, 0.0], [2.0, 0.5, 1.0, 3.0]);
        let factors = network.clone().unscaled(&mean, &scale);
        let raw = DMatrix::from_fn(4, 3, |i, token| batch.x[(i, token)] / scale[i] + mean[i]);
        let again = Network {
            first: DMatrix::from_row_slice(2, 4, &factors.first),
            second: DMatrix::from_row_slice(5, 2, &factors.second),
            bias: DVector::from_vec(factors.bias),
        };
        let error = (again.forward(&raw).1 - network.forward(&batch.x).1).amax();
        assert!(error < 1e-4, "{error}");
    }
}
