//! Weight matrices of a model, in the forms in which products read them.

use super::Model;
use crate::source::{Source, Tensor};
use fewron_kernels::{
    Activations, Layout, Matrix, NeuronMajor, Packed, Pool, Weights, matmul, matmul_each,
    matmul_transposed, matvec_rows,
};
use std::sync::Arc;

/// A weight matrix and its bias.
#[derive(Clone)]
pub(crate) struct Weight {
    pub(super) tensor: Tensor,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// As products read it.
    pub(super) bytes: usize,
    pub(super) form: Form,
    /// Whether the pages of a matrix in the file are given back after use.
    pub(super) released: bool,
    pub(crate) bias: Option<Arc<[f32]>>,
}

/// How the numbers of a matrix lie.
#[derive(Clone)]
pub(super) enum Form {
    /// Float numbers in the mapped file.
    File,
    /// Quantised rows in memory.
    Packed(Arc<Packed>),
    /// In memory by input, so that inputs that are 0 are not read.
    ByInput(Arc<NeuronMajor>),
}

impl Weight {
    /// The 8-bit form of inputs that products need, if any.
    pub(crate) fn layout(&self) -> Option<Layout> {
        match &self.form {
            Form::File => None,
            Form::Packed(packed) => Some(packed.layout()),
            Form::ByInput(weights) => weights.layout(),
        }
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// `out = x · Wᵀ + bias` for a batch: `out` becomes `[tokens, rows]`.
    pub(crate) fn forward(&self, model: &Model, pool: &Pool, x: &Activations, out: &mut Vec<f32>) {
        Self::forward_each(model, pool, x, [(self, out)]);
    }

    /// As [`Self::forward`], for several matrices with the same inputs.
    pub(crate) fn forward_each<const N: usize>(
        model: &Model,
        pool: &Pool,
        x: &Activations,
        mut products: [(&Self, &mut Vec<f32>); N],
    ) {
        for (w, out) in &mut products {
            out.resize(x.tokens() * w.rows, 0.0);
        }
        let by_row = products.each_ref().map(|(w, _)| w.by_row(&model.source).ok());
        if by_row.iter().all(Option::is_some) {
            let mut by_row = by_row.into_iter().flatten();
            let products = products
                .each_mut()
                .map(|(_, out)| (by_row.next().expect("all lie by row"), out.as_mut_slice()));
            matmul_each(model.isa, pool, x, products);
        } else {
            for (w, out) in &mut products {
                match w.by_row(&model.source) {
                    Ok(weights) => matmul(model.isa, pool, &weights, x, out),
                    Err(weights) => weights.forward(model.isa, pool, x, out),
                }
            }
        }
        for (w, out) in products {
            w.bias.iter().for_each(|bias| add_bias(bias, out));
        }
    }

    /// As [`Self::forward`], together with another product of the same inputs, if there is one.
    pub(crate) fn forward_with(
        &self,
        model: &Model,
        pool: &Pool,
        x: &Activations,
        out: &mut Vec<f32>,
        other: Option<(Weights, &mut [f32])>,
    ) {
        match (self.by_row(&model.source), other) {
            (Ok(weights), Some(other)) => {
                out.resize(x.tokens() * self.rows, 0.0);
                matmul_each(model.isa, pool, x, [(weights, out), other]);
                self.bias.iter().for_each(|bias| add_bias(bias, out));
            }
            (_, other) => {
                self.forward(model, pool, x, out);
                other.into_iter().for_each(|(w, out)| matmul(model.isa, pool, &w, x, out));
            }
        }
    }

    /// `out[i] = W[rows[i]] · x + bias[rows[i]]` for a single token. A matrix by input is read whole.
    pub(crate) fn forward_rows(
        &self,
        model: &Model,
        pool: &Pool,
        rows: &[u32],
        x: &Activations,
        out: &mut [f32],
    ) {
        match self.by_row(&model.source) {
            Ok(weights) => matvec_rows(model.isa, pool, &weights, rows, x, out),
            Err(weights) => {
                let mut all = vec![0.0; self.rows];
                weights.forward(model.isa, pool, x, &mut all);
                out.iter_mut().zip(rows).for_each(|(out, &row)| *out = all[row as usize]);
            }
        }
        if let Some(bias) = &self.bias {
            out.iter_mut().zip(rows).for_each(|(out, &row)| *out += bias[row as usize]);
        }
    }

    /// `y[t] += Wᵀ · c[t]`: `c` has shape `[tokens, rows]`, `y` `[tokens, cols]`.
    pub(crate) fn backward(&self, model: &Model, pool: &Pool, c: &[f32], y: &mut [f32]) {
        match self.by_row(&model.source) {
            Ok(weights) => matmul_transposed(model.isa, pool, &weights, c, y),
            Err(weights) => {
                let mut part = vec![0.0; y.len()];
                weights.backward(model.isa, pool, c, &mut part);
                y.iter_mut().zip(&part).for_each(|(y, part)| *y += part);
            }
        }
    }

    /// Writes a row as f32: of embeddings and of the head, which always lie by row.
    pub(crate) fn row(&self, model: &Model, row: usize, out: &mut [f32]) {
        if let Ok(weights) = self.by_row(&model.source) {
            weights.dequantize_row(model.isa, row, out);
        }
    }

    /// Adds the squares of each column's weights to `squares`, `[cols]`; an empty list is zeros.
    pub(super) fn add_channel_squares(&self, model: &Model, squares: &mut Vec<f32>) {
        squares.resize(self.cols, 0.0);
        match self.by_row(&model.source) {
            Ok(weights) => {
                let mut row = vec![0.0; self.cols];
                for index in 0..self.rows {
                    weights.dequantize_row(model.isa, index, &mut row);
                    squares.iter_mut().zip(&row).for_each(|(sum, w)| *sum += w * w);
                }
            }
            Err(weights) => {
                let norms = weights.row_norms(model.isa);
                squares.iter_mut().zip(norms).for_each(|(sum, norm)| *sum += norm * norm);
            }
        }
    }

    /// The matrix by row, or else by input.
    fn by_row<'a>(&'a self, source: &'a Source) -> Result<Weights<'a>, &'a NeuronMajor> {
        match &self.form {
            Form::File => Ok(Weights::File(self.view(source))),
            Form::Packed(packed) => Ok(Weights::Packed(packed)),
            Form::ByInput(weights) => Err(weights),
        }
    }

