//! The down projection stored by neuron, so that a neuron that is off costs nothing.

mod float;
mod quantized;

use crate::activations::{Activations, Layout};
use crate::isa::{Arch, Isa, multiversion};
use crate::matmul::Matrix;
use crate::memory::Memory;
use crate::pool::{Pool, SharedSlice};
use crate::rows::{ColdFile, Placement};
use crate::vector::dot_body;
use float::FloatRows;
use quantized::QuantizedRows;
use std::io;
use std::ops::Range;

/// Outputs that are packed and processed together.
const TILE: usize = 64;

/// A down projection, neuron by neuron: shape `[neurons, outputs]`. Its values are those of the file.
pub struct NeuronMajor {
    neurons: usize,
    outputs: usize,
    rows: Rows,
}

enum Rows {
    Float(FloatRows),
    Quantized(QuantizedRows),
}

impl NeuronMajor {
    /// Transposes `down` of shape `[outputs, neurons]`.
    pub fn new(isa: Isa, pool: &Pool, memory: &mut Memory, down: &Matrix) -> Self {
        let (outputs, neurons) = (down.rows(), down.cols());
        let rows = if down.dtype().is_quantized() {
            Rows::Quantized(QuantizedRows::new(isa, pool, memory, down))
        } else {
            Rows::Float(FloatRows::new(isa, pool, memory, down))
        };
        Self { neurons, outputs, rows }
    }

    /// The same matrix with some of its neurons in a file; scales stay in memory.
    ///
    /// # Errors
    /// When the file cannot be written or mapped.
    ///
    /// # Panics
    /// When the placement has another number of neurons, or the matrix is placed already.
    pub fn place(
        mut self,
        memory: &mut Memory,
        file: &mut ColdFile,
        placement: &Placement,
    ) -> io::Result<Self> {
        self.rows = match self.rows {
            Rows::Float(rows) => Rows::Float(rows.place(memory, file, placement)?),
            Rows::Quantized(rows) => Rows::Quantized(rows.place(memory, file, placement)?),
        };
        Ok(self)
    }

    /// Bytes of the neurons in a file.
    pub fn cold_bytes(&self) -> usize {
        match &self.rows {
            Rows::Float(rows) => rows.cold_bytes(),
            Rows::Quantized(rows) => rows.placed().cold_bytes(),
        }
    }

    /// Gives back the pages of the neurons in a file.
    pub fn release(&self) {
        match &self.rows {
            Rows::Float(rows) => rows.release(),
            Rows::Quantized(rows) => rows.placed().release(),
        }
    }

    /// Number of neurons.
    pub fn neurons(&self) -> usize {
        self.neurons
    }

