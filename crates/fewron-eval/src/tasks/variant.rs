//! What is evaluated beside the dense model.

use std::sync::Arc;

use fewron_model::{Logits, MaskSource, Model, ModelError, Session};

/// Why a variant's mask cannot be made.
pub type VariantError = Box<dyn std::error::Error + Send + Sync>;

/// Another way to run the model: sparsely, with other weights, or both.
pub trait Variant: Sync {
    /// The name in records and tables: `gate@0.5`.
    fn name(&self) -> &str;

    /// The model that it runs on, of the shape of the dense one; `None` for the dense one itself.
    fn model(&self) -> Option<&Arc<Model>> {
        None
    }

    /// A mask for one sample; `None` where all of the model runs.
    ///
    /// # Errors
    /// When it cannot be made; the evaluation ends.
    fn start(&self) -> Result<Option<Box<dyn VariantMask + '_>>, VariantError>;
}

/// A variant at work on one sample: the prompt is read once, then answers go on from there.
pub trait VariantMask {
    /// Whether [`Self::read_prompt`] does anything else than the model does by itself. Where it does
    /// not, variants of a model share the prompt that it has read.
    fn sees_prompt(&self) -> bool;

    /// Reads the part of the text that runs dense into an empty session. All such reading for a
    /// variant that sees its prompt happens here, once for a sample.
    ///
    /// # Errors
    /// When the model refuses the tokens.
    fn read_prompt(
        &mut self,
        session: &mut Session,
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<(), ModelError> {
        session.forward(tokens, None, None, wanted)?;
        Ok(())
    }

    /// Decides about the tokens that run sparse. `token` counts through the variant's tokens of a
    /// batch, which may belong to several answers.
    fn masks(&mut self) -> &mut dyn MaskSource;
}
