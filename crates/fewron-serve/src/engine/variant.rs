//! The dense model and its sparse variants.

use fewron_sparsity::Plan;
use std::sync::Arc;
use thiserror::Error;

/// One way to run the model.
#[derive(Debug)]
pub struct Variant {
    /// What clients call it, behind the model's name and a colon: `dense`, `plan`, `gate@0.5`.
    pub name: String,
    /// What masks its tokens; none for the dense model.
    pub plan: Option<Arc<Plan>>,
    /// Share of the MLP neurons that is off, as asked for.
    pub sparsity: f32,
}

impl Variant {
    /// The dense model.
    pub fn dense() -> Self {
        Self { name: "dense".to_owned(), plan: None, sparsity: 0.0 }
    }

    /// Whether all neurons run.
    pub fn is_dense(&self) -> bool {
        self.plan.is_none()
    }
}

/// Why there is no such variant.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum VariantError {
    /// No variant has this name.
    #[error("the model {name:?} does not exist; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// A policy that cannot be had at this ratio, or not for this model.
    #[error("{0}")]
    Policy(String),
}
