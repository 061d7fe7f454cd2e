//! Plans as safetensors files.
//!
//! Metadata: `fewron.plan`, JSON with `format_version` and `record`, a [`PlanRecord`]; one key alone, so that
//! a plan's bytes do not depend on the order of a map. Tensors, each for all layers: `cut.kind` (u8: 0 dense, 1 best, 2 above), `cut.best` (u32), `cut.above` (f32);
//! where the plan has them `weights`, `weights.negative` and `frequency` `[layers, intermediate]`,
//! `quantiles` `[layers, any]`, `inputs.SITE.above` (f32) with `inputs.SITE.norms` `[layers, channels]` for
//! the sites of [`InputSite`], `heads` `[layers, heads]` (u8, 1 = runs). Maps of low rank, `compensation.L` and
//! `predictor.L` for layer L, have a tensor for each matrix: docs/plans.md lists all.

use super::maps::{read_map, write_map};
use super::record::{PlanModel, PlanRecord};
use super::{Cut, Heads, InputCut, LayerPlan, Plan};
use fewron_kernels::{Isa, Memory};
use fewron_model::{InputSite, LowRank, ModelConfig, Pool};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::sync::Arc;
use thiserror::Error;

/// Version of the format that is written.
pub const FORMAT_VERSION: u32 = 1;

/// The version of plans that change weights too, or hold maps in four bits: those that are recovered.
pub(super) const RECOVERED_VERSION: u32 = 2;

/// The key of the metadata.
const KEY: &str = "fewron.plan";

/// Why a plan cannot be used.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The bytes are no safetensors file, or one of something else.
    #[error("is no plan of fewron, or a damaged one ({0}); make it again with `fewron calibrate`")]
    NoPlan(String),
    /// It was written by another version.
    #[error(
        "has plan format {found}, and this version of fewron reads {FORMAT_VERSION} and \
         {RECOVERED_VERSION}; make it again with `fewron calibrate`"
    )]
    Version {
        /// The version that it says it has.
        found: String,
    },
    /// It belongs to another model.
    #[error(
        "was made for model {} ({}), but this model is {} ({}); run `fewron calibrate` to make a plan \
         for it", made_for.name, short(made_for), model.name, short(model)
    )]
    OtherModel {
        /// What the plan was made for.
        made_for: Box<PlanModel>,
        /// What it is used with.
        model: Box<PlanModel>,
    },
    /// A tensor does not fit the model.
    #[error(
        "tensor {tensor} {problem}: the plan is damaged; make it again with `fewron calibrate`"
    )]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
}

impl PlanError {
    pub(super) fn tensor(tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { tensor: tensor.into(), problem: problem.into() }
    }
}

/// The start of a model's hash, with its type of weights.
fn short(model: &PlanModel) -> String {
    let hash = &model.sha256[..model.sha256.len().min(12)];
    match &model.quantized {
        Some(dtype) => format!("{hash}… as {dtype}"),
        None => format!("{hash}…"),
    }
}

