//! `fewron chat`: a conversation.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::ChatArgs;

pub(crate) fn run(args: &ChatArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.mask.check()?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron chat` needs the engine, which this build does not have yet (asked: {args:?}, threads {threads:?})"
    )
}
