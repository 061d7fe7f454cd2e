//! `config.json` of the families that fewron runs, in the spelling of transformers 4 and 5.
//!
//! Defaults are those of the configuration classes of transformers. A key that changes the
//! arithmetic is honoured or refused by name.

use fewron_kernels::Activation;
use serde_json::{Map, Value};

use super::keys::Keys;
use super::rope::RopeSettings;
use crate::config::{Biases, ModelConfig, NormKind, Residual, RopePairs};
use crate::error::ModelError;

/// Families by `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Phi,
    Qwen2,
    Qwen3,
    Gemma3,
    Opt,
}

const MODEL_TYPES: [(&str, Family); 7] = [
    ("llama", Family::Llama),
    ("phi", Family::Phi),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("gemma3", Family::Gemma3),
    ("gemma3_text", Family::Gemma3),
    ("opt", Family::Opt),
];

/// Where `config.json` puts what it says, for messages.
const PLACE: &str = "config.json: ";
const TEXT_PLACE: &str = "config.json: text_config.";

/// What tensors say that configurations do not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shapes {
    /// Number of tensors, which is more than that of layers.
    pub(super) tensors: usize,
    /// Outputs of the first key projection.
    pub(super) key_rows: Option<usize>,
    /// Whether one layer's MLP serves all.
    pub(super) shared_mlp: bool,
}

/// The family and the part of `config.json` that describes the language model.
pub(super) struct HfConfig<'a> {
    pub(super) family: Family,
    /// Whether it is the text part of a model for images too.
    pub(super) nested: bool,
    /// Whether MobiLlama's own code goes with it, which always has as many key heads as query heads.
    pub(super) mobillama: bool,
    model_type: &'a str,
    outer: Keys<'a>,
    keys: Keys<'a>,
}

impl<'a> HfConfig<'a> {
    /// Finds out the family.
    pub(super) fn new(map: &'a Map<String, Value>) -> Result<Self, ModelError> {
        let outer = Keys::new(map, PLACE);
        let known = || MODEL_TYPES.map(|(name, _)| name).join(", ");
        let model_type =
            outer.text("model_type")?.ok_or_else(|| outer.bad("model_type", "is missing"))?;
        let family = MODEL_TYPES.iter().find(|(name, _)| *name == model_type);
        let &(_, family) = family.ok_or_else(|| outer.unsupported("model_type", &known()))?;
        let text = if family == Family::Gemma3 { outer.object("text_config")? } else { None };
        let keys = text.map_or(outer, |text| Keys::new(text, TEXT_PLACE));
        let mobillama = is_mobillama(outer, model_type)?;
        let config =
            HfConfig { family, nested: text.is_some(), mobillama, model_type, outer, keys };
        config.check_architectures()?;
        Ok(config)
    }

    fn check_architectures(&self) -> Result<(), ModelError> {
        let supported = match self.family {
            Family::Llama => "LlamaForCausalLM",
            Family::Phi => "PhiForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
            Family::Gemma3 if self.nested => "Gemma3ForConditionalGeneration",
            Family::Gemma3 => "Gemma3ForCausalLM",
            Family::Opt => "OPTForCausalLM",
        };
        let Some(found) = self.outer.list("architectures")? else { return Ok(()) };
        let ours = |name: &Value| name.as_str() == Some(supported);
        let mobillama =
            |name: &Value| self.mobillama && name.as_str() == Some("MobiLlamaForCausalLM");
        if found.is_empty() || found.iter().any(|name| ours(name) || mobillama(name)) {
            return Ok(());
        }
        Err(self.outer.unsupported("architectures", supported))
    }

    /// Whether the output head is the embedding.
    pub(super) fn tied(&self) -> Result<bool, ModelError> {
        let default = matches!(self.family, Family::Gemma3 | Family::Opt);
        let own = self.keys.bool("tie_word_embeddings")?;
        Ok(own.or(self.outer.bool("tie_word_embeddings")?).unwrap_or(default))
    }

    /// Number of layers.
    pub(super) fn layer_count(&self, tensors: usize) -> Result<usize, ModelError> {
        let default = (self.family == Family::Gemma3).then_some(26);
        let count = self.keys.size("num_hidden_layers")?.or(default);
        let count = count.ok_or_else(|| self.keys.bad("num_hidden_layers", "is missing"))?;
        if count > tensors {
            return Err(self.keys.bad("num_hidden_layers", "is more than the files have tensors"));
        }
        Ok(count)
    }

