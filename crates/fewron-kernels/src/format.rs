//! How a quantised row lies in memory once it is packed for the kernels.
//!
//! A packed row is cut into groups of sixteen blocks, one block in each 32-bit lane of a vector. A
//! block is `SUB` elements that share a scale. Vector `j` of a group holds elements `4j … 4j + 3` of
//! every block, so that a chain of `SUB / 4` integer dot products leaves the sum of a whole block in
//! each lane. The last group of a row may have fewer lanes. A group's bytes:
//!
//! 1. scales: in half precision, with offsets behind them where the format has some; for the K types
//!    a signed byte for each block, then one scale in half precision for 256 elements (both also for
//!    offsets);
//! 2. the low four bits of all elements, two vectors folded into one (`j` and `j + SUB / 8`), or whole
//!    bytes;
//! 3. each higher bit as a plane of its own, one bit for each element, vector by vector.
//!
//! A *split* matrix keeps the high four bits of its elements in its rows and the low bits, laid out the
//! same way, in rows of their own: the high bits alone make an approximation that reads half the bytes.
//!
//! Nothing is lost or gained: a packed row has the values and, up to padding to whole bytes, the size
//! of the file's row.

use crate::dtype::DType;
use crate::isa::Arch;
use crate::scalar::half;

/// Lanes of a full group.
pub(crate) const LANES: usize = 16;

/// A block format's numbers. Elements are `d·q + m` with unsigned `q`.
pub(crate) trait Format {
    /// Bits of an element.
    const BITS: usize;
    /// Elements that share a scale.
    const SUB: usize;
    /// Whether offsets are stored; else `m = −ZERO·d`.
    const OFFSETS: bool;
    /// The value of `q` that stands for 0.
    const ZERO: f32;
    /// Whether scales have two levels.
    const SUPER: bool;
    /// Low bits that are kept apart.
    const SPLIT: usize;
    /// What scales are multiplied by.
    const FACTOR: f32;

    /// Vectors of a group.
    const VECTORS: usize = Self::SUB / 4;
}

macro_rules! formats {
    ($($name:ident: $bits:literal bits, $split:literal apart, $sub:literal, offsets $offsets:literal, zero $zero:literal, super $super:literal, factor $factor:literal;)*) => {
        $(
            pub(crate) struct $name;

            impl Format for $name {
                const BITS: usize = $bits;
                const SUB: usize = $sub;
                const OFFSETS: bool = $offsets;
                const ZERO: f32 = $zero;
                const SUPER: bool = $super;
                const SPLIT: usize = $split;
                const FACTOR: f32 = $factor;
            }
        )*
    };
}

formats! {
    Q40: 4 bits, 0 apart, 32, offsets false, zero 8.0, super false, factor 1.0;
    Q41: 4 bits, 0 apart, 32, offsets true, zero 0.0, super false, factor 1.0;
    Q50: 5 bits, 0 apart, 32, offsets false, zero 16.0, super false, factor 1.0;
    Q51: 5 bits, 0 apart, 32, offsets true, zero 0.0, super false, factor 1.0;
    Q80: 8 bits, 0 apart, 32, offsets false, zero 128.0, super false, factor 1.0;
    Q2K: 2 bits, 0 apart, 16, offsets true, zero 0.0, super true, factor 1.0;
    Q3K: 3 bits, 0 apart, 16, offsets false, zero 4.0, super true, factor 1.0;
    Q4K: 4 bits, 0 apart, 32, offsets true, zero 0.0, super true, factor 1.0;
    Q5K: 5 bits, 0 apart, 32, offsets true, zero 0.0, super true, factor 1.0;
    Q6K: 6 bits, 0 apart, 16, offsets false, zero 32.0, super true, factor 1.0;
    Q80Split: 8 bits, 4 apart, 32, offsets false, zero 128.0, super false, factor 1.0;
    Q6KSplit: 6 bits, 2 apart, 16, offsets false, zero 32.0, super true, factor 1.0;
    // The low bits replaced by their mean: (128 - 7.5) / 16 and (32 - 1.5) / 4.
    Q80High: 4 bits, 0 apart, 32, offsets false, zero 7.531_25, super false, factor 16.0;
    Q6KHigh: 4 bits, 0 apart, 16, offsets false, zero 7.625, super true, factor 4.0;
}

/// What a packed matrix holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A type of the file.
    Whole(DType),
    /// The same with the low bits apart: Q8_0 or Q6_K.
    Split(DType),
    /// The high bits of a split matrix.
    High(DType),
}

