//! Arguments of `neurons`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::model::ModelArgs;
use super::study::{AttributionArgs, DataArgs};
use super::values::{Metric, Policy, Scope, Selection, parse_ratio, plan_file};

pub(super) const NEURONS_EXAMPLES: &str = "\
Examples:
  fewron neurons smollm2 --data TruthfulQA.csv --limit 100 --out neurons/
  fewron neurons smollm2 --metrics cor-gxo --policy gate --scope both --out neurons/
  fewron neurons smollm2 --layer 12 --top 20
  fewron neurons smollm2 --layer 12 --neuron 345 --json - | jq .cards

Metrics know the dense model's answer, policies do not; here only their sets are compared. The folder
gets tables as Parquet and CSV for notebooks, and report.html. An interrupted run keeps nothing.";

#[derive(Debug, Args)]
pub(crate) struct NeuronsArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Attribution metrics whose choice is looked at
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "cor-gxo,magnitude")]
    pub(crate) metrics: Vec<Metric>,
    /// A run-time policy beside them, at the same ratio; gate and prompt choose MLP neurons alone
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<Policy>,
    /// A plan beside them, as it is: a file, or a name from `fewron models`; `auto` takes the one beside
    /// the model
    #[arg(long, value_name = "PLAN", value_parser = plan_file(), conflicts_with = "policy")]
    pub(crate) plan: Option<PathBuf>,
    /// Share of units that are off, 0 to 1
    #[arg(long, value_name = "R", default_value = "0.8", value_parser = parse_ratio)]
    pub(crate) ratio: f32,
    /// Which units are looked at
    #[arg(long, value_name = "SCOPE", default_value_t = Scope::Mlp)]
    pub(crate) scope: Scope,
    /// Among which units the ratio is taken
    #[arg(long, value_name = "SELECTION", default_value_t = Selection::Layer)]
    pub(crate) select: Selection,
    #[command(flatten)]
    pub(crate) attribution: AttributionArgs,
    /// Seed of the random metric and of the category tests
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Show a layer's neurons one by one: categories, contexts, promoted tokens
    #[arg(long, value_name = "L")]
    pub(crate) layer: Option<usize>,
    /// Show this neuron of the layer alone
    #[arg(long, value_name = "N", requires = "layer")]
    pub(crate) neuron: Option<usize>,
    /// Show the K neurons with the largest mean score
    #[arg(
        long,
        value_name = "K",
        default_value = "10",
        requires = "layer",
        conflicts_with = "neuron"
    )]
    pub(crate) top: NonZeroUsize,
    /// Folder for tables, record and report
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write the page here (default: report.html in the folder)
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write the record as JSON to a file, `-` for stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl NeuronsArgs {
    /// Refuses what has nothing to show.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.layer.is_none() || self.scope != Scope::Heads,
            "--layer shows MLP neurons; use --scope mlp or --scope both"
        );
        anyhow::ensure!(
            self.policy != Some(Policy::Dense),
            "policy dense keeps everything; leave out --policy"
        );
        anyhow::ensure!(
            self.policy != Some(Policy::Input),
            "policy input switches off input channels, not neurons; name another policy"
        );
        Ok(())
    }
}
