//! Arguments of the command that evaluates a model on tasks: eval.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::model::ModelArgs;
use super::text::MaskArgs;
use super::values::{Policy, parse_ratio, plan_file};

pub(super) const EVAL_EXAMPLES: &str = "\
Examples:
  fewron eval smollm2 --task perplexity=book.txt
  fewron eval smollm2 --policy gate --sparsity .3,.5 --task arc_easy=arc.jsonl --limit 400
  fewron eval smollm2 --policy gate --task truthfulqa_gen=TruthfulQA.csv --json eval.json
  fewron eval smollm2 --policy gate --sparsity .3,.5,.7 --task perplexity=book.txt --task piqa=piqa.jsonl \
    --task arc_easy=arc.jsonl --report study.html
  fewron eval smollm2 --plan recovered.plan --unmasked --task perplexity=book.txt
  fewron eval smollm2 --task path/to/my_task.toml=my_data.jsonl

Tasks: perplexity (plain text), arc_easy, piqa, boolq, hellaswag, truthfulqa_mc1, truthfulqa_mc2,
truthfulqa_gen, gsm8k (files as their authors or the hub have them), or a TOML file of your own;
docs/tasks.md says what goes into one. What a sparse model reads before it has to answer runs dense:
the first tokens of a window, a prompt but for its last token.

Every sample is kept as soon as it is measured: the same command goes on where one was interrupted.
`fewron runs` lists what was evaluated.";

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// A task and its data file; may be given several times
    #[arg(long = "task", value_name = "NAME=FILE", value_parser = parse_task, required = true)]
    pub(crate) tasks: Vec<TaskArg>,
    /// Use the first N samples of each task only (windows of a text)
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroUsize>,
    /// Seed of the intervals
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Write the results as JSON to a file, `-` for stdout; every sample is in it
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the results as an HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Measure every sample anew, even if an interrupted run has some
    #[arg(long)]
    pub(crate) restart: bool,
    /// Run-time policies to evaluate beside the dense model
    #[arg(long, value_name = "A,B", value_delimiter = ',', help_heading = "Sparsity")]
    pub(crate) policy: Vec<Policy>,
    /// Shares of each layer's MLP neurons that the policies switch off (default: 0.5)
    #[arg(
        long, value_name = "R,R", value_delimiter = ',', value_parser = parse_ratio,
        allow_negative_numbers = true, help_heading = "Sparsity"
    )]
    pub(crate) sparsity: Vec<f32>,
    /// Plans to evaluate beside the dense model: files, or names from `fewron models`; `auto` is the one
    /// beside the model
    #[arg(
        long, value_name = "PLAN,PLAN", value_delimiter = ',', value_parser = plan_file(),
        help_heading = "Sparsity"
    )]
    pub(crate) plan: Vec<PathBuf>,
    /// For each plan that changes the model's weights, evaluate these without its mask too
    #[arg(long, requires = "plan", help_heading = "Sparsity")]
    pub(crate) unmasked: bool,
}

/// A task and the file it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskArg {
    /// A built-in task, or the path of a TOML file.
    pub(crate) task: String,
    pub(crate) file: PathBuf,
}

impl EvalArgs {
    /// What runs beside the dense model: every policy at every ratio, and the plans.
    pub(crate) fn masks(&self) -> Vec<MaskArgs> {
        let policies = MaskArgs::at_ratios(&self.policy, &self.sparsity);
        let plan = |plan: &PathBuf| MaskArgs {
            policy: Policy::Dense,
            sparsity: None,
            plan: Some(plan.clone()),
        };
        policies.into_iter().chain(self.plan.iter().map(plan)).collect()
    }

    /// Refuses what would be measured twice or not at all.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.policy.contains(&Policy::Dense),
            "the dense model is always evaluated; leave it out of --policy"
        );
        anyhow::ensure!(
            self.sparsity.is_empty() || !self.policy.is_empty(),
            "--sparsity needs a policy: add --policy gate or --policy magnitude"
        );
        Ok(())
    }
}

pub(super) fn parse_task(text: &str) -> Result<TaskArg, String> {
    match text.split_once('=') {
        Some((task, file)) if !task.is_empty() && !file.is_empty() => {
            Ok(TaskArg { task: task.to_owned(), file: file.into() })
        }
        _ => Err(format!("`{text}` is not NAME=FILE, as in perplexity=book.txt")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks() {
        let task = parse_task("piqa=data/a=b.jsonl").unwrap();
        assert_eq!((task.task.as_str(), task.file.to_str().unwrap()), ("piqa", "data/a=b.jsonl"));
        for bad in ["piqa", "=file", "piqa="] {
            assert!(parse_task(bad).unwrap_err().contains("NAME=FILE"), "{bad}");
        }
    }
}
