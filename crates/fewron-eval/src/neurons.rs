//! Neuron analytics: which units a model keeps for which token, and what that says about them.
//!
//! For each question: a dense greedy answer, attribution scores of every unit at every step from the second
//! token on, and the units that each metric, and a run-time policy beside them, keeps. Only counts and sums
//! stay, and masks as bits as far as they fit a budget. No quality is measured here, so sets of metrics
//! (which know the label) and of policies (which do not) may stand side by side; each says which it is.

mod answer;
mod bits;
mod cards;
mod collect;
mod contexts;
mod overlap;
mod pairs;
pub mod record;
mod specificity;
mod tally;
#[cfg(test)]
mod tests;

pub use contexts::CONTEXTS;
pub use overlap::chance_jaccard;
pub use specificity::LEAST_ANSWERS;

use crate::record::{DataRecord, ModelRecord, Settings};
use crate::sweep::{Prompt, Text};
use answer::{Answer, Worker, ask};
use collect::State;
use fewron_model::{Model, ModelError, Pool, Session};
use fewron_sparsity::{Attribution, Cut, Heads, Metric, Plan, Scope, Selection};
use record::{Kind, MaskUnits, NeuronRun};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use thiserror::Error;

/// Categories that are told apart: those with the most questions. Questions of others have none.
pub const MOST_CATEGORIES: usize = 64;

/// Bytes of the masks that are kept token by token, over all metrics and policies.
const STORE_BYTES: usize = 256 << 20;

/// Questions of a round for each thread: their answers are held until the round is done.
const ROUND: usize = 4;

/// What neuron analytics measures.
#[derive(Clone, Debug, PartialEq)]
pub struct NeuronConfig {
    /// Metrics whose kept sets are looked at; may be empty where there is a policy.
    pub metrics: Vec<Metric>,
    /// Sparsity ratio, 0..=1.
    pub ratio: f32,
    /// Units that are looked at.
    pub scope: Scope,
    /// Among which units the ratio is taken.
    pub selection: Selection,
    /// Strength of `cor-gxo`'s correction.
    pub correction: f32,
    /// Steps of integrated gradients.
    pub ig_steps: usize,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Seed of random scores and of the permutations.
    pub seed: u64,
    /// Which neurons are described one by one.
    pub cards: Cards,
}

/// Which neurons are described one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cards {
    /// Those that stand out in a category; where there are none those with the largest scores.
    Highlights,
    /// The neurons of a layer with the largest scores, this many.
    Layer(usize, usize),
    /// One neuron of a layer.
    Neuron(usize, usize),
}

/// A run-time policy beside the metrics.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Its name in the record.
    pub name: String,
    /// What it obeys.
    pub plan: Plan,
}

/// What neuron analytics runs on and whom it tells.
pub struct NeuronStudy<'a> {
    /// The model.
    pub model: Arc<Model>,
    /// What to measure.
    pub config: NeuronConfig,
    /// Identity of the model in the record.
    pub model_record: ModelRecord,
    /// Identity of the data; its token count is filled in.
    pub data: DataRecord,
    /// The questions.
    pub prompts: Vec<Prompt>,
    /// The category of each question, where it has one.
    pub categories: Vec<Option<String>>,
    /// Decoder of answers.
    pub text: &'a dyn Text,
    /// A policy beside the metrics.
    pub runtime: Option<Runtime>,
    /// Worker threads, one question each.
    pub threads: usize,
    /// Told how many questions are done.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Set to stop after the questions at hand.
    pub stop: &'a AtomicBool,
}

/// Why neuron analytics ended without a result.
#[derive(Debug, Error)]
pub enum NeuronError {
    /// The stop flag was set.
    #[error("interrupted after {done} of {total} questions; nothing was kept")]
    Interrupted {
        /// Questions finished.
        done: usize,
        /// All questions.
        total: usize,
    },
    /// The model refused a text.
    #[error("question {index} ({question:?}): {source}")]
    Model {
        /// Number of the question, from 1.
        index: usize,
        /// Its text.
        question: String,
        /// What the model said.
        source: ModelError,
    },
    /// No answer had a second token.
    #[error(
        "no answer was longer than one token, so no step is masked; allow longer answers or ask other questions"
    )]
    NothingMasked,
    /// The layer or neuron does not exist.
    #[error("there is no {what} {index}: the model has {count}, numbered from 0")]
    OutOfRange {
        /// `layer` or `neuron`.
        what: &'static str,
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
}

