//! A running text: the mutable side of a model.

use crate::backward::{Backward, Gradients, Stop};
use crate::error::ModelError;
use crate::forward::{Pass, Scratch, Texts};
use crate::kv_cache::KvCache;
use crate::mask::MaskSource;
use crate::model::Model;
use crate::probe::Probe;
use crate::rope::Rope;
use crate::trace::Trace;
use fewron_kernels::{Activations, KvShape, KvType, Margin, Pool, matvec_shortlist};
use std::sync::Arc;

/// Tokens of a prompt that run as one batch.
const BATCH: usize = 128;

/// Margin of a shortlist in standard deviations of its approximation's error.
const DEVIATIONS: f32 = 8.0;

/// Which tokens of a call need logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Logits {
    /// The last token.
    Last,
    /// The last token; logits that lie further than this under the highest may be approximate, up to
    /// some hundredths of the logits' spread. Where the head's type allows it, about half of its bytes
    /// are read; elsewhere the same as [`Logits::Last`]. See [`crate::sampler::Sampler::depth`].
    Shortlist(f32),
    /// Every token: `tokens · vocab · 4` bytes.
    All,
    /// None.
    None,
}

/// Where a forward pass sets in again with changed neuron outputs.
#[derive(Clone, Copy, Debug)]
pub enum Resume<'a> {
    /// With these MLP neuron outputs, `[alternatives, intermediate]`.
    Neurons(&'a [f32]),
    /// With these head outputs, `[alternatives, heads · head_dim]`.
    Heads(&'a [f32]),
}

/// One text with its KV cache. Cheap to make; the model is shared.
pub struct Session {
    model: Arc<Model>,
    pool: Arc<Pool>,
    cache: KvCache,
    scratch: Scratch,
    input: Activations,
    positions: Vec<usize>,
    ropes: Vec<Rope>,
    /// The residual stream of a batch.
    x: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
    /// Rows of the head's shortlist.
    near: Vec<u32>,
}

impl Session {
    /// An empty text with keys and values in half precision. `pool` runs the kernels.
    pub fn new(model: Arc<Model>, pool: Arc<Pool>) -> Self {
        Self::with_kv_type(model, pool, KvType::F16)
    }

    /// An empty text with keys and values of a given type.
    pub fn with_kv_type(model: Arc<Model>, pool: Arc<Pool>, kind: KvType) -> Self {
        let config = model.config();
        let shape = KvShape { kind, heads: config.kv_heads, dim: config.head_dim };
        let cache = KvCache::new(config.layers.len(), shape);
        Self {
            model,
            pool,
            cache,
            scratch: Scratch::default(),
            input: Activations::default(),
            positions: Vec::new(),
            ropes: Vec::new(),
            x: Vec::new(),
            normed: Vec::new(),
            logits: Vec::new(),
            near: Vec::new(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.cache.position()
    }

    /// Forgets everything from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
    }

    /// The text. A clone of it can go on elsewhere: see [`Self::forward_each`].
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Exchanges the session's text for another one of this model, with keys and values of the same type.
    pub fn exchange(&mut self, text: &mut KvCache) {
        std::mem::swap(&mut self.cache, text);
    }

    /// Exchanges the logits of the last call for another buffer, so that they can be kept without a copy.
    pub fn exchange_logits(&mut self, buffer: &mut Vec<f32>) {
        std::mem::swap(&mut self.logits, buffer);
    }

    /// Appends tokens and returns logits: `[vocab]` for the last token, `[tokens, vocab]` for
    /// [`Logits::All`], empty for [`Logits::None`]. A token's result does not depend on how the
    /// text is cut into calls.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or more tokens than the context holds; the session is then
    /// unchanged.
    pub fn forward(
        &mut self,
        tokens: &[u32],
        mut masks: Option<&mut dyn MaskSource>,
        mut probe: Option<&mut dyn Probe>,
        wanted: Logits,
    ) -> Result<&[f32], ModelError> {
        self.check(tokens, self.position() + tokens.len())?;
        let model = Arc::clone(&self.model);
        let hidden = model.config().hidden;
        self.logits.clear();
        let mut done = 0;
        for batch in tokens.chunks(BATCH) {
            let start = self.position();
            self.positions.clear();
            self.positions.extend(start..start + batch.len());
            self.begin(&model, batch);
            let mut x = std::mem::take(&mut self.x);
            if let Some(probe) = probe.as_mut() {
                probe.begin(&self.positions);
            }
            Pass {
                model: &model,
                pool: &self.pool,
                texts: Texts::Append(&mut self.cache),
                scratch: &mut self.scratch,
                positions: &self.positions,
                ropes: &self.ropes,
                first_token: done,
                // Reborrowed for this batch alone.
                masks: masks.as_mut().map(|m| &mut **m as &mut dyn MaskSource),
                probe: probe.as_mut().map(|p| &mut **p as &mut dyn Probe),
            }
            .blocks(0, &mut x);
            done += batch.len();
            match wanted {
                Logits::All => self.push_logits(&model, &x, wanted),
                Logits::Last | Logits::Shortlist(_) if done == tokens.len() => {
                    self.push_logits(&model, &x[x.len() - hidden..], wanted);
                }
                _ => {}
            }
            self.x = x;
        }
        Ok(&self.logits)
    }

    /// Appends tokens to each of several texts, all as one batch that reads the weights once, and
    /// returns the logits that `wanted` asks for of each text, `[rows, vocab]`, text after text. Each text
    /// gets what it would get alone; a text without tokens stays as it is and gets no logits. For the mask
    /// source, `token` counts through the tokens of all texts. The session's own text is not touched.
    ///
    /// [`Logits::Shortlist`] spares anything only where one row is wanted in all.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or a text that fills the context; all texts are then
    /// unchanged.
    ///
    /// # Panics
    /// When there is not one list of tokens for each text.
    pub fn forward_each(
        &mut self,
        texts: &mut [KvCache],
        tokens: &[&[u32]],
        wanted: impl Fn(usize) -> Logits,
        masks: Option<&mut dyn MaskSource>,
    ) -> Result<&[f32], ModelError> {
        assert_eq!(texts.len(), tokens.len(), "a list of tokens for each text");
        let mut owners = Vec::new();
        self.positions.clear();
        for (owner, (text, tokens)) in texts.iter().zip(tokens).enumerate() {
            let start = text.position();
            self.positions.extend(start..start + tokens.len());
            owners.resize(self.positions.len(), owner);
        }
        let flat = tokens.concat();
        self.logits.clear();
        self.check(&flat, self.positions.iter().max().map_or(0, |longest| longest + 1))?;
        if flat.is_empty() {
            return Ok(&self.logits);
        }
        let model = Arc::clone(&self.model);
        self.begin(&model, &flat);
        let mut x = std::mem::take(&mut self.x);
        Pass {
            model: &model,
            pool: &self.pool,
            texts: Texts::Several(texts, &owners),
            scratch: &mut self.scratch,
            positions: &self.positions,
            ropes: &self.ropes,
            first_token: 0,
            masks: masks.map(|masks| masks as &mut dyn MaskSource),
            probe: None,
        }
        .blocks(0, &mut x);
        let rows = rows_wanted(tokens, wanted);
        let hidden = model.config().hidden;
        for (kept, &(row, _)) in rows.iter().enumerate() {
            x.copy_within(row * hidden..(row + 1) * hidden, kept * hidden);
        }
        match rows[..] {
            [] => {}
            [(_, wanted)] => self.push_logits(&model, &x[..hidden], wanted),
            _ => self.push_logits(&model, &x[..rows.len() * hidden], Logits::All),
        }
        self.x = x;
        Ok(&self.logits)
    }

    /// The residual stream before the first block of a text of these tokens, `[tokens, hidden]`. The
    /// session's own text is not touched.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or more tokens than the context holds.
    pub fn embed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.check(tokens, tokens.len())?;
        self.positions.clear();
        self.positions.extend(0..tokens.len());
        let model = Arc::clone(&self.model);
        self.begin(&model, tokens);
        Ok(self.x.clone())
    }

    /// Runs one block over a whole text, from its first position on, as one batch: `x` is the residual
    /// stream before the block, `[tokens, hidden]`, and then the one behind it. With
    /// [`Self::embed`] and [`Self::logits_of`] the forward pass of many texts layer by layer. The
    /// session's own text is not touched.
    ///
    /// # Panics
    /// When there is no such layer, or `x` is not made of whole rows.
    pub fn block(
        &mut self,
        layer: usize,
        x: &mut [f32],
        masks: Option<&mut dyn MaskSource>,
        mut probe: Option<&mut dyn Probe>,
    ) {
        let model = Arc::clone(&self.model);
        assert!(x.len().is_multiple_of(model.config().hidden), "whole rows");
        self.positions.clear();
        self.positions.extend(0..x.len() / model.config().hidden);
        model.set_ropes(&mut self.ropes, &self.positions);
        if let Some(probe) = probe.as_mut() {
            probe.begin(&self.positions);
        }
        let mut cache = KvCache::new(model.config().layers.len(), *self.cache.shape());
        Pass {
            model: &model,
            pool: &self.pool,
            texts: Texts::Append(&mut cache),
            scratch: &mut self.scratch,
            positions: &self.positions,
            ropes: &self.ropes,
            first_token: 0,
            masks: masks.map(|masks| masks as &mut dyn MaskSource),
            probe: probe.map(|probe| probe as &mut dyn Probe),
        }
        .block(layer, x);
    }

    /// Runs a traced token again from `layer` on, with its outputs there replaced by each of several
    /// alternatives. The cache keeps its content; each alternative sees the past before the token.
    /// Returns the alternatives' trace (from the resumed site on) and logits
    /// `[alternatives, vocab]`.
    pub fn resume(
        &mut self,
        trace: &Trace,
        token: usize,
        layer: usize,
        from: Resume,
    ) -> (Trace, &[f32]) {
        let model = Arc::clone(&self.model);
        let config = model.config();
        let l = &trace.layers[layer];
        let (count, resid) = match from {
            Resume::Neurons(post) => (post.len() / config.intermediate, &l.resid_mid),
            Resume::Heads(z) => (z.len() / config.query_width(), &l.resid_pre),
        };
        let mut x = resid[token * config.hidden..][..config.hidden].repeat(count);
        self.positions.clear();
        self.positions.resize(count, trace.positions[token]);
        model.set_ropes(&mut self.ropes, &self.positions);
        let mut record = Trace::new(config);
        record.begin(&self.positions);
        let mut pass = Pass {
            model: &model,
            pool: &self.pool,
            texts: Texts::Alternatives(&self.cache),
            scratch: &mut self.scratch,
            positions: &self.positions,
            ropes: &self.ropes,
            first_token: 0,
            masks: None,
            probe: Some(&mut record),
        };
        pass.resume(layer, from, &mut x);
        self.logits.clear();
        self.push_logits(&model, &x, Logits::All);
        (record, &self.logits)
    }

    /// Gradients of the label's cross-entropy with respect to the neuron and head outputs of each
    /// traced token, for every layer at once: design §1. `logits` and `labels` belong to the
    /// trace's tokens. The past of a token is a constant.
    pub fn backward(&self, trace: &Trace, logits: &[f32], labels: &[u32], stop: Stop) -> Gradients {
        let mut ropes = Vec::new();
        self.model.set_ropes(&mut ropes, &trace.positions);
        let (model, pool, cache, ropes) = (&self.model, &self.pool, &self.cache, &ropes);
        let gradients = Backward { model, pool, cache, ropes, trace }.run(logits, labels, stop);
        model.release_cold();
        gradients
    }

    /// Refuses unknown tokens and texts of more positions than the context holds.
    fn check(&self, tokens: &[u32], needed: usize) -> Result<(), ModelError> {
        let config = self.model.config();
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= config.vocab) {
            return Err(ModelError::Token { token, vocab: config.vocab });
        }
        if needed > config.context {
            return Err(ModelError::ContextFull { needed, context: config.context });
        }
        Ok(())
    }

    /// Prepares the batch at `positions`: rotations, and the embeddings of its tokens in `x`.
    fn begin(&mut self, model: &Model, tokens: &[u32]) {
        let config = model.config();
        model.set_ropes(&mut self.ropes, &self.positions);
        self.x.resize(tokens.len() * config.hidden, 0.0);
        for (&token, x) in tokens.iter().zip(self.x.chunks_exact_mut(config.hidden)) {
            model.embedding.row(model, token as usize, x);
            x.iter_mut().for_each(|x| *x *= config.embedding_scale);
        }
        if let (Some(first), Some(table)) = (config.learned_positions, &model.positions) {
            let row = &mut self.normed;
            row.resize(config.hidden, 0.0);
            for (&position, x) in self.positions.iter().zip(self.x.chunks_exact_mut(config.hidden))
            {
                table.row(model, position + first, row);
                x.iter_mut().zip(&*row).for_each(|(x, row)| *x += row);
            }
        }
    }

    /// The logits of residual streams behind the last block (see [`crate::Site::ResidFinal`]),
    /// `[tokens, hidden]`: of all of them, or of one by [`Logits::Shortlist`].
    ///
    /// # Panics
    /// When `resid` is not made of whole rows, or not one row for a shortlist.
    pub fn logits_of(&mut self, resid: &[f32], wanted: Logits) -> &[f32] {
        let model = Arc::clone(&self.model);
        self.logits.clear();
        self.push_logits(&model, resid, wanted);
        &self.logits
    }

    fn push_logits(&mut self, model: &Model, x: &[f32], wanted: Logits) {
        let config = model.config();
        self.normed.resize(x.len(), 0.0);
        for (x, out) in
            x.chunks_exact(config.hidden).zip(self.normed.chunks_exact_mut(config.hidden))
        {
            model.output_norm.forward(model.isa(), x, config.norm_eps, out);
        }
        self.input.set(model.isa(), &self.pool, &self.normed, config.hidden, model.output.layout());
        if let (Logits::Shortlist(depth), Some(head)) = (wanted, model.split_head()) {
            self.logits.resize(config.vocab, 0.0);
            let (isa, x, out) = (model.isa(), &self.input, &mut self.logits);
            let margin = Margin { depth, deviations: DEVIATIONS };
            matvec_shortlist(isa, &self.pool, head, x, margin, &mut self.near, out);
            return model.release_head();
        }
        let mut batch = Vec::new();
        let out = if self.logits.is_empty() { &mut self.logits } else { &mut batch };
        model.output.forward(model, &self.pool, &self.input, out);
        self.logits.append(&mut batch);
        model.release_head();
    }
}

/// The rows of a batch whose logits are wanted, and in which form: ascending.
fn rows_wanted(tokens: &[&[u32]], wanted: impl Fn(usize) -> Logits) -> Vec<(usize, Logits)> {
    let (mut rows, mut end) = (Vec::new(), 0);
    for (text, tokens) in tokens.iter().enumerate().filter(|(_, tokens)| !tokens.is_empty()) {
        let start = end;
        end += tokens.len();
        match wanted(text) {
            Logits::None => {}
            Logits::All => rows.extend((start..end).map(|row| (row, Logits::All))),
            last => rows.push((end - 1, last)),
        }
    }
    rows
}
