//! The integer dot product on x86-64.

use crate::isa::Arch;
use std::arch::x86_64::*;

pub(crate) struct Avx2;

impl Arch for Avx2 {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    /// Sixteen products at a time: widen to 16 bits, multiply and add pairs exactly.
    #[inline(always)]
    unsafe fn dot_u8_i8<const N: usize>(
        weights: &[u8],
        weight_scales: &[f32],
        activations: [&[i8]; N],
        activation_scales: [&[f32]; N],
    ) -> [f32; N] {
        // SAFETY: the caller guarantees the lengths and the instruction set.
        unsafe {
            let mut sums = [_mm256_setzero_ps(); N];
            for block in 0..weights.len() / 16 {
                let w =
                    _mm256_cvtepu8_epi16(_mm_loadu_si128(weights.as_ptr().add(block * 16).cast()));
                let dw = *weight_scales.get_unchecked(block);
                for n in 0..N {
                    let a = _mm_loadu_si128(activations[n].as_ptr().add(block * 16).cast());
                    let products = _mm256_madd_epi16(w, _mm256_cvtepi8_epi16(a));
                    let scale = _mm256_set1_ps(dw * *activation_scales[n].get_unchecked(block));
                    sums[n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, sums[n]);
                }
            }
            sums.map(|sum| {
                let half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
                let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)))
            })
        }
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
    unsafe fn dot_u8_i8<const N: usize>(
        weights: &[u8],
        weight_scales: &[f32],
        activations: [&[i8]; N],
        activation_scales: [&[f32]; N],
    ) -> [f32; N] {
        // SAFETY: the caller guarantees the lengths and the instruction set.
        unsafe {
            let spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            let mut sums = [_mm512_setzero_ps(); N];
            for block in 0..weights.len() / 64 {
                let w = _mm512_loadu_si512(weights.as_ptr().add(block * 64).cast());
                let dw = _mm_loadu_ps(weight_scales.as_ptr().add(block * 4));
                for n in 0..N {
                    let a = _mm512_loadu_si512(activations[n].as_ptr().add(block * 64).cast());
                    let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, a);
                    let da = _mm_loadu_ps(activation_scales[n].as_ptr().add(block * 4));
                    let scale = _mm512_castps128_ps512(_mm_mul_ps(dw, da));
                    let scale = _mm512_permutexvar_ps(spread, scale);
                    sums[n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sums[n]);
                }
            }
            sums.map(|sum| _mm512_reduce_add_ps(sum))
        }
    }
}
