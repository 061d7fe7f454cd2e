//! A loaded model: configuration and weights, immutable and shared.

use crate::config::{ModelConfig, NormKind, Residual};
use crate::error::ModelError;
use crate::gguf::{Gguf, Recipe, encode};
use crate::norm::Norm;
use crate::rope::{Rope, RopeKind};
use crate::source::{Source, Tensor};
use fewron_kernels::{DType, Isa, Layout, Matrix, Memory, NeuronMajor, Packed, Pool, Weights};
use std::collections::HashSet;
use std::sync::Arc;

/// A weight matrix and its bias: quantised ones are packed into memory, float ones stay in the mapped
/// file.
#[derive(Clone)]
pub(crate) struct Weight {
    tensor: Tensor,
    rows: usize,
    cols: usize,
    /// As products read it.
    bytes: usize,
    packed: Option<Arc<Packed>>,
    pub(crate) bias: Option<Arc<[f32]>>,
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
        self.bytes
    }
}

/// A weight matrix by its inputs, so that inputs that are off are not read, and its bias.
pub(crate) struct ByInput {
    pub(crate) weights: NeuronMajor,
    pub(crate) bias: Option<Vec<f32>>,
    /// As products read it.
    bytes: usize,
}

/// Weights of an MLP.
pub(crate) struct Mlp {
    pub(crate) gate_proj: Option<Weight>,
    pub(crate) up_proj: Weight,
    pub(crate) down_proj: ByInput,
}

/// Weights of one block.
pub(crate) struct Layer {
    /// Index of its rotation among [`Model::ropes`].
    pub(crate) rope: usize,
    pub(crate) attn_norm: Norm,
    pub(crate) q_proj: Weight,
    pub(crate) k_proj: Weight,
    pub(crate) v_proj: Weight,
    pub(crate) o_proj: ByInput,
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
    pub(crate) attn_post_norm: Option<Norm>,
    /// None where the MLP reads what attention reads.
    pub(crate) mlp_norm: Option<Norm>,
    /// Layers may share one.
    pub(crate) mlp: Arc<Mlp>,
    pub(crate) mlp_post_norm: Option<Norm>,
}

impl Layer {
    /// The norm of the MLP's input.
    pub(crate) fn mlp_norm(&self) -> &Norm {
        self.mlp_norm.as_ref().unwrap_or(&self.attn_norm)
    }
}

/// A model's configuration and weights. Immutable; a [`crate::Session`] runs it.
pub struct Model {
    config: ModelConfig,
    source: Source,
    isa: Isa,
    pub(crate) embedding: Weight,
    /// Learned positions.
    pub(crate) positions: Option<Weight>,
    pub(crate) output: Weight,
    pub(crate) output_norm: Norm,
    rope_kinds: Vec<RopeKind>,
    pub(crate) layers: Vec<Layer>,
    parameters: u64,
}

/// Bytes of weights that one decoded token reads when everything runs dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BytesPerToken {
    /// Query, key, value and output projections of all layers.
    pub attention: usize,
    /// Gate, up and down projections of all layers; each layer reads its own, shared or not.
    pub mlp: usize,
    /// Of `mlp`: what lies in memory, less where layers share an MLP.
    pub mlp_in_memory: usize,
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
        self.query + self.key_value + self.output + self.mlp()
    }

    /// Those of the MLP.
    pub fn mlp(&self) -> usize {
        self.gate + self.up + self.down
    }
}

impl BytesPerToken {
    /// All of it.
    pub fn total(&self) -> usize {
        self.attention + self.mlp + self.head
    }
}

impl Model {
    /// Loads a model from its GGUF file: see [`Self::from_source`].
    ///
    /// # Errors
    /// As [`Self::from_source`].
    pub fn from_gguf(gguf: Gguf) -> Result<Self, ModelError> {
        Self::from_source(Source::Gguf(gguf))
    }

    /// Loads a model from its files. Quantised matrices are packed into memory for the kernels,
    /// without loss and with about the size they have in the file, whose pages are then given back.
    ///
    /// # Errors
    /// When the architecture is unknown, a tensor is missing, unreadable or of the wrong shape, or the
    /// environment variable `FEWRON_ISA` names an instruction set that this processor lacks.
    pub fn from_source(source: Source) -> Result<Self, ModelError> {
        Self::load(source, None, &mut |_, _| {})
    }

