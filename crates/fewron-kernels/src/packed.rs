//! Quantised matrices in the layout of [`crate::format`].

mod row_dots;

use crate::activations::{Layout, Order, Quantized};
use crate::dtype::DType;
use crate::format::{
    At, Format, Kind, LANES, expand, group_bytes, low_bytes, scales, sub, with_format, write_group,
};
use crate::gemm::{Panel, Visits};
use crate::isa::{Arch, Isa, multiversion};
use crate::matmul::Matrix;
use crate::memory::Memory;
use crate::pool::{Pool, SharedSlice};
use crate::rows::{ColdFile, Placement, Rows, View};
use crate::unpack::Raw;
use std::io;

pub(crate) use row_dots::{Scratch, row_dots};

/// Bytes behind the last row that kernels may read (and ignore).
const MARGIN: usize = 32;

/// A quantised weight matrix, packed for the kernels: shape `[rows, cols]`. Its values are exactly
/// those of the file.
pub struct Packed {
    kind: Kind,
    dtype: DType,
    rows: usize,
    cols: usize,
    data: Rows<u8>,
    /// Bits kept apart.
    low: Rows<u8>,
    /// Of a split matrix: for each block of a row, the mean over the rows of the variance that leaving
    /// out the low bits gives a product, for inputs of 1.
    low_variance: Vec<f32>,
}

impl Packed {
    /// Packs a quantised matrix.
    ///
    /// # Panics
    /// When its type is not quantised.
    pub fn new(isa: Isa, pool: &Pool, memory: &mut Memory, matrix: &Matrix) -> Self {
        Self::of_kind(Kind::Whole(matrix.dtype()), isa, pool, memory, matrix)
    }

    /// Packs a matrix with its low bits apart, for [`crate::matvec_shortlist`]: types of more than five
    /// bits only.
    pub fn split(isa: Isa, pool: &Pool, memory: &mut Memory, matrix: &Matrix) -> Option<Self> {
        matches!(matrix.dtype(), DType::Q8_0 | DType::Q6_K)
            .then(|| Self::of_kind(Kind::Split(matrix.dtype()), isa, pool, memory, matrix))
    }

    fn of_kind(kind: Kind, isa: Isa, pool: &Pool, memory: &mut Memory, matrix: &Matrix) -> Self {
        let (dtype, rows, cols) = (matrix.dtype(), matrix.rows(), matrix.cols());
        let (row_bytes, low_row_bytes) = with_format!(kind, F => row_bytes::<F>(cols));
        let mut data = Rows::new(memory, rows, row_bytes, MARGIN);
        let mut low = Rows::new(memory, rows, low_row_bytes, MARGIN);
        let (shared, shared_low) = (SharedSlice::new(data.all()), SharedSlice::new(low.all()));
        pool.split(rows, 1, |range| {
            let mut raw = Raw::default();
            for row in range {
                raw.read(isa, dtype, matrix.row(row));
                // SAFETY: a row belongs to one thread.
                let (mut out, mut low) = unsafe {
                    (
                        shared.range(row * row_bytes..(row + 1) * row_bytes),
                        shared_low.range(row * low_row_bytes..(row + 1) * low_row_bytes),
                    )
                };
                with_format!(kind, F => {
                    for first in (0..cols / F::SUB).step_by(LANES) {
                        let lanes = LANES.min(cols / F::SUB - first);
                        let (group, rest) = out.split_at_mut(group_bytes::<F>(lanes));
                        let (low_group, low_rest) = low.split_at_mut(low_bytes::<F>(lanes));
                        let q = &raw.q()[first * F::SUB..][..lanes * F::SUB];
                        let scales = raw.scales::<F>(first, lanes);
                        write_group::<F>(lanes, q, &scales, group, low_group);
                        (out, low) = (rest, low_rest);
                    }
                });
            }
        });
        let low_variance = Vec::new();
        let mut packed = Self { kind, dtype, rows, cols, data, low, low_variance };
        if matches!(kind, Kind::Split(_)) {
            packed.low_variance = low_variances(isa, pool, &packed);
        }
        packed
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The kind that reads the high bits alone.
    pub(crate) fn high_kind(&self) -> Option<Kind> {
        match self.kind {
            Kind::Split(dtype) => Some(Kind::High(dtype)),
            _ => None,
        }
    }

    /// Standard deviation of the products of the high bits alone with the first vector of `x`.
    pub(crate) fn high_error(&self, x: &Quantized) -> f32 {
        let (input, sub) = (x.vectors(), x.layout().sub);
        let blocks = self.cols / sub;
        let energy = |block: usize| {
            let (group, lane) = (block / LANES * LANES, block % LANES);
            let step = 4 * LANES.min(blocks - group);
            let first = group * sub + lane * 4;
            let steps = (0..sub / 4).flat_map(|j| (0..4).map(move |i| first + j * step + i));
            let square: i32 = steps.map(|at| i32::from(input.q[at] as i8).pow(2)).sum();
            square as f32 * input.scales[block] * input.scales[block]
        };
        let parts = self.low_variance.iter().enumerate();
        parts.map(|(block, variance)| variance * energy(block)).sum::<f32>().sqrt()
    }

    /// The same matrix with some of its rows in a file.
    ///
    /// # Errors
    /// When the file cannot be written or mapped.
    ///
    /// # Panics
    /// When the placement has another number of rows, or the matrix is placed already.
    pub fn place(
        mut self,
        memory: &mut Memory,
        file: &mut ColdFile,
        placement: &Placement,
    ) -> io::Result<Self> {
        self.data = self.data.place(memory, file, placement)?;
        self.low = self.low.place(memory, file, placement)?;
        Ok(self)
    }

    /// Bytes of the rows in a file.
    pub fn cold_bytes(&self) -> usize {
        self.data.cold_bytes() + self.low.cold_bytes()
    }

    /// Gives back the pages of the rows in a file.
    pub fn release(&self) {
        self.data.release();
        self.low.release();
    }

    /// Element type of the file.
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

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.data.bytes() + self.low.bytes()
    }

