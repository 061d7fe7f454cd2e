//! Calibration of the run-time policies: measured on the built-in text, kept as safetensors.

use std::collections::HashMap;
use std::sync::Arc;

use fewron_model::tokenizer::{Specials, Tokenizer};
use fewron_model::{Logits, Model, ModelError, Pool, Session};
use fewron_sparsity::{Calibration, CalibrationProbe};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

use crate::data::CALIBRATION_TEXT;

/// Version of the measurement and of its file; a file of another version is of no use.
pub const FORMAT_VERSION: u32 = 1;

/// Tokens of the text that are run, at most.
const MAX_TOKENS: usize = 1_500;

/// Tokens that are run as one text.
const WINDOW: usize = 256;

/// Measures a model's usual activations: up to 1,500 tokens of [`CALIBRATION_TEXT`] run dense in
/// windows of 256 tokens, each after BOS where the model's file asks for it. `progress` gets the
/// tokens done and their number.
///
/// # Errors
/// When the tokenizer gives tokens that the model does not have.
pub fn calibrate(
    model: &Arc<Model>,
    pool: &Arc<Pool>,
    tokenizer: &Tokenizer,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Calibration, ModelError> {
    let mut tokens = tokenizer.encode(CALIBRATION_TEXT, Specials::Plain);
    tokens.truncate(MAX_TOKENS);
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let room = WINDOW.min(model.config().context) - usize::from(bos.is_some());
    let mut probe = CalibrationProbe::new(model);
    let mut session = Session::new(Arc::clone(model), Arc::clone(pool));
    let mut done = 0;
    for window in tokens.chunks(room.max(1)) {
        progress(done, tokens.len());
        session.truncate(0);
        let window: Vec<u32> = bos.into_iter().chain(window.iter().copied()).collect();
        session.forward(&window, None, Some(&mut probe), Logits::None)?;
        done += window.len() - usize::from(bos.is_some());
    }
    progress(done, tokens.len());
    Ok(probe.finish(model))
}

/// The calibration as a safetensors file: `gate_weights`, `gate_scores` and `magnitudes`, each f32
/// `[layers, values]`.
pub fn to_bytes(calibration: &Calibration) -> Vec<u8> {
    let rows = |rows: &[Vec<f32>]| -> ([usize; 2], Vec<u8>) {
        let bytes = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        ([rows.len(), rows.first().map_or(0, Vec::len)], bytes)
    };
    let named = fields(calibration).map(|(name, values)| (name, rows(values)));
    let tensors = named.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        (*name, view.expect("all layers have as many values"))
    });
    let version = HashMap::from([("format_version".to_owned(), FORMAT_VERSION.to_string())]);
    serialize(tensors, Some(version)).expect("three small tensors are no problem to serialize")
}

/// Reads what [`to_bytes`] wrote for this model; `None` if the bytes are damaged, of another
/// version or of a model of another shape.
pub fn from_bytes(bytes: &[u8], model: &Model) -> Option<Calibration> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let version = header.metadata().as_ref()?.get("format_version")?;
    if *version != FORMAT_VERSION.to_string() {
        return None;
    }
    let file = SafeTensors::deserialize(bytes).ok()?;
    let config = model.config();
    let read = |name: &str, sorted: bool| read_rows(&file, name, config.layers.len(), sorted);
    let calibration = Calibration {
        gate_weights: read("gate_weights", false)?,
        gate_scores: read("gate_scores", true)?,
        magnitudes: read("magnitudes", true)?,
    };
    let width = calibration.gate_weights.first()?.len();
    (width == config.intermediate).then_some(calibration)
}

fn fields(calibration: &Calibration) -> [(&'static str, &[Vec<f32>]); 3] {
    let Calibration { gate_weights, gate_scores, magnitudes } = calibration;
    [("gate_weights", gate_weights), ("gate_scores", gate_scores), ("magnitudes", magnitudes)]
}

/// The rows of a tensor: finite numbers, not negative, ascending where they are `sorted`.
fn read_rows(file: &SafeTensors, name: &str, layers: usize, sorted: bool) -> Option<Vec<Vec<f32>>> {
    let tensor = file.tensor(name).ok()?;
    let &[rows, width] = tensor.shape() else { return None };
    if tensor.dtype() != Dtype::F32 || rows != layers || width == 0 {
        return None;
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    let sound = |row: &[f32]| {
        row.iter().all(|v| v.is_finite() && *v >= 0.0) && (!sorted || row.is_sorted())
    };
    let rows = values.chunks_exact(width);
    rows.map(|row| sound(row).then(|| row.to_vec())).collect()
}

#[cfg(test)]
mod tests;
