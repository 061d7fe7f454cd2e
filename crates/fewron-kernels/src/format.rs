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

    /// Vectors of a group.
    const VECTORS: usize = Self::SUB / 4;
    /// Vectors of folded nibbles.
    const FOLDED: usize = if Self::BITS >= 4 && Self::BITS < 8 { Self::VECTORS / 2 } else { 0 };
    /// Bits that are stored as planes.
    const PLANES: usize = Self::BITS % 4;
    /// Bit that the first plane stands for.
    const FIRST_PLANE: usize = if Self::FOLDED > 0 { 4 } else { 0 };
}

macro_rules! formats {
    ($($name:ident: $bits:literal bits, $sub:literal, offsets $offsets:literal, zero $zero:literal, super $super:literal;)*) => {
        $(
            pub(crate) struct $name;

            impl Format for $name {
                const BITS: usize = $bits;
                const SUB: usize = $sub;
                const OFFSETS: bool = $offsets;
                const ZERO: f32 = $zero;
                const SUPER: bool = $super;
            }
        )*
    };
}

formats! {
    Q40: 4 bits, 32, offsets false, zero 8.0, super false;
    Q41: 4 bits, 32, offsets true, zero 0.0, super false;
    Q50: 5 bits, 32, offsets false, zero 16.0, super false;
    Q51: 5 bits, 32, offsets true, zero 0.0, super false;
    Q80: 8 bits, 32, offsets false, zero 128.0, super false;
    Q2K: 2 bits, 16, offsets true, zero 0.0, super true;
    Q3K: 3 bits, 16, offsets false, zero 4.0, super true;
    Q4K: 4 bits, 32, offsets true, zero 0.0, super true;
    Q5K: 5 bits, 32, offsets true, zero 0.0, super true;
    Q6K: 6 bits, 16, offsets false, zero 32.0, super true;
}

/// Runs an expression with `$F` standing for the format of a quantised type.
macro_rules! with_format {
    ($dtype:expr, $F:ident => $body:expr) => {
        match $dtype {
            DType::Q4_0 => {
                type $F = $crate::format::Q40;
                $body
            }
            DType::Q4_1 => {
                type $F = $crate::format::Q41;
                $body
            }
            DType::Q5_0 => {
                type $F = $crate::format::Q50;
                $body
            }
            DType::Q5_1 => {
                type $F = $crate::format::Q51;
                $body
            }
            DType::Q8_0 => {
                type $F = $crate::format::Q80;
                $body
            }
            DType::Q2_K => {
                type $F = $crate::format::Q2K;
                $body
            }
            DType::Q3_K => {
                type $F = $crate::format::Q3K;
                $body
            }
            DType::Q4_K => {
                type $F = $crate::format::Q4K;
                $body
            }
            DType::Q5_K => {
                type $F = $crate::format::Q5K;
                $body
            }
            DType::Q6_K => {
                type $F = $crate::format::Q6K;
                $body
            }
            DType::F32 | DType::F16 | DType::Bf16 => unreachable!("float rows are not packed"),
        }
    };
}
pub(crate) use with_format;

/// Elements that share a scale in a quantised type.
pub(crate) fn sub(dtype: DType) -> usize {
    with_format!(dtype, F => F::SUB)
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

/// Bytes of a group.
#[inline(always)]
pub(crate) const fn group_bytes<F: Format>(lanes: usize) -> usize {
    let whole = if F::BITS == 8 { F::VECTORS } else { F::FOLDED };
    let planes = F::PLANES * F::VECTORS * plane_bytes(lanes);
    scale_bytes::<F>(lanes) + whole * lanes * 4 + planes
}

/// Writes a group: `q` are its elements, block after block, `d` and `m` its scales and offsets; for
/// two-level scales `d` and `m` hold the blocks' small integers and `d_super`, `m_super` the scales
/// that multiply them.
pub(crate) fn write_group<F: Format>(lanes: usize, q: &[u8], scales: &Scales, out: &mut [u8]) {
    let (mut out, planes) = out.split_at_mut(scale_bytes::<F>(lanes));
    let mut put = |bytes: &[u8]| {
        let (head, rest) = std::mem::take(&mut out).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        out = rest;
    };
    put(scales.d);
    put(scales.m);
    put(scales.d_super);
    put(scales.m_super);
    let element = |j: usize, lane: usize, i: usize| q[lane * F::SUB + 4 * j + i];
    let (whole, planes) =
        planes.split_at_mut(if F::BITS == 8 { F::VECTORS } else { F::FOLDED } * lanes * 4);
    for (j, vector) in whole.chunks_exact_mut(lanes * 4).enumerate() {
        for (at, byte) in vector.iter_mut().enumerate() {
            let (lane, i) = (at / 4, at % 4);
            *byte = if F::BITS == 8 {
                element(j, lane, i)
            } else {
                (element(j, lane, i) & 15) | (element(j + F::FOLDED, lane, i) << 4)
            };
        }
    }
    for (index, plane) in planes.chunks_exact_mut(plane_bytes(lanes)).enumerate() {
        let (j, bit) = (index / F::PLANES, F::FIRST_PLANE + index % F::PLANES);
        plane.fill(0);
        for at in 0..lanes * 4 {
            plane[at / 8] |= ((element(j, at / 4, at % 4) >> bit) & 1) << (at % 8);
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
            let d = A::mul(level::<A>(behind, supers, 1.0), A::small_ints(group, lanes));
            if F::OFFSETS {
                let m = level::<A>(behind.add(2 * supers), supers, -1.0);
                (d, A::mul(m, A::small_ints(group.add(lanes), lanes)))
            } else {
                (d, A::mul(d, A::splat(-F::ZERO)))
            }
        } else if FULL {
            let d = A::halves(group);
            (
                d,
                if F::OFFSETS {
                    A::halves(group.add(2 * LANES))
                } else {
                    A::mul(d, A::splat(-F::ZERO))
                },
            )
        } else {
            let d = A::halves_part(group, lanes);
            let m = if F::OFFSETS {
                A::halves_part(group.add(2 * lanes), lanes)
            } else {
                A::mul(d, A::splat(-F::ZERO))
            };
            (d, m)
        }
    }
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

/// The elements of a group, as `F::VECTORS` vectors; the rest of the array is unspecified. Lanes that
/// the group does not have hold anything.
///
/// # Safety
/// `planes` must point behind the scales of a group, and 8 bytes behind it must be readable.
#[inline(always)]
pub(crate) unsafe fn expand<A: Arch, F: Format, const FULL: bool>(
    planes: *const u8,
    lanes: usize,
) -> [A::Bytes; 8] {
    // SAFETY: reads stay inside the group, but for the last plane's word.
    unsafe {
        let width = if FULL { 4 * LANES } else { 4 * lanes };
        let mut out = [A::no_bytes(); 8];
        if F::BITS == 8 {
            for j in 0..F::VECTORS {
                out[j] = read::<A, FULL>(planes.add(j * width), lanes);
            }
            return out;
        }
        for j in 0..F::FOLDED {
            let folded = read::<A, FULL>(planes.add(j * width), lanes);
            out[j] = A::low(folded);
            out[j + F::FOLDED] = A::high(folded);
        }
        let mut plane = planes.add(F::FOLDED * width);
        let step = if FULL { 8 } else { plane_bytes(lanes) };
        for j in 0..F::VECTORS {
            for bit in 0..F::PLANES {
                let mask = u64::from_le(plane.cast::<u64>().read_unaligned());
                out[j] = A::add_bits(out[j], mask, 1 << (F::FIRST_PLANE + bit));
                plane = plane.add(step);
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
