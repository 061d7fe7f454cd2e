//! A loaded model: configuration and weights, immutable and shared.

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::rope::{Rope, RopeKind};
use fewron_kernels::{DType, Isa, Layout, Matrix, Memory, NeuronMajor, Packed, Pool, Weights};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// A weight matrix: quantised ones are packed into memory, float ones stay in the mapped file.
#[derive(Clone)]
pub(crate) struct Weight {
    dtype: DType,
    rows: usize,
    cols: usize,
    bytes: Range<usize>,
    packed: Option<Arc<Packed>>,
}

impl Weight {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The 8-bit form of inputs that products need, if any.
    pub(crate) fn layout(&self) -> Option<Layout> {
        self.packed.as_ref().map(|packed| packed.layout())
    }

    fn len_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Weights of one block.
pub(crate) struct Layer {
    /// Index of its rotation among [`Model::ropes`].
    pub(crate) rope: usize,
    pub(crate) attn_norm: Vec<f32>,
    pub(crate) q_proj: Weight,
    pub(crate) k_proj: Weight,
    pub(crate) v_proj: Weight,
    /// By element of the heads' outputs, so that a head that is off is not read.
    pub(crate) o_proj: NeuronMajor,
    o_bytes: usize,
    pub(crate) q_norm: Option<Vec<f32>>,
    pub(crate) k_norm: Option<Vec<f32>>,
    pub(crate) attn_post_norm: Option<Vec<f32>>,
    pub(crate) mlp_norm: Vec<f32>,
    pub(crate) gate_proj: Weight,
    pub(crate) up_proj: Weight,
    pub(crate) down_proj: NeuronMajor,
    down_bytes: usize,
    pub(crate) mlp_post_norm: Option<Vec<f32>>,
}

/// A model's configuration and weights. Immutable; a [`crate::Session`] runs it.
pub struct Model {
    config: ModelConfig,
    gguf: Gguf,
    isa: Isa,
    pub(crate) embedding: Weight,
    pub(crate) output: Weight,
    pub(crate) output_norm: Vec<f32>,
    rope_kinds: Vec<RopeKind>,
    pub(crate) layers: Vec<Layer>,
    parameters: u64,
}

/// Bytes of weights that one decoded token reads when everything runs dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BytesPerToken {
    /// Query, key, value and output projections of all layers.
    pub attention: usize,
    /// Gate, up and down projections of all layers.
    pub mlp: usize,
    /// Output head.
    pub head: usize,
}

/// Bytes of a layer's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LayerBytes {
    /// Query projection.
    pub query: usize,
    /// Key and value projections.
    pub key_value: usize,
    /// Output projection of attention.
    pub output: usize,
    /// Gate projection.
    pub gate: usize,
    /// Up projection.
    pub up: usize,
    /// Down projection.
    pub down: usize,
}

impl LayerBytes {
    /// All of them.
    pub fn total(&self) -> usize {
        self.query + self.key_value + self.output + self.gate + self.up + self.down
    }
}

impl BytesPerToken {
    /// All of it.
    pub fn total(&self) -> usize {
        self.attention + self.mlp + self.head
    }
}

impl Model {
    /// Loads a model from its GGUF file. Quantised matrices are packed into memory for the kernels,
    /// without loss and with about the size they have in the file, whose pages are then given back.
    ///
    /// # Errors
    /// When the architecture is unknown, a tensor is missing, unreadable or of the wrong shape, or the
    /// environment variable `FEWRON_ISA` names an instruction set that this processor lacks.
    pub fn from_gguf(gguf: Gguf) -> Result<Self, ModelError> {
        Self::with_isa(gguf, Isa::from_env()?)
    }

