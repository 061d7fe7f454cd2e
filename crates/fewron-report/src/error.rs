//! What can go wrong while a report or a score file is written.

use std::path::{Path, PathBuf};

use crate::parquet::UnitKind;

/// A report or score file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}; {hint}")]
    Io {
        /// What was tried: `create`, `write`, `rename`.
        action: &'static str,
        /// The file that was to appear.
        path: PathBuf,
        /// The way out.
        hint: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The Parquet encoder refused.
    #[error(
        "cannot write the Parquet file {path}: {source}; the target is unchanged, free some space \
         or pick another folder with --out and run again"
    )]
    Parquet {
        /// The file that was to appear.
        path: PathBuf,
        /// The encoder's reason.
        source: parquet::errors::ParquetError,
    },
    /// Two calls disagree on how many units a layer has.
    #[error(
        "layer {layer} ({kind}) had {expected} units before and {got} now; keep the statistics of \
         each model in an accumulator of its own"
    )]
    UnitCount {
        /// The layer.
        layer: u32,
        /// MLP neurons or heads.
        kind: UnitKind,
        /// Units in the first call.
        expected: usize,
        /// Units in this call.
        got: usize,
    },
    /// A score is NaN or infinite, so no mean of it means anything.
    #[error(
        "the score of unit {unit} of layer {layer} ({kind}) is {value}; check the model file with \
         `fewron inspect`, or leave this sample out"
    )]
    NotFinite {
        /// The layer.
        layer: u32,
        /// MLP neurons or heads.
        kind: UnitKind,
        /// Position in the layer.
        unit: usize,
        /// The score.
        value: f32,
    },
}

impl ReportError {
    pub(crate) fn create(path: &Path, source: std::io::Error) -> Self {
        let hint = match source.kind() {
            std::io::ErrorKind::NotFound => "create the folder first or name another with -o",
            std::io::ErrorKind::PermissionDenied => "name a folder you may write to with -o",
            std::io::ErrorKind::InvalidInput => "name a file, not a folder",
            _ => "name another file with -o",
        };
        Self::Io { action: "create", path: path.to_owned(), hint, source }
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        let hint = "the former file is unchanged; free some space and run again";
        Self::Io { action: "write", path: path.to_owned(), hint, source }
    }

    pub(crate) fn rename(path: &Path, source: std::io::Error) -> Self {
        let hint = "make sure that it is not a folder and not open in another program";
        Self::Io { action: "rename the finished file to", path: path.to_owned(), hint, source }
    }
}
