//! What is kept of a server's session.

use std::time::SystemTime;

use fewron_eval::record::ModelRecord;
use fewron_runs::Point;
use fewron_serve::engine::{Engine, Interval, Status, VariantStatus};
use serde::Serialize;

use crate::cli::KvType;
use crate::loaded::Loaded;
use crate::study::{command_line, cpu_name};

/// A session, at its end.
#[derive(Serialize)]
pub(crate) struct ServeRun {
    version: &'static str,
    command: String,
    finished_at: String,
    cpu: String,
    isa: String,
    model: ModelRecord,
    kv_type: &'static str,
    /// What was served, how fast and how well; without a word of it.
    status: Status,
}

impl ServeRun {
    /// What an engine has done.
    pub(super) fn new(
        engine: &Engine,
        loaded: &Loaded,
        model: ModelRecord,
        kv_type: KvType,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            command: command_line(),
            finished_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cpu: cpu_name(),
            isa: loaded.model.isa().name().to_owned(),
            model,
            kv_type: kv_type.as_str(),
            status: engine.status(),
        }
    }
}

/// Requests, speed, waiting times and quality of each variant that was asked for.
pub(super) fn points(run: &ServeRun) -> Vec<Point> {
    run.status.variants.iter().filter(|variant| variant.requests > 0).flat_map(of_variant).collect()
}

fn of_variant(variant: &VariantStatus) -> Vec<Point> {
    let point = |metric: &str, value: f64| Point {
        variant: variant.name.clone(),
        metric: metric.to_owned(),
        value,
        ..Point::default()
    };
    let mut points = vec![
        point("requests", variant.requests as f64),
        point("answer_tokens", variant.answer_tokens as f64),
    ];
    if variant.stream_tok_s > 0.0 {
        points.push(point("tok_s", variant.stream_tok_s));
    }
    let (first, inter) = (variant.latency.first_token_ms, variant.latency.inter_token_ms);
    if first.count > 0 {
        points.push(point("time_to_first_token_s", first.p50 / 1e3));
        points.push(point("time_to_first_token_p99_s", first.p99 / 1e3));
    }
    if inter.count > 0 {
        points.push(point("inter_token_s", inter.p50 / 1e3));
        points.push(point("inter_token_p99_s", inter.p99 / 1e3));
    }
    if let Some(quality) = variant.quality.as_ref().filter(|quality| quality.tokens > 0) {
        for (metric, found) in [("agreement", quality.agreement), ("kl", quality.kl)] {
            let Interval { mean, low, high } = found;
            points.push(Point { low: Some(low), high: Some(high), ..point(metric, mean) });
        }
    }
    points
}
