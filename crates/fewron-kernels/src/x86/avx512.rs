//! Sixteen lanes as one 512-bit register.

use crate::isa::Arch;
use std::arch::x86_64::*;

pub(crate) struct Avx512Vnni;

/// A mask of the first `lanes` lanes.
#[inline(always)]
fn first(lanes: usize) -> __mmask16 {
    (0xffff_u32 >> (16 - lanes)) as __mmask16
}

// SAFETY of every block below: the caller promises the instruction set and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Arch for Avx512Vnni {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Sums = __m512i;
    type Floats = __m512;

    const PARTS: usize = 1;

    #[inline(always)]
    fn room(_: usize) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    unsafe fn no_bytes() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn bytes_part(from: *const u8, lanes: usize) -> __m512i {
        unsafe { _mm512_maskz_loadu_epi32(first(lanes), from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_bytes(bytes: __m512i, to: *mut u8) {
        unsafe { _mm512_storeu_si512(to.cast(), bytes) }
    }

    #[inline(always)]
    unsafe fn low(bytes: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn high(bytes: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> __m512i {
        unsafe {
            let both = _mm512_broadcast_i64x4(_mm256_loadu_si256(from.cast()));
            let shifted = _mm512_srlv_epi64(both, _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4));
            _mm512_and_si512(shifted, _mm512_set1_epi8(15))
        }
    }

    #[inline(always)]
    unsafe fn add_bits(bytes: __m512i, mask: u64, bit: u8) -> __m512i {
        unsafe { _mm512_mask_add_epi8(bytes, mask, bytes, _mm512_set1_epi8(bit as i8)) }
    }

    #[inline(always)]
    unsafe fn join(high: __m512i, low: __m512i, bits: usize) -> __m512i {
        unsafe {
            let shifted = _mm512_sll_epi16(high, _mm_cvtsi64_si128(bits as i64));
            _mm512_or_si512(shifted, low)
        }
    }

    #[inline(always)]
    unsafe fn interleave(rows: [__m512i; 4]) -> [__m512i; 4] {
        unsafe {
            let low_ab = _mm512_unpacklo_epi8(rows[0], rows[1]);
            let high_ab = _mm512_unpackhi_epi8(rows[0], rows[1]);
            let low_cd = _mm512_unpacklo_epi8(rows[2], rows[3]);
            let high_cd = _mm512_unpackhi_epi8(rows[2], rows[3]);
            [
                _mm512_unpacklo_epi16(low_ab, low_cd),
                _mm512_unpackhi_epi16(low_ab, low_cd),
                _mm512_unpacklo_epi16(high_ab, high_cd),
                _mm512_unpackhi_epi16(high_ab, high_cd),
            ]
        }
    }

    #[inline(always)]
    unsafe fn no_ints() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn add_ints(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn no_sums() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn take(_: usize, ints: __m512i, sums: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(ints, sums) }
    }

    #[inline(always)]
    unsafe fn dot(_: usize, sum: __m512i, w: __m512i, a: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, a) }
    }

    #[inline(always)]
    unsafe fn dot_splat(_: usize, sum: __m512i, w: __m512i, a: *const u8) -> __m512i {
        unsafe {
            let a = _mm512_set1_epi32(a.cast::<i32>().read_unaligned());
            _mm512_dpbusd_epi32(sum, w, a)
        }
    }

    #[inline(always)]
    unsafe fn fold(ints: __m512i, lanes: usize) -> __m512i {
        unsafe {
            let swapped = _mm512_shuffle_i64x2::<0x4e>(ints, ints);
            let mut sum = _mm512_add_epi32(ints, swapped);
            if lanes < 8 {
                sum = _mm512_add_epi32(sum, _mm512_shuffle_i64x2::<0xb1>(sum, sum));
            }
            if lanes < 4 {
                sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32::<0x4e>(sum));
            }
            sum
        }
    }

    #[inline(always)]
    unsafe fn to_floats(ints: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(ints) }
    }

    #[inline(always)]
    unsafe fn floats(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(floats: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, floats) }
    }

    #[inline(always)]
    unsafe fn store_part<const PART: usize>(floats: Self::Floats, to: *mut f32) {
        unsafe { Self::store(floats, to) }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn halves_part(from: *const u8, lanes: usize) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(lanes), from.cast())) }
    }

    #[inline(always)]
    unsafe fn small_ints(from: *const u8, lanes: usize) -> __m512 {
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(first(lanes), from.cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn splat_two(first: f32, rest: f32) -> __m512 {
        unsafe { _mm512_mask_mov_ps(_mm512_set1_ps(rest), 0x00ff, _mm512_set1_ps(first)) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    /// In two steps: squares of 4 × 4 inside 128-bit parts, then the 4 × 4 parts.
    #[inline(always)]
    unsafe fn transpose(from: *const u8, to: *mut u8, stride: usize) {
        unsafe {
            // quads[g][j], 128-bit part p: elements 4p + j of rows 4g … 4g + 3.
            let mut quads = [[_mm512_setzero_si512(); 4]; 4];
            for g in 0..4 {
                let rows = from.add(g * 256);
                let (a, b) = (Self::bytes(rows), Self::bytes(rows.add(64)));
                let (c, d) = (Self::bytes(rows.add(128)), Self::bytes(rows.add(192)));
                let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
                quads[g][0] = _mm512_unpacklo_epi64(ab, cd);
                quads[g][1] = _mm512_unpackhi_epi64(ab, cd);
                let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
                quads[g][2] = _mm512_unpacklo_epi64(ab, cd);
                quads[g][3] = _mm512_unpackhi_epi64(ab, cd);
            }
            for j in 0..4 {
                let low = _mm512_shuffle_i32x4::<0x44>(quads[0][j], quads[1][j]);
                let high = _mm512_shuffle_i32x4::<0xee>(quads[0][j], quads[1][j]);
                let low2 = _mm512_shuffle_i32x4::<0x44>(quads[2][j], quads[3][j]);
                let high2 = _mm512_shuffle_i32x4::<0xee>(quads[2][j], quads[3][j]);
                let to = to.add(j * stride);
                Self::store_bytes(_mm512_shuffle_i32x4::<0x88>(low, low2), to);
                Self::store_bytes(_mm512_shuffle_i32x4::<0xdd>(low, low2), to.add(4 * stride));
                Self::store_bytes(_mm512_shuffle_i32x4::<0x88>(high, high2), to.add(8 * stride));
                Self::store_bytes(_mm512_shuffle_i32x4::<0xdd>(high, high2), to.add(12 * stride));
            }
        }
    }
}
