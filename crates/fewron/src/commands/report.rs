//! `fewron report`: a sweep as an HTML page.

use anyhow::Result;

use crate::Outcome;
use crate::cli::ReportArgs;
use crate::study::read_run;

pub(crate) fn run(args: &ReportArgs) -> Result<Outcome> {
    let run = read_run(&args.run)?;
    fewron_report::write_report(&run, &args.output)?;
    println!("{}", args.output.display());
    Ok(Outcome::Done)
}
