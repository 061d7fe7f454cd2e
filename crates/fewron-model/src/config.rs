//! What a model is made of, read from its file. The only place that knows architecture names.

use crate::error::ModelError;
use crate::gguf::Gguf;
use fewron_kernels::Activation;
use serde::Serialize;

/// Which elements of a head RoPE rotates together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RopePairs {
    /// Neighbours (2i, 2i + 1): `llama` GGUF files.
    Neighbours,
    /// Halves (i, i + d/2): Gemma, Hugging Face files.
    #[default]
    Halves,
}

/// How a residual stream is normalised before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// x / √(mean x² + ε) · w (arXiv 1910.07467).
    Rms,
    /// (x − mean) / √(variance + ε) · w + b (arXiv 1607.06450).
    Layer,
}

/// How attention and MLP hang on the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// The MLP reads what attention has written.
    Sequential,
    /// Both read the same normalised input, and their outputs are added together (Phi).
    Parallel,
}

/// Which matrices have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Biases {
    /// Query, key and value projections.
    pub qkv: bool,
    /// Output projection of attention.
    pub attention_output: bool,
    /// All matrices of the MLP.
    pub mlp: bool,
    /// Output head.
    pub head: bool,
}

/// Attention of one layer, where layers differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LayerConfig {
    /// RoPE base.
    pub rope_theta: f32,
    /// Factor on positions: 1 / linear scaling factor.
    pub rope_scale: f32,
    /// Sliding window in tokens, the current one counted; `None` attends to everything.
    pub window: Option<usize>,
}

/// Shape and wiring of a model: a value, not a type for each family.
///
/// One block. Sequential residual stream:
/// ```text
/// x ─┬─ norm ─ attention ─ [post-norm] ─(+)─┬─ norm ─ MLP ─ [post-norm] ─(+)─
///    └──────────────────────────────────────┘└──────────────────────────────┘
/// ```
/// Parallel residual stream:
/// ```text
/// x ─┬─ norm ─┬─ attention ─(+)─(+)─
///    │        └─ MLP ────────┘   │
///    └───────────────────────────┘
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    /// Architecture as the file names it.
    pub arch: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of a head that RoPE rotates; 0 for none.
    pub rope_dim: usize,
    /// Learned positions are added to the embeddings; the row of position 0 is this one (OPT: 2).
    pub learned_positions: Option<usize>,
    /// Divisors of the RoPE frequencies, one for each rotated pair (Llama 3), where the configuration
    /// gives them; GGUF files have a tensor for them.
    pub rope_factors: Option<Vec<f32>>,
    /// How RoPE pairs elements.
    pub rope_pairs: RopePairs,
    /// MLP neurons of a layer.
    pub intermediate: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Longest context in tokens.
    pub context: usize,
    /// Norms of the residual stream.
    pub norm: NormKind,
    /// ε of the norms.
    pub norm_eps: f32,
    /// Wiring of the block.
    pub residual: Residual,
    /// Whether the MLP has a gate: act(gate) · up; else act(up).
    pub gated: bool,
    /// Whether one MLP serves all layers (MobiLlama): found by its weights when a model is loaded.
    pub shared_mlp: bool,
    /// Which matrices have biases.
    pub biases: Biases,
    /// Whether the output head is a matrix of its own, not the embeddings.
    pub untied_head: bool,
    /// Activation function of the MLP.
    #[serde(serialize_with = "activation_name")]
    pub activation: Activation,
    /// Factor on embeddings.
    pub embedding_scale: f32,
    /// Factor on attention scores.
    pub attention_scale: f32,
    /// RMS norm of queries and keys, head by head.
    pub qk_norm: bool,
    /// RMS norm of the outputs of attention and MLP before they join the residual stream.
    pub post_norm: bool,
    /// One entry for each layer.
    pub layers: Vec<LayerConfig>,
}

fn activation_name<S: serde::Serializer>(a: &Activation, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(match a {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_tanh",
        Activation::Relu => "relu",
    })
}

/// Architectures that GGUF files may name.
const ARCHITECTURES: &str = "llama, gemma3, phi2, qwen2, qwen3";

