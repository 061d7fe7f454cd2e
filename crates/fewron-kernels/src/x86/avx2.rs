//! Sixteen lanes as two 256-bit registers, with or without AVX-VNNI's dot product.

use crate::isa::Arch;
use std::arch::x86_64::*;

pub(crate) struct Avx2<const VNNI: bool>;

/// A register for each half of the lanes.
#[derive(Clone, Copy)]
pub(crate) struct Pair<T>(T, T);

/// Sums of one half of the lanes. With VNNI the first register holds them in 32 bits. Without, they
/// are pairs of sums in 16 bits, of low nibbles in the first and of high ones in the second; weights
/// of fewer than eight bits need the first alone.
type HalfSums = [__m256i; 2];

/// `sums += Σ w·a` in one half of the lanes.
#[inline(always)]
unsafe fn half_dot<const VNNI: bool>(
    bits: usize,
    sums: HalfSums,
    w: __m256i,
    a: __m256i,
) -> HalfSums {
    let [low_sums, high_sums] = sums;
    // SAFETY: the caller promises the instruction set. Sums stay in 16 bits: see `room`.
    unsafe {
        if VNNI {
            [_mm256_dpbusd_avx_epi32(low_sums, w, a), high_sums]
        } else if bits == 8 {
            let low = _mm256_and_si256(w, _mm256_set1_epi8(15));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(w), _mm256_set1_epi8(15));
            [
                _mm256_add_epi16(low_sums, _mm256_maddubs_epi16(low, a)),
                _mm256_add_epi16(high_sums, _mm256_maddubs_epi16(high, a)),
            ]
        } else {
            [_mm256_add_epi16(low_sums, _mm256_maddubs_epi16(w, a)), high_sums]
        }
    }
}

/// `ints + sums` in one half of the lanes.
#[inline(always)]
unsafe fn half_take<const VNNI: bool>(bits: usize, ints: __m256i, sums: HalfSums) -> __m256i {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        if VNNI {
            return _mm256_add_epi32(ints, sums[0]);
        }
        let mut ints = _mm256_add_epi32(ints, _mm256_madd_epi16(sums[0], _mm256_set1_epi16(1)));
        if bits == 8 {
            let high = _mm256_madd_epi16(sums[1], _mm256_set1_epi16(16));
            ints = _mm256_add_epi32(ints, high);
        }
        ints
    }
}

/// All bits of the first `lanes` lanes.
#[inline(always)]
unsafe fn first(lanes: usize) -> Pair<__m256i> {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        Pair(
            _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), numbers),
            _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32 - 8), numbers),
        )
    }
}

