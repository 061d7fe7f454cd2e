//! Encoding of f32 rows into every type that fewron reads, the reverse of unpacking.
//!
//! Rounding and the search for scales are those of ggml's reference functions without an importance
//! matrix (`quantize_row_*_ref` in `ggml-quants.c`), in single precision, without fused
//! multiply-add and in the same order, so that the bytes are the same.

mod k_quants;
mod search;
mod short;

use std::fmt;

use half::{bf16, f16};

use crate::dtype::DType;

/// Magnitude above which no quantised type can hold a value, with room for the squares and products
/// of the search for scales.
const LIMIT: f32 = 1e9;

/// Why a row cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum EncodeError {
    /// The row is no whole number of blocks.
    PartialBlock { dtype: DType, cols: usize },
    /// An element is NaN or infinite.
    NotFinite { index: usize, value: f32 },
    /// An element, or the scale of its block, is beyond what the type can hold.
    TooLarge { dtype: DType, index: usize, value: f32 },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartialBlock { dtype, cols } => write!(
                f,
                "a row of {cols} elements is no whole number of {dtype} blocks of {}",
                dtype.block_len()
            ),
            Self::NotFinite { index, value } => {
                write!(f, "element {index} is {value}; weights are finite numbers")
            }
            Self::TooLarge { dtype, index, value } => {
                write!(f, "element {index} is {value:e}, too large for {dtype}; BF16 can hold it")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

impl DType {
    /// Encodes a row into `out`, as ggml's reference quantisation does.
    ///
    /// A block of numbers too small for the half-precision scale of its type becomes zeros.
    ///
    /// # Errors
    /// [`EncodeError`] names the first element that is in the way; `out` is then unspecified.
    ///
    /// # Panics
    /// When `out` has another length than [`DType::row_bytes`] of the row.
    pub fn encode_row(self, row: &[f32], out: &mut [u8]) -> Result<(), EncodeError> {
        let bytes = self
            .row_bytes(row.len())
            .ok_or(EncodeError::PartialBlock { dtype: self, cols: row.len() })?;
        assert_eq!(out.len(), bytes, "bytes of a {self} row of {} elements", row.len());
        self.check(row)?;
        match self {
            DType::F32 => each(row, out, |[x], out| *out = x.to_le_bytes()),
            DType::F16 => each(row, out, |[x], out| *out = f16::from_f32(*x).to_le_bytes()),
            DType::Bf16 => each(row, out, |[x], out| *out = bf16::from_f32(*x).to_le_bytes()),
            DType::Q4_0 => each(row, out, short::q4_0),
            DType::Q4_1 => each(row, out, short::q4_1),
            DType::Q5_0 => each(row, out, short::q5_0),
            DType::Q5_1 => each(row, out, short::q5_1),
            DType::Q8_0 => each(row, out, short::q8_0),
            DType::Q2_K => each(row, out, k_quants::q2_k),
            DType::Q3_K => each(row, out, k_quants::q3_k),
            DType::Q4_K => each(row, out, k_quants::q4_k),
            DType::Q5_K => each(row, out, k_quants::q5_k),
            DType::Q6_K => each(row, out, k_quants::q6_k),
        }
        self.check_scales(row, out)
    }

    /// Refuses elements that are not finite or that the search for scales cannot take.
    fn check(self, row: &[f32]) -> Result<(), EncodeError> {
        let limit = if self.is_quantized() { LIMIT } else { f32::MAX };
        match row.iter().position(|x| !x.is_finite() || x.abs() > limit) {
            None => Ok(()),
            Some(index) if row[index].is_finite() => {
                Err(EncodeError::TooLarge { dtype: self, index, value: row[index] })
            }
            Some(index) => Err(EncodeError::NotFinite { index, value: row[index] }),
        }
    }

    /// Refuses blocks with a number in them that has become infinite.
    fn check_scales(self, row: &[f32], out: &[u8]) -> Result<(), EncodeError> {
        let (offsets, infinity): (&[usize], u16) = match self {
            DType::F32 => return Ok(()),
            DType::Bf16 => (&[0], bf16::INFINITY.to_bits()),
            DType::F16 | DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => (&[0], 0x7c00),
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => (&[0, 2], 0x7c00),
            DType::Q2_K => (&[80, 82], 0x7c00),
            DType::Q3_K => (&[108], 0x7c00),
            DType::Q6_K => (&[208], 0x7c00),
        };
        let blocks = row.chunks_exact(self.block_len()).zip(out.chunks_exact(self.block_bytes()));
        for (block, (x, bytes)) in blocks.enumerate() {
            let half = |&at: &usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            if offsets.iter().map(half).any(|bits| bits & infinity == infinity) {
                let largest = |a: &usize, b: &usize| x[*a].abs().total_cmp(&x[*b].abs());
                let within = (0..x.len()).max_by(largest).unwrap_or(0);
                let index = block * self.block_len() + within;
                return Err(EncodeError::TooLarge { dtype: self, index, value: row[index] });
            }
        }
        Ok(())
    }
}

/// Calls `encode(elements, bytes)` for every block.
fn each<const LEN: usize, const BYTES: usize>(
    row: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    let blocks = row.as_chunks::<LEN>().0.iter().zip(out.as_chunks_mut::<BYTES>().0);
    blocks.for_each(|(elements, bytes)| encode(elements, bytes));
}

/// The element of the largest magnitude, the first of several; 0 where all are.
fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |largest: f32, &x| if largest.abs() < x.abs() { x } else { largest })
}