    /// As [`Self::from_source`], with float matrices quantised in memory as `recipe` says: as
    /// [`crate::gguf::NewFile`] would hold them, but for rows that fit no quantised type, which stay
    /// as they are, and the embeddings of a model with a head of its own, which stay in the file.
    ///
    /// # Errors
    /// As [`Self::from_source`], and when a weight is no finite number.
    pub fn quantized(source: Source, recipe: Recipe) -> Result<Self, ModelError> {
        Self::load(source, Some(recipe), &mut |_, _| {})
    }

    /// Loads a model, with float matrices as they are or as [`Self::quantized`]; `progress` is told how
    /// many of how many parts of about the same size are done.
    ///
    /// # Errors
    /// As [`Self::quantized`].
    pub fn load(
        source: Source,
        recipe: Option<Recipe>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, ModelError> {
        Self::build(source, Isa::from_env()?, recipe, progress)
    }

    /// As [`Self::from_source`], with the kernels of a given instruction set.
    ///
    /// # Errors
    /// As [`Self::from_source`].
    pub fn with_isa(source: impl Into<Source>, isa: Isa) -> Result<Self, ModelError> {
        Self::build(source.into(), isa, None, &mut |_, _| {})
    }

    fn build(
        source: Source,
        isa: Isa,
        recipe: Option<Recipe>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, ModelError> {
        let mut config = source.config()?;
        let parts = config.layers.len() + 1;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Pool::new(threads);
        let mut loader = Loader {
            source: &source,
            isa,
            pool: &pool,
            recipe,
            tied: !config.untied_head,
            memory: Memory::default(),
            used: HashSet::new(),
            mlps: Vec::new(),
        };
        let (vocab, hidden) = (config.vocab, config.hidden);
        let (embedding, output) = if config.untied_head {
            // Only rows of it are looked up: it stays in the file.
            let embedding = loader.view("token_embd.weight", &[hidden, vocab])?;
            (embedding, loader.head("output", vocab, hidden, config.biases.head)?)
        } else {
            let tied = loader.head("token_embd", vocab, hidden, false)?;
            (tied.clone(), tied)
        };
        progress(1, parts);
        let positions = match config.learned_positions {
            Some(first) => {
                Some(loader.view("position_embd.weight", &[hidden, config.context + first])?)
            }
            None => None,
        };
        let output_norm = loader.norm("output_norm", hidden, config.norm)?;
        // Divisors of the RoPE frequencies (Llama 3), one for each rotated pair.
        let rope_factors = match (&config.rope_factors, source.find("rope_freqs.weight")?) {
            (Some(factors), _) => Some(factors.clone()),
            (None, Some(_)) => Some(loader.vector("rope_freqs.weight", config.rope_dim / 2)?),
            (None, None) => None,
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
            progress(index + 2, parts);
        }
        if let Some(tensor) = source.unused(&loader.used) {
            return Err(ModelError::UnknownTensor { tensor });
        }
        config.shared_mlp = layers.len() > 1 && loader.mlps.len() == 1;
        let parameters = source.parameters();
        Ok(Self {
            config,
            isa,
            embedding,
            positions,
            output,
            output_norm,
            rope_kinds,
            layers,
            parameters,
            source,
        })
    }

    /// Shape and wiring.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The files.
    pub fn source(&self) -> &Source {
        &self.source
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
            (attention + l.query + l.key_value + l.output, mlp + l.mlp())
        });
        let is_first = |layer: &usize| {
            let mlp = &self.layers[*layer].mlp;
            !self.layers[..*layer].iter().any(|earlier| Arc::ptr_eq(&earlier.mlp, mlp))
        };
        let own = (0..self.layers.len()).filter(is_first);
        let mlp_in_memory = own.map(|layer| self.layer_bytes(layer).mlp()).sum();
        BytesPerToken { attention, mlp, mlp_in_memory, head: self.output.len_bytes() }
    }

