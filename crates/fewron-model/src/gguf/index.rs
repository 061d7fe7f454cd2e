//! The checked header: where every value and tensor lies.

use std::collections::HashMap;
use std::ops::Range;

use fewron_kernels::DType;

use super::cursor::Cursor;
use super::error::GgufProblem;
use super::value::{Value, ValueType};
use super::writer::Field;

/// Smallest metadata entry: an empty key, a type, one byte.
const MIN_FIELD_BYTES: u64 = 8 + 4 + 1;
/// Smallest tensor entry: an empty name, one dimension, type and offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// What the header says about one tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Name, such as `blk.3.ffn_down.weight`.
    pub name: String,
    /// Element type, or `None` when fewron cannot compute with it (see [`TensorInfo::type_name`]).
    pub dtype: Option<DType>,
    /// Type as numbered by `enum ggml_type`.
    pub ggml_type: u32,
    /// Extents in ggml order: `shape[0]` is the contiguous one (columns), the reverse of a PyTorch
    /// shape. One to four entries, none zero.
    pub shape: Vec<usize>,
    /// Bytes of the data in the file; only the start counts when `dtype` is `None`.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The name ggml gives the element type, `type 41` for one that was not known when this was
    /// written.
    pub fn type_name(&self) -> String {
        if let Some(dtype) = self.dtype {
            return dtype.name().to_string();
        }
        match self.ggml_type {
            9 => "Q8_1",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            20 => "IQ4_NL",
            21 => "IQ3_S",
            22 => "IQ2_S",
            23 => "IQ4_XS",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            other => return format!("type {other}"),
        }
        .to_string()
    }
}

/// The whole header.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) version: u32,
    /// Keys in file order, each with its type and the position of its value.
    pub(super) fields: Vec<(String, ValueType, usize)>,
    by_key: HashMap<String, usize>,
    pub(super) tensors: Vec<TensorInfo>,
    /// What the offsets of tensors are multiples of.
    pub(super) alignment: u64,
    by_name: HashMap<String, usize>,
}

impl Index {
    /// Reads and checks the header of `bytes`, a whole file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, GgufProblem> {
        let version = check_magic(bytes)?;
        let mut cursor = Cursor::new(bytes, 8);
        let n_tensors = cursor.u64("the tensor count")?;
        let n_fields = cursor.u64("the metadata count")?;
        check_count("metadata entries", n_fields, MIN_FIELD_BYTES, &cursor, bytes)?;
        check_count("tensors", n_tensors, MIN_TENSOR_BYTES, &cursor, bytes)?;
        let mut index = Index {
            version,
            fields: Vec::new(),
            by_key: HashMap::new(),
            tensors: Vec::new(),
            alignment: DEFAULT_ALIGNMENT,
            by_name: HashMap::new(),
        };
        for _ in 0..n_fields {
            index.read_field(&mut cursor)?;
        }
        index.check_split(bytes)?;
        let alignment = index.read_alignment(bytes)?;
        index.alignment = alignment;
        for _ in 0..n_tensors {
            index.read_tensor(&mut cursor)?;
        }
        if n_tensors > 0 {
            let data_start = (cursor.pos() as u64).next_multiple_of(alignment);
            index.place_tensors(data_start, alignment, bytes.len() as u64)?;
        }
        Ok(index)
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The value of `key`, or `None` when it is absent.
    pub(super) fn value<'a>(
        &self,
        bytes: &'a [u8],
        key: &str,
    ) -> Result<Option<Value<'a>>, GgufProblem> {
        let Some(&at) = self.by_key.get(key) else { return Ok(None) };
        let (_, ty, pos) = self.fields[at];
        Value::read(&mut Cursor::new(bytes, pos), ty, key).map(Some)
    }

    /// The value of `key` as it lies in the file, or `None` when it is absent.
    pub(super) fn field(&self, bytes: &[u8], key: &str) -> Result<Option<Field>, GgufProblem> {
        let Some(&at) = self.by_key.get(key) else { return Ok(None) };
        let (_, ty, pos) = self.fields[at];
        let mut cursor = Cursor::new(bytes, pos);
        Value::read(&mut cursor, ty, key)?;
        Ok(Some(Field::Raw(ty, bytes[pos..cursor.pos()].to_vec())))
    }

    fn read_field(&mut self, cursor: &mut Cursor<'_>) -> Result<(), GgufProblem> {
        let key = cursor.string("a metadata key")?;
        let ty = cursor.value_type(key)?;
        let pos = cursor.pos();
        Value::read(cursor, ty, key)?;
        if self.by_key.insert(key.to_string(), self.fields.len()).is_some() {
            return Err(GgufProblem::DuplicateKey { key: key.to_string() });
        }
        self.fields.push((key.to_string(), ty, pos));
        Ok(())
    }

    fn check_split(&self, bytes: &[u8]) -> Result<(), GgufProblem> {
        match self.value(bytes, "split.count")? {
            Some(Value::Uint(parts)) if parts > 1 => Err(GgufProblem::Split { parts }),
            _ => Ok(()),
        }
    }

    fn read_alignment(&self, bytes: &[u8]) -> Result<u64, GgufProblem> {
        match self.value(bytes, "general.alignment")? {
            None => Ok(DEFAULT_ALIGNMENT),
            Some(Value::Uint(a)) if a.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&a) => {
                Ok(a)
            }
            Some(other) => Err(GgufProblem::Alignment { found: other.describe() }),
        }
    }

    /// Reads one tensor entry; its range is still relative to the data section and empty.
    fn read_tensor(&mut self, cursor: &mut Cursor<'_>) -> Result<(), GgufProblem> {
        let name = cursor.string("a tensor name")?;
        let n_dims = cursor.u32(name)?;
        if !(1..=4).contains(&n_dims) {
            return Err(GgufProblem::Dimensions { tensor: name.to_string(), n_dims });
        }
        let extents =
            (0..n_dims).map(|_| cursor.u64(name)).collect::<Result<Vec<u64>, GgufProblem>>()?;
        let shape = check_shape(name, &extents)?;
        let ggml_type = cursor.u32(name)?;
        let offset = cursor.u64(name)?;
        let start = usize::try_from(offset).map_err(|_| GgufProblem::TruncatedTensor {
            tensor: name.to_string(),
            start: offset,
            end: u64::MAX,
            len: cursor.len() as u64,
        })?;
        if self.by_name.insert(name.to_string(), self.tensors.len()).is_some() {
            return Err(GgufProblem::DuplicateTensor { tensor: name.to_string() });
        }
        self.tensors.push(TensorInfo {
            name: name.to_string(),
            dtype: DType::from_ggml(ggml_type),
            ggml_type,
            shape,
            range: start..start,
        });
        Ok(())
    }

    /// Turns offsets into checked byte ranges of the file.
    fn place_tensors(
        &mut self,
        data_start: u64,
        alignment: u64,
        len: u64,
    ) -> Result<(), GgufProblem> {
        for tensor in &mut self.tensors {
            let offset = tensor.range.start as u64;
            if !offset.is_multiple_of(alignment) {
                let tensor = tensor.name.clone();
                return Err(GgufProblem::Misaligned { tensor, offset, alignment });
            }
            let start = data_start.saturating_add(offset);
            let end = start.saturating_add(data_bytes(tensor)?);
            if end > len {
                let tensor = tensor.name.clone();
                return Err(GgufProblem::TruncatedTensor { tensor, start, end, len });
            }
            // Both fit: they are at most the length of a mapped file.
            tensor.range = start as usize..end as usize;
        }
        self.check_overlap()
    }

    fn check_overlap(&self) -> Result<(), GgufProblem> {
        let mut order: Vec<&TensorInfo> = self.tensors.iter().collect();
        order.sort_by_key(|t| (t.range.start, t.range.end));
        match order.windows(2).find(|w| w[0].range.end > w[1].range.start) {
            None => Ok(()),
            Some(w) => {
                Err(GgufProblem::Overlap { first: w[0].name.clone(), second: w[1].name.clone() })
            }
        }
    }
}

