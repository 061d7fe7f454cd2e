//! Products with row-major weight matrices: all rows, chosen rows, and the transpose.

use crate::activations::Activations;
use crate::dtype::DType;
use crate::isa::{Arch, Input, Isa, Row, multiversion};
use crate::pool::{Pool, SharedSlice};
use crate::unpack::{Panel, SUB, dequantize, unpack};
use crate::vector::{dot_body, dots_body};
use std::ops::Range;

/// Tokens that one pass over an unpacked row serves.
const TOKENS: usize = 4;

/// A weight matrix in its file's block format, row-major: shape `[rows, cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: DType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// A view of `data`; `None` when its length does not fit the shape.
    pub fn new(dtype: DType, rows: usize, cols: usize, data: &'a [u8]) -> Option<Self> {
        let row_bytes = dtype.row_bytes(cols)?;
        (cols > 0 && rows.checked_mul(row_bytes)? == data.len()).then_some(Self {
            dtype,
            rows,
            cols,
            row_bytes,
            data,
        })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        &self.data[row * self.row_bytes..][..self.row_bytes]
    }

    /// Writes a row as f32.
    pub fn dequantize_row(&self, isa: Isa, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols);
        dequantize(isa, self.dtype, self.row(row), &mut Panel::new(self.cols), out);
    }
}

/// `out[t, r] = W[r] · x[t]` for all rows: `out` has shape `[tokens, rows]`.
///
/// The result for a token does not depend on the other tokens of the batch or on the number of
/// threads, to the last bit.
///
/// # Panics
/// When shapes differ, or when the weights are quantised and the activations are not.
pub fn matmul(isa: Isa, pool: &Pool, w: &Matrix, x: &Activations, out: &mut [f32]) {
    assert_eq!(out.len(), x.tokens() * w.rows);
    let rows = w.rows;
    let shared = SharedSlice::new(out);
    pool.split(rows, 1, |range| {
        products(isa, w, x, &Rows::Range(range), &|token, _, row, value| {
            // SAFETY: a row belongs to one thread.
            unsafe { shared.write(token * rows + row, value) }
        });
    });
}

/// `out[i] = W[rows[i]] · x` for the chosen rows and a single vector.
///
/// # Panics
/// When shapes differ or a row does not exist.
pub fn matvec_rows(
    isa: Isa,
    pool: &Pool,
    w: &Matrix,
    rows: &[u32],
    x: &Activations,
    out: &mut [f32],
) {
    assert_eq!((x.tokens(), out.len()), (1, rows.len()));
    let shared = SharedSlice::new(out);
    pool.split(rows.len(), 1, |range| {
        let start = range.start;
        products(isa, w, x, &Rows::List(&rows[range]), &|_, index, _, value| {
            // SAFETY: an index belongs to one thread.
            unsafe { shared.write(start + index, value) }
        });
    });
}

enum Rows<'a> {
    Range(Range<usize>),
    List(&'a [u32]),
}

impl Rows<'_> {
    fn len(&self) -> usize {
        match self {
            Rows::Range(range) => range.len(),
            Rows::List(list) => list.len(),
        }
    }

    fn get(&self, index: usize) -> usize {
        match self {
            Rows::Range(range) => range.start + index,
            Rows::List(list) => list[index] as usize,
        }
    }
}

/// Calls `store(token, index, row, value)` for every product.
fn products(
    isa: Isa,
    w: &Matrix,
    x: &Activations,
    rows: &Rows,
    store: &(impl Fn(usize, usize, usize, f32) + Sync),
) {
    assert_eq!(x.cols(), w.cols, "inputs of the matrix");
    assert!(
        !w.dtype.is_quantized() || x.is_quantized(),
        "quantised weights take 8-bit activations"
    );
    let mut panel = Panel::new(w.cols);
    let mut floats = if w.dtype.is_quantized() { Vec::new() } else { vec![0.0; w.cols] };
    let mut out = [0.0; TOKENS];
    for index in 0..rows.len() {
        let row = rows.get(index);
        if w.dtype.is_quantized() {
            unpack(isa, w.dtype, w.row(row), &mut panel.q, &mut panel.d, &mut panel.m);
        } else {
            dequantize(isa, w.dtype, w.row(row), &mut panel, &mut floats);
        }
        for first in (0..x.tokens()).step_by(TOKENS) {
            let count = TOKENS.min(x.tokens() - first);
            if w.dtype.is_quantized() {
                quantized_dots(isa, &panel, x, first, &mut out[..count]);
            } else {
                float_dots(isa, &floats, x, first, &mut out[..count]);
            }
            for (offset, &value) in out[..count].iter().enumerate() {
                store(first + offset, index, row, value);
            }
        }
    }
}

multiversion! {
    fn quantized_dots(panel: &Panel, x: &Activations, first: usize, out: &mut [f32]) = quantized_dots_body;
}

