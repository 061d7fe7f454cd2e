//! A loaded model: configuration and weights, immutable and shared.

mod changes;
mod loader;
mod residency;
mod weight;

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::{Gguf, Recipe};
use crate::mask::InputSite;
use crate::norm::Norm;
use crate::rope::{Rope, RopeKind};
use crate::source::Source;
pub(crate) use changes::cannot;
pub use changes::{Changes, Edit};
use fewron_kernels::{Isa, Memory, NeuronMajor, Packed, Pool};
use loader::Loader;
use residency::Plan;
pub use residency::Residency;
use std::collections::HashSet;
use std::sync::Arc;
use weight::Form;
pub(crate) use weight::{ByInput, Weight, add_bias};

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
    /// Bytes in the file for weights that do not stay in memory, if there is one.
    cold_bytes: Option<u64>,
}

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// What float matrices are quantised to in memory: see [`Model::quantized`]. `None` leaves them as
    /// they are.
    pub recipe: Option<Recipe>,
    /// Whether all matrices of the blocks lie by input, so that inputs that are 0 are not read: see
    /// [`crate::MaskSource::thin`]. Results are those of matrices by row up to rounding. Neurons and
    /// heads that are off then spare no gate, up or query weights.
    pub by_input: bool,
    /// How much memory the weights may take; `None` keeps all of them there.
    pub residency: Option<Residency>,
    /// What is changed in the weights on their way into memory.
    pub changes: Changes,
    /// Instruction set of the kernels; `None` takes the best that the processor has, or the one that
    /// `FEWRON_ISA` names.
    pub isa: Option<Isa>,
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

/// A number for each of a layer's matrices: their bytes, or their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PerMatrix {
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

