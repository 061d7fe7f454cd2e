//! Quantised weights by neuron.
//!
//! GGUF stores `down_proj` as `[outputs, neurons]`: its blocks run *across* neurons. Here the same
//! numbers are transposed without loss. Blocks of one file column range become *groups* of neurons
//! that share one vector of scales: `w[i, j] = d[g, j] · q[i, j] + m[g, j]` for neuron `i` of group `g`
//! and output `j`. With neuron outputs in 8-bit form, `o_i = s_g · a_i`, each group adds
//! `d[g] ∘ s_g·(Σ a_i·q_i) + m[g] · s_g·Σ a_i`: integer products for the weights, scales once a group.
//!
//! A row is cut into tiles of 64 outputs. A tile is 32 bytes of low nibbles (byte `k` holds places `k`
//! and `k + 32`) and 8 bytes for each higher bit, or 64 whole bytes. Output `16q + 4ℓ + i` has place
//! `16ℓ + 4q + i`, so that [`Arch::interleave`] of four rows gives vectors of sixteen neighbouring
//! outputs.

mod few;

use super::float::Values;
use super::{Output, TILE};
use crate::activations::{Activations, Layout, Order};
use crate::dtype::DType;
use crate::format::{LANES, sub, zero};
use crate::gemm::{Panel, Visits, products};
use crate::isa::{Arch, Isa, multiversion};
use crate::matmul::Matrix;
use crate::memory::Memory;
use crate::pool::{Pool, SharedSlice};
use crate::rows::{ColdFile, Placement, Rows};
use crate::unpack::{SUB, UnpackedRow, unpack};
use std::io;
use std::ops::Range;

/// Most neurons that share scales.
const GROUP: usize = 32;

pub(super) struct QuantizedRows {
    neurons: usize,
    tiles: usize,
    /// Neurons that share scales.
    group: usize,
    /// Bits of a weight as stored: 4, 5, 6 or 8.
    bits: usize,
    q: Rows<u8>,
    /// `[groups, tiles · 64]`.
    d: Values,
    m: Offsets,
}

/// Offsets of groups of neurons.
enum Offsets {
    /// `[groups, tiles · 64]`.
    Stored(Values),
    /// `m = −zero·d`: formats without offsets store none here either. `zero` is a power of two, so the
    /// product is exact wherever it is made.
    Zero(f32),
}

/// Runs an expression with `$B` standing for the number of bits.
macro_rules! with_bits {
    ($bits:expr, $B:ident => $body:expr) => {
        match $bits {
            4 => {
                const $B: usize = 4;
                $body
            }
            5 => {
                const $B: usize = 5;
                $body
            }
            6 => {
                const $B: usize = 6;
                $body
            }
            _ => {
                const $B: usize = 8;
                $body
            }
        }
    };
}
use with_bits;

/// Bytes of a tile.
#[inline(always)]
const fn tile_bytes(bits: usize) -> usize {
    bits * 8
}

/// Place of an output in its tile.
const fn place(output: usize) -> usize {
    output / 4 % 4 * 16 + output / 16 * 4 + output % 4
}

impl QuantizedRows {
    pub(super) fn new(isa: Isa, pool: &Pool, memory: &mut Memory, down: &Matrix) -> Self {
        let (outputs, neurons) = (down.rows(), down.cols());
        let tiles = outputs.div_ceil(TILE);
        let group = sub(down.dtype());
        let bits = match down.dtype() {
            DType::Q5_0 | DType::Q5_1 | DType::Q5_K => 5,
            DType::Q6_K => 6,
            DType::Q8_0 => 8,
            _ => 4,
        };
        let row_bytes = tiles * tile_bytes(bits);
        let mut q = Rows::new(memory, neurons, row_bytes, 0);
        let zero = zero(down.dtype());
        let scales = neurons / group * tiles * TILE;
        let mut d = vec![0.0; scales];
        let mut m = vec![0.0; if zero.is_some() { 0 } else { scales }];
        let shared =
            (SharedSlice::new(q.all()), SharedSlice::new(&mut d), SharedSlice::new(&mut m));
        pool.split(outputs, TILE, |range| {
            let mut row = UnpackedRow::new(neurons);
            for output in range {
                unpack(isa, down.dtype(), down.row(output), &mut row.q, &mut row.d, &mut row.m);
                let (tile, place) = (output / TILE, place(output % TILE));
                let at = tile * tile_bytes(bits);
                for (neuron, &value) in row.q[..neurons].iter().enumerate() {
                    let at = neuron * row_bytes + at;
                    // SAFETY: a tile belongs to one thread.
                    let out = unsafe { shared.0.range(at..at + tile_bytes(bits)) };
                    if bits == 8 {
                        out[place] = value;
                    } else {
                        out[place % 32] |= (value & 15) << (4 * (place / 32));
                        for bit in 4..bits {
                            let mask = ((value >> bit) & 1) << (place % 8);
                            out[32 + (bit - 4) * 8 + place / 8] |= mask;
                        }
                    }
                }
                for index in 0..neurons / group {
                    let at = index * tiles * TILE + output;
                    // SAFETY: an output belongs to one thread.
                    unsafe {
                        shared.1.write(at, row.d[index * group / SUB]);
                        if zero.is_none() {
                            shared.2.write(at, row.m[index * group / SUB]);
                        }
                    }
                }
            }
        });
        let d = Values::new(memory, &d);
        let m = match zero {
            Some(zero) => Offsets::Zero(zero),
            None => Offsets::Stored(Values::new(memory, &m)),
        };
        Self { neurons, tiles, group, bits, q, d, m }
    }

