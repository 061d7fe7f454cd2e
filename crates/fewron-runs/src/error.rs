//! What can go wrong with a store.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the run store could not do it.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum RunsError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the run store {}: {source}", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error(
        "the run store {} was made by a newer fewron (format {found}, this one knows {known}); \
         update fewron, or name another folder with FEWRON_RUNS", path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("there is no run {id} in {}; `fewron runs` lists them", path.display())]
    NoRun { id: i64, path: PathBuf },
    #[error("run {id} is at work; stop it first, or wait for it")]
    AtWork { id: i64 },
    #[error("a kept sample of run {id} is damaged: {problem}; start it anew with --restart")]
    Damaged { id: i64, problem: String },
}
