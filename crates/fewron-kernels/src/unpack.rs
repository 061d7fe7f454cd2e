//! Unpacking of weight rows: every quantised block format becomes one canonical form.
//!
//! Canonical form of a row: `w[k] = d[k/16] · q[k] + m[k/16]` with unsigned bytes `q`. All of
//! ggml's formats fit it, and `d · q` is exact in f32 for all of them (at most 11 + 6 + 8 bits).
//! Block layouts are ggml's (`ggml-common.h`, `ggml-quants.c`).

use crate::dtype::DType;
use crate::format::{Format, Scales};
use crate::isa::{Arch, multiversion};
use half::bf16;

/// Elements that share a scale in the canonical form.
pub(crate) const SUB: usize = 16;

/// A row in canonical form; the length is padded with zeros to a multiple of 64.
#[derive(Default)]
pub(crate) struct UnpackedRow {
    pub(crate) q: Vec<u8>,
    pub(crate) d: Vec<f32>,
    pub(crate) m: Vec<f32>,
}

impl UnpackedRow {
    /// Room for rows of `cols` elements.
    pub(crate) fn new(cols: usize) -> Self {
        let padded = cols.next_multiple_of(64);
        Self { q: vec![0; padded], d: vec![0.0; padded / SUB], m: vec![0.0; padded / SUB] }
    }

    /// Makes room for rows of `cols` elements, if there is not enough.
    pub(crate) fn fit(&mut self, cols: usize) {
        if self.q.len() < cols {
            *self = Self::new(cols);
        }
    }
}

multiversion! {
    /// Unpacks whole quantised blocks into `q`, `d` and `m`; anything past the blocks stays.
    pub(crate) fn unpack(dtype: DType, bytes: &[u8], q: &mut [u8], d: &mut [f32], m: &mut [f32]) = unpack_body;
}

/// Calls `$unpack(block, q, d, m)` for every block. A macro, because a function passed as a value is
/// compiled without the target features of the kernel it ends up in.
macro_rules! each_block {
    ($unpack:ident, $block_bytes:literal, $len:literal, $bytes:ident, $q:ident, $d:ident, $m:ident) => {{
        let blocks = $bytes.as_chunks::<$block_bytes>().0.iter().zip($q.as_chunks_mut::<$len>().0);
        let d = $d.as_chunks_mut::<{ $len / SUB }>().0;
        let m = $m.as_chunks_mut::<{ $len / SUB }>().0;
        for (((block, q), d), m) in blocks.zip(d).zip(m) {
            $unpack(block, q, d, m);
        }
    }};
}

#[inline(always)]
fn unpack_body<A: Arch>(dtype: DType, bytes: &[u8], q: &mut [u8], d: &mut [f32], m: &mut [f32]) {
    match dtype {
        DType::F32 | DType::F16 | DType::Bf16 => unreachable!("float rows are not unpacked"),
        DType::Q4_0 => short_blocks::<Q40>(bytes, q, d, m),
        DType::Q4_1 => short_blocks::<Q41>(bytes, q, d, m),
        DType::Q5_0 => short_blocks::<Q50>(bytes, q, d, m),
        DType::Q5_1 => short_blocks::<Q51>(bytes, q, d, m),
        DType::Q8_0 => short_blocks::<Q80>(bytes, q, d, m),
        DType::Q2_K => each_block!(q2_k, 84, 256, bytes, q, d, m),
        DType::Q3_K => each_block!(q3_k, 110, 256, bytes, q, d, m),
        DType::Q4_K => each_block!(q4_k, 144, 256, bytes, q, d, m),
        DType::Q5_K => each_block!(q5_k, 176, 256, bytes, q, d, m),
        DType::Q6_K => each_block!(q6_k, 210, 256, bytes, q, d, m),
    }
}

#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Exact conversion without branches or table, so that loops over it vectorise: the exponent is
/// rebased by a multiplication, which also normalises subnormals.
#[inline(always)]
pub(crate) fn f16_to_f32(half: u16) -> f32 {
    let rebased = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let special = if half & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(rebased.to_bits() | special | (u32::from(half & 0x8000) << 16))
}

#[inline(always)]
fn nibbles(packed: &[u8], q: &mut [u8; 32]) {
    for j in 0..16 {
        q[j] = packed[j] & 15;
        q[j + 16] = packed[j] >> 4;
    }
}

