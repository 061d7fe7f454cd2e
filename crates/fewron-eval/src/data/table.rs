//! CSV with a header: TruthfulQA's columns, or any table with a question column.

use std::collections::BTreeMap;

use csv::{Reader, ReaderBuilder, StringRecord};

use minijinja::Value;
use minijinja::value::Serde;

use super::records::Record;
use super::{LineError, Sample, add_reference, non_empty};

const EXPECTED: &str = "CSV with a header that has a Question (or prompt) column, and optionally \
                        Best Answer, Correct Answers (separated by ';'), answer, Category, id";

/// Whether the first line reads as a CSV header with a question column.
pub(super) fn has_question_column(text: &str) -> bool {
    let mut reader = reader(text.lines().next().unwrap_or_default());
    let Ok(header) = reader.headers() else { return false };
    header.len() > 1 && Columns::find(header).is_some()
}

pub(super) fn parse(text: &str) -> Result<Vec<Sample>, LineError> {
    let mut reader = reader(text);
    let header = reader.headers().map_err(|e| csv_error(&e))?;
    let columns = Columns::find(header).ok_or_else(|| LineError {
        line: 1,
        problem: "no column `Question` or `prompt`".to_owned(),
        expected: EXPECTED,
    })?;
    let mut samples = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| csv_error(&e))?;
        let number = samples.len() + 1;
        samples.push(columns.sample(&record, number).ok_or_else(|| LineError {
            line: record.position().map_or(0, csv::Position::line),
            problem: "the question is empty".to_owned(),
            expected: EXPECTED,
        })?);
    }
    Ok(samples)
}

/// The rows as records: columns by their names in lower case, with `_` for spaces.
pub(super) fn records(text: &str) -> Result<Vec<Record>, LineError> {
    let mut reader = reader(text);
    let header = reader.headers().map_err(|e| csv_error(&e))?;
    let names: Vec<String> =
        header.iter().map(|name| name.trim().to_lowercase().replace(' ', "_")).collect();
    let record = |row: Result<StringRecord, csv::Error>| {
        let row = row.map_err(|e| csv_error(&e))?;
        let fields: BTreeMap<&str, &str> = names.iter().map(String::as_str).zip(&row).collect();
        let line = row.position().map_or(0, csv::Position::line);
        Ok(Record { line, fields: Value::from(Serde(fields)) })
    };
    reader.records().map(record).collect()
}

fn reader(text: &str) -> Reader<&[u8]> {
    ReaderBuilder::new().from_reader(text.as_bytes())
}

fn csv_error(error: &csv::Error) -> LineError {
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields where the header has {expected_len}")
        }
        _ => error.to_string(),
    };
    LineError { line: error.position().map_or(1, csv::Position::line), problem, expected: EXPECTED }
}

/// Where the columns are.
struct Columns {
    question: usize,
    best_answer: Option<usize>,
    correct_answers: Option<usize>,
    category: Option<usize>,
    id: Option<usize>,
}

impl Columns {
    fn find(header: &StringRecord) -> Option<Self> {
        let find = |names: &[&str]| {
            header.iter().position(|column| {
                names.iter().any(|name| column.trim().eq_ignore_ascii_case(name))
            })
        };
        Some(Self {
            question: find(&["question", "prompt"])?,
            best_answer: find(&["best answer", "answer"]),
            correct_answers: find(&["correct answers", "references"]),
            category: find(&["category"]),
            id: find(&["id"]),
        })
    }

    fn sample(&self, record: &StringRecord, number: usize) -> Option<Sample> {
        let field = |column: Option<usize>| column.and_then(|i| record.get(i)).unwrap_or_default();
        let mut references = Vec::new();
        add_reference(&mut references, field(self.best_answer));
        for answer in field(self.correct_answers).split(';') {
            add_reference(&mut references, answer);
        }
        Some(Sample {
            id: non_empty(field(self.id)).unwrap_or_else(|| number.to_string()),
            question: non_empty(field(Some(self.question)))?,
            references,
            category: non_empty(field(self.category)),
        })
    }
}
