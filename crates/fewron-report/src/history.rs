//! A value of one run, to be drawn beside those of other runs.

use serde::{Deserialize, Serialize};

/// One value that a run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// Identity of the run.
    pub run: String,
    /// `eval`, `bench`, `sweep` or `calibrate`.
    pub kind: String,
    /// When the run ended, RFC 3339 in UTC.
    pub finished_at: String,
    /// Name of the model.
    pub model: String,
    /// Commit of the code that was measured, where it is known.
    pub commit: Option<String>,
    /// Processor name. Speeds of different processors are never joined.
    pub cpu: String,
    /// Name of the task; empty for a bench.
    pub task: String,
    /// `dense`, or the variant's name.
    pub variant: String,
    /// Name of the metric.
    pub metric: String,
    /// The value.
    pub value: f64,
    /// Lower end of its 95% interval, where there is one.
    pub low: Option<f64>,
    /// Upper end of its 95% interval, where there is one.
    pub high: Option<f64>,
}

impl HistoryPoint {
    /// Whether the value is a speed, which holds for one processor alone.
    pub fn is_speed(&self) -> bool {
        self.kind == "bench"
    }
}
