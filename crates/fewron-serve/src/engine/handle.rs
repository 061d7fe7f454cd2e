//! The engine as the rest of the server sees it.

use super::book::Book;
use super::request::{Answer, Refused, Request};
use super::settings::Settings;
use super::status::Status;
use super::variant::{Variant, VariantError};
use super::variants::Variants;
use super::worker::{self, Job};
use fewron_model::sampler::Sampler;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{Model, ModelError, Pool, Session};
use fewron_sparsity::PolicyKind;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

/// Tokens that fill whole pages.
const SOME_TOKENS: usize = 1024;

/// Takes requests on and answers them, all on one thread beside those of the kernels' pool. Clones are the
/// same engine; it ends when the last of them is dropped, or by [`Self::stop`].
#[derive(Clone)]
pub struct Engine(Arc<Handle>);

/// Ends the worker when the last handle goes.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
    }
}

/// What handles and the worker share.
pub(super) struct Shared {
    pub(super) model: Arc<Model>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) pool: Arc<Pool>,
    pub(super) settings: Settings,
    pub(super) variants: Variants,
    /// Bytes of one token's keys and values.
    pub(super) kv_token_bytes: usize,
    state: Mutex<State>,
    pub(super) wake: Condvar,
}

/// What changes.
pub(super) struct State {
    pub(super) queue: VecDeque<Job>,
    pub(super) draining: bool,
    pub(super) stop: bool,
    /// Whether the worker has ended.
    pub(super) ended: bool,
    pub(super) book: Book,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // State is whole after each statement that changes it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Starts an engine. `pool` runs the kernels and is best not used by others meanwhile.
    ///
    /// # Errors
    /// When a share of the traffic names a variant that is not there.
    pub fn start(
        model: Arc<Model>,
        tokenizer: Arc<Tokenizer>,
        pool: Arc<Pool>,
        mut settings: Settings,
    ) -> Result<Self, VariantError> {
        let variants = Variants::new(&mut settings)?;
        let session =
            Session::with_kv_type(Arc::clone(&model), Arc::clone(&pool), settings.kv_type);
        let book = Book::new(variants.named());
        let shared = Arc::new(Shared {
            kv_token_bytes: session.cache().bytes_of(SOME_TOKENS) / SOME_TOKENS,
            model,
            tokenizer,
            pool,
            settings,
            variants,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                draining: false,
                stop: false,
                ended: false,
                book,
            }),
            wake: Condvar::new(),
        });
        let worker = Arc::clone(&shared);
        thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || worker::run(&worker, session))
            .map_err(|e| VariantError::Policy(format!("no thread for the engine: {e}")))?;
        Ok(Self(Arc::new(Handle { shared })))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// What clients call the model.
    pub fn name(&self) -> &str {
        &self.shared().settings.name
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.shared().model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.shared().tokenizer
    }

    /// The dense variant and those with a name, in the order of [`Status::variants`].
    pub fn variants(&self) -> Vec<Arc<Variant>> {
        self.shared().variants.named()
    }

    /// The variant that a model name means: `NAME:VARIANT`, or for `NAME` one by the shares of the
    /// traffic, the same for the same `user`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn variant(&self, model: &str, user: Option<&str>) -> Result<Arc<Variant>, VariantError> {
        self.shared().variants.find(self.name(), model, user)
    }

    /// The variant of a policy at a ratio, made when it is first asked for: that may take seconds.
    ///
    /// # Errors
    /// When the ratio is not between 0 and 1, or the policy cannot be had for this model.
    pub fn policy(&self, policy: PolicyKind, ratio: f32) -> Result<Arc<Variant>, VariantError> {
        let shared = self.shared();
        let variant = shared.variants.of_policy(policy, ratio, &shared.settings.maker)?;
        shared.lock().book.know(&variant);
        Ok(variant)
    }

    /// Takes a request on.
    ///
    /// # Errors
    /// When it cannot be answered, or not now.
    pub fn submit(&self, request: Request) -> Result<Answer, Refused> {
        let shared = self.shared();
        self.check(&request).inspect_err(|_| shared.lock().book.refuse(None))?;
        let mut state = shared.lock();
        if state.draining || state.stop {
            return Err(Refused::ShuttingDown);
        }
        let waiting = state.queue.len();
        if waiting >= shared.settings.limits.waiting {
            let retry_after = state.book.retry_after(waiting);
            state.book.refuse(Some(waiting));
            return Err(Refused::Busy { waiting, retry_after });
        }
        let (sender, events) = unbounded_channel();
        let (id, variant) = state.book.take_on(&request);
        let job = Job {
            id,
            request,
            variant: Arc::clone(&variant),
            events: sender,
            came: Instant::now(),
        };
        state.queue.push_back(job);
        shared.wake.notify_all();
        Ok(Answer { id, variant, events })
    }

    /// Refuses what could never be answered.
    fn check(&self, request: &Request) -> Result<(), Refused> {
        let (shared, config) = (self.shared(), self.model().config());
        let (limits, context, vocab) = (&shared.settings.limits, config.context, config.vocab);
        let (prompt, choices) = (request.prompt.len(), request.choices);
        if prompt == 0 {
            return Err(Refused::Prompt("a prompt has at least one token".to_owned()));
        }
        if prompt > context || (prompt == context && request.max_tokens > 0) {
            return Err(Refused::TooLong { prompt, context });
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token as usize >= vocab) {
            return Err(Refused::Prompt(ModelError::Token { token, vocab }.to_string()));
        }
        if choices == 0 || choices > limits.running {
            return Err(Refused::Choices { choices, most: limits.running });
        }
        Sampler::new(request.sampling.clone())?;
        let needed = worker::reserved(request, context) * shared.kv_token_bytes;
        if needed > limits.kv_bytes {
            return Err(Refused::TooLarge { needed, limit: limits.kv_bytes });
        }
        Ok(())
    }

    /// What the engine is doing.
    pub fn status(&self) -> Status {
        let shared = self.shared();
        let state = shared.lock();
        let waiting = state.queue.len();
        state.book.status(shared, waiting, state.draining)
    }

    /// Serves a variant sparse again that had fallen back to dense, and forgets what was scored.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn rearm(&self, name: &str) -> Result<(), VariantError> {
        let shared = self.shared();
        let variant = shared.variants.named_so(name)?;
        shared.lock().book.rearm(&variant);
        Ok(())
    }

    /// Takes on nothing new; what is there is answered.
    pub fn drain(&self) {
        self.shared().lock().draining = true;
        self.shared().wake.notify_all();
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        let state = self.shared().lock();
        state.queue.is_empty() && state.book.running() == 0
    }

    /// Fails what is still there with [`super::Failure::ShuttingDown`] and ends; waits for the end at most
    /// so long.
    pub fn stop(&self, wait: Duration) {
        let shared = self.shared();
        let mut state = shared.lock();
        (state.draining, state.stop) = (true, true);
        shared.wake.notify_all();
        let ends = Instant::now() + wait;
        while !state.ended {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = shared.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
