//! What a task asks and how it is scored: a TOML file.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::TaskError;
use super::metric::{ChoiceMetric, GenerateMetric};

/// Names and definitions of the tasks that come with fewron.
const BUILTIN: [(&str, &str); 9] = [
    ("perplexity", include_str!("../../tasks/perplexity.toml")),
    ("arc_easy", include_str!("../../tasks/arc_easy.toml")),
    ("piqa", include_str!("../../tasks/piqa.toml")),
    ("boolq", include_str!("../../tasks/boolq.toml")),
    ("hellaswag", include_str!("../../tasks/hellaswag.toml")),
    ("truthfulqa_mc1", include_str!("../../tasks/truthfulqa_mc1.toml")),
    ("truthfulqa_mc2", include_str!("../../tasks/truthfulqa_mc2.toml")),
    ("truthfulqa_gen", include_str!("../../tasks/truthfulqa_gen.toml")),
    ("gsm8k", include_str!("../../tasks/gsm8k.toml")),
];

/// Names of the tasks that come with fewron.
pub fn builtin_tasks() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// What a task asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Definition {
    /// How well the model predicts a text.
    Perplexity(Perplexity),
    /// Which of several answers the model finds likeliest.
    MultipleChoice(MultipleChoice),
    /// What the model writes.
    Generate(Generate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Perplexity,
    MultipleChoice,
    Generate,
}

/// Plain text in windows that do not overlap.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perplexity {
    #[serde(rename = "kind")]
    _kind: Kind,
    /// What the task is, for people.
    #[serde(default)]
    pub about: String,
    /// Tokens of a window.
    #[serde(default = "default_window")]
    pub window: usize,
    /// Tokens at the start of a window that run dense and predict nothing that counts.
    #[serde(default = "default_dense")]
    pub dense: usize,
}

/// Answers to choose from, each scored by its log-likelihood behind the prompt.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultipleChoice {
    #[serde(rename = "kind")]
    _kind: Kind,
    /// What the task is, for people.
    #[serde(default)]
    pub about: String,
    /// Template of the prompt; names are the record's fields.
    pub prompt: String,
    /// Expression: the answers' texts.
    pub choices: String,
    /// Expression: index of the right answer, or 0 or 1 for each answer.
    pub gold: String,
    /// Expression: what the record is about, by which effects are told apart; `none` for none.
    #[serde(default)]
    pub category: Option<String>,
    /// Names of files beside the data that may hold one label a line, which becomes the record's
    /// field `label`; `{stem}` is the data file's name without its extension.
    #[serde(default)]
    pub labels: Vec<String>,
    /// What stands between prompt and answer.
    #[serde(default = "default_delimiter")]
    pub delimiter: String,
    /// The file's first records, shown solved before each prompt and not scored.
    #[serde(default)]
    pub few_shot: usize,
    /// What is reported, the headline first.
    pub metrics: Vec<ChoiceMetric>,
}

/// Text that the model writes greedily.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    #[serde(rename = "kind")]
    _kind: Kind,
    /// What the task is, for people.
    #[serde(default)]
    pub about: String,
    /// Template of the prompt; names are the record's fields.
    pub prompt: String,
    /// Template of a solved example's answer, for `few_shot`.
    #[serde(default)]
    pub target: String,
    /// Expression: good answers.
    #[serde(default = "default_references")]
    pub references: String,
    /// Expression: what the record is about, by which effects are told apart; `none` for none.
    #[serde(default)]
    pub category: Option<String>,
    /// Whether the prompt goes through the model's chat template.
    #[serde(default)]
    pub chat: bool,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Texts that end an answer and do not belong to it.
    #[serde(default)]
    pub stop: Vec<String>,
    /// The file's first records, shown solved before each prompt and not scored.
    #[serde(default)]
    pub few_shot: usize,
    /// What is reported, the headline first.
    pub metrics: Vec<GenerateMetric>,
}

fn default_window() -> usize {
    256
}

fn default_dense() -> usize {
    32
}

fn default_delimiter() -> String {
    " ".to_owned()
}

fn default_references() -> String {
    "[]".to_owned()
}

