//! Arguments of the commands that write or read text: generate, chat, score.

use std::path::{Path, PathBuf};

use clap::Args;

use super::model::ModelArgs;
use super::values::{KvType, Policy, parse_non_negative, parse_positive, parse_ratio, plan_file};

pub(super) const GENERATE_EXAMPLES: &str = "\
Examples:
  fewron generate smollm2 -p \"Why is the sky blue?\" -n 64
  fewron generate smollm2 -p \"Once upon a time\" --raw --temperature 0.8 --top-p 0.9
  fewron generate smollm2 --prompt-file question.txt --policy gate --sparsity 0.5 --stats
  fewron generate tiny-phi -p \"One day a cat\" --raw --plan tiny-phi-70";

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    /// System message of the chat template
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(crate) system: Option<String>,
    /// Give the prompt to the model as it is, without its chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// Longest answer in tokens
    #[arg(short = 'n', long, value_name = "N", default_value_t = 256)]
    pub(crate) max_new_tokens: usize,
    /// Print tokens, speed and actual sparsity on stderr at the end
    #[arg(long)]
    pub(crate) stats: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) mask: MaskArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PromptArgs {
    /// The prompt
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// Read the prompt from a file, `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling", allow_negative_numbers = true)]
pub(crate) struct SamplingArgs {
    /// Temperature; 0 takes the likeliest token every time
    #[arg(long, value_name = "T", default_value = "0", value_parser = parse_non_negative)]
    pub(crate) temperature: f32,
    /// Sample among the K likeliest tokens only (0: all)
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Sample among the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value = "1", value_parser = parse_ratio)]
    pub(crate) top_p: f32,
    /// Sample among tokens with at least this share of the likeliest one's probability
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_ratio)]
    pub(crate) min_p: f32,
    /// Divide the logits of tokens that were there already (1: off)
    #[arg(long, value_name = "X", default_value = "1", value_parser = parse_positive)]
    pub(crate) repetition_penalty: f32,
    /// Seed of the sampler
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Type of the keys and values that are kept
    #[arg(long, value_name = "TYPE", default_value_t = KvType::F16)]
    pub(crate) kv_type: KvType,
    /// Compute every logit exactly, not only those that can matter to the choice
    #[arg(long)]
    pub(crate) exact_head: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sparsity", allow_negative_numbers = true)]
pub(crate) struct MaskArgs {
    /// How neurons are chosen at run time
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Dense)]
    pub(crate) policy: Policy,
    /// Share of each layer's MLP neurons that is off, 0 to 1 (0.5 where only a policy is given)
    #[arg(long, value_name = "R", value_parser = parse_ratio)]
    pub(crate) sparsity: Option<f32>,
    /// A plan that `fewron calibrate` made, or the name of one from `fewron models`; `auto` takes the one
    /// beside the model, MODEL.fewron
    #[arg(
        long, value_name = "PLAN", value_parser = plan_file(),
        conflicts_with_all = ["policy", "sparsity"]
    )]
    pub(crate) plan: Option<PathBuf>,
}

impl MaskArgs {
    /// Every policy at every ratio, at a half where none is given.
    pub(super) fn at_ratios(policies: &[Policy], ratios: &[f32]) -> Vec<Self> {
        let ratios = if ratios.is_empty() { &[0.5][..] } else { ratios };
        let at =
            |&policy| ratios.iter().map(move |&r| Self { policy, sparsity: Some(r), plan: None });
        policies.iter().flat_map(at).collect()
    }

    /// The share of neurons that is off: 0 for the dense policy.
    pub(crate) fn ratio(&self) -> f32 {
        match self.policy {
            Policy::Dense => 0.0,
            _ => self.sparsity.unwrap_or(0.5),
        }
    }

    /// The plan file, if one is given.
    pub(crate) fn plans(&self) -> Vec<&Path> {
        self.plan.iter().map(PathBuf::as_path).collect()
    }

    /// Refuses a ratio that the dense policy would ignore.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if let (Policy::Dense, Some(ratio)) = (self.policy, self.sparsity) {
            anyhow::ensure!(
                ratio == 0.0,
                "--sparsity {ratio} needs a policy: add --policy gate or --policy magnitude"
            );
        }
        Ok(())
    }
}

pub(super) const CHAT_EXAMPLES: &str = "\
Examples:
  fewron chat smollm2
  fewron chat smollm2 --system \"Answer in one sentence.\" --policy gate --sparsity 0.3

Ctrl-C stops an answer, a second one leaves.";

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// System message
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Longest answer in tokens
    #[arg(short = 'n', long, value_name = "N", default_value_t = 512)]
    pub(crate) max_new_tokens: usize,
    /// Print tokens, speed and actual sparsity on stderr after each answer
    #[arg(long)]
    pub(crate) stats: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) mask: MaskArgs,
}

pub(super) const SCORE_EXAMPLES: &str = "\
Examples:
  fewron score smollm2 --text-file book.txt
  fewron score smollm2 --text-file book.txt --policy gate --sparsity 0.5 --json > sparse.json

With a policy the first 32 tokens of every window are dense.";

#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The text, `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) text_file: PathBuf,
    /// Tokens per window (default: the model's context, at most 2048)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) window: Option<u32>,
    /// Type of the keys and values that are kept
    #[arg(long, value_name = "TYPE", default_value_t = KvType::F16)]
    pub(crate) kv_type: KvType,
    /// Print everything as JSON, log-probabilities too
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) mask: MaskArgs,
}