/// Runs an expression with `$F` standing for the format of a kind.
macro_rules! with_format {
    ($kind:expr, $F:ident => $body:expr) => {{
        use $crate::dtype::DType;
        use $crate::format::Kind::*;
        match $kind {
            Whole(DType::Q4_0) => {
                type $F = $crate::format::Q40;
                $body
            }
            Whole(DType::Q4_1) => {
                type $F = $crate::format::Q41;
                $body
            }
            Whole(DType::Q5_0) => {
                type $F = $crate::format::Q50;
                $body
            }
            Whole(DType::Q5_1) => {
                type $F = $crate::format::Q51;
                $body
            }
            Whole(DType::Q8_0) => {
                type $F = $crate::format::Q80;
                $body
            }
            Whole(DType::Q2_K) => {
                type $F = $crate::format::Q2K;
                $body
            }
            Whole(DType::Q3_K) => {
                type $F = $crate::format::Q3K;
                $body
            }
            Whole(DType::Q4_K) => {
                type $F = $crate::format::Q4K;
                $body
            }
            Whole(DType::Q5_K) => {
                type $F = $crate::format::Q5K;
                $body
            }
            Whole(DType::Q6_K) => {
                type $F = $crate::format::Q6K;
                $body
            }
            Split(DType::Q8_0) => {
                type $F = $crate::format::Q80Split;
                $body
            }
            Split(DType::Q6_K) => {
                type $F = $crate::format::Q6KSplit;
                $body
            }
            High(DType::Q8_0) => {
                type $F = $crate::format::Q80High;
                $body
            }
            High(DType::Q6_K) => {
                type $F = $crate::format::Q6KHigh;
                $body
            }
            _ => unreachable!("no packed form"),
        }
    }};
}
pub(crate) use with_format;

/// Elements that share a scale in a quantised type.
pub(crate) fn sub(dtype: DType) -> usize {
    with_format!(Kind::Whole(dtype), F => F::SUB)
}

/// The value of `q` that stands for 0 in a quantised type without offsets: a power of two.
pub(crate) fn zero(dtype: DType) -> Option<f32> {
    with_format!(Kind::Whole(dtype), F => (!F::OFFSETS).then_some(F::ZERO))
}

/// Superblocks of 256 elements in a group.
#[inline(always)]
const fn supers<F: Format>(lanes: usize) -> usize {
    lanes * F::SUB / 256
}

/// Bytes of a group's scales.
#[inline(always)]
pub(crate) const fn scale_bytes<F: Format>(lanes: usize) -> usize {
    let of_one = if F::SUPER { lanes + 2 * supers::<F>(lanes) } else { 2 * lanes };
    if F::OFFSETS { 2 * of_one } else { of_one }
}

/// Bytes of one bit of a vector.
#[inline(always)]
const fn plane_bytes(lanes: usize) -> usize {
    lanes.div_ceil(2)
}

/// Bytes of a group's elements of `bits` bits.
#[inline(always)]
const fn element_bytes(bits: usize, vectors: usize, lanes: usize) -> usize {
    let whole = match bits {
        8 => vectors,
        4..8 => vectors / 2,
        _ => 0,
    };
    whole * lanes * 4 + bits % 4 * vectors * plane_bytes(lanes)
}

/// Bytes of a group.
#[inline(always)]
pub(crate) const fn group_bytes<F: Format>(lanes: usize) -> usize {
    scale_bytes::<F>(lanes) + element_bytes(F::BITS - F::SPLIT, F::VECTORS, lanes)
}

/// Bytes of a group's low bits, if they are kept apart.
#[inline(always)]
pub(crate) const fn low_bytes<F: Format>(lanes: usize) -> usize {
    element_bytes(F::SPLIT, F::VECTORS, lanes)
}

/// Writes a group whose elements, block after block, are `q`; `low` gets the bits kept apart.
pub(crate) fn write_group<F: Format>(
    lanes: usize,
    q: &[u8],
    scales: &Scales,
    mut out: &mut [u8],
    low: &mut [u8],
) {
    for part in [scales.d, scales.m, scales.d_super, scales.m_super] {
        let (head, rest) = out.split_at_mut(part.len());
        head.copy_from_slice(part);
        out = rest;
    }
    write_elements(F::BITS - F::SPLIT, F::VECTORS, lanes, out, |at| q[at] >> F::SPLIT);
    let mask = (1u8 << F::SPLIT) - 1;
    write_elements(F::SPLIT, F::VECTORS, lanes, low, |at| q[at] & mask);
}

