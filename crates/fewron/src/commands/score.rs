//! `fewron score`: log-probabilities of a text.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::ScoreArgs;
use crate::store;

pub(crate) fn run(args: &ScoreArgs, _threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.mask.check()?;
    let model = store::resolve(&args.model)?;
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron score` needs the engine, which this build does not have yet ({})",
        model.path.display()
    )
}
