//! The products of a few tokens: neurons that are off for all of them are not read.

use super::{GROUP, Output, QuantizedRows, TILE, four_rows, tile_bytes, with_bits};
use crate::activations::{BATCH_TOKENS, Quantized, Vectors};
use crate::format::LANES;
use crate::isa::{Arch, multiversion};
use crate::memory::prefetch;
use std::ops::Range;

/// Tiles whose sums one walk over the neurons keeps, for all tokens together: 4,096 outputs.
const TILES_AT_ONCE: usize = 64;

/// In whole cache lines.
#[repr(align(64))]
struct Totals([[f32; TILE]; TILES_AT_ONCE]);

multiversion! {
    /// Sums the active neurons' rows, group by group.
    pub(super) fn forward(w: &QuantizedRows, o: &Quantized, tiles: Range<usize>, y: &Output) = forward_body;
}

#[inline(always)]
fn forward_body<A: Arch>(w: &QuantizedRows, o: &Quantized, tiles: Range<usize>, y: &Output) {
    let o = o.vectors();
    if o.tokens == 0 {
        return;
    }
    let at_once = TILES_AT_ONCE / o.tokens;
    for first in tiles.clone().step_by(at_once) {
        let tiles = first..tiles.end.min(first + at_once);
        with_bits!(w.bits, B => {
            if o.tokens == 1 {
                forward_bits::<A, B, true>(w, o, tiles, y);
            } else {
                forward_bits::<A, B, false>(w, o, tiles, y);
            }
        });
    }
}

#[inline(always)]
fn forward_bits<A: Arch, const BITS: usize, const ONE: bool>(
    w: &QuantizedRows,
    o: Vectors,
    tiles: Range<usize>,
    y: &Output,
) {
    let tokens = if ONE { 1 } else { o.tokens };
    let mut totals = Totals([[0.0; TILE]; TILES_AT_ONCE]);
    let totals = &mut totals.0[..tiles.len() * tokens];
    // SAFETY: `A` is the instruction set this body is compiled for.
    let mut weights = unsafe { [[A::no_bytes(); 4]; GROUP / 4] };
    let mut walk = Walk::new::<BITS>(w, o, tokens, &tiles);
    while let Some(group) = walk.next() {
        let next = walk.group();
        for (index, totals) in totals.chunks_exact_mut(tokens).enumerate() {
            let tile = tiles.start + index;
            if let Some(next) = next {
                w.prefetch_scales(next, tile);
            }
            // SAFETY: the group's rows hold all of these tiles; `A` is as above.
            unsafe {
                if !ONE {
                    group.read::<A, BITS>(index, &mut weights);
                }
                add_group::<A, BITS, ONE>(w, o, &group, index, tile, &weights, totals);
            }
        }
    }
    for (tile, totals) in tiles.zip(totals.chunks_exact(tokens)) {
        for (token, totals) in totals.iter().enumerate() {
            // SAFETY: a tile belongs to one thread.
            unsafe { y.store(token, tile * TILE, totals) };
        }
    }
}

/// Active neurons that share scales.
struct Group {
    index: usize,
    /// Rows of the neurons, from the first tile on; what is missing of the last four repeats a row.
    rows: [*const u8; GROUP],
    /// Outputs of the neurons for each token, 0 for what is missing.
    factors: [[u8; GROUP]; BATCH_TOKENS - 1],
    count: usize,
}

/// A walk over the active neurons, whose rows are asked for ahead.
struct Walk<'a> {
    w: &'a QuantizedRows,
    o: Vectors<'a>,
    tokens: usize,
    /// Of a row: the tiles that are summed.
    bytes: Range<usize>,
    /// How many neurons ahead rows are asked for.
    distance: usize,
    /// Neurons that are done.
    done: usize,
}

impl<'a> Walk<'a> {
    #[inline(always)]
    fn new<const BITS: usize>(
        w: &'a QuantizedRows,
        o: Vectors<'a>,
        tokens: usize,
        tiles: &Range<usize>,
    ) -> Self {
        let bytes = tiles.start * tile_bytes(BITS)..tiles.end * tile_bytes(BITS);
        // Scattered rows are asked for nearer to their use: what lies between them is fetched too, and
        // pushes them out again.
        let distance = if 2 * o.active.len() > w.neurons { GROUP / 2 } else { GROUP / 4 };
        let q = w.q.view();
        for &neuron in o.active.iter().take(distance) {
            prefetch(&q.row(neuron as usize)[bytes.clone()]);
        }
        Self { w, o, tokens, bytes, distance, done: 0 }
    }

