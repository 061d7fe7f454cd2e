//! `fewron report`: a sweep as an HTML page.

use anyhow::{Context, Result, ensure};
use fewron_eval::record::SweepRun;
use std::path::Path;

use crate::Outcome;
use crate::cli::ReportArgs;
use crate::study::read_run;

pub(crate) fn run(args: &ReportArgs) -> Result<Outcome> {
    let run = read_run(&args.run)?;
    let beside = args.beside.as_ref().map(|path| read_beside(&run, path)).transpose()?;
    fewron_report::write_report(&run, beside.as_ref(), &args.output)?;
    println!("{}", args.output.display());
    Ok(Outcome::Done)
}

/// A run whose curves may stand beside those of `run`: of the same model and questions, by the other
/// protocol.
fn read_beside(run: &SweepRun, path: &Path) -> Result<SweepRun> {
    let other = read_run(path).context("the run to show beside")?;
    let path = path.display();
    ensure!(
        run.protocol != other.protocol,
        "{path} has the {} protocol too; put an oracle and a runtime sweep beside each other",
        run.protocol
    );
    ensure!(
        run.model.sha256 == other.model.sha256,
        "{path} is of another model: {}, not {}",
        other.model.name,
        run.model.name
    );
    let questions = |run: &SweepRun| {
        let (data, settings) = (&run.data, &run.settings);
        (data.sha256.clone(), data.samples, settings.max_new_tokens, settings.raw)
    };
    ensure!(
        questions(run) == questions(&other),
        "{path} has other questions; sweep both with the same --data, --limit, --max-new-tokens and --raw"
    );
    Ok(other)
}
