//! Reading a model's weights out of its files.

use super::changes::Changes;
use super::residency::{LayerPlan, Plan, Residency, cold_unless, same_tensors};
use super::weight::{ByInput, Form, Weight};
use super::{Layer, Mlp};
use crate::config::{ModelConfig, NormKind, Residual};
use crate::error::ModelError;
use crate::gguf::{Recipe, encode};
use crate::norm::Norm;
use crate::source::{Source, Tensor};
use fewron_kernels::{ColdFile, DType, Isa, Matrix, Memory, NeuronMajor, Packed, Placement, Pool};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) struct Loader<'a> {
    pub(super) source: &'a Source,
    pub(super) isa: Isa,
    pub(super) pool: &'a Pool,
    /// What float matrices are turned into.
    pub(super) recipe: Option<Recipe>,
    pub(super) changes: &'a Changes,
    /// What of it is made.
    pub(super) changed: HashSet<String>,
    /// Whether all matrices of the blocks lie by input.
    pub(super) by_input: bool,
    pub(super) tied: bool,
    pub(super) memory: Memory,
    /// For weights that do not stay in memory, with its folder.
    pub(super) cold: Option<(ColdFile, PathBuf)>,
    pub(super) plan: Plan,
    pub(super) used: HashSet<String>,
    /// MLPs so far, with their tensors.
    pub(super) mlps: Vec<(Vec<Tensor>, Arc<Mlp>)>,
}

