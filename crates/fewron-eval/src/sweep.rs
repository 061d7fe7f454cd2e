//! The accuracy–sparsity sweep: quality of sparse answers against the dense model's own.
//!
//! For each question: a dense greedy answer, whose tokens are the labels; masks for its tokens from
//! the second on, by an oracle (scores with the label known) or by a run-time policy; a
//! teacher-forced sparse run for agreement and KL; a free-running sparse run for BLEU. Prompt and
//! first token are dense (design §3; arXiv 2406.06562, section 5).

mod answer;
mod checkpoint;
mod collect;
mod measure;

pub use answer::Dense;
pub(crate) use answer::teacher_forced;
pub use checkpoint::CheckpointError;
pub(crate) use checkpoint::{jaccard, pairs};

use crate::record::{DataRecord, Example, ModelRecord, Settings, SweepRun};
use checkpoint::Checkpoint;
use fewron_model::{Model, ModelError, Pool, Session};
use fewron_sparsity::{Attribution, Metric, Plan, Scope, Selection};
use measure::{Worker, measure};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use thiserror::Error;

/// What makes the masks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Masks {
    /// Attribution with the label known.
    Oracle(Vec<Metric>),
    /// Policies that a running model can have.
    Runtime(Vec<RuntimeMask>),
}

/// A policy of a runtime sweep: its plans, one for each ratio, are [`Sweep::plans`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuntimeMask {
    /// Its name in the record.
    pub name: String,
    /// SHA-256 of the plan file that it comes from; a quick calibration has none.
    pub plan: Option<String>,
}

impl Masks {
    /// The protocol's name in records.
    pub fn protocol(&self) -> &'static str {
        match self {
            Masks::Oracle(_) => "oracle",
            Masks::Runtime(_) => "runtime",
        }
    }

    /// Names of the metrics or policies.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Masks::Oracle(metrics) => metrics.iter().map(|m| m.name()).collect(),
            Masks::Runtime(policies) => policies.iter().map(|p| p.name.as_str()).collect(),
        }
    }
}

/// What a sweep measures: everything that changes its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepConfig {
    /// Metrics or policies.
    pub masks: Masks,
    /// Sparsity ratios, 0..=1.
    pub ratios: Vec<f32>,
    /// Units that are masked.
    pub scope: Scope,
    /// Among which units a ratio is taken.
    pub selection: Selection,
    /// Strength of `cor-gxo`'s correction.
    pub correction: f32,
    /// Steps of integrated gradients.
    pub ig_steps: usize,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Seed of random scores and of the bootstrap.
    pub seed: u64,
    /// Whether questions go in without the chat template.
    pub raw: bool,
}

impl SweepConfig {
    /// Points of the sweep: every metric or policy at every ratio, ratios inside.
    pub fn points(&self) -> usize {
        self.masks.names().len() * self.ratios.len()
    }

    /// Index of the ratio at which neuron activity is recorded: the one nearest to 0.8.
    pub fn focus(&self) -> usize {
        let distance = |r: f32| (r - 0.8).abs();
        let nearest =
            |a: &usize, b: &usize| distance(self.ratios[*a]).total_cmp(&distance(self.ratios[*b]));
        (0..self.ratios.len()).min_by(nearest).unwrap_or(0)
    }
}

/// A question, ready for the model.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The question as the user wrote it.
    pub question: String,
    /// Tokens of the prompt.
    pub tokens: Vec<u32>,
}

/// Turns tokens back into text.
pub trait Text: Sync {
    /// Text of an answer, without its end token.
    fn decode(&self, tokens: &[u32]) -> String;
    /// Whether an answer ends with this token.
    fn is_end(&self, token: u32) -> bool;
}

/// What a sweep runs on and whom it tells.
pub struct Sweep<'a> {
    /// The model.
    pub model: Arc<Model>,
    /// What to measure.
    pub config: SweepConfig,
    /// Identity of the model in the record.
    pub model_record: ModelRecord,
    /// Identity of the data; its token count is filled in.
    pub data: DataRecord,
    /// The questions.
    pub prompts: Vec<Prompt>,
    /// Decoder of answers.
    pub text: &'a dyn Text,
    /// By run-time policy and ratio; empty for the oracle.
    pub plans: Vec<Vec<Plan>>,
    /// Worker threads, one question each.
    pub threads: usize,
    /// Where to keep results so that an interrupted sweep can go on; `None` keeps none.
    pub checkpoint: Option<PathBuf>,
    /// Told how many of how many steps (points of questions) are done.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Set to stop at the next point; finished questions are kept.
    pub stop: &'a AtomicBool,
}

