//! The integer dot product on x86-64.

use crate::isa::{Arch, Input, Row};
use std::arch::x86_64::*;

pub(crate) struct Avx2;

impl Arch for Avx2 {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    /// Sixteen products at a time: widen to 16 bits, multiply and add pairs exactly.
    #[inline(always)]
    unsafe fn dots<const R: usize, const N: usize>(
        rows: [Row; R],
        inputs: [Input; N],
    ) -> [[f32; N]; R] {
        // SAFETY: the caller guarantees the lengths and the instruction set.
        unsafe {
            let blocks = rows[0].scales.len();
            let mut sums = [[_mm256_setzero_ps(); N]; R];
            for block in 0..blocks {
                for r in 0..R {
                    let w = _mm_loadu_si128(rows[r].values.as_ptr().add(block * 16).cast());
                    let w = _mm256_cvtepu8_epi16(w);
                    let scale = *rows[r].scales.get_unchecked(block);
                    for n in 0..N {
                        let a = _mm_loadu_si128(inputs[n].values.as_ptr().add(block * 16).cast());
                        let products = _mm256_madd_epi16(w, _mm256_cvtepi8_epi16(a));
                        let scale = _mm256_set1_ps(scale * *inputs[n].scales.get_unchecked(block));
                        let products = _mm256_cvtepi32_ps(products);
                        sums[r][n] = _mm256_fmadd_ps(products, scale, sums[r][n]);
                    }
                }
            }
            let mut totals = [[0.0; N]; R];
            for r in 0..R {
                for n in 0..N {
                    let low = _mm256_castps256_ps128(sums[r][n]);
                    let mut quad = _mm_add_ps(low, _mm256_extractf128_ps(sums[r][n], 1));
                    for at in (0..blocks).step_by(4) {
                        let offsets = _mm_loadu_ps(rows[r].offsets.as_ptr().add(at));
                        let sums = _mm_loadu_ps(inputs[n].sums.as_ptr().add(at));
                        quad = _mm_fmadd_ps(offsets, sums, quad);
                    }
                    totals[r][n] = add_quad(quad);
                }
            }
            totals
        }
    }
}

/// The sum of four lanes.
#[inline(always)]
unsafe fn add_quad(quad: __m128) -> f32 {
    // SAFETY: SSE is part of x86-64.
    unsafe {
        let pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)))
    }
}

pub(crate) struct Avx512Vnni;

impl Arch for Avx512Vnni {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    /// 64 products at a time with `vpdpbusd`; four lanes share a scale.
    #[inline(always)]
    unsafe fn dots<const R: usize, const N: usize>(
        rows: [Row; R],
        inputs: [Input; N],
    ) -> [[f32; N]; R] {
        // SAFETY: the caller guarantees the lengths and the instruction set.
        unsafe {
            let spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            let blocks = rows[0].scales.len();
            let mut sums = [[_mm512_setzero_ps(); N]; R];
            for at in (0..blocks).step_by(4) {
                for r in 0..R {
                    let w = _mm512_loadu_si512(rows[r].values.as_ptr().add(at * 16).cast());
                    let row_scales = _mm_loadu_ps(rows[r].scales.as_ptr().add(at));
                    for n in 0..N {
                        let a = _mm512_loadu_si512(inputs[n].values.as_ptr().add(at * 16).cast());
                        let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, a);
                        let scales = _mm_loadu_ps(inputs[n].scales.as_ptr().add(at));
                        let scales = _mm512_castps128_ps512(_mm_mul_ps(row_scales, scales));
                        let scales = _mm512_permutexvar_ps(spread, scales);
                        let products = _mm512_cvtepi32_ps(products);
                        sums[r][n] = _mm512_fmadd_ps(products, scales, sums[r][n]);
                    }
                }
            }
            for at in (0..blocks).step_by(16) {
                let mask = (0xffff_u32 >> (16 - (blocks - at).min(16))) as __mmask16;
                for r in 0..R {
                    let offsets = _mm512_maskz_loadu_ps(mask, rows[r].offsets.as_ptr().add(at));
                    for n in 0..N {
                        let s = _mm512_maskz_loadu_ps(mask, inputs[n].sums.as_ptr().add(at));
                        sums[r][n] = _mm512_fmadd_ps(offsets, s, sums[r][n]);
                    }
                }
            }
            let mut totals = [[0.0; N]; R];
            for r in 0..R {
                for n in 0..N {
                    let low = _mm512_castps512_ps256(sums[r][n]);
                    let high = _mm512_extractf32x8_ps(sums[r][n], 1);
                    let half = _mm256_add_ps(low, high);
                    let low = _mm256_castps256_ps128(half);
                    totals[r][n] = add_quad(_mm_add_ps(low, _mm256_extractf128_ps(half, 1)));
                }
            }
            totals
        }
    }
}
