//! From finished questions to the record of a sweep.

use super::checkpoint::{Checkpoint, Sample, pairs};
use super::{Masks, Sweep, SweepError};
use crate::record::{
    Activity, Actual, Analysis, DataRecord, Interval, Overlap, Point, Settings, SweepRun,
};
use crate::stats::{DEFAULT_RESAMPLES, bootstrap_mean};

pub(super) fn collect(
    sweep: &Sweep,
    state: &Checkpoint,
    settings: Settings,
) -> Result<SweepRun, SweepError> {
    let samples: Vec<&Sample> = state.samples().collect();
    let steps: Vec<f64> = samples.iter().map(|s| s.steps as f64).collect();
    let total: f64 = steps.iter().sum();
    if samples.is_empty() {
        return Err(SweepError::NothingMasked);
    }
    let points = (0..sweep.config.points())
        .map(|index| point(sweep, state, &samples, &steps, index, total))
        .collect();
    Ok(SweepRun {
        model: sweep.model_record.clone(),
        protocol: sweep.config.masks.protocol().to_owned(),
        data: DataRecord { samples: samples.len(), tokens: total as u64, ..sweep.data.clone() },
        seed: sweep.config.seed,
        settings,
        points,
        analysis: analysis(sweep, state, total),
        examples: sweep.examples(state),
    })
}

fn point(
    sweep: &Sweep,
    state: &Checkpoint,
    samples: &[&Sample],
    steps: &[f64],
    index: usize,
    total: f64,
) -> Point {
    let config = &sweep.config;
    let (name, ratio) = (index / config.ratios.len(), config.ratios[index % config.ratios.len()]);
    let interval = |value: &dyn Fn(&Sample) -> f64, weights: Option<&[f64]>| -> Interval {
        let values: Vec<f64> = samples.iter().map(|s| value(s)).collect();
        bootstrap_mean(&values, weights, DEFAULT_RESAMPLES, config.seed)
    };
    let model = sweep.model.config();
    let shares = |wanted: bool, sums: &[u64], units: usize| -> Vec<f32> {
        let share = |&sum: &u64| (sum as f64 / (total * units as f64)) as f32;
        if wanted { sums.iter().map(share).collect() } else { Vec::new() }
    };
    let kept_mlp =
        shares(config.scope.has_neurons(), &state.sums().neurons[index], model.intermediate);
    let kept_heads = shares(config.scope.has_heads(), &state.sums().heads[index], model.heads);
    let own_name = config.masks.names()[name].to_owned();
    let (metric, policy) = match config.masks {
        Masks::Oracle(_) => (Some(own_name), None),
        Masks::Runtime(_) => (None, Some(own_name)),
    };
    Point {
        metric,
        policy,
        scope: config.scope.name().to_owned(),
        ratio,
        actual: actual(sweep, name, &kept_mlp, &kept_heads),
        agreement: interval(&|s| f64::from(s.points[index].agree) / s.steps as f64, Some(steps)),
        kl: interval(&|s| s.points[index].kl / s.steps as f64, Some(steps)),
        bleu: interval(&|s| s.points[index].bleu, None),
        kept_mlp,
        kept_heads,
    }
}

/// Share of units off, and of the layers' weight bytes that need not be read for them.
fn actual(sweep: &Sweep, name: usize, kept_mlp: &[f32], kept_heads: &[f32]) -> Actual {
    let off = |kept: &[f32]| match kept.len() {
        0 => 0.0,
        layers => 1.0 - kept.iter().sum::<f32>() / layers as f32,
    };
    let (mlp, heads) = (off(kept_mlp), off(kept_heads));
    let (mut skipped, mut all) = (0.0, 0.0);
    for layer in 0..sweep.model.config().layers.len() {
        let bytes = sweep.model.layer_bytes(layer);
        let share_off = |kept: &[f32]| kept.get(layer).map_or(0.0, |kept| 1.0 - f64::from(*kept));
        let (neurons_off, heads_off) = (share_off(kept_mlp), share_off(kept_heads));
        let neurons = match sweep.plans.get(name) {
            None => bytes.mlp() as f64 * neurons_off,
            Some(plans) => plans[0].policy.spared(&bytes, 1.0 - neurons_off),
        };
        // Where heads are chosen by their outputs nothing is spared.
        let by_output = matches!(sweep.config.masks, Masks::Runtime(_));
        let head_bytes = if by_output { 0 } else { bytes.query + bytes.output };
        skipped += neurons + heads_off * head_bytes as f64;
        all += bytes.total() as f64;
    }
    Actual { mlp, heads, paper: heads / 3.0 + mlp * 2.0 / 3.0, bytes: (skipped / all) as f32 }
}

fn analysis(sweep: &Sweep, state: &Checkpoint, total: f64) -> Analysis {
    let config = sweep.model.config();
    let names = sweep.config.masks.names();
    let (layers, neurons, heads) = (config.layers.len(), config.intermediate, config.heads);
    let frequency = |&count: &u32| (f64::from(count) / total * 255.0).round() as u8;
    let activity = names.iter().enumerate().map(|(n, name)| Activity {
        name: (*name).to_owned(),
        mlp: state
            .activity
            .get(n * layers * neurons..(n + 1) * layers * neurons)
            .map(|counts| {
                counts.chunks_exact(neurons).map(|l| l.iter().map(frequency).collect()).collect()
            })
            .unwrap_or_default(),
        head_importance: state
            .sums()
            .head_importance
            .get(n)
            .map(|sums| {
                sums.chunks_exact(heads)
                    .map(|l| l.iter().map(|s| (s / total) as f32).collect())
                    .collect()
            })
            .unwrap_or_default(),
    });
    let overlap =
        pairs(names.len()).zip(&state.sums().overlap).map(|((a, b), &(sum, count))| Overlap {
            a: names[a].to_owned(),
            b: names[b].to_owned(),
            jaccard: if count == 0 { 0.0 } else { (sum / count as f64) as f32 },
        });
    Analysis {
        focus_ratio: sweep.config.ratios[sweep.config.focus()],
        layers,
        neurons,
        heads,
        activity: activity.collect(),
        overlap: overlap.collect(),
    }
}
