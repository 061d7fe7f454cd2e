//! Arguments of the commands that study a model: sweep, attribute, report, demo.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::model::ModelArgs;
use super::values::{
    Metric, Policy, Protocol, Scope, Selection, parse_non_negative, parse_ratio, plan_file,
};

pub(super) const SWEEP_EXAMPLES: &str = "\
Examples:
  fewron sweep smollm2 --metrics cor-gxo,magnitude --ratios .5,.8 --limit 40 --out runs/first
  fewron sweep smollm2 --data TruthfulQA.csv --metrics cor-gxo --json - | jq .points
  fewron sweep smollm2 --protocol runtime --policies gate,magnitude --ratios .3,.5,.7

Oracle masks know the dense model's answer, run-time masks do not: never compare the two as equals.
A sweep with --out that was interrupted goes on where it stopped; --restart starts anew.";

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// What the masks may know
    #[arg(long, value_name = "PROTOCOL", default_value_t = Protocol::Oracle)]
    pub(crate) protocol: Protocol,
    /// Attribution metrics, with --protocol oracle (default: cor-gxo,gxo,magnitude)
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "policies")]
    pub(crate) metrics: Vec<Metric>,
    /// Mask policies, with --protocol runtime (default: gate,magnitude, without a gate prompt,magnitude)
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) policies: Vec<Policy>,
    /// Plans (files, or names from `fewron models`), with --protocol runtime: at a ratio that a plan was
    /// made for it is used as it is, elsewhere the scores of the nearest plan of its policy are
    #[arg(long, value_name = "PLAN,PLAN", value_delimiter = ',', value_parser = plan_file())]
    pub(crate) plan: Vec<PathBuf>,
    /// Shares of units that are off, 0 to 1
    #[arg(
        long, value_name = "R,R", value_delimiter = ',', default_value = "0.3,0.5,0.7,0.8,0.9",
        value_parser = parse_ratio
    )]
    pub(crate) ratios: Vec<f32>,
    /// What is masked
    #[arg(long, value_name = "SCOPE", default_value_t = Scope::Mlp)]
    pub(crate) scope: Scope,
    /// Among which units the ratio is taken
    #[arg(long, value_name = "SELECTION", default_value_t = Selection::Layer)]
    pub(crate) select: Selection,
    #[command(flatten)]
    pub(crate) attribution: AttributionArgs,
    /// Seed of the random metric and of the intervals
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Folder for the run: results, resume points and what the report needs
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write the results as JSON to a file, `-` for stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Measure everything anew, even if the folder has results
    #[arg(long)]
    pub(crate) restart: bool,
}

impl SweepArgs {
    /// The metrics to measure, defaults filled in.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        match self.metrics.as_slice() {
            [] => vec![Metric::CorGxo, Metric::Gxo, Metric::Magnitude],
            metrics => metrics.to_vec(),
        }
    }

    /// The policies to measure, defaults filled in.
    pub(crate) fn policies(&self, gated: bool) -> Vec<Policy> {
        match self.policies.as_slice() {
            [] if self.plan.is_empty() && gated => vec![Policy::Gate, Policy::Magnitude],
            [] if self.plan.is_empty() => vec![Policy::Prompt, Policy::Magnitude],
            policies => policies.to_vec(),
        }
    }

    /// Refuses metrics without the oracle and policies without the run time.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.policies.is_empty() || self.protocol == Protocol::Runtime,
            "--policies needs --protocol runtime; the oracle protocol takes --metrics"
        );
        anyhow::ensure!(
            self.plan.is_empty() || self.protocol == Protocol::Runtime,
            "--plan needs --protocol runtime; the oracle protocol takes --metrics"
        );
        anyhow::ensure!(
            self.metrics.is_empty() || self.protocol == Protocol::Oracle,
            "--metrics needs --protocol oracle; the runtime protocol takes --policies"
        );
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// builtin, or a file: TruthfulQA CSV, nfL6 JSON, JSON lines, plain text
    #[arg(long, value_name = "DATA", default_value = "builtin")]
    pub(crate) data: String,
    /// Use the first N samples only
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroUsize>,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) max_new_tokens: NonZeroUsize,
    /// Give questions to the model as they are, without its chat template
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AttributionArgs {
    /// Strength of cor-gxo's correction
    #[arg(long, value_name = "X", default_value = "0.5", value_parser = parse_non_negative)]
    pub(crate) correction: f32,
    /// Steps of integrated gradients
    #[arg(long, value_name = "N", default_value = "20")]
    pub(crate) ig_steps: NonZeroUsize,
}

pub(super) const ATTRIBUTE_EXAMPLES: &str = "\
Examples:
  fewron attribute smollm2 --metric cor-gxo --limit 16 --out scores/
  fewron attribute smollm2 --data questions.jsonl --metric snip --scope both --out scores/";

#[derive(Debug, Args)]
pub(crate) struct AttributeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The attribution metric
    #[arg(long, value_name = "METRIC", default_value_t = Metric::CorGxo)]
    pub(crate) metric: Metric,
    /// What is scored
    #[arg(long, value_name = "SCOPE", default_value_t = Scope::Mlp)]
    pub(crate) scope: Scope,
    #[command(flatten)]
    pub(crate) attribution: AttributionArgs,
    /// Seed of the random metric
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Folder for the scores
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

pub(super) const REPORT_EXAMPLES: &str = "\
Examples:
  fewron report runs/first -o report.html
  fewron report sweep.json -o report.html
  fewron report eval.json -o eval.html
  fewron report bench.json -o bench.html

The file is what `fewron sweep`, `fewron eval` or `fewron bench` wrote with --json. A page is one file
that fetches nothing; every figure has a link that saves its numbers as CSV.";

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The folder of a sweep, or the JSON file of a sweep, an evaluation or a bench
    pub(crate) run: PathBuf,
    /// Of a sweep, one of the same questions by the other protocol: both runs' curves in one figure
    #[arg(long, value_name = "RUN")]
    pub(crate) beside: Option<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub(crate) output: PathBuf,
}

pub(super) const DEMO_EXAMPLES: &str = "\
Examples:
  fewron demo
  fewron demo --model gemma3-270m --limit 8 --out demo-gemma";

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// A .gguf file, a Hugging Face directory, a name from `fewron models`, or `hf:org/repo[:file]`
    #[arg(long, default_value = crate::store::DEFAULT_MODEL)]
    pub(crate) model: String,
    /// Folder for the run and its report
    #[arg(long, value_name = "DIR", default_value = "fewron-demo")]
    pub(crate) out: PathBuf,
    /// Questions to ask
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) limit: NonZeroUsize,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "24")]
    pub(crate) max_new_tokens: NonZeroUsize,
}
