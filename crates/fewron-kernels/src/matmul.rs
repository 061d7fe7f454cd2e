//! Products with row-major weight matrices: all rows, chosen rows, and the transpose.

use crate::activations::Activations;
use crate::dtype::DType;
use crate::isa::{Arch, Isa, Row, multiversion};
use crate::pool::{Pool, SharedSlice};
use crate::unpack::{Panel, SUB, dequantize, unpack};
use crate::vector::{dot_body, dots_body};
use std::ops::Range;

/// Tokens that one pass over an unpacked row serves.
const TOKENS: usize = 4;
/// Rows that are unpacked together.
const ROWS: usize = 4;

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

/// How far ahead of the row at work memory is asked for rows.
const PREFETCH_BYTES: usize = 8192;

/// Asks for the cache lines of a row.
#[inline(always)]
fn prefetch(row: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(64) {
        // SAFETY: a prefetch has no effect but on the caches, and the address is valid.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
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
    let mut panels: [Panel; ROWS] = std::array::from_fn(|_| Panel::new(w.cols));
    let mut floats = if w.dtype.is_quantized() { Vec::new() } else { vec![0.0; w.cols] };
    let mut out = vec![0.0; ROWS * x.tokens()];
    let ahead = (PREFETCH_BYTES / w.row_bytes).clamp(1, 32);
    for first in (0..rows.len()).step_by(ROWS) {
        let count = ROWS.min(rows.len() - first);
        if w.dtype.is_quantized() {
            for (offset, panel) in panels[..count].iter_mut().enumerate() {
                if first + offset + ahead < rows.len() {
                    prefetch(w.row(rows.get(first + offset + ahead)));
                }
                let row = w.row(rows.get(first + offset));
                unpack(isa, w.dtype, row, &mut panel.q, &mut panel.d, &mut panel.m);
            }
            quantized_dots(isa, &panels, count, x, &mut out);
        } else {
            for offset in 0..count {
                dequantize(
                    isa,
                    w.dtype,
                    w.row(rows.get(first + offset)),
                    &mut panels[0],
                    &mut floats,
                );
                float_dots(isa, &floats, x, &mut out[offset * x.tokens()..][..x.tokens()]);
            }
        }
        for (offset, out) in out.chunks_exact(x.tokens()).take(count).enumerate() {
            for (token, &value) in out.iter().enumerate() {
                store(token, first + offset, rows.get(first + offset), value);
            }
        }
    }
}

multiversion! {
    /// Products of `count` rows with all inputs, `out` of shape `[rows, tokens]`.
    fn quantized_dots(panels: &[Panel; ROWS], count: usize, x: &Activations, out: &mut [f32]) = quantized_dots_body;
}

#[inline(always)]
fn quantized_dots_body<A: Arch>(
    panels: &[Panel; ROWS],
    count: usize,
    x: &Activations,
    out: &mut [f32],
) {
    let tokens = x.tokens();
    let mut rows = [Row { values: &[], scales: &[], offsets: &[] }; ROWS];
    for (row, panel) in rows.iter_mut().zip(panels) {
        *row = Row { values: &panel.q, scales: &panel.d, offsets: &panel.m };
        assert!(fits(row.values.len(), row.scales, row.offsets, panels[0].q.len()));
    }
    let checked = |token: usize| {
        let input = x.input(token);
        assert!(fits(input.values.len(), input.scales, input.sums, panels[0].q.len()));
        input
    };
    let mut token = 0;
    while token + TOKENS <= tokens {
        let inputs = [checked(token), checked(token + 1), checked(token + 2), checked(token + 3)];
        for r in 0..count {
            // SAFETY: lengths are checked; `A` is the instruction set this body is compiled for.
            let [dots] = unsafe { A::dots([rows[r]], inputs) };
            out[r * tokens + token..][..TOKENS].copy_from_slice(&dots);
        }
        token += TOKENS;
    }
    for token in token..tokens {
        // SAFETY: as above. Rows past `count` are old content of the panels and are not used.
        let dots = unsafe { A::dots(rows, [checked(token)]) };
        for r in 0..count {
            out[r * tokens + token] = dots[r][0];
        }
    }
}

#[inline(always)]
fn fits(values: usize, a: &[f32], b: &[f32], expected: usize) -> bool {
    values == expected && values.is_multiple_of(64) && a.len() * SUB == values && b.len() == a.len()
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
