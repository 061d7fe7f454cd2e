//! `fewron runs`: what was measured.

mod resume;
mod words;

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fewron_report::HistoryPoint;
use fewron_runs::{Filter, PointOfRun, State, Store};
use serde_json::{Value, json};

use crate::Outcome;
use crate::cli::{
    DeleteArgs, ExportArgs, FilterArgs, HistoryArgs, ListArgs, RunsArgs, RunsCommand, ShowArgs,
    StateArg,
};
use crate::runs;
use crate::store::write_whole;
use crate::study::write_json;
use crate::ui;

pub(crate) fn run(args: &RunsArgs) -> Result<Outcome> {
    let store = runs::open()?;
    match &args.command {
        None => list(&store, &args.list)?,
        Some(RunsCommand::List(args)) => list(&store, args)?,
        Some(RunsCommand::Show(args)) => show(&store, args)?,
        Some(RunsCommand::Export(args)) => export(&store, args)?,
        Some(RunsCommand::History(args)) => history(&store, args)?,
        Some(RunsCommand::Delete(args)) => delete(&store, args)?,
        Some(RunsCommand::Resume(args)) => return resume::resume(&store, args.run),
    }
    Ok(Outcome::Done)
}

impl FilterArgs {
    fn filter(&self, ids: &[i64], limit: Option<usize>) -> Filter {
        let state = |state: StateArg| match state {
            StateArg::Running => State::Running,
            StateArg::Done => State::Done,
            StateArg::Failed => State::Failed,
            StateArg::Interrupted => State::Interrupted,
        };
        Filter {
            ids: ids.to_vec(),
            kind: self.kind.clone(),
            model: self.model.clone(),
            state: self.state.map(state),
            since: self.since.clone(),
            task: self.task.clone(),
            variant: self.variant.clone(),
            metric: self.metric.clone(),
            limit,
        }
    }
}

fn list(store: &Store, args: &ListArgs) -> Result<()> {
    let runs = store.runs(&args.filter.filter(&[], Some(args.limit)))?;
    if args.json {
        return write_json(&runs, Path::new("-"));
    }
    if runs.is_empty() {
        ui::note("no such run; `fewron eval`, `sweep`, `bench` and `calibrate` make them");
        return Ok(());
    }
    writeln!(stdout(), "{}", words::list(&runs))?;
    if runs.len() == args.limit {
        ui::note("these are the newest; --limit shows more");
    }
    Ok(())
}

fn show(store: &Store, args: &ShowArgs) -> Result<()> {
    let run = store.run(runs::number(store, &args.run)?)?;
    let points = store.points(&Filter { ids: vec![run.id], ..Filter::default() })?;
    if args.json {
        let record = store.record(run.id)?;
        let record: Option<Value> = record.map(|text| serde_json::from_str(&text)).transpose()?;
        let numbers: Vec<_> = points.iter().map(|point| &point.point).collect();
        return write_json(
            &json!({"run": run, "points": numbers, "record": record}),
            Path::new("-"),
        );
    }
    writeln!(stdout(), "{}", words::about(&run))?;
    if !points.is_empty() {
        writeln!(stdout(), "{}", words::points(&points))?;
    }
    Ok(())
}

fn export(store: &Store, args: &ExportArgs) -> Result<()> {
    let points = store.points(&args.filter.filter(&args.runs, None))?;
    ensure!(
        !points.is_empty(),
        "no run with these numbers has measured anything; `fewron runs` lists them"
    );
    if let Some(path) = &args.json {
        write_json(&points, path)?;
    }
    let Some(path) = &args.csv else { return Ok(()) };
    let csv = csv(&points)?;
    if path == Path::new("-") {
        return stdout().write_all(&csv).context("cannot write to stdout");
    }
    write_whole(path, &csv)
}

fn history(store: &Store, args: &HistoryArgs) -> Result<()> {
    let points = store.points(&args.filter.filter(&[], Some(args.limit)))?;
    ensure!(!points.is_empty(), "no such run has measured anything yet; `fewron runs` lists them");
    let of_run = |found: PointOfRun| HistoryPoint {
        run: found.run.to_string(),
        kind: found.kind,
        finished_at: found.finished_at,
        model: found.model,
        commit: found.commit,
        cpu: format!("{}, {} threads", found.cpu, found.threads),
        task: found.point.task,
        variant: found.point.variant,
        metric: found.point.metric,
        value: found.point.value,
        low: found.point.low,
        high: found.point.high,
    };
    let points: Vec<HistoryPoint> = points.into_iter().map(of_run).collect();
    fewron_report::write_history(&points, &args.output)?;
    writeln!(stdout(), "{}", args.output.display())?;
    Ok(())
}

/// One row for each point.
fn csv(points: &[PointOfRun]) -> Result<Vec<u8>> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record([
        "run",
        "kind",
        "finished_at",
        "model",
        "commit",
        "cpu",
        "threads",
        "task",
        "variant",
        "metric",
        "value",
        "low",
        "high",
    ])?;
    for PointOfRun { run, kind, finished_at, model, commit, cpu, threads, point } in points {
        let end = |end: Option<f64>| end.map_or(String::new(), |end| end.to_string());
        rows.write_record([
            &run.to_string(),
            kind,
            finished_at,
            model,
            commit.as_deref().unwrap_or_default(),
            cpu,
            &threads.to_string(),
            &point.task,
            &point.variant,
            &point.metric,
            &point.value.to_string(),
            &end(point.low),
            &end(point.high),
        ])?;
    }
    rows.into_inner().context("cannot write CSV")
}

fn delete(store: &Store, args: &DeleteArgs) -> Result<()> {
    let filter = args.filter.filter(&args.runs, None);
    let all = Filter::default();
    let named = !args.runs.is_empty() || format!("{filter:?}") != format!("{all:?}");
    ensure!(named, "say which runs: their numbers, or --state, --kind, --model, …");
    for &id in &args.runs {
        store.run(id)?;
    }
    let runs = store.runs(&filter)?;
    if !args.yes {
        writeln!(stdout(), "{}", words::list(&runs))?;
        ui::note(&format!("{} runs would go; --yes takes them out", runs.len()));
        return Ok(());
    }
    for run in &runs {
        store.delete(run.id)?;
        if let Some(folder) = &run.folder {
            ui::note(&format!("run {}: its files stay in {folder}", run.id));
        }
    }
    ui::note(&format!("{} runs deleted", runs.len()));
    Ok(())
}
