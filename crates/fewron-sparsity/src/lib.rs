//! Attribution metrics, selection of neurons, and mask sources.
//!
//! Scores come from [`attribution`], [`selection`] turns them into kept units, [`policy`] feeds them
//! back into the forward pass.

pub mod attribution;
mod calibration;
mod counted;
pub mod importance;
pub mod metric;
pub mod plan;
pub mod policy;
pub mod predictor;
mod prompt;
pub mod ridge;
pub mod selection;

pub use attribution::{Attribution, Scope, Scores};
pub use calibration::{Calibration, CalibrationProbe};
pub use counted::{Active, Counted, Counts};
pub use importance::{Importance, Weighting};
pub use metric::Metric;
pub use plan::{Cut, Heads, InputCut, LayerPlan, Plan, PolicyError};
pub use policy::{Policy, PolicyKind, Recorder, Replay};
pub use prompt::prompt_scores;
pub use selection::{Kept, Selection, select};
