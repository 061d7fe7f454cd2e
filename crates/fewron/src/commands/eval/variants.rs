//! Masks of the command line as variants of an evaluation. The only place that knows both.

use std::sync::Arc;

use anyhow::{Result, ensure};
use fewron_eval::tasks::{Variant, VariantError, VariantMask};
use fewron_model::{Logits, MaskSource, Model, ModelError, Pool, Session};

use crate::cli::EvalArgs;
use crate::loaded::Models;
use crate::mask::{Mask, Masking};

/// What the arguments ask for beside the dense model, each name once.
///
/// # Errors
/// For a mask that this version or this model cannot have, and with `--unmasked` where no plan changes the
/// weights.
pub(super) fn variants(
    args: &EvalArgs,
    models: &Models,
    pool: &Arc<Pool>,
) -> Result<Vec<Box<dyn Variant>>> {
    let mut variants: Vec<Box<dyn Variant>> = Vec::new();
    let mut some_unmasked = false;
    for mask in args.masks() {
        mask.check()?;
        let loaded = models.of(mask.plan.as_deref());
        let Some(masking) = Masking::new(&mask, loaded, pool)? else { continue };
        if variants.iter().any(|known| known.name() == masking.label) {
            continue;
        }
        let recovered = !Arc::ptr_eq(&masking.model, &models.original.model);
        let unmasked = (args.unmasked && recovered).then(|| Unmasked::of(&masking));
        some_unmasked |= unmasked.is_some();
        variants.push(Box::new(masking));
        variants.extend(unmasked.map(|unmasked| Box::new(unmasked) as Box<dyn Variant>));
    }
    ensure!(
        some_unmasked || !args.unmasked,
        "--unmasked runs the weights that recovered plans change, and none of these plans changes any: \
         without a mask it is the dense model; leave it out"
    );
    Ok(variants)
}

impl Variant for Masking {
    fn name(&self) -> &str {
        &self.label
    }

    fn model(&self) -> Option<&Arc<Model>> {
        Some(&self.model)
    }

    fn start(&self) -> Result<Option<Box<dyn VariantMask + '_>>, VariantError> {
        Ok(Some(Box::new(Started(self.mask()))))
    }
}

/// The weights of a recovered plan without its mask.
struct Unmasked {
    name: String,
    model: Arc<Model>,
}

impl Unmasked {
    fn of(masking: &Masking) -> Self {
        let (name, model) = (format!("{} unmasked", masking.label), Arc::clone(&masking.model));
        Self { name, model }
    }
}

impl Variant for Unmasked {
    fn name(&self) -> &str {
        &self.name
    }

    fn model(&self) -> Option<&Arc<Model>> {
        Some(&self.model)
    }

    fn start(&self) -> Result<Option<Box<dyn VariantMask + '_>>, VariantError> {
        Ok(None)
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