    pub(super) fn bytes(&self) -> usize {
        let offsets = match &self.m {
            Offsets::Stored(values) => values.bytes(),
            Offsets::Zero(_) => 0,
        };
        self.q.bytes() + self.d.bytes() + offsets
    }

    /// The same neurons, some of them in a file; scales stay in memory.
    pub(super) fn place(
        mut self,
        memory: &mut Memory,
        file: &mut ColdFile,
        placement: &Placement,
    ) -> io::Result<Self> {
        self.q = self.q.place(memory, file, placement)?;
        // Not where all rows were: that memory is to go.
        self.d = self.d.copied(memory);
        if let Offsets::Stored(values) = &self.m {
            self.m = Offsets::Stored(values.copied(memory));
        }
        Ok(self)
    }

    /// The rows that may lie in a file.
    pub(super) fn placed(&self) -> &Rows<u8> {
        &self.q
    }

    pub(super) fn layout(&self) -> Layout {
        Layout { sub: self.group, order: Order::Plain }
    }

    /// One tile of a neuron's weights in f32.
    #[inline(always)]
    pub(super) fn read<A: Arch>(&self, neuron: usize, tile: usize, out: &mut [f32; TILE]) {
        let mut q = [0u8; TILE];
        // SAFETY: the slice has a tile; `A` is the instruction set the caller is compiled for.
        unsafe {
            let from = self.tile(neuron, tile).as_ptr();
            with_bits!(self.bits, B => A::store_bytes(expand::<A, B>(from), q.as_mut_ptr()));
        }
        let (mut d, mut m) = ([0.0; TILE], [0.0; TILE]);
        let scales = (neuron / self.group * self.tiles + tile) * TILE;
        self.d.read(scales, &mut d);
        match &self.m {
            Offsets::Stored(values) => values.read(scales, &mut m),
            Offsets::Zero(zero) => m.iter_mut().zip(&d).for_each(|(m, d)| *m = -zero * d),
        }
        let mut ordered = [0u8; TILE];
        for four in 0..16 {
            ordered[four * 4..four * 4 + 4].copy_from_slice(&q[place(four * 4)..][..4]);
        }
        for k in 0..TILE {
            out[k] = d[k] * f32::from(ordered[k]) + m[k];
        }
    }

    #[inline(always)]
    fn tile(&self, neuron: usize, tile: usize) -> &[u8] {
        let bytes = tile_bytes(self.bits);
        &self.q.row(neuron)[tile * bytes..][..bytes]
    }

    /// Scales and offsets of sixteen outputs of a group.
    ///
    /// # Safety
    /// The group and the sixteen must exist, and the processor have the instruction set.
    #[inline(always)]
    unsafe fn scales<A: Arch>(&self, group: usize, sixteen: usize) -> (A::Floats, A::Floats) {
        let start = group * self.tiles * TILE + sixteen * LANES;
        // SAFETY: passed on to the caller.
        unsafe {
            let values = |values: &Values| match values {
                Values::Half(values) => A::halves(values.as_ptr().add(start).cast()),
                Values::Single(values) => A::floats(values.as_ptr().add(start)),
            };
            let d = values(&self.d);
            let m = match &self.m {
                Offsets::Stored(offsets) => values(offsets),
                Offsets::Zero(zero) => A::mul(d, A::splat(-zero)),
            };
            (d, m)
        }
    }

