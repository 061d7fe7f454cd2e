//! The naive reference, and random inputs for it.

use fewron_kernels::{DType, Isa, Matrix, Memory, Packed, Pool};
use half::{bf16, f16};
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::LazyLock;

/// Splitmix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Uniform in [-1, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.uniform()).collect()
    }

    /// As [`Self::vector`], with about one zero in three.
    pub fn with_zeros(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| if self.below(3) == 0 { 0.0 } else { self.uniform() }).collect()
    }

    /// Inputs of a product: blocks of 32 of different sizes, some of them zero, some full of values
    /// that lie half way between two 8-bit steps.
    pub fn inputs(&mut self, len: usize) -> Vec<f32> {
        let mut x = self.vector(len);
        for block in x.chunks_mut(32) {
            match self.below(6) {
                0 => block.fill(0.0),
                1 => {
                    block.iter_mut().for_each(|x| *x = (*x * 126.0).round() + 0.5);
                    block[0] = -127.0;
                }
                _ => {
                    let size = 10.0f32.powf(self.uniform());
                    block.iter_mut().for_each(|x| *x *= size);
                }
            }
        }
        x
    }
}

/// A random product: everything follows from these numbers.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub dtype: DType,
    pub rows: usize,
    pub blocks: usize,
    pub tokens: usize,
    pub threads: usize,
    pub seed: u64,
}

impl Case {
    /// Weights, and a source for everything else.
    pub fn weights(self) -> (Weights, Rng) {
        let mut rng = Rng::new(self.seed);
        let cols = if self.dtype.is_quantized() {
            // Short blocks reach past two groups of sixteen.
            let blocks =
                if self.dtype.block_len() > 32 { 1 + self.blocks / 8 } else { self.blocks };
            blocks * self.dtype.block_len()
        } else {
            9 * self.blocks + self.blocks / 2
        };
        (Weights::random(self.dtype, self.rows, cols, &mut rng), rng)
    }
}

prop_compose! {
    pub fn cases()(
        dtype in select(&DType::ALL[..]),
        rows in 1usize..80,
        blocks in 1usize..40,
        tokens in 1usize..18,
        threads in 1usize..4,
        seed: u64,
    ) -> Case {
        Case { dtype, rows, blocks, tokens, threads, seed }
    }
}

/// A random weight matrix and its values.
pub struct Weights {
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
    pub bytes: Vec<u8>,
    /// `[rows, cols]`.
    pub values: Vec<f32>,
    /// What rounding errors of a weight are relative to, `[rows, cols]`: in blocks, where a weight
    /// is the sum of a product and an offset, the largest of the 16 that share them.
    sizes: Vec<f32>,
}

impl Weights {
    pub fn random(dtype: DType, rows: usize, cols: usize, rng: &mut Rng) -> Self {
        let bytes = if dtype.is_quantized() {
            let blocks = rows * cols / dtype.block_len();
            (0..blocks).flat_map(|_| random_block(dtype, rng)).collect()
        } else {
            float_bytes(dtype, &rng.vector(rows * cols), rng)
        };
        Self::new(dtype, rows, cols, bytes)
    }

    /// Values rounded to Q8_0, or to Q6_K with one scale for all.
    pub fn quantized(dtype: DType, rows: usize, cols: usize, values: &[f32]) -> Self {
        let blocks = values.chunks_exact(dtype.block_len());
        let bytes = blocks.flat_map(|block| match dtype {
            DType::Q8_0 => {
                let largest = block.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                let d = f16::from_f32(largest / 127.0);
                let q = block.iter().map(|x| (x / d.to_f32()).round() as i8 as u8);
                d.to_le_bytes().into_iter().chain(q).collect::<Vec<u8>>()
            }
            DType::Q6_K => {
                let q: Vec<u8> = block
                    .iter()
                    .map(|x| ((x * 31.0).round().clamp(-32.0, 31.0) as i8 + 32) as u8)
                    .collect();
                let mut out = vec![0; dtype.block_bytes()];
                for half in 0..2 {
                    for l in 0..32 {
                        let q = |part: usize| q[half * 128 + part * 32 + l];
                        out[half * 64 + l] = (q(0) & 15) | (q(2) << 4);
                        out[half * 64 + 32 + l] = (q(1) & 15) | (q(3) << 4);
                        let high =
                            (q(0) >> 4) | (q(1) >> 4 << 2) | (q(2) >> 4 << 4) | (q(3) >> 4 << 6);
                        out[128 + half * 32 + l] = high;
                    }
                }
                out[192..208].fill(1);
                out[208..210].copy_from_slice(&f16::from_f32(1.0 / 31.0).to_le_bytes());
                out
            }
            _ => unreachable!("types with many bits"),
        });
        Self::new(dtype, rows, cols, bytes.collect())
    }