    /// Gives back the pages that do not stay in memory.
    pub(super) fn release(&self, source: &Source) {
        match &self.form {
            Form::File if self.released => {
                source.release(self.tensor.file, self.tensor.bytes.clone());
            }
            Form::Packed(packed) => packed.release(),
            Form::File | Form::ByInput(_) => {}
        }
    }

    /// The matrix in the mapped file.
    pub(super) fn view<'a>(&self, source: &'a Source) -> Matrix<'a> {
        let Tensor { file, dtype, bytes, .. } = &self.tensor;
        Matrix::new(*dtype, self.rows, self.cols, &source.bytes(*file)[bytes.clone()])
            .expect("the reader checks a tensor's size against its shape")
    }
}

/// A weight matrix by its inputs, so that inputs that are off are not read, and its bias.
pub(crate) struct ByInput {
    pub(crate) weights: NeuronMajor,
    pub(crate) bias: Option<Vec<f32>>,
    /// As products read it.
    pub(super) bytes: usize,
}

impl ByInput {
    /// Adds the bias to each row.
    pub(crate) fn add_bias(&self, rows: &mut [f32]) {
        self.bias.iter().for_each(|bias| add_bias(bias, rows));
    }
}

/// Adds a bias to each row.
pub(crate) fn add_bias(bias: &[f32], rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
    }
}
