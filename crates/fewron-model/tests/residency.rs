//! Models in less memory than their weights need, against the same ones with all weights in memory.

mod goldens;

use fewron_kernels::DType;
use fewron_model::gguf::Recipe;
use fewron_model::hf::HfDirectory;
use fewron_model::{
    Choice, LoadOptions, Logits, MaskSource, Model, ModelError, Pool, Residency, Session,
};
use goldens::Goldens;
use std::sync::Arc;

const MODELS: [&str; 6] =
    ["tiny-gemma3", "tiny-llama", "tiny-mobillama", "tiny-opt", "tiny-phi", "tiny-qwen3"];

/// Float weights, and quantised ones.
const TYPES: [Option<DType>; 3] = [None, Some(DType::Q8_0), Some(DType::Q4_1)];

fn load(
    name: &str,
    dtype: Option<DType>,
    residency: Option<Residency>,
) -> Result<Model, ModelError> {
    let directory = goldens::folder().join("../../models/tiny").join(name);
    let recipe = dtype.map(|dtype| Recipe { dtype, output: None, embedding: None });
    let options = LoadOptions { recipe, residency, ..LoadOptions::default() };
    Model::load(HfDirectory::open(&directory).unwrap().into(), &options, &mut |_, _| {})
}

fn residency(budget_bytes: usize) -> Residency {
    let directory = std::env::temp_dir();
    Residency { budget_bytes, heat: Vec::new(), gate_stays_hot: true, directory }
}

/// Keeps some neurons, known beforehand or chosen by the gate.
#[derive(Clone, Copy)]
enum Mask {
    Listed,
    ByGate,
}

impl MaskSource for Mask {
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        match self {
            Mask::Listed => {
                kept.extend(
                    (0..48).filter(|n| !(n * 7 + layer as u32 + token as u32).is_multiple_of(3)),
                );
                Choice::Listed
            }
            Mask::ByGate => Choice::ByGate,
        }
    }

    fn select_neurons(&mut self, _: usize, _: usize, values: &[f32], kept: &mut Vec<u32>) {
        kept.extend((0..).zip(values).filter(|(_, value)| value.abs() > 0.05).map(|(n, _)| n));
    }
}

/// Logits of a prompt as a batch and token by token, dense and masked.
fn logits(model: &Arc<Model>, tokens: &[u32]) -> Vec<f32> {
    let mut session = Session::new(Arc::clone(model), Arc::new(Pool::new(2)));
    let mut all = Vec::new();
    for at_once in [tokens.len(), 1] {
        for mask in [None, Some(Mask::Listed), Some(Mask::ByGate)] {
            session.truncate(0);
            for part in tokens.chunks(at_once) {
                let mut mask = mask;
                let masks = mask.as_mut().map(|mask| mask as &mut dyn MaskSource);
                all.extend_from_slice(session.forward(part, masks, None, Logits::All).unwrap());
            }
        }
    }
    session.forward(&tokens[..1], None, None, Logits::Shortlist(1.0)).unwrap();
    all
}

#[test]
fn budgets_do_not_change_a_bit() {
    for name in MODELS {
        let goldens = Goldens::open(&format!("families/{name}.safetensors"));
        let tokens: Vec<u32> = goldens.i64("prompt").iter().map(|&t| t as u32).collect();
        for dtype in TYPES {
            let model = Arc::new(load(name, dtype, None).unwrap());
            let expected = logits(&model, &tokens);
            let bytes = model.bytes_per_token();
            let total = bytes.attention + bytes.mlp_in_memory + bytes.head;
            let config = model.config();
            let heat = |layer: usize| (0..config.intermediate).map(move |n| (n * 31 + layer) % 17);
            let heat = (0..config.layers.len()).map(|l| heat(l).map(|h| h as f32).collect());
            let heat: Vec<Vec<f32>> = heat.collect();
            for percent in [110, 75, 50, 25] {
                let heat = if percent == 50 { Vec::new() } else { heat.clone() };
                let gate_stays_hot = percent != 75;
                let budget = Residency { heat, gate_stays_hot, ..residency(total * percent / 100) };
                let model = Arc::new(load(name, dtype, Some(budget)).unwrap());
                let what = format!("{name} as {dtype:?} in {percent} %");
                assert!(logits(&model, &tokens) == expected, "{what}");
                assert!(dtype.is_none() || percent > 100 || model.cold_bytes() > 0, "{what}");
            }
        }
    }
}

#[test]
fn what_a_budget_cannot_do_is_said() {
    let error = |residency| load("tiny-phi", Some(DType::Q4_1), Some(residency)).err().unwrap();
    let few = error(residency(10)).to_string();
    assert!(few.starts_with("the weights cannot run in 10 bytes"), "{few}");
    let heat = error(Residency { heat: vec![vec![1.0; 3]], ..residency(1 << 30) });
    assert!(matches!(heat, ModelError::Heat { .. }), "{heat}");
    let nowhere = error(Residency { directory: "/no/such/folder".into(), ..residency(1 << 20) });
    assert!(nowhere.to_string().contains("/no/such/folder"), "{nowhere}");
}
