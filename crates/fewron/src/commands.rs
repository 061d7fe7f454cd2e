//! One module per command.

mod attribute;
mod bench;
mod calibrate;
mod chat;
mod check;
mod compare;
mod completions;
mod convert;
mod demo;
mod eval;
mod generate;
mod inspect;
mod models;
mod neurons;
mod pull;
mod quantize;
mod recommend;
mod recover;
mod report;
mod runs;
mod score;
mod serve;
mod sweep;

use anyhow::Result;

use crate::Outcome;
use crate::cli::{Cli, Command};

/// Runs the command. `None` never comes from here: it stands for a panic in `main`.
pub(crate) fn run(cli: &Cli) -> Result<Option<Outcome>> {
    let threads = cli.threads;
    match &cli.command {
        Command::Pull(args) => pull::run(args),
        Command::Models(args) => models::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Generate(args) => generate::run(args, threads),
        Command::Chat(args) => chat::run(args, threads),
        Command::Serve(args) => serve::run(args, threads),
        Command::Score(args) => score::run(args, threads),
        Command::Sweep(args) => sweep::run(args, threads),
        Command::Eval(args) => eval::run(args, threads),
        Command::Compare(args) => compare::run(args),
        Command::Check(args) => check::run(args),
        Command::Attribute(args) => attribute::run(args, threads),
        Command::Neurons(args) => neurons::run(args, threads),
        Command::Bench(args) => bench::run(args, threads),
        Command::Recommend(args) => recommend::run(args, threads),
        Command::Calibrate(args) => calibrate::run(args, threads),
        Command::Recover(args) => recover::run(args, threads),
        Command::Quantize(args) => quantize::run(args, threads),
        Command::Convert(args) => convert::run(args, threads),
        Command::Report(args) => report::run(args),
        Command::Runs(args) => runs::run(args),
        Command::Demo(args) => demo::run(args, threads),
        Command::Completions(args) => completions::run(args),
    }
    .map(Some)
}
