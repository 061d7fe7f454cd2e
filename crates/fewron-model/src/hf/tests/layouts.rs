//! Published models: their configuration and their tensors' names, with a hole for the data.

use super::*;

struct Layout {
    config: Value,
    dtype: &'static str,
    tensors: Vec<(String, Vec<usize>)>,
}

fn layout(name: &str) -> Layout {
    let text = std::fs::read_to_string(fixtures().join("layouts.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let layout = &all[name];
    let layers = layout["layers"].as_u64().unwrap();
    let mut tensors = Vec::new();
    for (name, shape) in layout["tensors"].as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
        let count = if name.contains("{layer}") { layers } else { 1 };
        let names = (0..count).map(|layer| name.replace("{layer}", &layer.to_string()));
        tensors.extend(names.map(|name| (name, shape.clone())));
    }
    let dtype = match layout["dtype"].as_str().unwrap() {
        "float32" => "F32",
        "float16" => "F16",
        _ => "BF16",
    };
    Layout { config: layout["config"].clone(), dtype, tensors }
}

fn open(layout: &Layout) -> (tempfile::TempDir, Result<HfDirectory, ModelError>) {
    let folder = tempfile::tempdir().unwrap();
    let typed = |(name, shape): &(String, Vec<usize>)| (name.clone(), layout.dtype, shape.clone());
    let tensors: Vec<_> = layout.tensors.iter().map(typed).collect();
    write_directory(folder.path(), &layout.config, &tensors);
    let directory = HfDirectory::open(folder.path());
    (folder, directory)
}

/// Whole millions of parameters, as published.
const MODELS: [(&str, u64); 11] = [
    ("microsoft/phi-2", 2779),
    ("microsoft/phi-1_5", 1418),
    // Each layer's name for the one MLP counts.
    ("MBZUAI/MobiLlama-05B", 1261),
    ("MBZUAI/MobiLlama-1B", 1261),
    ("Qwen/Qwen3-0.6B", 596),
    ("Qwen/Qwen2.5-0.5B", 494),
    ("HuggingFaceTB/SmolLM2-135M", 134),
    ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1100),
    ("meta-llama/Llama-3.2-1B", 1235),
    ("google/gemma-3-270m", 268),
    ("facebook/opt-125m", 125),
];

#[test]
fn published_models_open() {
    for (name, millions) in MODELS {
        let (_folder, directory) = open(&layout(name));
        let directory = directory.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_complete(&directory);
        assert_eq!(directory.parameters() / 1_000_000, millions, "{name}");
    }
}

#[test]
fn one_name_for_the_mlp_of_mobillama() {
    let mut layout = layout("MBZUAI/MobiLlama-05B");
    layout.tensors.retain(|(name, _)| !name.contains(".mlp.") || name.contains(".0.mlp."));
    let (_folder, directory) = open(&layout);
    let directory = directory.unwrap();
    assert_complete(&directory);
    assert_eq!(directory.parameters() / 1_000_000, 534);
    // Without the mark of its code too: the missing names tell.
    layout.config.as_object_mut().unwrap().remove("auto_map");
    let (_folder, directory) = open(&layout);
    assert_eq!(directory.as_ref().unwrap().model_config().unwrap().kv_heads, 32);
    assert_complete(&directory.unwrap());
}

#[test]
fn opt_with_the_other_prefix_and_a_copied_head() {
    let mut layout = layout("facebook/opt-125m");
    for (name, _) in &mut layout.tensors {
        name.insert_str(0, "model.");
    }
    layout.tensors.push(("lm_head.weight".into(), vec![50_272, 768]));
    let (_folder, directory) = open(&layout);
    let directory = directory.unwrap();
    assert_complete(&directory);
    assert_eq!(directory.parameters() / 1_000_000, 125);
}

#[test]
fn gemma_inside_a_model_for_images() {
    let mut layout = layout("google/gemma-3-270m");
    let Value::Object(mut text) = layout.config.take() else { panic!() };
    text.insert("model_type".into(), "gemma3_text".into());
    layout.config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "mm_tokens_per_image": 256,
        "vision_config": {"hidden_size": 1152},
    });
    for (name, _) in &mut layout.tensors {
        name.insert_str(0, "language_model.");
    }
    layout.tensors.push(("vision_tower.vision_model.embeddings.weight".into(), vec![3, 4]));
    layout.tensors.push(("multi_modal_projector.mm_input_projection_weight".into(), vec![5]));
    let (_folder, directory) = open(&layout);
    assert_complete(&directory.unwrap());
}

/// Buffers that old files carry along are no weights, whatever their type.
#[test]
fn buffers_are_left_alone() {
    let mut layout = layout("HuggingFaceTB/SmolLM2-135M");
    let folder = tempfile::tempdir().unwrap();
    let typed = |(name, shape): (String, Vec<usize>)| (name, "BF16", shape);
    let mut tensors: Vec<_> = layout.tensors.drain(..).map(typed).collect();
    tensors.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), "F32", vec![32]));
    tensors.push(("model.layers.0.self_attn.masked_bias".into(), "I64", vec![]));
    write_directory(folder.path(), &layout.config, &tensors);
    assert_complete(&HfDirectory::open(folder.path()).unwrap());
    tensors.push(("model.layers.0.self_attn.steps".into(), "I64", vec![2]));
    write_directory(folder.path(), &layout.config, &tensors);
    let error = HfDirectory::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("self_attn.steps has type I64"), "{error}");
}

/// Frequencies of Llama 3.2 over plain ones, by transformers' `_compute_llama3_parameters`.
#[test]
fn llama3_divides_slow_frequencies() {
    let (_folder, directory) = open(&layout("meta-llama/Llama-3.2-1B"));
    let factors = directory.unwrap().model_config().unwrap().rope_factors.unwrap();
    assert_eq!(factors.len(), 32);
    let medium = [1.0, 1.651_329_2, 3.292_262_6, 9.666_73, 32.0];
    for (found, expected) in factors[14..19].iter().zip(medium) {
        assert!((found - expected).abs() < 1e-5 * expected, "{factors:?}");
    }
    assert!(factors[..15].iter().all(|f| *f == 1.0) && factors[18..].iter().all(|f| *f == 32.0));
}
