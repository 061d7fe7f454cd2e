//! A task with its data: prompts and answers as text, ready for any model.

use std::fs;
use std::path::Path;

use minijinja::context;
use minijinja::value::Value;

use super::TaskError;
use super::definition::{Definition, Generate, MultipleChoice};
use super::prompt::{Field, environment};
use crate::data::{DataError, Record, Records, load_text};

/// Between solved examples and the prompt.
const EXAMPLE_SEPARATOR: &str = "\n\n";

/// A task with its data.
#[derive(Clone, Debug)]
pub struct Task {
    /// Name of the task.
    pub name: String,
    /// What it asks.
    pub definition: Definition,
    /// Name of the data file.
    pub data_name: String,
    /// SHA-256 of the data file's bytes, lower-case hex; the same whatever the limit.
    pub data_sha256: String,
    /// Samples to score at most.
    pub(super) limit: usize,
    pub(super) samples: Samples,
}

#[derive(Clone, Debug)]
pub(super) enum Samples {
    Text(String),
    Choices(Vec<Choices>),
    Questions(Vec<Question>),
}

/// A prompt with answers to choose from.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    pub(super) id: String,
    pub(super) category: Option<String>,
    pub(super) prompt: String,
    /// Texts of the answers, without what stands between them and the prompt.
    pub(super) choices: Vec<String>,
    /// Whether each is right.
    pub(super) right: Vec<bool>,
}

/// A prompt with good answers.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) id: String,
    pub(super) category: Option<String>,
    pub(super) prompt: String,
    pub(super) references: Vec<String>,
}

impl Task {
    /// The task `spec` (a built-in name or a `.toml` file) on a data file: JSON lines, a JSON array
    /// or a CSV, for perplexity plain text. `limit` keeps the first samples (windows of a text) only.
    ///
    /// # Errors
    /// When there is no such task, a file cannot be read, or a record lacks what the task needs.
    pub fn load(spec: &str, file: &Path, limit: Option<usize>) -> Result<Self, TaskError> {
        let (name, definition) = Definition::find(spec)?;
        let limit = limit.unwrap_or(usize::MAX);
        let (data_name, data_sha256, samples) = match &definition {
            Definition::Perplexity(_) => {
                let (data_name, sha256, text) = load_text(file)?;
                (data_name, sha256, Samples::Text(text))
            }
            Definition::MultipleChoice(task) => {
                let mut records = Records::load(file)?;
                add_labels(&mut records, file, &task.labels)?;
                let samples = Samples::Choices(choices(&name, task, &records, limit)?);
                (records.name, records.sha256, samples)
            }
            Definition::Generate(task) => {
                let records = Records::load(file)?;
                let samples = Samples::Questions(questions(&name, task, &records, limit)?);
                (records.name, records.sha256, samples)
            }
        };
        Ok(Self { name, definition, data_name, data_sha256, limit, samples })
    }

    /// Whether prompts go through the model's chat template.
    pub fn uses_chat(&self) -> bool {
        matches!(&self.definition, Definition::Generate(task) if task.chat)
    }
}

/// Gives each record its `label` from the first file of labels that is there.
fn add_labels(records: &mut Records, file: &Path, patterns: &[String]) -> Result<(), TaskError> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let files = patterns.iter().map(|p| file.with_file_name(p.replace("{stem}", &stem)));
    let Some(path) = files.into_iter().find(|path| path.is_file()) else { return Ok(()) };
    let text =
        fs::read_to_string(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
    let labels: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    if labels.len() != records.records.len() {
        return Err(TaskError::Labels {
            labels: path.display().to_string(),
            file: records.name.clone(),
            found: labels.len(),
            expected: records.records.len(),
        });
    }
    for (record, label) in records.records.iter_mut().zip(labels) {
        record.fields = context! { label, ..record.fields.clone() };
    }
    Ok(())
}

