//! Products of packed rows with a few tokens.
//!
//! A row's full groups go row by row: a group's weights stay in registers while the tokens pass by,
//! and sums stay lane by lane. What is left of sixteen rows is laid side by side where several tokens
//! share that work. The order of operations is always the same, and that of the panels' products: lane
//! by lane over the groups, then lanes from first to last.

use super::Packed;
use crate::activations::{Quantized, Vectors};
use crate::format::{
    At, Format, Kind, LANES, expand, expand_compact, is_compact, scales, with_format,
};
use crate::isa::{Arch, Isa, multiversion};
use crate::lines::Line;
use crate::memory::prefetch;

/// Tokens from which on the last groups of sixteen rows are laid side by side.
const BESIDE_TOKENS: usize = 4;

/// Stands for all parts of the lanes: the weights of a group fill more registers than AVX2 has, but
/// only several tokens would read them again.
const ALL: usize = 2;

/// Sums of a token's products with sixteen rows, lane by lane, or of anything with sixteen lanes.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct LaneSums([[f32; LANES]; LANES]);

/// Elements of [`LaneSums`].
const SUMS: usize = LANES * LANES;

/// Memory for the products of a few tokens.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Of each token.
    sums: Vec<LaneSums>,
    rest: Rest,
}

/// `out[t][i] = W[rows[i]] · x[t]` for a few tokens; rows in `ahead` are asked for meanwhile.
#[allow(clippy::too_many_arguments)]
pub(crate) fn row_dots(
    isa: Isa,
    w: &Packed,
    kind: Kind,
    rows: &[u32],
    ahead: &[u32],
    x: &Quantized,
    scratch: &mut Scratch,
    out: &mut [[f32; LANES]],
) {
    assert!(kind == w.kind || (kind, w.kind) == (Kind::High(w.dtype), Kind::Split(w.dtype)));
    assert!(x.layout() == w.layout() && x.cols() == w.cols);
    assert!((1..=LANES).contains(&rows.len()));
    let x = x.vectors();
    if x.tokens == 1 {
        one_token(isa, w, kind, rows, ahead, x, out);
    } else {
        few_tokens(isa, w, kind, rows, ahead, x, scratch, out);
    }
}

multiversion! {
    fn one_token(w: &Packed, kind: Kind, rows: &[u32], ahead: &[u32], x: Vectors, out: &mut [[f32; LANES]]) = one_token_body;
}

#[inline(always)]
fn one_token_body<A: Arch>(
    w: &Packed,
    kind: Kind,
    rows: &[u32],
    ahead: &[u32],
    x: Vectors,
    out: &mut [[f32; LANES]],
) {
    with_format!(kind, F => {
        let mut sums = [LaneSums::default()];
        format_row_dots::<A, F, true>(w, rows, ahead, x, &mut sums, None, out);
    });
}