    /// As [`Self::from_gguf`], with the kernels of a given instruction set.
    ///
    /// # Errors
    /// As [`Self::from_gguf`].
    pub fn with_isa(gguf: Gguf, isa: Isa) -> Result<Self, ModelError> {
        let config = ModelConfig::from_gguf(&gguf)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Pool::new(threads);
        let mut loader = Loader {
            gguf: &gguf,
            isa,
            pool: &pool,
            memory: Memory::default(),
            used: HashSet::new(),
        };
        let (vocab, hidden) = (config.vocab, config.hidden);
        let (embedding, output) = if gguf.tensor_info("output.weight").is_some() {
            // Only rows of it are looked up: it stays in the file.
            let embedding = loader.view("token_embd.weight", &[hidden, vocab])?;
            (embedding, loader.head("output.weight", vocab, hidden)?)
        } else {
            let tied = loader.head("token_embd.weight", vocab, hidden)?;
            (tied.clone(), tied)
        };
        let output_norm = loader.vector("output_norm.weight", config.hidden)?;
        // Divisors of the RoPE frequencies (Llama 3), one for each rotated pair.
        let rope_factors = match gguf.tensor_info("rope_freqs.weight") {
            Some(_) => Some(loader.vector("rope_freqs.weight", config.rope_dim / 2)?),
            None => None,
        };
        let mut rope_kinds: Vec<RopeKind> = Vec::new();
        let mut layers = Vec::new();
        for (index, layer) in config.layers.iter().enumerate() {
            let kind = RopeKind::new(&config, layer, rope_factors.as_deref());
            let rope = rope_kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                rope_kinds.push(kind);
                rope_kinds.len() - 1
            });
            layers.push(loader.layer(index, rope, &config)?);
        }
        let used = loader.used;
        if let Some(extra) = gguf.tensors().find(|t| !used.contains(&t.name)) {
            return Err(ModelError::UnknownTensor { tensor: extra.name.clone() });
        }
        let parameters = gguf.tensors().map(|t| t.shape.iter().product::<usize>() as u64).sum();
        Ok(Self {
            config,
            isa,
            embedding,
            output,
            output_norm,
            rope_kinds,
            layers,
            parameters,
            gguf,
        })
    }

    /// Shape and wiring.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Weight bytes that a dense token reads, as the file stores them.
    pub fn bytes_per_token(&self) -> BytesPerToken {
        let layers = (0..self.layers.len()).map(|layer| self.layer_bytes(layer));
        let (attention, mlp) = layers.fold((0, 0), |(attention, mlp), l| {
            (attention + l.query + l.key_value + l.output, mlp + l.gate + l.up + l.down)
        });
        BytesPerToken { attention, mlp, head: self.output.len_bytes() }
    }

    /// The output head, if its low bits are kept apart.
    pub(crate) fn split_head(&self) -> Option<&Packed> {
        self.output.packed.as_deref().filter(|packed| packed.high_bytes().is_some())
    }

    /// Bytes of the output head that [`crate::Logits::Shortlist`] leaves unread, but for the few rows
    /// that it computes exactly.
    pub fn shortlist_spares(&self) -> usize {
        let high = self.split_head().and_then(Packed::high_bytes);
        high.map_or(0, |high| self.output.len_bytes().saturating_sub(high))
    }

    /// Bytes of a layer's matrices, as the file stores them.
    pub fn layer_bytes(&self, layer: usize) -> LayerBytes {
        let l = &self.layers[layer];
        LayerBytes {
            query: l.q_proj.len_bytes(),
            key_value: l.k_proj.len_bytes() + l.v_proj.len_bytes(),
            output: l.o_bytes,
            gate: l.gate_proj.len_bytes(),
            up: l.up_proj.len_bytes(),
            down: l.down_bytes,
        }
    }

    /// The down projection of a layer, by neuron.
    pub fn down_proj(&self, layer: usize) -> &NeuronMajor {
        &self.layers[layer].down_proj
    }

    /// Rotations of a batch's positions, one for each kind: see [`Layer::rope`].
    pub(crate) fn ropes(&self, positions: &[usize]) -> Vec<Rope> {
        self.rope_kinds.iter().map(|kind| Rope::new(&self.config, kind, positions)).collect()
    }

    pub(crate) fn weights<'a>(&'a self, weight: &'a Weight) -> Weights<'a> {
        match &weight.packed {
            Some(packed) => Weights::Packed(packed),
            None => Weights::File(view(&self.gguf, weight)),
        }
    }
}

/// A weight in the mapped file.
fn view<'a>(gguf: &'a Gguf, weight: &Weight) -> Matrix<'a> {
    Matrix::new(weight.dtype, weight.rows, weight.cols, &gguf.bytes()[weight.bytes.clone()])
        .expect("the reader checks a tensor's size against its shape")
}

