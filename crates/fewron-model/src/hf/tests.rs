mod configs;
mod damage;
mod layouts;

use super::*;
use crate::config::{Biases, NormKind, Residual, RopePairs};
use fewron_kernels::{Activation, DType};
use serde_json::json;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens/families")
}

fn tiny_models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

/// The names and shapes of all tensors of a model of this configuration.
fn expected_tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, neurons) = (config.hidden, config.intermediate);
    let (query, kv) = (config.query_width(), config.kv_width());
    let mut tensors = Vec::new();
    let mut add = |name: &str, shape: &[usize], bias: bool| {
        tensors.push((format!("{name}.weight"), shape.to_vec()));
        if bias {
            tensors.push((format!("{name}.bias"), shape[shape.len() - 1..].to_vec()));
        }
    };
    let norm_bias = config.norm == NormKind::Layer;
    add("token_embd", &[hidden, config.vocab], false);
    if let Some(first) = config.learned_positions {
        add("position_embd", &[hidden, config.context + first], false);
    }
    add("output_norm", &[hidden], norm_bias);
    if config.untied_head {
        add("output", &[hidden, config.vocab], config.biases.head);
    }
    for layer in 0..config.layers.len() {
        let mut add =
            |part: &str, shape: &[usize], bias| add(&format!("blk.{layer}.{part}"), shape, bias);
        let Biases { qkv, attention_output, mlp, .. } = config.biases;
        add("attn_norm", &[hidden], norm_bias);
        add("attn_q", &[hidden, query], qkv);
        add("attn_k", &[hidden, kv], qkv);
        add("attn_v", &[hidden, kv], qkv);
        add("attn_output", &[query, hidden], attention_output);
        if config.qk_norm {
            add("attn_q_norm", &[config.head_dim], false);
            add("attn_k_norm", &[config.head_dim], false);
        }
        if config.residual == Residual::Sequential {
            add("ffn_norm", &[hidden], norm_bias);
        }
        if config.post_norm {
            add("post_attention_norm", &[hidden], false);
            add("post_ffw_norm", &[hidden], false);
        }
        if config.gated {
            add("ffn_gate", &[hidden, neurons], mlp);
        }
        add("ffn_up", &[hidden, neurons], mlp);
        add("ffn_down", &[neurons, hidden], mlp);
    }
    tensors
}

/// Every tensor is there with the shape that the configuration asks for, and none is left over.
fn assert_complete(directory: &HfDirectory) {
    let config = directory.model_config().unwrap();
    let mut used = HashSet::new();
    for (name, shape) in expected_tensors(&config) {
        let at = directory.path().display();
        let tensor = directory.find(&name).unwrap_or_else(|| panic!("{at}: no {name}"));
        assert_eq!(tensor.shape, shape, "{at}: {name}");
        let elements: usize = shape.iter().product();
        assert_eq!(tensor.bytes.len(), tensor.dtype.row_bytes(elements).unwrap(), "{at}: {name}");
        assert!(tensor.bytes.end <= directory.bytes(tensor.file).len());
        used.insert(name);
    }
    assert_eq!(directory.unused(&used), None, "{}", directory.path().display());
    used.remove("blk.0.attn_v.weight");
    let left = directory.unused(&used).unwrap();
    assert!(left.ends_with("layers.0.self_attn.v_proj.weight"), "{left}");
}

#[test]
fn every_family_opens_and_is_complete() {
    let is_dir = |path: &PathBuf| path.is_dir();
    let paths = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let all: Vec<PathBuf> = paths(fixtures()).chain(paths(tiny_models())).filter(is_dir).collect();
    assert_eq!(all.iter().filter(|p| p.join("config.json").exists()).count(), 18);
    for path in all.iter().filter(|p| p.join("config.json").exists()) {
        assert_complete(&HfDirectory::open(path).unwrap());
    }
}

fn open(name: &str) -> (HfDirectory, ModelConfig) {
    let directory = HfDirectory::open(&fixtures().join(name)).unwrap();
    let config = directory.model_config().unwrap();
    (directory, config)
}

