//! What the store keeps of a run. Plain data.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process is at work on it.
    Running,
    /// It has come to its end, and its record is there.
    Done,
    /// An error ended it.
    Failed,
    /// It was stopped, or its process was killed: it may go on.
    Interrupted,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Done, Self::Failed, Self::Interrupted];

    /// The name in the store and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no state of a run"))
    }
}

/// A model, by name and content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelId {
    /// Name in the registry, or the file's.
    pub name: String,
    /// SHA-256 of the file in lower-case hex.
    pub sha256: String,
}

/// Where a run ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The machine's name.
    pub host: String,
    /// The processor's name.
    pub cpu: String,
    /// Worker threads.
    pub threads: usize,
}

/// What made a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tool {
    /// Version of fewron.
    pub version: String,
    /// Commit that it was built from, where that is known; with `-dirty` where files were changed.
    pub commit: Option<String>,
}

/// A run that is to start.
#[derive(Clone, Debug, Default)]
pub struct NewRun {
    /// The command: `eval`, `bench`, …
    pub kind: String,
    /// Equal for two runs that measure the same: an interrupted one goes on where its key comes again.
    pub key: String,
    /// The command line as it can be typed.
    pub command: String,
    /// Its words, the program's name left out.
    pub arguments: Vec<String>,
    /// The folder that it was typed in.
    pub directory: String,
    /// What made it.
    pub tool: Tool,
    /// Where.
    pub machine: Machine,
    /// Of what.
    pub model: ModelId,
    /// Where files of the run lie beside the store: Parquet, checkpoints, pages.
    pub folder: Option<String>,
}

/// A run in the store, without its record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// The command: `eval`, `bench`, …
    pub kind: String,
    /// How far it has come.
    pub state: State,
    /// RFC 3339, in UTC.
    pub started_at: String,
    /// RFC 3339, in UTC; absent before it has ended.
    pub finished_at: Option<String>,
    /// The command line as it can be typed.
    pub command: String,
    /// Its words, the program's name left out.
    pub arguments: Vec<String>,
    /// The folder that it was typed in.
    pub directory: String,
    /// What made it.
    #[serde(flatten)]
    pub tool: Tool,
    /// Where.
    #[serde(flatten)]
    pub machine: Machine,
    /// Of what.
    pub model: ModelId,
    /// Where files of the run lie beside the store.
    pub folder: Option<String>,
    /// Samples that an unfinished run has measured.
    pub samples: u64,
    /// Numbers that it has measured.
    pub points: u64,
    /// Why it failed.
    pub problem: Option<String>,
}

/// One number that a run has measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Task, data set or phase.
    pub task: String,
    /// `dense`, `gate@0.5`, …
    pub variant: String,
    /// `perplexity`, `decode_tok_s`, …
    pub metric: String,
    /// The number.
    pub value: f64,
    /// Lower end of its 95% interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// A point with what tells its run from others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointOfRun {
    /// Number of the run.
    pub run: i64,
    /// The run's command.
    pub kind: String,
    /// When it ended, RFC 3339, in UTC.
    pub finished_at: String,
    /// Name of its model.
    pub model: String,
    /// Commit of the tool.
    pub commit: Option<String>,
    /// Processor.
    pub cpu: String,
    /// Worker threads.
    pub threads: usize,
    /// What was measured.
    #[serde(flatten)]
    pub point: Point,
}
