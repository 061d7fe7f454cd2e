//! `fewron bench`: speed, dense and sparse side by side.

use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Result, ensure};
use fewron_model::Pool;

use crate::Outcome;
use crate::bench::bandwidth;
use crate::bench::llama_cpp::LlamaCpp;
use crate::bench::record::{BenchRun, Measured};
use crate::bench::runner::{Phase, Runner};
use crate::bench::table;
use crate::bench::variant::{Cost, Variant};
use crate::cli::BenchArgs;
use crate::loaded::{self, Loaded, Models};
use crate::mask::Masking;
use crate::runs::{self, Planned, Recorder};
use crate::stats::{forget_peak_memory, peak_memory_bytes};
use crate::store::write_whole;
use crate::study::{command_line, cpu_name, model_record, write_json};
use crate::ui::{self, Progress, Unit};

pub(crate) fn run(args: &BenchArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.check()?;
    let models = Models::open(&args.model, &args.plan)?;
    let loaded = &models.original;
    ensure!(
        !args.vs_llama_cpp || loaded.model.source().gguf().is_some(),
        "{} is a Hugging Face directory, and llama.cpp reads GGUF files; write one first with `fewron \
         convert {} OUT.gguf`",
        loaded.file.path.display(),
        args.model.name
    );
    let phases = phases(args, loaded)?;
    let pool = loaded::pool(threads);
    let llama_cpp = args.vs_llama_cpp.then(|| {
        let context = phases.iter().map(|phase| phase.context()).max().unwrap_or(1);
        LlamaCpp::start(args.python.as_deref(), &loaded.file.path, pool.threads(), context)
    });
    let llama_cpp = llama_cpp.transpose()?;
    let maskings = maskings(args, &models, &pool)?;
    let variants = variants(args, &maskings, loaded);
    let runner = Runner::new(&pool, &args.engine, variants, llama_cpp);
    let model = model_record(loaded)?;
    let planned = Planned {
        kind: "bench",
        what: String::new(),
        model: &model,
        threads: pool.threads(),
        folder: None,
        anew: true,
    };
    let work = |_: &Recorder| measure(args, loaded, &pool, &phases, runner);
    let run = runs::recorded(&planned, runs::of_bench, work)?;
    if let Some(path) = &args.json {
        write_json(&run, path)?;
    }
    let stdout_is = |path: &Option<_>| path.as_deref() == Some(Path::new("-"));
    match &args.markdown {
        Some(_) if stdout_is(&args.markdown) => write!(stdout(), "{}", table::markdown(&run))?,
        Some(path) => write_whole(path, table::markdown(&run).as_bytes())?,
        None => {}
    }
    if !stdout_is(&args.json) && !stdout_is(&args.markdown) {
        writeln!(stdout(), "{}", table::words(&run))?;
    }
    Ok(Outcome::Done)
}

/// What is timed: prefill, then each KV length. What does not fit the context is left out with a
/// note.
fn phases(args: &BenchArgs, loaded: &Loaded) -> Result<Vec<Phase>> {
    let tokens = args.decode.get();
    let prefill = (args.prefill > 0).then_some(Phase::Prefill { tokens: args.prefill });
    let decode = args.kv.iter().map(|&kv_length| Phase::Decode { kv_length, tokens });
    let mut phases: Vec<Phase> = Vec::new();
    for phase in prefill.into_iter().chain(decode) {
        if phase.context() > loaded.context() {
            let what = match phase {
                Phase::Prefill { tokens } => format!("prefill of {tokens} tokens"),
                Phase::Decode { kv_length, tokens } => {
                    format!("decoding {tokens} tokens after {kv_length}")
                }
            };
            ui::note(&format!("{what} left out: the context holds {} tokens", loaded.context()));
        } else if !phases.contains(&phase) {
            phases.push(phase);
        }
    }
    let name = &loaded.file.name;
    let decodes = |phase: &Phase| matches!(phase, Phase::Decode { .. });
    ensure!(
        phases.iter().any(decodes),
        "nothing to decode in the context of {name}, which holds {} tokens; lower --kv or --decode",
        loaded.context()
    );
    Ok(phases)
}

