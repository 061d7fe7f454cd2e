//! What outlives a run: the self-contained HTML report of a sweep and Parquet files of attribution
//! scores. The only crate that knows HTML and storage formats; it measures nothing.
//!
//! ```text
//! SweepRun ── html::render ──► one HTML file (no network, light and dark, printable)
//! scores ──── parquet::ScoreWriter ──► one row per sample, token, layer and unit
//!        └─── parquet::NeuronStats ──► one row per unit, as Parquet and CSV
//! ```
//!
//! Every file is written under a temporary name beside its target and renamed when it is complete,
//! so a reader never sees half a file and a failed run leaves the former file as it was.

mod atomic;
mod error;
pub mod html;
pub mod parquet;

use std::io::Write;
use std::path::Path;

use fewron_eval::record::SweepRun;

pub use error::ReportError;

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
    let mut file = atomic::AtomicFile::create(path)?;
    let page = html::render(run, beside);
    file.write_all(page.as_bytes()).map_err(|source| ReportError::write(path, source))?;
    file.commit()
}
