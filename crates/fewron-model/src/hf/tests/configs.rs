//! Keys that change the arithmetic are honoured or refused by name.

use super::*;
use crate::hf::config::{HfConfig, Shapes};

/// The configuration of a fixture with some keys changed; null takes a key away.
fn changed(name: &str, changes: &Value) -> Result<ModelConfig, ModelError> {
    let mut map = read_object(&fixtures().join(name), CONFIG, 1 << 20).unwrap().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        map.insert(key.clone(), value.clone());
        if value.is_null() {
            map.remove(key);
        }
    }
    HfConfig::new(&map)?.model_config(Shapes { tensors: 100, ..Shapes::default() })
}

fn refusal(name: &str, changes: &Value) -> String {
    match changed(name, changes) {
        Ok(_) => panic!("{name} with {changes} was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn other_arithmetic_is_refused_by_name() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    let longrope = json!({"type": "longrope", "short_factor": [1.0]});
    let cases = [
        ("llama-f16", json!({"model_type": "mamba"}), "model_type"),
        ("llama-f16", json!({"model_type": null}), "model_type"),
        (
            "llama-f16",
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            "architectures",
        ),
        ("llama-f16", json!({"auto_map": {"AutoModel": "modeling_other.Model"}}), "auto_map"),
        ("llama-f16", json!({"hidden_act": "gelu"}), "hidden_act"),
        ("llama-f16", json!({"rope_scaling": yarn}), "rope_scaling.rope_type is \"yarn\""),
        ("llama-f16", json!({"rope_scaling": longrope}), "rope_scaling.type"),
        ("llama-f16", json!({"rope_scaling": {"rope_type": "linear"}}), "rope_scaling.factor"),
        ("llama-f16", json!({"rope_scaling": {"mrope_section": [1]}}), "mrope_section"),
        ("llama-f16", json!({"rope_interleaved": true}), "rope_interleaved"),
        ("llama-f16", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        ("llama-f16", json!({"sliding_window": 64}), "sliding_window"),
        ("llama-f16", json!({"layer_types": ["sliding_attention"]}), "layer_types"),
        ("llama-f16", json!({"embedding_multiplier": 12.0}), "embedding_multiplier"),
        ("llama-f16", json!({"residual_multiplier": 0.2}), "residual_multiplier"),
        ("llama-f16", json!({"logits_scaling": 8}), "logits_scaling"),
        ("llama-f16", json!({"quantization_config": {"bits": 4}}), "quantization_config"),
        ("llama-f16", json!({"num_local_experts": 4}), "num_local_experts"),
        (
            "llama3-scaled",
            json!({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
            "dynamic",
        ),
        ("phi", json!({"qk_layernorm": true}), "qk_layernorm"),
        ("phi", json!({"partial_rotary_factor": 0.35}), "head_dim"),
        ("qwen2", json!({"use_sliding_window": true, "sliding_window": 8}), "use_sliding_window"),
        ("qwen3", json!({"layer_types": ["linear_attention"]}), "layer_types"),
        ("gemma3", json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping"),
        ("gemma3", json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping"),
        ("gemma3", json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
        ("gemma3", json!({"layer_types": ["full_attention"]}), "layer_types"),
        ("gemma3", json!({"layer_types": ["full_attention", "x", "x", "x"]}), "layer_types"),
        (
            "gemma3",
            json!({"rope_parameters": {"rope_type": "default"}}),
            "rope_parameters.rope_type",
        ),
        ("opt", json!({"do_layer_norm_before": false}), "do_layer_norm_before"),
        ("opt", json!({"word_embed_proj_dim": 21}), "word_embed_proj_dim"),
        ("opt", json!({"_remove_final_layer_norm": true}), "_remove_final_layer_norm"),
        ("opt", json!({"layer_norm_elementwise_affine": false}), "layer_norm_elementwise_affine"),
        ("opt", json!({"activation_function": "gelu"}), "activation_function"),
        ("opt", json!({"rope_theta": 10000.0}), "rope_theta"),
    ];
    for (name, changes, key) in cases {
        let message = refusal(name, &changes);
        assert!(message.contains(key) && message.contains("config.json: "), "{changes}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn nonsense_is_refused_by_name() {
    let cases = [
        (json!({"hidden_size": 0}), "hidden_size is zero"),
        (json!({"hidden_size": null}), "hidden_size is missing"),
        (json!({"hidden_size": -3}), "hidden_size is no positive whole number"),
        (json!({"hidden_size": "50"}), "hidden_size is no positive whole number"),
        (json!({"intermediate_size": 1u64 << 60}), "intermediate_size is absurdly large"),
        (json!({"num_hidden_layers": 4000}), "num_hidden_layers is more than"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads does not divide"),
        (json!({"head_dim": 9}), "head_dim gives an odd number"),
        (json!({"rms_norm_eps": 0}), "rms_norm_eps is not a positive number"),
        (json!({"rms_norm_eps": 1e-60}), "rms_norm_eps is not a positive number"),
        (json!({"tie_word_embeddings": "no"}), "tie_word_embeddings is neither"),
        (json!({"hidden_act": 3}), "hidden_act is no text"),
        (json!({"rope_scaling": [1]}), "rope_scaling is no object"),
        (json!({"rope_theta": -1.0}), "rope_theta is not a positive number"),
    ];
    for (changes, part) in cases {
        let message = refusal("llama-f16", &changes);
        assert!(message.contains(part), "{changes}: {message}");
    }
}

#[test]
fn harmless_keys_are_taken() {
    let plain = changed("llama-f16", &json!({})).unwrap();
    for changes in [
        json!({"pretraining_tp": 2, "attention_dropout": 0.1, "use_cache": false}),
        json!({"_attn_implementation_autoset": true, "rope_interleaved": false}),
        json!({"logit_scale": 1.0, "sliding_window": null, "quantization_config": {}}),
        json!({"architectures": null, "task_specific_params": {"x": 1}, "_name_or_path": "x/y"}),
        json!({"auto_map": {"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}}),
    ] {
        assert_eq!(changed("llama-f16", &changes).unwrap(), plain, "{changes}");
    }
}

#[test]
fn both_spellings_of_rotations() {
    let linear = json!({"rope_scaling": {"type": "linear", "factor": 2.0}});
    let old = changed("llama-f16", &linear).unwrap();
    let parameters = json!({"rope_type": "linear", "factor": 2, "rope_theta": 10000.0});
    let new = json!({"rope_parameters": parameters, "rope_theta": null, "rope_scaling": null});
    assert_eq!(old, changed("llama-f16", &new).unwrap());
    assert_eq!(old.layers[0].rope_scale, 0.5);
    let new = json!({
        "rope_theta": null, "rope_scaling": null, "rope_local_base_freq": null,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    });
    assert_eq!(changed("gemma3", &new).unwrap(), changed("gemma3", &json!({})).unwrap());
}

/// Gemma 3 4B's file says little; its class says the rest.
#[test]
fn defaults_are_those_of_the_classes() {
    let text = json!({
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
        "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    });
    let config = json!({"model_type": "gemma3", "text_config": text});
    let map = config.as_object().unwrap();
    let config = HfConfig::new(map).unwrap();
    let config = config.model_config(Shapes { tensors: 400, ..Shapes::default() }).unwrap();
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (8, 4, 256));
    assert_eq!((config.vocab, config.context), (262_208, 131_072));
    assert_eq!((config.layers[5].window, config.layers[5].rope_scale), (None, 0.125));
    assert_eq!((config.layers[6].window, config.layers[6].rope_theta), (Some(1024), 1e4));
    assert!(!config.untied_head && config.norm_eps == 1e-6);
}
