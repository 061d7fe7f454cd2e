//! A small thread pool for the kernels.
//!
//! A job is cut into parts, and threads claim one after the other. So a worker that the system has
//! taken off its processor holds nobody up, unless in the middle of a part. Workers spin for a while
//! between jobs, then park.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a waiting thread polls before it parks: longer than the gap between two kernels of a token.
const PATIENCE: Duration = Duration::from_micros(100);

/// Polls between two looks at the clock.
const POLLS: usize = 64;

/// How long the caller sleeps at a time for a worker that has not come to the end of its part. An idle
/// processor is what lets the system move the worker to it.
const NAP: Duration = Duration::from_micros(50);

/// Parts of a job for each thread, at most: few enough that claiming costs nothing, enough that
/// threads end at about the same time.
const PARTS: usize = 4;

/// The parts of a job that nobody has claimed yet, as one thread sees them: first those of its own
/// share, which follow each other, then the others'.
pub(crate) struct Parts<'a> {
    claims: &'a [Claims],
    count: usize,
    thread: usize,
}

/// How many parts of a thread's share are claimed; on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Claims(AtomicUsize);

impl Parts<'_> {
    /// Claims a part.
    #[inline]
    pub(crate) fn claim(&self) -> Option<usize> {
        let threads = self.claims.len();
        for turn in 0..threads {
            let owner = (self.thread + turn) % threads;
            let share = owner * self.count / threads..(owner + 1) * self.count / threads;
            let part = share.start + self.claims[owner].0.fetch_add(1, Ordering::Relaxed);
            if part < share.end {
                return Some(part);
            }
        }
        None
    }
}

/// A job: a fat closure reference behind a thin pointer.
struct Job<'a>(&'a (dyn Fn(usize) + Sync));

struct Shared {
    job: AtomicPtr<Job<'static>>,
    epoch: AtomicUsize,
    /// Bit 0: the job may be entered. The rest: workers that are in it.
    state: AtomicUsize,
    /// Of every thread.
    claims: Vec<Claims>,
    panicked: AtomicBool,
    stop: AtomicBool,
}

const OPEN: usize = 1;
const WORKER: usize = 2;

