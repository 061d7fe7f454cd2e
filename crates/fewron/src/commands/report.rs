//! `fewron report`: a sweep as an HTML page.

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::ReportArgs;

pub(crate) fn run(args: &ReportArgs) -> Result<Outcome> {
    // ENGINE: the command's work goes here, and the line below goes away.
    bail!(
        "`fewron report` needs the report writer, which this build does not have yet ({})",
        args.run.display()
    )
}
