//! Tensor names: those of GGUF files, by which a model is loaded, to those of Hugging Face files.

use super::config::Family;

/// How the files of one directory name their tensors.
#[derive(Clone, Debug)]
pub(super) struct Names {
    family: Family,
    tied: bool,
    /// Before `embed_tokens` and `layers`.
    prefix: &'static str,
    head: &'static str,
    /// The layer whose MLP serves all.
    mlp_layer: Option<usize>,
}

/// Prefixes under which models are found, the present one of a family first.
fn prefixes(family: Family, nested: bool) -> &'static [&'static str] {
    match (family, nested) {
        (Family::Opt, _) => &["model.decoder.", "decoder."],
        (_, true) => &["model.language_model.", "language_model.model."],
        (_, false) => &["model.", ""],
    }
}

/// Names of tensors that files carry along and that are no weights: tables of positions and masks.
const BUFFERS: [&str; 3] = ["rotary_emb.inv_freq", "self_attn.bias", "self_attn.masked_bias"];

/// Parts of models for images too, which text does not use.
const IMAGE_PARTS: [&str; 2] = ["vision_tower.", "multi_modal_projector."];

impl Names {
    /// Finds out which prefix the files use and whether all but one layer lack an MLP.
    pub(super) fn new<'a>(
        family: Family,
        nested: bool,
        tied: bool,
        layers: usize,
        tensors: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        let has = |name: String| tensors.clone().any(|tensor| tensor == name);
        let prefixes = prefixes(family, nested);
        let used = prefixes.iter().find(|prefix| has(format!("{prefix}embed_tokens.weight")));
        let head = if nested && has("language_model.lm_head.weight".into()) {
            "language_model.lm_head"
        } else {
            "lm_head"
        };
        let prefix = used.unwrap_or(&prefixes[0]);
        let mlp_layer =
            if family == Family::Llama { only_mlp(prefix, layers, tensors) } else { None };
        Names { family, tied, prefix, head, mlp_layer }
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// Whether one layer's MLP serves all.
    pub(super) fn shared_mlp(&self) -> bool {
        self.mlp_layer.is_some()
    }

    /// The name in the files, or `None` for a tensor that the family does not have.
    pub(super) fn in_files(&self, name: &str) -> Option<String> {
        let (stem, kind) =
            name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))?;
        let prefix = self.prefix;
        if let Some(block) = stem.strip_prefix("blk.") {
            let (layer, part) = block.split_once('.')?;
            let layer: usize = layer.parse().ok()?;
            let part = self.layer_part(part)?;
            let layer = self.mlp_layer.filter(|_| part.starts_with("mlp.")).unwrap_or(layer);
            return Some(format!("{prefix}layers.{layer}.{part}.{kind}"));
        }
        let stem = match stem {
            "output" if self.tied => return None,
            "output" => return Some(format!("{}.{kind}", self.head)),
            "token_embd" => "embed_tokens",
            "position_embd" if self.family == Family::Opt => "embed_positions",
            "output_norm" => match self.family {
                Family::Phi => "final_layernorm",
                Family::Opt => "final_layer_norm",
                _ => "norm",
            },
            _ => return None,
        };
        Some(format!("{prefix}{stem}.{kind}"))
    }

    fn layer_part(&self, part: &str) -> Option<&'static str> {
        use Family::{Gemma3, Opt, Phi, Qwen3};
        Some(match (part, self.family) {
            ("attn_q", _) => "self_attn.q_proj",
            ("attn_k", _) => "self_attn.k_proj",
            ("attn_v", _) => "self_attn.v_proj",
            ("attn_output", Phi) => "self_attn.dense",
            ("attn_output", Opt) => "self_attn.out_proj",
            ("attn_output", _) => "self_attn.o_proj",
            ("attn_norm", Opt) => "self_attn_layer_norm",
            ("attn_norm", _) => "input_layernorm",
            ("attn_q_norm", Qwen3 | Gemma3) => "self_attn.q_norm",
            ("attn_k_norm", Qwen3 | Gemma3) => "self_attn.k_norm",
            ("post_attention_norm", Gemma3) => "post_attention_layernorm",
            ("post_ffw_norm", Gemma3) => "post_feedforward_layernorm",
            ("ffn_norm", Gemma3) => "pre_feedforward_layernorm",
            ("ffn_norm", Opt) => "final_layer_norm",
            ("ffn_norm", Phi) => return None,
            ("ffn_norm", _) => "post_attention_layernorm",
            ("ffn_up", Phi) => "mlp.fc1",
            ("ffn_down", Phi) => "mlp.fc2",
            ("ffn_up", Opt) => "fc1",
            ("ffn_down", Opt) => "fc2",
            ("ffn_gate", Phi | Opt) => return None,
            ("ffn_gate", _) => "mlp.gate_proj",
            ("ffn_up", _) => "mlp.up_proj",
            ("ffn_down", _) => "mlp.down_proj",
            _ => return None,
        })
    }

    /// Whether a tensor of the files is none of the language model's weights: buffers, a copy of the
    /// embeddings as a tied head, parts for images.
    pub(super) fn is_ignored(&self, name: &str) -> bool {
        let image = || {
            let name = name.strip_prefix("model.").unwrap_or(name);
            self.prefix.contains("language_model")
                && IMAGE_PARTS.iter().any(|part| name.starts_with(part))
        };
        let tied_head = || self.tied && name.strip_suffix(".weight") == Some(self.head);
        BUFFERS.iter().any(|buffer| name.ends_with(buffer)) || tied_head() || image()
    }
}

/// The only one of several layers that has an MLP.
fn only_mlp<'a>(
    prefix: &str,
    layers: usize,
    tensors: impl Iterator<Item = &'a str>,
) -> Option<usize> {
    let layer = |name: &'a str| -> Option<usize> {
        let (layer, part) = name.strip_prefix(prefix)?.strip_prefix("layers.")?.split_once('.')?;
        part.starts_with("mlp.").then(|| layer.parse().ok())?
    };
    let mut with_mlp = tensors.filter_map(layer);
    let first = with_mlp.next()?;
    (layers > 1 && with_mlp.all(|layer| layer == first)).then_some(first)
}