#[inline(always)]
fn quantized_dots_body<A: Arch>(panel: &Panel, x: &Activations, first: usize, out: &mut [f32]) {
    if out.len() == TOKENS {
        out.copy_from_slice(&quantized_dots_of::<A, TOKENS>(panel, x, first));
    } else {
        for (offset, out) in out.iter_mut().enumerate() {
            *out = quantized_dots_of::<A, 1>(panel, x, first + offset)[0];
        }
    }
}

#[inline(always)]
fn quantized_dots_of<A: Arch, const N: usize>(
    panel: &Panel,
    x: &Activations,
    first: usize,
) -> [f32; N] {
    let row = Row { values: &panel.q, scales: &panel.d, offsets: &panel.m };
    let fits = |values: usize, a: &[f32], b: &[f32]| {
        values.is_multiple_of(64)
            && values == row.values.len()
            && a.len() * SUB == values
            && b.len() == a.len()
    };
    assert!(fits(row.values.len(), row.scales, row.offsets));
    let mut inputs = [Input { values: &[], scales: &[], sums: &[] }; N];
    for (n, input) in inputs.iter_mut().enumerate() {
        *input = x.input(first + n);
        assert!(fits(input.values.len(), input.scales, input.sums));
    }
    // SAFETY: lengths are checked above; `A` is the instruction set this body is compiled for.
    unsafe { A::dots(row, inputs) }
}

multiversion! {
    fn float_dots(row: &[f32], x: &Activations, first: usize, out: &mut [f32]) = float_dots_body;
}

#[inline(always)]
fn float_dots_body<A: Arch>(row: &[f32], x: &Activations, first: usize, out: &mut [f32]) {
    if out.len() == TOKENS {
        let mut inputs: [&[f32]; TOKENS] = [&[]; TOKENS];
        for (n, input) in inputs.iter_mut().enumerate() {
            *input = x.x(first + n);
        }
        out.copy_from_slice(&dots_body::<A, TOKENS>(row, inputs));
    } else {
        for (offset, out) in out.iter_mut().enumerate() {
            *out = dot_body::<A>(row, x.x(first + offset));
        }
    }
}

/// `y[t] += Wᵀ · c[t]`: the backward pass of [`matmul`]. `c` has shape `[tokens, rows]`, `y`
/// `[tokens, cols]`. Rows whose coefficients are all zero are not read.
///
/// # Panics
/// When shapes differ.
pub fn matmul_transposed(isa: Isa, pool: &Pool, w: &Matrix, c: &[f32], y: &mut [f32]) {
    let tokens = c.len() / w.rows;
    assert_eq!((c.len(), y.len()), (tokens * w.rows, tokens * w.cols));
    let (cols, block) = (w.cols, w.dtype.block_len());
    let shared = SharedSlice::new(y);
    pool.split(cols, block.max(64), |range| {
        let bytes =
            range.start / block * w.dtype.block_bytes()..range.end / block * w.dtype.block_bytes();
        let mut panel = Panel::new(range.len());
        let mut rows = vec![0.0; 4 * range.len()];
        let mut filled = [0usize; 4];
        let mut count = 0;
        let flush = |rows: &mut [f32], filled: &[usize]| {
            rows[filled.len() * range.len()..].fill(0.0);
            for token in 0..tokens {
                let mut factors = [0.0; 4];
                for (factor, &row) in factors.iter_mut().zip(filled) {
                    *factor = c[token * w.rows + row];
                }
                // SAFETY: a column belongs to one thread.
                let y =
                    unsafe { shared.range(token * cols + range.start..token * cols + range.end) };
                add_rows(isa, rows, factors, y);
            }
        };
        for row in 0..w.rows {
            if (0..tokens).all(|token| c[token * w.rows + row] == 0.0) {
                continue;
            }
            let out = &mut rows[count * range.len()..][..range.len()];
            dequantize(isa, w.dtype, &w.row(row)[bytes.clone()], &mut panel, out);
            filled[count] = row;
            count += 1;
            if count == 4 {
                flush(&mut rows, &filled);
                count = 0;
            }
        }
        if count > 0 {
            flush(&mut rows, &filled[..count]);
        }
    });
}

multiversion! {
    /// `y += Σ factors[i] · rows[i]`.
    fn add_rows(rows: &[f32], factors: [f32; 4], y: &mut [f32]) = add_rows_body;
}

#[inline(always)]
fn add_rows_body<A: Arch>(rows: &[f32], factors: [f32; 4], y: &mut [f32]) {
    let n = y.len();
    let (a, rest) = rows.split_at(n);
    let (b, rest) = rest.split_at(n);
    let (c, d) = rest.split_at(n);
    let d = &d[..n];
    for k in 0..n {
        let sum = A::mul_add(factors[0], a[k], y[k]);
        let sum = A::mul_add(factors[1], b[k], sum);
        let sum = A::mul_add(factors[2], c[k], sum);
        y[k] = A::mul_add(factors[3], d[k], sum);
    }
}