#[test]
fn llama_variants() {
    let (directory, config) = open("llama3-scaled");
    assert_eq!(directory.weight_files().count(), 3);
    assert_eq!((config.heads, config.kv_heads, config.head_dim, config.rope_dim), (6, 2, 10, 10));
    assert!(config.untied_head && config.gated && config.rope_pairs == RopePairs::Halves);
    assert_eq!(config.layers[0].rope_theta, 500.0);
    // transformers: _compute_llama3_parameters of this file, plain frequencies over scaled ones.
    let factors = config.rope_factors.unwrap();
    let expected = [1.0, 8.0, 8.0, 8.0, 8.0];
    assert_eq!(factors.len(), 5);
    for (found, expected) in factors.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5 * expected, "{factors:?}");
    }
    let (_, config) = open("llama-bias");
    let all = Biases { qkv: true, attention_output: true, mlp: true, head: false };
    assert_eq!((config.biases, config.untied_head), (all, false));
    let (directory, config) = open("llama-f16");
    assert_eq!((config.kv_heads, config.rope_factors), (1, None));
    assert_eq!(directory.find("token_embd.weight").unwrap().dtype, DType::F16);
    assert_eq!(config.activation, Activation::Silu);
    assert_eq!(config.norm_eps, 1e-5);
}

#[test]
fn mobillama_has_one_mlp_and_all_key_heads() {
    for (name, layer) in [("mobillama", 0), ("mobillama-repeated", 2)] {
        let (directory, config) = open(name);
        assert_eq!((config.arch.as_str(), config.kv_heads), ("mobillama", 4), "{name}");
        let up = directory.name_in_files("blk.2.ffn_up.weight").unwrap();
        assert_eq!(up, format!("model.layers.{layer}.mlp.up_proj.weight"));
        let (first, last) = ("blk.0.ffn_up.weight", "blk.2.ffn_up.weight");
        let bytes = |name| directory.find(name).unwrap().bytes;
        assert_eq!(bytes(first) == bytes(last), layer == 0);
    }
}

#[test]
fn phi_is_parallel_with_partial_rotation() {
    let (_, config) = open("phi");
    assert_eq!((config.norm, config.residual), (NormKind::Layer, Residual::Parallel));
    assert_eq!((config.gated, config.activation), (false, Activation::GeluTanh));
    assert_eq!((config.head_dim, config.rope_dim, config.kv_heads), (20, 8, 3));
    assert_eq!(config.biases, Biases { qkv: true, attention_output: true, mlp: true, head: true });
    let (_, config) = open("phi-gqa");
    assert_eq!((config.head_dim, config.rope_dim, config.kv_heads), (10, 6, 2));
}

#[test]
fn qwen_has_biases_or_norms() {
    let (_, config) = open("qwen2");
    assert_eq!(config.biases, Biases { qkv: true, ..Biases::default() });
    assert!(!config.qk_norm && !config.untied_head && config.layers[0].rope_theta == 1e6);
    let (_, config) = open("qwen3");
    assert_eq!((config.biases, config.qk_norm, config.head_dim), (Biases::default(), true, 18));
    assert_eq!(config.attention_scale, (1.0 / 18f64.sqrt()) as f32);
}

#[test]
fn gemma_alternates_windows() {
    for name in ["gemma3", "gemma3-bf16"] {
        let (directory, config) = open(name);
        let windows: Vec<_> = config.layers.iter().map(|l| l.window).collect();
        assert_eq!(windows, [Some(8), Some(8), None, Some(8)], "{name}");
        let ropes: Vec<_> = config.layers.iter().map(|l| (l.rope_theta, l.rope_scale)).collect();
        assert_eq!(ropes, [(1e4, 1.0), (1e4, 1.0), (1e6, 0.25), (1e4, 1.0)], "{name}");
        assert_eq!(config.attention_scale, (1.0 / 20f64.sqrt()) as f32);
        assert_eq!(config.embedding_scale, 42f32.sqrt());
        assert_eq!((config.post_norm, directory.norm_offset()), (true, 1.0));
        assert_eq!(config.activation, Activation::GeluTanh);
    }
}

#[test]
fn opt_has_learned_positions() {
    let (directory, config) = open("opt");
    assert_eq!((config.learned_positions, config.rope_dim, config.context), (Some(2), 0, 128));
    assert_eq!((config.norm, config.residual), (NormKind::Layer, Residual::Sequential));
    assert_eq!((config.gated, config.activation), (false, Activation::Relu));
    assert_eq!((config.untied_head, directory.find("output.weight").is_none()), (false, true));
    assert_eq!((config.intermediate, config.norm_eps), (88, 1e-5));
}

/// A directory with tensors of these types and shapes, whose data are a hole in the file.
fn write_directory(folder: &Path, config: &Value, tensors: &[(String, &str, Vec<usize>)]) {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut header = Map::new();
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let size = match *dtype {
            "F32" => 4,
            "I64" => 8,
            _ => 2,
        };
        let start = end;
        end += shape.iter().product::<usize>() as u64 * size;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    write_safetensors(&folder.join("model.safetensors"), &Value::Object(header).to_string(), end);
}

fn write_safetensors(path: &Path, header: &str, data_bytes: u64) {
    let head = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    std::fs::write(path, &head).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(head.len() as u64 + data_bytes).unwrap();
}
