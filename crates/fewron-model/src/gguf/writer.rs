//! Writing GGUF files: whole small ones in memory, and headers of files that are streamed.

use std::io;
use std::path::Path;

use super::value::ValueType;

const DEFAULT_ALIGNMENT: u64 = 32;

/// A metadata value to write.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Field {
    U32(u32),
    U64(u64),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(String),
    U32s(Vec<u32>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Bools(Vec<bool>),
    Strs(Vec<String>),
    /// A value as it lies in another file; see [`super::Metadata::field`].
    Raw(ValueType, Vec<u8>),
}

impl Field {
    fn value_type(&self) -> ValueType {
        match self {
            Field::U32(_) | Field::U32s(_) => ValueType::U32,
            Field::U64(_) => ValueType::U64,
            Field::I32(_) | Field::I32s(_) => ValueType::I32,
            Field::F32(_) | Field::F32s(_) => ValueType::F32,
            Field::Bool(_) | Field::Bools(_) => ValueType::Bool,
            Field::Str(_) | Field::Strs(_) => ValueType::Str,
            Field::Raw(ty, _) => *ty,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Field::U32(v) => out.extend(v.to_le_bytes()),
            Field::U64(v) => out.extend(v.to_le_bytes()),
            Field::I32(v) => out.extend(v.to_le_bytes()),
            Field::F32(v) => out.extend(v.to_le_bytes()),
            Field::Bool(v) => out.push(u8::from(*v)),
            Field::Str(v) => write_str(v, out),
            Field::U32s(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
            Field::I32s(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
            Field::F32s(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
            Field::Bools(v) => out.extend(v.iter().map(|&x| u8::from(x))),
            Field::Strs(v) => v.iter().for_each(|x| write_str(x, out)),
            Field::Raw(_, bytes) => out.extend(bytes),
        }
    }

    /// Number of elements of an array.
    fn array_len(&self) -> Option<usize> {
        match self {
            Field::U32s(v) => Some(v.len()),
            Field::I32s(v) => Some(v.len()),
            Field::F32s(v) => Some(v.len()),
            Field::Bools(v) => Some(v.len()),
            Field::Strs(v) => Some(v.len()),
            _ => None,
        }
    }
}

struct Tensor {
    name: String,
    ggml_type: u32,
    shape: Vec<u64>,
    data: Vec<u8>,
}

/// Builder of a GGUF version 3 file in memory; it checks nothing, so that tests can write wrong
/// files too.
#[derive(Default)]
pub struct Writer {
    fields: Vec<(String, Field)>,
    tensors: Vec<Tensor>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata value.
    #[must_use]
    pub fn field(mut self, key: &str, value: Field) -> Self {
        self.fields.push((key.to_string(), value));
        self
    }

    /// Adds a tensor: its `enum ggml_type` number (F32 is 0, Q4_1 is 3), its shape in ggml order
    /// (columns first) and its bytes.
    #[must_use]
    pub fn tensor(mut self, name: &str, ggml_type: u32, shape: &[u64], data: Vec<u8>) -> Self {
        let (name, shape) = (name.to_string(), shape.to_vec());
        self.tensors.push(Tensor { name, ggml_type, shape, data });
        self
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = self.tensors.iter().map(|t| Entry {
            name: &t.name,
            ggml_type: t.ggml_type,
            shape: &t.shape,
            bytes: t.data.len() as u64,
        });
        let alignment = self.alignment();
        let mut out = header(&self.fields, entries, alignment);
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(alignment as usize), 0);
            out.extend(&tensor.data);
        }
        out
    }

    /// That of the metadata, if it is a possible one.
    fn alignment(&self) -> u64 {
        let field = self.fields.iter().find(|(key, _)| key == "general.alignment");
        match field {
            Some((_, Field::U32(a))) if a.is_power_of_two() && *a <= 1 << 20 => u64::from(*a),
            _ => DEFAULT_ALIGNMENT,
        }
    }

    /// Writes the file to `path`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.to_bytes())
    }
}

/// A tensor as the header has it.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) ggml_type: u32,
    /// In ggml order: columns first.
    pub(super) shape: &'a [u64],
    /// Bytes of its data.
    pub(super) bytes: u64,
}

/// Everything before the data of the first tensor but the padding. Tensors are to follow each other
/// in this order, each at the next multiple of `alignment`.
pub(super) fn header<'a>(
    fields: &[(String, Field)],
    tensors: impl ExactSizeIterator<Item = Entry<'a>>,
    alignment: u64,
) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((fields.len() as u64).to_le_bytes());
    for (key, field) in fields {
        write_field(key, field, &mut out);
    }
    let mut offset = 0;
    for tensor in tensors {
        write_str(tensor.name, &mut out);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().for_each(|e| out.extend(e.to_le_bytes()));
        out.extend(tensor.ggml_type.to_le_bytes());
        out.extend(u64::to_le_bytes(offset));
        offset += tensor.bytes.next_multiple_of(alignment);
    }
    out
}

fn write_field(key: &str, field: &Field, out: &mut Vec<u8>) {
    write_str(key, out);
    if let Some(len) = field.array_len() {
        out.extend(ValueType::Array.id().to_le_bytes());
        out.extend(field.value_type().id().to_le_bytes());
        out.extend((len as u64).to_le_bytes());
    } else {
        out.extend(field.value_type().id().to_le_bytes());
    }
    field.write(out);
}

fn write_str(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
