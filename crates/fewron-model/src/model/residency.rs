//! Which weights stay in memory where there is not enough for all.

use super::loader::Loader;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::source::{Source, Tensor};
use fewron_kernels::Placement;
use std::path::PathBuf;

/// Memory for the weights of a model that is to run in less than they need. The others lie in a file;
/// their pages take memory while a layer is computed.
#[derive(Clone, Debug)]
pub struct Residency {
    /// Bytes of weights that stay in memory.
    pub budget_bytes: usize,
    /// How often each neuron runs, `[layers][intermediate]`: the hottest stay. Empty for the order in
    /// the file.
    pub heat: Vec<Vec<f32>>,
    /// Whether the gate projections stay as long as there is room, since a policy reads all of them.
    /// Else a neuron's gate row stays with the rest of the neuron.
    pub gate_stays_hot: bool,
    /// Where the file is made: on a disk, not in memory. It has no name there and goes with the model.
    pub directory: PathBuf,
}

/// What of a layer stays.
#[derive(Clone)]
pub(super) struct LayerPlan {
    pub(super) attention_stays: bool,
    /// None where the gate rows lie as the neurons do.
    pub(super) gate_stays: Option<bool>,
    /// None where all neurons stay.
    pub(super) neurons: Option<Placement>,
}

impl LayerPlan {
    /// Everything stays.
    pub(super) fn hot() -> Self {
        Self { attention_stays: true, gate_stays: None, neurons: None }
    }

    /// Where the gate rows go.
    pub(super) fn gate(&self, rows: usize) -> Option<Placement> {
        match self.gate_stays {
            None => self.neurons.clone(),
            Some(stays) => cold_unless(stays, rows),
        }
    }
}

/// A placement in the file, if it does not stay in memory.
pub(super) fn cold_unless(stays: bool, rows: usize) -> Option<Placement> {
    (!stays).then(|| Placement::cold(rows))
}

/// What of a model stays.
pub(super) struct Plan {
    pub(super) head_stays: bool,
    pub(super) layers: Vec<LayerPlan>,
}

/// Bytes of a layer's matrices in memory.
struct Sizes {
    attention: usize,
    gate: usize,
    /// Up and down rows.
    neurons: usize,
    /// Scales of the down projection, which stay.
    scales: usize,
}

impl Plan {
    /// Everything stays.
    pub(super) fn hot(config: &ModelConfig) -> Self {
        Self { head_stays: true, layers: vec![LayerPlan::hot(); config.layers.len()] }
    }

    /// Fills the budget: with what every token reads, the output head and the first layers first, then
    /// with the hottest neurons.
    pub(super) fn new(
        loader: &Loader,
        config: &ModelConfig,
        residency: &Residency,
    ) -> Result<Self, ModelError> {
        let layers = config.layers.len();
        check_heat(config, &residency.heat)?;
        let owners = mlp_owners(loader.source, config)?;
        let sizes: Vec<Sizes> =
            (0..layers).map(|layer| sizes(loader, config, layer)).collect::<Result<_, _>>()?;
        let is_owner = |layer: &usize| owners[*layer] == *layer;
        let scales: usize = (0..layers).filter(is_owner).map(|layer| sizes[layer].scales).sum();
        let budget = residency.budget_bytes;
        let Some(mut room) = budget.checked_sub(scales) else {
            return Err(ModelError::Budget { budget, least: scales });
        };
        let mut take = |bytes: usize| {
            let fits = bytes <= room;
            room -= if fits { bytes } else { 0 };
            fits
        };
        let head = if config.untied_head { "output.weight" } else { "token_embd.weight" };
        let mut plan = Self::hot(config);
        plan.head_stays = take(loader.bytes_of(head)?);
        for (layer, sizes) in plan.layers.iter_mut().zip(&sizes) {
            layer.attention_stays = take(sizes.attention);
        }
        if config.gated && residency.gate_stays_hot {
            for layer in (0..layers).filter(is_owner) {
                plan.layers[layer].gate_stays = Some(take(sizes[layer].gate));
            }
        }
        let owned: Vec<usize> = (0..layers).filter(is_owner).collect();
        plan.place_neurons(config, residency, &sizes, &owned, room);
        Ok(plan)
    }