    /// Outputs of each neuron.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match &self.rows {
            Rows::Float(rows) => rows.bytes(),
            Rows::Quantized(rows) => rows.bytes(),
        }
    }

    /// The form of the neurons' outputs that [`Self::forward`] takes, if it takes 8-bit ones.
    pub fn layout(&self) -> Option<Layout> {
        match &self.rows {
            Rows::Float(_) => None,
            Rows::Quantized(rows) => Some(rows.layout()),
        }
    }

    /// `y = Σ o_i · W[i]` for each token: `o` has shape `[tokens, neurons]`, `y` `[tokens, outputs]`.
    /// The weights of neurons whose output is 0, for all tokens, are not read: see
    /// [`Activations::set_sparse`].
    ///
    /// The result for a token depends neither on the other tokens nor on the number of threads, to
    /// the last bit.
    ///
    /// # Panics
    /// When shapes differ, or when the activations lack the layout of the weights.
    pub fn forward(&self, isa: Isa, pool: &Pool, o: &Activations, y: &mut [f32]) {
        Self::forward_each(isa, pool, [(self, o, y)]);
    }

    /// As [`Self::forward`], with several matrices: one fork and join for all.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn forward_each<const N: usize>(
        isa: Isa,
        pool: &Pool,
        products: [(&Self, &Activations, &mut [f32]); N],
    ) {
        let products = products.map(|(w, o, y)| {
            assert_eq!((o.cols(), y.len()), (w.neurons, o.tokens() * w.outputs));
            (w, o, Output { outputs: w.outputs, values: SharedSlice::new(y) })
        });
        let tiles = |(w, ..): &(&Self, &Activations, Output)| w.outputs.div_ceil(TILE);
        let most = products.iter().map(tiles).max().unwrap_or(0);
        // A few tokens: one part for each thread, since the walk over the neurons is done anew for
        // each part.
        let few = products.iter().all(|(_, o, _)| o.is_few());
        let share = if few { most.div_ceil(pool.threads()) } else { 1 };
        pool.split(most, share, |range| {
            for product @ (w, o, y) in &products {
                let range = range.start..range.end.min(tiles(product));
                match &w.rows {
                    Rows::Float(rows) => rows.forward(isa, o, range, y),
                    Rows::Quantized(rows) => rows.forward(isa, o, range, y),
                }
            }
        });
    }

    /// `out[t, i] = W[i] · g[t]`: gradients of the neurons' outputs, for `g` = ∂L/∂y of shape
    /// `[tokens, outputs]`; `out` has shape `[tokens, neurons]`.
    ///
    /// # Panics
    /// When shapes differ.
    pub fn backward(&self, isa: Isa, pool: &Pool, g: &[f32], out: &mut [f32]) {
        let tokens = g.len() / self.outputs;
        assert_eq!((g.len(), out.len()), (tokens * self.outputs, tokens * self.neurons));
        let shared = SharedSlice::new(out);
        pool.split(self.neurons, 1, |neurons| backward_rows(isa, self, g, neurons, &shared));
    }

    /// ‖`W[i]`‖₂ of each neuron.
    pub fn row_norms(&self, isa: Isa) -> Vec<f32> {
        let mut row = vec![0.0; self.outputs];
        (0..self.neurons)
            .map(|neuron| {
                self.weights(isa, neuron, &mut row);
                crate::vector::dot(isa, &row, &row).sqrt()
            })
            .collect()
    }

    /// Writes the weights of one neuron in f32.
    ///
    /// # Panics
    /// When there is no such neuron or `out` has another length than the outputs.
    pub fn weights(&self, isa: Isa, neuron: usize, out: &mut [f32]) {
        assert!(neuron < self.neurons && out.len() == self.outputs);
        weights(isa, &self.rows, neuron, out);
    }
}

/// The result of a product, written tile by tile.
struct Output<'a> {
    outputs: usize,
    values: SharedSlice<'a, f32>,
}

impl Output<'_> {
    /// The outputs of a token that lie in a tile.
    ///
    /// # Safety
    /// The place must belong to one thread.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    unsafe fn tile(&self, token: usize, tile: usize) -> &mut [f32] {
        let base = token * self.outputs;
        let end = ((tile + 1) * TILE).min(self.outputs);
        // SAFETY: passed on to the caller.
        unsafe { self.values.range(base + tile * TILE..base + end) }
    }

    /// Copies `values` to the outputs of a token from `first` on, without padding.
    ///
    /// # Safety
    /// The place must belong to one thread.
    #[inline(always)]
    unsafe fn store(&self, token: usize, first: usize, values: &[f32]) {
        let end = (first + values.len()).min(self.outputs);
        if first < end {
            let base = token * self.outputs;
            // SAFETY: passed on to the caller.
            unsafe { self.values.range(base + first..base + end) }
                .copy_from_slice(&values[..end - first]);
        }
    }
}

multiversion! {
    fn weights(rows: &Rows, neuron: usize, out: &mut [f32]) = weights_body;
}

#[inline(always)]
fn weights_body<A: Arch>(rows: &Rows, neuron: usize, out: &mut [f32]) {
    let mut values = [0.0; TILE];
    for (tile, out) in out.chunks_mut(TILE).enumerate() {
        match rows {
            Rows::Float(rows) => rows.read(neuron, tile, &mut values),
            Rows::Quantized(rows) => rows.read::<A>(neuron, tile, &mut values),
        }
        out.copy_from_slice(&values[..out.len()]);
    }
}

multiversion! {
    fn backward_rows(w: &NeuronMajor, g: &[f32], neurons: Range<usize>, out: &SharedSlice<f32>) = backward_rows_body;
}

#[inline(always)]
fn backward_rows_body<A: Arch>(
    w: &NeuronMajor,
    g: &[f32],
    neurons: Range<usize>,
    out: &SharedSlice<f32>,
) {
    let mut row = vec![0.0; w.outputs];
    for neuron in neurons {
        weights_body::<A>(&w.rows, neuron, &mut row);
        for (token, g) in g.chunks_exact(w.outputs).enumerate() {
            // SAFETY: a neuron belongs to one thread.
            unsafe { out.write(token * w.neurons + neuron, dot_body::<A>(&row, g)) };
        }
    }
}
