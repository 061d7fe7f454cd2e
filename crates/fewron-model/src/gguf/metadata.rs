//! Typed access to the key-value pairs.

use std::path::Path;

use super::error::{GgufError, GgufProblem};
use super::index::Index;
use super::value::{Array, Value};
use super::writer::Field;

/// The key-value pairs of an open file; a copyable view.
///
/// Integers may have any width and sign in the file as long as the value fits the type asked for.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    index: &'a Index,
}

impl<'a> Metadata<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8], index: &'a Index) -> Self {
        Metadata { path, bytes, index }
    }

    /// The value of `key` as `T`, or `None` when the key is absent.
    ///
    /// # Errors
    /// [`GgufProblem::WrongType`] when the value is no `T` or does not fit it.
    pub fn get<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.value(key)? else { return Ok(None) };
        T::from_value(&value).map(Some).ok_or_else(|| {
            self.error(GgufProblem::WrongType {
                key: key.to_string(),
                expected: T::EXPECTED,
                found: value.describe(),
            })
        })
    }

    /// The value of `key` as `T`.
    ///
    /// # Errors
    /// [`GgufProblem::MissingKey`], or as [`Metadata::get`].
    pub fn require<T: FromValue<'a>>(&self, key: &str) -> Result<T, GgufError> {
        self.get(key)?.ok_or_else(|| self.error(GgufProblem::MissingKey { key: key.to_string() }))
    }

    /// [`Metadata::require`] of a text.
    ///
    /// # Errors
    /// As [`Metadata::require`].
    pub fn str(&self, key: &str) -> Result<&'a str, GgufError> {
        self.require(key)
    }

    /// [`Metadata::require`] of an unsigned integer.
    ///
    /// # Errors
    /// As [`Metadata::require`].
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.require(key)
    }

    /// [`Metadata::require`] of a float.
    ///
    /// # Errors
    /// As [`Metadata::require`].
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.require(key)
    }

    /// [`Metadata::require`] of a truth value.
    ///
    /// # Errors
    /// As [`Metadata::require`].
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.require(key)
    }

    /// The value of `key` in its own type, or `None` when the key is absent.
    ///
    /// # Errors
    /// Only when the file was changed while it was open.
    pub fn value(&self, key: &str) -> Result<Option<Value<'a>>, GgufError> {
        self.index.value(self.bytes, key).map_err(|p| self.error(p))
    }

    /// The value of `key` for a [`super::Writer`], in the very bytes of this file, or `None` when the
    /// key is absent.
    ///
    /// # Errors
    /// As [`Metadata::value`].
    pub fn field(&self, key: &str) -> Result<Option<Field>, GgufError> {
        self.index.field(self.bytes, key).map_err(|p| self.error(p))
    }

    /// Whether the key is present.
    pub fn contains(&self, key: &str) -> bool {
        self.index.fields.iter().any(|(k, _, _)| k == key)
    }

    /// The keys in the order of the file.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        self.index.fields.iter().map(|(key, _, _)| key.as_str())
    }

    fn error(&self, problem: GgufProblem) -> GgufError {
        GgufError::new(self.path, problem)
    }
}

/// A Rust type that a metadata value can be read as.
pub trait FromValue<'a>: Sized {
    /// What is expected, for messages.
    const EXPECTED: &'static str;

    /// The value, or `None` when it has another type or does not fit.
    fn from_value(value: &Value<'a>) -> Option<Self>;
}

macro_rules! integer_from_value {
    ($($ty:ty, $one:literal, $many:literal;)*) => {$(
        impl FromValue<'_> for $ty {
            const EXPECTED: &'static str = $one;
            fn from_value(value: &Value<'_>) -> Option<Self> {
                value.as_integer()?.try_into().ok()
            }
        }
        array_from_value!($ty, $many);
    )*};
}

macro_rules! array_from_value {
    ($ty:ty, $many:literal) => {
        impl<'a> FromValue<'a> for Vec<$ty> {
            const EXPECTED: &'static str = $many;
            fn from_value(value: &Value<'a>) -> Option<Self> {
                elements(value, <$ty>::from_value)
            }
        }
    };
}

integer_from_value! {
    u32, "an unsigned 32-bit integer", "an array of unsigned 32-bit integers";
    i32, "a 32-bit integer", "an array of 32-bit integers";
    u64, "an unsigned integer", "an array of unsigned integers";
    usize, "an unsigned integer", "an array of unsigned integers";
}

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a number";

    /// Also takes integers, rounded to the nearest float.
    fn from_value(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Float(v) => Some(*v as f32),
            other => other.as_integer().map(|v| v as f32),
        }
    }
}
array_from_value!(f32, "an array of numbers");

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_value(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }
}
array_from_value!(bool, "an array of true or false");

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a text";

    fn from_value(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::Str(v) => Some(v),
            _ => None,
        }
    }
}
array_from_value!(&'a str, "an array of texts");

impl<'a> FromValue<'a> for Array<'a> {
    const EXPECTED: &'static str = "an array";

    fn from_value(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::Array(array) => Some(*array),
            _ => None,
        }
    }
}

/// The elements of an array value; `None` for no array or an element that does not convert.
fn elements<'a, T>(value: &Value<'a>, read: impl Fn(&Value<'a>) -> Option<T>) -> Option<Vec<T>> {
    let Value::Array(array) = value else { return None };
    let out: Vec<T> = array.iter().map(|v| read(&v)).collect::<Option<_>>()?;
    (out.len() == array.len()).then_some(out)
}
