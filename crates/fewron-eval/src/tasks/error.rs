//! Why a task cannot be used.

use std::path::PathBuf;

use crate::data::DataError;

/// A task or its data that cannot be used. Messages are one line and name the way out.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TaskError {
    /// Neither a built-in task nor a TOML file.
    #[error("there is no task {name}; there are {known}, and your own as path/to/task.toml=FILE")]
    Unknown { name: String, known: String },
    /// The definition cannot be read.
    #[error("cannot read task file {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The definition is not what its kind asks for.
    #[error("{file}, line {line}: {problem}")]
    Definition { file: String, line: usize, problem: String },
    /// A template or an expression of the definition is none.
    #[error("task {task}: `{field}` is no Jinja: {problem}")]
    Jinja { task: String, field: &'static str, problem: String },
    /// The data file cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A record lacks what the task wants of it.
    #[error("{file}, line {line}: {problem} in `{field}` of task {task}; the record has {has}")]
    Field {
        file: String,
        line: u64,
        problem: String,
        field: &'static str,
        task: String,
        has: String,
    },
    /// A file of labels that does not go with the data.
    #[error("{labels} has {found} labels, but {file} has {expected} records")]
    Labels { labels: String, file: String, found: usize, expected: usize },
    /// Few-shot examples use up the file.
    #[error(
        "{file} has {records} records, and the first {few_shot} are examples for the task {task}: \
         nothing is left to score; use more data, or a task file with a smaller `few_shot`"
    )]
    OnlyExamples { file: String, task: String, records: usize, few_shot: usize },
}
