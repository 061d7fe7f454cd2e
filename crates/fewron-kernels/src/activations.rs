//! Inputs of matrix products: f32 vectors and their 8-bit forms.

use crate::format::LANES;
use crate::gemm::Visits;
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

/// Tokens from which on a form is a [`Batch`], and products lay rows side by side.
pub(crate) const BATCH_TOKENS: usize = 4;

/// An 8-bit form of a few vectors or of a batch.
#[derive(Default)]
pub(crate) struct Quantized {
    layout: Option<Layout>,
    tokens: usize,
    cols: usize,
    /// Places for the blocks of a vector.
    places: usize,
    /// Tokens side by side: 1, or that of the instruction set.
    tile: usize,
    q: Vec<u8>,
    scales: Vec<f32>,
    sums: Vec<f32>,
}

/// One vector, padded with zeros to whole groups of sixteen blocks.
#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    /// Signed bytes.
    pub(crate) q: &'a [u8],
    /// Scale of each block.
    pub(crate) scales: &'a [f32],
    /// Sum of each block, as quantised.
    pub(crate) sums: &'a [f32],
}

/// Many vectors, in tiles of tokens that lie side by side: for each block, in the order of
/// [`Visits`], four bytes of each token by turns; and the scales and sums of each token by turns.
pub(crate) struct Batch<'a>(&'a Quantized);

impl Batch<'_> {
    #[inline(always)]
    pub(crate) fn tokens(&self) -> usize {
        self.0.tokens
    }

    #[inline(always)]
    pub(crate) fn tile(&self) -> usize {
        self.0.tile
    }

    #[inline(always)]
    pub(crate) fn sub(&self) -> usize {
        self.0.layout().sub
    }

    #[inline(always)]
    pub(crate) fn visits(&self) -> Visits {
        self.0.visits()
    }

    /// Elements, scales and sums of the first block of `count` tokens of one tile.
    #[inline(always)]
    pub(crate) fn strip(&self, token: usize, count: usize) -> (*const u8, *const f32, *const f32) {
        let Self(x) = self;
        let (tile, place) = (token / x.tile, token % x.tile);
        assert!(place + count <= x.tile);
        let start = tile * x.tile * x.places;
        let end = start + x.tile * x.places;
        let sub = x.layout().sub;
        (
            x.q[start * sub..end * sub][4 * place..].as_ptr(),
            x.scales[start..end][place..].as_ptr(),
            x.sums[start..end][place..].as_ptr(),
        )
    }
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
        let sub = layout.sub;
        self.layout = Some(layout);
        (self.tokens, self.cols) = (tokens, cols);
        if tokens < BATCH_TOKENS {
            (self.tile, self.places) = (1, cols.div_ceil(sub).next_multiple_of(LANES));
        } else {
            (self.tile, self.places) = (isa.tile(), self.visits().places());
        }
        let len = tokens.next_multiple_of(self.tile) * self.places;
        self.q.clear();
        self.q.resize(len * sub, 0);
        for values in [&mut self.scales, &mut self.sums] {
            values.clear();
            values.resize(len, 0.0);
        }
        let (visits, tile, places) = (self.visits(), self.tile, self.places);
        let blocks = cols.div_ceil(BLOCK);
        let shared = (SharedSlice::new(&mut self.scales), SharedSlice::new(&mut self.sums));
        pool.rows(&mut self.q, tile * places * sub, |index, out| {
            let range = index * tile * places..(index + 1) * tile * places;
            // SAFETY: a tile belongs to one thread.
            let (out_scales, out_sums) =
                unsafe { (shared.0.range(range.clone()), shared.1.range(range)) };
            for token in index * tile..((index + 1) * tile).min(tokens) {
                let q = &q[token * blocks * BLOCK..][..blocks * BLOCK];
                let from = &scales[token * blocks..][..blocks];
                let place = token % tile;
                let (scales, sums) = (&mut out_scales[place..], &mut out_sums[place..]);
                if tile > 1 {
                    block_sums(isa, q, from, sub, visits, tile, scales, sums);
                    to_tile(isa, q, sub, visits, tile, &mut out[4 * place..]);
                    continue;
                }
                let plain = Visits::new(Order::Plain, visits.blocks());
                block_sums(isa, q, from, sub, plain, 1, scales, sums);
                match layout.order {
                    Order::Plain => to_tile(isa, q, sub, plain, 1, out),
                    Order::Lanes => to_lanes(isa, q, sub, out),
                }
            }
        });
    }

    #[inline(always)]
    pub(crate) fn layout(&self) -> Layout {
        self.layout.unwrap_or(Layout { sub: 0, order: Order::Plain })
    }

    #[inline(always)]
    fn visits(&self) -> Visits {
        let Layout { sub, order } = self.layout();
        Visits::new(order, self.cols.div_ceil(sub))
    }

    #[inline(always)]
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    #[inline(always)]
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// The form as a batch, if there are enough tokens for one.
    pub(crate) fn batch(&self) -> Option<Batch<'_>> {
        (self.tokens >= BATCH_TOKENS).then_some(Batch(self))
    }

    /// One vector of a form that is no batch.
    #[inline(always)]
    pub(crate) fn token(&self, token: usize) -> Token<'_> {
        assert!(self.tile == 1, "tokens of a batch lie side by side");
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
    /// Scales and sums of a vector's blocks of `sub` elements, `step` apart.
    fn block_sums(q: &[i8], from: &[f32], sub: usize, visits: Visits, step: usize, scales: &mut [f32], sums: &mut [f32]) = block_sums_body;
}

#[inline(always)]
fn block_sums_body<A: Arch>(
    q: &[i8],
    from: &[f32],
    sub: usize,
    visits: Visits,
    step: usize,
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
            let at = visits.place(block) * step;
            scales[at] = scale;
            sums[at] = scale * (halves[0] + halves[1]) as f32;
        } else {
            for half in 0..2 {
                let at = visits.place(2 * block + half) * step;
                scales[at] = scale;
                sums[at] = scale * halves[half] as f32;
            }
        }
    }
}

multiversion! {
    /// Puts the elements of a vector, four at a time, where its token has its place in a tile of so
    /// many; block after block in the order of the visits.
    fn to_tile(q: &[i8], sub: usize, visits: Visits, tile: usize, out: &mut [u8]) = to_tile_body;
}

#[inline(always)]
fn to_tile_body<A: Arch>(q: &[i8], sub: usize, visits: Visits, tile: usize, out: &mut [u8]) {
    for (block, q) in q.chunks_exact(sub).enumerate() {
        let first = visits.place(block) * sub / 4;
        for (j, four) in q.as_chunks::<4>().0.iter().enumerate() {
            let bytes = [four[0] as u8, four[1] as u8, four[2] as u8, four[3] as u8];
            out[(first + j) * tile * 4..][..4].copy_from_slice(&bytes);
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
