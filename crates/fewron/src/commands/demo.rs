//! `fewron demo`: the main job on the default model.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::DemoArgs;

pub(crate) fn run(args: &DemoArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron demo` needs the engine, which this build does not have yet (asked: {args:?}, threads {threads:?})"
    )
}