    /// Bytes of the high bits, if the low ones are apart: what [`crate::matvec_shortlist`] reads in any
    /// case.
    pub fn high_bytes(&self) -> Option<usize> {
        matches!(self.kind, Kind::Split(_)).then_some(self.data.bytes())
    }

    /// The form in which products take their inputs.
    pub fn layout(&self) -> Layout {
        Layout { sub: sub(self.dtype), order: Order::Lanes }
    }

    /// Bytes of a row, but for bits kept apart.
    pub(crate) fn row_bytes(&self) -> usize {
        self.data.width()
    }

    /// Where rows begin.
    #[inline(always)]
    fn starts(&self) -> Starts<'_> {
        Starts { data: self.data.view(), low: self.low.view() }
    }

    /// Writes a row as f32.
    ///
    /// # Panics
    /// When `out` is no row.
    pub fn dequantize_row(&self, isa: Isa, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols);
        dequantize(isa, self, row, 0, out);
    }

    /// Writes the part of a row that begins with block group `group`.
    pub(crate) fn dequantize_part(&self, isa: Isa, row: usize, group: usize, out: &mut [f32]) {
        assert!(row < self.rows && group * self.group_len() + out.len() <= self.cols);
        dequantize(isa, self, row, group, out);
    }

    /// Elements of a full group.
    pub(crate) fn group_len(&self) -> usize {
        LANES * sub(self.dtype)
    }
}

/// The rows of a matrix as kernels walk over them.
struct Starts<'a> {
    data: View<'a, u8>,
    low: View<'a, u8>,
}

impl Starts<'_> {
    #[inline(always)]
    fn at<F: Format>(&self, row: usize) -> At {
        let main = self.data.row(row).as_ptr();
        At { main, low: if F::SPLIT > 0 { self.low.row(row).as_ptr() } else { main } }
    }
}

/// Bytes of a row, and of its bits kept apart.
const fn row_bytes<F: Format>(cols: usize) -> (usize, usize) {
    let (full, rest) = (cols / F::SUB / LANES, cols / F::SUB % LANES);
    (
        full * group_bytes::<F>(LANES) + group_bytes::<F>(rest),
        full * low_bytes::<F>(LANES) + low_bytes::<F>(rest),
    )
}

/// The mean over the rows of d² in every block, times the variance of evenly spread low bits.
fn low_variances(isa: Isa, pool: &Pool, w: &Packed) -> Vec<f32> {
    // Rows whose scales stand for all.
    let step = w.rows.div_ceil(4096).max(1);
    let rows: Vec<usize> = (0..w.rows).step_by(step).collect();
    with_format!(w.kind, F => {
        let values = (1 << F::SPLIT) as f32;
        let blocks = w.cols / F::SUB;
        let mut sums = vec![0.0; blocks];
        let mut squares = vec![0.0; rows.len() * blocks];
        pool.rows(&mut squares, blocks, |index, out| {
            block_scales(isa, w, rows[index], out);
            out.iter_mut().for_each(|d| *d *= *d);
        });
        for row in squares.chunks_exact(blocks) {
            sums.iter_mut().zip(row).for_each(|(sum, square): (&mut f32, _)| *sum += square);
        }
        let factor = (values * values - 1.0) / 12.0 / rows.len() as f32;
        sums.iter().map(|sum| sum * factor).collect()
    })
}

multiversion! {
    /// The scales of a row's blocks.
    fn block_scales(w: &Packed, row: usize, out: &mut [f32]) = block_scales_body;
}

