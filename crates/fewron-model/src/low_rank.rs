//! Linear maps of low rank beside the model's own weights: what a plan adds to an MLP.

use fewron_kernels::{Activations, DType, EncodeError, Isa, Matrix, Memory, Packed, Pool, Weights};

/// Elements of a row that share a scale in the quantised form.
const BLOCK: usize = 32;

/// A linear map of low rank, `y = second · (first · x) + bias`: shapes `[rank, inputs]`,
/// `[outputs, rank]` and `[outputs]`. Weights are 8-bit integers with a scale for 32 of them (Q8_0)
/// where rows allow it, else f32.
pub struct LowRank {
    first: SmallMatrix,
    second: SmallMatrix,
    bias: Vec<f32>,
}

/// Buffers of [`LowRank::forward`]; kept between calls.
#[derive(Default)]
pub struct LowRankScratch {
    input: Activations,
    reduced: Vec<f32>,
}

impl LowRank {
    /// Rounds the weights to their 8-bit form; `first` is `[rank, inputs]` and `second`
    /// `[outputs, rank]`, with as many outputs as the bias.
    ///
    /// # Errors
    /// When a weight is no finite number.
    ///
    /// # Panics
    /// When the lengths do not fit each other.
    pub fn new(
        isa: Isa,
        pool: &Pool,
        inputs: usize,
        first: &[f32],
        second: &[f32],
        bias: Vec<f32>,
    ) -> Result<Self, EncodeError> {
        let rank = first.len() / inputs;
        let first = SmallMatrix::new(isa, pool, inputs, first)?;
        let second = SmallMatrix::new(isa, pool, rank, second)?;
        assert_eq!(second.rows, bias.len(), "an output for each bias");
        Ok(Self { first, second, bias })
    }

    /// Length of the input.
    pub fn inputs(&self) -> usize {
        self.first.cols
    }

    /// Rank of the map.
    pub fn rank(&self) -> usize {
        self.first.rows
    }

    /// Length of the output.
    pub fn outputs(&self) -> usize {
        self.second.rows
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        self.first.bytes() + self.second.bytes() + size_of_val(&self.bias[..])
    }

    /// The weights as they are used, in f32: `[rank, inputs]`, `[outputs, rank]` and `[outputs]`.
    pub fn weights(&self, isa: Isa) -> (Vec<f32>, Vec<f32>, &[f32]) {
        (self.first.values(isa), self.second.values(isa), &self.bias)
    }

    /// The map of each row of `x`, `[tokens, inputs]`, into `out`, `[tokens, outputs]`. A row's result
    /// does not depend on the others.
    ///
    /// # Panics
    /// When `x` is not made of whole rows or `out` has another number of them.
    pub fn forward(
        &self,
        isa: Isa,
        pool: &Pool,
        x: &[f32],
        scratch: &mut LowRankScratch,
        out: &mut [f32],
    ) {
        let LowRankScratch { input, reduced } = scratch;
        reduced.resize(x.len() / self.inputs() * self.rank(), 0.0);
        self.first.forward(isa, pool, x, input, reduced);
        self.second.forward(isa, pool, reduced, input, out);
        for row in out.chunks_exact_mut(self.outputs()) {
            row.iter_mut().zip(&self.bias).for_each(|(y, bias)| *y += bias);
        }
    }
}

/// A matrix that is read whole.
struct SmallMatrix {
    rows: usize,
    cols: usize,
    weights: Stored,
}

enum Stored {
    Packed(Box<Packed>),
    /// f32, little-endian.
    Float(Vec<u8>),
}

