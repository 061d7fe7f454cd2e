//! What a recovered plan changes in the weights of its model: `recover/FORMAT.md`.
//!
//! `edits.L.MATRIX` (u8) are read by `plan::edits`; `norm.L.NAME`, `norm.output` and `bias.L.MATRIX` (floats)
//! replace norms and biases.

use super::edits::read_edits;
use super::file::{
    FLOATS, FORMAT_VERSION, PlanError, RECOVERED_VERSION, floats, read_header, read_record,
    write_header,
};
use super::record::PlanModel;
use fewron_model::Changes;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The number of plans that change nothing.
pub const NO_CHANGES: u64 = 0;

/// What a plan changes, and a number that two plans share where they change the same, [`NO_CHANGES`] for
/// nothing.
///
/// # Errors
/// When a tensor is damaged.
pub fn read_changes(bytes: &[u8]) -> Result<(Changes, u64), PlanError> {
    let file =
        SafeTensors::deserialize(bytes).map_err(|error| PlanError::NoPlan(error.to_string()))?;
    let (mut changes, mut hasher) = (Changes::default(), DefaultHasher::new());
    let mut names = file.names();
    names.sort_unstable();
    for name in names {
        let Some(weight) = weight_of(name) else { continue };
        let tensor = file.tensor(name).map_err(|error| PlanError::NoPlan(error.to_string()))?;
        let wanted = if name.starts_with("edits.") { &[Dtype::U8][..] } else { &FLOATS };
        if !wanted.contains(&tensor.dtype()) || tensor.shape().len() != 1 {
            let got = format!("is {:?} {:?}", tensor.dtype(), tensor.shape());
            return Err(PlanError::tensor(name, got));
        }
        (name, tensor.data()).hash(&mut hasher);
        if name.starts_with("edits.") {
            let edits = read_edits(tensor.data());
            let edits = edits.ok_or_else(|| PlanError::tensor(name, "is no list of edits"))?;
            changes.edits.insert(weight, edits);
        } else {
            changes.vectors.insert(weight, floats(name, &tensor)?);
        }
    }
    let id = if changes.is_empty() { NO_CHANGES } else { hasher.finish() };
    Ok((changes, id))
}

/// The plan without its changes, for a model that has them in its files: all other tensors stay, byte for
/// byte.
///
/// # Errors
/// When the bytes are no plan.
pub fn without_changes(bytes: &[u8], model: &PlanModel) -> Result<Vec<u8>, PlanError> {
    let no_plan = |problem: &dyn std::fmt::Display| PlanError::NoPlan(problem.to_string());
    read_record(bytes)?;
    let mut header = read_header(bytes)?;
    header["record"]["model"] = serde_json::json!(model);
    let file = SafeTensors::deserialize(bytes).map_err(|error| no_plan(&error))?;
    let stays = |(name, _): &(String, _)| weight_of(name).is_none();
    let tensors: Vec<_> = file.tensors().into_iter().filter(stays).collect();
    let newer = |(name, tensor): &(String, TensorView)| {
        name.ends_with(".q4") || (tensor.dtype() == Dtype::F16 && !name.ends_with(".scale"))
    };
    let newer = tensors.iter().any(newer);
    let version = if newer { RECOVERED_VERSION } else { FORMAT_VERSION };
    serialize(tensors, write_header(version, &header["record"])).map_err(|error| no_plan(&error))
}

/// The name in GGUF files of what a tensor of the plan changes; `None` for the tensors of the mask.
fn weight_of(name: &str) -> Option<String> {
    let (kind, rest) = name.split_once('.')?;
    match (kind, rest) {
        ("norm", "output") => Some("output_norm.weight".to_owned()),
        ("norm", "output.bias") => Some("output_norm.bias".to_owned()),
        ("norm", _) => {
            let (layer, norm) = rest.split_once('.')?;
            let part = if norm.ends_with(".bias") { "" } else { ".weight" };
            Some(format!("blk.{layer}.{norm}{part}"))
        }
        ("edits" | "bias", _) => {
            let (layer, matrix) = rest.split_once('.')?;
            let matrix = match matrix {
                "q" | "k" | "v" => format!("attn_{matrix}"),
                "o" => "attn_output".to_owned(),
                _ => format!("ffn_{matrix}"),
            };
            let part = if kind == "edits" { "weight" } else { "bias" };
            Some(format!("blk.{layer}.{matrix}.{part}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_go_by_the_names_of_gguf_files() {
        let names = [
            ("edits.3.q", Some("blk.3.attn_q.weight")),
            ("edits.12.o", Some("blk.12.attn_output.weight")),
            ("edits.0.down", Some("blk.0.ffn_down.weight")),
            ("bias.0.k", Some("blk.0.attn_k.bias")),
            ("norm.7.post_ffw_norm", Some("blk.7.post_ffw_norm.weight")),
            ("norm.7.attn_norm.bias", Some("blk.7.attn_norm.bias")),
            ("norm.output", Some("output_norm.weight")),
            ("norm.output.bias", Some("output_norm.bias")),
            ("compensation.0.first.q", None),
            ("weights", None),
        ];
        for (name, weight) in names {
            assert_eq!(weight_of(name).as_deref(), weight, "{name}");
        }
    }

    #[test]
    fn a_plan_without_changes_keeps_the_rest() {
        let model = |name: &str| PlanModel {
            name: name.to_owned(),
            sha256: name.repeat(4),
            quantized: None,
            layers: 1,
            hidden: 2,
            intermediate: 3,
            heads: 1,
        };
        let quality =
            serde_json::json!({ "tokens": 1, "perplexity": 2.0, "kl": 0.5, "agreement": 0.5 });
        let record = serde_json::json!({
            "version": "0", "model": model("old"), "policy": "gate", "sparsity": 0.5, "selection": "layer",
            "compensation": 0, "predictor": 0,
            "recovery": {
                "version": "0", "data_sha256": "c", "tokens": 1, "steps": 7, "seed": 0, "lr": 0.5, "train": [],
                "held_out": { "before": quality, "after": quality, "after_dense": quality },
            },
            "calibration": { "data": "a", "sha256": "b", "tokens": 1, "seed": 0 },
        });
        let view = |dtype, data| TensorView::new(dtype, vec![1], data).unwrap();
        let plan = |rest: &'static str, dtype, data| {
            let tensors = [(rest, view(dtype, data)), ("edits.0.up", view(Dtype::U8, &[9]))];
            serialize(tensors, write_header(RECOVERED_VERSION, &record)).unwrap()
        };
        let cases: [(_, _, &[u8], _); 4] = [
            ("cut.kind", Dtype::U8, &[1], 1),
            ("compensation.0.first.q4", Dtype::U8, &[1], 2),
            ("compensation.0.first.scale", Dtype::F16, &[1, 2], 1),
            ("weights", Dtype::F16, &[1, 2], 2),
        ];
        for (rest, dtype, data, version) in cases {
            let bytes = without_changes(&plan(rest, dtype, data), &model("new")).unwrap();
            let header = read_header(&bytes).unwrap();
            assert_eq!(header["format_version"], version);
            assert_eq!(header["record"]["model"]["sha256"], "newnewnewnew");
            assert_eq!(header["record"]["recovery"], record["recovery"]);
            let file = SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(file.names(), [rest]);
            assert_eq!(file.tensor(rest).unwrap().data(), data);
        }
    }
}
