//! `fewron sweep`: quality against sparsity.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::SweepArgs;
use crate::store;

pub(crate) fn run(args: &SweepArgs, _threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.check()?;
    let model = store::resolve(&args.model)?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron sweep` needs the engine, which this build does not have yet ({})",
        model.path.display()
    )
}