impl Loader<'_> {
    /// Makes the file for weights that do not stay in memory, and plans which do.
    pub(super) fn set_residency(
        &mut self,
        config: &ModelConfig,
        residency: &Residency,
    ) -> Result<(), ModelError> {
        if self.by_input {
            return Err(ModelError::BudgetByInput);
        }
        self.plan = Plan::new(self, config, residency)?;
        let folder = residency.directory.clone();
        let file = tempfile::tempfile_in(&folder).map_err(|e| cold_error(&folder, e))?;
        self.cold = Some((ColdFile::new(file), folder));
        Ok(())
    }

    /// Bytes that a matrix takes in memory, by its file's; 0 for one that is not there.
    pub(super) fn bytes_of(&self, name: &str) -> Result<usize, ModelError> {
        let Some(tensor) = self.source.find(name)? else { return Ok(0) };
        let (cols, rows) = (tensor.shape[0], tensor.shape.get(1).copied().unwrap_or(1));
        let encoded = self.recipe.filter(|_| !tensor.dtype.is_quantized());
        let dtype = encoded.map_or(tensor.dtype, |recipe| recipe.matrix(name, cols, self.tied));
        Ok(dtype.row_bytes(cols).map_or(tensor.bytes.len(), |bytes| rows * bytes))
    }

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
    pub(super) fn view(&mut self, name: &str, shape: &[usize]) -> Result<Weight, ModelError> {
        let tensor = self.tensor(name, shape)?;
        let (cols, rows) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let bytes = tensor.bytes.len();
        Ok(Weight { tensor, rows, cols, bytes, form: Form::File, released: false, bias: None })
    }

    pub(super) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let weight = self.view(name, &[len])?;
        if let Some(values) = self.changes.vector(name, len)? {
            self.changed.insert(name.to_owned());
            return Ok(values);
        }
        let mut values = vec![0.0; len];
        weight.view(self.source).dequantize_row(self.isa, 0, &mut values);
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

    pub(super) fn norm(
        &mut self,
        name: &str,
        len: usize,
        kind: NormKind,
    ) -> Result<Norm, ModelError> {
        let name_of_weight = format!("{name}.weight");
        let mut weight = self.vector(&name_of_weight, len)?;
        Ok(match kind {
            NormKind::Layer => {
                Norm::Layer { weight, bias: self.vector(&format!("{name}.bias"), len)? }
            }
            NormKind::Rms if self.changed.contains(&name_of_weight) => Norm::Rms(weight),
            NormKind::Rms => {
                let offset = self.source.norm_offset();
                weight.iter_mut().for_each(|w| *w += offset);
                Norm::Rms(weight)
            }
        })
    }

    /// A block's matrix `name.weight` of `rows` outputs and `cols` inputs, and its bias if it has one.
    fn weight(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        bias: bool,
        placement: Option<&Placement>,
    ) -> Result<Weight, ModelError> {
        let weight = self.biased(name, rows, cols, bias)?;
        self.block_weight(&format!("{name}.weight"), weight, placement)
    }

    /// The output head: with its low bits apart where its type allows it.
    pub(super) fn head(
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
        let weight = self.biased(name, rows, cols, bias)?;
        let placement = cold_unless(self.plan.head_stays, rows);
        self.packed(&format!("{name}.weight"), weight, split, placement.as_ref())
    }

    /// A matrix as it lies in the file, and its bias if it has one.
    fn biased(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> Result<Weight, ModelError> {
        let weight = self.view(&format!("{name}.weight"), &[cols, rows])?;
        let bias = self.bias(name, rows, bias)?;
        Ok(Weight { bias: bias.map(Arc::from), ..weight })
    }

    /// The type and the bytes of a matrix that are not those of the file: of one with edits, or of a float
    /// matrix in the type that the recipe has for it.
    fn encoded(
        &mut self,
        name: &str,
        weight: &Weight,
    ) -> Result<Option<(DType, Vec<u8>)>, ModelError> {
        if let Some(bytes) = self.changes.edited(name, weight, self.source)? {
            self.changed.insert(name.to_owned());
            return Ok(Some((weight.tensor.dtype, bytes)));
        }
        let Some(recipe) = self.recipe.filter(|_| !weight.tensor.dtype.is_quantized()) else {
            return Ok(None);
        };
        let dtype = recipe.matrix(name, weight.cols, self.tied);
        if !dtype.is_quantized() {
            return Ok(None);
        }
        let row_bytes = dtype.row_bytes(weight.cols).unwrap_or_default();
        let mut bytes = vec![0; weight.rows * row_bytes];
        let matrix = weight.view(self.source);
        encode(self.pool, &matrix, 0, dtype, &mut bytes).map_err(|(row, problem)| {
            let tensor = self.source.name_in_files(name);
            ModelError::Encode { tensor, row, problem: problem.to_string() }
        })?;
        Ok(Some((dtype, bytes)))
    }

    /// A matrix of a block: quantised ones are packed, or all lie by input.
    fn block_weight(
        &mut self,
        name: &str,
        weight: Weight,
        placement: Option<&Placement>,
    ) -> Result<Weight, ModelError> {
        if !self.by_input {
            return self.packed(name, weight, Packed::new, placement);
        }
        let (weights, bytes) = self.transposed(name, &weight, None)?;
        Ok(Weight { bytes, form: Form::ByInput(Arc::new(weights)), ..weight })
    }

    /// Packs a quantised matrix.
    fn packed(
        &mut self,
        name: &str,
        mut weight: Weight,
        pack: impl FnOnce(Isa, &Pool, &mut Memory, &Matrix) -> Packed,
        placement: Option<&Placement>,
    ) -> Result<Weight, ModelError> {
        let encoded = self.encoded(name, &weight)?;
        let matrix = match &encoded {
            Some((dtype, bytes)) => {
                weight.bytes = bytes.len();
                Matrix::new(*dtype, weight.rows, weight.cols, bytes).expect("whole rows")
            }
            None if weight.tensor.dtype.is_quantized() => weight.view(self.source),
            None => {
                weight.released = placement.is_some();
                return Ok(weight);
            }
        };
        let packed = match (placement, &mut self.cold) {
            (Some(placement), Some((file, folder))) => {
                let packed = pack(self.isa, self.pool, &mut Memory::default(), &matrix);
                let placed = packed.place(&mut self.memory, file, placement);
                placed.map_err(|e| cold_error(folder, e))?
            }
            _ => pack(self.isa, self.pool, &mut self.memory, &matrix),
        };
        weight.form = Form::Packed(Arc::new(packed));
        self.source.release(weight.tensor.file, weight.tensor.bytes.clone());
        Ok(weight)
    }

    /// A matrix by its inputs, and its bytes as products read it.
    fn transposed(
        &mut self,
        name: &str,
        weight: &Weight,
        placement: Option<&Placement>,
    ) -> Result<(NeuronMajor, usize), ModelError> {
        let encoded = self.encoded(name, weight)?;
        let (matrix, bytes) = match &encoded {
            Some((dtype, bytes)) => {
                let matrix = Matrix::new(*dtype, weight.rows, weight.cols, bytes);
                (matrix.expect("whole rows"), bytes.len())
            }
            None => (weight.view(self.source), weight.bytes),
        };
        let weights = match (placement, &mut self.cold) {
            (Some(placement), Some((file, folder))) => {
                let weights =
                    NeuronMajor::new(self.isa, self.pool, &mut Memory::default(), &matrix);
                let placed = weights.place(&mut self.memory, file, placement);
                placed.map_err(|e| cold_error(folder, e))?
            }
            _ => NeuronMajor::new(self.isa, self.pool, &mut self.memory, &matrix),
        };
        self.source.release(weight.tensor.file, weight.tensor.bytes.clone());
        Ok((weights, bytes))
    }

    /// A matrix whose inputs may be off, of `rows` outputs and `cols` inputs.
    fn by_input(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        bias: bool,
        placement: Option<&Placement>,
    ) -> Result<ByInput, ModelError> {
        let weight = self.view(&format!("{name}.weight"), &[cols, rows])?;
        let (weights, bytes) = self.transposed(&format!("{name}.weight"), &weight, placement)?;
        let bias = self.bias(name, rows, bias)?;
        Ok(ByInput { weights, bias, bytes })
    }

    /// The query, key and value projections: three matrices, or rows of one.
    fn qkv(
        &mut self,
        block: &str,
        config: &ModelConfig,
        stays: bool,
    ) -> Result<[Weight; 3], ModelError> {
        let (hidden, bias) = (config.hidden, config.biases.qkv);
        let rows = [config.query_width(), config.kv_width(), config.kv_width()];
        let place = rows.map(|rows| cold_unless(stays, rows));
        let fused = format!("{block}.attn_qkv");
        if self.source.find(&format!("{fused}.weight"))?.is_none() {
            let [q, k, v] = ["attn_q", "attn_k", "attn_v"].map(|part| format!("{block}.{part}"));
            return Ok([
                self.weight(&q, rows[0], hidden, bias, place[0].as_ref())?,
                self.weight(&k, rows[1], hidden, bias, place[1].as_ref())?,
                self.weight(&v, rows[2], hidden, bias, place[2].as_ref())?,
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
            Weight {
                bytes: part.bytes.len(),
                tensor: part,
                rows,
                cols: hidden,
                form: Form::File,
                released: false,
                bias,
            }
        });
        let [q, k, v] = parts.map(|part| {
            let placement = cold_unless(stays, part.rows);
            self.block_weight(&fused, part, placement.as_ref())
        });
        Ok([q?, k?, v?])
    }

    /// A block's MLP; the one of an earlier block if their weights are the same (MobiLlama).
    fn mlp(
        &mut self,
        block: &str,
        config: &ModelConfig,
        plan: &LayerPlan,
    ) -> Result<Arc<Mlp>, ModelError> {
        let (hidden, neurons, bias) = (config.hidden, config.intermediate, config.biases.mlp);
        let [gate, up, down] = ["gate", "up", "down"].map(|part| format!("{block}.ffn_{part}"));
        let mut tensors = vec![
            self.tensor(&format!("{up}.weight"), &[hidden, neurons])?,
            self.tensor(&format!("{down}.weight"), &[neurons, hidden])?,
        ];
        if config.gated {
            tensors.push(self.tensor(&format!("{gate}.weight"), &[hidden, neurons])?);
        }
        let known = |(earlier, _): &&(Vec<Tensor>, Arc<Mlp>)| {
            !bias && same_tensors(self.source, earlier, &tensors)
        };
        if let Some((_, mlp)) = self.mlps.iter().find(known) {
            return Ok(Arc::clone(mlp));
        }
        let (gate_place, place) = (plan.gate(neurons), plan.neurons.as_ref());
        let mut gate_proj = None;
        if config.gated {
            gate_proj = Some(self.weight(&gate, neurons, hidden, bias, gate_place.as_ref())?);
        }
        let mlp = Arc::new(Mlp {
            gate_proj,
            up_proj: self.weight(&up, neurons, hidden, bias, place)?,
            down_proj: self.by_input(&down, hidden, neurons, bias, place)?,
        });
        self.mlps.push((tensors, Arc::clone(&mlp)));
        Ok(mlp)
    }

    pub(super) fn layer(
        &mut self,
        index: usize,
        rope: usize,
        config: &ModelConfig,
    ) -> Result<Layer, ModelError> {
        let block = format!("blk.{index}");
        let name = |part: &str| format!("{block}.{part}");
        let (hidden, norm) = (config.hidden, config.norm);
        let o_bias = config.biases.attention_output;
        let plan = self.plan.layers[index].clone();
        let (stays, width) = (plan.attention_stays, config.query_width());
        let placement = cold_unless(stays, width);
        let output = name("attn_output");
        let o_proj = self.by_input(&output, hidden, width, o_bias, placement.as_ref())?;
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
        let [q_proj, k_proj, v_proj] = self.qkv(&block, config, stays)?;
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
            mlp: self.mlp(&block, config, &plan)?,
            mlp_post_norm,
        })
    }
}

fn cold_error(folder: &std::path::Path, error: io::Error) -> ModelError {
    ModelError::ColdFile { folder: folder.to_owned(), error }
}
