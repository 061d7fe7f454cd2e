//! `fewron generate`: text after a prompt.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::GenerateArgs;
use crate::store;

pub(crate) fn run(args: &GenerateArgs, _threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.mask.check()?;
    let model = store::resolve(&args.model)?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron generate` needs the engine, which this build does not have yet ({})",
        model.path.display()
    )
}