fn check_magic(bytes: &[u8]) -> Result<u32, GgufProblem> {
    let magic = &bytes[..bytes.len().min(4)];
    if magic != b"GGUF" {
        return Err(GgufProblem::NotGguf { found: magic.to_vec() });
    }
    let version = Cursor::new(bytes, 4).u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        v if v.swap_bytes() <= 0xffff => Err(GgufProblem::BigEndian),
        v => Err(GgufProblem::Version(v)),
    }
}

/// Refuses a count of entries that the rest of the file cannot hold, before any loop runs over it.
fn check_count(
    what: &'static str,
    count: u64,
    min_bytes: u64,
    cursor: &Cursor<'_>,
    bytes: &[u8],
) -> Result<(), GgufProblem> {
    let most = cursor.remaining() as u64 / min_bytes;
    if count > most {
        return Err(GgufProblem::AbsurdCount { what, count, most, len: bytes.len() as u64 });
    }
    Ok(())
}

fn check_shape(tensor: &str, extents: &[u64]) -> Result<Vec<usize>, GgufProblem> {
    let tensor = || tensor.to_string();
    if extents.contains(&0) {
        return Err(GgufProblem::ZeroExtent { tensor: tensor(), shape: extents.to_vec() });
    }
    // 2^60 elements of 8 bytes still fit a u64, so sizes cannot overflow below.
    let elements = extents.iter().try_fold(1u64, |n, &e| n.checked_mul(e));
    let shape = extents.iter().map(|&e| usize::try_from(e).ok()).collect::<Option<Vec<usize>>>();
    match (elements, shape) {
        (Some(n), Some(shape)) if n < 1 << 60 && usize::try_from(n).is_ok() => Ok(shape),
        _ => Err(GgufProblem::HugeTensor { tensor: tensor(), shape: extents.to_vec() }),
    }
}

/// Bytes of the tensor's data; 0 for a type whose blocks are not known.
fn data_bytes(tensor: &TensorInfo) -> Result<u64, GgufProblem> {
    let Some(dtype) = tensor.dtype else { return Ok(0) };
    let cols = tensor.shape[0];
    let row_bytes = dtype.row_bytes(cols).ok_or_else(|| GgufProblem::PartialBlock {
        tensor: tensor.name.clone(),
        cols,
        dtype: dtype.name(),
        block_len: dtype.block_len(),
    })?;
    let rows: usize = tensor.shape[1..].iter().product();
    Ok((row_bytes as u64).saturating_mul(rows as u64))
}
