//! From the queue into the batch, as far as places and memory reach.

use super::super::lanes::{Ask, Lane, Lanes, Mask};
use super::super::prefix::common;
use super::super::writer::Writer;
use super::{Job, Worker};
use fewron_model::{KvCache, ModelError};
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
            self.start(job);
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

    fn start(&mut self, job: Job) {
        let Job { id, request, variant, events, came } = job;
        let deadline = came + self.limit(&request);
        let plan = variant.plan.clone();
        let writer = Writer::new(&self.shared.tokenizer, &request.stop);
        let mut lane = Lane::new(id, 0, &request, writer);
        let (open, scored) = (request.choices, request.prompt_logprobs.is_some());
        self.asks.insert(id, Ask { request, variant, events, deadline, open });
        let mask = plan.map(|plan| Mask::new(plan, &self.shared.model));
        lane.looks_from = mask.as_ref().and_then(|mask| mask.looks_from(lane.prompt));
        let text = match scored {
            true => self.empty(),
            false => self.known(&lane.tokens, lane.looks_from.unwrap_or(lane.prompt - 1)),
        };
        self.shared.lock().book.start(id, text.position());
        self.lanes.push(lane, text, mask);
    }

    fn empty(&mut self) -> KvCache {
        self.session.truncate(0);
        self.session.cache().clone()
    }

    /// Lets one mask look at some of its prompt, if all before that is read.
    pub(super) fn look(&mut self) -> Result<(), ModelError> {
        let waits = |(lane, text): (&Lane, &KvCache)| {
            !lane.parked && lane.looks_from == Some(text.position())
        };
        let Lanes { lanes, texts, masks } = &mut self.lanes;
        let Some(index) = lanes.iter().zip(&*texts).position(waits) else { return Ok(()) };
        let (lane, text) = (&mut lanes[index], &mut texts[index]);
        let Some(mask) = &mut masks[index] else { return Ok(()) };
        let from = text.position();
        self.session.exchange(text);
        let looked = mask.look(&mut self.session, &lane.tokens[from..lane.prompt]);
        self.session.exchange(text);
        let end = from + looked?;
        lane.looks_from = (end + 1 < lane.prompt).then_some(end);
        self.shared.lock().book.prefilled(end - from, Instant::now());
        // Logits of a prompt come with its batches: it is read once more where they are wanted.
        if lane.looks_from.is_none() && self.asks.get(&lane.ask).is_some_and(Ask::scores_prompt) {
            text.truncate(mask.looks_from(lane.prompt).unwrap_or(end));
        }
        Ok(())
    }

    /// The longest beginning of a prompt, at most so many tokens, that has been read dense: for an earlier
    /// request or one at work.
    fn known(&mut self, prompt: &[u32], most: usize) -> KvCache {
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
