//! Keys and values of past tokens, and attention over them.

use crate::format::LANES;
use crate::isa::{Arch, Isa, multiversion};
use crate::memory::prefetch_line;
use crate::vector::{self, softmax_body};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::sync::Arc;

/// Positions of a page: one in each lane.
const PAGE: usize = LANES;

/// Queries that go through the pages together.
const QUERIES: usize = 4;

/// Element type of cached keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Half precision.
    F16,
    /// Single precision.
    F32,
    /// Signed bytes, with a scale for each head of each position.
    Q8,
}

/// Heads of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Element type.
    pub kind: KvType,
    /// Heads.
    pub heads: usize,
    /// Elements of a head.
    pub dim: usize,
}

impl KvShape {
    /// Elements of a position's keys, or values.
    pub fn width(&self) -> usize {
        self.heads * self.dim
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        let elements = 2 * self.heads * self.side();
        match self.kind {
            KvType::F16 => elements * size_of::<u16>(),
            KvType::F32 => elements * size_of::<f32>(),
            KvType::Q8 => elements + 2 * self.heads * PAGE * size_of::<f32>(),
        }
    }

    /// Elements of one side of a head in a page: whole vectors of values.
    fn side(&self) -> usize {
        self.dim.next_multiple_of(LANES) * PAGE
    }
}

/// Keys and values of [`KvPage::POSITIONS`] positions.
///
/// For each head: keys element by element, the positions side by side, so that a vector of scores needs
/// no sum across lanes; values position by position.
#[derive(Clone)]
pub struct KvPage {
    elements: Elements,
    /// Scales of keys, then of values, `[heads][positions]` each; empty but for bytes.
    scales: Vec<f32>,
}

#[derive(Clone)]
enum Elements {
    Half(Vec<u16>),
    Single(Vec<f32>),
    Bytes(Vec<i8>),
}

impl KvPage {
    /// Positions of a page.
    pub const POSITIONS: usize = PAGE;

    /// A page of zeros.
    pub fn new(shape: &KvShape) -> Self {
        let len = 2 * shape.heads * shape.side();
        let (elements, scales) = match shape.kind {
            KvType::F16 => (Elements::Half(vec![0; len]), 0),
            KvType::F32 => (Elements::Single(vec![0.0; len]), 0),
            KvType::Q8 => (Elements::Bytes(vec![0; len]), 2 * shape.heads * PAGE),
        };
        Self { elements, scales: vec![0.0; scales] }
    }

    /// Bytes of a page in memory.
    pub fn bytes(shape: &KvShape) -> usize {
        let size = match shape.kind {
            KvType::F16 => 2,
            KvType::F32 => 4,
            KvType::Q8 => 1,
        };
        let scales = if shape.kind == KvType::Q8 { 8 * shape.heads * PAGE } else { 0 };
        2 * shape.heads * shape.side() * size + scales
    }

    /// Writes the keys and values of the page's position `slot`.
    ///
    /// # Panics
    /// When a row has another width than the shape, or there is no such position.
    pub fn write(&mut self, shape: &KvShape, slot: usize, keys: &[f32], values: &[f32]) {
        assert!(slot < PAGE && keys.len() == shape.width() && values.len() == shape.width());
        let (dim, side) = (shape.dim, shape.side());
        let padded = side / PAGE;
        for head in 0..shape.heads {
            let (keys, values) = (&keys[head * dim..][..dim], &values[head * dim..][..dim]);
            let key = head * 2 * side + slot;
            let value = (head * 2 + 1) * side + slot * padded;
            match &mut self.elements {
                Elements::Half(to) => {
                    let mut half = [f16::ZERO; 64];
                    for (part, keys) in keys.chunks(half.len()).enumerate() {
                        half[..keys.len()].convert_from_f32_slice(keys);
                        let to = to[key + part * half.len() * PAGE..].iter_mut().step_by(PAGE);
                        to.zip(&half[..keys.len()]).for_each(|(to, half)| *to = half.to_bits());
                    }
                    to[value..value + dim]
                        .reinterpret_cast_mut::<f16>()
                        .convert_from_f32_slice(values);
                }
                Elements::Single(to) => {
                    for (i, (&k, &v)) in keys.iter().zip(values).enumerate() {
                        to[key + i * PAGE] = k;
                        to[value + i] = v;
                    }
                }
                Elements::Bytes(to) => {
                    let largest = |x: &[f32]| x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                    let (k_scale, v_scale) = (largest(keys) / 127.0, largest(values) / 127.0);
                    let inverse = |scale: f32| if scale > 0.0 { 1.0 / scale } else { 0.0 };
                    let (k_inverse, v_inverse) = (inverse(k_scale), inverse(v_scale));
                    for (i, (&k, &v)) in keys.iter().zip(values).enumerate() {
                        to[key + i * PAGE] = (k * k_inverse).round_ties_even() as i8;
                        to[value + i] = (v * v_inverse).round_ties_even() as i8;
                    }
                    self.scales[head * PAGE + slot] = k_scale;
                    self.scales[(shape.heads + head) * PAGE + slot] = v_scale;
                }
            }
        }
    }

