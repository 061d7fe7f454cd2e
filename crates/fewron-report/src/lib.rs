//! What outlives a run: the self-contained HTML reports of sweeps and neuron analytics, and Parquet files of
//! attribution scores and neurons. The only crate that knows HTML and storage formats; it measures nothing.
//!
//! ```text
//! SweepRun ── html::render ──► one HTML file (no network, light and dark, printable)
//! scores ──── parquet::ScoreWriter ──► one row per sample, token, layer and unit
//!        └─── parquet::NeuronStats ──► one row per unit, as Parquet and CSV
//! NeuronResult ── write_neurons ──► units, categories, pairs and layers, as Parquet and CSV
//!              └─ write_neuron_report ──► one HTML file
//! ```
//!
//! Every file is written under a temporary name beside its target and renamed when it is complete,
//! so a reader never sees half a file and a failed run leaves the former file as it was.

mod atomic;
mod error;
pub mod html;
mod neurons;
pub mod parquet;

use std::io::Write;
use std::path::Path;

use fewron_eval::record::SweepRun;

pub use error::ReportError;
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
    let mut file = atomic::AtomicFile::create(path)?;
    let page = html::render(run, beside);
    file.write_all(page.as_bytes()).map_err(|source| ReportError::write(path, source))?;
    file.commit()
}
