//! Portable vectors of sixteen lanes: plain arrays, left to the compiler's vectoriser.

use crate::isa::Arch;
use crate::unpack::f16_to_f32;

pub(crate) struct Scalar;

/// Reads a number in half precision.
#[inline(always)]
pub(crate) unsafe fn half(from: *const u8) -> f32 {
    // SAFETY: the caller's pointer is valid for two bytes.
    f16_to_f32(u16::from_le_bytes(unsafe { from.cast::<[u8; 2]>().read() }))
}

impl Arch for Scalar {
    type Bytes = [u8; 64];
    type Ints = [i32; 16];
    type Sums = [i32; 16];
    type Floats = [f32; 16];

    const PARTS: usize = 1;

    fn room(_: usize) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    unsafe fn no_bytes() -> [u8; 64] {
        [0; 64]
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [u8; 64] {
        // SAFETY: the caller's pointer is valid for 64 bytes.
        unsafe { from.cast::<[u8; 64]>().read() }
    }

    #[inline(always)]
    unsafe fn bytes_part(from: *const u8, lanes: usize) -> [u8; 64] {
        let mut bytes = [0; 64];
        // SAFETY: the caller's pointer is valid for these lanes.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), lanes * 4) };
        bytes
    }

    #[inline(always)]
    unsafe fn store_bytes(bytes: [u8; 64], to: *mut u8) {
        // SAFETY: the caller's pointer is valid for 64 bytes.
        unsafe { to.cast::<[u8; 64]>().write(bytes) }
    }

    #[inline(always)]
    unsafe fn low(mut bytes: [u8; 64]) -> [u8; 64] {
        for byte in &mut bytes {
            *byte &= 15;
        }
        bytes
    }

    #[inline(always)]
    unsafe fn high(mut bytes: [u8; 64]) -> [u8; 64] {
        for byte in &mut bytes {
            *byte >>= 4;
        }
        bytes
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [u8; 64] {
        let mut bytes = [0; 64];
        for i in 0..32 {
            // SAFETY: the caller's pointer is valid for 32 bytes.
            let packed = unsafe { *from.add(i) };
            bytes[i] = packed & 15;
            bytes[i + 32] = packed >> 4;
        }
        bytes
    }

    #[inline(always)]
    unsafe fn add_bits(mut bytes: [u8; 64], mask: u64, bit: u8) -> [u8; 64] {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte += ((mask >> i) & 1) as u8 * bit;
        }
        bytes
    }

    #[inline(always)]
    unsafe fn join(mut high: [u8; 64], low: [u8; 64], bits: usize) -> [u8; 64] {
        for i in 0..64 {
            high[i] = (high[i] << bits) | low[i];
        }
        high
    }

    #[inline(always)]
    unsafe fn interleave(rows: [[u8; 64]; 4]) -> [[u8; 64]; 4] {
        let mut out = [[0; 64]; 4];
        for (q, out) in out.iter_mut().enumerate() {
            for lane in 0..16 {
                let byte = lane / 4 * 16 + 4 * q + lane % 4;
                for row in 0..4 {
                    out[lane * 4 + row] = rows[row][byte];
                }
            }
        }
        out
    }

    #[inline(always)]
    unsafe fn no_ints() -> [i32; 16] {
        [0; 16]
    }

    #[inline(always)]
    unsafe fn add_ints(mut a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        for lane in 0..16 {
            a[lane] += b[lane];
        }
        a
    }

    #[inline(always)]
    unsafe fn no_sums() -> [i32; 16] {
        [0; 16]
    }

    #[inline(always)]
    unsafe fn take(_: usize, ints: [i32; 16], sums: [i32; 16]) -> [i32; 16] {
        // SAFETY: portable code.
        unsafe { Self::add_ints(ints, sums) }
    }

    #[inline(always)]
    unsafe fn dot(_: usize, mut sum: [i32; 16], w: [u8; 64], a: [u8; 64]) -> [i32; 16] {
        for lane in 0..16 {
            for i in lane * 4..lane * 4 + 4 {
                sum[lane] += i32::from(w[i]) * i32::from(a[i] as i8);
            }
        }
        sum
    }

    #[inline(always)]
    unsafe fn dot_splat(_: usize, mut sum: [i32; 16], w: [u8; 64], a: *const u8) -> [i32; 16] {
        // SAFETY: the caller's pointer is valid for four bytes.
        let a = unsafe { a.cast::<[i8; 4]>().read() };
        for lane in 0..16 {
            for i in 0..4 {
                sum[lane] += i32::from(w[lane * 4 + i]) * i32::from(a[i]);
            }
        }
        sum
    }

    #[inline(always)]
    unsafe fn fold(mut ints: [i32; 16], lanes: usize) -> [i32; 16] {
        for lane in lanes..16 {
            ints[lane % lanes] += ints[lane];
        }
        ints
    }

    #[inline(always)]
    unsafe fn to_floats(ints: [i32; 16]) -> [f32; 16] {
        let mut out = [0.0; 16];
        for lane in 0..16 {
            out[lane] = ints[lane] as f32;
        }
        out
    }

    #[inline(always)]
    unsafe fn floats(from: *const f32) -> [f32; 16] {
        // SAFETY: the caller's pointer is valid for sixteen numbers.
        unsafe { from.cast::<[f32; 16]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(floats: [f32; 16], to: *mut f32) {
        // SAFETY: the caller's pointer is valid for sixteen numbers.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(floats) }
    }

    #[inline(always)]
    unsafe fn store_part<const PART: usize>(floats: Self::Floats, to: *mut f32) {
        // SAFETY: passed on to the caller; there is one part.
        unsafe { Self::store(floats, to) }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> [f32; 16] {
        // SAFETY: passed on to the caller.
        unsafe { Self::halves_part(from, 16) }
    }

    #[inline(always)]
    unsafe fn halves_part(from: *const u8, lanes: usize) -> [f32; 16] {
        let mut out = [0.0; 16];
        for (lane, out) in out.iter_mut().take(lanes).enumerate() {
            // SAFETY: the caller's pointer is valid for these lanes.
            *out = unsafe { half(from.add(2 * lane)) };
        }
        out
    }

    #[inline(always)]
    unsafe fn small_ints(from: *const u8, lanes: usize) -> [f32; 16] {
        let mut out = [0.0; 16];
        for (lane, out) in out.iter_mut().take(lanes).enumerate() {
            // SAFETY: the caller's pointer is valid for these lanes.
            *out = f32::from(unsafe { *from.add(lane) } as i8);
        }
        out
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 16] {
        [value; 16]
    }

    #[inline(always)]
    unsafe fn splat_two(first: f32, rest: f32) -> [f32; 16] {
        let mut out = [rest; 16];
        out[..8].fill(first);
        out
    }

    #[inline(always)]
    unsafe fn add(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for lane in 0..16 {
            a[lane] += b[lane];
        }
        a
    }

    #[inline(always)]
    unsafe fn mul(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for lane in 0..16 {
            a[lane] *= b[lane];
        }
        a
    }

    #[inline(always)]
    unsafe fn fma(mut a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        for lane in 0..16 {
            a[lane] = a[lane] * b[lane] + c[lane];
        }
        a
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, to: *mut u8, stride: usize) {
        for row in 0..16 {
            for col in 0..16 {
                // SAFETY: the caller's pointers are valid for both squares.
                unsafe {
                    let element = from.add(row * 64 + col * 4).cast::<[u8; 4]>().read();
                    to.add(col * stride + row * 4).cast::<[u8; 4]>().write(element);
                }
            }
        }
    }
}
