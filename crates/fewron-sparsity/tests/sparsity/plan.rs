//! Plans: their files, and that a running model obeys them to the last bit.

use crate::models::{MODELS, goldens, session};
use fewron_kernels::{Isa, Memory};
use fewron_model::{InputSite, Logits, LowRank, MaskSource, Pool, Session};
use fewron_sparsity::plan::file::{PlanError, from_bytes, read_frequency, read_record, to_bytes};
use fewron_sparsity::plan::record::{CalibrationRecord, PlanModel, PlanRecord};
use fewron_sparsity::{
    Cut, Heads, InputCut, LayerPlan, Plan, Policy, PolicyKind, Recorder, Replay,
};
use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::sync::Arc;

fn model_of(session: &Session) -> PlanModel {
    let config = session.model().config();
    PlanModel {
        name: "tiny".into(),
        sha256: "ab".repeat(32),
        quantized: None,
        layers: config.layers.len(),
        hidden: config.hidden,
        intermediate: config.intermediate,
        heads: config.heads,
    }
}

fn record(session: &Session, policy: PolicyKind) -> PlanRecord {
    PlanRecord {
        version: "1".into(),
        model: model_of(session),
        policy,
        sparsity: 0.5,
        selection: "threshold".into(),
        weighting: "rms".into(),
        compensation: 4,
        predictor: 0,
        calibration: CalibrationRecord {
            data: "text".into(),
            sha256: "00".into(),
            tokens: 9,
            seed: 0,
        },
        recall: None,
        held_out: None,
        compared: Vec::new(),
        layers: Vec::new(),
        recovery: None,
    }
}

fn noise(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random::<f32>() - 0.5).collect()
}

fn map(session: &Session, outputs: usize, rng: &mut ChaCha8Rng) -> Arc<LowRank> {
    let (isa, hidden) = (session.model().isa(), session.model().config().hidden);
    let (first, second) = (noise(rng, 4 * hidden), noise(rng, 4 * outputs));
    let bias = noise(rng, outputs);
    Arc::new(
        LowRank::new(isa, &Pool::new(1), &mut Memory::default(), hidden, &first, &second, bias)
            .unwrap(),
    )
}

/// A plan that has everything its policy can have; its first layer is dense.
fn plan(session: &Session, policy: PolicyKind) -> Plan {
    let model = session.model();
    let config = model.config();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut layer = |index: usize| {
        let n = config.intermediate;
        let weights = |rng: &mut ChaCha8Rng| -> Arc<[f32]> {
            noise(rng, n).iter().map(|w| w.abs() + 0.1).collect()
        };
        let mut layer = LayerPlan {
            cut: if index == 0 { Cut::Dense } else { Cut::Best(n / 2) },
            weights: weights(&mut rng),
            negative_weights: weights(&mut rng),
            frequency: weights(&mut rng),
            quantiles: Arc::new([0.1, 0.2, 0.7]),
            compensation: Some(map(session, config.hidden, &mut rng)),
            ..LayerPlan::default()
        };
        if policy == PolicyKind::Predict {
            layer.predictor = Some(map(session, n, &mut rng));
        }
        if policy == PolicyKind::Gate && index > 1 {
            layer.cut = Cut::Above(1e-3);
        }
        if index > 0 {
            layer.heads = Heads::Listed((0..config.heads as u32).skip(1).collect());
        }
        let sites: &[InputSite] = match policy {
            PolicyKind::Gate => &[InputSite::Down],
            PolicyKind::Input => &InputSite::ALL,
            _ => &[],
        };
        for &site in sites {
            let norms = model.channel_norms(index, site).into();
            *layer.input_mut(site) = InputCut { least: 1e-3, norms };
        }
        layer
    };
    let layers = (0..config.layers.len()).map(&mut layer).collect();
    Plan { policy, neurons: config.intermediate, layers }
}

const POLICIES: [PolicyKind; 5] = [
    PolicyKind::Gate,
    PolicyKind::Predict,
    PolicyKind::Static,
    PolicyKind::Input,
    PolicyKind::Magnitude,
];

