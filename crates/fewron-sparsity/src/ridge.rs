//! Linear regression of many outputs on an input, cut to a low rank.

use nalgebra::{Cholesky, DMatrix};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rounds of the subspace iteration that finds the leading outputs.
const ROUNDS: usize = 12;

/// Directions that the iteration carries beside those that are wanted.
const SPARE: usize = 8;

/// Sums over tokens from which outputs `y` are regressed on inputs `x`.
pub struct Regression {
    tokens: usize,
    /// Sums of x·xᵀ, with 1 as one more input for the bias: `[inputs + 1, inputs + 1]`.
    xx: DMatrix<f64>,
    /// Sums of x·yᵀ, `[inputs + 1, outputs]`.
    xy: DMatrix<f64>,
}

/// A linear map `y = second · first · x + bias`.
#[derive(Clone, Debug)]
pub struct Factors {
    /// `[rank, inputs]`, row by row.
    pub first: Vec<f32>,
    /// `[outputs, rank]`, row by row.
    pub second: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl Regression {
    /// No tokens yet.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        let xx = DMatrix::zeros(inputs + 1, inputs + 1);
        Self { tokens: 0, xx, xy: DMatrix::zeros(inputs + 1, outputs) }
    }

    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Adds tokens: `x` is `[tokens, inputs]`, `y` `[tokens, outputs]`, row by row.
    ///
    /// # Panics
    /// When the two have different numbers of whole rows.
    pub fn add(&mut self, x: &[f32], y: &[f32]) {
        let (inputs, outputs) = (self.xx.nrows() - 1, self.xy.ncols());
        let tokens = x.len() / inputs;
        assert_eq!((x.len(), y.len()), (tokens * inputs, tokens * outputs));
        self.tokens += tokens;
        // Column by column is row by row of the transpose: `[inputs, tokens]`.
        let x = DMatrix::from_column_slice(inputs, tokens, x).insert_row(inputs, 1.0);
        let y = DMatrix::from_column_slice(outputs, tokens, y);
        self.xx += (&x * x.transpose()).cast::<f64>();
        self.xy += (&x * y.transpose()).cast::<f64>();
    }

    /// The map of a rank that is closest to `y` in the least squares, with a ridge of `ridge` times the
    /// inputs' mean square on its weights (not on the bias); of full rank first, then cut to the
    /// directions of the outputs in which its own products vary most (reduced-rank regression; Izenman,
    /// 1975). `None` where the sums are no finite numbers or say nothing.
    pub fn solve(&self, rank: usize, ridge: f64, seed: u64) -> Option<Factors> {
        let inputs = self.xx.nrows() - 1;
        let mean = (0..inputs).map(|i| self.xx[(i, i)]).sum::<f64>() / inputs as f64;
        let mut system = self.xx.clone();
        (0..inputs).for_each(|i| system[(i, i)] += ridge * mean);
        let weights = Cholesky::new(system)?.solve(&self.xy);
        if weights.iter().any(|weight| !weight.is_finite()) {
            return None;
        }
        let n = self.tokens as f64;
        let sums = self.xx.row(inputs);
        let centred = &self.xx - sums.transpose() * sums / n;
        // Products around their mean; of many outputs the square matrix is too much to hold.
        let spread = |basis: &DMatrix<f64>| weights.tr_mul(&(&centred * (&weights * basis)));
        let directions = leading(spread, self.xy.ncols(), rank, seed);
        let (slopes, bias) = (weights.rows(0, inputs), weights.row(inputs));
        let first = (slopes * &directions).transpose();
        // The mean of the products is kept whole: what the cut takes of it goes to the bias.
        let means = sums.columns(0, inputs) / n;
        let full = &means * slopes;
        let bias = bias + &full - &full * &directions * directions.transpose();
        let values = |matrix: DMatrix<f64>| -> Vec<f32> {
            // Column by column of the transpose is row by row.
            matrix.transpose().iter().map(|&value| value as f32).collect()
        };
        let bias = bias.iter().map(|&value| value as f32).collect();
        Some(Factors { first: values(first), second: values(directions), bias })
    }
}

/// Orthonormal directions with the largest values of a symmetric positive matrix of `outputs` rows, which
/// is given by its products, `[outputs, rank]`, by subspace iteration.
fn leading(
    product: impl Fn(&DMatrix<f64>) -> DMatrix<f64>,
    outputs: usize,
    rank: usize,
    seed: u64,
) -> DMatrix<f64> {
    let rank = rank.min(outputs);
    let width = (rank + SPARE).min(outputs);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut basis = DMatrix::from_fn(outputs, width, |_, _| rng.random::<f64>() - 0.5);
    for _ in 0..ROUNDS {
        basis = product(&basis).qr().q();
    }
    // Within the subspace the directions are exact.
    let inner = basis.tr_mul(&product(&basis)).symmetric_eigen();
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&a, &b| inner.eigenvalues[b].total_cmp(&inner.eigenvalues[a]));
    basis * inner.eigenvectors.select_columns(&order[..rank])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.random::<f32>() - 0.5).collect()
    }

    /// `y = second · first · x + bias` row by row.
    fn apply(factors: &Factors, x: &[f32], inputs: usize) -> Vec<f32> {
        let rank = factors.first.len() / inputs;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let row = |x: &[f32]| -> Vec<f32> {
            let reduced: Vec<f32> = factors.first.chunks(inputs).map(|w| dot(w, x)).collect();
            let rows = factors.second.chunks(rank).zip(&factors.bias);
            rows.map(|(w, bias)| dot(w, &reduced) + bias).collect()
        };
        x.chunks(inputs).flat_map(row).collect()
    }

    fn error(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / a.len() as f32
    }

    #[test]
    fn finds_a_map_of_its_rank_again() {
        let (inputs, outputs, rank) = (12, 20, 3);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let truth = Factors {
            first: noise(&mut rng, rank * inputs),
            second: noise(&mut rng, outputs * rank),
            bias: noise(&mut rng, outputs),
        };
        let mut regression = Regression::new(inputs, outputs);
        for _ in 0..5 {
            let mut x = noise(&mut rng, 40 * inputs);
            x.iter_mut().for_each(|x| *x += 0.3);
            regression.add(&x, &apply(&truth, &x, inputs));
        }
        assert_eq!(regression.tokens(), 200);
        let found = regression.solve(rank, 1e-9, 0).unwrap();
        let x = noise(&mut rng, 30 * inputs);
        let (got, want) = (apply(&found, &x, inputs), apply(&truth, &x, inputs));
        assert!(error(&got, &want) < 1e-8, "{}", error(&got, &want));
        // A lower rank is worse, but better than the mean alone.
        let errors: Vec<f32> = (1..=rank)
            .map(|rank| error(&apply(&regression.solve(rank, 1e-9, 0).unwrap(), &x, inputs), &want))
            .collect();
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
    }

    #[test]
    fn a_large_ridge_leaves_the_mean() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (x, mut y) = (noise(&mut rng, 100 * 4), noise(&mut rng, 100 * 3));
        y.iter_mut().for_each(|y| *y += 2.0);
        let mut regression = Regression::new(4, 3);
        regression.add(&x, &y);
        let found = regression.solve(2, 1e9, 0).unwrap();
        assert!(found.first.iter().all(|w| w.abs() < 1e-6));
        for output in 0..3 {
            let mean = y.iter().skip(output).step_by(3).sum::<f32>() / 100.0;
            assert!((found.bias[output] - mean).abs() < 1e-4);
        }
        assert!(Regression::new(4, 3).solve(2, 1e-3, 0).is_none());
    }
}