    /// The group that comes next.
    #[inline(always)]
    fn group(&self) -> Option<usize> {
        self.o.active.get(self.done).map(|&neuron| neuron as usize / self.w.group)
    }

    #[inline(always)]
    fn next(&mut self) -> Option<Group> {
        let index = self.group()?;
        let (o, q) = (self.o, self.w.q.view());
        let (mut rows, mut count) = ([std::ptr::null(); GROUP], 0);
        let mut factors = [[0; GROUP]; BATCH_TOKENS - 1];
        while self.group() == Some(index) {
            let neuron = o.active[self.done] as usize;
            rows[count] = q.row(neuron)[self.bytes.clone()].as_ptr();
            for (token, factors) in factors[..self.tokens].iter_mut().enumerate() {
                factors[count] = o.q[token * o.places * self.w.group + neuron];
            }
            (count, self.done) = (count + 1, self.done + 1);
            if let Some(&ahead) = o.active.get(self.done + self.distance) {
                prefetch(&q.row(ahead as usize)[self.bytes.clone()]);
            }
        }
        let last = rows[count - 1];
        rows[count..count.next_multiple_of(4)].fill(last);
        Some(Group { index, rows, factors, count })
    }
}

impl Group {
    /// The weights of a tile of four neurons.
    ///
    /// # Safety
    /// The rows must have the tile, which is number `tile` of those that are summed.
    #[inline(always)]
    unsafe fn four<A: Arch, const BITS: usize>(&self, four: usize, tile: usize) -> [A::Bytes; 4] {
        let at = tile * tile_bytes(BITS);
        // SAFETY: passed on to the caller.
        unsafe {
            four_rows::<A, BITS>([
                self.rows[four].add(at),
                self.rows[four + 1].add(at),
                self.rows[four + 2].add(at),
                self.rows[four + 3].add(at),
            ])
        }
    }

    /// The weights of a tile of all neurons, four by four.
    ///
    /// # Safety
    /// As [`Self::four`].
    #[inline(always)]
    unsafe fn read<A: Arch, const BITS: usize>(
        &self,
        tile: usize,
        out: &mut [[A::Bytes; 4]; GROUP / 4],
    ) {
        for four in (0..self.count).step_by(4) {
            // SAFETY: passed on to the caller.
            out[four / 4] = unsafe { self.four::<A, BITS>(four, tile) };
        }
    }
}

/// Adds the group's neurons to every token's outputs of a tile, number `index` of those that are
/// summed. Several tokens share the `weights` that [`Group::read`] has written.
#[inline(always)]
unsafe fn add_group<A: Arch, const BITS: usize, const ONE: bool>(
    w: &QuantizedRows,
    o: Vectors,
    group: &Group,
    index: usize,
    tile: usize,
    weights: &[[A::Bytes; 4]; GROUP / 4],
    totals: &mut [[f32; TILE]],
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let scales = |q: usize| w.scales::<A>(group.index, tile * 4 + q);
        let mut shared = [(A::splat(0.0), A::splat(0.0)); 4];
        if !ONE {
            for q in 0..4 {
                shared[q] = scales(q);
            }
        }
        for (token, totals) in totals.iter_mut().enumerate() {
            let factors = group.factors[token].as_ptr();
            let (mut ints, mut sums) = ([A::no_ints(); 4], [A::no_sums(); 4]);
            for four in (0..group.count).step_by(4) {
                let parts =
                    if ONE { group.four::<A, BITS>(four, index) } else { weights[four / 4] };
                for q in 0..4 {
                    sums[q] = A::dot_splat(BITS, sums[q], parts[q], factors.add(four));
                }
                if (four / 4 + 1) % A::room(BITS) == 0 || four + 4 >= group.count {
                    for q in 0..4 {
                        ints[q] = A::take(BITS, ints[q], sums[q]);
                        sums[q] = A::no_sums();
                    }
                }
            }
            let place = token * o.places + group.index;
            let (scale, sum) = (A::splat(o.scales[place]), A::splat(o.sums[place]));
            for q in 0..4 {
                let (d, m) = if ONE { scales(q) } else { shared[q] };
                let total = totals.as_mut_ptr().add(q * LANES);
                let part = A::fma(A::to_floats(ints[q]), A::mul(d, scale), A::floats(total));
                A::store(A::fma(m, sum, part), total);
            }
        }
    }
}
