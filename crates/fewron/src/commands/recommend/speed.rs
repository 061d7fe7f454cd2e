//! How fast the dense model decodes here: out of a bench, or at most, by the memory bandwidth.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::bench::bandwidth;
use crate::cli::RecommendArgs;
use crate::loaded;
use crate::runs::read_record;

/// What tokens a second rest on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Speed {
    /// `bench`, `bandwidth` (as given) or `measured_bandwidth`.
    pub(super) from: &'static str,
    /// Of the dense model; with a bandwidth alone the most that it can be.
    pub(super) dense_tok_s: f64,
    pub(super) bandwidth_bytes_s: f64,
}

/// The part of a bench that is needed.
#[derive(Deserialize)]
struct Bench {
    bandwidth_bytes_s: f64,
    results: Vec<BenchResult>,
}

#[derive(Deserialize)]
struct BenchResult {
    name: String,
    decode_tok_s: Option<f64>,
}

impl Speed {
    /// Of a dense model that reads `bytes_per_token`.
    pub(super) fn of(
        args: &RecommendArgs,
        bytes_per_token: f64,
        threads: Option<NonZeroUsize>,
    ) -> Result<Self> {
        if let Some(path) = &args.bench {
            return Self::of_bench(path);
        }
        let (from, bandwidth_bytes_s) = match args.bandwidth {
            Some(gigabytes_s) => ("bandwidth", 1e9 * gigabytes_s),
            None => ("measured_bandwidth", bandwidth::of_memory(&loaded::pool(threads)).bytes_s),
        };
        Ok(Self { from, dense_tok_s: bandwidth_bytes_s / bytes_per_token, bandwidth_bytes_s })
    }

    fn of_bench(path: &Path) -> Result<Self> {
        let json = read_record(path)?;
        let no_bench =
            || format!("{} is no record of `fewron bench`; its --json writes one", path.display());
        let bench: Bench = serde_json::from_str(&json).with_context(no_bench)?;
        let dense = bench.results.iter().find(|result| result.name == "dense");
        let dense_tok_s = dense.and_then(|dense| dense.decode_tok_s).with_context(no_bench)?;
        ensure!(dense_tok_s > 0.0, no_bench());
        let bandwidth_bytes_s = bench.bandwidth_bytes_s;
        Ok(Self { from: "bench", dense_tok_s, bandwidth_bytes_s })
    }
}
