//! Arguments of the commands that hold one run against another: compare and check.

use std::path::PathBuf;

use clap::Args;

use super::calibrate::parse_loss;

pub(super) const COMPARE_EXAMPLES: &str = "\
Examples:
  fewron compare eval.json --b gate@0.5
  fewron compare before.json after.json --a gate-0.5.plan --b gate-0.5.plan
  fewron compare eval.json --a gate@0.3 --b gate@0.5 --changed 20 --json | jq
  fewron compare eval.json --b gate@0.5 --report compare.html

The files are those of `fewron eval --json`. Samples are paired: both variants' answers to the same
sample are held against each other, so much smaller effects show than two intervals side by side tell
apart. p is that of the exact sign test over the samples that are better and worse (McNemar's exact test
where answers are right or wrong). Where the task has categories, its first metric is compared in each of
them; p (Holm) is adjusted for as many tests as there are categories.";

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The JSON of an evaluation
    pub(crate) run: PathBuf,
    /// The JSON of the second variant's evaluation (default: the same)
    pub(crate) other: Option<PathBuf>,
    /// The first variant
    #[arg(long, value_name = "VARIANT", default_value = "dense")]
    pub(crate) a: String,
    /// The second variant (default: the last of its run)
    #[arg(long, value_name = "VARIANT")]
    pub(crate) b: Option<String>,
    /// Show so many samples whose answers changed, of each task
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) changed: usize,
    /// Show so many categories of each task, those with the largest effects
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) categories: usize,
    /// Seed of the intervals
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Write the comparison as an HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print everything as JSON, with all categories and changed samples
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  fewron check eval.json --baseline main-eval.json --max-drop 2%
  fewron check bench.json --baseline main-bench.json --max-slowdown 10%
  fewron check eval.json --baseline main-eval.json --markdown \"$GITHUB_STEP_SUMMARY\" --junit fewron.xml

Both files are of `fewron eval --json`, for quality, or of `fewron bench --json`, for speed. Every variant
and metric that both have is checked. It fails, with exit code 1, where the loss is larger than allowed
and also more than chance: its whole 95% interval, paired over samples or over repetitions, is a loss.";

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The JSON to check
    pub(crate) run: PathBuf,
    /// The JSON that it is held against
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: PathBuf,
    /// Quality that may be lost, as a share of the baseline's
    #[arg(long, value_name = "LOSS", default_value = "2%", value_parser = parse_loss)]
    pub(crate) max_drop: f64,
    /// Speed that may be lost, as a share of the baseline's
    #[arg(long, value_name = "LOSS", default_value = "10%", value_parser = parse_loss)]
    pub(crate) max_slowdown: f64,
    /// Seed of the intervals
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Write the table as markdown to the end of a file
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Write the checks as a JUnit XML file
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Print the checks as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
