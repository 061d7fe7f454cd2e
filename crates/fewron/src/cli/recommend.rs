//! Arguments of the command that gives advice: recommend.

use std::path::PathBuf;

use clap::Args;

use super::calibrate::parse_loss;
use super::values::plan_file;

pub(super) const RECOMMEND_EXAMPLES: &str = "\
Examples:
  fewron recommend runs/first --max-loss 5%
  fewron recommend eval.json --metric acc --max-loss 2% --model smollm2
  fewron recommend smollm2 --plan a.plan,b.plan,c.plan --speedup 1.3
  fewron recommend smollm2 --plan a.plan,b.plan --min-speed 60 --bench bench.json --json

Losses are shares: agreement missed, perplexity above the dense one, a score below the dense one; KL is
in nats. With --max-loss the smallest configuration that holds it is named, with a speed the one that
loses least, and without both the knee of the curve of loss against bytes: the point farthest below the
chord of its ends. Speeds are those of reading weights alone, scaled to a bench where there is one.";

#[derive(Debug, Args)]
pub(crate) struct RecommendArgs {
    /// The folder of a sweep, the JSON of a sweep or an evaluation, or with --plan a model
    #[arg(value_name = "RUN|MODEL")]
    pub(crate) run: String,
    /// Plans to choose from: files, or names from `fewron models`
    #[arg(long, value_name = "PLAN,PLAN", value_delimiter = ',', value_parser = plan_file())]
    pub(crate) plan: Vec<PathBuf>,
    /// The model of the run, for bytes per token and speed
    #[arg(long, value_name = "MODEL", conflicts_with = "plan")]
    pub(crate) model: Option<String>,
    /// What losses are of: agreement, kl or bleu of a sweep; perplexity, agreement or kl of plans; any
    /// metric of an evaluation
    #[arg(long, value_name = "METRIC")]
    pub(crate) metric: Option<String>,
    /// Largest loss: 5% or 0.05
    #[arg(long, value_name = "LOSS", value_parser = parse_loss)]
    pub(crate) max_loss: Option<f64>,
    /// Least tokens a second
    #[arg(long, value_name = "X", value_parser = parse_amount)]
    pub(crate) min_speed: Option<f64>,
    /// Least speed over the dense model
    #[arg(long, value_name = "X", value_parser = parse_amount)]
    pub(crate) speedup: Option<f64>,
    /// Memory bandwidth in GB/s (default: measured)
    #[arg(long, value_name = "GB/S", value_parser = parse_amount, conflicts_with = "bench")]
    pub(crate) bandwidth: Option<f64>,
    /// Take the dense model's speed from the JSON of `fewron bench`
    #[arg(long, value_name = "FILE")]
    pub(crate) bench: Option<PathBuf>,
    /// Print the advice as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_amount(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(amount) if amount.is_finite() && amount > 0.0 => Ok(amount),
        _ => Err(format!("`{text}` is not a number above 0")),
    }
}
