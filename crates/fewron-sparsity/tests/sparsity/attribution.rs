//! Scores against PyTorch, and what must hold between them.

use crate::goldens::{Goldens, assert_close};
use crate::models::{MODELS, Traced, goldens, traced};
use fewron_kernels::Isa;
use fewron_sparsity::{Attribution, Metric, Scope, Scores};

/// Steps of integrated gradients in the goldens.
const IG_STEPS: usize = 20;

/// Every metric with a golden.
fn metrics() -> Vec<Metric> {
    Metric::ALL.into_iter().filter(|&metric| metric != Metric::Random).collect()
}

fn scores(
    traced: &mut Traced,
    metrics: &[Metric],
    correction: f32,
    ig_steps: usize,
) -> Vec<Scores> {
    let model = traced.session.model().clone();
    let attribution = Attribution::new(&model, metrics, Scope::Both, correction, ig_steps, 1);
    let Traced { session, trace, logits, labels } = traced;
    attribution.scores(session, trace, logits, labels, 0)
}

/// Compares the scores of the last token.
#[track_caller]
fn assert_golden(name: &str, goldens: &Goldens, metric: Metric, scores: &Scores, tokens: usize) {
    for (kind, layers) in [("mlp", &scores.neurons), ("heads", &scores.heads)] {
        for (layer, scores) in layers.iter().enumerate() {
            let what = format!("score.{metric}.{kind}.{layer}");
            let last = &scores[scores.len() / tokens * (tokens - 1)..];
            assert_close(&format!("{name} {what}"), last, &goldens.f32(&what), 1e-3);
        }
    }
}

#[test]
fn every_metric_equals_pytorch() {
    for name in MODELS {
        let goldens = goldens(name);
        for isa in Isa::available() {
            let mut traced = traced(name, isa, 1);
            let layers = traced.session.model().config().layers.len();
            for (metric, scores) in
                metrics().into_iter().zip(scores(&mut traced, &metrics(), 0.5, IG_STEPS))
            {
                assert_eq!((scores.neurons.len(), scores.heads.len()), (layers, layers));
                assert_golden(name, &goldens, metric, &scores, 1);
            }
        }
    }
}

/// Tokens that are scored together get the scores they get alone.
#[test]
fn every_metric_equals_pytorch_in_a_batch() {
    for name in MODELS {
        let tokens = 5;
        let mut batch = traced(name, Isa::detect(), tokens);
        let all = scores(&mut batch, &metrics(), 0.5, IG_STEPS);
        for (metric, scores) in metrics().into_iter().zip(all) {
            assert_golden(name, &goldens(name), metric, &scores, tokens);
        }
    }
}

#[test]
fn the_scope_says_what_is_scored() {
    let Traced { mut session, trace, logits, labels } = traced("tiny-llama", Isa::detect(), 1);
    let model = session.model().clone();
    let (layers, config) = (model.config().layers.len(), model.config());
    for scope in [Scope::Mlp, Scope::Heads, Scope::Both] {
        let attribution = Attribution::new(&model, &Metric::ALL, scope, 0.5, 2, 1);
        for scores in attribution.scores(&mut session, &trace, &logits, &labels, 0) {
            let lengths = |layers: &[Vec<f32>]| layers.iter().map(Vec::len).collect::<Vec<_>>();
            let expected =
                |wanted: bool, units: usize| vec![units; if wanted { layers } else { 0 }];
            let neurons = expected(scope != Scope::Heads, config.intermediate);
            assert_eq!(lengths(&scores.neurons), neurons, "{scope}");
            assert_eq!(lengths(&scores.heads), expected(scope != Scope::Mlp, config.heads));
        }
    }
}

/// `cor-gxo` is `gxo` and a share of the bound ‖o‖·‖g‖.
#[test]
fn the_correction_scales() {
    for name in MODELS {
        let goldens = goldens(name);
        let mut traced = traced(name, Isa::detect(), 1);
        let pair = [Metric::CorGxo, Metric::Gxo];
        let none = scores(&mut traced, &pair, 0.0, IG_STEPS);
        assert_eq!(none[0].neurons, none[1].neurons, "{name}");
        assert_eq!(none[0].heads, none[1].heads, "{name}");
        let tenth = scores(&mut traced, &pair[..1], 0.1, IG_STEPS);
        for (kind, layers) in [("mlp", &tenth[0].neurons), ("heads", &tenth[0].heads)] {
            for (layer, got) in layers.iter().enumerate() {
                let golden = |metric| goldens.f32(&format!("score.{metric}.{kind}.{layer}"));
                let (half, gxo) = (golden("cor-gxo"), golden("gxo"));
                let expected: Vec<f32> =
                    half.iter().zip(&gxo).map(|(half, gxo)| gxo + 0.2 * (half - gxo)).collect();
                assert_close(&format!("{name} {kind} {layer}"), got, &expected, 1e-3);
            }
        }
    }
}

/// Distance of −Σ ig of every layer and kind from the loss that it explains, as a share of it.
fn incompleteness(name: &str, ig_steps: usize) -> Vec<f32> {
    let goldens = goldens(name);
    let ig = scores(&mut traced(name, Isa::detect(), 1), &[Metric::Ig], 0.5, ig_steps).remove(0);
    let kinds = [("mlp", ig.neurons), ("heads", ig.heads)].into_iter();
    let layers = kinds.flat_map(|(kind, layers)| {
        layers.into_iter().enumerate().map(move |(layer, scores)| (kind, layer, scores))
    });
    layers
        .map(|(kind, layer, scores)| {
            let delta = goldens.f32(&format!("ig.{kind}.{layer}.delta"))[0];
            ((-scores.iter().sum::<f32>() - delta) / delta).abs()
        })
        .collect()
}

/// Integrated gradients add up to the loss of the layer (Sundararajan et al., proposition 1), with an
/// error that falls as 1 / steps. Not so in Gemma 3, whose norms after the projections cancel the
/// scale of the path.
#[test]
fn integrated_gradients_become_complete() {
    for name in ["tiny-llama", "tiny-llama-odd"] {
        let (coarse, fine) = (incompleteness(name, 20), incompleteness(name, 1000));
        for (index, (coarse, fine)) in coarse.iter().zip(&fine).enumerate() {
            // The smallest of these losses is 0.027.
            assert!(*fine < 0.02, "{name} {index}: {fine}");
            assert!(fine * 30.0 < *coarse, "{name} {index}: {coarse} to {fine}");
        }
    }
}

#[test]
fn random_scores_follow_the_seed_and_the_sample() {
    let Traced { mut session, trace, logits, labels } = traced("tiny-llama-odd", Isa::detect(), 3);
    let model = session.model().clone();
    let mut draw = |seed: u64, sample: u64| {
        let random = Attribution::new(&model, &[Metric::Random], Scope::Both, 0.5, 1, seed);
        let scores = random.scores(&mut session, &trace, &logits, &labels, sample).remove(0);
        [scores.neurons.concat(), scores.heads.concat()].concat()
    };
    let scores = draw(3, 4);
    assert_eq!(scores, draw(3, 4));
    assert_ne!(scores, draw(3, 5));
    assert_ne!(scores, draw(4, 4));
    assert!(scores.iter().all(|score| (0.0..1.0).contains(score)));
    let mut distinct = scores.clone();
    distinct.sort_by(f32::total_cmp);
    distinct.dedup();
    assert!(distinct.len() > scores.len() * 99 / 100, "layers and tokens share no scores");
}