/// The bytes of a plan file.
pub fn to_bytes(plan: &Plan, record: &PlanRecord, isa: Isa) -> Vec<u8> {
    let mut tensors = Tensors::default();
    let layers = plan.layers.len();
    let (mut kinds, mut best, mut above) = (Vec::new(), Vec::new(), Vec::new());
    for layer in &plan.layers {
        let (kind, count, least) = match layer.cut {
            Cut::Dense => (0u8, 0u32, 0.0f32),
            Cut::Best(count) => (1, count as u32, 0.0),
            // An infinite threshold is every or no neuron: the largest number does the same.
            Cut::Above(least) => (2, 0, least.clamp(f32::MIN, f32::MAX)),
        };
        kinds.push(kind);
        best.extend(count.to_le_bytes());
        above.extend(least.to_le_bytes());
    }
    tensors.add("cut.kind".into(), Dtype::U8, vec![layers], kinds);
    tensors.add("cut.best".into(), Dtype::U32, vec![layers], best);
    tensors.add("cut.above".into(), Dtype::F32, vec![layers], above);
    tensors.add_rows("weights", plan.layers.iter().map(|l| &*l.weights));
    tensors.add_rows("weights.negative", plan.layers.iter().map(|l| &*l.negative_weights));
    for site in InputSite::ALL {
        let name = site.name();
        if plan.layers.iter().any(|l| l.input(site).is_some()) {
            let least: Vec<f32> = plan.layers.iter().map(|l| l.input(site).least).collect();
            let norms = model_norms(plan, site);
            tensors.add_floats(format!("inputs.{name}.above"), vec![layers], &least);
            tensors.add_rows(&format!("inputs.{name}.norms"), norms.iter().map(|row| &**row));
        }
    }
    tensors.add_rows("quantiles", plan.layers.iter().map(|l| &*l.quantiles));
    tensors.add_rows("frequency", plan.layers.iter().map(|l| &*l.frequency));
    if plan.layers.iter().any(|l| matches!(l.heads, Heads::Listed(_))) {
        let heads = record.model.heads;
        let on = |l: &LayerPlan| -> Vec<u8> {
            let on = |head: u32| match &l.heads {
                Heads::Listed(listed) => listed.contains(&head),
                _ => true,
            };
            (0..heads as u32).map(|head| u8::from(on(head))).collect()
        };
        let bytes = plan.layers.iter().flat_map(on).collect();
        tensors.add("heads".into(), Dtype::U8, vec![layers, heads], bytes);
    }
    for (index, layer) in plan.layers.iter().enumerate() {
        for (name, map) in [("compensation", &layer.compensation), ("predictor", &layer.predictor)]
        {
            if let Some(map) = map {
                write_map(&mut tensors, &format!("{name}.{index}"), map, isa);
            }
        }
    }
    tensors.to_bytes(record)
}

/// Norms of an input's channels, by layer; those of a layer without a cut are zeros.
fn model_norms(plan: &Plan, site: InputSite) -> Vec<Arc<[f32]>> {
    let rows = plan.layers.iter().map(|layer| Arc::clone(&layer.input(site).norms));
    let mut rows: Vec<Arc<[f32]>> = rows.collect();
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    for row in rows.iter_mut().filter(|row| row.is_empty()) {
        *row = vec![0.0; width].into();
    }
    rows
}

/// Channels of an input.
fn input_width(config: &ModelConfig, site: InputSite) -> usize {
    match site {
        InputSite::Attention | InputSite::Mlp => config.hidden,
        InputSite::AttentionOutput => config.query_width(),
        InputSite::Down => config.intermediate,
    }
}

/// The share of calibration tokens that keep each neuron, by layer, of a plan's bytes; nothing where it has
/// none or is damaged. For what must be known before the model is loaded.
pub fn read_frequency(bytes: &[u8]) -> Vec<Vec<f32>> {
    let Ok(file) = SafeTensors::deserialize(bytes) else { return Vec::new() };
    let Ok(tensor) = file.tensor("frequency") else { return Vec::new() };
    match (tensor.shape(), floats("frequency", &tensor)) {
        (&[_, width], Ok(values)) if width > 0 => {
            values.chunks_exact(width).map(<[f32]>::to_vec).collect()
        }
        _ => Vec::new(),
    }
}

/// Tensors on their way to a file.
#[derive(Default)]
pub(super) struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub(super) fn add(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) {
        self.0.push((name, dtype, shape, bytes));
    }

    pub(super) fn add_floats(&mut self, name: String, shape: Vec<usize>, values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.add(name, Dtype::F32, shape, bytes);
    }

    /// A row for each layer, if they have any.
    fn add_rows<'a>(&mut self, name: &str, rows: impl Iterator<Item = &'a [f32]>) {
        let rows: Vec<&[f32]> = rows.collect();
        let width = rows.first().map_or(0, |row| row.len());
        if width > 0 && rows.iter().all(|row| row.len() == width) {
            self.add_floats(name.into(), vec![rows.len(), width], &rows.concat());
        }
    }

    fn to_bytes(&self, record: &PlanRecord) -> Vec<u8> {
        let views = self.0.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            (name.as_str(), view.expect("shapes fit their bytes"))
        });
        let header = write_header(FORMAT_VERSION, record);
        serialize(views, header).expect("small tensors are no problem to serialize")
    }
}

/// The metadata of a plan file.
pub(super) fn write_header(
    version: u32,
    record: &impl serde::Serialize,
) -> Option<HashMap<String, String>> {
    let header = serde_json::json!({ "format_version": version, "record": record });
    Some(HashMap::from([(KEY.to_owned(), header.to_string())]))
}