/// Worker threads that run one job at a time, together with the calling thread.
///
/// A pool of one thread runs everything in place and starts no thread.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, JoinHandle<()>)>,
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, the caller among them; 0 counts as 1.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            job: AtomicPtr::new(std::ptr::null_mut()),
            epoch: AtomicUsize::new(0),
            state: AtomicUsize::new(0),
            claims: (0..threads.max(1)).map(|_| Claims::default()).collect(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads.max(1))
            .map(|index| {
                let shared = Arc::clone(&shared);
                let handle = thread::Builder::new()
                    .name(format!("fewron-{index}"))
                    .spawn(move || work(&shared, index))
                    .expect("the system can start a thread");
                (handle.thread().clone(), handle)
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f` once on the calling thread and at most once on each other one; they share `count`
    /// parts. Returns when every call has. `f` must claim until nothing is left, and must not use the
    /// pool itself: it would wait for its own end.
    ///
    /// # Panics
    /// Passes on a panic of `f`.
    pub(crate) fn run(&self, count: usize, f: impl Fn(&Parts) + Sync) {
        if self.workers.is_empty() || count <= 1 {
            if count > 0 {
                f(&Parts { claims: &[Claims::default()], count, thread: 0 });
            }
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let shared = &*self.shared;
        shared.claims.iter().for_each(|claims| claims.0.store(0, Ordering::Relaxed));
        let call = |thread| f(&Parts { claims: &shared.claims, count, thread });
        let mut job = Job(&call);
        shared.job.store((&raw mut job).cast(), Ordering::Relaxed);
        shared.state.store(OPEN, Ordering::Release);
        shared.epoch.fetch_add(1, Ordering::Release);
        for (worker, _) in self.workers.iter().take(count - 1) {
            worker.unpark();
        }
        let own = catch_unwind(AssertUnwindSafe(|| call(0)));
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let inside = || shared.state.load(Ordering::Acquire) > 0;
        if !poll(|| !inside()) {
            while inside() {
                thread::park_timeout(NAP);
            }
        }
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!panicked, "a pool thread panicked");
    }

    /// Cuts `0..len` into ranges, at multiples of `align`, and calls `f(range)` for each, spread over
    /// the threads.
    pub fn split(&self, len: usize, align: usize, f: impl Fn(std::ops::Range<usize>) + Sync) {
        let units = len.div_ceil(align);
        let parts = units.min(self.threads() * PARTS);
        let parts = if self.workers.is_empty() { parts.min(1) } else { parts };
        self.run(parts, |claims| {
            while let Some(part) = claims.claim() {
                let start = (units * part / parts * align).min(len);
                let end = (units * (part + 1) / parts * align).min(len);
                f(start..end);
            }
        });
    }

    /// Calls `f(index, row)` for the rows of `len` elements of `data`, spread over the threads.
    ///
    /// # Panics
    /// When `data` is not made of whole rows.
    pub fn rows<T: Send>(&self, data: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        assert!(len > 0 && data.len().is_multiple_of(len), "data is whole rows of {len}");
        let rows = data.len() / len;
        let shared = SharedSlice::new(data);
        self.split(rows, 1, |range| {
            for row in range {
                // SAFETY: rows do not overlap.
                f(row, unsafe { shared.range(row * len..(row + 1) * len) });
            }
        });
    }

    /// As [`Self::rows`], row by row, with a scratch value that belongs to the thread; `scratch` grows
    /// to one for each thread.
    ///
    /// # Panics
    /// When `data` is not made of whole rows.
    pub fn rows_with<T: Send, S: Default + Send>(
        &self,
        data: &mut [T],
        len: usize,
        scratch: &mut Vec<S>,
        f: impl Fn(usize, &mut S, &mut [T]) + Sync,
    ) {
        assert!(len > 0 && data.len().is_multiple_of(len), "data is whole rows of {len}");
        let rows = data.len() / len;
        if scratch.len() < self.threads() {
            scratch.resize_with(self.threads(), S::default);
        }
        let (data, scratch) = (SharedSlice::new(data), SharedSlice::new(scratch));
        self.run(rows, |claims| {
            let own = claims.thread..claims.thread + 1;
            // SAFETY: each thread is in the job once, and has an index of its own.
            let [scratch] = (unsafe { scratch.range(own) }) else { unreachable!() };
            while let Some(row) = claims.claim() {
                // SAFETY: rows do not overlap.
                f(row, scratch, unsafe { data.range(row * len..(row + 1) * len) });
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for (worker, handle) in self.workers.drain(..) {
            worker.unpark();
            let _ = handle.join();
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let called = || shared.epoch.load(Ordering::Acquire) != seen;
        if !poll(called) {
            while !called() {
                thread::park();
            }
        }
        seen = shared.epoch.load(Ordering::Acquire);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if !enter(&shared.state) {
            continue;
        }
        // SAFETY: `run` published the job before it opened it, and does not return, so that the job
        // stays alive, while a worker is in it.
        let job = unsafe { &*shared.job.load(Ordering::Relaxed) };
        if catch_unwind(AssertUnwindSafe(|| (job.0)(index))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.state.fetch_sub(WORKER, Ordering::Release);
    }
}

/// Polls for a while; whether it came true.
fn poll(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for _ in 0..POLLS {
            if what() {
                return true;
            }
            std::hint::spin_loop();
        }
    }
    false
}

/// Joins the job if it is still open.
fn enter(state: &AtomicUsize) -> bool {
    let join = |state: usize| (state & OPEN != 0).then_some(state + WORKER);
    state.fetch_update(Ordering::Acquire, Ordering::Relaxed, join).is_ok()
}

/// A slice that several threads of a pool write at disjoint places.
pub(crate) struct SharedSlice<'a, T>(*mut T, usize, std::marker::PhantomData<&'a mut [T]>);

// SAFETY: access goes through `write` and `range`, whose callers promise disjoint places.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self(slice.as_mut_ptr(), slice.len(), std::marker::PhantomData)
    }

    /// Stores one element.
    ///
    /// # Safety
    /// No two threads may touch the same index at the same time.
    pub(crate) unsafe fn write(&self, index: usize, value: T) {
        assert!(index < self.1);
        // SAFETY: in bounds; exclusive by the caller's promise.
        unsafe { self.0.add(index).write(value) }
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two threads may hold overlapping parts at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn range(&self, range: std::ops::Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.1);
        // SAFETY: in bounds; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}
