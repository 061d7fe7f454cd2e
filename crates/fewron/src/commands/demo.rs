//! `fewron demo`: the main job on the default model.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::DemoArgs;
use crate::store;

pub(crate) fn run(args: &DemoArgs, _threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let model = store::resolve(&args.model)?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron demo` needs the engine, which this build does not have yet ({})",
        model.path.display()
    )
}
