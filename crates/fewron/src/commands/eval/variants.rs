//! Masks of the command line as variants of an evaluation. The only place that knows both.

use std::sync::Arc;

use anyhow::Result;
use fewron_eval::tasks::{Variant, VariantError, VariantMask};
use fewron_model::{Logits, MaskSource, ModelError, Pool, Session};

use crate::cli::MaskArgs;
use crate::loaded::Loaded;
use crate::mask::{Mask, Masking};

/// The masks of the arguments, each name once.
///
/// # Errors
/// For a mask that this version or this model cannot have.
pub(super) fn variants(
    masks: &[MaskArgs],
    loaded: &Loaded,
    pool: &Arc<Pool>,
) -> Result<Vec<Masking>> {
    let mut variants: Vec<Masking> = Vec::new();
    for args in masks {
        args.check()?;
        let masking = Masking::new(args, loaded, pool)?;
        variants.extend(masking.filter(|m| variants.iter().all(|known| known.label != m.label)));
    }
    Ok(variants)
}

impl Variant for Masking {
    fn name(&self) -> &str {
        &self.label
    }

    fn start(&self) -> Result<Box<dyn VariantMask + '_>, VariantError> {
        Ok(Box::new(Started(self.mask())))
    }
}

/// A mask at work on one sample.
struct Started<'a>(Mask<'a>);

impl VariantMask for Started<'_> {
    fn sees_prompt(&self) -> bool {
        self.0.reads_prompts()
    }

    fn read_prompt(
        &mut self,
        session: &mut Session,
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<(), ModelError> {
        self.0.read_prompt(session, tokens, wanted).map(drop)
    }

    fn masks(&mut self) -> &mut dyn MaskSource {
        &mut self.0
    }
}
