//! What outlives a run: self-contained HTML pages and Parquet files of attribution scores and
//! neurons. The only crate that knows HTML and storage formats; it measures nothing.
//!
//! ```text
//! SweepRun ─────────────────── html::render ───────────────► one HTML file each
//! EvalRun ──────────────────── html::render_evaluation ────► (no network, light and
//! two Sides, TaskComparisons ─ html::render_comparison ────► dark, printable, every
//! HistoryPoints ────────────── html::render_history ───────► figure's numbers as CSV)
//! BenchRecord ──────────────── html::render_bench ─────────►
//! scores ──── parquet::ScoreWriter ──► one row per sample, token, layer and unit
//!        └─── parquet::NeuronStats ──► one row per unit, as Parquet and CSV
//! NeuronResult ── write_neurons ──► units, categories, pairs and layers, as Parquet and CSV
//!              └─ write_neuron_report ──► one HTML file
//! ```
//!
//! Every file is written under a temporary name beside its target and renamed when it is complete,
//! so a reader never sees half a file and a failed run leaves the former file as it was.

mod atomic;
mod bench;
mod error;
mod history;
pub mod html;
mod neurons;
pub mod parquet;

use std::io::Write;
use std::path::Path;

use fewron_eval::record::SweepRun;
use fewron_eval::tasks::{EvalRun, Side, TaskComparison};

pub use bench::{BenchRecord, BenchResult, BenchRival, BenchSpeed};
pub use error::ReportError;
pub use history::HistoryPoint;
pub use neurons::{write_neuron_report, write_neurons};

/// Renders `run`, and the curves of another run `beside` it, and writes the page to `path` in one step:
/// the file appears whole or not at all.
///
/// # Errors
/// [`ReportError::Io`] when the folder does not exist or cannot be written.
pub fn write_report(
    run: &SweepRun,
    beside: Option<&SweepRun>,
    path: &Path,
) -> Result<(), ReportError> {
    write(&html::render(run, beside), path)
}

/// Writes the page of an evaluation to `path` in one step.
///
/// # Errors
/// [`ReportError::Io`] when the folder does not exist or cannot be written.
pub fn write_evaluation(run: &EvalRun, path: &Path) -> Result<(), ReportError> {
    write(&html::render_evaluation(run), path)
}

/// Writes the page of what [`compare`](fewron_eval::tasks::compare) found of `a` and `b` to `path` in one
/// step.
///
/// # Errors
/// [`ReportError::Io`] when the folder does not exist or cannot be written.
pub fn write_comparison(
    a: Side<'_>,
    b: Side<'_>,
    tasks: &[TaskComparison],
    path: &Path,
) -> Result<(), ReportError> {
    write(&html::render_comparison(a, b, tasks), path)
}

/// Writes the page of values over many runs to `path` in one step.
///
/// # Errors
/// [`ReportError::Io`] when the folder does not exist or cannot be written.
pub fn write_history(points: &[HistoryPoint], path: &Path) -> Result<(), ReportError> {
    write(&html::render_history(points), path)
}

/// Writes the page of a bench to `path` in one step.
///
/// # Errors
/// [`ReportError::Io`] when the folder does not exist or cannot be written.
pub fn write_bench(run: &BenchRecord, path: &Path) -> Result<(), ReportError> {
    write(&html::render_bench(run), path)
}

fn write(page: &str, path: &Path) -> Result<(), ReportError> {
    let mut file = atomic::AtomicFile::create(path)?;
    file.write_all(page.as_bytes()).map_err(|source| ReportError::write(path, source))?;
    file.commit()
}