impl SmallMatrix {
    fn new(isa: Isa, pool: &Pool, cols: usize, values: &[f32]) -> Result<Self, EncodeError> {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "rows of {cols}");
        let rows = values.len() / cols;
        let weights = if cols.is_multiple_of(BLOCK) {
            let row_bytes = DType::Q8_0.row_bytes(cols).expect("whole blocks");
            let mut bytes = vec![0; rows * row_bytes];
            for (row, out) in values.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes)) {
                DType::Q8_0.encode_row(row, out)?;
            }
            let matrix = Matrix::new(DType::Q8_0, rows, cols, &bytes).expect("whole rows");
            Stored::Packed(Box::new(Packed::new(isa, pool, &mut Memory::default(), &matrix)))
        } else {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(EncodeError::NotFinite { index, value: values[index] });
            }
            Stored::Float(values.iter().flat_map(|value| value.to_le_bytes()).collect())
        };
        Ok(Self { rows, cols, weights })
    }

    fn weights(&self) -> Weights<'_> {
        match &self.weights {
            Stored::Packed(packed) => Weights::Packed(packed),
            Stored::Float(bytes) => {
                let matrix = Matrix::new(DType::F32, self.rows, self.cols, bytes);
                Weights::File(matrix.expect("whole rows"))
            }
        }
    }

    fn bytes(&self) -> usize {
        match &self.weights {
            Stored::Packed(_) => self.rows * DType::Q8_0.row_bytes(self.cols).unwrap_or(0),
            Stored::Float(bytes) => bytes.len(),
        }
    }

    fn values(&self, isa: Isa) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        for (row, out) in values.chunks_exact_mut(self.cols).enumerate() {
            self.weights().dequantize_row(isa, row, out);
        }
        values
    }

    fn forward(&self, isa: Isa, pool: &Pool, x: &[f32], input: &mut Activations, out: &mut [f32]) {
        let weights = self.weights();
        input.set(isa, pool, x, self.cols, weights.layout());
        fewron_kernels::matmul(isa, pool, &weights, input, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// `second · (first · x) + bias` in f64.
    fn naive(x: &[f32], first: &[f32], second: &[f32], bias: &[f32]) -> Vec<f64> {
        let dot =
            |a: &[f32], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum() };
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let reduced: Vec<f64> = first.chunks(x.len()).map(|row| dot(row, &x)).collect();
        let rows = second.chunks(reduced.len()).zip(bias);
        rows.map(|(row, &bias)| dot(row, &reduced) + f64::from(bias)).collect()
    }

    #[test]
    fn equals_the_naive_product() {
        let (isa, pool) = (Isa::detect(), Pool::new(2));
        for (inputs, rank, outputs) in [(64, 32, 70), (50, 7, 33), (64, 7, 1)] {
            let (first, second) = (noise(rank * inputs, 1), noise(outputs * rank, 2));
            let bias = noise(outputs, 3);
            let map = LowRank::new(isa, &pool, inputs, &first, &second, bias.clone()).unwrap();
            assert_eq!((map.inputs(), map.rank(), map.outputs()), (inputs, rank, outputs));
            let x = noise(5 * inputs, 4);
            let (mut scratch, mut out) = (LowRankScratch::default(), vec![0.0; 5 * outputs]);
            map.forward(isa, &pool, &x, &mut scratch, &mut out);
            for (x, out) in x.chunks(inputs).zip(out.chunks(outputs)) {
                let (mut alone, want) = (vec![0.0; outputs], naive(x, &first, &second, &bias));
                map.forward(isa, &pool, x, &mut scratch, &mut alone);
                assert_eq!(alone, out, "a row's result is its own");
                let scale = want.iter().map(|w| w.abs()).fold(1.0, f64::max);
                for (got, want) in out.iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 0.02 * scale, "{got} {want}");
                }
            }
        }
    }

    #[test]
    fn weights_round_once() {
        let (isa, pool) = (Isa::detect(), Pool::new(1));
        let (first, second) = (noise(32 * 64, 5), noise(40 * 32, 6));
        let map = LowRank::new(isa, &pool, 64, &first, &second, vec![0.0; 40]).unwrap();
        let (a, b, bias) = map.weights(isa);
        let again = LowRank::new(isa, &pool, 64, &a, &b, bias.to_vec()).unwrap();
        assert_eq!(again.weights(isa), (a, b, bias));
        assert!(LowRank::new(isa, &pool, 64, &[f32::NAN; 64], &[1.0], vec![0.0]).is_err());
    }
}
