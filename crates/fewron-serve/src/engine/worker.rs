//! The thread that answers: one batch after the other.

mod admit;
mod step;

use super::book::Book;
use super::handle::Shared;
use super::lanes::{Ask, Lanes};
use super::monitor::Monitor;
use super::prefix::PrefixCache;
use super::request::{Event, Failure, Request};
use super::variant::Variant;
use fewron_model::{ModelError, Session};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How long the worker sleeps at most while nothing is to be done.
const REST: Duration = Duration::from_millis(500);

/// A request that waits.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) request: Request,
    /// What serves it.
    pub(super) variant: Arc<Variant>,
    pub(super) events: UnboundedSender<Event>,
    pub(super) came: Instant,
}

/// Most tokens that an answer of a request can have in the cache.
pub(super) fn reserved(request: &Request, context: usize) -> usize {
    request.prompt.len().saturating_add(request.max_tokens).min(context)
}

/// Works until the engine is stopped.
pub(super) fn run(shared: &Shared, session: Session) {
    let mut worker = Worker::new(shared, session);
    while !shared.lock().stop {
        worker.guarded(Worker::turn);
    }
    worker.fail_all(&Failure::ShuttingDown);
    let mut state = shared.lock();
    for job in state.queue.drain(..).collect::<Vec<_>>() {
        let _ = job.events.send(Event::Failed(Failure::ShuttingDown));
        state.book.fail(job.id, None);
    }
    state.ended = true;
    shared.wake.notify_all();
}

struct Worker<'s> {
    shared: &'s Shared,
    session: Session,
    asks: HashMap<u64, Ask>,
    lanes: Lanes<'s>,
    prefix: PrefixCache,
    monitor: Monitor,
    /// Those of the last batch.
    logits: Vec<f32>,
}

impl<'s> Worker<'s> {
    fn new(shared: &'s Shared, session: Session) -> Self {
        Self {
            shared,
            session,
            asks: HashMap::new(),
            lanes: Lanes::default(),
            prefix: PrefixCache::default(),
            monitor: Monitor::default(),
            logits: Vec::new(),
        }
    }

    /// Takes on what fits and runs one batch, or something of the monitor's, or rests.
    fn turn(&mut self) -> Result<(), ModelError> {
        self.drop_vanished();
        self.admit();
        let busy = !self.lanes.lanes.is_empty();
        if busy {
            self.look()?;
            self.step()?;
        }
        if self.monitor.is_due(busy) {
            return self.monitor.score(self.shared, &mut self.session, busy);
        }
        if !busy {
            self.rest();
        }
        Ok(())
    }

    /// Does some work; where it fails or panics, all requests at work fail, and the engine goes on.
    fn guarded(&mut self, work: fn(&mut Self) -> Result<(), ModelError>) {
        let problem = match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a fault").to_owned()
            }
        };
        self.monitor.forget();
        self.prefix = PrefixCache::default();
        let kind = self.shared.settings.kv_type;
        let (model, pool) = (self.shared.model.clone(), self.shared.pool.clone());
        self.session = Session::with_kv_type(model, pool, kind);
        self.fail_all(&Failure::Internal(problem));
    }

    /// Waits for requests.
    fn rest(&self) {
        let state = self.shared.lock();
        if state.queue.is_empty() && !state.stop {
            let woken = self.shared.wake.wait_timeout(state, REST);
            drop(woken.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Lets go of requests whose client is gone, waiting ones too, and fails those that take too long.
    fn drop_vanished(&mut self) {
        let now = Instant::now();
        let gone: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.events.is_closed() || ask.deadline <= now)
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            let Some(ask) = self.asks.remove(&id) else { continue };
            self.lanes.remove_all(id);
            let mut state = self.shared.lock();
            state.book.memory(self.lanes.bytes(), self.prefix.bytes());
            let_go(&mut state.book, id, &ask.events, self.limit(&ask.request));
        }
        let mut state = self.shared.lock();
        let (stay, leave): (Vec<Job>, Vec<Job>) = state
            .queue
            .drain(..)
            .partition(|job| !job.events.is_closed() && now < job.came + self.limit(&job.request));
        state.queue.extend(stay);
        for job in leave {
            let_go(&mut state.book, job.id, &job.events, self.limit(&job.request));
        }
    }

    /// How long a request may take.
    fn limit(&self, request: &Request) -> Duration {
        let limit = self.shared.settings.limits.timeout;
        request.timeout.map_or(limit, |timeout| timeout.min(limit))
    }

    fn fail_all(&mut self, failure: &Failure) {
        self.lanes = Lanes::default();
        let mut state = self.shared.lock();
        state.book.memory(0, self.prefix.bytes());
        for (id, ask) in self.asks.drain() {
            let _ = ask.events.send(Event::Failed(failure.clone()));
            state.book.fail(id, Some(failure));
        }
    }
}

/// Ends a request whose client is gone, or else one that took longer than its limit.
fn let_go(book: &mut Book, id: u64, events: &UnboundedSender<Event>, limit: Duration) {
    if events.is_closed() {
        return book.cancel(id);
    }
    let failure = Failure::TimedOut(limit);
    book.fail(id, Some(&failure));
    let _ = events.send(Event::Failed(failure));
}
