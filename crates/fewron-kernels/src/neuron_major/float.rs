//! Float weights by neuron.

use super::{Output, TILE};
use crate::activations::Activations;
use crate::isa::{Arch, Isa, multiversion};
use crate::matmul::Matrix;
use crate::memory::{Memory, Piece, prefetch};
use crate::pool::{Pool, SharedSlice};
use crate::rows::{ColdFile, Placement, Rows};
use crate::unpack::f16_to_f32;
use half::f16;
use std::io;
use std::ops::Range;

/// Rows of whole tiles, padded with zeros.
pub(super) struct FloatRows {
    values: Neurons,
}

/// Rows of [`Values`].
pub(super) enum Neurons {
    Half(Rows<u16>),
    Single(Rows<f32>),
}

impl Neurons {
    fn bytes(&self) -> usize {
        match self {
            Neurons::Half(rows) => rows.bytes(),
            Neurons::Single(rows) => rows.bytes(),
        }
    }

    fn place(
        self,
        memory: &mut Memory,
        file: &mut ColdFile,
        placement: &Placement,
    ) -> io::Result<Self> {
        Ok(match self {
            Neurons::Half(rows) => Neurons::Half(rows.place(memory, file, placement)?),
            Neurons::Single(rows) => Neurons::Single(rows.place(memory, file, placement)?),
        })
    }

    fn cold_bytes(&self) -> usize {
        match self {
            Neurons::Half(rows) => rows.cold_bytes(),
            Neurons::Single(rows) => rows.cold_bytes(),
        }
    }

    fn release(&self) {
        match self {
            Neurons::Half(rows) => rows.release(),
            Neurons::Single(rows) => rows.release(),
        }
    }
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

    /// The same values in other memory.
    pub(super) fn copied(&self, memory: &mut Memory) -> Self {
        match self {
            Values::Half(values) => Values::Half(values.copied(memory)),
            Values::Single(values) => Values::Single(values.copied(memory)),
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
            Values::Half(halves) => read_halves(&halves[start..start + TILE], out),
            Values::Single(values) => out.copy_from_slice(&values[start..start + TILE]),
        }
    }
}

#[inline(always)]
fn read_halves(halves: &[u16], out: &mut [f32; TILE]) {
    for (out, &half) in out.iter_mut().zip(halves) {
        *out = f16_to_f32(half);
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
        let values = match Values::new(memory, &values) {
            Values::Half(values) => Neurons::Half(Rows::of(values, padded, 0)),
            Values::Single(values) => Neurons::Single(Rows::of(values, padded, 0)),
        };
        Self { values }
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// The same neurons, some of them in a file.
    pub(super) fn place(
        mut self,
        memory: &mut Memory,
        file: &mut ColdFile,
        placement: &Placement,
    ) -> io::Result<Self> {
        self.values = self.values.place(memory, file, placement)?;
        Ok(self)
    }

    pub(super) fn cold_bytes(&self) -> usize {
        self.values.cold_bytes()
    }

    pub(super) fn release(&self) {
        self.values.release();
    }

    #[inline(always)]
    pub(super) fn read(&self, neuron: usize, tile: usize, out: &mut [f32; TILE]) {
        let at = tile * TILE..(tile + 1) * TILE;
        match &self.values {
            Neurons::Half(rows) => read_halves(&rows.row(neuron)[at], out),
            Neurons::Single(rows) => out.copy_from_slice(&rows.row(neuron)[at]),
        }
    }

    pub(super) fn forward(&self, isa: Isa, o: &Activations, tiles: Range<usize>, y: &Output) {
        forward(isa, self, o, tiles, y);
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