    /// Shape and wiring.
    pub(super) fn model_config(&self, shapes: Shapes) -> Result<ModelConfig, ModelError> {
        self.keys.refuse_unknown(&self.known_keys())?;
        self.refuse_known()?;
        let keys = self.keys;
        let gemma = self.family == Family::Gemma3;
        let phi = self.family == Family::Phi;
        let opt = self.family == Family::Opt;
        let layers = self.layer_count(shapes.tensors)?;
        let need = |name: &str, default: usize| {
            if gemma { keys.size_or(name, default) } else { keys.need_size(name) }
        };
        let (hidden, heads) = (need("hidden_size", 2304)?, need("num_attention_heads", 8)?);
        let head_dim = self.head_dim(hidden, heads)?;
        let kv_heads = self.kv_heads(heads, head_dim, shapes)?;
        let rope = if opt { RopeSettings::none(layers) } else { self.rope(head_dim, layers)? };
        let score_scale =
            if gemma { keys.float_or("query_pre_attn_scalar", 256.0)? } else { head_dim as f64 };
        let attention_bias = keys.bool_or("attention_bias", false)?;
        let biases = match self.family {
            Family::Llama => Biases {
                qkv: attention_bias,
                attention_output: attention_bias,
                mlp: keys.bool_or("mlp_bias", false)?,
                head: false,
            },
            Family::Phi => Biases { qkv: true, attention_output: true, mlp: true, head: true },
            Family::Qwen2 => Biases { qkv: true, ..Biases::default() },
            Family::Qwen3 | Family::Gemma3 => Biases {
                qkv: attention_bias,
                attention_output: attention_bias,
                ..Biases::default()
            },
            Family::Opt => {
                let all = keys.bool_or("enable_bias", true)?;
                Biases { qkv: all, attention_output: all, mlp: all, head: false }
            }
        };
        Ok(ModelConfig {
            arch: if self.mobillama { "mobillama" } else { self.model_type }.to_owned(),
            hidden,
            heads,
            kv_heads,
            head_dim,
            rope_dim: rope.dim,
            learned_positions: opt.then_some(2),
            rope_factors: rope.factors,
            rope_pairs: RopePairs::Halves,
            intermediate: need(if opt { "ffn_dim" } else { "intermediate_size" }, 9216)?,
            vocab: need("vocab_size", 262_208)?,
            context: keys.size_or("max_position_embeddings", if gemma { 131_072 } else { 2048 })?,
            norm: if phi || opt { NormKind::Layer } else { NormKind::Rms },
            norm_eps: match self.family {
                Family::Phi => keys.float_or("layer_norm_eps", 1e-5)?,
                Family::Opt => 1e-5,
                _ => keys.float_or("rms_norm_eps", 1e-6)?,
            } as f32,
            residual: if phi { Residual::Parallel } else { Residual::Sequential },
            gated: !(phi || opt),
            shared_mlp: shapes.shared_mlp,
            biases,
            untied_head: !self.tied()?,
            activation: self.activation()?,
            embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
            attention_scale: (1.0 / score_scale.sqrt()) as f32,
            qk_norm: gemma || self.family == Family::Qwen3,
            post_norm: gemma,
            layers: rope.layers,
        })
    }

    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, ModelError> {
        let default = match self.family {
            Family::Gemma3 => 256,
            Family::Qwen3 => 128,
            _ => hidden / heads,
        };
        // The classes of Phi and OPT have no such key.
        let fixed = matches!(self.family, Family::Phi | Family::Opt);
        let head_dim = if fixed { default } else { self.keys.size_or("head_dim", default)? };
        if head_dim == 0 || fixed && !hidden.is_multiple_of(heads) {
            return Err(self.keys.bad("num_attention_heads", "does not divide hidden_size"));
        }
        Ok(head_dim)
    }

    fn kv_heads(&self, heads: usize, head_dim: usize, shapes: Shapes) -> Result<usize, ModelError> {
        const KEY: &str = "num_key_value_heads";
        let default = if self.family == Family::Gemma3 { 4 } else { heads };
        let kv_heads = match (self.family, shapes.key_rows) {
            (Family::Opt, _) => heads,
            (Family::Llama, Some(rows)) if self.mobillama || shapes.shared_mlp => {
                if !rows.is_multiple_of(head_dim) {
                    return Err(self.keys.bad("head_dim", "does not divide the rows of k_proj"));
                }
                rows / head_dim
            }
            _ => self.keys.size_or(KEY, default)?,
        };
        if kv_heads == 0 || kv_heads > heads || !heads.is_multiple_of(kv_heads) {
            return Err(self.keys.bad(KEY, "does not divide num_attention_heads"));
        }
        Ok(kv_heads)
    }

