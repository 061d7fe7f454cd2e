//! Products of sixteen weight rows at a time with a batch of inputs.

use crate::activations::{Batch, Order};
use crate::format::LANES;
use crate::isa::{Arch, multiversion};
use crate::lines::Lines;

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
    q: Lines<u8>,
    d: Lines<f32>,
    m: Lines<f32>,
}

impl Panel {
    /// Makes room for blocks of `sub` elements of `bits` bits.
    pub(crate) fn resize(&mut self, visits: Visits, sub: usize, bits: usize) {
        (self.visits, self.sub, self.bits) = (visits, sub, bits);
        self.q.resize(visits.places() * sub * LANES);
        self.d.resize(visits.places() * LANES);
        self.m.resize(visits.places() * LANES);
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
    assert!(out.len() == x.tokens() * LANES);
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
        0..=4 => all_blocks::<A, 4, SUB>(panel, x, out),
        5 => all_blocks::<A, 5, SUB>(panel, x, out),
        6 => all_blocks::<A, 6, SUB>(panel, x, out),
        _ => all_blocks::<A, 8, SUB>(panel, x, out),
    }
}

/// A block's weights stay in registers while all tokens pass by, one part of the lanes after the
/// other.
#[inline(always)]
fn all_blocks<A: Arch, const BITS: usize, const SUB: usize>(
    panel: &Panel,
    x: &Batch,
    totals: &mut [f32],
) {
    let visits = panel.visits;
    totals.fill(0.0);
    let mut sums = Lines::default();
    sums.reset(totals.len());
    for lane in 0..visits.lanes {
        let first = lane * visits.groups;
        let end = first + visits.of_lane(lane);
        for place in first..end {
            let step = Step { place, first: place == first, last: place + 1 == end };
            block::<A, 0, BITS, SUB>(panel, x, step, &mut sums, totals);
            if A::PARTS == 2 {
                block::<A, 1, BITS, SUB>(panel, x, step, &mut sums, totals);
            }
        }
    }
}

/// A block on its way through a lane.
#[derive(Clone, Copy)]
struct Step {
    place: usize,
    first: bool,
    last: bool,
}

/// Adds the products of a block and all tokens to the lane's `sums`; those of its last block to
/// `totals`.
#[inline(always)]
fn block<A: Arch, const PART: usize, const BITS: usize, const SUB: usize>(
    panel: &Panel,
    x: &Batch,
    Step { place, first, last }: Step,
    sums: &mut [f32],
    totals: &mut [f32],
) {
    let (q, scales, input_sums) = x.block(place);
    let w = &panel.q[place * SUB * LANES..][..SUB * LANES];
    let d = &panel.d[place * LANES..][..LANES];
    let m = &panel.m[place * LANES..][..LANES];
    assert!(q.len() == x.tokens() * SUB && scales.len() == x.tokens());
    assert!(sums.len() == x.tokens() * LANES && totals.len() == sums.len());
    // SAFETY: the slices have a place for every token and lane; `A` is the instruction set this body
    // is compiled for.
    unsafe {
        let (d, m) = (A::floats(d.as_ptr()), A::floats(m.as_ptr()));
        let mut weights = [A::bytes(w.as_ptr()); 8];
        for j in 1..SUB / 4 {
            weights[j] = A::bytes(w.as_ptr().add(j * 64));
        }
        for token in 0..scales.len() {
            let input = q.as_ptr().add(token * SUB);
            let (mut ints, mut products) = (A::no_ints(), A::no_sums());
            for j in 0..SUB / 4 {
                products = A::dot_splat(BITS, products, weights[j], input.add(j * 4));
                if (j + 1) % A::room(BITS) == 0 || j + 1 == SUB / 4 {
                    ints = A::take(BITS, ints, products);
                    products = A::no_sums();
                }
            }
            let scale = A::mul(d, A::splat(*scales.as_ptr().add(token)));
            let sum_ptr = sums.as_mut_ptr().add(token * LANES);
            let before = if first { A::splat(0.0) } else { A::floats(sum_ptr) };
            let sum = A::fma(A::to_floats(ints), scale, before);
            let sum = A::fma(m, A::splat(*input_sums.as_ptr().add(token)), sum);
            if last {
                let total = totals.as_mut_ptr().add(token * LANES);
                A::store_part::<PART>(A::add(A::floats(total), sum), total);
            } else {
                A::store_part::<PART>(sum, sum_ptr);
            }
        }
    }
}