#[inline(always)]
fn block_scales_body<A: Arch>(w: &Packed, row: usize, out: &mut [f32]) {
    with_format!(w.kind, F => {
        let mut at = w.starts().at::<F>(row);
        for out in out.chunks_mut(LANES) {
            let mut d = [0.0f32; LANES];
            // SAFETY: the row has a group of this many lanes; `A` is the instruction set this body is
            // compiled for.
            unsafe {
                A::store(scales::<A, F, false>(at.main, out.len()).0, d.as_mut_ptr());
                at = at.next::<F>(out.len());
            }
            out.copy_from_slice(&d[..out.len()]);
        }
    });
}

multiversion! {
    /// Lays sixteen rows side by side: row `first + i` in lane `i`; rows past the end repeat the last.
    pub(crate) fn fill_panel(w: &Packed, first: usize, panel: &mut Panel) = fill_panel_body;
}

#[inline(always)]
fn fill_panel_body<A: Arch>(w: &Packed, first: usize, panel: &mut Panel) {
    with_format!(w.kind, F => format_panel::<A, F>(w, first, panel));
}

#[inline(always)]
fn format_panel<A: Arch, F: Format>(w: &Packed, first: usize, panel: &mut Panel) {
    let blocks = w.cols / F::SUB;
    let visits = Visits::new(Order::Lanes, blocks);
    panel.resize(visits, F::SUB, F::BITS);
    let step = visits.step();
    let starts = w.starts();
    let mut rows = [starts.at::<F>(0); LANES];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = starts.at::<F>((first + index).min(w.rows - 1));
    }
    // Vector j of every row's group, and its scales and offsets.
    let mut q = [[0u8; 64 * LANES]; 8];
    let (mut d, mut m) = ([0.0f32; LANES * LANES], [0.0f32; LANES * LANES]);
    for at in (0..blocks).step_by(LANES) {
        let lanes = LANES.min(blocks - at);
        // SAFETY: the pointers walk over whole groups of rows; the panel has sixteen places for each
        // group; `A` is the instruction set this body is compiled for.
        unsafe {
            for (index, row) in rows.iter_mut().enumerate() {
                let (scale, offset, vectors);
                if lanes == LANES {
                    (scale, offset) = scales::<A, F, true>(row.main, lanes);
                    vectors = expand::<A, F, true>(*row, lanes);
                } else {
                    (scale, offset) = scales::<A, F, false>(row.main, lanes);
                    vectors = expand::<A, F, false>(*row, lanes);
                }
                A::store(scale, d.as_mut_ptr().add(index * LANES));
                A::store(offset, m.as_mut_ptr().add(index * LANES));
                for j in 0..F::VECTORS {
                    A::store_bytes(vectors[j], q[j].as_mut_ptr().add(index * 64));
                }
                *row = row.next::<F>(lanes);
            }
            for j in 0..F::VECTORS {
                A::transpose(q[j].as_ptr(), panel.vector(at, j), step * F::VECTORS * 64);
            }
            A::transpose(d.as_ptr().cast(), panel.scale(at).cast(), step * 64);
            A::transpose(m.as_ptr().cast(), panel.offset(at).cast(), step * 64);
        }
    }
}

multiversion! {
    fn dequantize(w: &Packed, row: usize, group: usize, out: &mut [f32]) = dequantize_body;
}

#[inline(always)]
fn dequantize_body<A: Arch>(w: &Packed, row: usize, group: usize, out: &mut [f32]) {
    with_format!(w.kind, F => format_dequantize::<A, F>(w, row, group, out));
}

#[inline(always)]
fn format_dequantize<A: Arch, F: Format>(w: &Packed, row: usize, group: usize, out: &mut [f32]) {
    let blocks = w.cols / F::SUB;
    assert!(group * LANES < blocks);
    let mut from = w.starts().at::<F>(row);
    for _ in 0..group {
        // SAFETY: the row has the group, so it has those before it.
        from = unsafe { from.next::<F>(LANES) };
    }
    let mut q = [[0u8; 64]; 8];
    let (mut d, mut m) = ([0.0f32; LANES], [0.0f32; LANES]);
    for (index, out) in out.chunks_mut(LANES * F::SUB).enumerate() {
        let lanes = LANES.min(blocks - (group + index) * LANES);
        // SAFETY: the pointer walks over whole groups of the row; `A` is the instruction set this
        // body is compiled for.
        unsafe {
            let (scale, offset) = scales::<A, F, false>(from.main, lanes);
            A::store(scale, d.as_mut_ptr());
            A::store(offset, m.as_mut_ptr());
            let vectors = expand::<A, F, false>(from, lanes);
            for j in 0..F::VECTORS {
                A::store_bytes(vectors[j], q[j].as_mut_ptr());
            }
            from = from.next::<F>(lanes);
        }
        for (lane, out) in out.chunks_exact_mut(F::SUB).enumerate() {
            let mut block = [0u8; 32];
            for j in 0..F::VECTORS {
                block[4 * j..4 * j + 4].copy_from_slice(&q[j][4 * lane..4 * lane + 4]);
            }
            for (out, &q) in out.iter_mut().zip(&block) {
                *out = d[lane] * f32::from(q) + m[lane];
            }
        }
    }
}
