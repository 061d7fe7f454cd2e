//! Blocks of 32 elements with scales of their own (ggml `quantize_row_q4_0_ref` and its
//! neighbours).

use half::f16;

use super::extreme;

type Elements = [f32; 32];

/// `d = x_max / −8` with the sign of the element of the largest magnitude, which becomes −8 exactly;
/// `q = ⌊x/d + 8.5⌋`.
pub(super) fn q4_0(x: &Elements, out: &mut [u8; 18]) {
    let d = extreme(x) / -8.0;
    put_half(d, &mut out[..2]);
    put_nibbles(&steps(x, 0.0, d, 8.5, 15), &mut out[2..]);
}

/// `d = (max − min) / 15`, `q = ⌊(x − min)/d + ½⌋`.
pub(super) fn q4_1(x: &Elements, out: &mut [u8; 20]) {
    let (min, max) = range(x);
    let d = (max - min) / 15.0;
    put_half(d, &mut out[..2]);
    put_half(min, &mut out[2..4]);
    put_nibbles(&steps(x, min, d, 0.5, 15), &mut out[4..]);
}

/// As [`q4_0`] with −16 and five bits.
pub(super) fn q5_0(x: &Elements, out: &mut [u8; 22]) {
    let d = extreme(x) / -16.0;
    put_half(d, &mut out[..2]);
    let q = steps(x, 0.0, d, 16.5, 31);
    put_fifth_bits(&q, &mut out[2..6]);
    put_nibbles(&q, &mut out[6..]);
}

/// As [`q4_1`] with 31 steps.
pub(super) fn q5_1(x: &Elements, out: &mut [u8; 24]) {
    let (min, max) = range(x);
    let d = (max - min) / 31.0;
    put_half(d, &mut out[..2]);
    put_half(min, &mut out[2..4]);
    let q = steps(x, min, d, 0.5, 31);
    put_fifth_bits(&q, &mut out[4..8]);
    put_nibbles(&q, &mut out[8..]);
}

/// `d = max |x| / 127`, `q = x/d` rounded to the nearest, halves away from zero.
pub(super) fn q8_0(x: &Elements, out: &mut [u8; 34]) {
    let d = extreme(x).abs() / 127.0;
    put_half(d, &mut out[..2]);
    let inverse = inverse(d);
    for (q, x) in out[2..].iter_mut().zip(x) {
        *q = ((x * inverse).round() as i8).cast_unsigned();
    }
}

/// Elements as whole steps above `min`: `⌊(x − min)/d + offset⌋`, at most `top`.
fn steps(x: &Elements, min: f32, d: f32, offset: f32, top: u8) -> [u8; 32] {
    let inverse = inverse(d);
    x.map(|x| (((x - min) * inverse + offset) as u8).min(top))
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn range(x: &Elements) -> (f32, f32) {
    x.iter().fold((f32::MAX, -f32::MAX), |(min, max), &x| {
        (if x < min { x } else { min }, if x > max { x } else { max })
    })
}

fn put_half(value: f32, out: &mut [u8]) {
    out.copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// The low four bits: element `j` below element `j + 16`.
fn put_nibbles(q: &[u8; 32], out: &mut [u8]) {
    for (j, byte) in out.iter_mut().enumerate() {
        *byte = (q[j] & 15) | (q[j + 16] << 4);
    }
}

fn put_fifth_bits(q: &[u8; 32], out: &mut [u8]) {
    let bits = (0..32).fold(0u32, |bits, j| bits | (u32::from(q[j] >> 4) << j));
    out.copy_from_slice(&bits.to_le_bytes());
}
