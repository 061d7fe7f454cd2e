//! `fewron attribute`: attribution scores as files.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::AttributeArgs;
use crate::store;

pub(crate) fn run(args: &AttributeArgs, _threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let model = store::resolve(&args.model)?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron attribute` needs the engine, which this build does not have yet ({})",
        model.path.display()
    )
}