fn batch(session: &mut Session, tokens: &[u32], masks: &mut dyn MaskSource) -> Vec<f32> {
    session.truncate(0);
    session.forward(tokens, Some(masks), None, Logits::All).unwrap().to_vec()
}

fn decode(session: &mut Session, tokens: &[u32], masks: &mut dyn MaskSource) -> Vec<f32> {
    session.truncate(0);
    let mut logits = Vec::new();
    for token in tokens {
        let row = session.forward(&[*token], Some(masks), None, Logits::Last).unwrap();
        logits.extend_from_slice(row);
    }
    logits
}

/// A batch computes everything and sets what is off to zero; decoding skips it.
#[test]
fn skipping_what_a_plan_leaves_out_equals_zeroing_it() {
    for name in MODELS {
        let tokens = goldens(name).tokens();
        for isa in Isa::available() {
            let mut session = session(name, isa);
            session.truncate(0);
            let dense = session.forward(&tokens, None, None, Logits::All).unwrap().to_vec();
            for policy in POLICIES {
                let plan = plan(&session, policy);
                let what = format!("{name} {} {policy}", isa.name());
                let together = batch(&mut session, &tokens, &mut Policy::new(&plan));
                let steps = decode(&mut session, &tokens, &mut Policy::new(&plan));
                assert!(together == steps, "{what}");
                assert!(together != dense, "{what}: the plan changes something");
            }
        }
    }
}

#[test]
fn a_recorder_keeps_whole_lists_of_dense_layers() {
    let mut session = session("tiny-llama", Isa::detect());
    let tokens = goldens("tiny-llama").tokens();
    let config = session.model().config().clone();
    let mut plan = plan(&session, PolicyKind::Magnitude);
    plan.layers.iter_mut().for_each(|layer| layer.compensation = None);
    let mut policy = Policy::new(&plan);
    let mut recorder = Recorder::new(&mut policy, &config);
    let expected = batch(&mut session, &tokens, &mut recorder);
    let kept = recorder.kept;
    for kept in &kept {
        let counts: Vec<usize> = kept.neurons.iter().map(Vec::len).collect();
        let mut wanted = vec![config.intermediate / 2; config.layers.len()];
        wanted[0] = config.intermediate;
        assert_eq!(counts, wanted);
        assert_eq!(kept.heads[0].len(), config.heads);
    }
    assert!(batch(&mut session, &tokens, &mut Replay(kept)) == expected);
}

#[test]
fn plans_survive_their_files() {
    for name in MODELS {
        let mut session = session(name, Isa::detect());
        let (tokens, pool) = (goldens(name).tokens(), Pool::new(1));
        let (isa, config) = (session.model().isa(), session.model().config().clone());
        for policy in POLICIES {
            let (plan, record) = (plan(&session, policy), record(&session, policy));
            let bytes = to_bytes(&plan, &record, isa);
            assert_eq!(read_record(&bytes).unwrap(), record);
            assert_eq!(read_frequency(&bytes)[1], plan.layers[1].frequency.to_vec());
            let model = model_of(&session);
            let (again, read) = from_bytes(&bytes, &model, &config, isa, &pool).unwrap();
            assert_eq!(read, record);
            assert!(to_bytes(&again, &record, isa) == bytes, "{name} {policy}");
            let expected = batch(&mut session, &tokens, &mut Policy::new(&plan));
            let got = batch(&mut session, &tokens, &mut Policy::new(&again));
            assert!(got == expected, "{name} {policy}");
        }
    }
}