    fn activation(&self) -> Result<Activation, ModelError> {
        let keys = self.keys;
        let (name, default) = match self.family {
            Family::Gemma3 if keys.has("hidden_activation") || !keys.has("hidden_act") => {
                ("hidden_activation", "gelu_pytorch_tanh")
            }
            Family::Opt => ("activation_function", "relu"),
            Family::Phi => ("hidden_act", "gelu_new"),
            _ => ("hidden_act", "silu"),
        };
        match keys.text(name)?.unwrap_or(default) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            _ => Err(keys.unsupported(name, "silu, gelu_new, gelu_pytorch_tanh, relu")),
        }
    }

    fn rope(&self, head_dim: usize, layers: usize) -> Result<RopeSettings, ModelError> {
        let keys = self.keys;
        match self.family {
            Family::Gemma3 => RopeSettings::gemma(keys, head_dim, self.windows(layers)?),
            Family::Phi => RopeSettings::global(keys, head_dim, 0.5, layers),
            _ => RopeSettings::global(keys, head_dim, 1.0, layers),
        }
    }

    /// The window of each layer of Gemma 3: from `layer_types`, or every sixth attends to all.
    fn windows(&self, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
        let keys = self.keys;
        let window = keys.size_or("sliding_window", 4096)?;
        let Some(types) = keys.list("layer_types")? else {
            let pattern =
                keys.size("sliding_window_pattern")?.or(keys.size("_sliding_window_pattern")?);
            let pattern = pattern.unwrap_or(6);
            let local = |layer: usize| !(layer + 1).is_multiple_of(pattern);
            return Ok((0..layers).map(|layer| local(layer).then_some(window)).collect());
        };
        if types.len() != layers {
            return Err(keys.bad("layer_types", "has not one entry for each layer"));
        }
        let kind = |found: &Value| match found.as_str() {
            Some("sliding_attention") => Ok(Some(window)),
            Some("full_attention") => Ok(None),
            _ => Err(keys.unsupported("layer_types", "full_attention, sliding_attention")),
        };
        types.iter().map(kind).collect()
    }

    /// Known keys with a value that asks for other arithmetic.
    fn refuse_known(&self) -> Result<(), ModelError> {
        let keys = self.keys;
        match self.family {
            Family::Phi => keys.only("qk_layernorm", false),
            Family::Qwen2 | Family::Qwen3 => {
                keys.only("use_sliding_window", false)?;
                self.refuse_local_layers()
            }
            Family::Llama => self.refuse_local_layers(),
            Family::Gemma3 => keys.only("use_bidirectional_attention", false),
            Family::Opt => {
                keys.only("do_layer_norm_before", true)?;
                keys.only("layer_norm_elementwise_affine", true)?;
                keys.only("_remove_final_layer_norm", false)?;
                let hidden = keys.need_size("hidden_size")?;
                if keys.size_or("word_embed_proj_dim", hidden)? != hidden {
                    return Err(keys.unsupported("word_embed_proj_dim", "the value of hidden_size"));
                }
                Ok(())
            }
        }
    }

    fn refuse_local_layers(&self) -> Result<(), ModelError> {
        let types = self.keys.list("layer_types")?.map(Vec::as_slice).unwrap_or_default();
        if types.iter().all(|found| found.as_str() == Some("full_attention")) {
            return Ok(());
        }
        Err(self.keys.unsupported("layer_types", "full_attention"))
    }

    /// The keys that are read here, those with a name that sounds like arithmetic.
    fn known_keys(&self) -> Vec<&'static str> {
        const ALL: &[&str] = &[
            "num_attention_heads",
            "num_hidden_layers",
            "max_position_embeddings",
            "tie_word_embeddings",
        ];
        const ROTATED: &[&str] = &[
            "hidden_act",
            "num_key_value_heads",
            "rope_theta",
            "rope_scaling",
            "rope_parameters",
            "original_max_position_embeddings",
            "head_dim",
        ];
        let own: &[&str] = match self.family {
            Family::Llama => &["rms_norm_eps", "attention_bias", "mlp_bias", "layer_types"],
            Family::Phi => &["layer_norm_eps", "partial_rotary_factor", "qk_layernorm"],
            Family::Qwen2 => {
                &["rms_norm_eps", "layer_types", "sliding_window", "use_sliding_window"]
            }
            Family::Qwen3 => &[
                "rms_norm_eps",
                "layer_types",
                "sliding_window",
                "use_sliding_window",
                "attention_bias",
            ],
            Family::Gemma3 => &[
                "rms_norm_eps",
                "attention_bias",
                "hidden_activation",
                "layer_types",
                "query_pre_attn_scalar",
                "rope_local_base_freq",
                "sliding_window",
                "sliding_window_pattern",
                "_sliding_window_pattern",
                "use_bidirectional_attention",
            ],
            Family::Opt => &[
                "activation_function",
                "do_layer_norm_before",
                "enable_bias",
                "layer_norm_elementwise_affine",
                "_remove_final_layer_norm",
                "word_embed_proj_dim",
            ],
        };
        let rotated = if self.family == Family::Opt { &[] } else { ROTATED };
        [ALL, rotated, own].concat()
    }
}

/// Whether MobiLlama's modelling code goes with a directory. Other code may compute anything, unless
/// it is the copy of the family's own that older files came with.
fn is_mobillama(outer: Keys<'_>, model_type: &str) -> Result<bool, ModelError> {
    let Some(map) = outer.object("auto_map")? else { return Ok(false) };
    let all = |part: &str| {
        map.values().all(|v| v.as_str().is_some_and(|v| v.to_ascii_lowercase().contains(part)))
    };
    let mobillama = model_type == "llama" && all("mobillama");
    if mobillama || all(&format!("_{model_type}.")) {
        return Ok(mobillama);
    }
    Err(outer.unsupported("auto_map", "modelling_mobillama, or no code of its own"))
}
