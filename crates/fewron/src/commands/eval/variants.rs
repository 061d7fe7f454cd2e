//! Masks of the command line as variants of an evaluation. The only place that knows both.

use std::sync::Arc;

use anyhow::Result;
use fewron_eval::tasks::{Variant, VariantError, VariantMask};
use fewron_model::{MaskSource, Pool};
use fewron_sparsity::Calibration;

use crate::cli::MaskArgs;
use crate::loaded::Loaded;
use crate::mask::{self, Mask};

/// A mask of the command line.
pub(super) struct MaskVariant {
    args: MaskArgs,
    name: String,
    calibration: Arc<Calibration>,
}

/// The masks of the arguments, each name once.
///
/// # Errors
/// For a mask that this version or this model cannot have.
pub(super) fn variants(
    masks: Vec<MaskArgs>,
    loaded: &Loaded,
    pool: &Arc<Pool>,
) -> Result<Vec<MaskVariant>> {
    let mut variants: Vec<MaskVariant> = Vec::new();
    let mut calibration: Option<Arc<Calibration>> = None;
    for args in masks {
        args.check()?;
        let name = args.label().unwrap_or_default();
        if variants.iter().any(|known| known.name == name) {
            continue;
        }
        // All policies make do with what one of them has measured.
        let known = calibration.take().filter(|known| !known.gate_weights.is_empty());
        let known = match known {
            Some(known) => known,
            None => Arc::new(mask::calibration(&args, loaded, pool)?),
        };
        Mask::new(&args, &known)?;
        calibration = Some(Arc::clone(&known));
        variants.push(MaskVariant { args, name, calibration: known });
    }
    Ok(variants)
}

impl Variant for MaskVariant {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self) -> Result<Box<dyn VariantMask + '_>, VariantError> {
        let mask = Mask::new(&self.args, &self.calibration)?;
        Ok(Box::new(Started(mask.ok_or("the dense model is no variant")?)))
    }
}

/// A mask at work on one sample.
struct Started<'a>(Mask<'a>);

impl VariantMask for Started<'_> {
    fn sees_prompt(&self) -> bool {
        false
    }

    fn masks(&mut self) -> &mut dyn MaskSource {
        &mut self.0
    }
}
