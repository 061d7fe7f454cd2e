//! Inputs of matrix products: f32 vectors and their 8-bit forms.

use crate::format::LANES;
use crate::isa::{Arch, Isa, multiversion};
use crate::pool::{Pool, SharedSlice};

/// Elements that share a scale in the 8-bit form.
const BLOCK: usize = 32;

/// Order of the elements of an 8-bit form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they come.
    Plain,
    /// Sixteen blocks side by side, in steps of four elements of each; what is left of a vector
    /// likewise, without gaps.
    Lanes,
}

/// An 8-bit form that a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Elements that have one sum: 16 or 32.
    pub(crate) sub: usize,
    pub(crate) order: Order,
}

/// A batch of input vectors for matrix products, in f32 (for float weights) and as 8-bit integers with
/// one scale for 32 elements, in the layouts that quantised weights take.
#[derive(Default)]
pub struct Activations {
    tokens: usize,
    cols: usize,
    x: Vec<f32>,
    forms: Vec<Quantized>,
    /// Forms in use; the others are kept for their memory.
    used: usize,
    q: Vec<i8>,
    scales: Vec<f32>,
}

impl Activations {
    /// Takes over `x`, shape `[tokens, cols]`, and makes its 8-bit forms.
    ///
    /// # Panics
    /// When `x` is not made of whole rows.
    pub fn set(
        &mut self,
        isa: Isa,
        pool: &Pool,
        x: &[f32],
        cols: usize,
        layouts: impl IntoIterator<Item = Layout>,
    ) {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "activations are whole rows of {cols}");
        self.cols = cols;
        self.x.clear();
        self.x.extend_from_slice(x);
        self.prepare(isa, pool, layouts);
    }

    /// Takes over one vector of `cols` elements that are 0 but for `values` at `indices`.
    ///
    /// # Panics
    /// When the two differ in length, or `indices` is not ascending or names an element that does not
    /// exist.
    pub fn set_sparse(
        &mut self,
        isa: Isa,
        pool: &Pool,
        indices: &[u32],
        values: &[f32],
        cols: usize,
        layouts: impl IntoIterator<Item = Layout>,
    ) {
        assert_eq!(indices.len(), values.len());
        assert!(indices.is_sorted_by(|a, b| a < b), "indices are ascending");
        self.cols = cols;
        self.x.clear();
        self.x.resize(cols, 0.0);
        for (&index, &value) in indices.iter().zip(values) {
            self.x[index as usize] = value;
        }
        self.prepare(isa, pool, layouts);
    }

    /// Makes the 8-bit forms of `x`.
    fn prepare(&mut self, isa: Isa, pool: &Pool, layouts: impl IntoIterator<Item = Layout>) {
        let cols = self.cols;
        self.tokens = self.x.len() / cols;
        self.used = 0;
        for layout in layouts {
            if self.quantized(layout).is_some() {
                continue;
            }
            if self.used == 0 {
                let blocks = cols.div_ceil(BLOCK);
                self.q.resize(self.tokens * blocks * BLOCK, 0);
                self.scales.resize(self.tokens * blocks, 0.0);
                let (x, scales) = (&self.x, SharedSlice::new(&mut self.scales));
                pool.rows(&mut self.q, blocks * BLOCK, |token, q| {
                    // SAFETY: a token belongs to one thread.
                    let scales = unsafe { scales.range(token * blocks..(token + 1) * blocks) };
                    quantize(isa, &x[token * cols..][..cols], q, scales);
                });
            }
            if self.used == self.forms.len() {
                self.forms.push(Quantized::default());
            }
            self.forms[self.used].set(isa, pool, layout, self.tokens, cols, &self.q, &self.scales);
            self.used += 1;
        }
    }

    /// Number of vectors.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Elements of each vector.
    pub fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    pub(crate) fn x(&self, token: usize) -> &[f32] {
        &self.x[token * self.cols..][..self.cols]
    }

    /// The 8-bit form of a layout, if it was asked for.
    pub(crate) fn quantized(&self, layout: Layout) -> Option<&Quantized> {
        self.forms[..self.used].iter().find(|form| form.layout() == layout)
    }
}

/// An 8-bit form of a batch. Every vector is padded with zeros to whole groups of sixteen blocks.
#[derive(Default)]
pub(crate) struct Quantized {
    layout: Option<Layout>,
    tokens: usize,
    cols: usize,
    /// Blocks of a vector, with padding.
    places: usize,
    q: Vec<u8>,
    scales: Vec<f32>,
    sums: Vec<f32>,
}

/// One vector of a [`Quantized`].
#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    /// Signed bytes.
    pub(crate) q: &'a [u8],
    /// Scale of each block.
    pub(crate) scales: &'a [f32],
    /// Sum of each block, as quantised.
    pub(crate) sums: &'a [f32],
}

