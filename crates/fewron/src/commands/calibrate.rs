//! `fewron calibrate`: a plan for a model, from text.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fewron_eval::calibrate::{
    Basis, CalibrateError, Calibrator, Made, Part, Settings, Window, Windows, answer, openings,
    write_on,
};
use fewron_eval::data::Dataset;
use fewron_eval::tasks::{Task, Variant};
use fewron_model::Pool;
use fewron_sparsity::PolicyKind;
use fewron_sparsity::plan::file::to_bytes;
use fewron_sparsity::plan::record::{CalibrationRecord, HeldOut, PlanRecord};

use super::eval::{check_chat, run_task};
use crate::Outcome;
use crate::cli::{CalibrateArgs, KvType, LossMetric, Policy, Selection};
use crate::loaded::{self, Loaded};
use crate::mask::{Masking, plan_model};
use crate::plan_words::words;
use crate::runs::{self, Planned};
use crate::store::{self, write_whole};
use crate::study::{Answers, model_record, prompts};
use crate::ui::{self, Interrupted, Progress, Unit};

/// Sparsities that `--max-loss` tries.
const TRIES: [f32; 19] = [
    0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85,
    0.9, 0.95,
];

/// Rounds of writing text, at most.
const ROUNDS: u64 = 8;

/// Longest answer to a question that is calibrated on.
const ANSWER_TOKENS: usize = 64;

/// Tokens of calibration text for each input of a compensation, at least.
const TOKENS_PER_INPUT: usize = 16;

pub(crate) fn run(args: &CalibrateArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let out = match &args.out {
        Some(out) => out.clone(),
        None => store::resolve(&args.model.name)?.plan_beside(),
    };
    let record = write_plan(args, &out, threads)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&record)?);
    } else {
        println!("{}", words(&record));
        let use_it = match args.out {
            Some(_) => format!("--plan {}", out.display()),
            None => "--plan auto".to_owned(),
        };
        ui::note(&format!("plan in {}; use it with {use_it}", out.display()));
    }
    Ok(Outcome::Done)
}

/// Makes a plan and writes it; what it says about itself.
///
/// # Errors
/// When it cannot be made or written, and after Ctrl-C.
pub(super) fn write_plan(
    args: &CalibrateArgs,
    out: &Path,
    threads: Option<NonZeroUsize>,
) -> Result<PlanRecord> {
    let loaded = Loaded::from_args(&args.model)?;
    let settings = settings(args, &loaded)?;
    let task = TaskLoss::new(args, &loaded, threads)?;
    let pool = loaded::pool(threads);
    let windows = windows(args, &loaded, &pool)?;
    warn_of_little_text(&settings, &windows, &loaded);
    let bars = Bars::default();
    let progress = |what: &str, done: usize, of: usize| bars.show(what, done, of);
    let model = Arc::clone(&loaded.model);
    let stop = ui::interrupt_flag();
    let mut calibrator = Calibrator::new(model, pool, &windows, settings.clone(), &progress, stop);
    let loss = |made: &Made| {
        bars.clear();
        task.as_ref().map_or_else(|| Ok(loss(args.metric, &made.held_out)), |task| task.of(made))
    };
    let model = model_record(&loaded)?;
    let planned = Planned {
        kind: "calibrate",
        what: String::new(),
        model: &model,
        threads: loaded::thread_count(threads),
        folder: Some(out),
        anew: true,
    };
    runs::recorded(&planned, runs::of_plan, |_| {
        let made = make(args, &mut calibrator, loss);
        bars.clear();
        let (basis, made, sparsity) = made?;
        let record = record(&loaded, &settings, &windows, &basis, &made, sparsity)?;
        let bytes = to_bytes(&made.plan, &record, loaded.model.isa());
        write_whole(out, &bytes).with_context(|| {
            format!("cannot write the plan {}; name another file with --out", out.display())
        })?;
        Ok(record)
    })
}

fn settings(args: &CalibrateArgs, loaded: &Loaded) -> Result<Settings> {
    let gated = loaded.model.config().gated;
    let policy = args.policy.unwrap_or(if gated { Policy::Gate } else { Policy::Predict });
    ensure!(
        !matches!(policy, Policy::Dense),
        "policy dense needs no plan: it is the model as it is"
    );
    ensure!(
        args.select != Selection::Global,
        "a running model has no scores of later layers; use --select threshold or layer"
    );
    Ok(Settings {
        policy: policy.as_str().parse()?,
        selection: args.select.as_str().parse()?,
        compensation: args.compensation,
        predictor: args.predictor.get(),
        uniform: args.uniform,
        single_stage: args.single_stage,
        heads: args.heads,
        weighting: args.weighting.map(Into::into),
        traced_tokens: args.traced_tokens.get(),
        seed: args.seed,
    })
}