#[test]
fn plans_of_others_and_damaged_ones_are_refused_with_a_way_out() {
    let session = session("tiny-llama", Isa::detect());
    let (isa, config, pool) = (session.model().isa(), session.model().config(), Pool::new(1));
    let model = model_of(&session);
    let (good, own) = (plan(&session, PolicyKind::Gate), record(&session, PolicyKind::Gate));
    let bytes = to_bytes(&good, &own, isa);
    let refused = |bytes: &[u8], model: &PlanModel| -> PlanError {
        from_bytes(bytes, model, config, isa, &pool).map(drop).expect_err("is no plan for it")
    };
    let other = PlanModel { name: "other".into(), sha256: "cd".repeat(32), ..model.clone() };
    let error = refused(&bytes, &other);
    assert!(matches!(error, PlanError::OtherModel { .. }));
    let message = error.to_string();
    assert!(message.contains("tiny") && message.contains("other"), "{message}");
    assert!(message.contains("fewron calibrate"), "{message}");
    let as_q4 = PlanModel { quantized: Some("Q4_0".into()), ..model.clone() };
    assert!(matches!(refused(&bytes, &as_q4), PlanError::OtherModel { .. }));
    for len in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        let error = refused(&bytes[..len], &model);
        assert!(matches!(error, PlanError::NoPlan(_)), "{len}: {error}");
    }
    // Numbers that are not finite: the last tensor of a file is a float one or a scale.
    let edit = |edit: &dyn Fn(&mut Plan)| {
        let mut plan = good.clone();
        edit(&mut plan);
        refused(&to_bytes(&plan, &own, isa), &model)
    };
    let nan = edit(&|plan| plan.layers[1].weights = vec![f32::NAN; config.intermediate].into());
    assert!(nan.to_string().contains("weights has NaN"), "{nan}");
    let fewer = edit(&|plan| drop(plan.layers.pop()));
    assert!(fewer.to_string().contains("layers, the model has"), "{fewer}");
    let many = edit(&|plan| plan.layers[1].cut = Cut::Best(config.intermediate + 1));
    assert!(many.to_string().contains("cut.best"), "{many}");
    let bare = edit(&|plan| plan.layers.iter_mut().for_each(|l| l.weights = Arc::new([])));
    assert!(bare.to_string().contains("no scores"), "{bare}");
    let version = b"format_version\\\":1";
    let at = bytes.windows(version.len()).position(|w| w == version).unwrap();
    let mut old = bytes.clone();
    old[at + version.len() - 1] = b'9';
    assert!(matches!(refused(&old, &model), PlanError::Version { .. }));
}

#[test]
fn numbers_in_half_precision_are_read() {
    let session = session("tiny-llama", Isa::detect());
    let (isa, config, pool) = (session.model().isa(), session.model().config(), Pool::new(1));
    let (plan, own) = (plan(&session, PolicyKind::Gate), record(&session, PolicyKind::Gate));
    let bytes = to_bytes(&plan, &own, isa);
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let rounded = |value: f32| f16::from_f32(value).to_f32();
    let narrow = |(name, view): (String, TensorView)| {
        let matrix = name.ends_with(".first") || name.ends_with(".second");
        let exact = view.dtype() != Dtype::F32 || name.starts_with("cut.") || matrix;
        let (values, _) = view.data().as_chunks::<4>();
        let half = |word: &[u8; 4]| f16::from_f32(f32::from_le_bytes(*word)).to_le_bytes();
        let data: Vec<u8> =
            if exact { view.data().to_vec() } else { values.iter().flat_map(half).collect() };
        let dtype = if exact { view.dtype() } else { Dtype::F16 };
        (name, dtype, view.shape().to_vec(), data)
    };
    let narrow: Vec<_> = file.tensors().into_iter().map(narrow).collect();
    let views = narrow.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    let halves = serialize(views, header.metadata().clone()).unwrap();
    assert!(halves.len() < bytes.len());
    let (read, _) = from_bytes(&halves, &model_of(&session), config, isa, &pool).unwrap();
    for (read, layer) in read.layers.iter().zip(&plan.layers) {
        let expected: Vec<f32> = layer.weights.iter().copied().map(rounded).collect();
        assert!(!expected.is_empty() && read.weights[..] == expected);
        assert_eq!(read.cut, layer.cut);
    }
    let expected: Vec<f32> = plan.layers[1].frequency.iter().copied().map(rounded).collect();
    assert_eq!(read_frequency(&halves)[1], expected);
}
