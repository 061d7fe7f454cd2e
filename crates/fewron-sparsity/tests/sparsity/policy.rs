//! Run-time policies on the tiny models: what they keep, and that skipping changes nothing but the
//! neurons that are off.

use crate::goldens::assert_close;
use crate::models::{MODELS, goldens, session};
use fewron_kernels::{Activation, Isa, activate};
use fewron_model::{Choice, Logits, MaskSource, Probe, Session, Site};
use fewron_sparsity::plan::PolicyError;
use fewron_sparsity::selection::kept_count;
use fewron_sparsity::{
    Calibration, CalibrationProbe, Kept, Plan, Policy, PolicyKind, Recorder, Replay, Scope,
    Selection,
};

/// Every combination of policy, scope and selection that a running model can have.
const POLICIES: [(PolicyKind, Scope, Selection); 6] = [
    (PolicyKind::Magnitude, Scope::Mlp, Selection::Layer),
    (PolicyKind::Magnitude, Scope::Heads, Selection::Layer),
    (PolicyKind::Magnitude, Scope::Both, Selection::Layer),
    (PolicyKind::Magnitude, Scope::Mlp, Selection::Threshold),
    (PolicyKind::Gate, Scope::Mlp, Selection::Layer),
    (PolicyKind::Gate, Scope::Mlp, Selection::Threshold),
];

/// A text that is not the goldens'.
fn calibration_text(session: &Session) -> Vec<u32> {
    let vocab = session.model().config().vocab as u32;
    (0..40).map(|i| (i * 37 + 11) % vocab).collect()
}

fn calibrate(session: &mut Session) -> Calibration {
    let mut probe = CalibrationProbe::new(session.model());
    let text = calibration_text(session);
    session.truncate(0);
    session.forward(&text, None, Some(&mut probe), Logits::None).unwrap();
    session.truncate(0);
    probe.finish(session.model())
}

fn plan(
    session: &Session,
    kind: PolicyKind,
    scope: Scope,
    selection: Selection,
    ratio: f32,
    calibration: &Calibration,
) -> Plan {
    let config = session.model().config();
    Plan::uniform(config, kind, scope, selection, ratio, calibration).unwrap()
}

fn dense(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    session.truncate(0);
    session.forward(tokens, None, None, Logits::All).unwrap().to_vec()
}

fn batch(session: &mut Session, tokens: &[u32], masks: &mut dyn MaskSource) -> Vec<f32> {
    session.truncate(0);
    session.forward(tokens, Some(masks), None, Logits::All).unwrap().to_vec()
}

/// Token by token; `masks` makes the source of each step.
fn decode<'a>(
    session: &mut Session,
    tokens: &[u32],
    mut step: impl FnMut(usize, &mut dyn FnMut(&mut dyn MaskSource)) + 'a,
) -> Vec<f32> {
    session.truncate(0);
    let mut logits = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        step(index, &mut |masks| {
            logits.extend_from_slice(
                session.forward(&[*token], Some(masks), None, Logits::Last).unwrap(),
            );
        });
    }
    logits
}

#[test]
fn ratio_zero_is_dense_to_the_last_bit() {
    for name in MODELS {
        let tokens = goldens(name).tokens();
        let mut session = session(name, Isa::detect());
        let calibration = calibrate(&mut session);
        let expected = dense(&mut session, &tokens);
        for (kind, scope, selection) in POLICIES {
            let what = format!("{name} {kind} {scope} {selection}");
            let plan = plan(&session, kind, scope, selection, 0.0, &calibration);
            let mut policy = Policy::new(&plan);
            let all = batch(&mut session, &tokens, &mut policy);
            assert!(all == expected, "{what}: batch");
            let steps = decode(&mut session, &tokens, |_, run| run(&mut policy));
            assert!(steps == expected, "{what}: decode");
        }
    }
}

