//! Arguments of the command that measures speed: bench.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;

use super::model::ModelArgs;
use super::text::{EngineArgs, MaskArgs};
use super::values::{Policy, parse_ratio, plan_file};

pub(super) const BENCH_EXAMPLES: &str = "\
Examples:
  fewron bench smollm2 --random .5,.8
  fewron bench smollm2 --policy gate --sparsity .5,.8 --kv 0,512,4096 -t 2
  fewron bench smollm2 --vs-llama-cpp --python venv/bin/python --json bench.json
  fewron bench smollm2 --prefill 0 --random .8 --json - | jq '.results[].decode_tok_s'

Everything runs once untimed, then the repetitions of all variants alternate: compare the ratios of
one run, not the speeds of two. --vs-llama-cpp drives the llama-cpp-python of a Python installation
on the same file (`pip install llama-cpp-python` builds it from source).";

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Plans to measure beside the dense model: files, or names from `fewron models`; `auto` is the one
    /// beside the model
    #[arg(
        long, value_name = "PLAN,PLAN", value_delimiter = ',', value_parser = plan_file(),
        help_heading = "Sparsity"
    )]
    pub(crate) plan: Vec<PathBuf>,
    /// Run-time policies to measure beside the dense model
    #[arg(long, value_name = "A,B", value_delimiter = ',', help_heading = "Sparsity")]
    pub(crate) policy: Vec<Policy>,
    /// Shares of each layer's MLP neurons that the policies switch off (default: 0.5)
    #[arg(
        long, value_name = "R,R", value_delimiter = ',', value_parser = parse_ratio,
        allow_negative_numbers = true, help_heading = "Sparsity"
    )]
    pub(crate) sparsity: Vec<f32>,
    /// Shares of each layer's MLP neurons that known random masks switch off: what skipping saves
    /// where choosing costs nothing
    #[arg(
        long, value_name = "R,R", value_delimiter = ',', value_parser = parse_ratio,
        allow_negative_numbers = true, help_heading = "Sparsity"
    )]
    pub(crate) random: Vec<f32>,
    /// Tokens in the KV cache before decoding starts
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0,512")]
    pub(crate) kv: Vec<usize>,
    /// Tokens of the prompt that is read; 0 measures no prefill
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) prefill: usize,
    /// Tokens that are decoded one by one
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) decode: NonZeroUsize,
    /// Times that everything is measured
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) repetitions: NonZeroUsize,
    /// Seed of the random masks
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Alternate with llama.cpp on the same file and as many threads
    #[arg(long)]
    pub(crate) vs_llama_cpp: bool,
    /// The Python that has llama-cpp-python (default: FEWRON_PYTHON, else python3)
    #[arg(long, value_name = "PATH", requires = "vs_llama_cpp")]
    pub(crate) python: Option<PathBuf>,
    /// Write the results as JSON to a file, `-` for stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the results as a Markdown table to a file, `-` for stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

impl BenchArgs {
    /// Every policy at every ratio, as the arguments of the other commands have it.
    pub(crate) fn masks(&self) -> Vec<MaskArgs> {
        MaskArgs::at_ratios(&self.policy, &self.sparsity)
    }

    /// Refuses what would be measured twice or not at all.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.policy.contains(&Policy::Dense),
            "the dense model is always measured; leave it out of --policy"
        );
        anyhow::ensure!(
            self.sparsity.is_empty() || !self.policy.is_empty(),
            "--sparsity needs a policy: add --policy gate, or write --random for known masks"
        );
        let stdout = Some(Path::new("-"));
        anyhow::ensure!(
            self.json.as_deref() != stdout || self.markdown.as_deref() != stdout,
            "--json and --markdown cannot both go to stdout; name a file for one of them"
        );
        Ok(())
    }
}
