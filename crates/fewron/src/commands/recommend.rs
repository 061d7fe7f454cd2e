//! `fewron recommend`: which sparsity to run, by what was measured.

mod speed;
mod words;

use std::fs;
use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fewron_eval::recommend::{Advice, Candidates, Target, of_eval, of_plans, of_sweep};
use fewron_sparsity::plan::record::PlanRecord;
use serde::Serialize;

use crate::Outcome;
use crate::cli::RecommendArgs;
use crate::loaded::Loaded;
use crate::mask::read_plan_record;
use crate::runs::read_record;
use crate::study::{RECORD, read_run};

use speed::Speed;

/// The advice and what it rests on: the JSON contract.
#[derive(Serialize)]
struct Record<'a> {
    model: &'a str,
    protocol: &'a str,
    metric: &'a str,
    target: Target,
    #[serde(flatten)]
    advice: &'a Advice,
    /// Where tokens a second come from; absent where bytes are not known.
    speed: Option<Speed>,
    /// Weights in memory, those of the plan included.
    memory_bytes: Option<u64>,
}

pub(crate) fn run(args: &RecommendArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let name = if args.plan.is_empty() { args.model.as_deref() } else { Some(args.run.as_str()) };
    let loaded = name.map(Loaded::open).transpose()?;
    let mut candidates = candidates(args, loaded.as_ref())?;
    let speed = match candidates.all[0].bytes_per_token {
        Some(bytes) => Some(Speed::of(args, bytes, threads)?),
        None => None,
    };
    if let Some(speed) = &speed {
        candidates.set_speed(speed.dense_tok_s);
    }
    let target =
        Target { max_loss: args.max_loss, min_tok_s: args.min_speed, min_speedup: args.speedup };
    let advice = candidates.advise(&target)?;
    let record = Record {
        model: &candidates.model,
        protocol: &candidates.protocol,
        metric: &candidates.metric,
        target,
        memory_bytes: loaded.as_ref().map(|loaded| memory_bytes(args, loaded, &advice)),
        advice: &advice,
        speed,
    };
    let mut out = stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &record)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", words::of(&record))?;
    }
    Ok(Outcome::Done)
}

/// What there is to choose from.
fn candidates(args: &RecommendArgs, loaded: Option<&Loaded>) -> Result<Candidates> {
    let metric = args.metric.as_deref();
    if let (false, Some(loaded)) = (args.plan.is_empty(), loaded) {
        return Ok(of_plans(&plans(args, loaded)?, metric)?);
    }
    let path = Path::new(&args.run);
    let model = loaded.map(|loaded| &*loaded.model);
    if path.is_dir() || path.ends_with(RECORD) {
        return Ok(of_sweep(&read_run(path)?, metric, model)?);
    }
    let json = read_record(path)
        .context("give a run of `fewron sweep` or `fewron eval`, or a model with --plan")?;
    if let Ok(run) = serde_json::from_str(&json) {
        return Ok(of_sweep(&run, metric, model)?);
    }
    match serde_json::from_str(&json) {
        Ok(run) => Ok(of_eval(&run, metric, model)?),
        Err(error) => bail!(
            "{} is no record of `fewron sweep` or `fewron eval` ({error}); their --json writes one",
            path.display()
        ),
    }
}

/// The plans of the arguments, all for one model.
fn plans(args: &RecommendArgs, loaded: &Loaded) -> Result<Vec<(String, PlanRecord)>> {
    let sha256 = loaded.sha256()?;
    let read = |path: &std::path::PathBuf| {
        let record = read_plan_record(path)?;
        ensure!(
            record.model.sha256 == sha256,
            "plan {} was made for model {}, not for this {}; run `fewron calibrate` to make one for it",
            path.display(),
            record.model.name,
            loaded.file.name
        );
        Ok((path.display().to_string(), record))
    };
    args.plan.iter().map(read).collect()
}

/// Weights that decoding reads, as they lie in memory, and the plan's file where one is chosen.
fn memory_bytes(args: &RecommendArgs, loaded: &Loaded, advice: &Advice) -> u64 {
    let bytes = loaded.model.bytes_per_token();
    let weights = (bytes.attention + bytes.mlp_in_memory + bytes.head) as u64;
    let chosen = args.plan.iter().find(|path| path.display().to_string() == advice.run.name);
    let plan = chosen.and_then(|path| fs::metadata(path).ok());
    weights + plan.map_or(0, |plan| plan.len())
}
