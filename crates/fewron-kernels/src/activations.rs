//! Inputs of matrix products: f32 vectors and their 8-bit form.

use crate::isa::{Arch, Input, Isa, multiversion};
use crate::unpack::SUB;

/// Elements that share a scale in the 8-bit form.
const BLOCK: usize = 32;

/// A batch of input vectors for [`crate::matmul`], kept in f32 (for float weights) and, once
/// quantised, as 8-bit integers with one scale for 32 elements (for quantised weights).
#[derive(Default)]
pub struct Activations {
    tokens: usize,
    cols: usize,
    padded: usize,
    quantized: bool,
    x: Vec<f32>,
    q: Vec<i8>,
    /// Scale of each 16 elements (equal for the two halves of a block).
    scales: Vec<f32>,
    /// Sum of each 16 elements, as quantised.
    sums: Vec<f32>,
}

impl Activations {
    /// Takes over `x`, shape `[tokens, cols]`, and makes its 8-bit form if `quantize` is set.
    pub fn set(&mut self, isa: Isa, x: &[f32], cols: usize, quantize: bool) {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "activations are whole rows of {cols}");
        self.tokens = x.len() / cols;
        self.cols = cols;
        self.padded = cols.next_multiple_of(64);
        self.quantized = quantize;
        self.x.clear();
        self.x.extend_from_slice(x);
        if quantize {
            let subs = self.padded / SUB;
            self.q.resize(self.tokens * self.padded, 0);
            self.scales.resize(self.tokens * subs, 0.0);
            self.sums.resize(self.tokens * subs, 0.0);
            for token in 0..self.tokens {
                quantize_row(
                    isa,
                    &self.x[token * cols..][..cols],
                    &mut self.q[token * self.padded..][..self.padded],
                    &mut self.scales[token * subs..][..subs],
                    &mut self.sums[token * subs..][..subs],
                );
            }
        }
    }

    /// Number of vectors.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Elements of each vector.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether the 8-bit form is there.
    pub fn is_quantized(&self) -> bool {
        self.quantized
    }

    #[inline(always)]
    pub(crate) fn x(&self, token: usize) -> &[f32] {
        &self.x[token * self.cols..][..self.cols]
    }

    /// The 8-bit form of a vector, padded with zeros.
    #[inline(always)]
    pub(crate) fn input(&self, token: usize) -> Input<'_> {
        let subs = self.padded / SUB;
        Input {
            values: &self.q[token * self.padded..][..self.padded],
            scales: &self.scales[token * subs..][..subs],
            sums: &self.sums[token * subs..][..subs],
        }
    }
}

multiversion! {
    fn quantize_row(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [f32]) = quantize_row_body;
}

#[inline(always)]
fn quantize_row_body<A: Arch>(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [f32]) {
    let mut block = [0.0f32; BLOCK];
    let outputs = q.as_chunks_mut::<BLOCK>().0.iter_mut().zip(scales.as_chunks_mut::<2>().0);
    for (index, ((q, scale), sum)) in outputs.zip(sums.as_chunks_mut::<2>().0).enumerate() {
        let rest = x.get(index * BLOCK..).unwrap_or(&[]);
        let len = rest.len().min(BLOCK);
        block[..len].copy_from_slice(&rest[..len]);
        block[len..].fill(0.0);
        let largest = block
            .iter()
            .fold(0.0f32, |largest, x| if x.abs() > largest { x.abs() } else { largest });
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        for k in 0..BLOCK {
            q[k] = (block[k] * inverse).round_ties_even() as i8;
        }
        scale.fill(largest / 127.0);
        for half in 0..2 {
            let total: i32 = q[half * SUB..][..SUB].iter().map(|&q| i32::from(q)).sum();
            sum[half] = scale[half] * total as f32;
        }
    }
}