/// What a plan file says about itself, without its tensors.
///
/// # Errors
/// When the bytes are no plan, or of another version.
pub fn read_record(bytes: &[u8]) -> Result<PlanRecord, PlanError> {
    let record = read_header(bytes)?["record"].take();
    serde_json::from_value(record).map_err(|error| PlanError::NoPlan(error.to_string()))
}

/// The format and the record of a plan, in a version that can be read.
pub(super) fn read_header(bytes: &[u8]) -> Result<serde_json::Value, PlanError> {
    let no_plan = |problem: &dyn std::fmt::Display| PlanError::NoPlan(problem.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| no_plan(&e))?;
    let metadata = header.metadata().as_ref().ok_or_else(|| no_plan(&"it has no metadata"))?;
    let json = metadata.get(KEY);
    let json = json.ok_or_else(|| no_plan(&"it is a safetensors file of something else"))?;
    let header: serde_json::Value = serde_json::from_str(json).map_err(|e| no_plan(&e))?;
    if header["format_version"] != FORMAT_VERSION && header["format_version"] != RECOVERED_VERSION {
        return Err(PlanError::Version { found: header["format_version"].to_string() });
    }
    Ok(header)
}

/// Reads a plan for a model.
///
/// # Errors
/// When the bytes are no plan, or one for another model or of another version, or its tensors do not
/// fit the model or hold numbers that are not finite.
pub fn from_bytes(
    bytes: &[u8],
    model: &PlanModel,
    config: &ModelConfig,
    isa: Isa,
    pool: &Pool,
) -> Result<(Plan, PlanRecord), PlanError> {
    let record = read_record(bytes)?;
    let made_for = &record.model;
    if (&made_for.sha256, &made_for.quantized) != (&model.sha256, &model.quantized) {
        let (made_for, model) = (Box::new(made_for.clone()), Box::new(model.clone()));
        return Err(PlanError::OtherModel { made_for, model });
    }
    let file =
        SafeTensors::deserialize(bytes).map_err(|error| PlanError::NoPlan(error.to_string()))?;
    let reader = Reader { file, layers: config.layers.len() };
    let (neurons, heads) = (config.intermediate, config.heads);
    let cuts = reader.cuts(neurons)?;
    let weights = reader.rows("weights", Some(neurons))?;
    let negative_weights = reader.rows("weights.negative", Some(neurons))?;
    let inputs = InputSite::ALL.map(|site| {
        let (name, width) = (site.name(), input_width(config, site));
        let least = reader.rows(&format!("inputs.{name}.above"), Some(1))?;
        let norms = reader.rows(&format!("inputs.{name}.norms"), Some(width))?;
        Ok::<_, PlanError>((least, norms))
    });
    let [a, b, c, d] = inputs;
    let inputs = [a?, b?, c?, d?];
    let quantiles = reader.rows("quantiles", None)?;
    let frequency = reader.rows("frequency", Some(neurons))?;
    let heads = reader.heads(heads)?;
    let (mut layers, mut memory) = (Vec::new(), Memory::default());
    for (index, cut) in cuts.into_iter().enumerate() {
        let row = |rows: &Option<Vec<Arc<[f32]>>>| {
            rows.as_ref().map_or_else(Arc::default, |rows| Arc::clone(&rows[index]))
        };
        let mut map = |name: &str, outputs: usize| -> Result<Option<Arc<LowRank>>, PlanError> {
            let name = format!("{name}.{index}");
            let map =
                read_map(&reader.file, &name, config.hidden, outputs, isa, pool, &mut memory)?;
            Ok(map.map(Arc::new))
        };
        layers.push(LayerPlan {
            cut,
            weights: row(&weights),
            negative_weights: row(&negative_weights),
            inputs: inputs.each_ref().map(|(least, norms)| InputCut {
                least: row(least).first().copied().unwrap_or(0.0),
                norms: row(norms),
            }),
            predictor: map("predictor", neurons)?,
            compensation: map("compensation", config.hidden)?,
            heads: heads.as_ref().map_or(Heads::All, |heads| Heads::Listed(heads[index].clone())),
            quantiles: row(&quantiles),
            frequency: row(&frequency),
        });
    }
    let plan = Plan { policy: record.policy, neurons, layers };
    plan.check_complete()?;
    Ok((plan, record))
}

struct Reader<'a> {
    file: SafeTensors<'a>,
    layers: usize,
}

