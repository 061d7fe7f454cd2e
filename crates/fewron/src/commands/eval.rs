//! `fewron eval`: tasks, dense and sparse side by side.

mod table;
mod variants;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use anyhow::{Result, bail};
use fewron_eval::tasks::{Eval, EvalError, EvalRun, Journal, Task, TaskRecord, Variant};
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::cli::EvalArgs;
use crate::loaded::{self, Loaded, Models};
use crate::runs::{self, Planned};
use crate::store::hex;
use crate::study::{command_line, cpu_name, model_record, write_json};
use crate::ui::{self, Interrupted, Progress, Unit};

pub(crate) fn run(args: &EvalArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.check()?;
    check_folder(args.json.as_deref(), "--json")?;
    check_folder(args.report.as_deref(), "--report")?;
    let limit = args.limit.map(NonZeroUsize::get);
    let tasks = args.tasks.iter().map(|task| Ok(Task::load(&task.task, &task.file, limit)?));
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    let models = Models::open(&args.model, &args.plan)?;
    let loaded = &models.original;
    check_chat(loaded, &tasks)?;
    let pool = loaded::pool(threads);
    let variants = variants::variants(args, &models, &pool)?;
    let variants: Vec<&dyn Variant> = variants.iter().map(|variant| &**variant).collect();
    let threads = loaded::thread_count(threads);
    let model = model_record(loaded)?;
    let planned = Planned {
        kind: "eval",
        what: what(args, &tasks, loaded)?,
        model: &model,
        threads,
        folder: None,
        anew: args.restart,
    };
    let run = runs::recorded(&planned, runs::of_eval, |recorder| {
        let record = |(number, task)| {
            let journal = recorder.task(number);
            run_task(loaded, &variants, threads, args.seed, task, Some(&journal))
        };
        let tasks = tasks.iter().enumerate().map(record).collect::<Result<Vec<_>>>()?;
        Ok(EvalRun {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: command_line(),
            finished_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cpu: cpu_name(),
            threads,
            model: model.clone(),
            seed: args.seed,
            variants: std::iter::once("dense")
                .chain(variants.iter().map(|variant| variant.name()))
                .map(str::to_owned)
                .collect(),
            tasks,
        })
    })?;
    if let Some(path) = &args.json {
        write_json(&run, path)?;
    }
    if let Some(path) = &args.report {
        fewron_report::write_evaluation(&run, path)?;
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        println!("{}", table::table(&run));
    }
    Ok(Outcome::Done)
}

/// Everything that a sample's outcome depends on, but for the model.
fn what(args: &EvalArgs, tasks: &[Task], loaded: &Loaded) -> Result<String> {
    let task = |task: &Task| format!("{:?} {}", task.definition, task.data_sha256);
    let tasks: Vec<String> = tasks.iter().map(task).collect();
    let plan = |plan: &PathBuf| Ok(hex(&Sha256::digest(fs::read(loaded.file.plan(plan))?)));
    let plans = args.plan.iter().map(plan).collect::<Result<Vec<String>>>()?;
    let policies: Vec<String> = args.policy.iter().map(ToString::to_string).collect();
    let masks = (plans, args.unmasked, policies, &args.sparsity);
    Ok(serde_json::to_string(&(tasks, masks, args.limit, args.seed))?)
}

/// Refuses a file whose folder is not there, before the work is done.
fn check_folder(file: Option<&Path>, option: &str) -> Result<()> {
    let folder = file.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("there is no folder {} for {option}; make it", folder.display());
    }
    Ok(())
}

/// Refuses tasks that need a chat template which cannot be used; tells of one that is not there.
pub(super) fn check_chat(loaded: &Loaded, tasks: &[Task]) -> Result<()> {
    let Some(task) = tasks.iter().find(|task| task.uses_chat()) else { return Ok(()) };
    match (&loaded.chat, &loaded.chat_problem) {
        (Some(_), _) => Ok(()),
        (None, Some(problem)) => bail!("{}: {problem}", loaded.file.path.display()),
        (None, None) => {
            let (name, task) = (&loaded.file.name, &task.name);
            ui::note(&format!("{name} has no chat template: {task} gives it prompts as they are"));
            Ok(())
        }
    }
}

/// Runs a task, dense and under every variant, with a progress bar.
pub(super) fn run_task(
    loaded: &Loaded,
    variants: &[&dyn Variant],
    threads: usize,
    seed: u64,
    task: &Task,
    journal: Option<&dyn Journal>,
) -> Result<TaskRecord> {
    let progress: OnceLock<Progress> = OnceLock::new();
    let show = |done: u64, total: u64| {
        progress.get_or_init(|| Progress::late(&task.name, Unit::Items, total)).set(done);
    };
    let eval = Eval {
        model: Arc::clone(&loaded.model),
        tokenizer: &loaded.tokenizer,
        chat: loaded.chat.as_deref(),
        variants,
        threads,
        seed,
        progress: &show,
        journal,
        stop: ui::interrupt_flag(),
    };
    match eval.run(task) {
        Err(EvalError::Interrupted) => Err(Interrupted.into()),
        result => Ok(result?),
    }
}
