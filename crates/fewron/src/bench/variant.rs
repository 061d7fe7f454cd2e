//! What is measured: the dense model, and masks over it.

use fewron_model::speculation::{Counts, DraftLength, Speculation};
use fewron_model::{Choice, Logits, MaskSource, Model, ModelError, Session};
use fewron_sparsity::selection::kept_count;
use fewron_sparsity::{Kept, Replay};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::loaded::Loaded;
use crate::mask::{Mask, Masking};

/// Tokens that have a random mask of their own; later tokens have those of the first again.
const MOST_MASKS: usize = 64;

/// A way to decode, and its name.
pub(crate) struct Variant<'a> {
    pub(crate) name: String,
    pub(crate) mask: VariantMask<'a>,
}

/// Who says which neurons run.
pub(crate) enum VariantMask<'a> {
    /// All of them run.
    Dense,
    /// They are known beforehand.
    Random(RandomMasks),
    /// The run-time policy.
    Policy(Mask<'a>),
    /// The policy drafts, the whole model verifies.
    Lossless(Box<Lossless<'a>>),
}

/// A policy that drafts.
pub(crate) struct Lossless<'a> {
    pub(crate) mask: Mask<'a>,
    pub(crate) speculation: Speculation,
}

impl<'a> Variant<'a> {
    /// The whole model.
    pub(crate) fn dense() -> Self {
        Self { name: "dense".to_owned(), mask: VariantMask::Dense }
    }

    /// Known random masks, for decoding `tokens` tokens.
    pub(crate) fn random(model: &Model, ratio: f32, tokens: usize, seed: u64) -> Self {
        let (layers, neurons) = (model.config().layers.len(), model.config().intermediate);
        let masks = RandomMasks::new(layers, neurons, ratio, tokens, seed);
        Self { name: format!("random-{ratio}"), mask: VariantMask::Random(masks) }
    }

    /// A plan, or a policy at a ratio.
    pub(crate) fn masking(masking: &'a Masking) -> Self {
        Self { name: masking.label.clone(), mask: VariantMask::Policy(masking.mask()) }
    }

    /// A plan, or a policy at a ratio, whose drafts the whole model verifies.
    pub(crate) fn lossless(masking: &'a Masking, length: DraftLength) -> Self {
        let (mask, speculation) = (masking.mask(), Speculation::new(length));
        let lossless = Box::new(Lossless { mask, speculation });
        Self { name: format!("lossless:{}", masking.label), mask: VariantMask::Lossless(lossless) }
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
        let mask = match &mut self.mask {
            VariantMask::Policy(mask) => mask,
            VariantMask::Lossless(lossless) => &mut lossless.mask,
            VariantMask::Dense | VariantMask::Random(_) => return Ok(()),
        };
        if mask.reads_prompts() {
            session.truncate(0);
            mask.read_prompt(session, text, Logits::None)?;
            session.truncate(dense);
        }
        Ok(())
    }

    /// What became of the drafts, if there are any.
    pub(crate) fn drafts(&self) -> Option<Counts> {
        match &self.mask {
            VariantMask::Lossless(lossless) => Some(*lossless.speculation.counts()),
            _ => None,
        }
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
            VariantMask::Lossless(lossless) => Some(&mut lossless.mask),
        }
    }

    /// The share of MLP neurons that ran since the last call, and the weight bytes that a token then
    /// reads; `spared` of them lie in the head and are not read for a token alone.
    pub(crate) fn take_cost(&mut self, loaded: &Loaded, spared: f64) -> (f64, f64) {
        let bytes = loaded.model.bytes_per_token();
        let whole = bytes.total() as f64;
        let total = whole - spared;
        match &mut self.mask {
            VariantMask::Dense => (1.0, total),
            VariantMask::Random(masks) => {
                (masks.active, total - bytes.mlp as f64 * (1.0 - masks.active))
            }
            VariantMask::Policy(mask) => match mask.take_active() {
                Some(active) => (active.mean, mask.bytes_per_token(loaded, &active) - spared),
                None => (1.0, total),
            },
            VariantMask::Lossless(lossless) => {
                let Lossless { mask, speculation } = &mut **lossless;
                let Some(active) = mask.take_active() else { return (1.0, total) };
                let draft = mask.bytes_per_token(loaded, &active) - spared;
                (active.mean, bytes_of_a_token(speculation.counts(), draft, total, whole))
            }
        }
    }
}

/// Weight bytes of a token that stays: its share of the drafts, of the tokens that ran alone and of the
/// batches, each of which reads the weights once.
fn bytes_of_a_token(counts: &Counts, draft: f64, alone: f64, batch: f64) -> f64 {
    let alone = (counts.chosen - counts.verified) as f64 * alone;
    let batches = counts.verifications as f64 * batch;
    (counts.drafted as f64 * draft + alone + batches) / counts.chosen.max(1) as f64
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

    #[test]
    fn drafts_cost_bytes_too() {
        // Two dense tokens, and four batches with two drafts each that left ten tokens.
        let counts = Counts { chosen: 12, verifications: 4, verified: 10, drafted: 8, accepted: 6 };
        let bytes = bytes_of_a_token(&counts, 3.0, 6.0, 7.0);
        assert_eq!(bytes, (8.0 * 3.0 + 2.0 * 6.0 + 4.0 * 7.0) / 12.0);
    }

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