impl Reader<'_> {
    /// A tensor of one of these types whose first dimension is the layers, and its second; `None` if it is absent.
    fn get(
        &self,
        name: &str,
        dtypes: &[Dtype],
    ) -> Result<Option<(usize, TensorView<'_>)>, PlanError> {
        let Ok(tensor) = self.file.tensor(name) else { return Ok(None) };
        let shape = tensor.shape();
        if !dtypes.contains(&tensor.dtype()) || shape.is_empty() || shape.len() > 2 {
            let got = format!("is {:?} {shape:?}", tensor.dtype());
            return Err(PlanError::tensor(name, got));
        }
        if shape[0] != self.layers {
            let problem = format!("is for {} layers, the model has {}", shape[0], self.layers);
            return Err(PlanError::tensor(name, problem));
        }
        Ok(Some((shape.get(1).copied().unwrap_or(1), tensor)))
    }

    fn required(&self, name: &str, dtype: Dtype) -> Result<TensorView<'_>, PlanError> {
        match self.get(name, &[dtype])? {
            Some((1, tensor)) => Ok(tensor),
            Some((width, _)) => Err(PlanError::tensor(name, format!("has rows of {width}"))),
            None => Err(PlanError::tensor(name, "is missing")),
        }
    }

    fn cuts(&self, neurons: usize) -> Result<Vec<Cut>, PlanError> {
        let kinds = self.required("cut.kind", Dtype::U8)?;
        let best = self.required("cut.best", Dtype::U32)?;
        let (best, _) = best.data().as_chunks::<4>();
        let above = floats("cut.above", &self.required("cut.above", Dtype::F32)?)?;
        let cut = |((&kind, best), &least): ((&u8, &[u8; 4]), &f32)| match kind {
            0 => Ok(Cut::Dense),
            1 => match u32::from_le_bytes(*best) as usize {
                count if count <= neurons => Ok(Cut::Best(count)),
                count => {
                    let problem = format!("keeps {count} neurons of {neurons}");
                    Err(PlanError::tensor("cut.best", problem))
                }
            },
            2 => Ok(Cut::Above(least)),
            kind => Err(PlanError::tensor("cut.kind", format!("has a kind {kind}"))),
        };
        kinds.data().iter().zip(best).zip(&above).map(cut).collect()
    }

    fn rows(&self, name: &str, width: Option<usize>) -> Result<Option<Vec<Arc<[f32]>>>, PlanError> {
        let Some((found, tensor)) = self.get(name, &FLOATS)? else { return Ok(None) };
        if found == 0 || width.is_some_and(|width| width != found) {
            let problem = format!("has rows of {found}, the model has {width:?} neurons");
            return Err(PlanError::tensor(name, problem));
        }
        let values = floats(name, &tensor)?;
        Ok(Some(values.chunks_exact(found).map(Arc::from).collect()))
    }

    fn heads(&self, heads: usize) -> Result<Option<Vec<Arc<[u32]>>>, PlanError> {
        let Some((found, tensor)) = self.get("heads", &[Dtype::U8])? else { return Ok(None) };
        if found != heads {
            let problem = format!("has rows of {found}, the model has {heads} heads");
            return Err(PlanError::tensor("heads", problem));
        }
        let listed = |row: &[u8]| -> Arc<[u32]> {
            row.iter().zip(0..).filter(|(on, _)| **on != 0).map(|(_, head)| head).collect()
        };
        Ok(Some(tensor.data().chunks_exact(heads).map(listed).collect()))
    }
}

/// The types of numbers in a plan: F32, and F16 where recovery has found that it is enough.
pub(super) const FLOATS: [Dtype; 2] = [Dtype::F32, Dtype::F16];

/// Finite numbers of one of the types of [`FLOATS`].
pub(super) fn floats(name: &str, tensor: &TensorView) -> Result<Vec<f32>, PlanError> {
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => {
            let (words, _) = tensor.data().as_chunks::<4>();
            words.iter().map(|word| f32::from_le_bytes(*word)).collect()
        }
        Dtype::F16 => {
            let (words, _) = tensor.data().as_chunks::<2>();
            words.iter().map(|word| half::f16::from_le_bytes(*word).to_f32()).collect()
        }
        dtype => return Err(PlanError::tensor(name, format!("is {dtype:?}, not F32 or F16"))),
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(PlanError::tensor(name, format!("has {} at {at}", values[at]))),
        None => Ok(values),
    }
}