/// [`Arch::interleave`] of one half of the lanes.
#[inline(always)]
unsafe fn interleave_half([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let (low_ab, low_cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
        let (high_ab, high_cd) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
        [
            _mm256_unpacklo_epi16(low_ab, low_cd),
            _mm256_unpackhi_epi16(low_ab, low_cd),
            _mm256_unpacklo_epi16(high_ab, high_cd),
            _mm256_unpackhi_epi16(high_ab, high_cd),
        ]
    }
}

/// Transposes eight rows of eight elements; `from` rows are 64 bytes apart.
#[inline(always)]
unsafe fn transpose_eight(from: *const u8, to: *mut u8, stride: usize) {
    // SAFETY: the caller promises AVX2 and valid pointers.
    unsafe {
        // quads[g][j], 128-bit part p: elements 4p + j of rows 4g … 4g + 3.
        let mut quads = [[_mm256_setzero_si256(); 4]; 2];
        for g in 0..2 {
            let rows = from.add(g * 256);
            let a = _mm256_loadu_si256(rows.cast());
            let b = _mm256_loadu_si256(rows.add(64).cast());
            let c = _mm256_loadu_si256(rows.add(128).cast());
            let d = _mm256_loadu_si256(rows.add(192).cast());
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            quads[g][0] = _mm256_unpacklo_epi64(ab, cd);
            quads[g][1] = _mm256_unpackhi_epi64(ab, cd);
            let (ab, cd) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            quads[g][2] = _mm256_unpacklo_epi64(ab, cd);
            quads[g][3] = _mm256_unpackhi_epi64(ab, cd);
        }
        for j in 0..4 {
            let low = _mm256_permute2x128_si256::<0x20>(quads[0][j], quads[1][j]);
            let high = _mm256_permute2x128_si256::<0x31>(quads[0][j], quads[1][j]);
            _mm256_storeu_si256(to.add(j * stride).cast(), low);
            _mm256_storeu_si256(to.add((4 + j) * stride).cast(), high);
        }
    }
}

// SAFETY of every block below: the caller promises the instruction set and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<const VNNI: bool> Arch for Avx2<VNNI> {
    type Bytes = Pair<__m256i>;
    type Ints = Pair<__m256i>;
    type Sums = Pair<HalfSums>;
    type Floats = Pair<__m256>;

    const PARTS: usize = 2;

    /// Without VNNI a product of two pairs is at most `2 · 127 · (2^bits − 1)`, and sums of them must
    /// stay under 2¹⁵.
    #[inline(always)]
    fn room(bits: usize) -> usize {
        match bits {
            _ if VNNI => usize::MAX,
            0..=4 | 8 => 8,
            5 => 4,
            6 => 2,
            _ => 1,
        }
    }

    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    unsafe fn no_bytes() -> Self::Bytes {
        unsafe { Pair(_mm256_setzero_si256(), _mm256_setzero_si256()) }
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        unsafe { Pair(_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())) }
    }

    #[inline(always)]
    unsafe fn bytes_part(from: *const u8, lanes: usize) -> Self::Bytes {
        unsafe {
            let masks = first(lanes);
            Pair(
                _mm256_maskload_epi32(from.cast(), masks.0),
                _mm256_maskload_epi32(from.cast::<i32>().wrapping_add(8), masks.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(bytes: Self::Bytes, to: *mut u8) {
        unsafe {
            _mm256_storeu_si256(to.cast(), bytes.0);
            _mm256_storeu_si256(to.add(32).cast(), bytes.1);
        }
    }

    #[inline(always)]
    unsafe fn low(bytes: Self::Bytes) -> Self::Bytes {
        unsafe {
            let mask = _mm256_set1_epi8(15);
            Pair(_mm256_and_si256(bytes.0, mask), _mm256_and_si256(bytes.1, mask))
        }
    }

    #[inline(always)]
    unsafe fn high(bytes: Self::Bytes) -> Self::Bytes {
        unsafe { Self::low(Pair(_mm256_srli_epi16::<4>(bytes.0), _mm256_srli_epi16::<4>(bytes.1))) }
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> Self::Bytes {
        unsafe {
            let packed = _mm256_loadu_si256(from.cast());
            Self::low(Pair(packed, _mm256_srli_epi16::<4>(packed)))
        }
    }

    #[inline(always)]
    unsafe fn add_bits(bytes: Self::Bytes, mask: u64, bit: u8) -> Self::Bytes {
        unsafe {
            // Byte i of a half tests bit i % 8 of mask byte i / 8.
            let select = _mm256_setr_epi64x(
                0,
                0x0101_0101_0101_0101,
                0x0202_0202_0202_0202,
                0x0303_0303_0303_0303,
            );
            let tested = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let bit = _mm256_set1_epi8(bit as i8);
            let mut halves = [bytes.0, bytes.1];
            for (half, mask) in [mask as i32, (mask >> 32) as i32].into_iter().enumerate() {
                let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(mask), select);
                let on = _mm256_cmpeq_epi8(_mm256_and_si256(spread, tested), tested);
                halves[half] = _mm256_add_epi8(halves[half], _mm256_and_si256(on, bit));
            }
            Pair(halves[0], halves[1])
        }
    }

    #[inline(always)]
    unsafe fn join(high: Self::Bytes, low: Self::Bytes, bits: usize) -> Self::Bytes {
        unsafe {
            let bits = _mm_cvtsi64_si128(bits as i64);
            Pair(
                _mm256_or_si256(_mm256_sll_epi16(high.0, bits), low.0),
                _mm256_or_si256(_mm256_sll_epi16(high.1, bits), low.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn interleave([a, b, c, d]: [Self::Bytes; 4]) -> [Self::Bytes; 4] {
        unsafe {
            let first = interleave_half([a.0, b.0, c.0, d.0]);
            let second = interleave_half([a.1, b.1, c.1, d.1]);
            let mut out = [a; 4];
            for q in 0..4 {
                out[q] = Pair(first[q], second[q]);
            }
            out
        }
    }

    /// Nibbles come apart after their bytes are in place: half the shuffles.
    #[inline(always)]
    unsafe fn interleave_nibbles(rows: [*const u8; 4]) -> [Self::Bytes; 4] {
        unsafe {
            let mut folded = [_mm256_setzero_si256(); 4];
            for (to, from) in folded.iter_mut().zip(rows) {
                *to = _mm256_loadu_si256(from.cast());
            }
            let folded = interleave_half(folded);
            let mut out = [Self::no_bytes(); 4];
            for q in 0..4 {
                out[q] = Self::low(Pair(folded[q], _mm256_srli_epi16::<4>(folded[q])));
            }
            out
        }
    }

    #[inline(always)]
    unsafe fn no_ints() -> Self::Ints {
        unsafe { Pair(_mm256_setzero_si256(), _mm256_setzero_si256()) }
    }

    #[inline(always)]
    unsafe fn add_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { Pair(_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn no_sums() -> Self::Sums {
        let none = unsafe { [_mm256_setzero_si256(); 2] };
        Pair(none, none)
    }

    #[inline(always)]
    unsafe fn dot(bits: usize, sums: Self::Sums, w: Self::Bytes, a: Self::Bytes) -> Self::Sums {
        unsafe {
            Pair(half_dot::<VNNI>(bits, sums.0, w.0, a.0), half_dot::<VNNI>(bits, sums.1, w.1, a.1))
        }
    }

    #[inline(always)]
    unsafe fn dot_splat(bits: usize, sums: Self::Sums, w: Self::Bytes, a: *const u8) -> Self::Sums {
        unsafe {
            let a = _mm256_set1_epi32(a.cast::<i32>().read_unaligned());
            Self::dot(bits, sums, w, Pair(a, a))
        }
    }

    #[inline(always)]
    unsafe fn take(bits: usize, ints: Self::Ints, sums: Self::Sums) -> Self::Ints {
        unsafe {
            Pair(half_take::<VNNI>(bits, ints.0, sums.0), half_take::<VNNI>(bits, ints.1, sums.1))
        }
    }

    #[inline(always)]
    unsafe fn fold(ints: Self::Ints, lanes: usize) -> Self::Ints {
        unsafe {
            let mut sum = _mm256_add_epi32(ints.0, ints.1);
            if lanes < 8 {
                sum = _mm256_add_epi32(sum, _mm256_permute2x128_si256::<0x01>(sum, sum));
            }
            if lanes < 4 {
                sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32::<0x4e>(sum));
            }
            Pair(sum, sum)
        }
    }

    #[inline(always)]
    unsafe fn to_floats(ints: Self::Ints) -> Self::Floats {
        unsafe { Pair(_mm256_cvtepi32_ps(ints.0), _mm256_cvtepi32_ps(ints.1)) }
    }

    #[inline(always)]
    unsafe fn floats(from: *const f32) -> Self::Floats {
        unsafe { Pair(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn store(floats: Self::Floats, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, floats.0);
            _mm256_storeu_ps(to.add(8), floats.1);
        }
    }

    #[inline(always)]
    unsafe fn store_part<const PART: usize>(floats: Self::Floats, to: *mut f32) {
        unsafe {
            if PART == 0 {
                _mm256_storeu_ps(to, floats.0);
            } else {
                _mm256_storeu_ps(to.add(8), floats.1);
            }
        }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> Self::Floats {
        unsafe {
            Pair(
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())),
            )
        }
    }

    #[inline(always)]
    unsafe fn halves_part(from: *const u8, lanes: usize) -> Self::Floats {
        unsafe {
            let (Pair(low, high), masks) = (Self::halves(from), first(lanes));
            Pair(
                _mm256_and_ps(low, _mm256_castsi256_ps(masks.0)),
                _mm256_and_ps(high, _mm256_castsi256_ps(masks.1)),
            )
        }
    }

    #[inline(always)]
    unsafe fn small_ints(from: *const u8, lanes: usize) -> Self::Floats {
        unsafe {
            let (bytes, masks) = (_mm_loadu_si128(from.cast()), first(lanes));
            let low = _mm256_cvtepi8_epi32(bytes);
            let high = _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes));
            Pair(
                _mm256_cvtepi32_ps(_mm256_and_si256(low, masks.0)),
                _mm256_cvtepi32_ps(_mm256_and_si256(high, masks.1)),
            )
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Floats {
        unsafe { Pair(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn splat_two(first: f32, rest: f32) -> Self::Floats {
        unsafe { Pair(_mm256_set1_ps(first), _mm256_set1_ps(rest)) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { Pair(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { Pair(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { Pair(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, to: *mut u8, stride: usize) {
        for rows in 0..2 {
            for cols in 0..2 {
                unsafe {
                    transpose_eight(
                        from.add(rows * 512 + cols * 32),
                        to.add(cols * 8 * stride + rows * 32),
                        stride,
                    );
                }
            }
        }
    }
}