    /// Reads what [`Self::write`] wrote, as it is kept.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn read(&self, shape: &KvShape, slot: usize, keys: &mut [f32], values: &mut [f32]) {
        assert!(slot < PAGE && keys.len() == shape.width() && values.len() == shape.width());
        let (dim, side) = (shape.dim, shape.side());
        for head in 0..shape.heads {
            for i in 0..dim {
                let key = head * 2 * side + slot + i * PAGE;
                let value = (head * 2 + 1) * side + slot * (side / PAGE) + i;
                let at = head * dim + i;
                (keys[at], values[at]) = match &self.elements {
                    Elements::Half(x) => {
                        (f16::from_bits(x[key]).to_f32(), f16::from_bits(x[value]).to_f32())
                    }
                    Elements::Single(x) => (x[key], x[value]),
                    Elements::Bytes(x) => (
                        f32::from(x[key]) * self.scales[head * PAGE + slot],
                        f32::from(x[value]) * self.scales[(shape.heads + head) * PAGE + slot],
                    ),
                };
            }
        }
    }

    /// Whether the page was made for a shape.
    fn fits(&self, shape: &KvShape) -> bool {
        let (kind, len) = match &self.elements {
            Elements::Half(x) => (KvType::F16, x.len()),
            Elements::Single(x) => (KvType::F32, x.len()),
            Elements::Bytes(x) => (KvType::Q8, x.len()),
        };
        kind == shape.kind && len == 2 * shape.heads * shape.side()
    }

    fn base(&self) -> *const u8 {
        match &self.elements {
            Elements::Half(x) => x.as_ptr().cast(),
            Elements::Single(x) => x.as_ptr().cast(),
            Elements::Bytes(x) => x.as_ptr().cast(),
        }
    }
}

/// A query of one token's head.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Its elements.
    pub q: &'a [f32],
    /// First and last position of the pages that it sees; none if the first lies behind the last.
    pub first: usize,
    /// See [`Self::first`].
    pub last: usize,
    /// Key and value of one more position, which the pages do not hold.
    pub own: Option<(&'a [f32], &'a [f32])>,
}

/// Buffers of [`attend`].
#[derive(Default)]
pub struct AttentionScratch {
    scores: Vec<f32>,
}

/// `z = Σ_t softmax_t(scale · q·k_t) · v_t` for queries that share head `head` of the pages; `z` has shape `[queries, dim]`. A query's result does not depend on the others.
///
/// # Panics
/// When lengths differ, a query sees nothing, there are not pages for what it sees, or they were made
/// for another shape.
#[allow(clippy::too_many_arguments)]
pub fn attend(
    isa: Isa,
    shape: &KvShape,
    pages: &[Arc<KvPage>],
    head: usize,
    scale: f32,
    queries: &[Query],
    scratch: &mut AttentionScratch,
    z: &mut [f32],
) {
    assert!(head < shape.heads && z.len() == queries.len() * shape.dim);
    for query in queries {
        let paged = query.first <= query.last;
        assert!(query.q.len() == shape.dim && (paged || query.own.is_some()));
        assert!(!paged || query.last < pages.len() * PAGE);
        let width = |(k, v): (&[f32], &[f32])| k.len() == shape.dim && v.len() == shape.dim;
        assert!(query.own.is_none_or(width));
    }
    let mut rest = queries;
    let mut done = 0;
    while !rest.is_empty() {
        let count = rest.len().min(QUERIES);
        let (tile, others) = rest.split_at(count);
        let z = &mut z[done * shape.dim..][..count * shape.dim];
        attend_tile(isa, shape, pages, head, scale, tile, &mut scratch.scores, z);
        done += count;
        rest = others;
    }
}

multiversion! {
    fn attend_tile(shape: &KvShape, pages: &[Arc<KvPage>], head: usize, scale: f32, queries: &[Query], scores: &mut Vec<f32>, z: &mut [f32]) = attend_body;
}

#[inline(always)]
fn attend_body<A: Arch>(
    shape: &KvShape,
    pages: &[Arc<KvPage>],
    head: usize,
    scale: f32,
    queries: &[Query],
    scores: &mut Vec<f32>,
    z: &mut [f32],
) {
    macro_rules! run {
        ($kind:ident) => {
            match queries.len() {
                QUERIES => tile::<A, $kind, QUERIES>(shape, pages, head, scale, queries, scores, z),
                3 => tile::<A, $kind, 3>(shape, pages, head, scale, queries, scores, z),
                2 => tile::<A, $kind, 2>(shape, pages, head, scale, queries, scores, z),
                _ => tile::<A, $kind, 1>(shape, pages, head, scale, queries, scores, z),
            }
        };
    }
    match shape.kind {
        KvType::F16 => run!(Halves),
        KvType::F32 => run!(Singles),
        KvType::Q8 => run!(SmallInts),
    }
}