/// Adds the fifth bit of the Q5 formats: bit `j` of `high` belongs to element `j`.
#[inline(always)]
fn fifth_bits(high: &[u8], q: &mut [u8; 32]) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    for (j, q) in q.iter_mut().enumerate() {
        *q |= (((high >> j) & 1) << 4) as u8;
    }
}

/// A format with blocks of 32 that start with their scale in half precision.
trait ShortBlock {
    const BYTES: usize;
    /// The value that stands for zero, or `None` where a minimum follows the scale.
    const ZERO: Option<f32>;
    /// The quants of one block.
    fn quants(block: &[u8], q: &mut [u8; 32]);
}

/// Blocks whose scales are converted together.
const GROUP: usize = 8;

#[inline(always)]
fn short_blocks<B: ShortBlock>(bytes: &[u8], q: &mut [u8], d: &mut [f32], m: &mut [f32]) {
    let groups = bytes.chunks(GROUP * B::BYTES).zip(q.chunks_mut(GROUP * 32));
    let scales = d.chunks_mut(GROUP * 2).zip(m.chunks_mut(GROUP * 2));
    for ((bytes, q), (d, m)) in groups.zip(scales) {
        let (mut scale, mut min) = ([0u16; GROUP], [0u16; GROUP]);
        let blocks = bytes.chunks_exact(B::BYTES).zip(q.as_chunks_mut::<32>().0);
        for ((block, q), (scale, min)) in blocks.zip(scale.iter_mut().zip(&mut min)) {
            *scale = u16::from_le_bytes([block[0], block[1]]);
            *min = u16::from_le_bytes([block[2], block[3]]);
            B::quants(block, q);
        }
        let (mut scales, mut mins) = ([0.0; 2 * GROUP], [0.0; 2 * GROUP]);
        for i in 0..2 * GROUP {
            scales[i] = f16_to_f32(scale[i / 2]);
            mins[i] = match B::ZERO {
                Some(zero) => -zero * scales[i],
                None => f16_to_f32(min[i / 2]),
            };
        }
        d.copy_from_slice(&scales[..d.len()]);
        m.copy_from_slice(&mins[..m.len()]);
    }
}

struct Q40;

impl ShortBlock for Q40 {
    const BYTES: usize = 18;
    const ZERO: Option<f32> = Some(8.0);

    #[inline(always)]
    fn quants(block: &[u8], q: &mut [u8; 32]) {
        nibbles(&block[2..18], q);
    }
}

struct Q41;

impl ShortBlock for Q41 {
    const BYTES: usize = 20;
    const ZERO: Option<f32> = None;

    #[inline(always)]
    fn quants(block: &[u8], q: &mut [u8; 32]) {
        nibbles(&block[4..20], q);
    }
}

struct Q50;

impl ShortBlock for Q50 {
    const BYTES: usize = 22;
    const ZERO: Option<f32> = Some(16.0);

    #[inline(always)]
    fn quants(block: &[u8], q: &mut [u8; 32]) {
        nibbles(&block[6..22], q);
        fifth_bits(&block[2..6], q);
    }
}

struct Q51;

impl ShortBlock for Q51 {
    const BYTES: usize = 24;
    const ZERO: Option<f32> = None;

    #[inline(always)]
    fn quants(block: &[u8], q: &mut [u8; 32]) {
        nibbles(&block[8..24], q);
        fifth_bits(&block[4..8], q);
    }
}

struct Q80;

impl ShortBlock for Q80 {
    const BYTES: usize = 34;
    const ZERO: Option<f32> = Some(128.0);

    #[inline(always)]
    fn quants(block: &[u8], q: &mut [u8; 32]) {
        for (q, &value) in q.iter_mut().zip(&block[2..34]) {
            *q = value ^ 0x80;
        }
    }
}

#[inline(always)]
fn q2_k(block: &[u8; 84], q: &mut [u8; 256], d: &mut [f32; 16], m: &mut [f32; 16]) {
    let (scale, min) = (half_at(block, 80), half_at(block, 82));
    for sub in 0..16 {
        d[sub] = scale * f32::from(block[sub] & 15);
        m[sub] = -min * f32::from(block[sub] >> 4);
    }
    two_bits(&block[16..80], q);
}

