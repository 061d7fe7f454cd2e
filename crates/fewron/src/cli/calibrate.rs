//! Arguments of the command that makes plans: calibrate.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::eval::{TaskArg, parse_task};
use super::model::ModelArgs;
use super::values::{Policy, Selection, parse_ratio};

pub(super) const CALIBRATE_EXAMPLES: &str = "\
Examples:
  fewron calibrate smollm2
  fewron calibrate smollm2 --data book.txt --sparsity 0.5
  fewron calibrate smollm2 --data book.txt,questions.jsonl --max-loss 5% --metric agreement
  fewron calibrate smollm2 --max-loss 5% --task arc_easy=arc.jsonl --limit 400
  fewron calibrate tiny-phi --policy predict --data book.txt --sparsity 0.7 --out phi.plan
  fewron generate smollm2 -p \"Why is the sky blue?\" --plan auto

Text files are cut into windows; of question files the model's own answers are the text. Without --data
the model writes the text itself, which is enough to begin with; text of the kind that the model will
meet makes a better plan. One window in eight is held out: what the plan costs is measured there. Without
--out the plan lies beside the model, where --plan auto finds it.";

#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Text files, files of questions, `self` for text that the model writes, or `builtin` for a short text;
    /// several share the tokens
    #[arg(long, value_name = "FILE,FILE", value_delimiter = ',', default_value = "self")]
    pub(crate) data: Vec<String>,
    /// What scores the neurons (default: gate, or predict for a model without gates)
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<Policy>,
    /// Share of the MLP neurons that is off, 0 to 1 (0.5 where no --max-loss is given)
    #[arg(long, value_name = "R", value_parser = parse_ratio, conflicts_with = "max_loss")]
    pub(crate) sparsity: Option<f32>,
    /// Find the highest sparsity whose loss on held-out text stays under this: 5% or 0.05
    #[arg(long, value_name = "LOSS", value_parser = parse_loss)]
    pub(crate) max_loss: Option<f64>,
    /// What the loss is of: perplexity above the dense one, agreement missed, or KL in nats
    #[arg(long, value_name = "METRIC", default_value = "perplexity")]
    pub(crate) metric: LossMetric,
    /// A task of `fewron eval` and its data file: the loss is what its first metric loses, as a share
    #[arg(
        long, value_name = "NAME=FILE", value_parser = parse_task, requires = "max_loss",
        conflicts_with = "metric"
    )]
    pub(crate) task: Option<TaskArg>,
    /// Use the first N samples of the task only
    #[arg(long, value_name = "N", requires = "task")]
    pub(crate) limit: Option<NonZeroUsize>,
    /// Rank of the compensation; 0 for none
    #[arg(long, value_name = "RANK", default_value_t = 64)]
    pub(crate) compensation: usize,
    /// Rank of the predictor of policy predict
    #[arg(long, value_name = "RANK", default_value = "256")]
    pub(crate) predictor: NonZeroUsize,
    /// A threshold for each layer, or the same number of neurons for every token
    #[arg(long, value_name = "SELECTION", default_value_t = Selection::Threshold)]
    pub(crate) select: Selection,
    /// The same share of neurons off in every layer, instead of shares by sensitivity
    #[arg(long)]
    pub(crate) uniform: bool,
    /// Leave out the gate policy's second stage, which drops computed neurons with small outputs
    #[arg(long)]
    pub(crate) single_stage: bool,
    /// Also switch off the attention heads that matter least, where that costs less than neurons
    #[arg(long)]
    pub(crate) heads: bool,
    /// What scores are weighted by (default: what does best on held-out text)
    #[arg(long, value_name = "WEIGHTING")]
    pub(crate) weighting: Option<Weighting>,
    /// Tokens of the data to use
    #[arg(long, value_name = "N", default_value = "20480")]
    pub(crate) tokens: NonZeroUsize,
    /// Tokens that go through the backward pass for attribution
    #[arg(long, value_name = "N", default_value = "2048")]
    pub(crate) traced_tokens: NonZeroUsize,
    /// Seed of what is random
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// The plan to write (default: beside the model, MODEL.fewron)
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print what the plan says about itself as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a loss is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LossMetric {
    /// Perplexity above the dense model's, as a share of it
    Perplexity,
    /// Share of tokens whose most likely successor is not the dense model's
    Agreement,
    /// Mean KL(dense‖sparse) of a token, in nats
    Kl,
}

/// What scores are weighted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weighting {
    /// Expected size of what a neuron adds
    Magnitude,
    /// The same in the mean square
    Rms,
    /// Fisher information of its gate
    Fisher,
    /// Corrected attribution
    Attribution,
}

impl From<Weighting> for fewron_sparsity::Weighting {
    fn from(weighting: Weighting) -> Self {
        match weighting {
            Weighting::Magnitude => Self::Magnitude,
            Weighting::Rms => Self::Rms,
            Weighting::Fisher => Self::Fisher,
            Weighting::Attribution => Self::Attribution,
        }
    }
}

/// A share, in percent or as a number.
pub(super) fn parse_loss(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.trim().strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text.trim(), 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(loss) if loss.is_finite() && loss > 0.0 => Ok(loss * scale),
        _ => Err(format!("`{text}` is no loss; write 5% or 0.05")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses() {
        assert_eq!(parse_loss("5%"), Ok(0.05));
        assert_eq!(parse_loss(" 0.2 "), Ok(0.2));
        assert!(parse_loss("-1%").is_err() && parse_loss("much").is_err());
    }
}