impl ModelConfig {
    /// Reads the configuration from a GGUF file's metadata.
    ///
    /// # Errors
    /// An unknown architecture, a missing key, or a key that asks for arithmetic fewron does not
    /// have: all name the key.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let keys = Keys::new(gguf)?;
        let arch = keys.arch.as_str();
        if !ARCHITECTURES.split(", ").any(|known| known == arch) {
            return Err(ModelError::Unsupported {
                key: "general.architecture".into(),
                value: arch.into(),
                supported: ARCHITECTURES.into(),
            });
        }
        let (gemma, phi) = (arch == "gemma3", arch == "phi2");
        keys.refuse_unknown_arithmetic()?;
        let (hidden, heads) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
        let kv_heads = keys.size_or("attention.head_count_kv", heads)?;
        let head_dim = keys.size_or("attention.key_length", hidden / heads)?;
        if keys.size_or("attention.value_length", head_dim)? != head_dim {
            return Err(keys.bad("attention.value_length", "differs from attention.key_length"));
        }
        if kv_heads > heads || heads % kv_heads != 0 {
            return Err(keys.bad("attention.head_count_kv", "does not divide attention.head_count"));
        }
        let rope_dim = keys.size_or("rope.dimension_count", head_dim)?;
        if rope_dim > head_dim || rope_dim % 2 != 0 {
            return Err(keys.bad("rope.dimension_count", "is odd or more than the head's size"));
        }
        let eps =
            if phi { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
        let score_width = if gemma {
            gemma3_score_width(keys.block_count()?, hidden, heads, head_dim)
        } else {
            head_dim
        };
        let has = |tensor: &str| gguf.tensor_info(tensor).is_some();
        Ok(Self {
            hidden,
            heads,
            kv_heads,
            head_dim,
            rope_dim,
            rope_factors: None,
            learned_positions: None,
            rope_pairs: if arch == "llama" { RopePairs::Neighbours } else { RopePairs::Halves },
            intermediate: keys.size("feed_forward_length")?,
            vocab: keys.vocab()?,
            context: keys.size("context_length")?,
            norm: if phi { NormKind::Layer } else { NormKind::Rms },
            norm_eps: keys.float(eps)?,
            residual: if phi { Residual::Parallel } else { Residual::Sequential },
            gated: !phi,
            shared_mlp: false,
            biases: Biases {
                qkv: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
                attention_output: has("blk.0.attn_output.bias"),
                mlp: has("blk.0.ffn_up.bias"),
                head: has("output.bias"),
            },
            untied_head: has("output.weight"),
            activation: if gemma || phi { Activation::GeluTanh } else { Activation::Silu },
            embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
            attention_scale: (1.0 / (score_width as f64).sqrt()) as f32,
            qk_norm: gemma || arch == "qwen3",
            post_norm: gemma,
            layers: if gemma { keys.gemma_layers()? } else { keys.global_layers()? },
            arch: keys.arch,
        })
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// What attention scores of Gemma 3 are divided by the root of (`query_pre_attn_scalar`). GGUF files
/// have no key for it: readers know the 27B model by its 62 layers (llama.cpp `gemma3.cpp`).
pub(crate) fn gemma3_score_width(
    layers: usize,
    hidden: usize,
    heads: usize,
    head_dim: usize,
) -> usize {
    if layers == 62 { hidden / heads } else { head_dim }
}

/// Metadata of a GGUF file under its architecture's prefix.
struct Keys<'a> {
    gguf: &'a Gguf,
    arch: String,
}

/// Keys under the architecture's prefix that fewron reads or that do not change the arithmetic.
const KNOWN_KEYS: &[&str] = &[
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "use_parallel_residual",
];

impl<'a> Keys<'a> {
    fn new(gguf: &'a Gguf) -> Result<Self, ModelError> {
        let arch = gguf.metadata().str("general.architecture")?.to_owned();
        Ok(Self { gguf, arch })
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn bad(&self, name: &str, problem: &str) -> ModelError {
        ModelError::BadKey { key: self.key(name), problem: problem.into() }
    }

    fn has(&self, name: &str) -> bool {
        self.gguf.metadata().contains(&self.key(name))
    }

    /// A positive size with a sane bound, so that products of two sizes cannot overflow.
    fn size(&self, name: &str) -> Result<usize, ModelError> {
        match self.gguf.metadata().u32(&self.key(name))? {
            0 => Err(self.bad(name, "is zero")),
            value if value > 1 << 28 => Err(self.bad(name, "is absurdly large")),
            value => Ok(value as usize),
        }
    }

    fn size_or(&self, name: &str, default: usize) -> Result<usize, ModelError> {
        if self.has(name) { self.size(name) } else { Ok(default) }
    }

    fn float(&self, name: &str) -> Result<f32, ModelError> {
        let value = self.gguf.metadata().f32(&self.key(name))?;
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(self.bad(name, "is not a positive number"))
        }
    }

