//! What an evaluation keeps, so that it can go on after it was cut off.

use serde::{Deserialize, Serialize};

use super::record::Outcome;

/// Why a sample cannot be kept, or be had again.
pub type JournalError = Box<dyn std::error::Error + Send + Sync>;

/// Where the samples of one task go as soon as they are measured, and come from when the evaluation goes
/// on.
pub trait Journal: Sync {
    /// The samples that were kept, with their numbers from 0.
    ///
    /// # Errors
    /// When they cannot be read.
    fn known(&self) -> Result<Vec<(usize, MeasuredSample)>, JournalError>;

    /// Keeps a sample.
    ///
    /// # Errors
    /// When it cannot be kept; the evaluation ends.
    fn keep(&self, index: usize, sample: &MeasuredSample) -> Result<(), JournalError>;
}

/// A sample that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredSample {
    /// By the dense model and every variant.
    pub outcomes: Vec<Outcome>,
    /// Neurons that ran, in the same order.
    pub active: Vec<Active>,
    /// Time that it took, in seconds.
    pub wall_s: f64,
}

/// How many neurons ran at masked tokens, over all layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Those that ran.
    pub kept: i64,
    /// All of them.
    pub seen: i64,
}

impl Active {
    pub(super) fn add(&mut self, kept: usize, seen: usize) {
        self.kept += kept as i64;
        self.seen += seen as i64;
    }
}
