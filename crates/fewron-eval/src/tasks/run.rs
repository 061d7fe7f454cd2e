//! A task on a model: samples spread over threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fewron_model::chat::{ChatError, ChatTemplate, Message};
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{Model, ModelError};
use thiserror::Error;

use super::aggregate::aggregate;
use super::definition::Definition;
use super::engine::Engine;
use super::journal::{Active, Journal, JournalError, MeasuredSample};
use super::record::{Outcome, Record, SampleRecord, TaskRecord, VariantResult};
use super::sample::Samples;
use super::{Task, Variant, VariantError, generate, multiple_choice, perplexity};
use crate::record::DataRecord;

/// Name of the dense model among the variants.
const DENSE: &str = "dense";

/// What tasks run on and whom they tell.
pub struct Eval<'a> {
    /// The dense model.
    pub model: Arc<Model>,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its chat template; without one, prompts go in as they are.
    pub chat: Option<&'a ChatTemplate>,
    /// What runs beside the dense model.
    pub variants: &'a [&'a dyn Variant],
    /// Worker threads, one sample each. They change no result.
    pub threads: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Told how many of how many samples are done.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Keeps samples for an evaluation that is to go on after it was cut off.
    pub journal: Option<&'a dyn Journal>,
    /// Set to stop at the next sample.
    pub stop: &'a AtomicBool,
}

/// Why a task ended without a result.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum EvalError {
    /// The stop flag was set.
    #[error("interrupted")]
    Interrupted,
    /// A sample could not be kept, or what was kept is of another evaluation.
    #[error("{0}")]
    Journal(JournalError),
    /// The text is too short for a window.
    #[error(
        "{file} is too short for the task {task}: {needed} tokens are needed, the text makes {found}"
    )]
    TooShort { task: String, file: String, needed: usize, found: usize },
    /// A sample that the model cannot be given.
    #[error("{file}, sample {id} of the task {task}: {source}")]
    Sample { task: String, file: String, id: String, source: Box<SampleError> },
}

/// What is wrong with a sample.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum SampleError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error("{0}")]
    Variant(VariantError),
    #[error("{text:?} leaves no tokens to score; give prompt and answers some text")]
    NoTokens { text: String },
}

impl Eval<'_> {
    /// Runs a task, dense and under every variant. Samples that the journal knows are not measured again:
    /// the record is the one of an evaluation that was never cut off, but for its wall time.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn run(&self, task: &Task) -> Result<TaskRecord, EvalError> {
        let samples = Prepared::new(self, task)?;
        let measured = self.measure_all(task, &samples)?;
        let records = |(index, sample): (usize, &MeasuredSample)| SampleRecord {
            id: samples.id(index),
            category: samples.category(index),
            variants: self.names().zip(sample.outcomes.iter().cloned()).map(record).collect(),
        };
        Ok(TaskRecord {
            task: task.name.clone(),
            kind: task.definition.kind().to_owned(),
            data: DataRecord {
                name: task.data_name.clone(),
                sha256: task.data_sha256.clone(),
                samples: measured.len(),
                tokens: measured.iter().map(|sample| tokens(&sample.outcomes[0])).sum(),
            },
            few_shot: task.definition.few_shot(),
            results: self.results(task, &measured),
            samples: measured.iter().enumerate().map(records).collect(),
            wall_s: measured.iter().map(|sample| sample.wall_s).sum::<f64>()
                / self.workers(&samples),
        })
    }

    /// Names of the lanes.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(DENSE).chain(self.variants.iter().map(|variant| variant.name()))
    }

    /// Threads that have a sample to run.
    fn workers(&self, samples: &Prepared) -> f64 {
        self.threads.clamp(1, samples.len()) as f64
    }

    /// All samples, in order; the first error that comes up ends it.
    fn measure_all(
        &self,
        task: &Task,
        samples: &Prepared,
    ) -> Result<Vec<MeasuredSample>, EvalError> {
        let total = samples.len();
        let mut measured = self.known(total)?;
        let missing: Vec<usize> = (0..total).filter(|&index| measured[index].is_none()).collect();
        let done = AtomicUsize::new(total - missing.len());
        (self.progress)(done.load(Ordering::Relaxed) as u64, total as u64);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Mutex::new((&mut measured, None));
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, missing.len().max(1)) {
                scope.spawn(|| {
                    let mut engine = Engine::new(&self.model);
                    loop {
                        let index = missing.get(next.fetch_add(1, Ordering::Relaxed));
                        let stop = [self.stop, &failed].iter().any(|f| f.load(Ordering::Relaxed));
                        let Some(&index) = index.filter(|_| !stop) else { return };
                        let result = self.measure(&mut engine, task, samples, index);
                        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                        match result.and_then(|sample| self.keep(index, sample)) {
                            Ok(sample) => shared.0[index] = Some(sample),
                            Err(error) => {
                                failed.store(true, Ordering::Relaxed);
                                shared.1.get_or_insert(error);
                            }
                        }
                        drop(shared);
                        (self.progress)(
                            done.fetch_add(1, Ordering::Relaxed) as u64 + 1,
                            total as u64,
                        );
                    }
                });
            }
        });
        if let (_, Some(error)) = shared.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        measured.into_iter().collect::<Option<Vec<_>>>().ok_or(EvalError::Interrupted)
    }

    /// What the journal knows of the samples, by their index.
    fn known(&self, total: usize) -> Result<Vec<Option<MeasuredSample>>, EvalError> {
        let mut known = vec![None; total];
        let kept =
            self.journal.map_or(Ok(Vec::new()), Journal::known).map_err(EvalError::Journal)?;
        let lanes = 1 + self.variants.len();
        for (index, sample) in kept {
            let fits = sample.outcomes.len() == lanes && sample.active.len() == lanes;
            let place = known.get_mut(index).filter(|_| fits);
            *place.ok_or_else(|| EvalError::Journal("it is of another evaluation".into()))? =
                Some(sample);
        }
        Ok(known)
    }

    /// Gives a sample to the journal before it counts.
    fn keep(&self, index: usize, sample: MeasuredSample) -> Result<MeasuredSample, EvalError> {
        if let Some(journal) = self.journal {
            journal.keep(index, &sample).map_err(EvalError::Journal)?;
        }
        Ok(sample)
    }

    fn measure(
        &self,
        engine: &mut Engine,
        task: &Task,
        samples: &Prepared,
        index: usize,
    ) -> Result<MeasuredSample, EvalError> {
        let start = Instant::now();
        let result = self.outcomes(engine, task, samples, index);
        let (outcomes, active) = result.map_err(|source| EvalError::Sample {
            task: task.name.clone(),
            file: task.data_name.clone(),
            id: samples.id(index),
            source: Box::new(source),
        })?;
        Ok(MeasuredSample { outcomes, active, wall_s: start.elapsed().as_secs_f64() })
    }

    fn outcomes(
        &self,
        engine: &mut Engine,
        task: &Task,
        samples: &Prepared,
        index: usize,
    ) -> Result<(Vec<Outcome>, Vec<Active>), SampleError> {
        let mut lanes = engine.start(self.variants).map_err(SampleError::Variant)?;
        let outcomes = match (&task.definition, samples) {
            (Definition::Perplexity(task), Prepared::Windows(windows)) => {
                perplexity::measure(engine, &mut lanes, task, &windows[index])
            }
            (Definition::MultipleChoice(task), Prepared::Choices(samples)) => {
                let (tokenizer, sample) = (self.tokenizer, &samples[index]);
                multiple_choice::measure(engine, &mut lanes, tokenizer, task, sample)
            }
            (Definition::Generate(task), Prepared::Questions(samples)) => {
                let sample = &samples[index];
                let prompt = match self.chat.filter(|_| task.chat) {
                    Some(chat) => {
                        chat.ids(self.tokenizer, &[Message::new("user", &*sample.prompt)], true)?
                    }
                    None => self.tokenizer.encode_prompt(&sample.prompt),
                };
                generate::measure(engine, &mut lanes, self.tokenizer, task, sample, &prompt)
            }
            _ => unreachable!("a task is loaded with the samples of its kind"),
        };
        Ok((outcomes?, lanes.iter().map(|lane| lane.active).collect()))
    }

    fn results(&self, task: &Task, measured: &[MeasuredSample]) -> Vec<VariantResult> {
        let of = |lane: usize| -> Vec<&Outcome> {
            measured.iter().map(|sample| &sample.outcomes[lane]).collect()
        };
        let dense = of(0);
        let result = |(lane, name): (usize, &str)| {
            let beside = (lane > 0).then_some(dense.as_slice());
            VariantResult {
                variant: name.to_owned(),
                active: share(measured.iter().map(|sample| sample.active[lane])),
                metrics: aggregate(&task.definition, &of(lane), beside, self.seed),
            }
        };
        self.names().enumerate().map(result).collect()
    }
}

