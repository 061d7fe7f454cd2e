//! Products with row-major weight matrices: all rows, chosen rows, and the transpose.

use crate::activations::{Activations, BATCH_TOKENS, Batch, Layout, Quantized};
use crate::dtype::DType;
use crate::format::{Kind, LANES};
use crate::gemm::{Panel, products};
use crate::isa::{Arch, Isa, multiversion};
use crate::packed::{Packed, Scratch, fill_panel, row_dots};
use crate::pool::{Pool, SharedSlice};
use crate::unpack::{UnpackedRow, dequantize};
use crate::vector::{dot_body, dots_body};
use std::cell::RefCell;
use std::ops::Range;

/// Tokens that one pass over a float row serves.
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
        UNPACKED.with_borrow_mut(|unpacked| {
            unpacked.fit(self.cols);
            dequantize(isa, self.dtype, self.row(row), unpacked, out);
        });
    }
}

/// A weight matrix as products take it.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// Weights as they lie in the file. Products take only float ones.
    File(Matrix<'a>),
    /// Quantised weights, packed for the kernels.
    Packed(&'a Packed),
}

impl Weights<'_> {
    fn rows(&self) -> usize {
        match self {
            Weights::File(w) => w.rows,
            Weights::Packed(w) => w.rows(),
        }
    }

    fn cols(&self) -> usize {
        match self {
            Weights::File(w) => w.cols,
            Weights::Packed(w) => w.cols(),
        }
    }

    /// The 8-bit form of inputs that products need, if any.
    pub fn layout(&self) -> Option<Layout> {
        match self {
            Weights::File(_) => None,
            Weights::Packed(w) => Some(w.layout()),
        }
    }

    /// Writes a row as f32.
    ///
    /// # Panics
    /// When `out` is no row.
    pub fn dequantize_row(&self, isa: Isa, row: usize, out: &mut [f32]) {
        match self {
            Weights::File(w) => w.dequantize_row(isa, row, out),
            Weights::Packed(w) => w.dequantize_row(isa, row, out),
        }
    }
}

/// `out[t, r] = W[r] · x[t]` for all rows: `out` has shape `[tokens, rows]`.
///
/// The result for a token does not depend on the other tokens of the batch or on the number of
/// threads, to the last bit.
///
/// # Panics
/// When shapes differ, or when the activations lack the layout of the weights.
pub fn matmul(isa: Isa, pool: &Pool, w: &Weights, x: &Activations, out: &mut [f32]) {
    matmul_each(isa, pool, x, [(*w, out)]);
}

/// As [`matmul`], with several matrices that take the same inputs: one fork and join for all.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_each<const N: usize>(
    isa: Isa,
    pool: &Pool,
    x: &Activations,
    products: [(Weights, &mut [f32]); N],
) {
    let products = products.map(|(w, out)| {
        assert_eq!(out.len(), x.tokens() * w.rows());
        (w, SharedSlice::new(out))
    });
    let units = |w: &Weights| w.rows().div_ceil(LANES);
    pool.split(products.iter().map(|(w, _)| units(w)).sum(), 1, |range| {
        let mut start = 0;
        for (w, out) in &products {
            let end = start + units(w);
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let rows = (from - start) * LANES..((to - start) * LANES).min(w.rows());
                // SAFETY: a row belongs to one thread.
                unsafe { row_products(isa, w, rows, x, out) };
            }
            start = end;
        }
    });
}

/// The products of a range of rows with all tokens.
///
/// # Safety
/// No other thread may have any of the rows.
unsafe fn row_products(
    isa: Isa,
    w: &Weights,
    range: Range<usize>,
    x: &Activations,
    out: &SharedSlice<f32>,
) {
    let rows = w.rows();
    let store = |token: usize, first: usize, values: &[f32]| {
        let at = token * rows + first;
        // SAFETY: the caller's promise.
        unsafe { out.range(at..at + values.len()) }.copy_from_slice(values);
    };
    match *w {
        Weights::File(w) => float_products(isa, &w, range, |row| row, x, store),
        Weights::Packed(w) => {
            let x = form(w, x);
            match x.batch() {
                Some(batch) => panel_products(isa, w, range, &batch, store),
                None => few_products(isa, w, w.kind(), range, rows, |row| row, x, store),
            }
        }
    }
}

