//! From the queue into the batch, as far as places and memory reach.

use super::super::lanes::{Ask, Lane, Mask, sampler};
use super::super::prefix::common;
use super::super::request::{Event, Failure};
use super::super::writer::Writer;
use super::{Job, Worker};
use fewron_model::{KvCache, Logits, ModelError};
use std::sync::Arc;
use std::time::Instant;

/// Tokens for which a lane needs room to come back, beyond those it has.
const ROOM: usize = 64;

/// Prompts that are kept have this part of the memory at most.
const PREFIX_SHARE: usize = 4;

impl Worker<'_> {
    /// Takes requests from the queue, first come first served, and shares out the memory.
    pub(super) fn admit(&mut self) {
        while let Some(job) = self.next_job() {
            let id = job.id;
            if let Err(error) = self.start(job) {
                let failure = Failure::Internal(error.to_string());
                if let Some(ask) = self.asks.remove(&id) {
                    let _ = ask.events.send(Event::Failed(failure.clone()));
                }
                self.shared.lock().book.fail(id, Some(&failure));
            }
        }
        self.share_memory();
    }

    /// The first request of the queue, if there is room for it.
    fn next_job(&mut self) -> Option<Job> {
        let mut state = self.shared.lock();
        let request = &state.queue.front()?.request;
        let limits = &self.shared.settings.limits;
        let places: usize = self.asks.values().map(|ask| ask.open).sum();
        let bytes = self.lanes.bytes() + request.prompt.len() * self.shared.kv_token_bytes;
        let fits = bytes <= limits.kv_bytes && self.lanes.lanes.iter().all(|lane| !lane.parked);
        let free = places + request.choices <= limits.running;
        (places == 0 || (fits && free)).then(|| state.queue.pop_front())?
    }

    fn start(&mut self, job: Job) -> Result<(), ModelError> {
        let Job { id, request, variant, events, came } = job;
        let plan = variant.plan.clone();
        let mut mask = plan.map(|plan| Mask::new(plan, &self.shared.model));
        let mut reused = 0;
        let text = match mask.as_mut().filter(|mask| mask.reads_prompts()) {
            Some(mask) => self.read_whole(mask, &request.prompt)?,
            None if request.prompt_logprobs.is_some() => self.empty(),
            None => {
                let known = self.known(&request.prompt);
                reused = known.position();
                known
            }
        };
        self.shared.lock().book.start(id, reused);
        let Ok(sampler) = sampler(&request, 0) else { return Ok(()) };
        let lane = Lane {
            ask: id,
            choice: 0,
            tokens: request.prompt.clone(),
            prompt: request.prompt.len(),
            written: 0,
            sampler,
            writer: Some(Writer::new(&self.shared.tokenizer, &request.stop)),
            last: None,
            parked: false,
            prompt_tokens: Vec::new(),
        };
        let deadline = came + self.limit(&request);
        let open = request.choices;
        self.asks.insert(id, Ask { request, variant, events, deadline, open });
        self.lanes.push(lane, text, mask);
        Ok(())
    }

    fn empty(&mut self) -> KvCache {
        self.session.truncate(0);
        self.session.cache().clone()
    }

    /// Lets a mask look at a whole prompt; the text of all its tokens but the last one.
    fn read_whole(&mut self, mask: &mut Mask, prompt: &[u32]) -> Result<KvCache, ModelError> {
        self.session.truncate(0);
        mask.read_prompt(&mut self.session, prompt, Logits::None)?;
        self.session.truncate(prompt.len() - 1);
        let text = self.session.cache().clone();
        self.session.truncate(0);
        Ok(text)
    }

    /// The longest beginning of a prompt, but for its last token, that has been read dense: for an earlier
    /// request or one at work.
    fn known(&mut self, prompt: &[u32]) -> KvCache {
        let most = prompt.len() - 1;
        let kept = self.prefix.find(prompt, most);
        let mut best = (kept.as_ref().map_or(0, KvCache::position), None);
        for (index, lane) in self.lanes.lanes.iter().enumerate() {
            let read = self.lanes.texts[index].position().min(lane.prompt).min(most);
            let shared = common(&lane.tokens[..read], prompt);
            if shared > best.0 {
                best = (shared, Some(index));
            }
        }
        match best {
            (length, Some(index)) => {
                let mut text = self.lanes.texts[index].clone();
                text.truncate(length);
                text
            }
            _ => kept.unwrap_or_else(|| self.empty()),
        }
    }

    /// Parks the newest answers while all together need more memory than there is, brings parked ones back
    /// when they fit, and leaves the rest to prompts that are kept.
    fn share_memory(&mut self) {
        let limit = self.shared.settings.limits.kv_bytes;
        let mut bytes = self.lanes.bytes();
        while bytes > limit {
            let on = self.lanes.lanes.iter().skip(1).rposition(|lane| !lane.parked);
            let Some(index) = on.map(|index| index + 1) else { break };
            self.lanes.lanes[index].parked = true;
            self.lanes.texts[index].truncate(0);
            self.shared.lock().book.park();
            bytes = self.lanes.bytes();
        }
        for index in 0..self.lanes.lanes.len() {
            let lane = &self.lanes.lanes[index];
            if !lane.parked {
                continue;
            }
            let needed = self.lanes.texts[index].bytes_of(lane.tokens.len() + ROOM);
            if bytes + needed > limit && index > 0 {
                break;
            }
            self.lanes.lanes[index].parked = false;
            bytes += needed;
        }
        self.prefix.shrink(limit.saturating_sub(bytes).min(limit / PREFIX_SHARE));
        self.shared.lock().book.memory(bytes, self.prefix.bytes());
    }

    /// Ends a lane: keeps what it has read dense for others, and its answer for the monitor.
    pub(super) fn retire(&mut self, index: usize) {
        let (lane, text, mask) = self.lanes.remove(index);
        let Some(ask) = self.asks.get_mut(&lane.ask) else { return };
        let dense = if mask.is_some() { lane.prompt } else { lane.tokens.len() };
        self.prefix.keep(&lane.tokens[..dense.min(text.position())], &text);
        if let Some(mask) = mask {
            let guard = &self.shared.settings.guard;
            let sample = (lane.ask, lane.tokens, lane.prompt);
            self.monitor.offer(guard, Arc::clone(&ask.variant), mask, sample);
        }
        ask.open -= 1;
        if ask.open == 0 {
            self.asks.remove(&lane.ask);
            let mut state = self.shared.lock();
            state.book.memory(self.lanes.bytes(), self.prefix.bytes());
            state.book.finish(lane.ask, Instant::now());
        }
    }
}