multiversion! {
    fn few_tokens(w: &Packed, kind: Kind, rows: &[u32], ahead: &[u32], x: Vectors, scratch: &mut Scratch, out: &mut [[f32; LANES]]) = few_tokens_body;
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn few_tokens_body<A: Arch>(
    w: &Packed,
    kind: Kind,
    rows: &[u32],
    ahead: &[u32],
    x: Vectors,
    scratch: &mut Scratch,
    out: &mut [[f32; LANES]],
) {
    let Scratch { sums, rest } = scratch;
    sums.resize(x.tokens.max(sums.len()), LaneSums::default());
    with_format!(kind, F => {
        let beside = x.tokens >= BESIDE_TOKENS && !(w.cols / F::SUB).is_multiple_of(LANES);
        let rest = beside.then_some(rest);
        format_row_dots::<A, F, false>(w, rows, ahead, x, sums, rest, out);
    });
}

/// Places of `sums` and `out` beyond those of `rows` hold anything.
#[inline(always)]
fn format_row_dots<A: Arch, F: Format, const ONE: bool>(
    w: &Packed,
    rows: &[u32],
    ahead: &[u32],
    x: Vectors,
    sums: &mut [LaneSums],
    rest: Option<&mut Rest>,
    out: &mut [[f32; LANES]],
) {
    let blocks = w.cols / F::SUB;
    let tokens = if ONE { 1 } else { x.tokens };
    assert!(x.places == blocks.next_multiple_of(LANES));
    assert!(out.len() == tokens && sums.len() >= tokens);
    assert!(x.scales.len() == tokens * x.places && x.sums.len() == x.scales.len());
    assert!(x.q.len() == x.scales.len() * F::SUB);
    let x = Inputs {
        tokens,
        places: x.places,
        q: x.q.as_ptr(),
        scales: x.scales.as_ptr(),
        sums: x.sums.as_ptr(),
    };
    let starts = w.starts();
    let first = sums.as_mut_ptr().cast::<f32>();
    // SAFETY: rows are in bounds and whole groups of the format, every token has inputs for every group
    // and sums for every row, and `A` is the instruction set this body is compiled for.
    unsafe {
        for (index, &row) in rows.iter().enumerate() {
            if let Some(&row) = ahead.get(index) {
                prefetch(starts.data.row(row as usize));
            }
            let group = starts.at::<F>(row as usize);
            row_sums::<A, F, ONE>(group, blocks, x, rest.is_some(), first.add(index * LANES));
        }
        let last = x.group::<F>(blocks / LANES);
        let rest = rest.map(|rest| {
            let row = |index: usize| rows[index.min(rows.len() - 1)] as usize;
            rest.fill::<A, F>(blocks % LANES, |index| {
                starts.at::<F>(row(index)).skip::<F>(blocks / LANES)
            });
            &*rest
        });
        for (token, (sums, out)) in sums.iter().zip(out).enumerate() {
            let mut lanes = LaneSums::default();
            A::transpose(sums.0.as_ptr().cast(), lanes.0.as_mut_ptr().cast(), 64);
            if let Some(rest) = rest {
                rest.add::<A, F>(last.token::<F>(token), &mut lanes);
            }
            let mut total = A::splat(0.0);
            for lane in &lanes.0 {
                total = A::add(total, A::floats(lane.as_ptr()));
            }
            A::store(total, out.as_mut_ptr());
        }
    }
}

/// [`Vectors`] from some group and some token on.
#[derive(Clone, Copy)]
struct Inputs {
    tokens: usize,
    places: usize,
    q: *const u8,
    scales: *const f32,
    sums: *const f32,
}

impl Inputs {
    /// From `blocks` blocks further on.
    #[inline(always)]
    unsafe fn skip<F: Format>(self, blocks: usize) -> Self {
        // SAFETY: the caller promises so many blocks.
        unsafe {
            Self {
                q: self.q.add(blocks * F::SUB),
                scales: self.scales.add(blocks),
                sums: self.sums.add(blocks),
                ..self
            }
        }
    }

    #[inline(always)]
    unsafe fn group<F: Format>(self, group: usize) -> Self {
        // SAFETY: passed on to the caller.
        unsafe { self.skip::<F>(group * LANES) }
    }

    #[inline(always)]
    unsafe fn token<F: Format>(self, token: usize) -> Self {
        // SAFETY: passed on to the caller.
        unsafe { self.skip::<F>(token * self.places) }
    }
}

/// Sums of a row's products, lane by lane; those of the next token lie a [`LaneSums`] further. What
/// follows the full groups is left out where it is laid beside that of other rows.
#[inline(always)]
unsafe fn row_sums<A: Arch, F: Format, const ONE: bool>(
    mut group: At,
    blocks: usize,
    x: Inputs,
    beside: bool,
    sums: *mut f32,
) {
    let (full, rest) = (blocks / LANES, blocks % LANES);
    // The compiler keeps these in registers.
    let mut of_one = [0.0f32; LANES];
    let (to, sums) = (sums, if ONE { of_one.as_mut_ptr() } else { sums });
    // SAFETY: passed on to the caller.
    unsafe {
        if !ONE {
            for token in 0..x.tokens {
                A::store(A::splat(0.0), sums.add(token * SUMS));
            }
        }
        for g in 0..full {
            let x = x.group::<F>(g);
            if ONE || A::PARTS == 1 {
                group_dots::<A, F, true, ALL>(group, LANES, x, sums);
            } else {
                group_dots::<A, F, true, 0>(group, LANES, x, sums);
                group_dots::<A, F, true, 1>(group, LANES, x, sums);
            }
            group = group.next::<F>(LANES);
        }
        if !beside {
            let x = x.group::<F>(full);
            // Numbers of lanes that the compiler knows make short code.
            match rest {
                0 => {}
                2 if is_compact::<F>(2) => group_dots::<A, F, false, ALL>(group, 2, x, sums),
                4 if is_compact::<F>(4) => group_dots::<A, F, false, ALL>(group, 4, x, sums),
                8 if is_compact::<F>(8) => group_dots::<A, F, false, ALL>(group, 8, x, sums),
                _ => group_dots::<A, F, false, ALL>(group, rest, x, sums),
            }
        }
        if ONE {
            A::store(A::floats(sums), to);
        }
    }
}

/// Adds `d_w·d_a·Σ q_w·q_a + m_w·Σ a` of each block of a group to its lane of each token's sums, for
/// a part of the lanes or [`ALL`].
#[inline(always)]
unsafe fn group_dots<A: Arch, F: Format, const FULL: bool, const PART: usize>(
    group: At,
    lanes: usize,
    x: Inputs,
    sums: *mut f32,
) {
    let compact = !FULL && is_compact::<F>(lanes);
    // SAFETY: the caller promises a group of the format, inputs for sixteen blocks of every token, and
    // their sums.
    unsafe {
        let (d, m) = scales::<A, F, FULL>(group.main, lanes);
        let (w, vectors) = vectors::<A, F, FULL>(group, lanes);
        for token in 0..x.tokens {
            let x = x.token::<F>(token);
            let (mut ints, mut products) = (A::no_ints(), A::no_sums());
            for j in 0..vectors {
                let q = if FULL || compact {
                    A::bytes(x.q.add(j * 64))
                } else {
                    A::bytes_part(x.q.add(j * lanes * 4), lanes)
                };
                products = A::dot(F::BITS, products, w[j], q);
                if (j + 1) % A::room(F::BITS) == 0 || j + 1 == vectors {
                    ints = A::take(F::BITS, ints, products);
                    products = A::no_sums();
                }
            }
            if compact {
                ints = A::fold(ints, lanes);
            }
            let (scale, to) = (A::mul(d, A::floats(x.scales)), sums.add(token * SUMS));
            let sum = A::fma(A::to_floats(ints), scale, A::floats(to));
            let sum = A::fma(m, A::floats(x.sums), sum);
            if PART == ALL {
                A::store(sum, to);
            } else {
                A::store_part::<PART>(sum, to);
            }
        }
    }
}

/// The elements of a group, without gaps where it is compact, and the number of vectors.
#[inline(always)]
unsafe fn vectors<A: Arch, F: Format, const FULL: bool>(
    group: At,
    lanes: usize,
) -> ([A::Bytes; 8], usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        if !FULL && is_compact::<F>(lanes) {
            (expand_compact::<A, F>(group, lanes), lanes / 2)
        } else {
            (expand::<A, F, FULL>(group, lanes), F::VECTORS)
        }
    }
}