/// Decoding with a policy, replaying its masks and zeroing outputs in a dense batch are all the same.
#[test]
fn replayed_masks_give_the_same_bits() {
    for name in MODELS {
        let tokens = goldens(name).tokens();
        for isa in Isa::available() {
            let mut session = session(name, isa);
            let config = session.model().config().clone();
            let layers = config.layers.len();
            let calibration = calibrate(&mut session);
            let full = dense(&mut session, &tokens);
            for (kind, scope, selection) in POLICIES {
                let what = format!("{name} {} {kind} {scope} {selection}", isa.name());
                let plan = plan(&session, kind, scope, selection, 0.6, &calibration);
                let mut policy = Policy::new(&plan);
                let mut kept: Vec<Kept> = Vec::new();
                let expected = decode(&mut session, &tokens, |_, run| {
                    let mut recorder = Recorder::new(&mut policy, &config);
                    run(&mut recorder);
                    kept.append(&mut recorder.kept);
                });
                assert!(expected != full, "{what}: the masks change something");
                assert_eq!(kept.len(), tokens.len(), "{what}");
                for kept in &kept {
                    let count = |wanted: bool| if wanted { layers } else { 0 };
                    assert_eq!(kept.neurons.len(), count(scope.has_neurons()), "{what}");
                    assert_eq!(kept.heads.len(), count(scope.has_heads()), "{what}");
                }
                let steps = decode(&mut session, &tokens, |step, run| {
                    run(&mut Replay(kept[step..=step].to_vec()));
                });
                assert!(steps == expected, "{what}: replay by token");
                let zeroed = batch(&mut session, &tokens, &mut Replay(kept.clone()));
                assert!(zeroed == expected, "{what}: replay as a batch");
                let mut recorder = Recorder::new(&mut policy, &config);
                let together = batch(&mut session, &tokens, &mut recorder);
                assert!(together == expected, "{what}: policy as a batch");
                assert_eq!(recorder.kept, kept, "{what}: masks of a batch");
            }
        }
    }
}

/// Passes a policy's decisions on and compares each with `expected(layer, values)`.
struct Checked<'a, 'b> {
    policy: &'a mut Policy<&'b Plan>,
    neurons: &'a dyn Fn(usize, &[f32]) -> Vec<u32>,
    heads: &'a dyn Fn(&[f32], usize) -> Vec<u32>,
    checks: usize,
}

impl MaskSource for Checked<'_, '_> {
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        self.policy.neurons(layer, token, kept)
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.policy.select_neurons(layer, token, values, kept);
        assert_eq!(*kept, (self.neurons)(layer, values), "neurons of layer {layer}");
        self.checks += 1;
    }

    fn heads(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        self.policy.heads(layer, token, kept)
    }

    fn select_heads(
        &mut self,
        layer: usize,
        token: usize,
        outputs: &[f32],
        heads: usize,
        kept: &mut Vec<u32>,
    ) {
        self.policy.select_heads(layer, token, outputs, heads, kept);
        assert_eq!(*kept, (self.heads)(outputs, heads), "heads of layer {layer}");
        self.checks += 1;
    }
}

/// The `count` largest by a full sort, ascending.
fn largest(scores: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    order.truncate(count);
    order.sort_unstable();
    order
}

fn head_norms(outputs: &[f32], heads: usize) -> Vec<f32> {
    let heads = outputs.chunks_exact(outputs.len() / heads);
    heads.map(|head| head.iter().map(|x| x * x).sum::<f32>().sqrt()).collect()
}

#[test]
fn policies_keep_the_largest_scores() {
    let ratio = 0.7;
    for name in MODELS {
        let tokens = goldens(name).tokens();
        let mut session = session(name, Isa::detect());
        let calibration = calibrate(&mut session);
        let top = |scores: &[f32]| largest(scores, kept_count(scores.len(), ratio));
        let magnitude = |_: usize, o: &[f32]| top(&o.iter().map(|o| o.abs()).collect::<Vec<_>>());
        let gate = |layer: usize, gate: &[f32]| {
            let scores = gate.iter().zip(&calibration.gate_weights[layer]);
            top(&scores.map(|(gate, c)| gate.abs() * c).collect::<Vec<_>>())
        };
        let heads = |outputs: &[f32], heads: usize| top(&head_norms(outputs, heads));
        type Neurons<'a> = &'a dyn Fn(usize, &[f32]) -> Vec<u32>;
        let cases: [(PolicyKind, Scope, Neurons, usize); 2] = [
            (PolicyKind::Magnitude, Scope::Both, &magnitude, 2),
            (PolicyKind::Gate, Scope::Mlp, &gate, 1),
        ];
        for (kind, scope, neurons, kinds) in cases {
            let plan = plan(&session, kind, scope, Selection::Layer, ratio, &calibration);
            let mut policy = Policy::new(&plan);
            let mut checked = Checked { policy: &mut policy, neurons, heads: &heads, checks: 0 };
            batch(&mut session, &tokens, &mut checked);
            decode(&mut session, &tokens, |_, run| run(&mut checked));
            let layers = session.model().config().layers.len();
            assert_eq!(checked.checks, 2 * kinds * layers * tokens.len());
        }
    }
}

