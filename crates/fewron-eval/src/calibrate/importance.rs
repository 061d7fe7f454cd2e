//! Attribution over calibration text.

use super::{CalibrateError, Calibrator};
use fewron_model::sampler::argmax;
use fewron_model::{Logits, Stop, Trace};
use fewron_sparsity::Importance;

/// Tokens that go through the backward pass together.
const TOGETHER: usize = 32;

impl Calibrator<'_> {
    /// How much neurons and heads matter, with the model's own greedy tokens as labels: some tokens from
    /// each of the windows.
    pub(super) fn importance(&mut self) -> Result<Importance, CalibrateError> {
        let mut importance = Importance::new(&self.model);
        let vocab = self.model.config().vocab;
        let windows = &self.windows.calibration;
        let wanted = self.settings.traced_tokens.div_ceil(TOGETHER).min(windows.len());
        for index in 0..wanted {
            self.step("attribution", index, wanted)?;
            let window = &windows[index * windows.len() / wanted];
            // Where in the window differs from one to the next.
            let room = window.tokens.len().saturating_sub(window.dense + TOGETHER);
            let start = window.dense + if room > 0 { index * 37 % room } else { 0 };
            let end = (start + TOGETHER).min(window.tokens.len());
            let session = &mut self.session;
            session.truncate(0);
            session.forward(&window.tokens[..start], None, None, Logits::None)?;
            let mut trace = Trace::new(session.model().config());
            let tokens = &window.tokens[start..end];
            let logits = session.forward(tokens, None, Some(&mut trace), Logits::All)?.to_vec();
            let labels: Vec<u32> = logits.chunks_exact(vocab).map(argmax).collect();
            let gradients = session.backward(&trace, &logits, &labels, Stop::Everything);
            importance.add(&trace, &gradients);
        }
        Ok(importance)
    }
}
