//! The numbers of records that lists and histories show.

use fewron_eval::record::{Interval, SweepRun};
use fewron_eval::tasks::EvalRun;
use fewron_runs::Point;
use fewron_sparsity::plan::record::PlanRecord;

use crate::bench::record::BenchRun;
use crate::bench::table::phase;

/// Every metric of every variant on every task.
pub(crate) fn of_eval(run: &EvalRun) -> Vec<Point> {
    let mut points = Vec::new();
    for task in &run.tasks {
        for result in &task.results {
            points.extend(result.metrics.iter().map(|metric| Point {
                task: task.task.clone(),
                variant: result.variant.clone(),
                metric: metric.metric.clone(),
                value: metric.value,
                low: Some(metric.low),
                high: Some(metric.high),
            }));
        }
    }
    points
}

/// Agreement, KL and BLEU of every point of the sweep.
pub(crate) fn of_sweep(run: &SweepRun) -> Vec<Point> {
    let of_point = |point: &fewron_eval::record::Point| {
        let variant = format!("{}@{}", point.name(), point.ratio);
        let metrics =
            [("agreement", point.agreement), ("kl", point.kl), ("bleu_dense", point.bleu)];
        metrics.map(|(metric, Interval { mean, low, high })| Point {
            task: format!("{} ({}, {})", run.data.name, run.protocol, point.scope),
            variant: variant.clone(),
            metric: metric.to_owned(),
            value: mean,
            low: Some(low),
            high: Some(high),
        })
    };
    run.points.iter().flat_map(of_point).collect()
}

/// Speeds with the range of their repetitions, and what a token costs.
pub(crate) fn of_bench(run: &BenchRun) -> Vec<Point> {
    let mut points = Vec::new();
    for result in &run.results {
        let point = |task: &str, metric: &str, value: f64| Point {
            task: task.to_owned(),
            variant: result.name.clone(),
            metric: metric.to_owned(),
            value,
            ..Point::default()
        };
        for speed in result.prefill.iter().chain(&result.decode) {
            let task = phase(speed);
            let (low, high) = (Some(speed.summary.min), Some(speed.summary.max));
            points.push(Point { low, high, ..point(&task, "tok_s", speed.summary.median) });
            let first = speed.time_to_first_token_s;
            points.extend(first.map(|s| point(&task, "time_to_first_token_s", s)));
            let joules = speed.joules_per_token.map(|j| point(&task, "joules_per_token", j));
            points.extend(joules);
        }
        points.push(point("", "bytes_per_token", result.bytes_per_token as f64));
        points.push(point("", "flops_per_token", result.flops_per_token as f64));
        let memory = result.peak_rss_bytes.map(|bytes| point("", "peak_rss_bytes", bytes as f64));
        points.extend(memory);
    }
    points
}

/// What the plan keeps of the model, on text that it was not calibrated on.
pub(crate) fn of_plan(record: &PlanRecord) -> Vec<Point> {
    let Some(held_out) = &record.held_out else { return Vec::new() };
    let point = |metric: &str, value: f64| Point {
        task: record.calibration.data.clone(),
        variant: format!("{}@{}", record.policy, record.sparsity),
        metric: metric.to_owned(),
        value,
        ..Point::default()
    };
    vec![
        point("perplexity", held_out.perplexity),
        point("agreement", held_out.agreement),
        point("kl", held_out.kl),
        point("bytes_per_token", held_out.bytes_per_token),
    ]
}