/// Why a sweep ended without a result.
#[derive(Debug, Error)]
pub enum SweepError {
    /// The stop flag was set. Finished questions are in the checkpoint.
    #[error("interrupted after {done} of {total} questions")]
    Interrupted {
        /// Questions finished, in this run and before.
        done: usize,
        /// All questions.
        total: usize,
    },
    /// The model refused a text.
    #[error("question {index} ({question:?}): {source}")]
    Model {
        /// Index of the question, from 1.
        index: usize,
        /// Its text.
        question: String,
        /// What the model said.
        source: ModelError,
    },
    /// The checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No answer had a second token, so nothing was masked.
    #[error(
        "no answer was longer than one token: nothing to mask; allow longer answers or ask other questions"
    )]
    NothingMasked,
}

impl Sweep<'_> {
    /// Runs the sweep, or what is left of it. `settings` gives the record's fields that are not
    /// measured here; wall time is added up over resumed runs.
    ///
    /// # Errors
    /// See [`SweepError`]. Whatever ends the sweep, questions that are finished stay in the
    /// checkpoint.
    pub fn run(&self, settings: Settings) -> Result<SweepRun, SweepError> {
        let start = Instant::now();
        let mut state = Checkpoint::open(self)?;
        let earlier_s = state.wall_s();
        let pending: Vec<usize> = (0..self.prompts.len()).filter(|i| !state.has(*i)).collect();
        let points = self.config.points() as u64;
        let total = self.prompts.len() as u64 * points;
        let steps =
            AtomicUsize::new(((self.prompts.len() - pending.len()) as u64 * points) as usize);
        (self.progress)(steps.load(Ordering::Relaxed) as u64, total);
        let tick = || {
            let done = steps.fetch_add(1, Ordering::Relaxed) as u64 + 1;
            (self.progress)(done, total);
        };
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let shared = Mutex::new((&mut state, None));
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, pending.len().max(1)) {
                scope.spawn(|| {
                    let mut worker = self.worker();
                    while let Some(&index) = pending.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let stop =
                            || self.stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
                        let result = measure(self, &mut worker, index, &tick, &stop);
                        let mut shared =
                            shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        let outcome = match result {
                            Ok(Some(sample)) => shared.0.add(
                                index,
                                sample,
                                earlier_s + start.elapsed().as_secs_f64(),
                            ),
                            Ok(None) => return,
                            Err(error) => Err(error),
                        };
                        if let Err(error) = outcome {
                            failed.store(true, Ordering::Relaxed);
                            shared.1.get_or_insert(error);
                            return;
                        }
                    }
                });
            }
        });
        if let Some(error) =
            shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).1
        {
            return Err(error);
        }
        let done = state.len();
        if done < self.prompts.len() {
            return Err(SweepError::Interrupted { done, total: self.prompts.len() });
        }
        let wall_s = earlier_s + start.elapsed().as_secs_f64();
        collect::collect(self, &state, Settings { wall_s, ..settings })
    }

    fn worker(&self) -> Worker {
        let session = Session::new(Arc::clone(&self.model), Arc::new(Pool::new(1)));
        let metrics: &[Metric] = match &self.config.masks {
            Masks::Oracle(metrics) => metrics,
            Masks::Runtime(_) => &[],
        };
        let c = &self.config;
        let attribution =
            Attribution::new(&self.model, metrics, c.scope, c.correction, c.ig_steps, c.seed);
        Worker { session, attribution }
    }
}

/// The first examples of a run, for people to read.
const EXAMPLES: usize = 6;

impl Sweep<'_> {
    fn examples(&self, state: &Checkpoint) -> Vec<Example> {
        let names = self.config.masks.names();
        let focus = self.config.focus();
        let ratio = self.config.ratios[focus];
        (0..self.prompts.len().min(EXAMPLES))
            .filter_map(|index| {
                let sample = state.sample(index)?;
                let sparse =
                    names.iter().enumerate().map(|(n, name)| crate::record::SparseAnswer {
                        name: (*name).to_owned(),
                        ratio,
                        text: sample.points[n * self.config.ratios.len() + focus].text.clone(),
                    });
                Some(Example {
                    question: self.prompts[index].question.clone(),
                    dense: sample.dense.clone(),
                    sparse: sparse.collect(),
                })
            })
            .collect()
    }
}