/// `out[i] = W[rows[i]] · x` for the chosen rows and a single vector.
///
/// # Panics
/// When shapes differ or a row does not exist.
pub fn matvec_rows(
    isa: Isa,
    pool: &Pool,
    w: &Weights,
    rows: &[u32],
    x: &Activations,
    out: &mut [f32],
) {
    assert_eq!((x.tokens(), out.len()), (1, rows.len()));
    let shared = SharedSlice::new(out);
    let store = |_, first: usize, values: &[f32]| {
        // SAFETY: an index belongs to one thread.
        unsafe { shared.range(first..first + values.len()) }.copy_from_slice(values);
    };
    let row = |index: usize| rows[index] as usize;
    match *w {
        Weights::File(w) => {
            pool.split(rows.len(), 1, |range| float_products(isa, &w, range, row, x, store));
        }
        Weights::Packed(w) => {
            let x = form(w, x);
            pool.split(rows.len(), LANES, |range| {
                few_products(isa, w, w.kind(), range, rows.len(), row, x, store);
            });
        }
    }
}

/// How far under the largest product others are computed exactly: by `depth` plus `deviations`
/// standard deviations of the approximation's error.
#[derive(Clone, Copy, Debug)]
pub struct Margin {
    /// In units of the products.
    pub depth: f32,
    /// In standard deviations.
    pub deviations: f32,
}

/// Products of one vector with all rows of a split matrix: exact where they come near the largest,
/// approximate elsewhere, by the high bits alone. `near` becomes the list of the exact ones.
///
/// Exact are the rows whose approximate product lies within `margin` of the largest one. The error of
/// a row comes from the low bits it leaves out: `7.5·d` at most for each weight of Q8_0, evenly spread,
/// so its variance is `Σ_b v·d_b²·‖x_b‖²` with `v` that of the low bits. `d_b²` is the mean over all
/// rows.
///
/// # Panics
/// When the matrix is not split, shapes differ, or the activations lack its layout.
pub fn matvec_shortlist(
    isa: Isa,
    pool: &Pool,
    w: &Packed,
    x: &Activations,
    margin: Margin,
    near: &mut Vec<u32>,
    out: &mut [f32],
) {
    assert_eq!((x.tokens(), out.len()), (1, w.rows()));
    let x = form(w, x);
    let high = w.high_kind().expect("a split matrix");
    let shared = SharedSlice::new(out);
    let store = |_, first: usize, values: &[f32]| {
        // SAFETY: a row belongs to one thread.
        unsafe { shared.range(first..first + values.len()) }.copy_from_slice(values);
    };
    pool.split(w.rows(), LANES, |rows| {
        few_products(isa, w, high, rows, w.rows(), |row| row, x, store);
    });
    let margin = margin.depth + margin.deviations * w.high_error(x);
    let least = crate::vector::max(isa, out) - margin;
    near.clear();
    near.extend(out.iter().zip(0..).filter(|&(&value, _)| value >= least).map(|(_, row)| row));
    let near = &near[..];
    let shared = SharedSlice::new(out);
    let store = |_, first: usize, values: &[f32]| {
        for (&row, &value) in near[first..].iter().zip(values) {
            // SAFETY: a row belongs to one thread, and none is listed twice.
            unsafe { shared.write(row as usize, value) }
        }
    };
    pool.split(near.len(), LANES, |range| {
        few_products(isa, w, w.kind(), range, near.len(), |index| near[index] as usize, x, store);
    });
}

/// The inputs in the layout of packed weights.
fn form<'a>(w: &Packed, x: &'a Activations) -> &'a Quantized {
    assert_eq!(x.cols(), w.cols(), "inputs of the matrix");
    x.quantized(w.layout()).expect("quantised weights take 8-bit activations of their layout")
}

/// How far ahead of the row at work memory is asked for rows.
const PREFETCH_BYTES: usize = 8192;

/// Products of a few tokens with the rows `row(index)`: calls `store(token, first index, values)`. There
/// are `total` indices, of which rows are asked for ahead of their use.
#[allow(clippy::too_many_arguments)]
fn few_products(
    isa: Isa,
    w: &Packed,
    kind: Kind,
    indices: Range<usize>,
    total: usize,
    row: impl Fn(usize) -> usize,
    x: &Quantized,
    store: impl Fn(usize, usize, &[f32]),
) {
    let ahead = PREFETCH_BYTES.div_ceil(w.row_bytes()).clamp(1, LANES);
    let mut out = [[0.0; LANES]; BATCH_TOKENS - 1];
    let out = &mut out[..x.tokens()];
    let mut rows = [0u32; 2 * LANES];
    SCRATCH.with_borrow_mut(|scratch| {
        for first in indices.clone().step_by(LANES) {
            let (count, left) = (LANES.min(indices.end - first), total - first);
            for (offset, to) in rows.iter_mut().enumerate().take(left) {
                *to = row(first + offset) as u32;
            }
            let next = &rows[ahead.min(left)..(ahead + count).min(left)];
            row_dots(isa, w, kind, &rows[..count], next, x, scratch, out);
            for (token, out) in out.iter().enumerate() {
                store(token, first, &out[..count]);
            }
        }
    });
}