    pub fn new(dtype: DType, rows: usize, cols: usize, bytes: Vec<u8>) -> Self {
        let mut values = vec![0.0; rows * cols];
        let matrix = Matrix::new(dtype, rows, cols, &bytes).unwrap();
        for (row, values) in values.chunks_exact_mut(cols).enumerate() {
            matrix.dequantize_row(Isa::SCALAR, row, values);
        }
        let shared = if dtype.is_quantized() { 16 } else { 1 };
        let largest = |w: &[f32]| vec![w.iter().fold(0.0f32, |m, w| m.max(w.abs())); w.len()];
        let sizes = values.chunks(shared).flat_map(largest).collect();
        Self { dtype, rows, cols, bytes, values, sizes }
    }

    pub fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.dtype, self.rows, self.cols, &self.bytes).unwrap()
    }

    /// The matrix as products take it, given to `f`.
    pub fn with_packed<T>(&self, isa: Isa, f: impl FnOnce(fewron_kernels::Weights) -> T) -> T {
        if self.dtype.is_quantized() {
            f(fewron_kernels::Weights::Packed(&Packed::new(
                isa,
                pool(2),
                &mut Memory::default(),
                &self.matrix(),
            )))
        } else {
            f(fewron_kernels::Weights::File(self.matrix()))
        }
    }

    pub fn column(&self, col: usize) -> Vec<f32> {
        self.values.iter().skip(col).step_by(self.cols).copied().collect()
    }

    /// Σ w·x over a row, and Σ |w·x| with the sizes of the weights.
    pub fn row_product(&self, row: usize, x: &[f32]) -> (f64, f64) {
        let range = row * self.cols..(row + 1) * self.cols;
        (product(&self.values[range.clone()], x).0, product(&self.sizes[range], x).1)
    }

    /// Σ w·c over a column, and Σ |w·c| with the sizes of the weights.
    pub fn column_product(&self, col: usize, c: &[f32]) -> (f64, f64) {
        let sizes: Vec<f32> = self.sizes.iter().skip(col).step_by(self.cols).copied().collect();
        (product(&self.column(col), c).0, product(&sizes, c).1)
    }
}

/// Half of the F32 matrices hold only values that fit half precision too.
fn float_bytes(dtype: DType, values: &[f32], rng: &mut Rng) -> Vec<u8> {
    let rounded = rng.below(2) == 0;
    let bytes = |&v: &f32| match dtype {
        DType::F32 if rounded => f16::from_f32(v).to_f32().to_le_bytes().to_vec(),
        DType::F32 => v.to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32(v).to_le_bytes().to_vec(),
        DType::Bf16 => bf16::from_f32(v).to_le_bytes().to_vec(),
        _ => unreachable!("a float type"),
    };
    values.iter().flat_map(bytes).collect()
}

/// Byte offsets of the f16 scales and minima in a block.
fn scale_offsets(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::F32 | DType::F16 | DType::Bf16 => &[],
    }
}

/// Random quants; scales of either sign, some of them zero or subnormal.
fn random_block(dtype: DType, rng: &mut Rng) -> Vec<u8> {
    let mut block: Vec<u8> = (0..dtype.block_bytes()).map(|_| rng.below(256) as u8).collect();
    for &offset in scale_offsets(dtype) {
        let scale = match rng.below(12) {
            0 => 0.0,
            1 => 3e-6,
            _ => 0.05 * rng.uniform(),
        };
        block[offset..offset + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    }
    block
}

/// The vector that a product with quantised weights sees: blocks of 32, scale = amax/127, rounded
/// half to even.
pub fn rounded(x: &[f32]) -> Vec<f32> {
    let block = |x: &[f32]| {
        let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let scale = largest / 127.0;
        x.iter().map(|x| (x * inverse).round_ties_even() * scale).collect::<Vec<_>>()
    };
    x.chunks(32).flat_map(block).collect()
}

/// Σ a·b and Σ |a·b|.
pub fn product(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold((0.0, 0.0), |(sum, size), (&a, &b)| {
        let product = f64::from(a) * f64::from(b);
        (sum + product, size + product.abs())
    })
}

/// Fails when `got` differs from `expected` by more than `tolerance` of `size`.
#[track_caller]
pub fn assert_near(what: &str, got: f32, expected: f64, size: f64, tolerance: f64) {
    let error = (f64::from(got) - expected).abs();
    assert!(error <= tolerance * size, "{what}: {got:e}, expected {expected:e} (size {size:e})");
}

/// Fails when two results differ in any bit.
#[track_caller]
pub fn assert_same_bits(what: &str, got: &[f32], expected: &[f32]) {
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(got), bits(expected), "{what}: {got:?} and {expected:?}");
}

/// A pool of 1, 2 or 3 threads.
pub fn pool(threads: usize) -> &'static Pool {
    static POOLS: LazyLock<[Pool; 3]> = LazyLock::new(|| [1, 2, 3].map(Pool::new));
    &POOLS[threads - 1]
}