/// Text in windows: of files, the model's answers to questions, or what it writes itself.
fn windows(args: &CalibrateArgs, loaded: &Loaded, pool: &Arc<Pool>) -> Result<Windows> {
    let tokens = args.tokens.get() / args.data.len();
    let part = |source: &String| match source.as_str() {
        "self" => own_text(tokens, args.seed, loaded, pool),
        file if is_questions(file) => answers(file, tokens, loaded, pool),
        file => Ok(Part::of_text(file, &loaded.tokenizer, loaded.context(), tokens)?),
    };
    let parts = args.data.iter().map(part).collect::<Result<Vec<_>>>()?;
    Ok(Windows::new(parts)?)
}

/// About `tokens` tokens that the model writes, going on with pieces of the built-in text.
fn own_text(tokens: usize, seed: u64, loaded: &Loaded, pool: &Arc<Pool>) -> Result<Part> {
    let (openings, most) = openings(&loaded.tokenizer, loaded.context(), tokens);
    let openings: Vec<&[u32]> = openings.iter().map(Vec::as_slice).collect();
    let mut session = loaded.session(pool, KvType::F16);
    let text = Answers(loaded);
    let (mut windows, mut done) = (Vec::new(), 0_usize);
    // Texts end where the model ends them: then more of them are wanted.
    for round in 0..ROUNDS {
        let mean = done.div_ceil(windows.len().max(1)).max(1);
        let wanted = if round == 0 { openings.len() } else { (tokens - done).div_ceil(mean) };
        let openings = &openings[..wanted.min(openings.len())];
        let bar = Progress::new("writing text", Unit::Items, openings.len() as u64);
        let (seed, text) = (seed.wrapping_mul(ROUNDS).wrapping_add(round), &text);
        let written = write_on(&mut session, text, openings, most, seed, &mut counted(&bar));
        windows.extend(or_interrupted(written)?);
        done = windows.iter().map(|window: &Window| window.tokens.len()).sum();
        if done + openings[0].len() >= tokens {
            break;
        }
    }
    Ok(Part::of_written("self".to_owned(), windows))
}

/// As many questions as make about `tokens` tokens with their answers.
fn answers(file: &str, tokens: usize, loaded: &Loaded, pool: &Arc<Pool>) -> Result<Part> {
    let data = Dataset::load(file, None)?;
    let mut prompts = prompts(loaded, &data, false, ANSWER_TOKENS)?;
    let mut all = 0;
    prompts.retain(|prompt| {
        all += prompt.tokens.len() + ANSWER_TOKENS;
        all <= tokens
    });
    let bar = Progress::new("answering", Unit::Items, prompts.len() as u64);
    let mut session = loaded.session(pool, KvType::F16);
    let prompts: Vec<&[u32]> = prompts.iter().map(|prompt| prompt.tokens.as_slice()).collect();
    let text = Answers(loaded);
    let answers = answer(&mut session, &text, &prompts, ANSWER_TOKENS, &mut counted(&bar));
    Ok(Part::of_written(data.name, or_interrupted(answers)?))
}

/// Shows how much is done; says whether to go on.
fn counted(bar: &Progress) -> impl FnMut(usize, usize) -> bool {
    |done, _| {
        bar.set(done as u64);
        !ui::interrupted()
    }
}

fn or_interrupted<T>(result: Result<T, CalibrateError>) -> Result<T> {
    match result {
        Err(CalibrateError::Interrupted) => Err(Interrupted.into()),
        result => Ok(result?),
    }
}

/// Tokens for each input of a predictor, at least.
const TOKENS_PER_PREDICTOR_INPUT: usize = 24;

/// A compensation or a predictor with more weights than there is text for fits the text, not the model.
fn warn_of_little_text(settings: &Settings, windows: &Windows, loaded: &Loaded) {
    let needed = match settings.policy {
        PolicyKind::Prompt => 0,
        PolicyKind::Predict => TOKENS_PER_PREDICTOR_INPUT * loaded.model.config().hidden,
        _ if settings.compensation > 0 => TOKENS_PER_INPUT * loaded.model.config().hidden,
        _ => 2048,
    };
    let tokens = windows.tokens();
    if tokens < needed {
        ui::note(&format!(
            "{} makes {tokens} tokens to calibrate on; at least {needed} are wanted for a plan that \
             holds on other text: give more with --data",
            windows.name
        ));
    }
}