fn choices(
    name: &str,
    task: &MultipleChoice,
    records: &Records,
    limit: usize,
) -> Result<Vec<Choices>, TaskError> {
    let env = environment();
    let prompt = Field::template(&env, name, "prompt", &task.prompt)?;
    let texts = Field::expression(&env, name, "choices", &task.choices)?;
    let gold = Field::expression(&env, name, "gold", &task.gold)?;
    let category = Field::expression(&env, name, "category", category_of(&task.category))?;
    let (examples, scored) = split(name, task.few_shot, records)?;
    let sample = |(number, record)| {
        let choices = texts.texts(records, record)?;
        let value = gold.of(records, record)?;
        let right = right(&value, choices.len())
            .ok_or_else(|| gold.problem(records, record, no_gold(&value, choices.len())))?;
        let prompt = prompt.text(records, record)?;
        let category = category.text_or_none(records, record)?;
        Ok(Choices { id: id(record, number), category, prompt, choices, right })
    };
    let mut shown = String::new();
    for example in examples.iter().zip(1..).map(|(record, number)| sample((number, record))) {
        let Choices { prompt, choices, right, .. } = example?;
        let best = right.iter().position(|&right| right).unwrap_or(0);
        shown += &format!("{prompt}{}{}{EXAMPLE_SEPARATOR}", task.delimiter, choices[best]);
    }
    let scored = scored.iter().enumerate().take(limit);
    let scored = scored.map(|(i, record)| sample((task.few_shot + i + 1, record)));
    let shown_before =
        |sample: Choices| Choices { prompt: format!("{shown}{}", sample.prompt), ..sample };
    scored.map(|sample: Result<Choices, TaskError>| sample.map(shown_before)).collect()
}

fn questions(
    name: &str,
    task: &Generate,
    records: &Records,
    limit: usize,
) -> Result<Vec<Question>, TaskError> {
    let env = environment();
    let prompt = Field::template(&env, name, "prompt", &task.prompt)?;
    let target = Field::template(&env, name, "target", &task.target)?;
    let references = Field::expression(&env, name, "references", &task.references)?;
    let category = Field::expression(&env, name, "category", category_of(&task.category))?;
    let (examples, scored) = split(name, task.few_shot, records)?;
    let mut shown = String::new();
    for record in examples {
        shown += &prompt.text(records, record)?;
        shown += &target.text(records, record)?;
        shown += EXAMPLE_SEPARATOR;
    }
    let question = |(i, record)| {
        let references = references.texts(records, record)?.into_iter();
        let references = references.map(|text| text.trim().to_owned()).filter(|t| !t.is_empty());
        Ok(Question {
            id: id(record, task.few_shot + i + 1),
            category: category.text_or_none(records, record)?,
            prompt: format!("{shown}{}", prompt.text(records, record)?),
            references: references.collect(),
        })
    };
    scored.iter().enumerate().take(limit).map(question).collect()
}

/// The expression of the category; `none` where the task has none.
fn category_of(expression: &Option<String>) -> &str {
    expression.as_deref().unwrap_or("none")
}

/// Examples and what is scored.
fn split<'a>(
    task: &str,
    few_shot: usize,
    records: &'a Records,
) -> Result<(&'a [Record], &'a [Record]), TaskError> {
    let all = &records.records;
    if all.len() <= few_shot {
        return Err(TaskError::OnlyExamples {
            file: records.name.clone(),
            task: task.to_owned(),
            records: all.len(),
            few_shot,
        });
    }
    Ok(all.split_at(few_shot))
}

/// The record's own id, or its number from 1.
fn id(record: &Record, number: usize) -> String {
    match record.fields.get_attr("id") {
        Ok(id) if !id.is_undefined() && !id.is_none() => id.to_string(),
        _ => number.to_string(),
    }
}

/// Which of `count` answers a gold value names: an index (as text too), or 0 or 1 for each.
fn right(gold: &Value, count: usize) -> Option<Vec<bool>> {
    let index = match gold.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => gold.as_usize(),
    };
    if let Some(index) = index {
        return (index < count).then(|| (0..count).map(|i| i == index).collect());
    }
    let each: Vec<bool> = gold.try_iter().ok()?.map(|truth| truth.is_true()).collect();
    (each.len() == count && each.contains(&true)).then_some(each)
}

fn no_gold(gold: &Value, count: usize) -> String {
    format!("{gold:?} names none of {count} answers (an index from 0, or 0 or 1 for each)")
}
