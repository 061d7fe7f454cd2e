//! `fewron generate`: text after a prompt.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::GenerateArgs;

pub(crate) fn run(args: &GenerateArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.mask.check()?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron generate` needs the engine, which this build does not have yet (asked: {args:?}, threads {threads:?})"
    )
}