/// Samples that are ready for the model.
enum Prepared<'a> {
    Windows(Vec<Vec<u32>>),
    Choices(&'a [super::sample::Choices]),
    Questions(&'a [super::sample::Question]),
}

impl<'a> Prepared<'a> {
    fn new(eval: &Eval, task: &'a Task) -> Result<Self, EvalError> {
        match (&task.samples, &task.definition) {
            (Samples::Text(text), Definition::Perplexity(settings)) => {
                let context = eval.model.config().context;
                let mut windows = perplexity::windows(settings, text, eval.tokenizer, context);
                windows.truncate(task.limit);
                if windows.is_empty() {
                    return Err(EvalError::TooShort {
                        task: task.name.clone(),
                        file: task.data_name.clone(),
                        needed: settings.dense + 2,
                        found: eval.tokenizer.encode_prompt(text).len(),
                    });
                }
                Ok(Self::Windows(windows))
            }
            (Samples::Choices(samples), _) => Ok(Self::Choices(samples)),
            (Samples::Questions(samples), _) => Ok(Self::Questions(samples)),
            _ => unreachable!("a task is loaded with the samples of its kind"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Windows(windows) => windows.len(),
            Self::Choices(samples) => samples.len(),
            Self::Questions(samples) => samples.len(),
        }
    }

    fn id(&self, index: usize) -> String {
        match self {
            Self::Windows(_) => (index + 1).to_string(),
            Self::Choices(samples) => samples[index].id.clone(),
            Self::Questions(samples) => samples[index].id.clone(),
        }
    }

    fn category(&self, index: usize) -> Option<String> {
        match self {
            Self::Windows(_) => None,
            Self::Choices(samples) => samples[index].category.clone(),
            Self::Questions(samples) => samples[index].category.clone(),
        }
    }
}

fn record((variant, outcome): (&str, Outcome)) -> Record {
    Record { variant: variant.to_owned(), outcome }
}

/// Tokens that a sample scores or writes.
fn tokens(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Choice { tokens, .. } | Outcome::Window { tokens, .. } => *tokens,
        Outcome::Text { tokens, .. } => *tokens as u64,
    }
}

/// The share of neurons that ran; `None` where nothing was masked.
fn share(active: impl Iterator<Item = Active>) -> Option<f64> {
    let sum = |(kept, seen), active: Active| (kept + active.kept, seen + active.seen);
    let (kept, seen) = active.fold((0, 0), sum);
    (seen > 0).then(|| kept as f64 / seen as f64)
}