    /// The output head, if its low bits are kept apart and products are logits.
    pub(crate) fn split_head(&self) -> Option<&Packed> {
        let packed = self.output.packed.as_deref().filter(|packed| packed.high_bytes().is_some());
        packed.filter(|_| self.output.bias.is_none())
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
            output: l.o_proj.bytes,
            gate: l.mlp.gate_proj.as_ref().map_or(0, Weight::len_bytes),
            up: l.mlp.up_proj.len_bytes(),
            down: l.mlp.down_proj.bytes,
        }
    }

    /// The down projection of a layer, by neuron.
    pub fn down_proj(&self, layer: usize) -> &NeuronMajor {
        &self.layers[layer].mlp.down_proj.weights
    }

    /// Makes `ropes` the rotations of a batch's positions, one for each kind: see [`Layer::rope`].
    pub(crate) fn set_ropes(&self, ropes: &mut Vec<Rope>, positions: &[usize]) {
        ropes.resize_with(self.rope_kinds.len(), Rope::default);
        for (rope, kind) in ropes.iter_mut().zip(&self.rope_kinds) {
            rope.set(&self.config, kind, positions);
        }
    }

    pub(crate) fn weights<'a>(&'a self, weight: &'a Weight) -> Weights<'a> {
        match &weight.packed {
            Some(packed) => Weights::Packed(packed),
            None => Weights::File(view(&self.source, weight)),
        }
    }
}

/// A weight in the mapped file.
fn view<'a>(source: &'a Source, weight: &Weight) -> Matrix<'a> {
    let Tensor { file, dtype, bytes, .. } = &weight.tensor;
    Matrix::new(*dtype, weight.rows, weight.cols, &source.bytes(*file)[bytes.clone()])
        .expect("the reader checks a tensor's size against its shape")
}

struct Loader<'a> {
    source: &'a Source,
    isa: Isa,
    pool: &'a Pool,
    /// What float matrices are turned into.
    recipe: Option<Recipe>,
    tied: bool,
    memory: Memory,
    used: HashSet<String>,
    /// MLPs so far, with their tensors.
    mlps: Vec<(Vec<Tensor>, Arc<Mlp>)>,
}