impl Quantized {
    #[allow(clippy::too_many_arguments)]
    fn set(
        &mut self,
        isa: Isa,
        pool: &Pool,
        layout: Layout,
        tokens: usize,
        cols: usize,
        q: &[i8],
        scales: &[f32],
    ) {
        let Layout { sub, order } = layout;
        self.layout = Some(layout);
        (self.tokens, self.cols) = (tokens, cols);
        self.places = cols.div_ceil(sub).next_multiple_of(LANES);
        self.q.clear();
        self.q.resize(tokens * self.places * sub, 0);
        self.scales.clear();
        self.scales.resize(tokens * self.places, 0.0);
        self.sums.clear();
        self.sums.resize(tokens * self.places, 0.0);
        let (blocks, places) = (cols.div_ceil(BLOCK), self.places);
        let shared = (SharedSlice::new(&mut self.scales), SharedSlice::new(&mut self.sums));
        pool.rows(&mut self.q, places * sub, |token, out| {
            let q = &q[token * blocks * BLOCK..][..blocks * BLOCK];
            let from = &scales[token * blocks..][..blocks];
            let range = token * places..(token + 1) * places;
            // SAFETY: a token belongs to one thread.
            let (scales, sums) = unsafe { (shared.0.range(range.clone()), shared.1.range(range)) };
            block_sums(isa, q, from, sub, scales, sums);
            match order {
                Order::Plain => {
                    for (out, &q) in out.iter_mut().zip(q) {
                        *out = q as u8;
                    }
                }
                Order::Lanes => to_lanes(isa, q, sub, out),
            }
        });
    }

    #[inline(always)]
    pub(crate) fn layout(&self) -> Layout {
        self.layout.unwrap_or(Layout { sub: 0, order: Order::Plain })
    }

    #[inline(always)]
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    #[inline(always)]
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    pub(crate) fn token(&self, token: usize) -> Token<'_> {
        let sub = self.layout().sub;
        let places = token * self.places..(token + 1) * self.places;
        Token {
            q: &self.q[places.start * sub..places.end * sub],
            scales: &self.scales[places.clone()],
            sums: &self.sums[places],
        }
    }
}

multiversion! {
    /// Scales and sums of a vector's blocks of `sub` elements.
    fn block_sums(q: &[i8], from: &[f32], sub: usize, scales: &mut [f32], sums: &mut [f32]) = block_sums_body;
}

#[inline(always)]
fn block_sums_body<A: Arch>(
    q: &[i8],
    from: &[f32],
    sub: usize,
    scales: &mut [f32],
    sums: &mut [f32],
) {
    for (block, (q, &scale)) in q.as_chunks::<BLOCK>().0.iter().zip(from).enumerate() {
        let mut halves = [0i32; 2];
        for half in 0..2 {
            for i in 0..16 {
                halves[half] += i32::from(q[half * 16 + i]);
            }
        }
        if sub == BLOCK {
            scales[block] = scale;
            sums[block] = scale * (halves[0] + halves[1]) as f32;
        } else {
            for half in 0..2 {
                scales[2 * block + half] = scale;
                sums[2 * block + half] = scale * halves[half] as f32;
            }
        }
    }
}

multiversion! {
    /// Puts the elements of a vector into [`Order::Lanes`]; `out` has room for whole groups.
    fn to_lanes(q: &[i8], sub: usize, out: &mut [u8]) = to_lanes_body;
}

#[inline(always)]
fn to_lanes_body<A: Arch>(q: &[i8], sub: usize, out: &mut [u8]) {
    let outputs = out.chunks_exact_mut(LANES * sub);
    for (out, q) in outputs.zip(q.chunks(LANES * sub)) {
        let lanes = q.len() / sub;
        for (lane, block) in q.chunks_exact(sub).enumerate() {
            for (j, four) in block.as_chunks::<4>().0.iter().enumerate() {
                let bytes = [four[0] as u8, four[1] as u8, four[2] as u8, four[3] as u8];
                out[(j * lanes + lane) * 4..][..4].copy_from_slice(&bytes);
            }
        }
    }
}

multiversion! {
    /// 8-bit integers of a vector, padded to whole blocks, and a scale for each block of 32.
    fn quantize(x: &[f32], q: &mut [i8], scales: &mut [f32]) = quantize_body;
}

#[inline(always)]
fn quantize_body<A: Arch>(x: &[f32], q: &mut [i8], scales: &mut [f32]) {
    let mut block = [0.0f32; BLOCK];
    let outputs = q.as_chunks_mut::<BLOCK>().0.iter_mut().zip(scales);
    for ((q, scale), x) in outputs.zip(x.chunks(BLOCK)) {
        block[..x.len()].copy_from_slice(x);
        block[x.len()..].fill(0.0);
        let mut sizes = [0.0f32; BLOCK];
        for k in 0..BLOCK {
            sizes[k] = block[k].abs();
        }
        for half in [16, 8, 4, 2, 1] {
            for k in 0..half {
                sizes[k] = if sizes[k + half] > sizes[k] { sizes[k + half] } else { sizes[k] };
            }
        }
        let largest = sizes[0];
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        for k in 0..BLOCK {
            q[k] = (block[k] * inverse).round_ties_even() as i8;
        }
        *scale = largest / 127.0;
    }
}
