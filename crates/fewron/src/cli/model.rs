//! Arguments that name a model.

use std::num::NonZeroUsize;

use clap::Args;
use fewron_kernels::DType;

use super::quantize::dtypes;

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A .gguf file, a Hugging Face directory, a name from `fewron models`, or `hf:org/repo[:file]`
    #[arg(value_name = "MODEL")]
    pub(crate) name: String,
    /// Quantise float weights while they are loaded, to q8_0, q4_0, q4_k or any other type of
    /// `fewron quantize`
    #[arg(long, value_name = "TYPE", value_parser = dtypes(), ignore_case = true)]
    #[arg(hide_possible_values = true)]
    pub(crate) quantize: Option<DType>,
    /// Memory for weights in MB (of 1,000,000 bytes): those beyond it are read from a file in the
    /// cache, layer by layer
    #[arg(long, value_name = "MB")]
    pub(crate) resident_budget: Option<NonZeroUsize>,
}

impl ModelArgs {
    /// Bytes of weights that may stay in memory.
    pub(crate) fn resident_budget_bytes(&self) -> Option<usize> {
        self.resident_budget.map(|mb| mb.get().saturating_mul(1_000_000))
    }
}