/// The last groups of sixteen rows, which are not full, with one row in each lane.
#[derive(Default)]
struct Rest {
    /// Blocks of a group.
    blocks: usize,
    /// Vectors from four elements of a block to the next four.
    step: usize,
    /// Four elements of a block of every row in each vector.
    q: Vec<Line>,
    /// Scales and offsets of each block of every row.
    d: LaneSums,
    m: LaneSums,
    /// The vectors of each row, and its scales and offsets, before they are transposed.
    q_rows: Vec<Line>,
    d_rows: LaneSums,
    m_rows: LaneSums,
}

impl Rest {
    #[inline(always)]
    unsafe fn fill<A: Arch, F: Format>(&mut self, blocks: usize, row: impl Fn(usize) -> At) {
        let compact = is_compact::<F>(blocks);
        (self.blocks, self.step) = (blocks, if compact { blocks } else { LANES });
        self.q.resize(8 * LANES, Line::ZERO);
        self.q_rows.resize(8 * LANES, Line::ZERO);
        let count = if compact { blocks / 2 } else { F::VECTORS };
        // SAFETY: the caller promises groups of the format; there are places for eight vectors.
        unsafe {
            for index in 0..LANES {
                let row = row(index);
                let (scale, offset) = scales::<A, F, false>(row.main, blocks);
                A::store(scale, self.d_rows.0[index].as_mut_ptr());
                A::store(offset, self.m_rows.0[index].as_mut_ptr());
                let (w, _) = vectors::<A, F, false>(row, blocks);
                for j in 0..count {
                    A::store_bytes(w[j], self.q_rows[j * LANES + index].0.as_mut_ptr());
                }
            }
            for j in 0..count {
                let (from, to) = (&self.q_rows[j * LANES..], &mut self.q[j * LANES..]);
                A::transpose(from.as_ptr().cast(), to.as_mut_ptr().cast(), 64);
            }
            transpose_few::<A>(&self.d_rows, blocks, &mut self.d);
            transpose_few::<A>(&self.m_rows, blocks, &mut self.m);
        }
    }

