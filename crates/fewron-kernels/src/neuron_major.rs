//! The down projection stored by neuron, so that a neuron that is off costs nothing.
//!
//! GGUF stores `down_proj` as `[outputs, neurons]`: its quantised blocks run *across* neurons. Here
//! the same numbers are transposed without loss. Blocks of one file column range become *groups* of
//! neurons that share one vector of scales: `w[i, j] = d[g, j] · q[i, j] + m[g, j]` for neuron `i`
//! of group `g` and output `j`. So `y += Σ o_i·w_i` is, group by group,
//! `y += d[g] ∘ (Σ o_i·q_i) + m[g]·Σ o_i`: one multiply-add for each weight, scales once a group.

use crate::dtype::DType;
use crate::isa::{Arch, Isa, multiversion};
use crate::matmul::Matrix;
use crate::pool::{Pool, SharedSlice};
use crate::unpack::{Panel, SUB, dequantize, f16_to_f32, unpack};
use crate::vector::dot_body;
use half::f16;
use std::ops::Range;

/// Outputs whose quants are packed and processed together.
const TILE: usize = 32;
/// Tokens that one unpacked tile serves at a time.
const TOKENS: usize = 4;

/// A down projection, neuron by neuron: shape `[neurons, outputs]`.
pub struct NeuronMajor {
    neurons: usize,
    outputs: usize,
    /// `outputs` rounded up to whole tiles.
    padded: usize,
    group: usize,
    quants: Quants,
    d: Scales,
    m: Scales,
}

enum Quants {
    /// Two outputs a byte: in each tile, byte `k` holds outputs `k` (low) and `k + 16` (high).
    Nibbles(Vec<u8>),
    Bytes(Vec<u8>),
    Halves(Vec<u16>),
    Floats(Vec<f32>),
}

/// Scales in half precision where that loses nothing, else in single.
enum Scales {
    Half(Vec<u16>),
    Single(Vec<f32>),
}

impl Scales {
    fn new(values: Vec<f32>) -> Self {
        let halves: Vec<u16> = values.iter().map(|&v| f16::from_f32(v).to_bits()).collect();
        let exact = halves.iter().zip(&values).all(|(&h, &v)| f16_to_f32(h) == v);
        if exact { Scales::Half(halves) } else { Scales::Single(values) }
    }

    #[inline(always)]
    fn read(&self, start: usize, out: &mut [f32; TILE]) {
        match self {
            Scales::Half(halves) => {
                for (out, &half) in out.iter_mut().zip(&halves[start..start + TILE]) {
                    *out = f16_to_f32(half);
                }
            }
            Scales::Single(values) => out.copy_from_slice(&values[start..start + TILE]),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Scales::Half(halves) => halves.len() * 2,
            Scales::Single(values) => values.len() * 4,
        }
    }
}

impl NeuronMajor {
    /// Transposes `down` of shape `[outputs, neurons]`.
    pub fn new(isa: Isa, down: &Matrix) -> Self {
        let (outputs, neurons) = (down.rows(), down.cols());
        let padded = outputs.next_multiple_of(TILE);
        match down.dtype() {
            DType::F32 | DType::F16 | DType::Bf16 => {
                Self::float(isa, down, neurons, outputs, padded)
            }
            _ => Self::quantized(isa, down, neurons, outputs, padded),
        }
    }

    fn float(isa: Isa, down: &Matrix, neurons: usize, outputs: usize, padded: usize) -> Self {
        let mut row = vec![0.0; neurons];
        let mut values = vec![0.0; neurons * padded];
        for output in 0..outputs {
            dequantize(isa, down.dtype(), down.row(output), &mut Panel::default(), &mut row);
            for (neuron, &value) in row.iter().enumerate() {
                values[neuron * padded + output] = value;
            }
        }
        let quants = match Scales::new(values) {
            Scales::Half(halves) => Quants::Halves(halves),
            Scales::Single(values) => Quants::Floats(values),
        };
        let none = || Scales::Half(Vec::new());
        Self { neurons, outputs, padded, group: 1, quants, d: none(), m: none() }
    }

