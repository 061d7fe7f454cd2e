//! Headers of safetensors files (huggingface/safetensors, `README.md`, "Format").
//!
//! Eight bytes with the header's length, the header in JSON, then the tensors one after the other.
//! Everything is checked against the length of the file, and every problem names its tensor, which
//! the `safetensors` crate does not do; the tests compare what both accept.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use fewron_kernels::DType;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::error::HfProblem;

const LENGTH_BYTES: usize = 8;
/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const METADATA: &str = "__metadata__";

/// What a header says about one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// As the file spells it.
    pub(super) dtype: String,
    /// Rows first, as in PyTorch.
    pub(super) shape: Vec<usize>,
    /// Bytes of the file.
    pub(super) bytes: Range<usize>,
}

impl Entry {
    /// The type, where fewron can compute with it.
    pub(super) fn dtype(&self) -> Option<DType> {
        match self.dtype.as_str() {
            "F32" => Some(DType::F32),
            "F16" => Some(DType::F16),
            "BF16" => Some(DType::Bf16),
            _ => None,
        }
    }

    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }
}

/// Bits of an element; `None` for a type that the format does not know.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

/// Reads and checks the header of a whole file; tensors come in the order of their data.
pub(super) fn parse(file: &[u8]) -> Result<Vec<Entry>, HfProblem> {
    let header = header(file)?;
    let start = (LENGTH_BYTES + header.len()) as u64;
    let text = std::str::from_utf8(header)
        .map_err(|_| HfProblem::Header { problem: "is no UTF-8 text".into() })?;
    let Raw(mut tensors) = serde_json::from_str(text)
        .map_err(|e| HfProblem::Header { problem: format!("cannot be read ({e})") })?;
    tensors.sort_by_key(|(_, raw)| raw.data_offsets);
    let len = file.len() as u64;
    let mut previous: Option<&(String, RawTensor)> = None;
    let mut entries = Vec::with_capacity(tensors.len());
    for tensor in &tensors {
        entries.push(entry(tensor, start, len)?);
        let ([begin, _], end) =
            (tensor.1.data_offsets, previous.map_or(0, |p| p.1.data_offsets[1]));
        if begin < end {
            let first = previous.map(|p| p.0.clone()).unwrap_or_default();
            return Err(HfProblem::Overlap { first, second: tensor.0.clone() });
        }
        if begin > end {
            return Err(HfProblem::Gap { tensor: tensor.0.clone(), bytes: begin - end });
        }
        previous = Some(tensor);
    }
    match len - start - previous.map_or(0, |p| p.1.data_offsets[1]) {
        0 => Ok(entries),
        bytes => Err(HfProblem::Trailing { bytes }),
    }
}

fn header(file: &[u8]) -> Result<&[u8], HfProblem> {
    let len = file.len() as u64;
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        let what = "the length of the header".into();
        return Err(HfProblem::Truncated { what, needed: LENGTH_BYTES as u64, len });
    };
    let header_len = u64::from_le_bytes(*length);
    if header_len > MAX_HEADER_BYTES {
        return Err(HfProblem::HugeHeader { len: header_len, most: MAX_HEADER_BYTES });
    }
    // At most 10^8.
    rest.get(..header_len as usize).ok_or_else(|| HfProblem::Truncated {
        what: "the header".into(),
        needed: header_len + LENGTH_BYTES as u64,
        len,
    })
}

/// Checks one tensor against the file's length; `start` is where the data begin.
fn entry((name, raw): &(String, RawTensor), start: u64, len: u64) -> Result<Entry, HfProblem> {
    let tensor = || name.clone();
    let Some(bits) = bits(&raw.dtype) else {
        return Err(HfProblem::UnknownType { tensor: tensor(), dtype: raw.dtype.clone() });
    };
    let huge = || HfProblem::HugeTensor { tensor: tensor(), shape: raw.shape.clone() };
    let elements = raw.shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent));
    let all_bits = elements.and_then(|n| n.checked_mul(bits)).ok_or_else(huge)?;
    let [begin, end] = raw.data_offsets;
    let found = end.saturating_sub(begin);
    if begin > end || Some(all_bits) != found.checked_mul(8) {
        return Err(HfProblem::Size {
            tensor: tensor(),
            shape: raw.shape.clone(),
            dtype: raw.dtype.clone(),
            expected: all_bits.div_ceil(8),
            found,
            start: begin,
            end,
        });
    }
    let needed = start.saturating_add(end);
    if needed > len {
        return Err(HfProblem::Truncated { what: format!("tensor {name}"), needed, len });
    }
    // Offsets are at most the length of a mapped file; a zero extent may stand beside a huge one.
    let shape = raw.shape.iter().map(|&extent| usize::try_from(extent).map_err(|_| huge()));
    Ok(Entry {
        name: tensor(),
        dtype: raw.dtype.clone(),
        shape: shape.collect::<Result<_, _>>()?,
        bytes: (start + begin) as usize..needed as usize,
    })
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The tensors of a header; a name that comes twice is an error.
struct Raw(Vec<(String, RawTensor)>);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let (mut tensors, mut names) = (Vec::new(), HashSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("tensor {name} appears twice")));
                    }
                    let tensor = map.next_value::<RawTensor>();
                    tensors.push((
                        name.clone(),
                        tensor.map_err(|e| A::Error::custom(format!("tensor {name}: {e}")))?,
                    ));
                }
                Ok(Raw(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}
