//! Products of sixteen weight rows at a time with a batch of inputs.

use crate::activations::{Order, Quantized};
use crate::format::LANES;
use crate::isa::{Arch, multiversion};

/// Tokens from which on it pays to lay rows side by side.
pub(crate) const PANEL_TOKENS: usize = 4;

/// Sixteen weight rows side by side, one in each lane.
///
/// For each block of `sub` inputs: `sub / 4` vectors of four consecutive elements of each row, and the
/// rows' scales and offsets.
#[derive(Default)]
pub(crate) struct Panel {
    blocks: usize,
    sub: usize,
    /// Bits of an element.
    bits: usize,
    q: Vec<u8>,
    d: Vec<f32>,
    m: Vec<f32>,
}

impl Panel {
    /// Makes room for `places` blocks of elements of `bits` bits, `blocks` of them in use.
    pub(crate) fn resize(&mut self, places: usize, blocks: usize, sub: usize, bits: usize) {
        (self.blocks, self.sub, self.bits) = (blocks, sub, bits);
        self.q.resize(places * sub * LANES, 0);
        self.d.resize(places * LANES, 0.0);
        self.m.resize(places * LANES, 0.0);
    }

    /// Where vector `j` of a block goes: 64 bytes.
    #[inline(always)]
    pub(crate) fn vector(&mut self, block: usize, j: usize) -> *mut u8 {
        self.q[block * self.sub * LANES + j * 64..][..64].as_mut_ptr()
    }

    /// Where a block's scales go.
    #[inline(always)]
    pub(crate) fn scale(&mut self, block: usize) -> *mut f32 {
        self.d[block * LANES..][..LANES].as_mut_ptr()
    }

    /// Where a block's offsets go.
    #[inline(always)]
    pub(crate) fn offset(&mut self, block: usize) -> *mut f32 {
        self.m[block * LANES..][..LANES].as_mut_ptr()
    }
}

multiversion! {
    /// `out[t, i] = row i · x[t]` for every token; `out` has shape `[tokens, 16]`.
    ///
    /// The order of operations is that of the products of single tokens: for inputs in
    /// [`Order::Lanes`], lane by lane over the groups, then lanes from first to last; for inputs in
    /// [`Order::Plain`], blocks from first to last.
    pub(crate) fn products(panel: &Panel, x: &Quantized, out: &mut [f32]) = products_body;
}

#[inline(always)]
fn products_body<A: Arch>(panel: &Panel, x: &Quantized, out: &mut [f32]) {
    assert!(out.len() == x.tokens() * LANES && x.layout().sub == panel.sub);
    assert!(x.cols() == panel.blocks * panel.sub);
    let plain = x.layout().order == Order::Plain;
    match (panel.sub, plain) {
        (32, false) => all_bits::<A, 32, false>(panel, x, out),
        (32, true) => all_bits::<A, 32, true>(panel, x, out),
        (16, false) => all_bits::<A, 16, false>(panel, x, out),
        (16, true) => all_bits::<A, 16, true>(panel, x, out),
        _ => unreachable!("blocks have 16 or 32 elements"),
    }
}

#[inline(always)]
fn all_bits<A: Arch, const SUB: usize, const PLAIN: bool>(
    panel: &Panel,
    x: &Quantized,
    out: &mut [f32],
) {
    match panel.bits {
        0..=4 => all_tokens::<A, 4, SUB, PLAIN>(panel, x, out),
        5 => all_tokens::<A, 5, SUB, PLAIN>(panel, x, out),
        6 => all_tokens::<A, 6, SUB, PLAIN>(panel, x, out),
        _ => all_tokens::<A, 8, SUB, PLAIN>(panel, x, out),
    }
}

#[inline(always)]
fn all_tokens<A: Arch, const BITS: usize, const SUB: usize, const PLAIN: bool>(
    panel: &Panel,
    x: &Quantized,
    out: &mut [f32],
) {
    let mut token = 0;
    macro_rules! tiles {
        ($($n:literal),*) => {
            $(
                while $n <= A::tile(BITS) && x.tokens() - token >= $n {
                    let out = &mut out[token * LANES..][..$n * LANES];
                    tile::<A, $n, BITS, SUB, PLAIN>(panel, x, token, out);
                    token += $n;
                }
            )*
        };
    }
    tiles!(8, 4, 2, 1);
}

#[inline(always)]
fn tile<A: Arch, const N: usize, const BITS: usize, const SUB: usize, const PLAIN: bool>(
    panel: &Panel,
    x: &Quantized,
    token: usize,
    out: &mut [f32],
) {
    let first = x.token(token);
    let places = first.scales.len();
    assert!(places >= panel.blocks && token + N <= x.tokens() && out.len() == N * LANES);
    let lanes = if PLAIN { 1 } else { LANES };
    // SAFETY: inputs of consecutive tokens follow each other, with a place for every block; so has
    // the panel; `A` is the instruction set this body is compiled for.
    unsafe {
        let (q, scale, sum) = (first.q.as_ptr(), first.scales.as_ptr(), first.sums.as_ptr());
        let mut totals = [A::splat(0.0); N];
        for lane in 0..lanes.min(panel.blocks) {
            let mut sums = [A::splat(0.0); N];
            let mut block = lane;
            while block < panel.blocks {
                let w = panel.q.as_ptr().add(block * SUB * LANES);
                let (input, step) = if PLAIN {
                    (q.add(block * SUB), 4)
                } else {
                    let group = block - lane;
                    (q.add(group * SUB + lane * 4), 4 * LANES.min(panel.blocks - group))
                };
                let mut ints = [A::no_ints(); N];
                let mut products = [A::no_sums(); N];
                for j in 0..SUB / 4 {
                    let w = A::bytes(w.add(j * 64));
                    for n in 0..N {
                        let input = input.add(n * places * SUB + j * step);
                        products[n] = A::dot_splat(BITS, products[n], w, input);
                    }
                    if (j + 1) % A::room(BITS) == 0 || j + 1 == SUB / 4 {
                        for n in 0..N {
                            ints[n] = A::take(BITS, ints[n], products[n]);
                            products[n] = A::no_sums();
                        }
                    }
                }
                let d = A::floats(panel.d.as_ptr().add(block * LANES));
                let m = A::floats(panel.m.as_ptr().add(block * LANES));
                for n in 0..N {
                    let scale = A::splat(*scale.add(n * places + block));
                    let sum = A::splat(*sum.add(n * places + block));
                    let part = A::fma(A::to_floats(ints[n]), A::mul(d, scale), sums[n]);
                    sums[n] = A::fma(m, sum, part);
                }
                block += lanes;
            }
            for n in 0..N {
                totals[n] = A::add(totals[n], sums[n]);
            }
        }
        for n in 0..N {
            A::store(totals[n], out.as_mut_ptr().add(n * LANES));
        }
    }
}
