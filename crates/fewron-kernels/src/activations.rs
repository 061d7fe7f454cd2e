//! Inputs of matrix products: f32 vectors and their 8-bit forms.

use crate::format::LANES;
use crate::gemm::Visits;
use crate::isa::{Arch, Isa, multiversion};
use crate::lines::Lines;
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
    rounded: Rounded,
}

/// A batch as 8-bit integers, padded with zeros to whole blocks.
#[derive(Default)]
struct Rounded {
    blocks: usize,
    q: Vec<i8>,
    /// Of each block.
    scales: Vec<f32>,
    /// Sums of the integers of each half of a block.
    sums: Vec<[i32; 2]>,
}

impl Rounded {
    fn set(&mut self, isa: Isa, pool: &Pool, x: &[f32], cols: usize) {
        let (tokens, blocks) = (x.len() / cols, cols.div_ceil(BLOCK));
        self.blocks = blocks;
        self.q.resize(tokens * blocks * BLOCK, 0);
        self.scales.resize(tokens * blocks, 0.0);
        self.sums.resize(tokens * blocks, [0; 2]);
        let (scales, sums) = (SharedSlice::new(&mut self.scales), SharedSlice::new(&mut self.sums));
        pool.rows(&mut self.q, blocks * BLOCK, |token, q| {
            let range = token * blocks..(token + 1) * blocks;
            // SAFETY: a token belongs to one thread.
            let (scales, sums) = unsafe { (scales.range(range.clone()), sums.range(range)) };
            quantize(isa, &x[token * cols..][..cols], q, scales, sums);
        });
    }

    /// Elements of a token.
    fn q(&self, token: usize) -> &[i8] {
        let len = self.blocks * BLOCK;
        &self.q[token * len..][..len]
    }

    /// Calls `store(block, scale, scale · sum)` for a token's blocks of `sub` elements.
    fn scales(&self, token: usize, sub: usize, mut store: impl FnMut(usize, f32, f32)) {
        let range = token * self.blocks..(token + 1) * self.blocks;
        let blocks = self.scales[range.clone()].iter().zip(&self.sums[range]);
        for (block, (&scale, &[a, b])) in blocks.enumerate() {
            if sub == BLOCK {
                store(block, scale, scale * (a + b) as f32);
            } else {
                store(2 * block, scale, scale * a as f32);
                store(2 * block + 1, scale, scale * b as f32);
            }
        }
    }
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
                self.rounded.set(isa, pool, &self.x, cols);
            }
            if self.used == self.forms.len() {
                self.forms.push(Quantized::default());
            }
            self.forms[self.used].set(isa, pool, layout, self.tokens, cols, &self.rounded);
            self.used += 1;
        }
    }

    /// Number of vectors.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether forms are [`Vectors`], not a [`Batch`].
    pub(crate) fn is_few(&self) -> bool {
        self.tokens < BATCH_TOKENS
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

/// Tokens from which on a form is a [`Batch`], and products lay rows side by side. With 16 tokens that
/// does not pay yet for SmolLM2's matrices, on any instruction set
/// (`cargo bench -p fewron-kernels --bench kernels -- few_tokens`).
pub(crate) const BATCH_TOKENS: usize = 17;

/// An 8-bit form of a few vectors or of a batch.
#[derive(Default)]
pub(crate) struct Quantized {
    layout: Option<Layout>,
    tokens: usize,
    cols: usize,
    /// Places for the blocks of a vector.
    places: usize,
    q: Lines<u8>,
    scales: Lines<f32>,
    sums: Lines<f32>,
    /// Elements in [`Order::Plain`] that are not 0 in all of a few vectors.
    active: Vec<u32>,
    /// The bits of each element that any of a few vectors has.
    any: Vec<u8>,
}

/// A few vectors one behind the other, each padded with zeros to whole groups of sixteen blocks.
#[derive(Clone, Copy)]
pub(crate) struct Vectors<'a> {
    pub(crate) tokens: usize,
    /// Places for the blocks of a vector.
    pub(crate) places: usize,
    /// Signed bytes.
    pub(crate) q: &'a [u8],
    /// Scale of each block.
    pub(crate) scales: &'a [f32],
    /// Sum of each block, as quantised.
    pub(crate) sums: &'a [f32],
    /// Elements in [`Order::Plain`] that are not 0 in all vectors, ascending.
    pub(crate) active: &'a [u32],
}

/// Many vectors side by side: for each block, in the order of [`Visits`], the elements of every token,
/// and likewise scales and sums.
pub(crate) struct Batch<'a>(&'a Quantized);

impl Batch<'_> {
    #[inline(always)]
    pub(crate) fn tokens(&self) -> usize {
        self.0.tokens
    }

    #[inline(always)]
    pub(crate) fn sub(&self) -> usize {
        self.0.layout().sub
    }

    #[inline(always)]
    pub(crate) fn visits(&self) -> Visits {
        self.0.visits()
    }

    /// Elements, scales and sums of all tokens' block at a place.
    #[inline(always)]
    pub(crate) fn block(&self, place: usize) -> (&[u8], &[f32], &[f32]) {
        let Self(x) = self;
        let (tokens, sub) = (x.tokens, x.layout().sub);
        let range = place * tokens..(place + 1) * tokens;
        (&x.q[place * tokens * sub..][..tokens * sub], &x.scales[range.clone()], &x.sums[range])
    }
}