struct Loader<'a> {
    gguf: &'a Gguf,
    isa: Isa,
    pool: &'a Pool,
    memory: Memory,
    used: HashSet<String>,
}

impl Loader<'_> {
    /// A matrix of `rows` outputs and `cols` inputs.
    fn weight(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight, ModelError> {
        let (isa, pool) = (self.isa, self.pool);
        self.packed(name, rows, cols, |memory, matrix| Packed::new(isa, pool, memory, matrix))
    }

    /// The output head: with its low bits apart where its type allows it.
    fn head(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight, ModelError> {
        let (isa, pool) = (self.isa, self.pool);
        self.packed(name, rows, cols, |memory, matrix| {
            Packed::split(isa, pool, memory, matrix)
                .unwrap_or_else(|| Packed::new(isa, pool, memory, matrix))
        })
    }

    fn packed(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        pack: impl FnOnce(&mut Memory, &Matrix) -> Packed,
    ) -> Result<Weight, ModelError> {
        let mut weight = self.view(name, &[cols, rows])?;
        if weight.dtype.is_quantized() {
            weight.packed = Some(Arc::new(pack(&mut self.memory, &view(self.gguf, &weight))));
            self.gguf.release(weight.bytes.clone());
        }
        Ok(weight)
    }

    fn view(&mut self, name: &str, shape: &[usize]) -> Result<Weight, ModelError> {
        let Some(tensor) = self.gguf.find_tensor(name)? else {
            return Err(ModelError::MissingTensor { tensor: name.into() });
        };
        if tensor.shape != shape {
            return Err(ModelError::Shape {
                tensor: name.into(),
                expected: shape.to_vec(),
                got: tensor.shape.to_vec(),
            });
        }
        self.used.insert(name.to_owned());
        let start = tensor.data.as_ptr() as usize - self.gguf.bytes().as_ptr() as usize;
        let (cols, rows) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let bytes = start..start + tensor.data.len();
        Ok(Weight { dtype: tensor.dtype, rows, cols, bytes, packed: None })
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let weight = self.view(name, &[len])?;
        let mut values = vec![0.0; len];
        view(self.gguf, &weight).dequantize_row(self.isa, 0, &mut values);
        Ok(values)
    }

    /// A matrix whose inputs may be off, of `rows` outputs and `cols` inputs; and its bytes in the
    /// file.
    fn by_input(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<(NeuronMajor, usize), ModelError> {
        let weight = self.view(name, &[cols, rows])?;
        let by_input = NeuronMajor::new(self.isa, &mut self.memory, &view(self.gguf, &weight));
        self.gguf.release(weight.bytes.clone());
        Ok((by_input, weight.len_bytes()))
    }

    fn layer(
        &mut self,
        index: usize,
        rope: usize,
        config: &ModelConfig,
    ) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        let (hidden, neurons) = (config.hidden, config.intermediate);
        let (query, kv) = (config.query_width(), config.kv_width());
        let (o_proj, o_bytes) = self.by_input(&name("attn_output"), hidden, query)?;
        let (down_proj, down_bytes) = self.by_input(&name("ffn_down"), hidden, neurons)?;
        let mut optional = |wanted: bool, part: &str, len: usize| {
            wanted.then(|| self.vector(&name(part), len)).transpose()
        };
        Ok(Layer {
            rope,
            q_norm: optional(config.qk_norm, "attn_q_norm", config.head_dim)?,
            k_norm: optional(config.qk_norm, "attn_k_norm", config.head_dim)?,
            attn_post_norm: optional(config.post_norm, "post_attention_norm", hidden)?,
            mlp_post_norm: optional(config.post_norm, "post_ffw_norm", hidden)?,
            attn_norm: self.vector(&name("attn_norm"), hidden)?,
            mlp_norm: self.vector(&name("ffn_norm"), hidden)?,
            q_proj: self.weight(&name("attn_q"), query, hidden)?,
            k_proj: self.weight(&name("attn_k"), kv, hidden)?,
            v_proj: self.weight(&name("attn_v"), kv, hidden)?,
            o_proj,
            o_bytes,
            gate_proj: self.weight(&name("ffn_gate"), neurons, hidden)?,
            up_proj: self.weight(&name("ffn_up"), neurons, hidden)?,
            down_proj,
            down_bytes,
        })
    }
}