/// The record, and the counts that are too large for it.
pub struct NeuronResult {
    /// The record.
    pub run: NeuronRun,
    /// Counts of every unit, by mask and kind.
    pub units: Vec<MaskUnits>,
}

impl NeuronStudy<'_> {
    /// Asks all questions. `settings` gives the record's fields that are not measured here. Results do not
    /// depend on the number of threads: answers are counted in the order of the questions.
    ///
    /// # Errors
    /// See [`NeuronError`].
    pub fn run(&self, settings: Settings) -> Result<NeuronResult, NeuronError> {
        self.check()?;
        let start = Instant::now();
        let mut state = State::new(self, STORE_BYTES);
        let round = ROUND * self.threads.max(1);
        let mut workers: Vec<Worker> =
            (0..self.threads.clamp(1, self.prompts.len().max(1))).map(|_| self.worker()).collect();
        for first in (0..self.prompts.len()).step_by(round) {
            let last = (first + round).min(self.prompts.len());
            for (index, answer) in (first..).zip(self.ask_all(&mut workers, first..last)?) {
                state.add(self, index, answer);
            }
            self.check_stop(last)?;
        }
        if state.tokens() == 0 {
            return Err(NeuronError::NothingMasked);
        }
        let mut result = state.collect(self, settings);
        self.check_stop(self.prompts.len())?;
        result.run.settings.wall_s = start.elapsed().as_secs_f64();
        Ok(result)
    }

    fn check(&self) -> Result<(), NeuronError> {
        let config = self.model.config();
        let check = |what, index: usize, count: usize| match index < count {
            true => Ok(()),
            false => Err(NeuronError::OutOfRange { what, index, count }),
        };
        match self.config.cards {
            Cards::Highlights => Ok(()),
            Cards::Layer(layer, _) => check("layer", layer, config.layers.len()),
            Cards::Neuron(layer, neuron) => {
                check("layer", layer, config.layers.len())?;
                check("neuron", neuron, config.intermediate)
            }
        }
    }

    fn check_stop(&self, done: usize) -> Result<(), NeuronError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(NeuronError::Interrupted { done, total: self.prompts.len() }),
            false => Ok(()),
        }
    }

    /// The answers to a range of questions, in order.
    fn ask_all(
        &self,
        workers: &mut [Worker],
        questions: std::ops::Range<usize>,
    ) -> Result<Vec<Answer>, NeuronError> {
        let next = AtomicUsize::new(questions.start);
        let done = AtomicUsize::new(questions.start);
        let answers: Vec<Mutex<Option<Result<Answer, ModelError>>>> =
            questions.clone().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for worker in workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= questions.end || self.stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let answer = ask(self, worker, index);
                        let place = &answers[index - questions.start];
                        *place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                            Some(answer);
                        (self.progress)(done.fetch_add(1, Ordering::Relaxed) as u64 + 1);
                    }
                });
            }
        });
        let answers = answers.into_iter().zip(questions).map(|(answer, index)| {
            let answer = answer.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            let Some(answer) = answer else {
                return Err(NeuronError::Interrupted { done: index, total: self.prompts.len() });
            };
            answer.map_err(|source| NeuronError::Model {
                index: index + 1,
                question: self.prompts[index].question.clone(),
                source,
            })
        });
        answers.collect()
    }

    fn worker(&self) -> Worker {
        let c = &self.config;
        let session = Session::new(Arc::clone(&self.model), Arc::new(Pool::new(1)));
        let attribution =
            Attribution::new(&self.model, &c.metrics, c.scope, c.correction, c.ig_steps, c.seed);
        Worker { session, attribution }
    }

    /// Names of the masks: metrics, then the policy.
    fn names(&self) -> Vec<String> {
        let metrics = self.config.metrics.iter().map(ToString::to_string);
        metrics.chain(self.runtime.iter().map(|runtime| runtime.name.clone())).collect()
    }

    /// Whether a mask chooses among MLP neurons and among heads.
    fn kinds(&self, mask: usize) -> [bool; 2] {
        match &self.runtime {
            Some(runtime) if mask >= self.config.metrics.len() => {
                let layers = &runtime.plan.layers;
                let heads = layers.iter().any(|layer| !matches!(layer.heads, Heads::All));
                [layers.iter().any(|layer| layer.cut != Cut::Dense), heads]
            }
            _ => [self.config.scope.has_neurons(), self.config.scope.has_heads()],
        }
    }

    /// Units of a layer.
    fn units(&self, kind: Kind) -> usize {
        match kind {
            Kind::Mlp => self.model.config().intermediate,
            Kind::Head => self.model.config().heads,
        }
    }
}