/// Writes elements of `bits` bits; `element` gives them by index.
fn write_elements(
    bits: usize,
    vectors: usize,
    lanes: usize,
    out: &mut [u8],
    element: impl Fn(usize) -> u8,
) {
    // Byte `at` of vector `j`.
    let place = |j: usize, at: usize| at / 4 * (4 * vectors) + 4 * j + at % 4;
    let planes = bits % 4;
    let (whole, rest) = out
        .split_at_mut(element_bytes(bits, vectors, lanes) - planes * vectors * plane_bytes(lanes));
    for (j, vector) in whole.chunks_exact_mut(lanes * 4).enumerate() {
        for (at, byte) in vector.iter_mut().enumerate() {
            *byte = element(place(j, at));
            if bits < 8 {
                *byte = (*byte & 15) | (element(place(j + vectors / 2, at)) << 4);
            }
        }
    }
    let first = bits - planes;
    for (index, plane) in rest.chunks_exact_mut(plane_bytes(lanes)).enumerate() {
        let (j, bit) = (index / planes, first + index % planes);
        plane.fill(0);
        for at in 0..lanes * 4 {
            plane[at / 8] |= ((element(place(j, at)) >> bit) & 1) << (at % 8);
        }
    }
}

/// A group's scales as they are stored; unused parts are empty.
pub(crate) struct Scales<'a> {
    pub(crate) d: &'a [u8],
    pub(crate) m: &'a [u8],
    pub(crate) d_super: &'a [u8],
    pub(crate) m_super: &'a [u8],
}

/// Scales and offsets of a group's blocks; zeros in lanes that it does not have.
///
/// # Safety
/// `group` must point to a group of this format and number of lanes.
#[inline(always)]
pub(crate) unsafe fn scales<A: Arch, F: Format, const FULL: bool>(
    group: *const u8,
    lanes: usize,
) -> (A::Floats, A::Floats) {
    // SAFETY: all reads stay inside the group's scales.
    unsafe {
        if F::SUPER {
            let behind = group.add(if F::OFFSETS { 2 * lanes } else { lanes });
            let supers = supers::<F>(lanes);
            let d = A::mul(level::<A>(behind, supers, F::FACTOR), A::small_ints(group, lanes));
            if F::OFFSETS {
                let m = level::<A>(behind.add(2 * supers), supers, -1.0);
                (d, A::mul(m, A::small_ints(group.add(lanes), lanes)))
            } else {
                (d, A::mul(d, A::splat(-F::ZERO)))
            }
        } else if FULL {
            let d = scaled::<A, F>(A::halves(group));
            (
                d,
                if F::OFFSETS {
                    A::halves(group.add(2 * LANES))
                } else {
                    A::mul(d, A::splat(-F::ZERO))
                },
            )
        } else {
            let d = scaled::<A, F>(A::halves_part(group, lanes));
            let m = if F::OFFSETS {
                A::halves_part(group.add(2 * lanes), lanes)
            } else {
                A::mul(d, A::splat(-F::ZERO))
            };
            (d, m)
        }
    }
}

#[inline(always)]
unsafe fn scaled<A: Arch, F: Format>(d: A::Floats) -> A::Floats {
    // SAFETY: passed on to the caller.
    unsafe { if F::FACTOR == 1.0 { d } else { A::mul(d, A::splat(F::FACTOR)) } }
}

/// The scales of a group's one or two superblocks, in the lanes of their blocks.
#[inline(always)]
unsafe fn level<A: Arch>(at: *const u8, supers: usize, sign: f32) -> A::Floats {
    // SAFETY: the caller's pointer is valid for the scales of the superblocks.
    unsafe {
        let first = sign * half(at);
        if supers == 1 { A::splat(first) } else { A::splat_two(first, sign * half(at.add(2))) }
    }
}

/// Where a group lies, or a row.
#[derive(Clone, Copy)]
pub(crate) struct At {
    /// Scales and elements.
    pub(crate) main: *const u8,
    /// Low bits, if they are kept apart.
    pub(crate) low: *const u8,
}

impl At {
    /// The group behind one of `lanes` lanes.
    ///
    /// # Safety
    /// There must be one, or the row must end there.
    #[inline(always)]
    pub(crate) unsafe fn next<F: Format>(self, lanes: usize) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            let low = if F::SPLIT > 0 { self.low.add(low_bytes::<F>(lanes)) } else { self.low };
            Self { main: self.main.add(group_bytes::<F>(lanes)), low }
        }
    }

    /// What lies behind `groups` full groups.
    ///
    /// # Safety
    /// As [`Self::next`].
    #[inline(always)]
    pub(crate) unsafe fn skip<F: Format>(self, groups: usize) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            Self {
                main: self.main.add(groups * group_bytes::<F>(LANES)),
                low: self.low.add(if F::SPLIT > 0 { groups * low_bytes::<F>(LANES) } else { 0 }),
            }
        }
    }
}