    fn quantized(isa: Isa, down: &Matrix, neurons: usize, outputs: usize, padded: usize) -> Self {
        let group = match down.dtype() {
            DType::Q2_K | DType::Q3_K | DType::Q6_K => SUB,
            _ => 32,
        };
        let nibbles = matches!(
            down.dtype(),
            DType::Q4_0 | DType::Q4_1 | DType::Q2_K | DType::Q3_K | DType::Q4_K
        );
        let row_bytes = if nibbles { padded / 2 } else { padded };
        let mut q = vec![0u8; neurons * row_bytes];
        let scales = neurons / group * padded;
        let (mut d, mut m) = (vec![0.0; scales], vec![0.0; scales]);
        let mut panel = Panel::new(neurons);
        for output in 0..outputs {
            unpack(isa, down.dtype(), down.row(output), &mut panel.q, &mut panel.d, &mut panel.m);
            let (tile, place) = (output / TILE, output % TILE);
            for (neuron, &value) in panel.q[..neurons].iter().enumerate() {
                if nibbles {
                    let at = neuron * row_bytes + tile * TILE / 2 + place % 16;
                    q[at] |= value << (4 * (place / 16));
                } else {
                    q[neuron * row_bytes + output] = value;
                }
            }
            for index in 0..neurons / group {
                d[index * padded + output] = panel.d[index * group / SUB];
                m[index * padded + output] = panel.m[index * group / SUB];
            }
        }
        let quants = if nibbles { Quants::Nibbles(q) } else { Quants::Bytes(q) };
        Self { neurons, outputs, padded, group, quants, d: Scales::new(d), m: Scales::new(m) }
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
        let quants = match &self.quants {
            Quants::Nibbles(q) | Quants::Bytes(q) => q.len(),
            Quants::Halves(values) => values.len() * 2,
            Quants::Floats(values) => values.len() * 4,
        };
        quants + self.d.bytes() + self.m.bytes()
    }

    /// The quants of one tile of a neuron's row, as f32.
    #[inline(always)]
    fn read(&self, neuron: usize, tile: usize, out: &mut [f32; TILE]) {
        let start = neuron * self.padded + tile * TILE;
        match &self.quants {
            Quants::Nibbles(q) => {
                let packed = &q[start / 2..start / 2 + TILE / 2];
                for k in 0..TILE / 2 {
                    out[k] = f32::from(packed[k] & 15);
                    out[k + TILE / 2] = f32::from(packed[k] >> 4);
                }
            }
            Quants::Bytes(q) => {
                for (out, &q) in out.iter_mut().zip(&q[start..start + TILE]) {
                    *out = f32::from(q);
                }
            }
            Quants::Halves(values) => {
                for (out, &half) in out.iter_mut().zip(&values[start..start + TILE]) {
                    *out = f16_to_f32(half);
                }
            }
            Quants::Floats(values) => out.copy_from_slice(&values[start..start + TILE]),
        }
    }

    /// `y = Σ o_i · W[i]` over all neurons, for a batch: `o` has shape `[tokens, neurons]`, `y`
    /// `[tokens, outputs]`.
    ///
    /// Bit-equal to [`Self::forward_sparse`] over the neurons whose output is not zero.
    ///
    /// # Panics
    /// When shapes differ.
    pub fn forward(&self, isa: Isa, pool: &Pool, o: &[f32], y: &mut [f32]) {
        let tokens = o.len() / self.neurons;
        assert_eq!((o.len(), y.len()), (tokens * self.neurons, tokens * self.outputs));
        if tokens == 1 {
            let on = o.iter().zip(0..).filter(|&(&o, _)| o != 0.0);
            let (o, active): (Vec<f32>, Vec<u32>) = on.map(|(&o, i)| (o, i)).unzip();
            return self.forward_sparse(isa, pool, &active, &o, y);
        }
        let shared = SharedSlice::new(y);
        pool.split(self.padded / TILE, 1, |tiles| forward_tiles(isa, self, o, tiles, &shared));
    }

