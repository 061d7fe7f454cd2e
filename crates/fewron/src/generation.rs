//! Answers, token by token: a dense prompt, then decoding with or without a mask.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use fewron_model::sampler::{Sampler, SamplerConfig};
use fewron_model::{Logits, MaskSource, Pool, Session};
use fewron_sparsity::Active;

use crate::cli::{EngineArgs, SamplingArgs};
use crate::loaded::Loaded;
use crate::mask::Mask;
use crate::stats::Stats;
use crate::ui::{self, Progress, Unit};

/// Tokens of a prompt between two looks at Ctrl-C.
const CHUNK: usize = 128;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The model ended it.
    Model,
    /// It is as long as it may be.
    Limit,
    /// The context is full.
    Context,
    /// Ctrl-C.
    Interrupted,
}

/// An answer that was streamed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) end: End,
    pub(crate) stats: Stats,
}

/// Logits that are exact where they can matter.
fn wanted(shortlist: Option<f32>) -> Logits {
    shortlist.map_or(Logits::Last, Logits::Shortlist)
}

/// Writes answers and keeps the KV cache between them.
///
/// Prompts and the first token of an answer are dense; the mask acts from the second token on. What
/// a prompt shares with the cached text is not run again, so an earlier answer stays in the cache
/// as the mask made it.
pub(crate) struct Generator<'a> {
    loaded: &'a Loaded,
    session: Session,
    /// The tokens in the session's cache.
    cached: Vec<u32>,
    sampler: Sampler,
    /// How deep logits must be exact; `None` for all of them.
    shortlist: Option<f32>,
    mask: Option<Mask<'a>>,
}

impl<'a> Generator<'a> {
    /// A generator with an empty cache. Logits are exact where they can matter to the sampler, or
    /// all of them if the arguments ask for that.
    pub(crate) fn new(
        loaded: &'a Loaded,
        pool: &Arc<Pool>,
        sampler: Sampler,
        engine: &EngineArgs,
        mask: Option<Mask<'a>>,
    ) -> Self {
        let session = loaded.session(pool, engine.kv_type);
        let shortlist = sampler.depth().filter(|_| !engine.exact_head);
        Self { loaded, session, cached: Vec::new(), sampler, shortlist, mask }
    }

    /// Answers a prompt of at least one token with up to `max_new_tokens` tokens; `write` gets the
    /// text as it comes.
    ///
    /// # Errors
    /// When the prompt is longer than the context, or the text cannot be written.
    pub(crate) fn answer(
        &mut self,
        prompt: &[u32],
        max_new_tokens: usize,
        write: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<Answer> {
        let mut stats = Stats { prompt_tokens: prompt.len(), ..Stats::default() };
        let mut text = String::new();
        let end = match self.prefill(prompt, &mut stats)? {
            Some(first) => {
                let mut emit = |piece: &str| {
                    text.push_str(piece);
                    write(piece)
                };
                self.decode(first, max_new_tokens, &mut stats, &mut emit)?
            }
            None => End::Interrupted,
        };
        let model = &self.loaded.model;
        let spared = self.shortlist.map_or(0, |_| model.shortlist_spares()) as f64;
        stats.dense_bytes = model.bytes_per_token().total() as f64 - spared;
        if let Some(mask) = &mut self.mask {
            let active = mask.take_counts().active();
            let bytes = |active: &Active| mask.plan().bytes_per_token(model, |l| active.layers[l]);
            stats.sparse_bytes = active.as_ref().map(|active| bytes(active) - spared);
            stats.active = active.map(|active| active.mean);
        }
        Ok(Answer { text, end, stats })
    }

    /// Runs the last tokens of the answer once more, dense, as many as `most` and as were decoded masked:
    /// how many, and their time. `None` without a mask or such tokens.
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub(crate) fn time_dense(
        &mut self,
        stats: &Stats,
        most: usize,
    ) -> Result<Option<(usize, Duration)>> {
        let count = most.min(stats.decoded_tokens);
        if self.mask.is_none() || count == 0 {
            return Ok(None);
        }
        let first = self.cached.len() - count;
        self.session.truncate(first);
        let start = Instant::now();
        for token in &self.cached[first..] {
            self.session.forward(&[*token], None, None, wanted(self.shortlist))?;
        }
        Ok(Some((count, start.elapsed())))
    }

    /// Runs what the cache does not have of the prompt, dense; the answer's first token, or `None`
    /// after Ctrl-C.
    fn prefill(&mut self, prompt: &[u32], stats: &mut Stats) -> Result<Option<u32>> {
        let start = Instant::now();
        // The last token runs in any case, for its logits.
        let most = prompt.len().saturating_sub(1);
        let known = self.cached.iter().zip(prompt).take(most).take_while(|(a, b)| a == b).count();
        self.session.truncate(known);
        self.cached.truncate(known);
        stats.reused_tokens = known;
        let new = &prompt[known..];
        let progress = Progress::late("reading the prompt", Unit::Items, new.len() as u64);
        let (rest, last) = new.split_at(new.len().saturating_sub(CHUNK));
        for chunk in rest.chunks(CHUNK) {
            if ui::interrupted() {
                return Ok(None);
            }
            self.session.forward(chunk, None, None, Logits::None)?;
            self.cached.extend(chunk);
            progress.set((self.cached.len() - known) as u64);
        }
        let token = self.read_last(last)?;
        stats.prefill = start.elapsed();
        Ok(Some(token))
    }

    /// Appends the end of a prompt and chooses the answer's first token. The mask's policy may look at
    /// what it reads.
    fn read_last(&mut self, tokens: &[u32]) -> Result<u32> {
        let (session, wanted) = (&mut self.session, wanted(self.shortlist));
        let logits = match &mut self.mask {
            Some(mask) => mask.read_prompt(session, tokens, wanted)?,
            None => session.forward(tokens, None, None, wanted)?,
        };
        self.cached.extend(tokens);
        Ok(self.sampler.sample(logits, &self.cached))
    }

    /// Appends a token and chooses the next one.
    fn step(&mut self, token: u32) -> Result<u32> {
        let mask = self.mask.as_mut().map(|mask| mask as &mut dyn MaskSource);
        let logits = self.session.forward(&[token], mask, None, wanted(self.shortlist))?;
        self.cached.push(token);
        Ok(self.sampler.sample(logits, &self.cached))
    }

    fn decode(
        &mut self,
        first: u32,
        max_new_tokens: usize,
        stats: &mut Stats,
        emit: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<End> {
        let start = Instant::now();
        let mut decoder = self.loaded.tokenizer.decoder(true);
        let mut token = first;
        let end = loop {
            if stats.answer_tokens == max_new_tokens {
                break End::Limit;
            }
            if self.loaded.tokenizer.is_end(token) {
                break End::Model;
            }
            emit(&decoder.push(token))?;
            stats.answer_tokens += 1;
            if ui::interrupted() {
                break End::Interrupted;
            }
            if stats.answer_tokens == max_new_tokens {
                break End::Limit;
            }
            if self.session.position() == self.loaded.context() {
                break End::Context;
            }
            token = self.step(token)?;
            stats.decoded_tokens += 1;
        };
        emit(&decoder.finish())?;
        stats.decode = start.elapsed();
        Ok(end)
    }
}

/// The sampler of the arguments.
///
/// # Errors
/// When a setting is out of range.
pub(crate) fn sampler(args: &SamplingArgs) -> Result<Sampler> {
    let config = SamplerConfig {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        ..SamplerConfig::default()
    };
    Sampler::new(config).map_err(|e| anyhow!("--{}", e.to_string().replacen('_', "-", 1)))
}