/// The two low bits of Q2_K and Q3_K: 128 elements share 32 bytes, 32 elements a shift.
#[inline(always)]
fn two_bits(packed: &[u8], q: &mut [u8; 256]) {
    for half in 0..2 {
        for group in 0..4 {
            for l in 0..32 {
                q[half * 128 + group * 32 + l] = (packed[half * 32 + l] >> (2 * group)) & 3;
            }
        }
    }
}

#[inline(always)]
fn q3_k(block: &[u8; 110], q: &mut [u8; 256], d: &mut [f32; 16], m: &mut [f32; 16]) {
    let scale = half_at(block, 108);
    two_bits(&block[32..96], q);
    for group in 0..8 {
        for l in 0..32 {
            q[group * 32 + l] |= ((block[l] >> group) & 1) << 2;
        }
    }
    let scales = q3_scales(&block[96..108]);
    for sub in 0..16 {
        d[sub] = scale * f32::from(scales[sub]);
        m[sub] = -4.0 * d[sub];
    }
}

/// The sixteen 6-bit scales of Q3_K.
#[inline(always)]
fn q3_scales(packed: &[u8]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (sub, scale) in scales.iter_mut().enumerate() {
        let low = if sub < 8 { packed[sub] & 15 } else { packed[sub - 8] >> 4 };
        let high = (packed[8 + sub % 4] >> (2 * (sub / 4))) & 3;
        *scale = (low | (high << 4)) as i8 - 32;
    }
    scales
}

/// The eight 6-bit scales and minima of Q4_K and Q5_K, each for 32 elements.
#[inline(always)]
fn six_bits(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for group in 0..8 {
        (scales[group], mins[group]) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            (
                (packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4),
                (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4),
            )
        };
    }
    (scales, mins)
}

#[inline(always)]
fn six_bit_scales(block: &[u8], d: &mut [f32; 16], m: &mut [f32; 16]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let (scales, mins) = six_bits(&block[4..16]);
    for group in 0..8 {
        d[2 * group..2 * group + 2].fill(scale * f32::from(scales[group]));
        m[2 * group..2 * group + 2].fill(-min * f32::from(mins[group]));
    }
}

/// The four low bits of Q4_K and Q5_K: 64 elements share 32 bytes.
#[inline(always)]
fn four_bits(packed: &[u8], q: &mut [u8; 256]) {
    for group in 0..4 {
        for l in 0..32 {
            q[group * 64 + l] = packed[group * 32 + l] & 15;
            q[group * 64 + 32 + l] = packed[group * 32 + l] >> 4;
        }
    }
}

#[inline(always)]
fn q4_k(block: &[u8; 144], q: &mut [u8; 256], d: &mut [f32; 16], m: &mut [f32; 16]) {
    six_bit_scales(block, d, m);
    four_bits(&block[16..], q);
}

#[inline(always)]
fn q5_k(block: &[u8; 176], q: &mut [u8; 256], d: &mut [f32; 16], m: &mut [f32; 16]) {
    six_bit_scales(block, d, m);
    four_bits(&block[48..], q);
    for group in 0..8 {
        for l in 0..32 {
            q[group * 32 + l] |= ((block[16 + l] >> group) & 1) << 4;
        }
    }
}

#[inline(always)]
fn q6_k(block: &[u8; 210], q: &mut [u8; 256], d: &mut [f32; 16], m: &mut [f32; 16]) {
    let scale = half_at(block, 208);
    for half in 0..2 {
        let (low, high) =
            (&block[half * 64..half * 64 + 64], &block[128 + half * 32..160 + half * 32]);
        for l in 0..32 {
            q[half * 128 + l] = (low[l] & 15) | ((high[l] & 3) << 4);
            q[half * 128 + 32 + l] = (low[l + 32] & 15) | (((high[l] >> 2) & 3) << 4);
            q[half * 128 + 64 + l] = (low[l] >> 4) | (((high[l] >> 4) & 3) << 4);
            q[half * 128 + 96 + l] = (low[l + 32] >> 4) | ((high[l] >> 6) << 4);
        }
    }
    for sub in 0..16 {
        d[sub] = scale * f32::from(block[192 + sub] as i8);
        m[sub] = -32.0 * d[sub];
    }
}

