//! Logits of models whose weights were quantised again.

mod goldens;

use std::ops::ControlFlow;
use std::sync::Arc;

use fewron_kernels::DType;
use fewron_model::gguf::{Field, Gguf, NewFile, Recipe, Writer};
use fewron_model::{KvType, Logits, Model, Pool, Session};
use goldens::{Goldens, assert_close};

fn tiny(name: &str) -> Gguf {
    Gguf::open(&goldens::folder().join("tiny").join(format!("{name}.gguf"))).unwrap()
}

fn requantized(source: &Gguf, dtype: DType) -> Gguf {
    written(source, Recipe { dtype, output: None, embedding: None })
}

fn written(source: &Gguf, recipe: Recipe) -> Gguf {
    let mut bytes = Vec::new();
    let work = NewFile::requantized(source, &recipe).unwrap();
    work.write(&mut bytes, &Pool::new(2), &mut |_| ControlFlow::Continue(())).unwrap();
    Gguf::from_bytes(recipe.dtype.name(), &bytes).unwrap()
}

fn logits(gguf: Gguf, tokens: &[u32]) -> Vec<f32> {
    logits_of(Model::from_gguf(gguf).unwrap(), tokens)
}

fn logits_of(model: Model, tokens: &[u32]) -> Vec<f32> {
    let mut session = Session::with_kv_type(Arc::new(model), Arc::new(Pool::new(2)), KvType::F32);
    session.forward(tokens, None, None, Logits::All).unwrap().to_vec()
}

/// The golden models: most rows fit no block and become F16, those of 64 elements in Gemma are
/// quantised. Half of what Q8_0 changes there comes from the kernels' 8-bit inputs; llama.cpp (of
/// llama-cpp-python 0.3.36) is 4.2e-2 off with the same file.
#[test]
fn golden_logits_stay() {
    for name in ["tiny-llama", "tiny-llama-odd", "tiny-gemma3"] {
        let goldens = Goldens::open(&format!("tiny/{name}.safetensors"));
        let types =
            [(DType::F32, 1e-4), (DType::F16, 2e-3), (DType::Bf16, 2e-2), (DType::Q8_0, 5e-2)];
        for (dtype, tolerance) in types {
            let got = logits(requantized(&tiny(name), dtype), &goldens.tokens());
            assert_close(&format!("{name} {dtype}"), &got, &goldens.f32("logits"), tolerance);
        }
    }
}

/// A random Llama model whose rows fit every block, with the tokenizer of a golden one.
fn wide() -> Gguf {
    let source = tiny("tiny-llama");
    let metadata = source.metadata();
    let changed = |key: &str| match key {
        "llama.embedding_length" => Some(256),
        "llama.feed_forward_length" => Some(512),
        "llama.attention.head_count" => Some(4),
        "llama.attention.head_count_kv" => Some(2),
        "llama.attention.key_length" | "llama.attention.value_length" => Some(64),
        "llama.rope.dimension_count" => Some(64),
        _ => None,
    };
    let mut writer = Writer::new();
    for key in metadata.keys() {
        let field = changed(key).map(Field::U32);
        let field = field.or_else(|| metadata.field(key).unwrap()).unwrap();
        writer = writer.field(key, field);
    }
    let mut seed = 1u64;
    for tensor in source.tensors() {
        let wide = |extent: &usize| match extent {
            48 => 256,
            80 => 512,
            16 => 128,
            other => *other as u64,
        };
        let shape: Vec<u64> = tensor.shape.iter().map(wide).collect();
        let elements: u64 = shape.iter().product();
        let data = (0..elements).flat_map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = (seed >> 40) as f32 / (1 << 23) as f32 - 1.0;
            let weight = if shape.len() == 1 { 1.0 } else { 0.1 * uniform };
            weight.to_le_bytes()
        });
        writer = writer.tensor(&tensor.name, 0, &shape, data.collect());
    }
    Gguf::from_bytes("wide", &writer.to_bytes()).unwrap()
}

/// Distance of `a` from `b`, relative to the length of `scale`.
fn distance(a: &[f32], b: &[f32], scale: &[f32]) -> f32 {
    let off: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    (off / scale.iter().map(|x| x * x).sum::<f32>()).sqrt()
}

/// The most that weights of a type may change the wide model's logits: twice as much for every bit
/// less.
fn bound(dtype: DType) -> f32 {
    match dtype {
        DType::F32 => 0.0,
        DType::F16 => 1e-3,
        DType::Bf16 => 8e-3,
        DType::Q8_0 => 0.018,
        DType::Q6_K => 0.018 * 4.0,
        DType::Q5_0 | DType::Q5_1 | DType::Q5_K => 0.018 * 8.0,
        DType::Q4_0 | DType::Q4_1 | DType::Q4_K => 0.018 * 16.0,
        DType::Q3_K => 0.018 * 32.0,
        DType::Q2_K => 0.018 * 64.0,
    }
}

/// What the weights lose is seen by running the file's values in f32; the kernels' 8-bit inputs add
/// the same to every type.
#[test]
fn each_bit_less_doubles_the_error() {
    let tokens: Vec<u32> = (0..24).map(|i| 10 + i * 7 % 200).collect();
    let dense = logits(wide(), &tokens);
    let errors = DType::ALL.map(|dtype| {
        let file = requantized(&wide(), dtype);
        let exact = logits(requantized(&file, DType::F32), &tokens);
        let error = distance(&exact, &dense, &dense);
        assert!(error <= bound(dtype), "{dtype}: {error}");
        assert!((error > 0.0) == (dtype != DType::F32), "{dtype}: {error}");
        let inputs = distance(&logits(file, &tokens), &exact, &dense);
        assert!(inputs <= if dtype.is_quantized() { 0.025 } else { 0.0 }, "{dtype}: {inputs}");
        (dtype, error)
    });
    let of = |wanted| errors.iter().find(|(dtype, _)| *dtype == wanted).unwrap().1;
    use DType::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0};
    assert!([Q8_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K].map(of).is_sorted(), "{errors:?}");
}

#[test]
fn quantising_while_loading_equals_the_quantised_file() {
    let tokens: Vec<u32> = (0..24).map(|i| 10 + i * 7 % 200).collect();
    for dtype in [DType::Q8_0, DType::Q4_0, DType::Q6_K] {
        // While loading the embedding stays in its file.
        let recipe = Recipe { dtype, output: None, embedding: Some(DType::F32) };
        let file = Model::from_gguf(written(&wide(), recipe)).unwrap();
        let loaded = Model::quantized(wide().into(), recipe).unwrap();
        assert_eq!(file.bytes_per_token(), loaded.bytes_per_token(), "{dtype}");
        assert!(logits_of(file, &tokens) == logits_of(loaded, &tokens), "{dtype}");
    }
}