impl Loader<'_> {
    /// A tensor of a given shape, elements of a row first.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let Some(tensor) = self.source.find(name)? else {
            return Err(ModelError::MissingTensor { tensor: self.source.name_in_files(name) });
        };
        if tensor.shape != shape {
            let (expected, got) = (shape.to_vec(), tensor.shape);
            let tensor = self.source.name_in_files(name);
            return Err(ModelError::Shape { tensor, expected, got });
        }
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// A matrix or vector as it lies in the file.
    fn view(&mut self, name: &str, shape: &[usize]) -> Result<Weight, ModelError> {
        let tensor = self.tensor(name, shape)?;
        let (cols, rows) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let bytes = tensor.bytes.len();
        Ok(Weight { tensor, rows, cols, bytes, packed: None, bias: None })
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let weight = self.view(name, &[len])?;
        let mut values = vec![0.0; len];
        view(self.source, &weight).dequantize_row(self.isa, 0, &mut values);
        Ok(values)
    }

    /// The bias `name.bias`, if it is wanted.
    fn bias(
        &mut self,
        name: &str,
        len: usize,
        wanted: bool,
    ) -> Result<Option<Vec<f32>>, ModelError> {
        wanted.then(|| self.vector(&format!("{name}.bias"), len)).transpose()
    }

    fn norm(&mut self, name: &str, len: usize, kind: NormKind) -> Result<Norm, ModelError> {
        let mut weight = self.vector(&format!("{name}.weight"), len)?;
        Ok(match kind {
            NormKind::Layer => {
                Norm::Layer { weight, bias: self.vector(&format!("{name}.bias"), len)? }
            }
            NormKind::Rms => {
                let offset = self.source.norm_offset();
                weight.iter_mut().for_each(|w| *w += offset);
                Norm::Rms(weight)
            }
        })
    }

    /// A matrix `name.weight` of `rows` outputs and `cols` inputs, and its bias if it has one.
    fn weight(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> Result<Weight, ModelError> {
        self.packed_as(Packed::new, name, rows, cols, bias)
    }

    /// The output head: with its low bits apart where its type allows it.
    fn head(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> Result<Weight, ModelError> {
        let split = |isa, pool: &Pool, memory: &mut Memory, matrix: &Matrix| {
            Packed::split(isa, pool, memory, matrix)
                .unwrap_or_else(|| Packed::new(isa, pool, memory, matrix))
        };
        self.packed_as(split, name, rows, cols, bias)
    }

    fn packed_as(
        &mut self,
        pack: impl FnOnce(Isa, &Pool, &mut Memory, &Matrix) -> Packed,
        name: &str,
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> Result<Weight, ModelError> {
        let weight = self.view(&format!("{name}.weight"), &[cols, rows])?;
        let bias = self.bias(name, rows, bias)?;
        let weight = Weight { bias: bias.map(Arc::from), ..weight };
        self.packed(&format!("{name}.weight"), weight, pack)
    }

    /// The bytes of a float matrix in the type that the recipe has for it.
    fn encoded(&self, name: &str, weight: &Weight) -> Result<Option<(DType, Vec<u8>)>, ModelError> {
        let Some(recipe) = self.recipe.filter(|_| !weight.tensor.dtype.is_quantized()) else {
            return Ok(None);
        };
        let dtype = recipe.matrix(name, weight.cols, self.tied);
        if !dtype.is_quantized() {
            return Ok(None);
        }
        let row_bytes = dtype.row_bytes(weight.cols).unwrap_or_default();
        let mut bytes = vec![0; weight.rows * row_bytes];
        let matrix = view(self.source, weight);
        encode(self.pool, &matrix, 0, dtype, &mut bytes).map_err(|(row, problem)| {
            let tensor = self.source.name_in_files(name);
            ModelError::Encode { tensor, row, problem: problem.to_string() }
        })?;
        Ok(Some((dtype, bytes)))
    }

    /// Packs a quantised matrix.
    fn packed(
        &mut self,
        name: &str,
        mut weight: Weight,
        pack: impl FnOnce(Isa, &Pool, &mut Memory, &Matrix) -> Packed,
    ) -> Result<Weight, ModelError> {
        let encoded = self.encoded(name, &weight)?;
        let matrix = match &encoded {
            Some((dtype, bytes)) => {
                weight.bytes = bytes.len();
                Matrix::new(*dtype, weight.rows, weight.cols, bytes).expect("whole rows")
            }
            None if weight.tensor.dtype.is_quantized() => view(self.source, &weight),
            None => return Ok(weight),
        };
        weight.packed = Some(Arc::new(pack(self.isa, self.pool, &mut self.memory, &matrix)));
        self.source.release(weight.tensor.file, weight.tensor.bytes.clone());
        Ok(weight)
    }

    /// A matrix whose inputs may be off, of `rows` outputs and `cols` inputs.
    fn by_input(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> Result<ByInput, ModelError> {
        let mut weight = self.view(&format!("{name}.weight"), &[cols, rows])?;
        let encoded = self.encoded(&format!("{name}.weight"), &weight)?;
        let matrix = match &encoded {
            Some((dtype, bytes)) => {
                weight.bytes = bytes.len();
                Matrix::new(*dtype, rows, cols, bytes).expect("whole rows")
            }
            None => view(self.source, &weight),
        };
        let weights = NeuronMajor::new(self.isa, self.pool, &mut self.memory, &matrix);
        self.source.release(weight.tensor.file, weight.tensor.bytes.clone());
        let bias = self.bias(name, rows, bias)?;
        Ok(ByInput { weights, bias, bytes: weight.bytes })
    }

    /// The query, key and value projections: three matrices, or rows of one.
    fn qkv(&mut self, block: &str, config: &ModelConfig) -> Result<[Weight; 3], ModelError> {
        let (hidden, bias) = (config.hidden, config.biases.qkv);
        let rows = [config.query_width(), config.kv_width(), config.kv_width()];
        let fused = format!("{block}.attn_qkv");
        if self.source.find(&format!("{fused}.weight"))?.is_none() {
            let [q, k, v] = ["attn_q", "attn_k", "attn_v"].map(|part| format!("{block}.{part}"));
            return Ok([
                self.weight(&q, rows[0], hidden, bias)?,
                self.weight(&k, rows[1], hidden, bias)?,
                self.weight(&v, rows[2], hidden, bias)?,
            ]);
        }
        let all = rows.iter().sum();
        let tensor = self.tensor(&format!("{fused}.weight"), &[hidden, all])?;
        let biases = self.bias(&fused, all, bias)?;
        let row_bytes = tensor.bytes.len() / all;
        let mut first = 0;
        let parts = rows.map(|rows| {
            let start = tensor.bytes.start + first * row_bytes;
            let bytes = start..start + rows * row_bytes;
            let part = Tensor { shape: vec![hidden, rows], bytes, ..tensor.clone() };
            let bias = biases.as_ref().map(|all| Arc::from(&all[first..first + rows]));
            first += rows;
            Weight { bytes: part.bytes.len(), tensor: part, rows, cols: hidden, packed: None, bias }
        });
        let [q, k, v] = parts.map(|part| self.packed(&fused, part, Packed::new));
        Ok([q?, k?, v?])
    }

    /// A block's MLP; the one of an earlier block if their weights are the same (MobiLlama).
    fn mlp(&mut self, block: &str, config: &ModelConfig) -> Result<Arc<Mlp>, ModelError> {
        let (hidden, neurons, bias) = (config.hidden, config.intermediate, config.biases.mlp);
        let [gate, up, down] = ["gate", "up", "down"].map(|part| format!("{block}.ffn_{part}"));
        let mut tensors = vec![
            self.tensor(&format!("{up}.weight"), &[hidden, neurons])?,
            self.tensor(&format!("{down}.weight"), &[neurons, hidden])?,
        ];
        if config.gated {
            tensors.push(self.tensor(&format!("{gate}.weight"), &[hidden, neurons])?);
        }
        let source = self.source;
        let bytes = |tensor: &Tensor| &source.bytes(tensor.file)[tensor.bytes.clone()];
        let same = |a: &Tensor, b: &Tensor| a.dtype == b.dtype && bytes(a) == bytes(b);
        let known = |(earlier, _): &&(Vec<Tensor>, Arc<Mlp>)| {
            !bias && earlier.iter().zip(&tensors).all(|(a, b)| same(a, b))
        };
        if let Some((_, mlp)) = self.mlps.iter().find(known) {
            return Ok(Arc::clone(mlp));
        }
        let gate = config.gated.then(|| self.weight(&gate, neurons, hidden, bias)).transpose()?;
        let mlp = Arc::new(Mlp {
            gate_proj: gate,
            up_proj: self.weight(&up, neurons, hidden, bias)?,
            down_proj: self.by_input(&down, hidden, neurons, bias)?,
        });
        self.mlps.push((tensors, Arc::clone(&mlp)));
        Ok(mlp)
    }

    fn layer(
        &mut self,
        index: usize,
        rope: usize,
        config: &ModelConfig,
    ) -> Result<Layer, ModelError> {
        let block = format!("blk.{index}");
        let name = |part: &str| format!("{block}.{part}");
        let (hidden, norm) = (config.hidden, config.norm);
        let o_bias = config.biases.attention_output;
        let o_proj = self.by_input(&name("attn_output"), hidden, config.query_width(), o_bias)?;
        let mut optional = |wanted: bool, part: &str, len: usize| {
            wanted.then(|| self.norm(&name(part), len, norm)).transpose()
        };
        let sequential = config.residual == Residual::Sequential;
        let (q_norm, k_norm) = (
            optional(config.qk_norm, "attn_q_norm", config.head_dim)?,
            optional(config.qk_norm, "attn_k_norm", config.head_dim)?,
        );
        let attn_post_norm = optional(config.post_norm, "post_attention_norm", hidden)?;
        let mlp_post_norm = optional(config.post_norm, "post_ffw_norm", hidden)?;
        let mlp_norm = optional(sequential, "ffn_norm", hidden)?;
        let [q_proj, k_proj, v_proj] = self.qkv(&block, config)?;
        Ok(Layer {
            rope,
            attn_norm: self.norm(&name("attn_norm"), hidden, norm)?,
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm,
            k_norm,
            attn_post_norm,
            mlp_norm,
            mlp: self.mlp(&block, config)?,
            mlp_post_norm,
        })
    }
}