/// Reads vectors of cached elements.
trait Storage {
    const SIZE: usize;
    const SCALED: bool;

    /// Sixteen elements.
    unsafe fn load<A: Arch>(from: *const u8) -> A::Floats;
}

struct Halves;
struct Singles;
struct SmallInts;

impl Storage for Halves {
    const SIZE: usize = 2;
    const SCALED: bool = false;

    #[inline(always)]
    unsafe fn load<A: Arch>(from: *const u8) -> A::Floats {
        // SAFETY: passed on to the caller.
        unsafe { A::halves(from) }
    }
}

impl Storage for Singles {
    const SIZE: usize = 4;
    const SCALED: bool = false;

    #[inline(always)]
    unsafe fn load<A: Arch>(from: *const u8) -> A::Floats {
        // SAFETY: passed on to the caller.
        unsafe { A::floats(from.cast()) }
    }
}

impl Storage for SmallInts {
    const SIZE: usize = 1;
    const SCALED: bool = true;

    #[inline(always)]
    unsafe fn load<A: Arch>(from: *const u8) -> A::Floats {
        // SAFETY: passed on to the caller.
        unsafe { A::small_ints(from, LANES) }
    }
}

/// Pages of one vector of the softmax.
const SOFTMAX_PAGES: usize = vector::LANES / PAGE;

/// Pages whose scores are made together for a single query, so that sums do not wait for each other.
const AT_ONCE: usize = 4;

/// Pages from the one at work to the one that is asked for: their parts of a head are too short for
/// the processor to see a stream.
const PAGES_AHEAD: usize = 2;

/// The same place of another page, or of the last one.
#[inline(always)]
fn ahead(pages: &[Arc<KvPage>], page: usize, offset: usize) -> *const u8 {
    pages[page.min(pages.len() - 1)].base().wrapping_add(offset)
}

#[inline(always)]
fn tile<A: Arch, S: Storage, const N: usize>(
    shape: &KvShape,
    pages: &[Arc<KvPage>],
    head: usize,
    scale: f32,
    queries: &[Query],
    scores: &mut Vec<f32>,
    z: &mut [f32],
) {
    let mut from = usize::MAX;
    let mut to = 0;
    for query in queries {
        if query.first <= query.last {
            // Whole vectors of the softmax, whose order of sums must not depend on other queries.
            from = from.min(query.first / vector::LANES * SOFTMAX_PAGES);
            to = to.max(query.last / PAGE + 1);
        }
    }
    let pages = if from < to { &pages[from..to] } else { &[] };
    assert!(pages.iter().all(|page| page.fits(shape)), "pages of another shape");
    let first = if pages.is_empty() { 0 } else { from * PAGE };
    // A last vector for the position that the pages do not hold.
    let own = pages.len().next_multiple_of(SOFTMAX_PAGES) * PAGE;
    let width = own + vector::LANES;
    scores.clear();
    scores.resize(N * width, f32::NEG_INFINITY);
    let (dim, side) = (shape.dim, shape.side());
    let padded = side / PAGE;
    // SAFETY: pages hold all heads of the shape, sides are whole vectors; `A` is the instruction set
    // this body is compiled for.
    unsafe {
        let mut q = [queries[0].q.as_ptr(); N];
        for n in 0..N {
            q[n] = queries[n].q.as_ptr();
        }
        let keys = head * 2 * side * S::SIZE;
        let mut page = 0;
        if N == 1 {
            while page + AT_ONCE <= pages.len() {
                let (mut bases, mut next) =
                    ([std::ptr::null(); AT_ONCE], [std::ptr::null(); AT_ONCE]);
                for p in 0..AT_ONCE {
                    bases[p] = pages[page + p].base().add(keys);
                    next[p] = ahead(pages, page + p + AT_ONCE, keys);
                }
                let mut sums = [A::splat(0.0); AT_ONCE];
                for i in 0..dim {
                    let x = A::splat(*q[0].add(i));
                    for p in 0..AT_ONCE {
                        prefetch_line(next[p].wrapping_add(i * PAGE * S::SIZE));
                        let k = S::load::<A>(bases[p].add(i * PAGE * S::SIZE));
                        sums[p] = A::fma(x, k, sums[p]);
                    }
                }
                for p in 0..AT_ONCE {
                    let to = scores.as_mut_ptr().add((page + p) * PAGE);
                    A::store(scaled::<A, S>(sums[p], scale, &pages[page + p], head), to);
                }
                page += AT_ONCE;
            }
        }
        for page in page..pages.len() {
            let base = pages[page].base().add(keys);
            let next = ahead(pages, page + PAGES_AHEAD, keys);
            let mut sums = [A::splat(0.0); N];
            for i in 0..dim {
                prefetch_line(next.wrapping_add(i * PAGE * S::SIZE));
                let k = S::load::<A>(base.add(i * PAGE * S::SIZE));
                for n in 0..N {
                    sums[n] = A::fma(A::splat(*q[n].add(i)), k, sums[n]);
                }
            }
            for n in 0..N {
                let to = scores.as_mut_ptr().add(n * width + page * PAGE);
                A::store(scaled::<A, S>(sums[n], scale, &pages[page], head), to);
            }
        }
    }
    for (n, query) in queries.iter().enumerate() {
        let scores = &mut scores[n * width..][..width];
        let (before, behind) = if query.first <= query.last {
            (query.first - first, query.last + 1 - first)
        } else {
            (0, 0)
        };
        scores[..before].fill(f32::NEG_INFINITY);
        scores[behind..].fill(f32::NEG_INFINITY);
        if let Some((key, _)) = query.own {
            let mut sum = 0.0;
            for i in 0..dim {
                sum = A::mul_add(query.q[i], key[i], sum);
            }
            scores[own] = sum * scale;
        }
        softmax_body::<A>(scores);
        if S::SCALED {
            for (page, scores) in pages.iter().zip(scores.chunks_exact_mut(PAGE)) {
                let scales = &page.scales[(shape.heads + head) * PAGE..][..PAGE];
                scores.iter_mut().zip(scales).for_each(|(p, scale)| *p *= scale);
            }
        }
    }
    let values = (head * 2 + 1) * side * S::SIZE;
    let mut vector = 0;
    macro_rules! columns {
        ($($v:literal),*) => {
            $(
                while padded / LANES - vector >= $v {
                    let at = vector * LANES;
                    // SAFETY: as above; the vectors lie inside the padded head.
                    unsafe {
                        columns::<A, S, N, $v>(pages, values, padded, at, queries, scores, (own, width), z, dim);
                    }
                    vector += $v;
                }
            )*
        };
    }
    columns!(4, 1);
}

