//! Bounds-checked little-endian reading.

use super::error::GgufProblem;
use super::value::ValueType;

/// A position in the bytes of a file; every read names what it was for.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], pos: usize) -> Self {
        Cursor { bytes, pos }
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// A second cursor at the same place.
    pub(super) fn fork(&self) -> Self {
        Cursor { bytes: self.bytes, pos: self.pos }
    }

    /// Length of the whole file in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes from here to the end.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.pos)
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], GgufProblem> {
        let truncated = || GgufProblem::TruncatedHeader {
            what: what.to_string(),
            start: self.pos as u64,
            needed: len,
            len: self.bytes.len() as u64,
        };
        let end = usize::try_from(len).ok().and_then(|n| self.pos.checked_add(n));
        let slice = end.and_then(|end| self.bytes.get(self.pos..end)).ok_or_else(truncated)?;
        self.pos += slice.len();
        Ok(slice)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufProblem> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufProblem> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufProblem> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length in bytes as u64, then UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str, GgufProblem> {
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|_| GgufProblem::NotUtf8 { what: what.to_string() })
    }

    pub(super) fn value_type(&mut self, what: &str) -> Result<ValueType, GgufProblem> {
        let id = self.u32(what)?;
        ValueType::from_id(id)
            .ok_or_else(|| GgufProblem::UnknownValueType { key: what.to_string(), id })
    }
}
