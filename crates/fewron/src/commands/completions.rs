//! `fewron completions`: a completion script for a shell.

use std::io::{Write, stdout};

use anyhow::Result;
use clap::CommandFactory;

use crate::Outcome;
use crate::cli::{Cli, CompletionsArgs};

pub(crate) fn run(args: &CompletionsArgs) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fewron", &mut script);
    stdout().write_all(&script)?;
    Ok(Outcome::Done)
}
