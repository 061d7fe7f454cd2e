//! Data sets: questions with their references, from the built-in set or from a file.

mod json;
mod records;
mod table;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use crate::hash::sha256;

pub(crate) use records::{Record, Records, load_text};

/// Questions written for this project, one JSON object a line.
const BUILTIN: &str = include_str!("../data/questions.jsonl");

/// Varied English text written for this project, to calibrate run-time policies on.
pub const CALIBRATION_TEXT: &str = include_str!("../data/calibration.txt");

/// A named list of samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// `builtin` or the file's name.
    pub name: String,
    /// SHA-256 of the file's bytes, lower-case hex; the same whatever the limit.
    pub sha256: String,
    /// Samples in file order.
    pub samples: Vec<Sample>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The file's own id, or the sample's number from 1.
    pub id: String,
    /// What the model is asked, or the text it continues.
    pub question: String,
    /// Good answers, best first; may be empty.
    pub references: Vec<String>,
    /// Topic, where the file names one.
    pub category: Option<String>,
}

/// Why a data set cannot be used. Messages are one line and name file, line and what is expected.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("cannot read data file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no sample in the file, or the limit is 0.
    #[error("{name} has no samples; expected {EXPECTED}")]
    Empty {
        /// The data set.
        name: String,
    },
    /// A line is not what its format asks for.
    #[error("{name}, line {line}: {problem}; expected {expected}")]
    Malformed {
        /// The data set.
        name: String,
        /// Line from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
        /// What should be there.
        expected: &'static str,
    },
}

const EXPECTED: &str = "`builtin`, a CSV with a Question column, a JSON array or JSON lines of \
                        objects with `question`, `prompt` or `instruction`, or plain text with \
                        blank lines between samples";

/// A problem at a line, before the data set's name is known.
#[derive(Debug)]
struct LineError {
    line: u64,
    problem: String,
    expected: &'static str,
}

impl LineError {
    fn in_file(self, name: &str) -> DataError {
        let Self { line, problem, expected } = self;
        DataError::Malformed { name: name.to_owned(), line, problem, expected }
    }
}

impl Dataset {
    /// Loads `builtin` or a file: CSV (TruthfulQA's columns), a JSON array (Yahoo Answers nfL6's or
    /// instruction sets' fields), JSON lines, or plain text in paragraphs. The format comes from
    /// the file's extension, or from its content where the extension says nothing. `limit` keeps
    /// the first samples only.
    ///
    /// # Errors
    /// If the file cannot be read, has no samples, or has a line that its format does not allow,
    /// anywhere in the file.
    pub fn load(spec: &str, limit: Option<usize>) -> Result<Self, DataError> {
        if spec == "builtin" {
            return Self::parse("builtin", "jsonl", BUILTIN.as_bytes(), limit);
        }
        let path = Path::new(spec);
        let bytes =
            fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        let name = path.file_name().map_or(spec.into(), |name| name.to_string_lossy());
        let extension =
            path.extension().map_or(String::new(), |e| e.to_string_lossy().to_lowercase());
        Self::parse(&name, &extension, &bytes, limit)
    }

    /// Parses a file's bytes; `extension` in lower case, without the dot.
    fn parse(
        name: &str,
        extension: &str,
        bytes: &[u8],
        limit: Option<usize>,
    ) -> Result<Self, DataError> {
        let malformed = |e: LineError| e.in_file(name);
        let text = utf8(bytes).map_err(malformed)?;
        let mut samples = match Format::detect(extension, text) {
            Format::Csv => table::parse(text),
            Format::JsonArray => json::parse_array(text),
            Format::JsonLines => json::parse_lines(text),
            Format::Text => Ok(text::parse(text)),
        }
        .map_err(malformed)?;
        samples.truncate(limit.unwrap_or(usize::MAX));
        if samples.is_empty() {
            return Err(DataError::Empty { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), sha256: sha256(bytes), samples })
    }
}

/// The text without its byte order mark.
fn utf8(bytes: &[u8]) -> Result<&str, LineError> {
    let text = str::from_utf8(bytes).map_err(|e| LineError {
        line: line_at(bytes, e.valid_up_to()),
        problem: "not UTF-8 text".to_owned(),
        expected: "a text file in UTF-8",
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Line from 1 of a byte offset.
fn line_at(bytes: &[u8], offset: usize) -> u64 {
    1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    Csv,
    JsonArray,
    JsonLines,
    Text,
}

impl Format {
    fn detect(extension: &str, text: &str) -> Self {
        let first = text.trim_start().chars().next();
        match (extension, first) {
            ("csv", _) => Self::Csv,
            ("jsonl" | "ndjson", Some('[')) | ("json", Some('[')) => Self::JsonArray,
            ("jsonl" | "ndjson" | "json", _) => Self::JsonLines,
            ("txt" | "text" | "md", _) => Self::Text,
            (_, Some('[')) => Self::JsonArray,
            (_, Some('{')) => Self::JsonLines,
            _ if table::has_question_column(text) => Self::Csv,
            _ => Self::Text,
        }
    }
}

/// The trimmed text unless it is empty.
fn non_empty(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Adds a reference unless it is empty or there already.
fn add_reference(references: &mut Vec<String>, text: &str) {
    if let Some(text) = non_empty(text)
        && !references.contains(&text)
    {
        references.push(text);
    }
}

#[cfg(test)]
mod tests;
