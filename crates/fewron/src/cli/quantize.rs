//! Arguments of the commands that write model files: quantize, convert.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use fewron_kernels::DType;

use super::values::plan_file;

pub(super) const QUANTIZE_EXAMPLES: &str = "\
Examples:
  fewron quantize model-f16.gguf model-q8_0.gguf --type q8_0
  fewron quantize model-f16.gguf model-q4_k.gguf --type q4_k --output-type q8_0
  fewron quantize smollm2 smollm2-f16.gguf --type f16 --force

Matrices get the type; norms and other tensors of one row stay as they are. The output head (the
embedding, where the file has no head of its own) gets Q6_K, or Q8_0 where its rows do not fit,
unless the type is Q8_0 or a float type. Rows that are no multiple of 256 elements do not fit the
blocks of K types: Q2_K and Q3_K become Q4_0 there, Q4_K Q5_0, Q5_K Q5_1 and Q6_K Q8_0.

Rounding is that of llama.cpp without an importance matrix. Start from a float file: rounding
numbers twice loses more than once.";

#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// A .gguf file, a name from `fewron models`, or `hf:org/repo[:file]`
    #[arg(value_name = "IN")]
    pub(crate) input: String,
    /// Type of the matrices
    #[arg(long = "type", value_name = "TYPE", value_parser = dtypes(), ignore_case = true)]
    pub(crate) dtype: DType,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

pub(super) const CONVERT_EXAMPLES: &str = "\
Examples:
  fewron convert models/tiny/tiny-phi tiny-phi.gguf
  fewron convert SmolLM2-135M-Instruct smollm2-q8_0.gguf --type q8_0
  fewron convert Qwen3-0.6B qwen3-q4_k.gguf --type q4_k --output-type q8_0
  fewron convert smollm2 merged.gguf --plan recovered.plan --mask-out masks.plan
  fewron generate merged.gguf -p Hello --plan masks.plan

Without --type the weights keep the float type of the files (F32 where they mix several). Norms and
biases become F32. Other types are those of `fewron quantize`: one step gives the file that two do.

The file holds weights, settings, tokenizer and chat template, for fewron and for llama.cpp. Llama,
MobiLlama, Phi, Qwen 2 and 3, and Gemma 3 can be converted; GGUF has no architecture for OPT. What a
GGUF file cannot say is refused by its name.

With --plan a GGUF file is written with the weights that a recovered plan changes, for any program
that reads GGUF files; types, tokenizer and all other metadata stay. The new file is another model
to plans: --mask-out writes the plan's masks for it, which give what model and recovered plan give.";

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A Hugging Face directory, or the name of one of the tiny models; with --plan a .gguf file, a
    /// name from `fewron models`, or `hf:org/repo[:file]`
    #[arg(value_name = "IN")]
    pub(crate) input: String,
    /// Type of the matrices, instead of that of the files
    #[arg(long = "type", value_name = "TYPE", value_parser = dtypes(), ignore_case = true)]
    pub(crate) dtype: Option<DType>,
    /// Write a GGUF file with the weights that this recovered plan changes: a file, or a name from
    /// `fewron models`; `auto` takes the one beside the model
    #[arg(
        long, value_name = "PLAN", value_parser = plan_file(),
        conflicts_with_all = ["dtype", "output_type", "embedding_type"]
    )]
    pub(crate) plan: Option<PathBuf>,
    /// Write the plan's masks for the new file, as a plan that changes nothing
    #[arg(long, value_name = "MASKS", requires = "plan")]
    pub(crate) mask_out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

/// What commands that write a model file have in common.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    /// The file to write
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Type of the output head
    #[arg(long, value_name = "TYPE", value_parser = dtypes(), ignore_case = true)]
    #[arg(hide_possible_values = true)]
    pub(crate) output_type: Option<DType>,
    /// Type of the embedding, where the file has a head of its own
    #[arg(long, value_name = "TYPE", value_parser = dtypes(), ignore_case = true)]
    #[arg(hide_possible_values = true)]
    pub(crate) embedding_type: Option<DType>,
    /// Replace OUT if it is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Print types, sizes and time as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The types of [`DType::ALL`] as the command line has them.
const NAMES: [&str; 13] = [
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k",
    "q6_k",
];

pub(super) fn dtypes() -> impl TypedValueParser<Value = DType> {
    PossibleValuesParser::new(NAMES).try_map(|name| {
        let mut named = NAMES.into_iter().zip(DType::ALL);
        named
            .find(|(known, _)| known.eq_ignore_ascii_case(&name))
            .map(|(_, dtype)| dtype)
            .ok_or("unknown type")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_types() {
        assert_eq!(NAMES.map(str::to_uppercase), DType::ALL.map(|dtype| dtype.name().to_owned()));
    }
}
