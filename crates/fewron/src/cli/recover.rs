//! Arguments of the command that trains plans: recover.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;

use super::values::{parse_positive, parse_ratio, plan_file};

pub(super) const RECOVER_EXAMPLES: &str = "\
Examples:
  fewron recover smollm2 --data book.txt --out smollm2-80.plan
  fewron recover smollm2 --plan 80.plan --out recovered.plan --eval-text other.txt
  fewron recover model.gguf --sparsity 0.7 --out 70.plan --max-hours 2 --python venv/bin/python
  fewron recover smollm2 --out small.plan --max-bytes 2000000 -- --lr 5e-3

The model writes text, and learns from its own dense outputs on it to live with the plan's mask: the
result is a plan that also changes the model's weights a little. This needs a Python with the
package in recover/ of fewron's source, and a GPU for all but tiny models. The same command goes on
where one was interrupted. Options behind -- go to `fewron_recover train`, whose --help has them.";

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// A .gguf file, a Hugging Face directory, a name from `fewron models`, or `hf:org/repo[:file]`
    pub(crate) model: String,
    /// The plan to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The plan to begin with: a file, or a name from `fewron models`; `auto` takes the one beside the
    /// model (default: one is calibrated)
    #[arg(long, value_name = "PLAN", value_parser = plan_file(), conflicts_with = "sparsity")]
    pub(crate) plan: Option<PathBuf>,
    /// Share of the MLP neurons that is off, 0 to 1
    #[arg(long, value_name = "R", default_value = "0.8", value_parser = parse_ratio)]
    pub(crate) sparsity: f32,
    /// What to calibrate on, as in `fewron calibrate`; the model also goes on from pieces of text files, and
    /// answers the questions of others
    #[arg(long, value_name = "FILE,FILE", value_delimiter = ',', default_value = "self")]
    pub(crate) data: Vec<String>,
    /// Tokens that the model writes to train on (default: 20 million on a GPU, else 2 million)
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<NonZeroU64>,
    /// Seed of what is random
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Text to measure perplexity on at the end (default: what is held out of the model's own)
    #[arg(long, value_name = "FILE")]
    pub(crate) eval_text: Option<PathBuf>,
    /// Folder of what lies between, from which the same command goes on (default: OUT.run)
    #[arg(long, value_name = "DIR")]
    pub(crate) work: Option<PathBuf>,
    /// Print what the plan says about itself as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) training: TrainingArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// What is not given is as the package has it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
pub(crate) struct TrainingArgs {
    /// Steps
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<NonZeroUsize>,
    /// Rows of 256 tokens in a pass
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<NonZeroUsize>,
    /// Share of all codes that may be edited (default: what fits, up to 0.05)
    #[arg(long, value_name = "SHARE", value_parser = parse_ratio)]
    pub(crate) max_edits: Option<f32>,
    /// Largest plan to write, in bytes
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    pub(crate) max_bytes: u64,
    /// More options of `fewron_recover train`
    #[arg(last = true, value_name = "OPTION")]
    pub(crate) more: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// The Python that has fewron-recover (default: FEWRON_PYTHON, else python3)
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// PyTorch's name of the device, such as cuda:1 (default: cuda where there is a GPU, else cpu)
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// GPUs that train together, each on its part of every batch
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) gpus: NonZeroUsize,
    /// Stop after so many hours; the same command goes on
    #[arg(long, value_name = "H", value_parser = parse_positive)]
    pub(crate) max_hours: Option<f32>,
}
