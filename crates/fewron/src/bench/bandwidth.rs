//! How fast this machine reads memory: the floor under the time of a token.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use fewron_model::Pool;

/// Shortest buffer, if there is memory for it.
const LEAST_BYTES: u64 = 512 << 20;

/// How much longer than the last-level cache the buffer is, so that little of a pass is left in it
/// for the next.
const CACHES: u64 = 2;

/// Passes over the buffer, the best of which counts.
const PASSES: usize = 8;

/// Sums that go on side by side, so that additions do not wait for each other.
const LANES: usize = 16;

/// Elements that a thread fills at a time.
const FILL: usize = 1 << 17;

/// The best of several streaming reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bandwidth {
    pub(crate) bytes_s: f64,
    pub(crate) buffer_bytes: u64,
}

impl Bandwidth {
    /// The better of two measurements.
    pub(crate) fn or(self, other: Self) -> Self {
        if other.bytes_s > self.bytes_s { other } else { self }
    }
}

/// Reads a buffer much larger than the last-level cache, as far as a quarter of the free memory
/// goes, with the threads of the pool.
pub(crate) fn of_memory(pool: &Pool) -> Bandwidth {
    let wanted = LEAST_BYTES.max(CACHES * last_level_cache_bytes().unwrap_or(0));
    let room = available_bytes().map_or(LEAST_BYTES, |bytes| bytes / 4);
    of_buffer(pool, wanted.min(room))
}

/// Reads a buffer of `bytes`, which may fit a cache.
pub(crate) fn of_buffer(pool: &Pool, bytes: u64) -> Bandwidth {
    let pieces = (bytes as usize / size_of::<u64>()).div_ceil(FILL).max(1);
    let mut buffer = vec![0_u64; pieces * FILL];
    // Each thread touches first what it will read, which is then near it.
    pool.rows(&mut buffer, FILL, |piece, part| part.fill(piece as u64));
    let buffer_bytes = size_of_val(&buffer[..]) as u64;
    let pass = |_| {
        let start = Instant::now();
        pool.split(buffer.len(), FILL, |range| {
            black_box(sum(&buffer[range]));
        });
        start.elapsed().as_secs_f64()
    };
    let best = (0..PASSES).map(pass).fold(f64::INFINITY, f64::min);
    Bandwidth { bytes_s: buffer_bytes as f64 / best, buffer_bytes }
}

fn sum(words: &[u64]) -> u64 {
    let (chunks, rest) = words.as_chunks::<LANES>();
    let mut sums = [0_u64; LANES];
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().chain(rest).fold(0, |all, word| all.wrapping_add(*word))
}

/// The largest cache of the first processor, where the system tells.
fn last_level_cache_bytes() -> Option<u64> {
    let caches = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let size = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("size")).ok()?;
        text.trim().strip_suffix('K')?.parse::<u64>().ok()
    };
    caches.flatten().filter_map(size).max().map(|kib| kib << 10)
}

/// Memory that can be had without swapping, where the system tells.
fn available_bytes() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_everything() {
        for len in [0, 1, 15, 16, 17, 100] {
            let words: Vec<u64> = (1..=len).collect();
            assert_eq!(sum(&words), len * (len + 1) / 2, "{len}");
        }
        assert_eq!(sum(&[u64::MAX, 2]), 1);
    }

    #[test]
    fn buffers_are_whole_pieces() {
        for threads in [1, 3] {
            let read = of_buffer(&Pool::new(threads), 3 << 20);
            assert_eq!(read.buffer_bytes, 3 << 20);
            assert!(read.bytes_s.is_finite() && read.bytes_s > 0.0);
        }
    }
}
