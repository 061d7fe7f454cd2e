//! What a recovered plan changes in the weights of its model: `recover/FORMAT.md`.
//!
//! `edits.L.MATRIX` (u8): the number of edits (u32), the parameter k of their Rice code, the largest step, two
//! zeros; then for each edit, by its place in the matrix, the number of weights that are passed over (Rice
//! code: `n >> k` ones, a zero, k low bits), a bit that is 1 where the code gets smaller, and the step's size
//! less 1 in unary, without its end where it is the largest. Least significant bits come first.
//! `norm.L.NAME`, `norm.output` and `bias.L.MATRIX` (f32) replace norms and biases.

use super::file::{
    FLOATS, FORMAT_VERSION, PlanError, RECOVERED_VERSION, floats, read_header, read_record,
    write_header,
};
use super::record::PlanModel;
use fewron_model::{Changes, Edit};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The number of plans that change nothing.
pub const NO_CHANGES: u64 = 0;

/// Bytes before the bits of a matrix's edits.
const HEADER: usize = 8;

/// Most low bits of a Rice code.
const MOST_LOW_BITS: u8 = 24;

/// Largest step of an edit.
const MOST_STEP: u8 = 7;

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

/// The edits of a matrix; `None` where the bytes are no such list.
fn read_edits(bytes: &[u8]) -> Option<Vec<Edit>> {
    let (&[a, b, c, d, low_bits, limit, 0, 0], stream) = bytes.split_first_chunk::<HEADER>()?
    else {
        return None;
    };
    let count = u32::from_le_bytes([a, b, c, d]) as usize;
    // An edit has two bits at least.
    if low_bits > MOST_LOW_BITS || !(1..=MOST_STEP).contains(&limit) || count > stream.len() * 4 {
        return None;
    }
    let mut bits = Bits { bytes: stream, at: 0 };
    let mut edits = Vec::with_capacity(count);
    let mut next = 0u32;
    for _ in 0..count {
        let passed = bits.ones(u32::MAX)?.checked_mul(1 << low_bits)? | bits.number(low_bits)?;
        let place = next.checked_add(passed)?;
        let down = bits.next()?;
        let size = bits.ones(u32::from(limit) - 1)? as i8 + 1;
        edits.push(Edit { place, step: if down { -size } else { size } });
        next = place.checked_add(1)?;
    }
    Some(edits)
}

/// Bits of bytes, the least significant of each first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn next(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Ones up to a zero, which is passed over, or `most` of them without one.
    fn ones(&mut self, most: u32) -> Option<u32> {
        let mut count = 0;
        while count < most && self.next()? {
            count += 1;
        }
        Some(count)
    }

    /// A number of so many bits.
    fn number(&mut self, bits: u8) -> Option<u32> {
        (0..bits).try_fold(0, |number, bit| Some(number | u32::from(self.next()?) << bit))
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

    #[test]
    fn a_list_written_by_hand_is_read() {
        // k = 1, steps up to 2: passes 0 and goes down by 1; passes 3 and goes up by 2.
        // 0 | 0 | 1 | 0,  10 | 1 | 0 | 1  in the order of the stream.
        let bits = [0, 0, 1, 0, 1, 0, 1, 0, 1];
        let mut bytes = vec![2, 0, 0, 0, 1, 2, 0, 0, 0, 0];
        for (at, bit) in bits.into_iter().enumerate() {
            bytes[HEADER + at / 8] |= bit << (at % 8);
        }
        let edits = [Edit { place: 0, step: -1 }, Edit { place: 4, step: 2 }];
        assert_eq!(read_edits(&bytes), Some(edits.to_vec()));
        for len in 0..bytes.len() {
            assert_eq!(read_edits(&bytes[..len]), None, "{len}");
        }
        for (at, wrong) in [(0, 8), (0, 9), (3, 1), (4, 25), (5, 0), (5, 8), (6, 1)] {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            assert_eq!(read_edits(&bytes), None, "{at}");
        }
    }
    /// The bytes that the Python side writes (`recover/tests/golden/make_edits.py`).
    #[test]
    fn lists_of_the_python_side_are_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recover/tests/golden/edits.json");
        let cases: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let hex = case["hex"].as_str().unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let pairs: Vec<(u32, i8)> = serde_json::from_value(case["edits"].clone()).unwrap();
            let edits = pairs.into_iter().map(|(place, step)| Edit { place, step });
            assert_eq!(read_edits(&bytes), Some(edits.collect()), "{case}");
        }
        assert_eq!(cases.as_array().unwrap().len(), 3);
    }
}
