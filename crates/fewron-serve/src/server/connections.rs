//! The open connections, and which of them make room for others.

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::api::{App, Phase};

/// How long a new connection waits for the end of an idle one before another is closed for it.
const PATIENCE: Duration = Duration::from_millis(20);

/// The open connections.
pub(super) struct Connections {
    app: Arc<App>,
    places: Arc<Semaphore>,
    limit: u32,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    by_number: HashMap<u64, Entry>,
}

struct Entry {
    /// Replies that are being made or sent.
    busy: usize,
    /// When it became idle.
    since: Instant,
    evict: Arc<Notify>,
    evicted: bool,
}

impl Connections {
    /// None yet, and never more than this.
    pub(super) fn new(limit: usize, app: Arc<App>) -> Self {
        let limit = u32::try_from(limit.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let places = Arc::new(Semaphore::new(limit as usize));
        Self { app, places, limit, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The table is whole after each statement that changes it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. Where there is none, the longest idle connection is closed; where
    /// none is idle, the new one waits.
    pub(super) async fn enter(self: &Arc<Self>) -> Connection {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => self.make_room().await,
        };
        let evict = Arc::new(Notify::new());
        let since = Instant::now();
        let entry = Entry { busy: 0, since, evict: Arc::clone(&evict), evicted: false };
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, entry);
        drop(open);
        self.app.traffic.connections.inc();
        Connection { all: Arc::clone(self), number, evict, _place: place }
    }

    async fn make_room(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            self.evict_one();
            let free = Arc::clone(&self.places).acquire_owned();
            if let Ok(place) = timeout(PATIENCE, free).await {
                return place.ok();
            }
        }
    }

    fn evict_one(&self) {
        let mut open = self.lock();
        let idle = open.by_number.values_mut().filter(|entry| entry.busy == 0 && !entry.evicted);
        if let Some(entry) = idle.min_by_key(|entry| entry.since) {
            entry.evicted = true;
            entry.evict.notify_one();
            self.app.traffic.evicted.inc();
        }
    }

    /// Waits until there is none.
    pub(super) async fn all_closed(&self) {
        let _ = self.places.acquire_many(self.limit).await;
    }
}

/// An open connection.
pub(super) struct Connection {
    all: Arc<Connections>,
    number: u64,
    evict: Arc<Notify>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().by_number.remove(&self.number);
        self.all.app.traffic.connections.dec();
    }
}

impl Connection {
    /// Waits until it is to make room.
    pub(super) async fn evicted(&self) {
        self.evict.notified().await;
    }

    /// Waits until the server ends.
    pub(super) async fn ending(&self) {
        let mut phases = self.all.app.phase.subscribe();
        let _ = phases.wait_for(|&phase| phase == Phase::Ending).await;
    }

    /// It is not idle from now on until the work is dropped.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        if let Some(entry) = self.all.lock().by_number.get_mut(&self.number) {
            entry.busy += 1;
        }
        Work(Arc::clone(self))
    }
}

/// A reply that is being made or sent.
pub(super) struct Work(Arc<Connection>);

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(entry) = self.0.all.lock().by_number.get_mut(&self.0.number) {
            entry.busy -= 1;
            entry.since = Instant::now();
        }
    }
}

impl Work {
    /// Keeps the work until the reply is sent.
    pub(super) fn through(self, response: Response) -> Response {
        response.map(|body| Body::new(Sending { body, _work: self }))
    }
}

/// The body of a reply.
struct Sending {
    body: Body,
    _work: Work,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