/// Products of a batch with a range of rows: calls `store(token, first row, values)`.
fn panel_products(
    isa: Isa,
    w: &Packed,
    rows: Range<usize>,
    x: &Batch,
    store: impl Fn(usize, usize, &[f32]),
) {
    let mut panel = Panel::default();
    let mut out = vec![0.0; x.tokens() * LANES];
    for first in rows.clone().step_by(LANES) {
        fill_panel(isa, w, first, &mut panel);
        products(isa, &panel, x, &mut out);
        let count = LANES.min(rows.end - first);
        for (token, out) in out.chunks_exact(LANES).enumerate() {
            store(token, first, &out[..count]);
        }
    }
}

/// Products with the float rows `row(index)`: calls `store(token, index, values)` with one value each.
fn float_products(
    isa: Isa,
    w: &Matrix,
    indices: Range<usize>,
    row: impl Fn(usize) -> usize,
    x: &Activations,
    store: impl Fn(usize, usize, &[f32]),
) {
    assert_eq!(x.cols(), w.cols, "inputs of the matrix");
    assert!(!w.dtype.is_quantized(), "quantised weights are packed first");
    FLOATS.with_borrow_mut(|(floats, out)| {
        floats.resize(w.cols, 0.0);
        out.resize(x.tokens(), 0.0);
        for index in indices {
            dequantize(isa, w.dtype, w.row(row(index)), &mut UnpackedRow::default(), floats);
            float_dots(isa, floats, x, out);
            for (token, value) in out.chunks(1).enumerate() {
                store(token, index, value);
            }
        }
    });
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();

    static UNPACKED: RefCell<UnpackedRow> = RefCell::new(UnpackedRow::default());

    /// A row in single precision, and its products with a batch.
    static FLOATS: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

multiversion! {
    fn float_dots(row: &[f32], x: &Activations, out: &mut [f32]) = float_dots_body;
}

#[inline(always)]
fn float_dots_body<A: Arch>(row: &[f32], x: &Activations, out: &mut [f32]) {
    let (blocks, tail) = out.as_chunks_mut::<TOKENS>();
    let first_of_tail = blocks.len() * TOKENS;
    for (block, out) in blocks.iter_mut().enumerate() {
        let t = block * TOKENS;
        *out = dots_body::<A, TOKENS>(row, [x.x(t), x.x(t + 1), x.x(t + 2), x.x(t + 3)]);
    }
    for (offset, out) in tail.iter_mut().enumerate() {
        *out = dot_body::<A>(row, x.x(first_of_tail + offset));
    }
}

/// `y[t] += Wᵀ · c[t]`: the backward pass of [`matmul`]. `c` has shape `[tokens, rows]`, `y`
/// `[tokens, cols]`. Rows whose coefficients are all zero are not read.
///
/// # Panics
/// When shapes differ.
pub fn matmul_transposed(isa: Isa, pool: &Pool, w: &Weights, c: &[f32], y: &mut [f32]) {
    let (all_rows, cols) = (w.rows(), w.cols());
    let tokens = c.len() / all_rows;
    assert_eq!((c.len(), y.len()), (tokens * all_rows, tokens * cols));
    let unit = match w {
        Weights::File(w) => {
            assert!(!w.dtype.is_quantized(), "quantised weights are packed first");
            64
        }
        Weights::Packed(w) => w.group_len(),
    };
    let shared = SharedSlice::new(y);
    pool.split(cols, unit, |range| {
        let mut rows = vec![0.0; 4 * range.len()];
        let mut filled = [0usize; 4];
        let mut count = 0;
        let flush = |rows: &mut [f32], filled: &[usize]| {
            rows[filled.len() * range.len()..].fill(0.0);
            for token in 0..tokens {
                let mut factors = [0.0; 4];
                for (factor, &row) in factors.iter_mut().zip(filled) {
                    *factor = c[token * all_rows + row];
                }
                // SAFETY: a column belongs to one thread.
                let y =
                    unsafe { shared.range(token * cols + range.start..token * cols + range.end) };
                add_rows(isa, rows, factors, y);
            }
        };
        for row in 0..all_rows {
            if (0..tokens).all(|token| c[token * all_rows + row] == 0.0) {
                continue;
            }
            let out = &mut rows[count * range.len()..][..range.len()];
            match w {
                Weights::File(w) => {
                    let width = w.dtype.block_bytes();
                    let bytes = &w.row(row)[range.start * width..range.end * width];
                    dequantize(isa, w.dtype, bytes, &mut UnpackedRow::default(), out);
                }
                Weights::Packed(w) => w.dequantize_part(isa, row, range.start / unit, out),
            }
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