/// Scores of a page's positions from sums over the elements.
#[inline(always)]
unsafe fn scaled<A: Arch, S: Storage>(
    sums: A::Floats,
    scale: f32,
    page: &KvPage,
    head: usize,
) -> A::Floats {
    // SAFETY: passed on to the caller; pages of scaled types have scales for every head.
    unsafe {
        let scores = A::mul(sums, A::splat(scale));
        if S::SCALED {
            A::mul(scores, A::floats(page.scales[head * PAGE..].as_ptr()))
        } else {
            scores
        }
    }
}

/// `z[n][at + …] = Σ_t p_t · v_t` for `V` vectors of the head.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn columns<A: Arch, S: Storage, const N: usize, const V: usize>(
    pages: &[Arc<KvPage>],
    values: usize,
    padded: usize,
    at: usize,
    queries: &[Query],
    scores: &[f32],
    (own, width): (usize, usize),
    z: &mut [f32],
    dim: usize,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut sums = [[A::splat(0.0); V]; N];
        for (index, page) in pages.iter().enumerate() {
            let base = page.base().add(values + at * S::SIZE);
            let next = ahead(pages, index + PAGES_AHEAD, values + at * S::SIZE);
            let p = scores.as_ptr().add(index * PAGE);
            for slot in 0..PAGE {
                let row = base.add(slot * padded * S::SIZE);
                let mut weights = [A::splat(0.0); N];
                for n in 0..N {
                    weights[n] = A::splat(*p.add(n * width + slot));
                }
                for v in 0..V {
                    prefetch_line(next.wrapping_add((slot * padded + v * LANES) * S::SIZE));
                    let value = S::load::<A>(row.add(v * LANES * S::SIZE));
                    for n in 0..N {
                        sums[n][v] = A::fma(weights[n], value, sums[n][v]);
                    }
                }
            }
        }
        for n in 0..N {
            let mut out = [[0.0f32; LANES]; V];
            for v in 0..V {
                A::store(sums[n][v], out[v].as_mut_ptr());
            }
            let end = dim.min(at + V * LANES);
            let z = &mut z[n * dim + at..n * dim + end];
            z.copy_from_slice(&out.as_flattened()[..end - at]);
            if let Some((_, value)) = queries[n].own {
                let p = scores[n * width + own];
                for (z, &v) in z.iter_mut().zip(&value[at..end]) {
                    *z = A::mul_add(p, v, *z);
                }
            }
        }
    }
}
