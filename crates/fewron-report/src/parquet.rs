//! Attribution scores and neuron statistics as Parquet, for pandas, DuckDB, polars and the like.
//!
//! Written with the low-level column writers, Snappy-compressed. Columns that repeat (sample,
//! token, layer, kind) are dictionary-encoded into runs, unit numbers are delta-encoded, scores are
//! byte-stream-split, so a file takes little more than the scores themselves.

mod scores;
mod stats;
mod stats_files;
mod table;

use std::fmt;

pub use scores::ScoreWriter;
pub use stats::{NeuronStats, UnitStats};
pub(crate) use table::{Column, Table};

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKind {
    /// One MLP intermediate neuron.
    Mlp,
    /// One attention head.
    Head,
}

impl UnitKind {
    /// The name in files: `mlp` or `head`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::Head => "head",
        }
    }
}

impl fmt::Display for UnitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
