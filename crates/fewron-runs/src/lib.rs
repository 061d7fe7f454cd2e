//! The run store: every sweep, evaluation, bench and calibration, with its settings, hashes, machine,
//! results and samples, in one SQLite file. The only crate that knows SQLite; it measures nothing.
//!
//! ```text
//! Store::start ──► Recording ── keep(sample) … ── finish(record, points) ──► done
//!                      │ process killed: its lock is free, so the run is shown as interrupted
//!                      ▼
//! Store::resume ◄── the same key: goes on with the samples that are kept
//! ```
//!
//! Any number of processes may write at once: a transaction waits for its turn. A run that is at work
//! holds a lock on a file of its own, which the system frees however the process ends.

mod error;
mod query;
mod recording;
mod run;
mod schema;
mod store;

pub use error::RunsError;
pub use query::Filter;
pub use recording::Recording;
pub use run::{Machine, ModelId, NewRun, Point, PointOfRun, Run, State, Tool};
pub use store::Store;