    /// Asks for the scales and offsets of a tile of a group.
    #[inline(always)]
    fn prefetch_scales(&self, group: usize, tile: usize) {
        let start = (group * self.tiles + tile) * TILE;
        self.d.prefetch(start);
        if let Offsets::Stored(offsets) = &self.m {
            offsets.prefetch(start);
        }
    }

    pub(super) fn forward(&self, isa: Isa, o: &Activations, tiles: Range<usize>, y: &Output) {
        let o = o.quantized(self.layout()).expect("8-bit activations of the weights' layout");
        let Some(batch) = o.batch() else {
            return few::forward(isa, self, o, tiles, y);
        };
        let mut panels: [Panel; 4] = Default::default();
        let mut out = vec![0.0; o.tokens() * LANES];
        for tile in tiles {
            fill_panels(isa, self, tile, &mut panels);
            for (quarter, panel) in panels.iter().enumerate() {
                products(isa, panel, &batch, &mut out);
                for (token, values) in out.chunks_exact(LANES).enumerate() {
                    let first = tile * TILE + quarter * LANES;
                    // SAFETY: a tile belongs to one thread.
                    unsafe { y.store(token, first, values) };
                }
            }
        }
    }
}

/// The weights of a tile, place by place.
#[inline(always)]
unsafe fn expand<A: Arch, const BITS: usize>(tile: *const u8) -> A::Bytes {
    // SAFETY: the caller promises a tile of this many bits.
    unsafe {
        if BITS == 8 {
            return A::bytes(tile);
        }
        let mut out = A::nibbles(tile);
        for bit in 4..BITS {
            let mask = tile.add(32 + (bit - 4) * 8).cast::<u64>().read_unaligned();
            out = A::add_bits(out, u64::from_le(mask), 1 << bit);
        }
        out
    }
}

/// The weights of a tile of four neurons, as sixteen neighbouring outputs of each in a vector.
#[inline(always)]
unsafe fn four_rows<A: Arch, const BITS: usize>([a, b, c, d]: [*const u8; 4]) -> [A::Bytes; 4] {
    // SAFETY: the caller promises tiles of this many bits.
    unsafe {
        if BITS == 4 {
            return A::interleave_nibbles([a, b, c, d]);
        }
        A::interleave([
            expand::<A, BITS>(a),
            expand::<A, BITS>(b),
            expand::<A, BITS>(c),
            expand::<A, BITS>(d),
        ])
    }
}

multiversion! {
    /// Lays the outputs of a tile side by side, sixteen in each panel.
    fn fill_panels(w: &QuantizedRows, tile: usize, panels: &mut [Panel; 4]) = fill_panels_body;
}

#[inline(always)]
fn fill_panels_body<A: Arch>(w: &QuantizedRows, tile: usize, panels: &mut [Panel; 4]) {
    with_bits!(w.bits, B => fill_panels_bits::<A, B>(w, tile, panels));
}

#[inline(always)]
fn fill_panels_bits<A: Arch, const BITS: usize>(
    w: &QuantizedRows,
    tile: usize,
    panels: &mut [Panel; 4],
) {
    let groups = w.neurons / w.group;
    for panel in panels.iter_mut() {
        panel.resize(Visits::new(Order::Plain, groups), w.group, BITS);
    }
    for group in 0..groups {
        // SAFETY: the group's rows have this tile; `A` is the instruction set this body is compiled
        // for.
        unsafe {
            for j in 0..w.group / 4 {
                let first = group * w.group + 4 * j;
                let parts = four_rows::<A, BITS>([
                    w.tile(first, tile).as_ptr(),
                    w.tile(first + 1, tile).as_ptr(),
                    w.tile(first + 2, tile).as_ptr(),
                    w.tile(first + 3, tile).as_ptr(),
                ]);
                for q in 0..4 {
                    A::store_bytes(parts[q], panels[q].vector(group, j));
                }
            }
            for (q, panel) in panels.iter_mut().enumerate() {
                let (d, m) = w.scales::<A>(group, tile * 4 + q);
                A::store(d, panel.scale(group));
                A::store(m, panel.offset(group));
            }
        }
    }
}