impl Definition {
    /// A built-in task by its name, or a `.toml` file by its path; with the task's name.
    ///
    /// # Errors
    /// When there is no such task or file, or it is not what its kind asks for.
    pub fn find(spec: &str) -> Result<(String, Self), TaskError> {
        if let Some((name, toml)) = BUILTIN.iter().find(|(name, _)| *name == spec) {
            return Ok(((*name).to_owned(), Self::parse(&format!("{name}.toml"), toml)?));
        }
        let path = Path::new(spec);
        if path.extension().is_none_or(|extension| extension != "toml") {
            let known = builtin_tasks().collect::<Vec<_>>().join(", ");
            return Err(TaskError::Unknown { name: spec.to_owned(), known });
        }
        let toml = fs::read_to_string(path)
            .map_err(|source| TaskError::Io { path: path.to_owned(), source })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, Self::parse(spec, &toml)?))
    }

    /// Parses a definition; `file` is for messages.
    fn parse(file: &str, toml: &str) -> Result<Self, TaskError> {
        #[derive(Deserialize)]
        struct Head {
            kind: Kind,
        }
        let definition = match read::<Head>(file, toml)?.kind {
            Kind::Perplexity => Self::Perplexity(read(file, toml)?),
            Kind::MultipleChoice => Self::MultipleChoice(read(file, toml)?),
            Kind::Generate => Self::Generate(read(file, toml)?),
        };
        definition.check().map_err(|(field, problem)| TaskError::Definition {
            file: file.to_owned(),
            line: line_of(toml, field),
            problem,
        })?;
        Ok(definition)
    }

    /// Refuses values that make no task, by their field.
    fn check(&self) -> Result<(), (&'static str, String)> {
        match self {
            Self::Perplexity(task) if task.window < task.dense + 2 => {
                let (window, least) = (task.window, task.dense + 2);
                Err((
                    "window",
                    format!("window = {window} scores nothing; make it {least} or more"),
                ))
            }
            Self::MultipleChoice(task) if task.metrics.is_empty() => {
                Err(no_metrics(ChoiceMetric::ALL.iter().map(|metric| metric.name())))
            }
            Self::Generate(task) if task.metrics.is_empty() => {
                Err(no_metrics(GenerateMetric::ALL.iter().map(|metric| metric.name())))
            }
            Self::Generate(task) if task.max_new_tokens == 0 => {
                Err(("max_new_tokens", "max_new_tokens = 0 writes nothing".to_owned()))
            }
            Self::Generate(task) if task.few_shot > 0 && task.target.is_empty() => {
                Err(("few_shot", "few_shot needs `target`, the template of an answer".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// What the task is, for people.
    pub fn about(&self) -> &str {
        match self {
            Self::Perplexity(task) => &task.about,
            Self::MultipleChoice(task) => &task.about,
            Self::Generate(task) => &task.about,
        }
    }

    /// The kind's name in files and records.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Perplexity(_) => "perplexity",
            Self::MultipleChoice(_) => "multiple_choice",
            Self::Generate(_) => "generate",
        }
    }

    /// Solved examples before each prompt.
    pub fn few_shot(&self) -> usize {
        match self {
            Self::Perplexity(_) => 0,
            Self::MultipleChoice(task) => task.few_shot,
            Self::Generate(task) => task.few_shot,
        }
    }
}

fn read<T: DeserializeOwned>(file: &str, toml: &str) -> Result<T, TaskError> {
    toml::from_str(toml).map_err(|e| TaskError::Definition {
        file: file.to_owned(),
        line: e.span().map_or(1, |span| 1 + toml[..span.start].matches('\n').count()),
        problem: e.message().to_owned(),
    })
}

fn no_metrics(names: impl Iterator<Item = &'static str>) -> (&'static str, String) {
    ("metrics", format!("no metrics; there are {}", names.collect::<Vec<_>>().join(", ")))
}

/// Line from 1 of a field's assignment.
fn line_of(toml: &str, field: &str) -> usize {
    1 + toml.lines().position(|line| line.trim_start().starts_with(field)).unwrap_or(0)
}
