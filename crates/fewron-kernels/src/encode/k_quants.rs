//! Superblocks of 256 elements: sub-blocks with small integers as scales, which share scales in half
//! precision (ggml `quantize_row_q2_K_ref` to `quantize_row_q6_K_ref`).
//!
//! Elements are rounded twice: while the scales are sought, and again once the scales are what is
//! stored. A sub-block whose scale has become 0 keeps the elements of the first rounding.

use half::f16;

use super::search::{ALL_ZERO, Affine, nearest, signed_step, symmetric, symmetric_by_descent};

type Elements = [f32; 256];
type Quants = [u8; 256];

/// Sixteen sub-blocks with four bits of scale and of minimum each; errors as they are, weighted by
/// |x|.
pub(super) fn q2_k(x: &Elements, out: &mut [u8; 84]) {
    const SEARCH: Affine = Affine { top: 3, first: -0.5, tries: 16, absolute: true };
    let found = Subs::<16>::search(&SEARCH, x, |x: &[f32; 16]| x.map(f32::abs));
    let (scales, d) = levels(&found.scales, 15.0);
    let (mins, m) = levels(&found.mins, 15.0);
    let q = found.rounded::<16>(x, 3, (&scales, d), (&mins, m));
    for (byte, (scale, min)) in out.iter_mut().zip(scales.iter().zip(mins)) {
        *byte = scale | (min << 4);
    }
    put_two_bits(&q, &mut out[16..80]);
    put_half(d, &mut out[80..82]);
    put_half(m, &mut out[82..84]);
}

/// Sixteen sub-blocks with a signed scale of six bits.
pub(super) fn q3_k(x: &Elements, out: &mut [u8; 110]) {
    let (scales, mut q) = signed_scales(x, |x, q| symmetric_by_descent(x, 4, q));
    out.fill(0);
    let largest = super::extreme(&scales);
    if largest != 0.0 {
        let inverse = -32.0 / largest;
        let d = f16::from_f32(1.0 / inverse);
        let scales = scales.map(|scale| signed_step(inverse * scale, 32));
        round_signed(x, d, &scales, 4, &mut q);
        put_q3_scales(&scales, &mut out[96..108]);
        put_half(d, &mut out[108..110]);
    }
    for (j, q) in q.iter().enumerate() {
        out[j % 32] |= (q >> 2) << (j / 32);
    }
    put_two_bits(&q.map(|q| q & 3), &mut out[32..96]);
}

/// Eight sub-blocks with six bits of scale and of minimum each; squared errors, weighted by |x| plus
/// its root mean square.
pub(super) fn q4_k(x: &Elements, out: &mut [u8; 144]) {
    const SEARCH: Affine = Affine { top: 15, first: -1.0, tries: 21, absolute: false };
    let q = with_six_bits(&SEARCH, x, &mut out[..16]);
    put_four_bits(&q, &mut out[16..]);
}

/// As [`q4_k`] with five bits an element.
pub(super) fn q5_k(x: &Elements, out: &mut [u8; 176]) {
    const SEARCH: Affine = Affine { top: 31, first: -0.5, tries: 16, absolute: false };
    let q = with_six_bits(&SEARCH, x, &mut out[..16]);
    out[16..48].fill(0);
    for (j, q) in q.iter().enumerate() {
        out[16 + j % 32] |= (q >> 4) << (j / 32);
    }
    put_four_bits(&q.map(|q| q & 15), &mut out[48..]);
}