    /// Adds the products with a token, block by block, as [`group_dots`] does.
    #[inline(always)]
    unsafe fn add<A: Arch, F: Format>(&self, x: Inputs, sums: &mut LaneSums) {
        for (block, to) in sums.0.iter_mut().enumerate().take(self.blocks) {
            // SAFETY: the caller promises inputs for the blocks, `fill` has written their vectors.
            unsafe {
                let (mut ints, mut products) = (A::no_ints(), A::no_sums());
                for j in 0..F::VECTORS {
                    let w = A::bytes(self.q.as_ptr().add(j * self.step + block).cast());
                    let q = x.q.add((j * self.blocks + block) * 4);
                    products = A::dot_splat(F::BITS, products, w, q);
                    if (j + 1) % A::room(F::BITS) == 0 || j + 1 == F::VECTORS {
                        ints = A::take(F::BITS, ints, products);
                        products = A::no_sums();
                    }
                }
                let scale =
                    A::mul(A::floats(self.d.0[block].as_ptr()), A::splat(*x.scales.add(block)));
                let sum = A::fma(A::to_floats(ints), scale, A::floats(to.as_ptr()));
                let offset = A::floats(self.m.0[block].as_ptr());
                A::store(A::fma(offset, A::splat(*x.sums.add(block)), sum), to.as_mut_ptr());
            }
        }
    }
}

/// The first `lanes` lanes of sixteen rows as rows.
#[inline(always)]
unsafe fn transpose_few<A: Arch>(from: &LaneSums, lanes: usize, to: &mut LaneSums) {
    if lanes > 4 {
        // SAFETY: sixteen rows of sixteen each; the caller is compiled for `A`.
        return unsafe { A::transpose(from.0.as_ptr().cast(), to.0.as_mut_ptr().cast(), 64) };
    }
    for (lane, to) in to.0.iter_mut().enumerate().take(lanes) {
        for (to, from) in to.iter_mut().zip(&from.0) {
            *to = from[lane];
        }
    }
}
