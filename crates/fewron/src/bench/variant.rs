//! What is measured: the dense model, and masks over it.

use std::sync::Arc;

use fewron_model::{Choice, Logits, MaskSource, Model, ModelError, Session};
use fewron_sparsity::Active;
use fewron_sparsity::selection::kept_count;
use fewron_sparsity::{Kept, Replay};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::mask::{Mask, Masking};

/// Tokens that have a random mask of their own; later tokens have those of the first again.
const MOST_MASKS: usize = 64;

/// A way to decode, and its name.
pub(crate) struct Variant<'a> {
    pub(crate) name: String,
    /// What decodes.
    pub(crate) model: Arc<Model>,
    mask: VariantMask<'a>,
}

/// Who says which neurons run.
enum VariantMask<'a> {
    /// All of them run.
    Dense,
    /// They are known beforehand.
    Random(RandomMasks),
    /// The run-time policy.
    Policy(Mask<'a>),
}

impl<'a> Variant<'a> {
    /// The whole model.
    pub(crate) fn dense(model: &Arc<Model>) -> Self {
        let name = "dense".to_owned();
        Self { name, model: Arc::clone(model), mask: VariantMask::Dense }
    }

    /// Known random masks, for decoding `tokens` tokens.
    pub(crate) fn random(model: &Arc<Model>, ratio: f32, tokens: usize, seed: u64) -> Self {
        let (layers, neurons) = (model.config().layers.len(), model.config().intermediate);
        let masks = RandomMasks::new(layers, neurons, ratio, tokens, seed);
        let (name, model) = (format!("random-{ratio}"), Arc::clone(model));
        Self { name, model, mask: VariantMask::Random(masks) }
    }

    /// A plan, or a policy at a ratio.
    pub(crate) fn masking(masking: &'a Masking) -> Self {
        let (name, model) = (masking.label.clone(), Arc::clone(&masking.model));
        Self { name, model, mask: VariantMask::Policy(masking.mask()) }
    }

    /// Lets a policy that chooses by its prompt read one, and leaves the session with what it had: the first
    /// `dense` tokens of `text`.
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub(crate) fn read_prompt(
        &mut self,
        session: &mut Session,
        text: &[u32],
        dense: usize,
    ) -> Result<(), ModelError> {
        if let VariantMask::Policy(mask) = &mut self.mask
            && mask.reads_prompts()
        {
            session.truncate(0);
            mask.read_prompt(session, text, Logits::None)?;
            session.truncate(dense);
        }
        Ok(())
    }

    /// The mask of a token that is decoded, counted from 0.
    pub(crate) fn mask(&mut self, token: usize) -> Option<&mut dyn MaskSource> {
        match &mut self.mask {
            VariantMask::Dense => None,
            VariantMask::Random(masks) => {
                masks.token = token;
                Some(masks)
            }
            VariantMask::Policy(mask) => Some(mask),
        }
    }

    /// What a token behind `kv_length` others has cost since the last call, the whole head counted.
    pub(crate) fn take_cost(&mut self, kv_length: usize) -> Cost {
        let model = &self.model;
        let bytes = model.bytes_per_token();
        let (total, flops) = (bytes.total() as f64, model.flops_per_token(kv_length));
        let dense = Cost { active: 1.0, bytes: total, flops };
        match &mut self.mask {
            VariantMask::Dense => dense,
            VariantMask::Random(masks) => {
                let layers = 0..model.config().layers.len();
                let mlp: usize = layers.map(|layer| model.layer_weights(layer).mlp()).sum();
                let off = 1.0 - masks.active;
                Cost {
                    active: masks.active,
                    bytes: total - bytes.mlp as f64 * off,
                    flops: flops - 2.0 * mlp as f64 * off,
                }
            }
            VariantMask::Policy(mask) => match mask.take_counts().active() {
                Some(Active { mean, layers }) => Cost {
                    active: mean,
                    bytes: mask.plan().bytes_per_token(model, |layer| layers[layer]),
                    flops: mask.plan().flops_per_token(model, |layer| layers[layer], kv_length),
                },
                None => dense,
            },
        }
    }
}

/// What a decoded token costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Share of MLP neurons that ran.
    pub(crate) active: f64,
    /// Weight bytes that it reads.
    pub(crate) bytes: f64,
    /// Operations.
    pub(crate) flops: f64,
}

/// Random neurons of each layer and token, drawn beforehand so that choosing costs nothing.
pub(crate) struct RandomMasks {
    masks: Replay,
    /// The token that is decoded.
    token: usize,
    /// Share of neurons that are kept.
    active: f64,
}

impl RandomMasks {
    /// Keeps `neurons` − round(`ratio` · `neurons`) neurons of each layer and token.
    pub(crate) fn new(layers: usize, neurons: usize, ratio: f32, tokens: usize, seed: u64) -> Self {
        let count = kept_count(neurons, ratio);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut layer = || {
            let mut kept: Vec<u32> =
                index::sample(&mut rng, neurons, count).iter().map(|i| i as u32).collect();
            kept.sort_unstable();
            kept
        };
        let mut token = || Kept { neurons: (0..layers).map(|_| layer()).collect(), heads: vec![] };
        let masks = Replay((0..tokens.clamp(1, MOST_MASKS)).map(|_| token()).collect());
        Self { masks, token: 0, active: count as f64 / neurons as f64 }
    }
}

impl MaskSource for RandomMasks {
    fn neurons(&mut self, layer: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        self.masks.neurons(layer, self.token % self.masks.0.len(), kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(masks: &mut RandomMasks, layer: usize, token: usize) -> Vec<u32> {
        let mut kept = Vec::new();
        masks.token = token;
        assert_eq!(masks.neurons(layer, 0, &mut kept), Choice::Listed);
        kept
    }

    #[test]
    fn random_masks_have_the_right_count_in_order() {
        for (ratio, count) in [(0.0, 240), (0.5, 120), (0.8, 48), (0.999, 0), (1.0, 0)] {
            let mut masks = RandomMasks::new(3, 240, ratio, 4, 7);
            assert_eq!(masks.active, count as f64 / 240.0);
            for (layer, token) in [(0, 0), (2, 0), (1, 3), (2, 9)] {
                let kept = kept(&mut masks, layer, token);
                assert_eq!(kept.len(), count, "ratio {ratio}");
                assert!(kept.is_sorted_by(|a, b| a < b) && kept.iter().all(|&i| i < 240));
            }
            let mut heads = Vec::new();
            assert_eq!(masks.heads(0, 0, &mut heads), Choice::Dense);
        }
    }

    #[test]
    fn random_masks_differ_by_layer_token_and_seed() {
        let mut masks = RandomMasks::new(3, 240, 0.5, 4, 7);
        let first = kept(&mut masks, 0, 0);
        assert_ne!(first, kept(&mut masks, 1, 0));
        assert_ne!(first, kept(&mut masks, 0, 1));
        assert_eq!(first, kept(&mut masks, 0, 4), "four tokens have masks of their own");
        assert_eq!(first, kept(&mut RandomMasks::new(3, 240, 0.5, 4, 7), 0, 0));
        assert_ne!(first, kept(&mut RandomMasks::new(3, 240, 0.5, 4, 8), 0, 0));
        assert_eq!(RandomMasks::new(1, 8, 0.5, 1000, 0).masks.0.len(), MOST_MASKS);
    }
}