    fn float_or(&self, name: &str, default: f32) -> Result<f32, ModelError> {
        if self.has(name) { self.float(name) } else { Ok(default) }
    }

    fn vocab(&self) -> Result<usize, ModelError> {
        match self.gguf.find_tensor("token_embd.weight")? {
            Some(embedding) => Ok(embedding.rows()),
            None => Err(ModelError::MissingTensor { tensor: "token_embd.weight".into() }),
        }
    }

    /// A key under the architecture's prefix that fewron does not know may change the arithmetic.
    fn refuse_unknown_arithmetic(&self) -> Result<(), ModelError> {
        let prefix = format!("{}.", self.arch);
        for key in self.gguf.metadata().keys() {
            if let Some(name) = key.strip_prefix(&prefix)
                && !KNOWN_KEYS.contains(&name)
            {
                return Err(ModelError::UnknownKey { key: key.to_owned() });
            }
        }
        Ok(())
    }

    fn block_count(&self) -> Result<usize, ModelError> {
        let count = self.size("block_count")?;
        // A block has nine tensors at least, so the file's own count bounds it.
        if count > self.gguf.tensors().len() {
            return Err(self.bad("block_count", "is more than the file has tensors"));
        }
        Ok(count)
    }

    fn rope_scale(&self) -> Result<f32, ModelError> {
        let kind = if self.has("rope.scaling.type") {
            self.gguf.metadata().str(&self.key("rope.scaling.type"))?
        } else {
            "none"
        };
        match kind {
            "none" => Ok(1.0),
            "linear" => Ok(1.0 / self.float("rope.scaling.factor")?),
            other => Err(ModelError::Unsupported {
                key: self.key("rope.scaling.type"),
                value: other.into(),
                supported: "none, linear".into(),
            }),
        }
    }

    /// Layers that attend to everything.
    fn global_layers(&self) -> Result<Vec<LayerConfig>, ModelError> {
        if self.has("attention.sliding_window") {
            return Err(ModelError::UnknownKey { key: self.key("attention.sliding_window") });
        }
        let layer = LayerConfig {
            rope_theta: self.float_or("rope.freq_base", 10_000.0)?,
            rope_scale: self.rope_scale()?,
            window: None,
        };
        Ok(vec![layer; self.block_count()?])
    }

    /// Gemma 3: five local layers with a sliding window, then a global one (technical report,
    /// section 2), or global ones only in files without a window. Linear RoPE scaling applies to the
    /// global layers alone.
    fn gemma_layers(&self) -> Result<Vec<LayerConfig>, ModelError> {
        let windows = self.has("attention.sliding_window");
        let pattern =
            if windows { self.size_or("attention.sliding_window_pattern", 6)? } else { 1 };
        let global = LayerConfig {
            rope_theta: self.float_or("rope.freq_base", 1e6)?,
            rope_scale: self.rope_scale()?,
            window: None,
        };
        let local = LayerConfig {
            rope_theta: self.float_or("rope.freq_base_swa", 1e4)?,
            rope_scale: 1.0,
            window: windows.then(|| self.size("attention.sliding_window")).transpose()?,
        };
        let kind = |layer: usize| if (layer + 1).is_multiple_of(pattern) { global } else { local };
        Ok((0..self.block_count()?).map(kind).collect())
    }
}
