//! Products of sixteen weight rows at a time with a batch of inputs.

use crate::activations::{Batch, Order};
use crate::format::LANES;
use crate::isa::{Arch, multiversion};

/// The order in which products of a batch visit the blocks of a vector: that of the products of
/// single tokens, lane by lane with the groups inside. [`Order::Plain`] is one lane.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Visits {
    blocks: usize,
    lanes: usize,
    groups: usize,
}

impl Visits {
    pub(crate) fn new(order: Order, blocks: usize) -> Self {
        let lanes = match order {
            Order::Plain => 1,
            Order::Lanes => LANES,
        };
        Self { blocks, lanes, groups: blocks.div_ceil(lanes) }
    }

    /// Places for the blocks; some stay empty if the last group is not full.
    pub(crate) fn places(self) -> usize {
        self.lanes * self.groups
    }

    pub(crate) fn blocks(self) -> usize {
        self.blocks
    }

    /// Where a block lies.
    #[inline(always)]
    pub(crate) fn place(self, block: usize) -> usize {
        block % self.lanes * self.groups + block / self.lanes
    }

    /// Places from a block to the next of its group.
    pub(crate) fn step(self) -> usize {
        self.groups
    }

    /// Blocks of a lane.
    #[inline(always)]
    fn of_lane(self, lane: usize) -> usize {
        (self.blocks + self.lanes - 1 - lane) / self.lanes
    }
}

/// Sixteen weight rows side by side, one in each lane.
///
/// For each block of `sub` inputs, in the order of [`Visits`]: `sub / 4` vectors of four consecutive
/// elements of each row, and the rows' scales and offsets.
#[derive(Default)]
pub(crate) struct Panel {
    visits: Visits,
    sub: usize,
    /// Bits of an element.
    bits: usize,
    q: Vec<u8>,
    d: Vec<f32>,
    m: Vec<f32>,
}

impl Panel {
    /// Makes room for blocks of `sub` elements of `bits` bits.
    pub(crate) fn resize(&mut self, visits: Visits, sub: usize, bits: usize) {
        (self.visits, self.sub, self.bits) = (visits, sub, bits);
        self.q.resize(visits.places() * sub * LANES, 0);
        self.d.resize(visits.places() * LANES, 0.0);
        self.m.resize(visits.places() * LANES, 0.0);
    }

    /// Where vector `j` of a block goes: 64 bytes.
    #[inline(always)]
    pub(crate) fn vector(&mut self, block: usize, j: usize) -> *mut u8 {
        let place = self.visits.place(block);
        self.q[place * self.sub * LANES + j * 64..][..64].as_mut_ptr()
    }

    /// Where a block's scales go.
    #[inline(always)]
    pub(crate) fn scale(&mut self, block: usize) -> *mut f32 {
        let place = self.visits.place(block);
        self.d[place * LANES..][..LANES].as_mut_ptr()
    }

    /// Where a block's offsets go.
    #[inline(always)]
    pub(crate) fn offset(&mut self, block: usize) -> *mut f32 {
        let place = self.visits.place(block);
        self.m[place * LANES..][..LANES].as_mut_ptr()
    }
}

multiversion! {
    /// `out[t, i] = row i · x[t]` for every token of a batch; `out` has shape `[tokens, 16]`. The
    /// order of operations is that of the products of single tokens.
    pub(crate) fn products(panel: &Panel, x: &Batch, out: &mut [f32]) = products_body;
}

#[inline(always)]
fn products_body<A: Arch>(panel: &Panel, x: &Batch, out: &mut [f32]) {
    assert!(out.len() == x.tokens() * LANES && x.tile() == A::TILE);
    assert!(x.visits() == panel.visits && x.sub() == panel.sub);
    match panel.sub {
        32 => all_bits::<A, 32>(panel, x, out),
        16 => all_bits::<A, 16>(panel, x, out),
        _ => unreachable!("blocks have 16 or 32 elements"),
    }
}

#[inline(always)]
fn all_bits<A: Arch, const SUB: usize>(panel: &Panel, x: &Batch, out: &mut [f32]) {
    match panel.bits {
        0..=4 => all_tokens::<A, 4, SUB>(panel, x, out),
        5 => all_tokens::<A, 5, SUB>(panel, x, out),
        6 => all_tokens::<A, 6, SUB>(panel, x, out),
        _ => all_tokens::<A, 8, SUB>(panel, x, out),
    }
}

#[inline(always)]
fn all_tokens<A: Arch, const BITS: usize, const SUB: usize>(
    panel: &Panel,
    x: &Batch,
    out: &mut [f32],
) {
    let mut token = 0;
    macro_rules! strips {
        ($($n:literal),*) => {
            $(
                while $n <= A::strip(BITS) && x.tokens() - token >= $n && token % A::TILE + $n <= A::TILE {
                    let out = &mut out[token * LANES..][..$n * LANES];
                    strip::<A, $n, BITS, SUB>(panel, x, token, out);
                    token += $n;
                }
            )*
        };
    }
    strips!(8, 4, 2, 1);
}

/// `N` tokens of a tile.
#[inline(always)]
fn strip<A: Arch, const N: usize, const BITS: usize, const SUB: usize>(
    panel: &Panel,
    x: &Batch,
    token: usize,
    out: &mut [f32],
) {
    let visits = panel.visits;
    let (q, scales, sums) = x.strip(token, N);
    assert!(out.len() == N * LANES && panel.q.len() >= visits.places() * SUB * LANES);
    assert!(panel.d.len() >= visits.places() * LANES && panel.m.len() == panel.d.len());
    // SAFETY: the batch and the panel have a place for every block; `A` is the instruction set this
    // body is compiled for.
    unsafe {
        let mut totals = [A::splat(0.0); N];
        for lane in 0..visits.lanes {
            let first = lane * visits.groups;
            let mut lane_sums = [A::splat(0.0); N];
            for place in first..first + visits.of_lane(lane) {
                let w = panel.q.as_ptr().add(place * SUB * LANES);
                let input = q.add(place * SUB * A::TILE);
                let mut ints = [A::no_ints(); N];
                let mut products = [A::no_sums(); N];
                for j in 0..SUB / 4 {
                    let w = A::bytes(w.add(j * 64));
                    for n in 0..N {
                        let input = input.add((j * A::TILE + n) * 4);
                        products[n] = A::dot_splat(BITS, products[n], w, input);
                    }
                    if (j + 1) % A::room(BITS) == 0 || j + 1 == SUB / 4 {
                        for n in 0..N {
                            ints[n] = A::take(BITS, ints[n], products[n]);
                            products[n] = A::no_sums();
                        }
                    }
                }
                let d = A::floats(panel.d.as_ptr().add(place * LANES));
                let m = A::floats(panel.m.as_ptr().add(place * LANES));
                for n in 0..N {
                    let scale = A::splat(*scales.add(place * A::TILE + n));
                    let sum = A::splat(*sums.add(place * A::TILE + n));
                    let part = A::fma(A::to_floats(ints[n]), A::mul(d, scale), lane_sums[n]);
                    lane_sums[n] = A::fma(m, sum, part);
                }
            }
            for n in 0..N {
                totals[n] = A::add(totals[n], lane_sums[n]);
            }
        }
        for n in 0..N {
            A::store(totals[n], out.as_mut_ptr().add(n * LANES));
        }
    }
}
