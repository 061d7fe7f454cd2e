//! The GGUF architecture of a family, and its keys.

use fewron_kernels::Activation;

use super::super::HfDirectory;
use super::super::config::Family;
use super::ConvertError;
use crate::config::{LayerConfig, NormKind, gemma3_score_width};
use crate::gguf::Field;

impl HfDirectory {
    /// The architecture whose arithmetic is that of the configuration.
    pub(super) fn architecture(&self) -> Result<&'static str, ConvertError> {
        let family = self.names.family();
        let arch = match family {
            Family::Llama => "llama",
            Family::Phi => "phi2",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma3 => "gemma3",
            Family::Opt => {
                return Err(ConvertError::NoArchitecture { family: self.config.arch.clone() });
            }
        };
        self.check_activation(family, arch)?;
        self.check_attention(family, arch)?;
        self.check_rope(family, arch)?;
        Ok(arch)
    }

    fn check_activation(&self, family: Family, arch: &str) -> Result<(), ConvertError> {
        let (key, only, name) = match family {
            Family::Phi => ("hidden_act", Activation::GeluTanh, "gelu_new"),
            Family::Gemma3 => ("hidden_activation", Activation::GeluTanh, "gelu_pytorch_tanh"),
            _ => ("hidden_act", Activation::Silu, "silu"),
        };
        let value = || match self.config.activation {
            Activation::Silu => "silu".into(),
            Activation::GeluTanh => "gelu_new".into(),
            Activation::Relu => "relu".into(),
        };
        require(self.config.activation == only, key, value, || {
            format!("the GGUF architecture {arch} always has {name}")
        })
    }

    fn check_attention(&self, family: Family, arch: &str) -> Result<(), ConvertError> {
        let config = &self.config;
        let bias = config.biases.attention_output;
        let without_bias = matches!(family, Family::Qwen3 | Family::Gemma3);
        require(
            !(without_bias && bias),
            "attention_bias",
            || "true".into(),
            || format!("the GGUF architecture {arch} has no biases"),
        )?;
        let (whole, head_dim) = (config.query_width() == config.hidden, config.head_dim);
        let fixed = matches!(family, Family::Phi | Family::Qwen2);
        require(
            whole || !fixed,
            "head_dim",
            || head_dim.to_string(),
            || format!("llama.cpp reads {arch} models with hidden_size / num_attention_heads only"),
        )?;
        let tied = family == Family::Phi && !config.untied_head;
        require(
            !tied,
            "tie_word_embeddings",
            || "true".into(),
            || format!("the GGUF architecture {arch} has a head of its own"),
        )?;
        if family != Family::Gemma3 {
            return Ok(());
        }
        let width = gemma3_score_width(config.layers.len(), config.hidden, config.heads, head_dim);
        let value =
            || (1.0 / (config.attention_scale * config.attention_scale)).round().to_string();
        let scale = 1.0 / (width as f32).sqrt();
        let same = (config.attention_scale - scale).abs() <= scale * 1e-6;
        require(same, "query_pre_attn_scalar", value, || {
            format!("GGUF has no key for it, and readers take {width} for a model of this shape")
        })
    }

    fn check_rope(&self, family: Family, arch: &str) -> Result<(), ConvertError> {
        let config = &self.config;
        let llama3 = config.rope_factors.is_some() && family != Family::Llama;
        require(
            !llama3,
            "rope_type",
            || "llama3".into(),
            || format!("llama.cpp has this scaling in llama models only, not in {arch}"),
        )?;
        if family != Family::Gemma3 {
            return Ok(());
        }
        let period = period(&config.layers);
        let regular = config
            .layers
            .iter()
            .enumerate()
            .all(|(at, layer)| layer.window.is_none() == (at + 1).is_multiple_of(period));
        require(
            regular,
            "layer_types",
            || "irregular".into(),
            || format!("in {arch} files every n-th layer attends to everything, for one n"),
        )?;
        let scaled = config.layers.iter().find(|l| l.window.is_some() && l.rope_scale != 1.0);
        let value = || scaled.map_or_else(String::new, |l| format!("linear by {}", factor(l)));
        require(scaled.is_none(), "rope_parameters.sliding_attention", value, || {
            format!("{arch} files scale the layers without a window only")
        })
    }

    /// The keys under the architecture's prefix.
    pub(super) fn hyperparameters(&self, arch: &str) -> Vec<(String, Field)> {
        let config = &self.config;
        let size = |size: usize| Field::U32(size as u32);
        let global = config.layers.iter().find(|layer| layer.window.is_none());
        let local = config.layers.iter().find(|layer| layer.window.is_some());
        let eps = match config.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        let mut keys = vec![
            ("vocab_size", size(config.vocab)),
            ("context_length", size(config.context)),
            ("embedding_length", size(config.hidden)),
            ("block_count", size(config.layers.len())),
            ("feed_forward_length", size(config.intermediate)),
            ("attention.head_count", size(config.heads)),
            ("attention.head_count_kv", size(config.kv_heads)),
            ("attention.key_length", size(config.head_dim)),
            ("attention.value_length", size(config.head_dim)),
            (eps, Field::F32(config.norm_eps)),
            ("rope.dimension_count", size(config.rope_dim)),
        ];
        if let Some(global) = global {
            keys.push(("rope.freq_base", Field::F32(global.rope_theta)));
            if global.rope_scale != 1.0 {
                keys.push(("rope.scaling.type", Field::Str("linear".into())));
                keys.push(("rope.scaling.factor", Field::F32(factor(global))));
            }
        }
        if let Some((local, window)) = local.and_then(|local| Some((local, local.window?))) {
            keys.push(("rope.freq_base_swa", Field::F32(local.rope_theta)));
            keys.push(("attention.sliding_window", size(window)));
            keys.push(("attention.sliding_window_pattern", size(period(&config.layers))));
        }
        keys.into_iter().map(|(key, field)| (format!("{arch}.{key}"), field)).collect()
    }
}

/// Every how many layers there is one without a window.
fn period(layers: &[LayerConfig]) -> usize {
    layers.iter().position(|layer| layer.window.is_none()).unwrap_or(layers.len()) + 1
}

/// The linear scaling factor.
fn factor(layer: &LayerConfig) -> f32 {
    (1.0 / f64::from(layer.rope_scale)) as f32
}

fn require(
    condition: bool,
    key: &'static str,
    value: impl FnOnce() -> String,
    allowed: impl FnOnce() -> String,
) -> Result<(), ConvertError> {
    if condition {
        return Ok(());
    }
    Err(ConvertError::NoKey { key, value: value(), allowed: allowed() })
}