/// Plans and policies at their ratios, in the order of the arguments.
fn maskings(args: &BenchArgs, models: &Models, pool: &Arc<Pool>) -> Result<Vec<Masking>> {
    let plan = |path: &PathBuf| Masking::from_file(path, models.of(Some(path)), pool).map(Some);
    let plans = args.plan.iter().map(plan);
    let masks = args.masks();
    let policies = masks.iter().map(|args| Masking::new(args, &models.original, pool));
    plans.chain(policies).filter_map(Result::transpose).collect()
}

/// The dense model, known random masks, plans and policies; each name once.
fn variants<'a>(args: &BenchArgs, maskings: &'a [Masking], loaded: &Loaded) -> Vec<Variant<'a>> {
    let random = |&ratio: &f32| Variant::random(&loaded.model, ratio, args.decode.get(), args.seed);
    let mut variants = vec![Variant::dense(&loaded.model)];
    for variant in args.random.iter().map(random).chain(maskings.iter().map(Variant::masking)) {
        if variants.iter().all(|known| known.name != variant.name) {
            variants.push(variant);
        }
    }
    variants
}

/// Runs everything and makes a record of it.
fn measure(
    args: &BenchArgs,
    loaded: &Loaded,
    pool: &Pool,
    phases: &[Phase],
    mut runner: Runner,
) -> Result<BenchRun> {
    let measured = measure_phases(args, loaded, pool, phases, &mut runner)?;
    let dense_bytes = loaded.model.bytes_per_token().total() as f64;
    let spared = if args.engine.exact_head { 0 } else { loaded.model.shortlist_spares() } as f64;
    let llama_cpp = runner.llama_cpp.as_ref().map(|llama_cpp| {
        measured.llama_cpp(&llama_cpp.about, dense_bytes, llama_cpp.peak_memory_bytes())
    });
    let kv_length = args.kv.first().copied().unwrap_or(0);
    let results = runner.variants.iter_mut().enumerate().map(|(index, variant)| {
        let cost = variant.take_cost(kv_length);
        measured.variant(index, &variant.name, Cost { bytes: cost.bytes - spared, ..cost })
    });
    Ok(BenchRun {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command_line(),
        finished_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        cpu: cpu_name(),
        threads: pool.threads(),
        isa: loaded.model.isa().name().to_owned(),
        model: model_record(loaded)?,
        kv_type: args.engine.kv_type.as_str(),
        exact_head: args.engine.exact_head,
        resident_budget_bytes: args.model.resident_budget_bytes(),
        repetitions: args.repetitions.get(),
        seed: args.seed,
        bandwidth_bytes_s: measured.bandwidth.bytes_s,
        bandwidth_buffer_bytes: measured.bandwidth.buffer_bytes,
        working_set_bandwidth_bytes_s: measured.working_set.bytes_s,
        results: results.collect(),
        llama_cpp,
    })
}

/// Runs all phases, and measures the bandwidth after each: but only after the last where its buffer
/// would stay in the peak of the process's memory.
fn measure_phases(
    args: &BenchArgs,
    loaded: &Loaded,
    pool: &Pool,
    phases: &[Phase],
    runner: &mut Runner,
) -> Result<Measured> {
    let repetitions = args.repetitions.get();
    let steps: usize = phases.iter().map(|&phase| runner.steps(phase, repetitions)).sum();
    let progress = Progress::new("bench", Unit::Items, steps as u64);
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress.set(done);
    };
    let mut measured = Measured { peak_rss_bytes: peak_memory_bytes(), ..Measured::default() };
    let can_forget = forget_peak_memory();
    for (at, &phase) in phases.iter().enumerate() {
        let series = runner.measure(phase, repetitions, &mut step)?;
        measured.phases.push((phase, series));
        measured.peak_rss_bytes = measured.peak_rss_bytes.max(peak_memory_bytes());
        if can_forget || at + 1 == phases.len() {
            ui::check_interrupt()?;
            measured.bandwidth = measured.bandwidth.or(bandwidth::of_memory(pool));
            let weights = loaded.model.bytes_per_token().total() as u64;
            measured.working_set = measured.working_set.or(bandwidth::of_buffer(pool, weights));
            forget_peak_memory();
        }
    }
    ui::check_interrupt()?;
    Ok(measured)
}
