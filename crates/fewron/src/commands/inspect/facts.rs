//! The facts of a model, as JSON has them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use fewron_model::{BytesPerToken, ModelConfig, Source};
use fewron_sparsity::plan::record::PlanRecord;
use serde::Serialize;

use crate::loaded::Loaded;
use crate::mask::{gate_bytes, read_plan_record};

#[derive(Serialize)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) size_bytes: usize,
    pub(super) sha256: String,
    pub(super) format: Format,
    /// Of a GGUF file.
    pub(super) gguf_version: Option<u32>,
    pub(super) weight_files: usize,
    pub(super) architecture: String,
    pub(super) parameters: u64,
    /// Tensors by element type.
    pub(super) types: BTreeMap<String, usize>,
    pub(super) layers: usize,
    pub(super) neurons_per_layer: usize,
    /// MLP neurons of all layers.
    pub(super) neurons: usize,
    /// Attention heads of all layers.
    pub(super) heads: usize,
    pub(super) config: ModelConfig,
    pub(super) tokenizer: TokenizerFacts,
    pub(super) bytes_per_token: Bytes,
    pub(super) most_sparsity_can_give: Gain,
    /// Path of the plan beside the file.
    pub(super) plan: Option<PathBuf>,
    /// What that plan says about itself.
    pub(super) plan_record: Option<PlanRecord>,
    /// Why that plan cannot be used.
    pub(super) plan_problem: Option<String>,
}

/// What the model was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    Gguf,
    HuggingFace,
}

#[derive(Serialize)]
pub(super) struct TokenizerFacts {
    pub(super) kind: String,
    pub(super) tokens: usize,
    pub(super) bos: Option<Token>,
    pub(super) eos: Option<Token>,
    pub(super) eot: Option<Token>,
    /// Every token that ends an answer.
    pub(super) ends: Vec<Token>,
    /// Whether prompts start with BOS.
    pub(super) add_bos: bool,
    pub(super) chat_template: bool,
    /// Why the chat template that is there cannot be used.
    pub(super) chat_template_problem: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Token {
    pub(super) id: u32,
    pub(super) text: String,
}

#[derive(Serialize)]
pub(super) struct Bytes {
    #[serde(flatten)]
    pub(super) parts: BytesPerToken,
    pub(super) total: usize,
    /// Of the MLP: the gate projections, which the gate policy always reads.
    pub(super) gate: usize,
}

/// Upper bounds, if reading weights were all that takes time.
#[derive(Serialize)]
pub(super) struct Gain {
    /// MLP's share of the bytes of a token, 0..1.
    pub(super) mlp_share: f64,
    /// Speed over dense with no MLP weight read at all.
    pub(super) speedup_without_mlp: f64,
    /// Speed over dense with the gate policy at sparsity 0.5; an MLP without a gate has none.
    pub(super) speedup_gate_half: Option<f64>,
}

impl Facts {
    pub(super) fn of(loaded: &Loaded) -> Result<Self> {
        let model = &loaded.model;
        let config = model.config();
        let mut types = BTreeMap::new();
        let mut count = |name: String| *types.entry(name).or_default() += 1;
        let (format, gguf_version, weight_files, size_bytes) = match model.source() {
            Source::Gguf(gguf) => {
                gguf.tensors().for_each(|tensor| count(tensor.type_name()));
                (Format::Gguf, Some(gguf.version()), 1, gguf.len_bytes())
            }
            Source::HuggingFace(folder) => {
                folder.tensors().for_each(|(_, dtype, _)| count(dtype.to_owned()));
                let files = folder.weight_files().count();
                (Format::HuggingFace, None, files, folder.len_bytes() as usize)
            }
        };
        let (plan, plan_record, plan_problem) = plan_beside(loaded)?;
        let parts = model.bytes_per_token();
        let bytes = Bytes { parts, total: parts.total(), gate: gate_bytes(loaded) };
        Ok(Self {
            name: loaded.file.name.clone(),
            path: loaded.file.path.clone(),
            size_bytes,
            sha256: loaded.sha256()?,
            format,
            gguf_version,
            weight_files,
            architecture: config.arch.clone(),
            parameters: model.parameters(),
            types,
            layers: config.layers.len(),
            neurons_per_layer: config.intermediate,
            neurons: config.layers.len() * config.intermediate,
            heads: config.layers.len() * config.heads,
            config: config.clone(),
            tokenizer: TokenizerFacts::of(loaded),
            most_sparsity_can_give: Gain::of(&bytes, config.gated),
            bytes_per_token: bytes,
            plan,
            plan_record,
            plan_problem,
        })
    }
}

/// The plan beside a model, what it says about itself, and what is wrong with it.
fn plan_beside(loaded: &Loaded) -> Result<(Option<PathBuf>, Option<PlanRecord>, Option<String>)> {
    let path = loaded.file.plan_beside();
    if !path.exists() {
        return Ok((None, None, None));
    }
    let (record, problem) = match read_plan_record(&path) {
        Ok(record) if record.model.sha256 == loaded.sha256()? => (Some(record), None),
        Ok(record) => {
            let problem = "it was made for another model; `fewron calibrate` makes a new one";
            (Some(record), Some(problem.to_owned()))
        }
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Ok((Some(path), record, problem))
}

impl TokenizerFacts {
    fn of(loaded: &Loaded) -> Self {
        let t = &loaded.tokenizer;
        let token = |id: u32| Token { id, text: t.token_text(id).unwrap_or_default().to_owned() };
        Self {
            kind: t.kind(),
            tokens: t.vocab_size(),
            bos: t.bos().map(token),
            eos: t.eos().map(token),
            eot: t.eot().map(token),
            ends: (0..t.vocab_size() as u32).filter(|&id| t.is_end(id)).map(token).collect(),
            add_bos: t.add_bos(),
            chat_template: loaded.chat.is_some(),
            chat_template_problem: loaded.chat_problem.clone(),
        }
    }
}

impl Gain {
    fn of(bytes: &Bytes, gated: bool) -> Self {
        let (total, mlp) = (bytes.total as f64, bytes.parts.mlp as f64);
        let skippable = mlp - bytes.gate as f64;
        Self {
            mlp_share: mlp / total,
            speedup_without_mlp: total / (total - mlp),
            speedup_gate_half: gated.then(|| total / (total - 0.5 * skippable)),
        }
    }
}
