//! Log-probabilities of a text's tokens, window by window.

use std::sync::Arc;

use anyhow::Result;
use fewron_model::{Logits, MaskSource, Pool, Session};

use crate::cli::KvType;
use crate::loaded::Loaded;
use crate::mask::Mask;
use crate::ui;

/// Tokens at the start of a window that run dense under a mask, as a prompt would.
const DENSE_TOKENS: usize = 32;

/// Tokens that run at once, at most.
const MOST_AT_ONCE: usize = 128;

/// Memory for logits that are held at once.
const LOGITS_BYTES: usize = 64 << 20;

/// Scores texts under a model.
///
/// A text is cut into windows of a number of tokens that do not overlap; nothing is remembered
/// between windows. Where the model's file asks for BOS, every window starts with it and it counts
/// as one of the window's tokens; then each token of the text is predicted. Else the first token of
/// each window is not.
pub(crate) struct Scorer<'a> {
    loaded: &'a Loaded,
    session: Session,
    window: usize,
    bos: Option<u32>,
    mask: Option<Mask<'a>>,
    at_once: usize,
}

impl<'a> Scorer<'a> {
    /// A scorer with windows of `window` tokens, at least 2.
    pub(crate) fn new(
        loaded: &'a Loaded,
        pool: &Arc<Pool>,
        kv_type: KvType,
        window: usize,
        mask: Option<Mask<'a>>,
    ) -> Self {
        let session = loaded.session(pool, kv_type);
        let row_bytes = loaded.model.config().vocab * size_of::<f32>();
        let at_once = (LOGITS_BYTES / row_bytes).clamp(1, MOST_AT_ONCE);
        let bos = loaded.tokenizer.bos().filter(|_| loaded.tokenizer.add_bos());
        Self { loaded, session, window, bos, mask, at_once }
    }

    /// How many of a text's tokens get a score.
    pub(crate) fn predictions(&self, tokens: usize) -> usize {
        match self.bos {
            Some(_) => tokens,
            None => tokens - tokens.div_ceil(self.window),
        }
    }

    /// The log-probability of each predicted token in nats, in order. `progress` gets the tokens
    /// that are done.
    ///
    /// # Errors
    /// After Ctrl-C.
    pub(crate) fn score(
        &mut self,
        tokens: &[u32],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>> {
        let mut logprobs = Vec::with_capacity(self.predictions(tokens.len()));
        let room = self.window - usize::from(self.bos.is_some());
        for window in tokens.chunks(room) {
            let window: Vec<u32> = self.bos.into_iter().chain(window.iter().copied()).collect();
            self.score_window(&window, &mut logprobs, progress)?;
        }
        Ok(logprobs)
    }

    /// Takes the share of neurons that were active at masked tokens.
    pub(crate) fn take_active(&mut self) -> Option<f64> {
        self.mask.as_mut().and_then(|mask| mask.take_counts().active()).map(|active| active.mean)
    }

    fn score_window(
        &mut self,
        window: &[u32],
        logprobs: &mut Vec<f32>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<()> {
        self.session.truncate(0);
        // The last token predicts nothing.
        let inputs = &window[..window.len() - 1];
        let labels = &window[1..];
        let mut done = 0;
        while done < inputs.len() {
            ui::check_interrupt()?;
            let dense_left = DENSE_TOKENS.saturating_sub(done);
            let limit =
                if self.mask.is_some() && dense_left > 0 { dense_left } else { inputs.len() };
            let end = inputs.len().min(done + self.at_once.min(limit));
            if let Some(mask) = self.mask.as_mut().filter(|m| done == 0 && m.reads_prompts()) {
                mask.read_prompt(&mut self.session, &inputs[..end], Logits::None)?;
                self.session.truncate(0);
            }
            let mask = self.mask.as_mut().filter(|_| dense_left == 0);
            let mask = mask.map(|m| m as &mut dyn MaskSource);
            let logits = self.session.forward(&inputs[done..end], mask, None, Logits::All)?;
            let vocab = self.loaded.model.config().vocab;
            for (logits, &label) in logits.chunks_exact(vocab).zip(&labels[done..end]) {
                let norm = fewron_kernels::log_sum_exp(self.loaded.model.isa(), logits);
                logprobs.push(logits[label as usize] - norm);
            }
            done = end;
            progress(logprobs.len());
        }
        Ok(())
    }
}
