//! JSON arrays and JSON lines of question objects.

use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;

use super::{LineError, Sample, add_reference, line_at, non_empty};

const EXPECTED: &str = "an object with a text field `question`, `prompt` or `instruction`, and \
                        optionally `answer`, `references`, `category`, `id`";
const EXPECTED_ARRAY: &str = "a JSON array of objects with `question`, `prompt` or `instruction`";

/// Every field of the known formats: our own, Yahoo Answers nfL6 (`main_category`, `answer`,
/// `nbestanswers`) and instruction sets (`instruction`, `input`, `output`). Others are ignored.
#[derive(Deserialize)]
struct Item {
    question: Option<String>,
    prompt: Option<String>,
    instruction: Option<String>,
    input: Option<String>,
    answer: Option<Scalar>,
    output: Option<String>,
    #[serde(default)]
    references: Vec<String>,
    #[serde(default)]
    nbestanswers: Vec<String>,
    category: Option<String>,
    main_category: Option<String>,
    id: Option<Scalar>,
}

/// A field that files write as text, number or truth value.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(Number),
    Bool(bool),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
        }
    }
}

pub(super) fn parse_lines(text: &str) -> Result<Vec<Sample>, LineError> {
    let mut samples = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if !line.trim().is_empty() {
            samples.push(parse_item(line, i as u64 + 1, samples.len() + 1)?);
        }
    }
    Ok(samples)
}

pub(super) fn parse_array(text: &str) -> Result<Vec<Sample>, LineError> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| LineError {
        line: e.line() as u64,
        problem: without_position(&e),
        expected: EXPECTED_ARRAY,
    })?;
    let line_of = lines_of(text, &items);
    items
        .iter()
        .zip(line_of)
        .enumerate()
        .map(|(i, (item, line))| parse_item(item.get(), line, i + 1))
        .collect()
}

/// First line of every item, in one pass over the text that the items borrow from.
pub(super) fn lines_of(text: &str, items: &[&RawValue]) -> Vec<u64> {
    let (mut line, mut done) = (1, 0);
    let mut lines = Vec::with_capacity(items.len());
    for item in items {
        let offset = item.get().as_ptr().addr() - text.as_ptr().addr();
        line += line_at(&text.as_bytes()[done..], offset - done) - 1;
        done = offset;
        lines.push(line);
    }
    lines
}

/// Parses one object that starts at `line`.
fn parse_item(json: &str, line: u64, number: usize) -> Result<Sample, LineError> {
    let item: Item = serde_json::from_str(json).map_err(|e| LineError {
        line: line + (e.line() as u64).saturating_sub(1),
        problem: without_position(&e),
        expected: EXPECTED,
    })?;
    item.into_sample(number).ok_or_else(|| LineError {
        line,
        problem: "no question, or an empty one".to_owned(),
        expected: EXPECTED,
    })
}

/// The message without " at line 1 column 9", which counts from the item's start.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or(&message).to_owned()
}

impl Item {
    fn into_sample(self, number: usize) -> Option<Sample> {
        let mut references = Vec::new();
        let answer = self.answer.map(Scalar::into_text);
        for answer in
            answer.iter().chain(&self.output).chain(&self.references).chain(&self.nbestanswers)
        {
            add_reference(&mut references, answer);
        }
        let mut question = [self.question, self.prompt, self.instruction]
            .iter()
            .flatten()
            .find_map(|text| non_empty(text))?;
        if let Some(input) = self.input.as_deref().and_then(non_empty) {
            question = format!("{question}\n{input}");
        }
        let id = self.id.map_or_else(|| number.to_string(), Scalar::into_text);
        Some(Sample { id, question, references, category: self.category.or(self.main_category) })
    }
}