impl PerMatrix {
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
        Self::load(source, &LoadOptions::default(), &mut |_, _| {})
    }

    /// As [`Self::from_source`], with float matrices quantised in memory as `recipe` says: as
    /// [`crate::gguf::NewFile`] would hold them, but for rows that fit no quantised type, which stay
    /// as they are, and the embeddings of a model with a head of its own, which stay in the file.
    ///
    /// # Errors
    /// As [`Self::from_source`], and when a weight is no finite number.
    pub fn quantized(source: Source, recipe: Recipe) -> Result<Self, ModelError> {
        let options = LoadOptions { recipe: Some(recipe), ..LoadOptions::default() };
        Self::load(source, &options, &mut |_, _| {})
    }

    /// As [`Self::from_source`], with the kernels of a given instruction set.
    ///
    /// # Errors
    /// As [`Self::from_source`].
    pub fn with_isa(source: impl Into<Source>, isa: Isa) -> Result<Self, ModelError> {
        let options = LoadOptions { isa: Some(isa), ..LoadOptions::default() };
        Self::load(source.into(), &options, &mut |_, _| {})
    }

    /// Loads a model; `progress` is told how many of how many parts of about the same size are done.
    ///
    /// # Errors
    /// As [`Self::quantized`].
    pub fn load(
        source: Source,
        options: &LoadOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, ModelError> {
        let isa = options.isa.map_or_else(Isa::from_env, Ok)?;
        let mut config = source.config()?;
        let parts = config.layers.len() + 1;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Pool::new(threads);
        let mut loader = Loader {
            source: &source,
            isa,
            pool: &pool,
            recipe: options.recipe,
            changes: &options.changes,
            changed: HashSet::new(),
            by_input: options.by_input,
            tied: !config.untied_head,
            memory: Memory::default(),
            cold: None,
            plan: Plan::hot(&config),
            used: HashSet::new(),
            mlps: Vec::new(),
        };
        if let Some(residency) = &options.residency {
            loader.set_residency(&config, residency)?;
        }
        let (vocab, hidden) = (config.vocab, config.hidden);
        let (embedding, output) = if config.untied_head {
            // Only rows of it are looked up: it stays in the file.
            let mut embedding = loader.view("token_embd.weight", &[hidden, vocab])?;
            embedding.released = options.residency.is_some();
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
        options.changes.check_all(&loader.changed)?;
        if let Some(tensor) = source.unused(&loader.used) {
            return Err(ModelError::UnknownTensor { tensor });
        }
        config.shared_mlp = layers.len() > 1 && loader.mlps.len() == 1;
        let parameters = source.parameters();
        let cold_bytes = loader.cold.as_ref().map(|(file, _)| file.len_bytes());
        Ok(Self {
            cold_bytes,
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
        match &self.output.form {
            Form::Packed(packed) if self.output.bias.is_none() => {
                packed.high_bytes().is_some().then_some(packed)
            }
            _ => None,
        }
    }

    /// Bytes of the output head that [`crate::Logits::Shortlist`] leaves unread, but for the few rows
    /// that it computes exactly.
    pub fn shortlist_spares(&self) -> usize {
        let high = self.split_head().and_then(Packed::high_bytes);
        high.map_or(0, |high| self.output.len_bytes().saturating_sub(high))
    }

    /// Bytes of a layer's matrices, as the file stores them.
    pub fn layer_bytes(&self, layer: usize) -> PerMatrix {
        let l = &self.layers[layer];
        PerMatrix {
            query: l.q_proj.len_bytes(),
            key_value: l.k_proj.len_bytes() + l.v_proj.len_bytes(),
            output: l.o_proj.bytes,
            gate: l.mlp.gate_proj.as_ref().map_or(0, Weight::len_bytes),
            up: l.mlp.up_proj.len_bytes(),
            down: l.mlp.down_proj.bytes,
        }
    }

    /// Weights of a layer's matrices. Each is one multiply-add of a token.
    pub fn layer_weights(&self, layer: usize) -> PerMatrix {
        let config = &self.config;
        let (heads, kv_heads) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let neurons = config.hidden * config.intermediate;
        PerMatrix {
            query: config.hidden * heads,
            key_value: 2 * config.hidden * kv_heads,
            output: config.hidden * heads,
            gate: self.layers[layer].mlp.gate_proj.as_ref().map_or(0, |_| neurons),
            up: neurons,
            down: neurons,
        }
    }

    /// Floating-point operations, or their integer counterparts, of a dense token behind `kv_length`
    /// others: two for each weight of the matrices, and for each query head and position in its window
    /// four for each element of a head, for score and value.
    pub fn flops_per_token(&self, kv_length: usize) -> f64 {
        let config = &self.config;
        let weights = (0..self.layers.len()).map(|layer| self.layer_weights(layer).total());
        let weights = weights.sum::<usize>() + config.vocab * config.hidden;
        let seen = |window: Option<usize>| window.map_or(kv_length + 1, |w| w.min(kv_length + 1));
        let positions: usize = config.layers.iter().map(|layer| seen(layer.window)).sum();
        (2 * weights + 4 * positions * config.heads * config.head_dim) as f64
    }

    /// Bytes of the matrices that read an input of a layer.
    pub fn site_bytes(&self, layer: usize, site: InputSite) -> usize {
        let bytes = self.layer_bytes(layer);
        match site {
            InputSite::Attention => bytes.query + bytes.key_value,
            InputSite::AttentionOutput => bytes.output,
            InputSite::Mlp => bytes.gate + bytes.up,
            InputSite::Down => bytes.down,
        }
    }

    /// ‖W_j‖₂ of each channel of an input of a layer, over all matrices that read it.
    pub fn channel_norms(&self, layer: usize, site: InputSite) -> Vec<f32> {
        let l = &self.layers[layer];
        let weights: Vec<&Weight> = match site {
            InputSite::Attention => vec![&l.q_proj, &l.k_proj, &l.v_proj],
            InputSite::Mlp => l.mlp.gate_proj.iter().chain([&l.mlp.up_proj]).collect(),
            InputSite::AttentionOutput => return l.o_proj.weights.row_norms(self.isa),
            InputSite::Down => return l.mlp.down_proj.weights.row_norms(self.isa),
        };
        let mut squares = Vec::new();
        weights.iter().for_each(|weight| weight.add_channel_squares(self, &mut squares));
        squares.iter().map(|square| square.sqrt()).collect()
    }

    /// The down projection of a layer, by neuron.
    pub fn down_proj(&self, layer: usize) -> &NeuronMajor {
        &self.layers[layer].mlp.down_proj.weights
    }

    /// What directions of the residual stream add to each token's logit where the last norm is left out:
    /// `W_out · d` in f32, without the head's bias. `directions` has shape `[n, hidden]`, the result
    /// `[n, vocab]`. For a neuron's row of [`Self::down_proj`] the tokens that it promotes (Geva et al.,
    /// "Transformer Feed-Forward Layers Are Key-Value Memories", arXiv 2012.14913, section 4).
    ///
    /// # Panics
    /// When the directions are not made of whole rows.
    pub fn vocabulary_of(&self, directions: &[f32]) -> Vec<f32> {
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        assert!(directions.len().is_multiple_of(hidden), "whole rows");
        let mut logits = vec![0.0; directions.len() / hidden * vocab];
        let mut row = vec![0.0; hidden];
        for token in 0..vocab {
            self.output.row(self, token, &mut row);
            for (n, direction) in directions.chunks_exact(hidden).enumerate() {
                logits[n * vocab + token] = fewron_kernels::dot(self.isa, &row, direction);
            }
        }
        self.release_head();
        logits
    }

    /// Bytes of weights that a [`Residency`] keeps out of memory, but for those of float matrices, which
    /// are read from the model's files.
    pub fn cold_bytes(&self) -> u64 {
        self.cold_bytes.unwrap_or(0)
    }

    /// Gives back all memory of weights that do not stay there. Sessions do so after each layer.
    pub fn release_cold(&self) {
        (0..self.layers.len()).for_each(|layer| self.release_layer(layer));
        self.release_head();
    }

    /// As [`Self::release_cold`], for the matrices of a layer.
    pub(crate) fn release_layer(&self, layer: usize) {
        if self.cold_bytes.is_none() {
            return;
        }
        let Layer { q_proj, k_proj, v_proj, o_proj, mlp, .. } = &self.layers[layer];
        let weights = [q_proj, k_proj, v_proj, &mlp.up_proj].into_iter().chain(&mlp.gate_proj);
        weights.for_each(|weight| weight.release(&self.source));
        o_proj.weights.release();
        mlp.down_proj.weights.release();
    }

    /// As [`Self::release_cold`], for embeddings and output head.
    pub(crate) fn release_head(&self) {
        if self.cold_bytes.is_some() {
            self.embedding.release(&self.source);
            self.output.release(&self.source);
        }
    }

    /// Makes `ropes` the rotations of a batch's positions, one for each kind: see [`Layer::rope`].
    pub(crate) fn set_ropes(&self, ropes: &mut Vec<Rope>, positions: &[usize]) {
        ropes.resize_with(self.rope_kinds.len(), Rope::default);
        for (rope, kind) in ropes.iter_mut().zip(&self.rope_kinds) {
            rope.set(&self.config, kind, positions);
        }
    }
}
