//! Float weights by neuron.

use super::{Output, TILE};
use crate::activations::Activations;
use crate::isa::{Arch, Isa, multiversion};
use crate::matmul::Matrix;
use crate::memory::{Memory, Piece, prefetch};
use crate::pool::{Pool, SharedSlice};
use crate::unpack::f16_to_f32;
use half::f16;
use std::ops::Range;

/// Rows of whole tiles, padded with zeros.
pub(super) struct FloatRows {
    padded: usize,
    values: Values,
}

/// In half precision where that loses nothing, else in single.
pub(super) enum Values {
    Half(Piece<u16>),
    Single(Piece<f32>),
}

impl Values {
    pub(super) fn new(memory: &mut Memory, values: &[f32]) -> Self {
        let half = |v: f32| f16::from_f32(v).to_bits();
        if values.iter().all(|&v| f16_to_f32(half(v)) == v) {
            let mut halves = memory.take(values.len());
            halves.iter_mut().zip(values).for_each(|(to, &v)| *to = half(v));
            Values::Half(halves)
        } else {
            let mut singles = memory.take(values.len());
            singles.copy_from_slice(values);
            Values::Single(singles)
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Values::Half(values) => values.len() * 2,
            Values::Single(values) => values.len() * 4,
        }
    }

    /// Asks for the cache lines of a tile.
    #[inline(always)]
    pub(super) fn prefetch(&self, start: usize) {
        match self {
            Values::Half(values) => prefetch(&values[start..start + TILE]),
            Values::Single(values) => prefetch(&values[start..start + TILE]),
        }
    }

    #[inline(always)]
    pub(super) fn read(&self, start: usize, out: &mut [f32; TILE]) {
        match self {
            Values::Half(halves) => {
                for (out, &half) in out.iter_mut().zip(&halves[start..start + TILE]) {
                    *out = f16_to_f32(half);
                }
            }
            Values::Single(values) => out.copy_from_slice(&values[start..start + TILE]),
        }
    }
}

impl FloatRows {
    pub(super) fn new(isa: Isa, pool: &Pool, memory: &mut Memory, down: &Matrix) -> Self {
        let (outputs, neurons) = (down.rows(), down.cols());
        let padded = outputs.next_multiple_of(TILE);
        let mut values = vec![0.0; neurons * padded];
        let shared = SharedSlice::new(&mut values);
        pool.split(outputs, TILE, |range| {
            let mut row = vec![0.0; neurons];
            for output in range {
                down.dequantize_row(isa, output, &mut row);
                for (neuron, &value) in row.iter().enumerate() {
                    // SAFETY: an output belongs to one thread.
                    unsafe { shared.write(neuron * padded + output, value) };
                }
            }
        });
        Self { padded, values: Values::new(memory, &values) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    #[inline(always)]
    pub(super) fn read(&self, neuron: usize, tile: usize, out: &mut [f32; TILE]) {
        self.values.read(neuron * self.padded + tile * TILE, out);
    }

    pub(super) fn forward(&self, isa: Isa, pool: &Pool, o: &Activations, y: &Output) {
        pool.split(self.padded / TILE, 1, |tiles| forward(isa, self, o, tiles, y));
    }
}

multiversion! {
    fn forward(w: &FloatRows, o: &Activations, tiles: Range<usize>, y: &Output) = forward_body;
}

#[inline(always)]
fn forward_body<A: Arch>(w: &FloatRows, o: &Activations, tiles: Range<usize>, y: &Output) {
    let mut row = [0.0; TILE];
    for tile in tiles {
        for token in 0..o.tokens() {
            // SAFETY: a tile belongs to one thread.
            unsafe { y.tile(token, tile) }.fill(0.0);
        }
        for neuron in 0..o.cols() {
            let factor = |token: usize| o.x(token)[neuron];
            let Some(first) = (0..o.tokens()).find(|&token| factor(token) != 0.0) else { continue };
            w.read(neuron, tile, &mut row);
            for token in first..o.tokens() {
                let factor = factor(token);
                if factor != 0.0 {
                    // SAFETY: as above.
                    let sums = unsafe { y.tile(token, tile) };
                    for (sum, &w) in sums.iter_mut().zip(&row) {
                        *sum = A::mul_add(factor, w, *sum);
                    }
                }
            }
        }
    }
}
