//! `fewron neurons`: which units matter for which token.

mod words;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use fewron_eval::data::Dataset;
use fewron_eval::neurons::{Cards, NeuronConfig, NeuronError, NeuronResult, NeuronStudy, Runtime};
use fewron_eval::record::{DataRecord, Settings};
use fewron_report::{write_neuron_report, write_neurons};
use fewron_sparsity::{Calibration, Plan, PolicyKind, Scope};

use crate::Outcome;
use crate::cli::NeuronsArgs;
use crate::loaded::{self, Loaded, thread_count};
use crate::mask::Masking;
use crate::runs::{self, Planned, Recorder};
use crate::study::{Answers, command_line, cpu_name, model_record, prompts, write_json};
use crate::ui::{self, Interrupted, Progress, Unit};

/// Name of the record in its folder.
const RECORD: &str = "neurons.json";
/// Name of the page in the folder.
const PAGE: &str = "report.html";

pub(crate) fn run(args: &NeuronsArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.check()?;
    let data = Dataset::load(&args.data.data, args.data.limit.map(NonZeroUsize::get))?;
    let config = config(args)?;
    let loaded = Loaded::from_args(&args.model)?;
    let runtime = runtime(args, &config, &loaded, threads)?;
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let model = model_record(&loaded)?;
    let planned = Planned {
        kind: "neurons",
        what: String::new(),
        model: &model,
        threads: thread_count(threads),
        folder: args.out.as_deref(),
        anew: true,
    };
    let work = |_: &Recorder| {
        let result = study(args, &data, config, &loaded, runtime, threads)?;
        write(args, &result)?;
        Ok(result.run)
    };
    let run = runs::recorded(&planned, |_| Vec::new(), work)?;
    if args.json.as_deref() != Some(Path::new("-")) {
        print!("{}", words::summary(&run, args.layer.is_some()));
    }
    if let Some(folder) = &args.out {
        ui::note(&format!("{}: tables for notebooks, {RECORD} and the page", folder.display()));
    }
    Ok(Outcome::Done)
}

fn config(args: &NeuronsArgs) -> Result<NeuronConfig> {
    let metrics =
        args.metrics.iter().map(|m| Ok(m.as_str().parse()?)).collect::<Result<Vec<_>>>()?;
    for (index, metric) in metrics.iter().enumerate() {
        ensure!(!metrics[..index].contains(metric), "--metrics names {metric} twice");
    }
    Ok(NeuronConfig {
        metrics,
        ratio: args.ratio,
        scope: args.scope.as_str().parse()?,
        selection: args.select.as_str().parse()?,
        correction: args.attribution.correction,
        ig_steps: args.attribution.ig_steps.get(),
        max_new_tokens: args.data.max_new_tokens.get(),
        seed: args.seed,
        cards: match (args.layer, args.neuron) {
            (Some(layer), Some(neuron)) => Cards::Neuron(layer, neuron),
            (Some(layer), None) => Cards::Layer(layer, args.top.get()),
            (None, _) => Cards::Highlights,
        },
    })
}

/// The policy or plan beside the metrics.
fn runtime(
    args: &NeuronsArgs,
    config: &NeuronConfig,
    loaded: &Loaded,
    threads: Option<NonZeroUsize>,
) -> Result<Option<Runtime>> {
    let pool = loaded::pool(threads);
    if let Some(path) = &args.plan {
        let Masking { label, plan, .. } = Masking::from_file(path, loaded, &pool)?;
        ensure!(
            plan.policy != PolicyKind::Input,
            "plan {} switches off input channels, not neurons; name another plan",
            path.display()
        );
        return Ok(Some(Runtime { name: label, plan }));
    }
    let Some(policy) = args.policy else { return Ok(None) };
    let kind: PolicyKind = policy.as_str().parse()?;
    let calibration = match kind {
        PolicyKind::Gate | PolicyKind::Magnitude => loaded.calibration(&pool)?,
        _ => Calibration::default(),
    };
    // These two choose neurons alone, whatever else is looked at.
    let neurons_alone = matches!(kind, PolicyKind::Gate | PolicyKind::Prompt);
    let scope = match config.scope {
        Scope::Both if neurons_alone => Scope::Mlp,
        scope => scope,
    };
    let (shape, selection) = (loaded.model.config(), config.selection);
    let plan = Plan::uniform(shape, kind, scope, selection, config.ratio, &calibration)?;
    Ok(Some(Runtime { name: format!("{policy} policy"), plan }))
}

fn study(
    args: &NeuronsArgs,
    data: &Dataset,
    config: NeuronConfig,
    loaded: &Loaded,
    runtime: Option<Runtime>,
    threads: Option<NonZeroUsize>,
) -> Result<NeuronResult> {
    let prompts = prompts(loaded, data, args.data.raw, config.max_new_tokens)?;
    let progress = Progress::new("neurons", Unit::Items, prompts.len() as u64);
    let threads = thread_count(threads);
    let settings = settings(&config, args.data.raw, threads);
    let study = NeuronStudy {
        model: Arc::clone(&loaded.model),
        config,
        model_record: model_record(loaded)?,
        data: DataRecord {
            name: data.name.clone(),
            sha256: data.sha256.clone(),
            samples: prompts.len(),
            tokens: 0,
        },
        prompts,
        categories: data.samples.iter().map(|sample| sample.category.clone()).collect(),
        text: &Answers(loaded),
        runtime,
        threads,
        progress: &|done| progress.set(done),
        stop: ui::interrupt_flag(),
    };
    let result = study.run(settings);
    drop(progress);
    result.map_err(|error| match error {
        NeuronError::Interrupted { .. } => {
            ui::note(&error.to_string());
            Interrupted.into()
        }
        error => error.into(),
    })
}

fn settings(config: &NeuronConfig, raw: bool, threads: usize) -> Settings {
    Settings {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command_line(),
        scope: config.scope.to_string(),
        selection: config.selection.to_string(),
        correction: config.correction,
        ig_steps: config.ig_steps,
        max_new_tokens: config.max_new_tokens,
        raw,
        cpu: cpu_name(),
        threads,
        wall_s: 0.0,
        finished_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    }
}

/// Writes what the arguments ask for; the record comes last.
fn write(args: &NeuronsArgs, result: &NeuronResult) -> Result<()> {
    let page = args.report.clone().or_else(|| Some(args.out.as_ref()?.join(PAGE)));
    if let Some(page) = page {
        write_neuron_report(&result.run, &page)?;
    }
    if let Some(folder) = &args.out {
        write_neurons(result, folder)?;
        write_json(&result.run, &folder.join(RECORD))?;
    }
    if let Some(path) = &args.json {
        write_json(&result.run, path)?;
    }
    Ok(())
}
