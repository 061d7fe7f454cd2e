//! Attribution metrics, selection of neurons, and mask sources.
//!
//! Scores come from [`attribution`], [`selection`] turns them into kept units, [`policy`] feeds them
//! back into the forward pass.

pub mod attribution;
pub mod metric;
pub mod policy;
pub mod selection;

pub use attribution::{Attribution, Scope, Scores};
pub use metric::Metric;
pub use policy::{Calibration, CalibrationProbe, Policy, PolicyKind, Recorder, Replay};
pub use selection::{Kept, Selection, select};
