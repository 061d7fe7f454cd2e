//! Metadata values.

use super::cursor::Cursor;
use super::error::GgufProblem;

/// Type of a metadata value (`enum gguf_metadata_value_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    const BY_ID: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::Str,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::BY_ID.get(usize::try_from(id).ok()?).copied()
    }

    pub(super) fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of one value, or `None` for strings and arrays.
    fn fixed_bytes(self) -> Option<u64> {
        Some(match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 => 8,
            ValueType::Str | ValueType::Array => return None,
        })
    }
}

/// A metadata value; integers and floats of every width are widened.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Value<'a> {
    Uint(u64),
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(&'a str),
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// The value as an integer, when it is one.
    pub fn as_integer(&self) -> Option<i128> {
        match self {
            Value::Uint(v) => Some(i128::from(*v)),
            Value::Int(v) => Some(i128::from(*v)),
            _ => None,
        }
    }

    /// Reads the value of `key` from the cursor, leaving it behind the value.
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        ty: ValueType,
        key: &str,
    ) -> Result<Self, GgufProblem> {
        match (ty, ty.fixed_bytes()) {
            (_, Some(len)) => Ok(Self::from_le(ty, cursor.take(len, key)?)),
            (ValueType::Str, _) => cursor.string(key).map(Value::Str),
            _ => Array::read(cursor, key).map(Value::Array),
        }
    }

    /// A value of a fixed-size type from its bytes; the caller took as many as the type has.
    fn from_le(ty: ValueType, bytes: &[u8]) -> Self {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        match ty {
            ValueType::I8 => Value::Int(i64::from(bits as i8)),
            ValueType::I16 => Value::Int(i64::from(bits as i16)),
            ValueType::I32 => Value::Int(i64::from(bits as i32)),
            ValueType::I64 => Value::Int(bits as i64),
            ValueType::F32 => Value::Float(f64::from(f32::from_bits(bits as u32))),
            ValueType::F64 => Value::Float(f64::from_bits(bits)),
            ValueType::Bool => Value::Bool(bits != 0),
            _ => Value::Uint(bits),
        }
    }

    /// What the value is, for messages: `text "llama"`, `an array of 3 I32`.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::Uint(v) => format!("the number {v}"),
            Value::Int(v) => format!("the number {v}"),
            Value::Float(v) => format!("the number {v:?}"),
            Value::Bool(v) => format!("{v}"),
            Value::Str(v) => format!("the text {:?}", v.chars().take(40).collect::<String>()),
            Value::Array(a) => format!("an array of {} {:?}", a.len(), a.value_type()),
        }
    }
}

/// A metadata array, read from the map element by element.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    ty: ValueType,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Type of the elements.
    pub fn value_type(&self) -> ValueType {
        self.ty
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let ty = self.ty;
        let mut cursor = Cursor::new(self.bytes, 0);
        // `Array::read` walked these bytes once, so reading fails only if the file changed since.
        (0..self.len).map_while(move |_| Value::read(&mut cursor, ty, "element").ok())
    }

    fn read(cursor: &mut Cursor<'a>, key: &str) -> Result<Self, GgufProblem> {
        let ty = cursor.value_type(key)?;
        let count = cursor.u64(key)?;
        if ty == ValueType::Array {
            return Err(GgufProblem::NestedArray { key: key.to_string() });
        }
        // A string takes at least the eight bytes of its length.
        let least = ty.fixed_bytes().unwrap_or(8);
        let needed = count.saturating_mul(least);
        let mut start = cursor.fork();
        match ty.fixed_bytes() {
            Some(_) => drop(cursor.take(needed, key)?),
            None => {
                cursor.fork().take(needed, key)?;
                (0..count).try_for_each(|_| cursor.string(key).map(drop))?;
            }
        }
        let bytes = start.take((cursor.pos() - start.pos()) as u64, key)?;
        // `needed` fits the file, so `count` fits a usize.
        Ok(Array { ty, len: count as usize, bytes })
    }
}
