//! A small thread pool for the kernels: workers spin for a while, then park.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};

/// Polls before a waiting worker parks: about 100 µs where a pause takes 140 cycles, longer than the gap between two
/// kernels of a token.
const SPINS: usize = 2_000;

/// A job: a fat closure reference behind a thin pointer.
struct Job<'a>(&'a (dyn Fn(usize) + Sync));

struct Shared {
    job: AtomicPtr<Job<'static>>,
    epoch: AtomicUsize,
    running: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// Worker threads that run one closure at a time, together with the calling thread.
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
            running: AtomicUsize::new(0),
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

    /// Calls `f(0) … f(threads - 1)`, each on its own thread, and returns when all are done. `f`
    /// must not use the pool itself: it would wait for its own end.
    ///
    /// # Panics
    /// Passes on a panic of `f`.
    pub fn run(&self, f: impl Fn(usize) + Sync) {
        if self.workers.is_empty() {
            return f(0);
        }
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut job = Job(&f);
        let shared = &*self.shared;
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        shared.job.store((&raw mut job).cast(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        for (worker, _) in &self.workers {
            worker.unpark();
        }
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        let mut spins = 0;
        while shared.running.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!panicked, "a pool thread panicked");
    }

    /// Splits `0..len` into one range for each thread, cut at multiples of `align`, and calls
    /// `f(range)` for each that is not empty.
    pub fn split(&self, len: usize, align: usize, f: impl Fn(std::ops::Range<usize>) + Sync) {
        let units = len.div_ceil(align);
        let threads = self.threads();
        if units <= 1 || threads == 1 {
            if len > 0 {
                f(0..len);
            }
            return;
        }
        self.run(|index| {
            let start = (units * index / threads * align).min(len);
            let end = (units * (index + 1) / threads * align).min(len);
            if start < end {
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

    /// Calls `f(index, scratch, chunk)` for the chunks of `len` elements of `data` that `indices`
    /// names, spread over the threads; `scratch` belongs to the thread.
    ///
    /// # Panics
    /// When an index appears twice or lies beyond the data.
    pub fn chunks<T: Send, S: Default>(
        &self,
        data: &mut [T],
        len: usize,
        indices: &[usize],
        f: impl Fn(usize, &mut S, &mut [T]) + Sync,
    ) {
        assert!(indices.is_sorted_by(|a, b| a < b), "each chunk belongs to one thread");
        let shared = SharedSlice::new(data);
        self.split(indices.len(), 1, |range| {
            let mut scratch = S::default();
            for &index in &indices[range] {
                // SAFETY: indices are distinct, so chunks do not overlap.
                f(index, &mut scratch, unsafe { shared.range(index * len..(index + 1) * len) });
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
        let mut spins = 0;
        while shared.epoch.load(Ordering::Acquire) == seen {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::park() }
        }
        seen = seen.wrapping_add(1);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: `run` published the job before it raised the epoch and does not return, so that
        // the job stays alive, before `running` is 0 again.
        let job = unsafe { &*shared.job.load(Ordering::Relaxed) };
        if catch_unwind(AssertUnwindSafe(|| (job.0)(index))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
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
