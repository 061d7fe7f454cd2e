//! `fewron score`: log-probabilities of a text.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::ScoreArgs;

pub(crate) fn run(args: &ScoreArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.mask.check()?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron score` needs the engine, which this build does not have yet (asked: {args:?}, threads {threads:?})"
    )
}
