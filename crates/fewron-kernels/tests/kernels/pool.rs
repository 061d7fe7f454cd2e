//! The thread pool.

use fewron_kernels::Pool;
use proptest::prelude::*;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

fn counters(len: usize) -> Vec<AtomicUsize> {
    (0..len).map(|_| AtomicUsize::new(0)).collect()
}

fn counts(counters: &[AtomicUsize]) -> Vec<usize> {
    counters.iter().map(|c| c.load(Ordering::Relaxed)).collect()
}

/// The pool still runs every part of a job, once.
#[track_caller]
fn assert_works(pool: &Pool) {
    let calls = counters(50);
    each(pool, 50, |index| {
        calls[index].fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(counts(&calls), [1; 50]);
}

/// Calls `f` for every index below `len`.
fn each(pool: &Pool, len: usize, f: impl Fn(usize) + Sync) {
    pool.split(len, 1, |range| range.for_each(&f));
}

proptest! {
    #[test]
    fn split_covers_every_index_once(
        threads in 1usize..7,
        len in 0usize..600,
        align in prop::sample::select(vec![1usize, 2, 3, 16, 32, 64, 256, 1000]),
    ) {
        let visits = counters(len);
        let ranges = Mutex::new(Vec::new());
        Pool::new(threads).split(len, align, |range| {
            range.clone().for_each(|i| { visits[i].fetch_add(1, Ordering::Relaxed); });
            ranges.lock().unwrap().push(range);
        });
        prop_assert_eq!(counts(&visits), vec![1; len]);
        let ranges = ranges.into_inner().unwrap();
        let most = if threads == 1 { 1 } else { 4 * threads };
        prop_assert!(ranges.len() <= most);
        for range in &ranges {
            prop_assert!(range.start.is_multiple_of(align) && !range.is_empty());
            prop_assert!(range.end == len || range.end.is_multiple_of(align));
        }
        // No range is larger than the share of a thread, rounded up to whole units.
        let share = len.div_ceil(align).div_ceil(threads) * align;
        prop_assert!(ranges.iter().all(|range| range.len() <= share));
    }

    #[test]
    fn rows_with_visits_each_once_and_keeps_scratch(
        threads in 1usize..5,
        len in 1usize..9,
        rows in 0usize..40,
    ) {
        let pool = Pool::new(threads);
        let mut data = vec![0usize; rows * len];
        let mut seen: Vec<usize> = Vec::new();
        for _ in 0..2 {
            pool.rows_with(&mut data, len, &mut seen, |index, seen, row| {
                assert_eq!(row.len(), len);
                *seen += 1;
                row.iter_mut().for_each(|x| *x += index + 1);
            });
        }
        for (index, row) in data.chunks_exact(len).enumerate() {
            prop_assert!(row.iter().all(|&x| x == 2 * (index + 1)), "row {}: {:?}", index, row);
        }
        prop_assert_eq!((seen.len(), seen.iter().sum::<usize>()), (threads, 2 * rows));
    }
}

#[test]
fn every_thread_takes_part() {
    for threads in 0..5 {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        let ids = Mutex::new(HashSet::new());
        // Parts long enough for every thread to come.
        while ids.lock().unwrap().len() < pool.threads() {
            each(&pool, 64, |_| {
                ids.lock().unwrap().insert(thread::current().id());
                thread::sleep(Duration::from_micros(200));
            });
        }
        assert!(ids.into_inner().unwrap().contains(&thread::current().id()), "so does the caller");
    }
}

/// A worker that does not come costs nothing but its help.
#[test]
fn the_caller_goes_on_without_workers() {
    let pool = Pool::new(3);
    let caller = thread::current().id();
    let (own, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Two workers claim one part each at most, and wait there for the caller to do all the others.
    each(&pool, 12, |_| {
        if thread::current().id() == caller {
            thread::sleep(Duration::from_millis(1));
            own.fetch_add(1, Ordering::Relaxed);
        }
        while thread::current().id() != caller && own.load(Ordering::Relaxed) < 10 {
            thread::sleep(Duration::from_micros(100));
        }
        calls.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(calls.into_inner(), 12);
}

#[test]
fn panics_reach_the_caller_and_the_pool_survives() {
    for threads in 1..4 {
        let pool = Pool::new(threads);
        for culprit in [0, 3, 11] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                each(&pool, 12, |index| {
                    thread::sleep(Duration::from_micros(50));
                    assert!(index != culprit, "part {index}");
                });
            }));
            assert!(result.is_err(), "the panic is passed on");
            assert_works(&pool);
        }
    }
}

#[test]
fn many_short_runs() {
    let pool = Pool::new(3);
    let calls = counters(3);
    for run in 0..3_000 {
        each(&pool, 3, |index| {
            calls[index].fetch_add(run, Ordering::Relaxed);
        });
    }
    assert_eq!(counts(&calls), [3_000 * 2_999 / 2; 3]);
}

/// Workers that have gone to sleep wake up.
#[test]
fn runs_after_a_rest() {
    let pool = Pool::new(3);
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(3));
        assert_works(&pool);
    }
}

#[test]
fn several_callers_share_a_pool() {
    let pool = Pool::new(2);
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let own = counters(100);
                    pool.split(100, 8, |range| {
                        range.for_each(|i| {
                            own[i].fetch_add(1, Ordering::Relaxed);
                        });
                    });
                    assert_eq!(counts(&own), [1; 100]);
                    total.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 900);
}

#[test]
fn a_pool_runs_inside_another() {
    let (outer, inner) = (Pool::new(2), Pool::new(2));
    let calls = AtomicUsize::new(0);
    each(&outer, 2, |_| {
        for _ in 0..50 {
            each(&inner, 2, |_| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(calls.into_inner(), 200);
}

#[test]
fn rows_that_are_not_whole_are_refused() {
    let mut data = [0; 8];
    let result = catch_unwind(AssertUnwindSafe(|| {
        Pool::new(2).rows_with(&mut data, 3, &mut Vec::<()>::new(), |_, (), row| row.fill(1));
    }));
    assert!(result.is_err());
    assert_eq!(data, [0; 8]);
}
