//! `fewron report`: a run as an HTML page.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fewron_eval::record::SweepRun;
use fewron_eval::tasks::EvalRun;
use fewron_report::{BenchRecord, write_bench, write_evaluation, write_report};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Outcome;
use crate::cli::ReportArgs;
use crate::runs::read_record;
use crate::study::read_run;

pub(crate) fn run(args: &ReportArgs) -> Result<Outcome> {
    let record = Record::read(&args.run)?;
    ensure!(
        args.beside.is_none() || matches!(record, Record::Sweep(_)),
        "--beside puts two sweeps beside each other, and {} is none; `fewron compare A B --report FILE` \
         draws two evaluations",
        args.run.display()
    );
    match &record {
        Record::Sweep(run) => {
            let beside = args.beside.as_ref().map(|path| read_beside(run, path)).transpose()?;
            write_report(run, beside.as_ref(), &args.output)?;
        }
        Record::Eval(run) => write_evaluation(run, &args.output)?,
        Record::Bench(run) => write_bench(run, &args.output)?,
    }
    println!("{}", args.output.display());
    Ok(Outcome::Done)
}

/// What can be drawn.
enum Record {
    Sweep(Box<SweepRun>),
    Eval(Box<EvalRun>),
    Bench(Box<BenchRecord>),
}

impl Record {
    /// The record in a folder or a file; its fields say of which command it is.
    fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let value: Value = serde_json::from_str(&read_record(path)?)
            .with_context(|| format!("{shown} is no JSON"))?;
        let has = |field: &str| value.get(field).is_some();
        if has("points") && has("protocol") {
            Ok(Self::Sweep(record(value, path, "sweep")?))
        } else if has("tasks") && has("variants") {
            Ok(Self::Eval(record(value, path, "eval")?))
        } else if has("results") && has("repetitions") {
            Ok(Self::Bench(record(value, path, "bench")?))
        } else {
            bail!(
                "{shown} is no record of a run; report draws those of `fewron sweep --out DIR`, and of \
                 `fewron eval`, `fewron sweep` and `fewron bench` with --json FILE"
            )
        }
    }
}

fn record<T: DeserializeOwned>(value: Value, file: &Path, command: &str) -> Result<Box<T>> {
    let record = serde_json::from_value(value);
    record.map(Box::new).with_context(|| {
        format!("{} has the fields of a `fewron {command}`, but is damaged", file.display())
    })
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