/// Over the tokens a threshold was calibrated on, it keeps the share it was made for.
#[test]
fn thresholds_keep_their_share_of_the_calibration_text() {
    let mut session = session("tiny-llama", Isa::detect());
    let neurons = session.model().config().intermediate;
    let calibration = calibrate(&mut session);
    for ratio in [0.0, 0.25, 0.5, 0.9, 1.0] {
        let (mlp, threshold) = (Scope::Mlp, Selection::Threshold);
        let plan = plan(&session, PolicyKind::Magnitude, mlp, threshold, ratio, &calibration);
        let mut policy = Policy::new(&plan);
        for (layer, magnitudes) in calibration.magnitudes.iter().enumerate() {
            let mut kept = Vec::new();
            for values in magnitudes.chunks_exact(neurons) {
                policy.select_neurons(layer, 0, values, &mut kept);
            }
            assert_eq!(kept.len(), kept_count(magnitudes.len(), ratio), "layer {layer} {ratio}");
        }
    }
}

#[test]
fn combinations_that_cannot_run_are_refused() {
    let calibration = Calibration::default();
    let session = session("tiny-llama", Isa::detect());
    let config = session.model().config();
    let new = |kind, scope, selection| {
        Plan::uniform(config, kind, scope, selection, 0.5, &calibration).err()
    };
    let (gate, magnitude) = (PolicyKind::Gate, PolicyKind::Magnitude);
    for scope in [Scope::Heads, Scope::Both] {
        assert!(matches!(
            new(gate, scope, Selection::Layer),
            Some(PolicyError::Heads(PolicyKind::Gate))
        ));
        let error = new(magnitude, scope, Selection::Threshold);
        assert!(matches!(error, Some(PolicyError::Threshold)));
    }
    assert!(matches!(new(magnitude, Scope::Mlp, Selection::Global), Some(PolicyError::Global)));
}

/// Gate and up projections as the forward pass shows them.
#[derive(Default)]
struct Seen {
    gate: Vec<Vec<f32>>,
    up: Vec<Vec<f32>>,
    post: Vec<Vec<f32>>,
}

impl Probe for Seen {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Gate | Site::Up | Site::NeuronOutput)
    }

    fn observe(&mut self, site: Site, layer: usize, values: &[f32]) {
        let layers = match site {
            Site::Gate => &mut self.gate,
            Site::Up => &mut self.up,
            _ => &mut self.post,
        };
        assert_eq!(layers.len(), layer);
        layers.push(values.to_vec());
    }
}

#[test]
fn calibration_equals_its_definition() {
    for name in MODELS {
        let mut session = session(name, Isa::detect());
        let calibration = calibrate(&mut session);
        let text = calibration_text(&session);
        let mut seen = Seen::default();
        session.forward(&text, None, Some(&mut seen), Logits::None).unwrap();
        let model = session.model();
        let config = model.config();
        let n = config.intermediate;
        for layer in 0..config.layers.len() {
            let mut row = vec![0.0; config.hidden];
            let weight = |neuron: usize| {
                model.down_proj(layer).weights(model.isa(), neuron, &mut row);
                let norm = row.iter().map(|w| w * w).sum::<f32>().sqrt();
                let up = seen.up[layer].iter().skip(neuron).step_by(n);
                up.map(|up| up.abs()).sum::<f32>() / text.len() as f32 * norm
            };
            let expected: Vec<f32> = (0..n).map(weight).collect();
            assert_close(name, &calibration.gate_weights[layer], &expected, 1e-5);

            let gates = seen.gate[layer].chunks_exact(n).step_by(16);
            let scores = gates.flat_map(|gate| gate_scores(config.activation, gate, &expected));
            assert_close(name, &calibration.gate_scores[layer], &sorted(scores), 1e-5);

            let outputs = seen.post[layer].chunks_exact(n).step_by(16).flatten();
            assert_eq!(calibration.magnitudes[layer], sorted(outputs.map(|o| o.abs())));
        }
    }
}

fn gate_scores(activation: Activation, gate: &[f32], weights: &[f32]) -> Vec<f32> {
    let mut act = vec![0.0; gate.len()];
    activate(Isa::SCALAR, activation, gate, &mut act);
    act.iter().zip(weights).map(|(act, c)| act.abs() * c).collect()
}

fn sorted(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.collect();
    values.sort_by(f32::total_cmp);
    values
}
