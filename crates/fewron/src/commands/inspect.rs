//! `fewron inspect`: what is in a model file.

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::InspectArgs;
use crate::store;

pub(crate) fn run(args: &InspectArgs) -> Result<Outcome> {
    let model = store::resolve(&args.model)?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron inspect` needs the engine, which this build does not have yet ({})",
        model.path.display()
    )
}