/// The elements of a group, as `F::VECTORS` vectors; the rest of the array is unspecified. Lanes that
/// the group does not have hold anything.
///
/// # Safety
/// There must be a group with 8 readable bytes behind it.
#[inline(always)]
pub(crate) unsafe fn expand<A: Arch, F: Format, const FULL: bool>(
    group: At,
    lanes: usize,
) -> [A::Bytes; 8] {
    // SAFETY: the reads stay inside the group, but for the last plane's word.
    unsafe {
        let main = group.main.add(scale_bytes::<F>(lanes));
        let mut out = elements::<A, FULL>(F::BITS - F::SPLIT, F::VECTORS, main, lanes);
        if F::SPLIT > 0 {
            let low = elements::<A, FULL>(F::SPLIT, F::VECTORS, group.low, lanes);
            for j in 0..F::VECTORS {
                out[j] = A::join(out[j], low[j], F::SPLIT);
            }
        }
        out
    }
}

/// A group's elements of `bits` bits.
#[inline(always)]
unsafe fn elements<A: Arch, const FULL: bool>(
    bits: usize,
    vectors: usize,
    from: *const u8,
    lanes: usize,
) -> [A::Bytes; 8] {
    // SAFETY: passed on to the caller.
    unsafe {
        let width = if FULL { 4 * LANES } else { 4 * lanes };
        let mut out = [A::no_bytes(); 8];
        let mut plane = from;
        if bits == 8 {
            for j in 0..vectors {
                out[j] = read::<A, FULL>(from.add(j * width), lanes);
            }
        } else if bits >= 4 {
            for j in 0..vectors / 2 {
                let folded = read::<A, FULL>(from.add(j * width), lanes);
                out[j] = A::low(folded);
                out[j + vectors / 2] = A::high(folded);
            }
            plane = from.add(vectors / 2 * width);
        }
        let (planes, first) = (bits % 4, bits - bits % 4);
        let step = if FULL { 8 } else { plane_bytes(lanes) };
        for j in 0..vectors {
            for bit in 0..planes {
                let mask = u64::from_le(plane.cast::<u64>().read_unaligned());
                out[j] = A::add_bits(out[j], mask, 1 << (first + bit));
                plane = plane.add(step);
            }
        }
        out
    }
}

/// Whether the elements of a group of `lanes` lanes are whole vectors when read without gaps.
#[inline(always)]
pub(crate) const fn is_compact<F: Format>(lanes: usize) -> bool {
    F::SUB == 32 && F::BITS >= 4 && matches!(lanes, 2 | 4 | 8)
}

/// The elements of a compact group without gaps, as `lanes / 2` vectors: steps of four elements follow
/// each other, `16 / lanes` of them in each vector. The rest of the array is unspecified.
///
/// # Safety
/// There must be a group, and it must be compact.
#[inline(always)]
pub(crate) unsafe fn expand_compact<A: Arch, F: Format>(group: At, lanes: usize) -> [A::Bytes; 8] {
    // SAFETY: the reads stay inside the group.
    unsafe {
        let main = group.main.add(scale_bytes::<F>(lanes));
        let mut out = compact_elements::<A>(F::BITS - F::SPLIT, main, lanes);
        if F::SPLIT > 0 {
            let low = compact_elements::<A>(F::SPLIT, group.low, lanes);
            for v in 0..4 {
                out[v] = A::join(out[v], low[v], F::SPLIT);
            }
        }
        out
    }
}

#[inline(always)]
unsafe fn compact_elements<A: Arch>(bits: usize, from: *const u8, lanes: usize) -> [A::Bytes; 8] {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut out = [A::no_bytes(); 8];
        if bits == 8 {
            for v in 0..lanes / 2 {
                out[v] = A::bytes(from.add(v * 64));
            }
            return out;
        }
        if lanes == 2 {
            out[0] = A::nibbles(from);
        } else {
            for v in 0..lanes / 4 {
                let folded = A::bytes(from.add(v * 64));
                out[v] = A::low(folded);
                out[v + lanes / 4] = A::high(folded);
            }
        }
        if bits == 5 {
            for v in 0..lanes / 2 {
                let mask = from.add(16 * lanes + 8 * v).cast::<u64>().read_unaligned();
                out[v] = A::add_bits(out[v], u64::from_le(mask), 16);
            }
        }
        out
    }
}

#[inline(always)]
unsafe fn read<A: Arch, const FULL: bool>(from: *const u8, lanes: usize) -> A::Bytes {
    // SAFETY: passed on to the caller.
    unsafe { if FULL { A::bytes(from) } else { A::bytes_part(from, lanes) } }
}