    /// Fills `room` with the neurons of the layers `owned`, the hottest for each byte first.
    fn place_neurons(
        &mut self,
        config: &ModelConfig,
        residency: &Residency,
        sizes: &[Sizes],
        owned: &[usize],
        mut room: usize,
    ) {
        let neurons = config.intermediate;
        let heat = |layer: usize, neuron: usize| match &residency.heat[..] {
            [] => 0.0,
            heat => heat[layer][neuron],
        };
        let unit = |layer: usize| {
            let gate = if residency.gate_stays_hot { 0 } else { sizes[layer].gate };
            ((sizes[layer].neurons + gate) / neurons).max(1)
        };
        let mut units: Vec<(f32, usize, u32)> = Vec::new();
        for &layer in owned {
            let bytes = unit(layer) as f32;
            units.extend((0..neurons).map(|n| (heat(layer, n) / bytes, layer, n as u32)));
        }
        units.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut order = vec![Vec::with_capacity(neurons); self.layers.len()];
        let mut hot = vec![0; self.layers.len()];
        for (_, layer, neuron) in units {
            order[layer].push(neuron);
            if unit(layer) <= room {
                room -= unit(layer);
                hot[layer] += 1;
            } else {
                // Colder neurons stay no more, so that those of a layer that stay come first.
                room = 0;
            }
        }
        for &layer in owned {
            let all = hot[layer] == neurons;
            self.layers[layer].neurons = (!all).then(|| Placement::new(&order[layer], hot[layer]));
        }
    }
}

fn check_heat(config: &ModelConfig, heat: &[Vec<f32>]) -> Result<(), ModelError> {
    let (layers, neurons) = (config.layers.len(), config.intermediate);
    let fits = heat.len() == layers && heat.iter().all(|layer| layer.len() == neurons);
    if heat.is_empty() || fits {
        return Ok(());
    }
    Err(ModelError::Heat { layers, neurons })
}

fn sizes(loader: &Loader, config: &ModelConfig, layer: usize) -> Result<Sizes, ModelError> {
    let of = |part: &str| loader.bytes_of(&format!("blk.{layer}.{part}.weight"));
    let attention = ["attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output"];
    let attention = attention.map(of).into_iter().sum::<Result<usize, _>>()?;
    let down = of("ffn_down")?;
    let weights = config.hidden * config.intermediate;
    // A scale and an offset of 16 bits for 32 weights.
    let scales = if down < 2 * weights { (weights / 8).min(down) } else { 0 };
    let neurons = of("ffn_up")? + down - scales;
    Ok(Sizes { attention, gate: of("ffn_gate")?, neurons, scales })
}

/// The first layer with the same MLP, for each layer.
fn mlp_owners(source: &Source, config: &ModelConfig) -> Result<Vec<usize>, ModelError> {
    let mut owners = Vec::new();
    let mut known: Vec<(usize, Vec<Tensor>)> = Vec::new();
    for layer in 0..config.layers.len() {
        let names = ["ffn_up", "ffn_down", "ffn_gate"];
        let tensors = names.map(|part| source.find(&format!("blk.{layer}.{part}.weight")));
        let tensors: Vec<Tensor> =
            tensors.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        let same = |(_, earlier): &&(usize, Vec<Tensor>)| {
            !config.biases.mlp && same_tensors(source, earlier, &tensors)
        };
        let owner = known.iter().find(same).map_or(layer, |(owner, _)| *owner);
        owners.push(owner);
        if owner == layer {
            known.push((layer, tensors));
        }
    }
    Ok(owners)
}

/// Whether tensors hold the same bytes.
pub(super) fn same_tensors(source: &Source, a: &[Tensor], b: &[Tensor]) -> bool {
    let bytes = |tensor: &Tensor| &source.bytes(tensor.file)[tensor.bytes.clone()];
    let same = |(a, b): (&Tensor, &Tensor)| a.dtype == b.dtype && bytes(a) == bytes(b);
    a.len() == b.len() && a.iter().zip(b).all(same)
}