/// Sixteen sub-blocks with a signed scale of eight bits.
pub(super) fn q6_k(x: &Elements, out: &mut [u8; 210]) {
    let (scales, mut q) = signed_scales(x, |x, q| symmetric(x, 32, q));
    out.fill(0);
    let largest = super::extreme(&scales);
    if largest.abs() < ALL_ZERO {
        return;
    }
    let inverse = -128.0 / largest;
    let d = f16::from_f32(1.0 / inverse);
    let scales = scales.map(|scale| nearest(inverse * scale).min(127));
    round_signed(x, d, &scales, 32, &mut q);
    for (half, q) in q.as_chunks::<128>().0.iter().enumerate() {
        for l in 0..32 {
            let [a, b, c, d] = [q[l], q[l + 32], q[l + 64], q[l + 96]];
            out[half * 64 + l] = (a & 15) | (c << 4);
            out[half * 64 + 32 + l] = (b & 15) | (d << 4);
            out[128 + half * 32 + l] =
                (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((d >> 4) << 6);
        }
    }
    for (byte, scale) in out[192..208].iter_mut().zip(scales) {
        *byte = scale as u8;
    }
    put_half(d, &mut out[208..]);
}

/// Sub-blocks of a superblock, each with the scale and minimum that suit it.
struct Subs<const SUBS: usize> {
    scales: [f32; SUBS],
    mins: [f32; SUBS],
    q: Quants,
}

impl<const SUBS: usize> Subs<SUBS> {
    fn search<const N: usize>(
        search: &Affine,
        x: &Elements,
        weights: impl Fn(&[f32; N]) -> [f32; N],
    ) -> Self {
        let mut found = Self { scales: [0.0; SUBS], mins: [0.0; SUBS], q: [0; 256] };
        let subs = x.as_chunks::<N>().0.iter().zip(found.q.as_chunks_mut::<N>().0);
        for (sub, (x, q)) in subs.enumerate() {
            (found.scales[sub], found.mins[sub]) = search.search(x, &weights(x), q);
        }
        found
    }

    /// The elements, at the scales and minima as they are stored.
    fn rounded<const N: usize>(
        mut self,
        x: &Elements,
        top: i32,
        (scales, d): (&[u8; SUBS], f16),
        (mins, m): (&[u8; SUBS], f16),
    ) -> Quants {
        let subs = x.as_chunks::<N>().0.iter().zip(self.q.as_chunks_mut::<N>().0);
        for (sub, (x, q)) in subs.enumerate() {
            let d = d.to_f32() * f32::from(scales[sub]);
            let m = m.to_f32() * f32::from(mins[sub]);
            if d != 0.0 {
                *q = x.map(|x| nearest((x + m) / d).clamp(0, top) as u8);
            }
        }
        self.q
    }
}

/// Values that are not negative as integers of at most `top`, and the number that times these
/// integers gives them back.
fn levels<const SUBS: usize>(values: &[f32; SUBS], top: f32) -> ([u8; SUBS], f16) {
    let largest = values.iter().fold(0.0, |max: f32, &x| if x > max { x } else { max });
    let inverse = if largest > 0.0 { top / largest } else { 0.0 };
    let level = |&value: &f32| (nearest(inverse * value) as u8).min(top as u8);
    (values.each_ref().map(level), f16::from_f32(largest / top))
}

/// Scales and minima of Q4_K and Q5_K into the first 16 bytes of a block; gives the elements.
fn with_six_bits(search: &Affine, x: &Elements, out: &mut [u8]) -> Quants {
    let found = Subs::<8>::search(search, x, |x: &[f32; 32]| {
        let mean_square = x.iter().fold(0.0, |sum, x| sum + x * x) / 32.0;
        let root = mean_square.sqrt();
        x.map(|x| root + x.abs())
    });
    let (scales, d) = levels(&found.scales, 63.0);
    let (mins, m) = levels(&found.mins, 63.0);
    put_half(d, &mut out[..2]);
    put_half(m, &mut out[2..4]);
    for group in 0..4 {
        let (high_scale, high_min) = (scales[group + 4], mins[group + 4]);
        out[4 + group] = scales[group] | ((high_scale >> 4) << 6);
        out[8 + group] = mins[group] | ((high_min >> 4) << 6);
        out[12 + group] = (high_scale & 15) | ((high_min & 15) << 4);
    }
    found.rounded::<32>(x, search.top, (&scales, d), (&mins, m))
}

/// The scale of each sub-block of 16, and elements for it.
fn signed_scales(
    x: &Elements,
    search: impl Fn(&[f32; 16], &mut [u8; 16]) -> f32,
) -> ([f32; 16], Quants) {
    let (mut scales, mut q) = ([0.0; 16], [0; 256]);
    let subs = x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0);
    for (scale, (x, q)) in scales.iter_mut().zip(subs) {
        *scale = search(x, q);
    }
    (scales, q)
}

/// The elements, at the scales as they are stored.
fn round_signed(x: &Elements, d: f16, scales: &[i32; 16], half: i32, q: &mut Quants) {
    let subs = x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0);
    for (&scale, (x, q)) in scales.iter().zip(subs) {
        let d = d.to_f32() * scale as f32;
        if d != 0.0 {
            *q = x.map(|x| (signed_step(x / d, half) + half) as u8);
        }
    }
}

/// The sixteen scales of Q3_K, plus 32: low four bits, then high two.
fn put_q3_scales(scales: &[i32; 16], out: &mut [u8]) {
    for (sub, scale) in scales.iter().enumerate() {
        let bits = (scale + 32) as u8;
        out[sub % 8] |= (bits & 15) << (4 * (sub / 8));
        out[8 + sub % 4] |= (bits >> 4) << (2 * (sub / 4));
    }
}

fn put_half(value: f16, out: &mut [u8]) {
    out.copy_from_slice(&value.to_le_bytes());
}

/// 128 elements of two bits share 32 bytes.
fn put_two_bits(q: &Quants, out: &mut [u8]) {
    for (half, q) in q.as_chunks::<128>().0.iter().enumerate() {
        for l in 0..32 {
            out[half * 32 + l] = q[l] | (q[l + 32] << 2) | (q[l + 64] << 4) | (q[l + 96] << 6);
        }
    }
}

/// 64 elements of four bits share 32 bytes.
fn put_four_bits(q: &Quants, out: &mut [u8]) {
    for (group, q) in q.as_chunks::<64>().0.iter().enumerate() {
        for l in 0..32 {
            out[group * 32 + l] = q[l] | (q[l + 32] << 4);
        }
    }
}