/// Makes the plan at the sparsity that is asked for, or that a loss allows.
fn make(
    args: &CalibrateArgs,
    calibrator: &mut Calibrator,
    loss: impl Fn(&Made) -> Result<f64>,
) -> Result<(Basis, Made, f32)> {
    let Some(most) = args.max_loss else {
        let sparsity = args.sparsity.unwrap_or(0.5);
        let basis = or_interrupted(calibrator.basis(sparsity))?;
        let made = or_interrupted(calibrator.plan(&basis, sparsity))?;
        return Ok((basis, made, sparsity));
    };
    let basis = or_interrupted(calibrator.basis(0.5))?;
    let (mut low, mut high) = (0, TRIES.len());
    let (mut best, mut least) = (None, f64::INFINITY);
    // The loss grows with the sparsity: halve the tries that are left.
    while low < high {
        let middle = (low + high) / 2;
        let made = or_interrupted(calibrator.plan(&basis, TRIES[middle]))?;
        let loss = loss(&made)?;
        least = least.min(loss);
        ui::note(&format!("sparsity {:.2}: loss {:.4}", TRIES[middle], loss));
        if loss <= most {
            best = Some((made, TRIES[middle]));
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let (made, sparsity) = best.ok_or(CalibrateError::NoneUnder { most, least })?;
    Ok((basis, made, sparsity))
}

/// The task whose loss is limited, and what evaluates it.
struct TaskLoss<'a> {
    task: Task,
    loaded: &'a Loaded,
    threads: usize,
    seed: u64,
}

impl<'a> TaskLoss<'a> {
    fn new(
        args: &CalibrateArgs,
        loaded: &'a Loaded,
        threads: Option<NonZeroUsize>,
    ) -> Result<Option<Self>> {
        let Some(task) = &args.task else { return Ok(None) };
        let task = Task::load(&task.task, &task.file, args.limit.map(NonZeroUsize::get))?;
        check_chat(loaded, std::slice::from_ref(&task))?;
        let threads = loaded::thread_count(threads);
        Ok(Some(Self { task, loaded, threads, seed: args.seed }))
    }

    /// What the task's headline metric loses under a plan, as a share.
    fn of(&self, made: &Made) -> Result<f64> {
        let masking = Masking::of_plan(made.plan.clone(), self.loaded);
        let record = run_task(
            self.loaded,
            &[&masking as &dyn Variant],
            self.threads,
            self.seed,
            &self.task,
            None,
        )?;
        let result = record.results.last().context("a task has a result for each variant")?;
        let (metric, loss) = result.loss().with_context(|| {
            let name = &self.task.name;
            format!("the dense model gets nothing of {name} right, so there is no loss to limit")
        })?;
        ui::note(&format!("{} {metric}: {:.2}% lost", self.task.name, 100.0 * loss));
        Ok(loss)
    }
}

fn loss(metric: LossMetric, held_out: &HeldOut) -> f64 {
    match metric {
        LossMetric::Perplexity => held_out.perplexity_ratio() - 1.0,
        LossMetric::Agreement => 1.0 - held_out.agreement,
        LossMetric::Kl => held_out.kl,
    }
}

fn record(
    loaded: &Loaded,
    settings: &Settings,
    windows: &Windows,
    basis: &Basis,
    made: &Made,
    sparsity: f32,
) -> Result<PlanRecord> {
    let rank = |map: fn(&fewron_sparsity::LayerPlan) -> Option<usize>| {
        made.plan.layers.iter().filter_map(map).max().unwrap_or(0)
    };
    Ok(PlanRecord {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: plan_model(loaded)?,
        policy: settings.policy,
        sparsity,
        selection: settings.selection.to_string(),
        weighting: basis.weighting.map_or(String::new(), |w| w.to_string()),
        compensation: rank(|layer| layer.compensation.as_ref().map(|map| map.rank())),
        predictor: rank(|layer| layer.predictor.as_ref().map(|map| map.rank())),
        calibration: CalibrationRecord {
            data: windows.name.clone(),
            sha256: windows.sha256.clone(),
            tokens: windows.tokens(),
            seed: settings.seed,
        },
        held_out: Some(made.held_out),
        recall: made.recall,
        compared: basis.compared.clone(),
        layers: made.layers.clone(),
        recovery: None,
    })
}

/// One bar for each kind of step.
#[derive(Default)]
struct Bars(RefCell<Option<(String, Progress)>>);

impl Bars {
    fn show(&self, what: &str, done: usize, of: usize) {
        let mut bar = self.0.borrow_mut();
        if bar.as_ref().is_none_or(|(name, _)| name != what) {
            // The old one goes before the new one is drawn.
            *bar = None;
            *bar = Some((what.to_owned(), Progress::new(what, Unit::Items, of as u64)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set(done as u64);
        }
    }

    fn clear(&self) {
        *self.0.borrow_mut() = None;
    }
}

/// Whether a source is a file of plain text.
pub(super) fn is_text(source: &str) -> bool {
    !matches!(source, "self" | "builtin") && !is_questions(source)
}

/// Whether a file is one of questions: its model's answers are the text.
pub(super) fn is_questions(file: &str) -> bool {
    let extension = Path::new(file).extension().map(|e| e.to_string_lossy().to_lowercase());
    matches!(extension.as_deref(), Some("csv" | "json" | "jsonl" | "ndjson"))
}
