//! Linear maps of low rank beside the model's own weights: what a plan adds to an MLP.

use crate::model::add_bias;
use fewron_kernels::{
    Activations, DType, EncodeError, Isa, Matrix, Memory, NeuronMajor, Packed, Pool, Weights,
    matmul,
};

/// A linear map of low rank, `y = second · (first · x) + bias`: shapes `[rank, inputs]`,
/// `[outputs, rank]` and `[outputs]`. Weights are 8-bit integers with a scale for 32 elements of a row
/// (Q8_0) where rows allow it, else f32.
pub struct LowRank {
    inputs: usize,
    rank: usize,
    bytes: usize,
    first: First,
    /// By the reduced input, as down projections lie.
    second: NeuronMajor,
    bias: Vec<f32>,
}

enum First {
    Packed(Box<Packed>),
    /// f32, little-endian.
    Float(Vec<u8>),
}

/// Buffers of a product with a [`LowRank`]; kept between calls.
#[derive(Default)]
pub struct LowRankScratch {
    input: Activations,
    reduced: Vec<f32>,
}

impl LowRankScratch {
    /// Room for the reduced input.
    pub(crate) fn reduced(&mut self, map: &LowRank, tokens: usize) -> &mut [f32] {
        self.reduced.resize(tokens * map.rank, 0.0);
        &mut self.reduced
    }

    /// The reduced input as [`LowRank::second`] takes it.
    pub(crate) fn second_input(&mut self, isa: Isa, pool: &Pool, map: &LowRank) -> &Activations {
        self.input.set(isa, pool, &self.reduced, map.rank, map.second.layout());
        &self.input
    }
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
        memory: &mut Memory,
        inputs: usize,
        first: &[f32],
        second: &[f32],
        bias: Vec<f32>,
    ) -> Result<Self, EncodeError> {
        assert!(inputs > 0 && first.len().is_multiple_of(inputs), "rows of {inputs}");
        let rank = first.len() / inputs;
        assert_eq!(second.len(), bias.len() * rank, "an output for each bias");
        let (first_type, first) = encode(inputs, first)?;
        let (second_type, second) = encode(rank, second)?;
        let bytes = first.len() + second.len() + size_of_val(&bias[..]);
        let matrix = Matrix::new(second_type, bias.len(), rank, &second).expect("whole rows");
        let second = NeuronMajor::new(isa, pool, memory, &matrix);
        let first = if first_type == DType::F32 {
            First::Float(first)
        } else {
            let matrix = Matrix::new(first_type, rank, inputs, &first).expect("whole rows");
            First::Packed(Box::new(Packed::new(isa, pool, memory, &matrix)))
        };
        Ok(Self { inputs, rank, bytes, first, second, bias })
    }

    /// Length of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Rank of the map.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Length of the output.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The weights as they are used, in f32: `[rank, inputs]`, `[outputs, rank]` and `[outputs]`.
    pub fn weights(&self, isa: Isa) -> (Vec<f32>, Vec<f32>, &[f32]) {
        let mut first = vec![0.0; self.rank * self.inputs];
        for (index, row) in first.chunks_exact_mut(self.inputs).enumerate() {
            self.first().dequantize_row(isa, index, row);
        }
        let (mut second, mut column) = (vec![0.0; self.outputs() * self.rank], self.bias.clone());
        for index in 0..self.rank {
            self.second.weights(isa, index, &mut column);
            let places = second[index..].iter_mut().step_by(self.rank);
            places.zip(&column).for_each(|(to, &weight)| *to = weight);
        }
        (first, second, &self.bias)
    }

    /// The matrix that reduces the input, `[rank, inputs]`.
    pub(crate) fn first(&self) -> Weights<'_> {
        match &self.first {
            First::Packed(packed) => Weights::Packed(packed),
            First::Float(bytes) => {
                let matrix = Matrix::new(DType::F32, self.rank, self.inputs, bytes);
                Weights::File(matrix.expect("whole rows"))
            }
        }
    }

    /// The matrix that gives the outputs, by the reduced input.
    pub(crate) fn second(&self) -> &NeuronMajor {
        &self.second
    }

    /// What is added to the product.
    pub(crate) fn bias(&self) -> &[f32] {
        &self.bias
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
        let first = self.first();
        let LowRankScratch { input, reduced } = scratch;
        reduced.resize(x.len() / self.inputs * self.rank, 0.0);
        input.set(isa, pool, x, self.inputs, first.layout());
        matmul(isa, pool, &first, input, reduced);
        self.second.forward(isa, pool, scratch.second_input(isa, pool, self), out);
        add_bias(&self.bias, out);
    }
}

/// Weights of rows of `cols` in the form in which they are used.
fn encode(cols: usize, values: &[f32]) -> Result<(DType, Vec<u8>), EncodeError> {
    let q8 = DType::Q8_0.row_bytes(cols).map(|bytes| (DType::Q8_0, bytes));
    let (dtype, row_bytes) = q8.unwrap_or((DType::F32, cols * size_of::<f32>()));
    let mut bytes = vec![0; values.len() / cols * row_bytes];
    for (row, out) in values.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes)) {
        dtype.encode_row(row, out)?;
    }
    Ok((dtype, bytes))
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
        let (isa, pool, mut memory) = (Isa::detect(), Pool::new(2), Memory::default());
        for (inputs, rank, outputs) in [(64, 32, 70), (50, 7, 33), (64, 7, 1)] {
            let (first, second) = (noise(rank * inputs, 1), noise(outputs * rank, 2));
            let bias = noise(outputs, 3);
            let map = LowRank::new(isa, &pool, &mut memory, inputs, &first, &second, bias.clone())
                .unwrap();
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
        let (isa, pool, mut memory) = (Isa::detect(), Pool::new(1), Memory::default());
        let (first, second) = (noise(32 * 64, 5), noise(40 * 32, 6));
        let map =
            LowRank::new(isa, &pool, &mut memory, 64, &first, &second, vec![0.0; 40]).unwrap();
        let (a, b, bias) = map.weights(isa);
        let again = LowRank::new(isa, &pool, &mut memory, 64, &a, &b, bias.to_vec()).unwrap();
        assert_eq!(again.weights(isa), (a, b, bias));
        assert!(
            LowRank::new(isa, &pool, &mut memory, 64, &[f32::NAN; 64], &[1.0], vec![0.0]).is_err()
        );
    }
}
