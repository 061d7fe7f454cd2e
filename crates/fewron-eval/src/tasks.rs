//! Evaluation of a model on tasks, dense and sparse side by side.
//!
//! A [`Task`] is a TOML file (what is asked, and how it is scored) and a data file. [`Eval`] runs it
//! dense and under every [`Variant`], sample by sample. What a sparse variant reads before it has to
//! answer runs dense: the first tokens of a window, a prompt but for its last token, and before
//! generation the whole prompt (design §3).

mod aggregate;
mod compare;
mod definition;
mod engine;
mod error;
mod generate;
mod journal;
mod metric;
mod multiple_choice;
mod perplexity;
mod prompt;
mod record;
mod run;
mod sample;
mod text_scores;
mod variant;

pub use compare::{
    CategoryComparison, ChangedSample, CompareError, MetricComparison, Side, TaskComparison,
    compare, lower_is_better,
};
pub use definition::{Definition, builtin_tasks};
pub use error::TaskError;
pub use journal::{Active, Journal, JournalError, MeasuredSample};
pub use record::{EvalRun, MetricResult, Outcome, Record, SampleRecord, TaskRecord, VariantResult};
pub use run::{Eval, EvalError, SampleError};
pub use sample::Task;
pub use variant::{Variant, VariantError, VariantMask};

#[cfg(test)]
mod tests;