/// A quantised row as stored: elements in order, and the scales of its blocks.
#[derive(Default)]
pub(crate) struct Raw {
    panel: UnpackedRow,
    d: Vec<u8>,
    m: Vec<u8>,
    d_super: Vec<u8>,
    m_super: Vec<u8>,
}

impl Raw {
    /// Reads a row.
    pub(crate) fn read(&mut self, isa: crate::Isa, dtype: DType, bytes: &[u8]) {
        let cols = bytes.len() / dtype.block_bytes() * dtype.block_len();
        if self.panel.q.len() != cols.next_multiple_of(64) {
            self.panel = UnpackedRow::new(cols);
        }
        let UnpackedRow { q, d, m } = &mut self.panel;
        unpack(isa, dtype, bytes, q, d, m);
        for part in [&mut self.d, &mut self.m, &mut self.d_super, &mut self.m_super] {
            part.clear();
        }
        for block in bytes.chunks_exact(dtype.block_bytes()) {
            match dtype {
                DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => self.d.extend(&block[..2]),
                DType::Q4_1 | DType::Q5_1 => {
                    self.d.extend(&block[..2]);
                    self.m.extend(&block[2..4]);
                }
                DType::Q2_K => {
                    self.d.extend(block[..16].iter().map(|byte| byte & 15));
                    self.m.extend(block[..16].iter().map(|byte| byte >> 4));
                    self.d_super.extend(&block[80..82]);
                    self.m_super.extend(&block[82..84]);
                }
                DType::Q3_K => {
                    self.d.extend(q3_scales(&block[96..108]).map(|scale| scale as u8));
                    self.d_super.extend(&block[108..110]);
                }
                DType::Q4_K | DType::Q5_K => {
                    let (scales, mins) = six_bits(&block[4..16]);
                    self.d.extend(scales);
                    self.m.extend(mins);
                    self.d_super.extend(&block[..2]);
                    self.m_super.extend(&block[2..4]);
                }
                DType::Q6_K => {
                    self.d.extend(&block[192..208]);
                    self.d_super.extend(&block[208..210]);
                }
                DType::F32 | DType::F16 | DType::Bf16 => unreachable!("float rows have no scales"),
            }
        }
    }

    /// The elements.
    pub(crate) fn q(&self) -> &[u8] {
        &self.panel.q
    }

    /// The scales of `lanes` blocks from `first` on.
    pub(crate) fn scales<F: Format>(&self, first: usize, lanes: usize) -> Scales<'_> {
        fn part(bytes: &[u8], range: std::ops::Range<usize>) -> &[u8] {
            if bytes.is_empty() { bytes } else { &bytes[range] }
        }
        let width = if F::SUPER { 1 } else { 2 };
        let blocks = first * width..(first + lanes) * width;
        let supers = first * F::SUB / 256 * 2..(first + lanes) * F::SUB / 256 * 2;
        Scales {
            d: part(&self.d, blocks.clone()),
            m: part(&self.m, blocks),
            d_super: part(&self.d_super, supers.clone()),
            m_super: part(&self.m_super, supers),
        }
    }
}

multiversion! {
    /// Converts a row of any type to f32. `panel` is scratch for at least as many columns.
    pub(crate) fn dequantize(dtype: DType, bytes: &[u8], panel: &mut UnpackedRow, out: &mut [f32]) = dequantize_body;
}

#[inline(always)]
fn dequantize_body<A: Arch>(dtype: DType, bytes: &[u8], panel: &mut UnpackedRow, out: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        DType::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f16_to_f32(u16::from_le_bytes(*bytes));
            }
        }
        DType::Bf16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        _ => {
            unpack_body::<A>(dtype, bytes, &mut panel.q, &mut panel.d, &mut panel.m);
            let (subs, _) = out.as_chunks_mut::<SUB>();
            let scales = panel.d.iter().zip(&panel.m);
            for ((out, q), (&d, &m)) in
                subs.iter_mut().zip(panel.q.as_chunks::<SUB>().0).zip(scales)
            {
                for k in 0..SUB {
                    out[k] = d * f32::from(q[k]) + m;
                }
            }
        }
    }
}
