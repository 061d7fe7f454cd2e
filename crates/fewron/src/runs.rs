//! The run store on the command line: what is kept of a command, and records by their number.

mod points;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use fewron_eval::record::ModelRecord;
use fewron_eval::tasks::{Journal, JournalError, MeasuredSample};
use fewron_runs::{Filter, Machine, ModelId, NewRun, Point, Recording, State, Store, Tool};
use serde::Serialize;
use sha2::{Digest, Sha256};

pub(crate) use points::{of_bench, of_eval, of_plan, of_sweep};

use crate::store::{Home, hex};
use crate::study::{command_line, cpu_name, record_file};
use crate::ui::{self, Interrupted};

/// Names the folder of the store, or is `off`.
const FOLDER: &str = "FEWRON_RUNS";

/// The run that has come to its end last.
const LATEST: &str = "latest";

/// What tells a run from others before it starts.
pub(crate) struct Planned<'a> {
    pub(crate) kind: &'a str,
    /// What is measured: two runs that agree in it measure the same. Empty where a run cannot go on.
    pub(crate) what: String,
    pub(crate) model: &'a ModelRecord,
    pub(crate) threads: usize,
    /// Where the command keeps files of its own.
    pub(crate) folder: Option<&'a Path>,
    /// Not to go on where an interrupted run stopped.
    pub(crate) anew: bool,
}

/// The folder of the store; `None` where nothing is to be recorded.
fn folder() -> Result<Option<PathBuf>> {
    match env::var_os(FOLDER) {
        Some(off) if off == "off" => Ok(None),
        Some(folder) if !folder.is_empty() => Ok(Some(folder.into())),
        _ => Ok(Some(Home::find()?.runs())),
    }
}

/// The store, for commands that read it.
pub(crate) fn open() -> Result<Store> {
    let folder = folder()?.with_context(|| format!("{FOLDER} is off: there are no runs to see"))?;
    Ok(Store::open(&folder)?)
}

/// Does some work as a run in the store. Where the store cannot be used the work is done all the same, and
/// the user is told.
pub(crate) fn recorded<T: Serialize>(
    planned: &Planned,
    points: fn(&T) -> Vec<Point>,
    work: impl FnOnce(&Recorder) -> Result<T>,
) -> Result<T> {
    let recorder = Recorder(Mutex::new(start(planned).unwrap_or_else(|error| {
        ui::note(&format!("this run is not recorded: {error:#}"));
        None
    })));
    let result = work(&recorder);
    let Some(recording) = recorder.0.into_inner().ok().flatten() else { return result };
    let id = recording.id();
    let kept = match &result {
        Ok(record) => recording.finish(record, &points(record)).map(drop),
        // Dropping it says so.
        Err(error) if error.is::<Interrupted>() => {
            ui::note(&format!("run {id} is interrupted; `fewron runs resume {id}` goes on"));
            Ok(())
        }
        Err(error) => recording.fail(&format!("{error:#}")),
    };
    kept.unwrap_or_else(|error| ui::note(&format!("run {id} is not recorded whole: {error}")));
    result
}

fn start(planned: &Planned) -> Result<Option<Recording>> {
    let Some(folder) = folder()? else { return Ok(None) };
    let tool = Tool {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("FEWRON_COMMIT").map(str::to_owned),
    };
    let key = match planned.what.as_str() {
        "" => String::new(),
        what => hash(&(planned.kind, planned.model, what, &tool)),
    };
    let absolute =
        |folder: &Path| std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let new = NewRun {
        kind: planned.kind.to_owned(),
        key,
        command: command_line(),
        arguments: env::args().skip(1).collect(),
        directory: env::current_dir().unwrap_or_default().display().to_string(),
        tool,
        machine: Machine { host: host(), cpu: cpu_name(), threads: planned.threads },
        model: ModelId { name: planned.model.name.clone(), sha256: planned.model.sha256.clone() },
        folder: planned.folder.map(|folder| absolute(folder).display().to_string()),
    };
    Ok(Some(Store::open(&folder)?.start(&new, planned.anew)?))
}

/// SHA-256 of how a value is written as JSON.
pub(crate) fn hash(value: &impl Serialize) -> String {
    hex(&Sha256::digest(serde_json::to_vec(value).unwrap_or_default()))
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    name.or_else(|| env::var("HOSTNAME").ok()).map_or(String::new(), |name| name.trim().to_owned())
}

/// A run at work, if it is recorded.
pub(crate) struct Recorder(Mutex<Option<Recording>>);

impl Recorder {
    /// The samples of the task of this number.
    pub(crate) fn task(&self, task: usize) -> TaskJournal<'_> {
        TaskJournal { recorder: self, task }
    }

    fn with<T: Default>(
        &self,
        act: impl FnOnce(&Recording) -> Result<T, fewron_runs::RunsError>,
    ) -> Result<T, JournalError> {
        let recording = self.0.lock().map_err(|e| e.to_string())?;
        Ok(recording.as_ref().map_or_else(|| Ok(T::default()), act)?)
    }
}

/// Samples of one task of a run.
pub(crate) struct TaskJournal<'a> {
    recorder: &'a Recorder,
    task: usize,
}

impl Journal for TaskJournal<'_> {
    fn known(&self) -> Result<Vec<(usize, MeasuredSample)>, JournalError> {
        let known: Vec<_> = self.recorder.with(|recording| recording.samples(self.task))?;
        if !known.is_empty() {
            let id = self.recorder.with(|recording| Ok(recording.id()))?;
            ui::note(&format!("going on with run {id}: {} samples are there", known.len()));
        }
        Ok(known)
    }

    fn keep(&self, index: usize, sample: &MeasuredSample) -> Result<(), JournalError> {
        self.recorder.with(|recording| recording.keep(self.task, index, sample))
    }
}

/// The text of a record: of a file, of the folder of a sweep, or of a run by its number or `latest`.
///
/// # Errors
/// When there is no such file or run, or the run has no record.
pub(crate) fn read_record(run: &Path) -> Result<String> {
    if run.exists() {
        let file = record_file(run)?;
        return fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()));
    }
    let shown = run.display().to_string();
    ensure!(
        shown == LATEST || shown.parse::<i64>().is_ok(),
        "cannot read {shown}: there is no such file, and a run is a file, its number in `fewron runs`, or \
         `{LATEST}`"
    );
    let store = open()?;
    let run = store.run(number(&store, &shown)?)?;
    store.record(run.id)?.with_context(|| {
        format!(
            "run {0} is {1} and has no record; `fewron runs show {0}` tells more",
            run.id, run.state
        )
    })
}

/// The number of a run, which may be the latest.
///
/// # Errors
/// When it is no number, or no run has come to its end.
pub(crate) fn number(store: &Store, run: &str) -> Result<i64> {
    if run != LATEST {
        return run.parse().with_context(|| format!("{run} is no number of a run, nor `{LATEST}`"));
    }
    let done = Filter { state: Some(State::Done), limit: Some(1), ..Filter::default() };
    let last = store.runs(&done)?.pop().context("no run has come to its end yet")?;
    Ok(last.id)
}