    /// `y = Σ o[k] · W[active[k]]` for one token: only the active neurons' weights are read.
    /// `active` is ascending, `o` holds their outputs in the same order.
    ///
    /// # Panics
    /// When shapes differ or `active` is not ascending or names a neuron that does not exist.
    pub fn forward_sparse(&self, isa: Isa, pool: &Pool, active: &[u32], o: &[f32], y: &mut [f32]) {
        assert_eq!((active.len(), self.outputs), (o.len(), y.len()));
        assert!(active.is_sorted_by(|a, b| a < b), "active neurons are ascending");
        assert!(active.last().is_none_or(|&last| (last as usize) < self.neurons));
        let shared = SharedSlice::new(y);
        pool.split(self.padded / TILE, 1, |tiles| {
            sparse_tiles(isa, self, active, o, tiles, &shared);
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
        pool.split(self.neurons, self.group, |neurons| {
            backward_rows(isa, self, g, neurons, &shared);
        });
    }

    /// ‖`W[i]`‖₂ of each neuron.
    pub fn row_norms(&self, isa: Isa) -> Vec<f32> {
        let mut row = vec![0.0; self.padded];
        (0..self.neurons)
            .map(|neuron| {
                self.weights(neuron, &mut row);
                crate::vector::dot(isa, &row, &row).sqrt()
            })
            .collect()
    }

    /// The weights of one neuron in f32; `out` holds at least the outputs, rounded up to 32.
    pub fn weights(&self, neuron: usize, out: &mut [f32]) {
        let (mut q, mut d, mut m) = ([0.0; TILE], [0.0; TILE], [0.0; TILE]);
        for tile in 0..self.padded / TILE {
            self.read(neuron, tile, &mut q);
            self.scales(neuron / self.group, tile, &mut d, &mut m);
            for k in 0..TILE {
                out[tile * TILE + k] = d[k] * q[k] + m[k];
            }
        }
    }

    #[inline(always)]
    fn scales(&self, group: usize, tile: usize, d: &mut [f32; TILE], m: &mut [f32; TILE]) {
        if self.group == 1 {
            (*d, *m) = ([1.0; TILE], [0.0; TILE]);
        } else {
            self.d.read(group * self.padded + tile * TILE, d);
            self.m.read(group * self.padded + tile * TILE, m);
        }
    }

    /// Copies a finished tile to `y` without its padding.
    ///
    /// # Safety
    /// The tile of this token must belong to one thread.
    #[inline(always)]
    unsafe fn store(&self, y: &SharedSlice<f32>, token: usize, tile: usize, values: &[f32; TILE]) {
        let (start, end) = (tile * TILE, (tile * TILE + TILE).min(self.outputs));
        let base = token * self.outputs;
        // SAFETY: passed on to the caller.
        unsafe { y.range(base + start..base + end) }.copy_from_slice(&values[..end - start]);
    }
}

/// `y = d ∘ sum + m · total + y`, the one place where a group joins the result.
#[inline(always)]
fn join<A: Arch>(
    y: &mut [f32; TILE],
    sum: &[f32; TILE],
    total: f32,
    d: &[f32; TILE],
    m: &[f32; TILE],
) {
    for k in 0..TILE {
        y[k] = A::mul_add(d[k], sum[k], A::mul_add(m[k], total, y[k]));
    }
}

multiversion! {
    fn forward_tiles(w: &NeuronMajor, o: &[f32], tiles: Range<usize>, y: &SharedSlice<f32>) = forward_tiles_body;
}

#[inline(always)]
fn forward_tiles_body<A: Arch>(
    w: &NeuronMajor,
    o: &[f32],
    tiles: Range<usize>,
    y: &SharedSlice<f32>,
) {
    let tokens = o.len() / w.neurons;
    let mut q = vec![[0.0; TILE]; w.group];
    let mut sums = vec![[0.0; TILE]; tokens];
    let (mut d, mut m) = ([0.0; TILE], [0.0; TILE]);
    for tile in tiles {
        sums.fill([0.0; TILE]);
        for group in 0..w.neurons / w.group {
            let first = group * w.group;
            for (offset, q) in q.iter_mut().enumerate() {
                w.read(first + offset, tile, q);
            }
            w.scales(group, tile, &mut d, &mut m);
            let mut token = 0;
            while token + TOKENS <= tokens {
                let mut outputs: [&[f32]; TOKENS] = [&[]; TOKENS];
                for (t, outputs) in outputs.iter_mut().enumerate() {
                    *outputs = &o[(token + t) * w.neurons + first..][..w.group];
                }
                let part = weighted::<A, TOKENS>(&q, outputs);
                for t in 0..TOKENS {
                    join::<A>(&mut sums[token + t], &part[t].0, part[t].1, &d, &m);
                }
                token += TOKENS;
            }
            for token in token..tokens {
                let [part] = weighted::<A, 1>(&q, [&o[token * w.neurons + first..][..w.group]]);
                join::<A>(&mut sums[token], &part.0, part.1, &d, &m);
            }
        }
        for (token, sum) in sums.iter().enumerate() {
            // SAFETY: a tile belongs to one thread.
            unsafe { w.store(y, token, tile, sum) };
        }
    }
}

/// Σ o_i·q_i and Σ o_i over a group, in the order of the neurons.
#[inline(always)]
fn weighted<A: Arch, const N: usize>(q: &[[f32; TILE]], o: [&[f32]; N]) -> [([f32; TILE], f32); N] {
    let mut parts = [([0.0; TILE], 0.0); N];
    for (i, q) in q.iter().enumerate() {
        for n in 0..N {
            let factor = o[n][i];
            parts[n].1 += factor;
            for k in 0..TILE {
                parts[n].0[k] = A::mul_add(factor, q[k], parts[n].0[k]);
            }
        }
    }
    parts
}

multiversion! {
    fn sparse_tiles(w: &NeuronMajor, active: &[u32], o: &[f32], tiles: Range<usize>, y: &SharedSlice<f32>) = sparse_tiles_body;
}

#[inline(always)]
fn sparse_tiles_body<A: Arch>(
    w: &NeuronMajor,
    active: &[u32],
    o: &[f32],
    tiles: Range<usize>,
    y: &SharedSlice<f32>,
) {
    let mut sums = vec![[0.0; TILE]; tiles.len()];
    let (mut q, mut d, mut m) = ([0.0; TILE], [0.0; TILE], [0.0; TILE]);
    let mut rest = 0;
    while rest < active.len() {
        let group = active[rest] as usize / w.group;
        let len = active[rest..].iter().take_while(|&&i| i as usize / w.group == group).count();
        let (members, outputs) = (&active[rest..rest + len], &o[rest..rest + len]);
        let total = outputs.iter().fold(0.0, |total, o| total + o);
        for (tile, y) in tiles.clone().zip(&mut sums) {
            let mut sum = [0.0; TILE];
            for (&neuron, &factor) in members.iter().zip(outputs) {
                w.read(neuron as usize, tile, &mut q);
                for k in 0..TILE {
                    sum[k] = A::mul_add(factor, q[k], sum[k]);
                }
            }
            w.scales(group, tile, &mut d, &mut m);
            join::<A>(y, &sum, total, &d, &m);
        }
        rest += len;
    }
    for (tile, sum) in tiles.zip(&sums) {
        // SAFETY: a tile belongs to one thread.
        unsafe { w.store(y, 0, tile, sum) };
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
    let tokens = g.len() / w.outputs;
    let mut row = vec![0.0; w.padded];
    let mut scaled = vec![0.0; tokens * w.padded];
    let mut offsets = vec![0.0; tokens];
    let (mut d, mut m, mut tile_q) = ([0.0; TILE], [0.0; TILE], [0.0; TILE]);
    for group in neurons.start / w.group..neurons.end.div_ceil(w.group) {
        offsets.fill(0.0);
        for tile in 0..w.padded / TILE {
            w.scales(group, tile, &mut d, &mut m);
            let len = TILE.min(w.outputs - tile * TILE);
            for token in 0..tokens {
                let g = &g[token * w.outputs + tile * TILE..][..len];
                let scaled = &mut scaled[token * w.padded + tile * TILE..][..len];
                offsets[token] += dot_body::<A>(&m[..len], g);
                for k in 0..len {
                    scaled[k] = d[k] * g[k];
                }
            }
        }
        for neuron in group * w.group..(group + 1) * w.group {
            for (tile, out) in row.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
                w.read(neuron, tile, &mut tile_q);
                *out = tile_q;
            }
            for token in 0..tokens {
                let value = dot_body::<A>(&row, &scaled[token * w.padded..][..w.padded]);
                // SAFETY: a neuron belongs to one thread.
                unsafe { out.write(token * w.neurons + neuron, value + offsets[token]) };
            }
        }
    }
}
