//! Records with any fields, as tasks define them.

use std::fs;
use std::path::Path;

use minijinja::Value;
use serde_json::value::RawValue;

use super::json::{lines_of, without_position};
use super::{DataError, Format, LineError, table, utf8};
use crate::hash::sha256;

const EXPECTED: &str = "a JSON object in each line or in an array, or a CSV with a header";

/// A data file's records, in file order.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// The file's name.
    pub(crate) name: String,
    /// SHA-256 of the file's bytes, lower-case hex.
    pub(crate) sha256: String,
    pub(crate) records: Vec<Record>,
}

/// An object of a data file.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Line from 1 on which it starts.
    pub(crate) line: u64,
    /// A map from names to values. Names of CSV columns are in lower case with `_` for spaces.
    pub(crate) fields: Value,
}

impl Records {
    /// Loads JSON lines, a JSON array, or a CSV with a header.
    ///
    /// # Errors
    /// If the file cannot be read, has no records, or has a line that its format does not allow.
    pub(crate) fn load(path: &Path) -> Result<Self, DataError> {
        let (name, bytes) = read(path)?;
        let malformed = |e: LineError| e.in_file(&name);
        let text = utf8(&bytes).map_err(malformed)?;
        let extension =
            path.extension().map_or(String::new(), |e| e.to_string_lossy().to_lowercase());
        let records = match Format::detect(&extension, text) {
            Format::Csv => table::records(text),
            Format::JsonArray => array(text),
            Format::JsonLines => lines(text),
            Format::Text => Err(LineError {
                line: 1,
                problem: "this is plain text".to_owned(),
                expected: EXPECTED,
            }),
        };
        let records = records.map_err(malformed)?;
        if records.is_empty() {
            return Err(DataError::Empty { name });
        }
        let sha256 = sha256(&bytes);
        Ok(Self { name, sha256, records })
    }
}

/// A plain text file: its name, SHA-256 and text.
pub(crate) fn load_text(path: &Path) -> Result<(String, String, String), DataError> {
    let (name, bytes) = read(path)?;
    let text = utf8(&bytes).map_err(|e| e.in_file(&name))?.to_owned();
    Ok((name, sha256(&bytes), text))
}

fn read(path: &Path) -> Result<(String, Vec<u8>), DataError> {
    let bytes = fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok((name, bytes))
}

fn lines(text: &str) -> Result<Vec<Record>, LineError> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines.map(|(line, number)| object(line, number)).collect()
}

fn array(text: &str) -> Result<Vec<Record>, LineError> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| LineError {
        line: e.line() as u64,
        problem: without_position(&e),
        expected: EXPECTED,
    })?;
    let lines = lines_of(text, &items);
    items.iter().zip(lines).map(|(item, line)| object(item.get(), line)).collect()
}

fn object(json: &str, line: u64) -> Result<Record, LineError> {
    let fields: Value = serde_json::from_str(json).map_err(|e| LineError {
        line: line + (e.line() as u64).saturating_sub(1),
        problem: without_position(&e),
        expected: EXPECTED,
    })?;
    if fields.kind() != minijinja::value::ValueKind::Map {
        let problem = format!("no object but {}", fields.kind());
        return Err(LineError { line, problem, expected: EXPECTED });
    }
    Ok(Record { line, fields })
}
