//! A model's calibration, measured once and kept in the cache.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use fewron_eval::calibration::{FORMAT_VERSION, calibrate, from_bytes, to_bytes};
use fewron_model::Pool;
use fewron_sparsity::Calibration;

use super::Loaded;
use crate::store::{self, Home};
use crate::ui::{self, Progress, Unit};

impl Loaded {
    /// What run-time policies need to know of this model: out of the cache, else measured on the
    /// built-in text and kept there. A cache that is damaged or cannot be written costs time and
    /// nothing else.
    ///
    /// # Errors
    /// When the model cannot be hashed or run, and after Ctrl-C.
    pub(crate) fn calibration(&self, pool: &Arc<Pool>) -> Result<Calibration> {
        let file = self.calibration_file()?;
        let kept = fs::read(&file).ok().and_then(|bytes| from_bytes(&bytes, &self.model));
        if let Some(calibration) = kept {
            return Ok(calibration);
        }
        let mut progress = None;
        let mut show = |done: usize, total: usize| {
            let new = || Progress::late("calibrating", Unit::Items, total as u64);
            progress.get_or_insert_with(new).set(done as u64);
        };
        let calibration = calibrate(&self.model, pool, &self.tokenizer, &mut show)?;
        ui::check_interrupt()?;
        let _ = store::write_whole(&file, &to_bytes(&calibration));
        Ok(calibration)
    }

    fn calibration_file(&self) -> Result<PathBuf> {
        let weights = self.quantized.map_or(String::new(), |dtype| format!("-{dtype}"));
        let name = format!("{}{weights}-{FORMAT_VERSION}.safetensors", self.sha256()?);
        Ok(Home::find()?.calibrations().join(name))
    }
}