impl Quantized {
    fn set(
        &mut self,
        isa: Isa,
        pool: &Pool,
        layout: Layout,
        tokens: usize,
        cols: usize,
        input: &Rounded,
    ) {
        let sub = layout.sub;
        self.layout = Some(layout);
        (self.tokens, self.cols) = (tokens, cols);
        let visits = self.visits();
        self.places = if tokens < BATCH_TOKENS {
            visits.blocks().next_multiple_of(LANES)
        } else {
            visits.places()
        };
        let len = tokens * self.places;
        self.q.reset(len * sub);
        self.scales.reset(len);
        self.sums.reset(len);
        if tokens < BATCH_TOKENS {
            self.set_few(isa, pool, input);
        } else {
            self.set_batch(pool, input);
        }
    }

    fn set_few(&mut self, isa: Isa, pool: &Pool, input: &Rounded) {
        let (Layout { sub, order }, places) = (self.layout(), self.places);
        let (scales, sums) = (SharedSlice::new(&mut self.scales), SharedSlice::new(&mut self.sums));
        pool.rows(&mut self.q, places * sub, |token, out| {
            let first = token * places;
            input.scales(token, sub, |block, scale, sum| {
                // SAFETY: a token belongs to one thread.
                unsafe {
                    scales.write(first + block, scale);
                    sums.write(first + block, sum);
                }
            });
            match order {
                Order::Plain => write_bytes(input.q(token), out),
                Order::Lanes => to_lanes(isa, input.q(token), sub, out),
            }
        });
        if order == Order::Plain {
            self.set_active();
        }
    }

    fn set_active(&mut self) {
        let Self { tokens, cols, q, active, any, .. } = self;
        active.clear();
        if *tokens == 0 {
            return;
        }
        let mut vectors = q.chunks_exact(q.len() / *tokens).map(|q| &q[..*cols]);
        any.clear();
        any.extend(vectors.next().into_iter().flatten());
        for q in vectors {
            any.iter_mut().zip(q).for_each(|(any, q)| *any |= q);
        }
        active.extend((0..).zip(&*any).filter(|&(_, &any)| any != 0).map(|(element, _)| element));
    }

    fn set_batch(&mut self, pool: &Pool, input: &Rounded) {
        let (sub, visits, tokens) = (self.layout().sub, self.visits(), self.tokens);
        let out = SharedSlice::new(&mut self.q);
        let (scales, sums) = (SharedSlice::new(&mut self.scales), SharedSlice::new(&mut self.sums));
        pool.split(tokens, 1, |range| {
            for token in range {
                input.scales(token, sub, |block, scale, sum| {
                    let at = visits.place(block) * tokens + token;
                    // SAFETY: a token belongs to one thread.
                    unsafe {
                        scales.write(at, scale);
                        sums.write(at, sum);
                    }
                });
                for (block, q) in input.q(token).chunks_exact(sub).enumerate() {
                    let at = (visits.place(block) * tokens + token) * sub;
                    // SAFETY: as above.
                    write_bytes(q, unsafe { out.range(at..at + sub) });
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

    /// The form as vectors, where it is no batch.
    #[inline(always)]
    pub(crate) fn vectors(&self) -> Vectors<'_> {
        assert!(self.tokens < BATCH_TOKENS, "tokens of a batch lie side by side");
        let Self { tokens, places, q, scales, sums, active, .. } = self;
        Vectors { tokens: *tokens, places: *places, q, scales, sums, active }
    }
}

/// Signed bytes as they lie.
#[inline(always)]
fn write_bytes(q: &[i8], out: &mut [u8]) {
    out.iter_mut().zip(q).for_each(|(out, &q)| *out = q as u8);
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

/// The integer from −127 to 127 that is nearest, ties to even; 0 for not-a-number. Unlike a conversion
/// by `as` it is a few vector operations.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    /// Floats from here on are a whole number apart, with the number in their low bits.
    const WHOLE: f32 = 1.5 * (1 << 23) as f32;
    let x = if x.is_nan() { 0.0 } else { x.clamp(-127.0, 127.0) };
    (x + WHOLE).to_bits() as i32 - WHOLE.to_bits() as i32
}

multiversion! {
    /// 8-bit integers of a vector, padded to whole blocks, a scale for each block of 32, and the sums of
    /// its halves.
    fn quantize(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]]) = quantize_body;
}

#[inline(always)]
fn quantize_body<A: Arch>(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]]) {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let outputs = q.as_chunks_mut::<BLOCK>().0.iter_mut().zip(scales).zip(sums);
    let mut last = [0.0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    for (((q, scale), sums), block) in outputs.zip(blocks.iter().chain([&last])) {
        let mut sizes = [0.0f32; 8];
        for part in block.as_chunks::<8>().0 {
            for k in 0..8 {
                let size = part[k].abs();
                sizes[k] = if size > sizes[k] { size } else { sizes[k] };
            }
        }
        let largest = sizes.iter().fold(0.0, |a: f32, &b| if b > a { b } else { a });
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let mut ints = [0i32; BLOCK];
        for k in 0..BLOCK {
            ints[k] = nearest(block[k] * inverse);
            q[k] = ints[k] as i8;
        }
        *sums = [ints[..16].iter().sum(), ints[16..].iter().sum()];
        *scale = largest / 127.0;
    }
}
