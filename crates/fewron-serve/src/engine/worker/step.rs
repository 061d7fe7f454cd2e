//! One batch: a token of every answer, some of the prompts, and what comes of their logits.

use super::super::lanes::{Ask, Joined, Lane, Lanes};
use super::super::logprobs::{chosen, plain};
use super::super::request::{ChosenToken, Event, Finish, Piece};
use super::super::writer::Writer;
use super::Worker;
use fewron_model::sampler::Sampler;
use fewron_model::{KvCache, Logits, MaskSource, ModelError};
use std::time::Instant;

/// Prompt tokens of a batch where no answer is written.
const ALONE: usize = 128;

/// Memory for the logits of prompts.
const LOGITS_BYTES: usize = 64 << 20;

/// Rows of logits of a lane.
struct Rows<'l> {
    lane: usize,
    /// Position of the token of the first row.
    first: usize,
    /// `[rows, vocab]`.
    logits: &'l [f32],
}

/// The choice of a lane's next token.
struct Draw<'a> {
    sampler: &'a mut Sampler,
    tokens: &'a [u32],
    logits: &'a [f32],
    token: u32,
}

impl Worker<'_> {
    pub(super) fn step(&mut self) -> Result<(), ModelError> {
        let shares = self.shares();
        let starts: Vec<usize> = self.lanes.texts.iter().map(KvCache::position).collect();
        let wanted: Vec<Logits> =
            (0..shares.len()).map(|index| self.wanted(index, shares[index])).collect();
        // Not in the worker while it is read, so that the worker can change.
        let mut logits = std::mem::take(&mut self.logits);
        self.run(&shares, &starts, &wanted, &mut logits)?;
        self.count(&shares, &starts);
        let read = self.rows(&shares, &starts, &wanted, &logits);
        let tokens = self.choose(&read);
        // From the last lane to the first, so that those that end do not move the others.
        for (rows, token) in read.into_iter().zip(tokens).rev() {
            self.take(rows, token);
        }
        self.logits = logits;
        Ok(())
    }

    /// The next tokens of the answers that go on, all at once; none for what has just been read.
    fn choose(&mut self, read: &[Rows<'_>]) -> Vec<Option<u32>> {
        let vocab = self.vocab();
        let (mut draws, mut slots) = (Vec::new(), Vec::new());
        let mut read_lanes = read.iter().enumerate().peekable();
        let lanes = self.lanes.lanes.iter_mut().zip(&self.lanes.texts).enumerate();
        for (index, (lane, text)) in lanes {
            let Some((slot, rows)) = read_lanes.next_if(|(_, rows)| rows.lane == index) else {
                continue;
            };
            if lane.written > 0 && text.position() == lane.tokens.len() {
                let logits = &rows.logits[rows.logits.len() - vocab..];
                let (sampler, tokens) = (&mut lane.sampler, &lane.tokens[..]);
                draws.push(Draw { sampler, tokens, logits, token: 0 });
                slots.push(slot);
            }
        }
        self.shared.pool.rows(&mut draws, 1, |_, draw| {
            let Draw { sampler, tokens, logits, token } = &mut draw[0];
            *token = sampler.sample(logits, tokens);
        });
        let mut tokens = vec![None; read.len()];
        for (slot, draw) in slots.into_iter().zip(draws) {
            tokens[slot] = Some(draw.token);
        }
        tokens
    }

    /// Tokens of each lane in the next batch.
    fn shares(&self) -> Vec<usize> {
        let mut shares = self.lanes.shares(self.shared.settings.limits.prefill_chunk.max(1), ALONE);
        let rows = (LOGITS_BYTES / size_of::<f32>() / self.vocab()).max(1);
        for (lane, share) in self.lanes.lanes.iter().zip(&mut shares) {
            if self.wants_prompt(lane) {
                *share = (*share).min(rows);
            }
        }
        shares
    }

    fn vocab(&self) -> usize {
        self.shared.model.config().vocab
    }

    /// Whether the log-probabilities of a lane's prompt are wanted.
    fn wants_prompt(&self, lane: &Lane) -> bool {
        self.asks.get(&lane.ask).is_some_and(Ask::scores_prompt)
    }

    /// Runs the batch.
    fn run(
        &mut self,
        shares: &[usize],
        starts: &[usize],
        wanted: &[Logits],
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let owners = self.lanes.owners(shares);
        let Lanes { lanes, texts, masks } = &mut self.lanes;
        let tokens = lanes.iter().zip(starts).zip(shares);
        let tokens: Vec<&[u32]> =
            tokens.map(|((lane, &start), &share)| &lane.tokens[start..start + share]).collect();
        let mut joined = owners.map(|owners| Joined { masks, owners });
        let masks = joined.as_mut().map(|joined| joined as &mut dyn MaskSource);
        logits.clear();
        logits.extend_from_slice(self.session.forward_each(
            texts,
            &tokens,
            |i| wanted[i],
            masks,
        )?);
        Ok(())
    }

    /// Whose the rows of the batch's logits are.
    fn rows<'l>(
        &self,
        shares: &[usize],
        starts: &[usize],
        wanted: &[Logits],
        mut logits: &'l [f32],
    ) -> Vec<Rows<'l>> {
        let mut rows = Vec::new();
        for (lane, &wanted) in wanted.iter().enumerate() {
            let (count, first) = match wanted {
                Logits::None => continue,
                Logits::All => (shares[lane], starts[lane]),
                _ => (1, starts[lane] + shares[lane] - 1),
            };
            let (own, rest) = logits.split_at(count * self.vocab());
            rows.push(Rows { lane, first, logits: own });
            logits = rest;
        }
        rows
    }

    /// Which logits of a lane's share are wanted.
    fn wanted(&self, index: usize, share: usize) -> Logits {
        let lane = &self.lanes.lanes[index];
        let reads = self.lanes.texts[index].position() < lane.prompt;
        if share == 0 {
            Logits::None
        } else if reads && self.wants_prompt(lane) {
            Logits::All
        } else if share < self.lanes.pending(index) {
            Logits::None
        } else {
            let exact = self.asks.get(&lane.ask).is_none_or(|ask| ask.request.logprobs.is_some());
            let depth = lane.sampler.depth().filter(|_| !exact);
            depth.map_or(Logits::Last, Logits::Shortlist)
        }
    }

    /// Books what was run, and what the masks kept.
    fn count(&mut self, shares: &[usize], starts: &[usize]) {
        let lanes = &mut self.lanes;
        let read = |((lane, &start), &share): ((&Lane, &usize), &usize)| {
            lane.prompt.saturating_sub(start).min(share)
        };
        let prompt = lanes.lanes.iter().zip(starts).zip(shares).map(read).sum();
        let mut state = self.shared.lock();
        state.book.prefilled(prompt, Instant::now());
        for (lane, mask) in lanes.lanes.iter().zip(&mut lanes.masks) {
            if let (Some(mask), Some(ask)) = (mask, self.asks.get(&lane.ask)) {
                state.book.ran(&ask.variant, &mask.take_counts());
            }
        }
    }

    /// Uses a lane's logits: for the prompt's log-probabilities, and for the next token if it is not chosen
    /// yet.
    fn take(&mut self, Rows { lane: index, first, logits }: Rows<'_>, token: Option<u32>) {
        let vocab = self.vocab();
        let lane = &self.lanes.lanes[index];
        if self.wants_prompt(lane) && first < lane.prompt {
            self.score_prompt(index, first, logits);
        }
        if self.lanes.pending(index) > 0 {
            return;
        }
        let last = &logits[logits.len() - vocab..];
        if self.lanes.lanes[index].written > 0 {
            return self.next_token(index, last, token);
        }
        let Some(ask) = self.asks.get(&self.lanes.lanes[index].ask) else { return };
        let (choices, none) = (ask.request.choices, ask.request.max_tokens == 0);
        let lane = &mut self.lanes.lanes[index];
        let tokens = std::mem::take(&mut lane.prompt_tokens);
        let reused = self.shared.lock().book.reused(lane.ask);
        let _ = ask.events.send(Event::Prompt { reused, tokens });
        for choice in 1..choices {
            self.fork(index, choice);
        }
        let forks = self.lanes.lanes.len() - (choices - 1);
        for index in (forks..self.lanes.lanes.len()).rev().chain([index]) {
            if none {
                self.end(index, Finish::Length);
            } else {
                self.next_token(index, last, None);
            }
        }
    }

    /// The log-probabilities of the prompt's tokens behind each row's.
    fn score_prompt(&mut self, index: usize, first: usize, logits: &[f32]) {
        let (isa, vocab) = (self.shared.model.isa(), self.vocab());
        let lane = &mut self.lanes.lanes[index];
        let count = self.asks.get(&lane.ask).and_then(|ask| ask.request.prompt_logprobs);
        if lane.prompt_tokens.is_empty() {
            lane.prompt_tokens.push(plain(lane.tokens[0]));
        }
        for (row, position) in logits.chunks_exact(vocab).zip(first + 1..) {
            // A lane that was parked reads its prompt anew.
            if position == lane.prompt_tokens.len() && position < lane.prompt {
                let token = chosen(isa, row, lane.tokens[position], count.unwrap_or(0));
                lane.prompt_tokens.push(token);
            }
        }
    }

    /// Another answer to the same prompt.
    fn fork(&mut self, index: usize, choice: usize) {
        let lane = &self.lanes.lanes[index];
        let Some(ask) = self.asks.get(&lane.ask) else { return };
        let writer = Writer::new(&self.shared.tokenizer, &ask.request.stop);
        let fork = Lane::new(lane.ask, choice, &ask.request, writer);
        let (text, mask) = (self.lanes.texts[index].clone(), self.lanes.masks[index].clone());
        self.lanes.push(fork, text, mask);
    }

    /// Takes a lane's next token, chosen here unless it has been, and sends what it gives.
    fn next_token(&mut self, index: usize, logits: &[f32], token: Option<u32>) {
        let lane = &mut self.lanes.lanes[index];
        let Some(ask) = self.asks.get(&lane.ask) else { return };
        let token = token.unwrap_or_else(|| lane.sampler.sample(logits, &lane.tokens));
        let now = Instant::now();
        let gap = lane.last.replace(now).map(|last| now - last);
        lane.written += 1;
        self.shared.lock().book.token(lane.ask, now, gap);
        if self.shared.tokenizer.is_end(token) && !ask.request.ignore_end {
            return self.end(index, Finish::Stop);
        }
        lane.tokens.push(token);
        let chosen: ChosenToken = match ask.request.logprobs {
            Some(count) => chosen(self.shared.model.isa(), logits, token, count),
            None => plain(token),
        };
        let Some(writer) = &mut lane.writer else { return };
        let written = writer.push(token);
        let piece = Piece { text: written.text, tokens: vec![chosen] };
        let _ = ask.events.send(Event::Piece { choice: lane.choice, piece });
        let full = lane.tokens.len() > self.shared.model.config().context;
        if written.stopped {
            lane.writer = None;
            self.end(index, Finish::Stop);
        } else if lane.written == ask.request.max_tokens || full {
            self.end(index, Finish::Length);
        }
    }

    /// Ends an answer.
    fn end(&mut self, index: usize, finish: Finish) {
        let lane = &mut self.lanes.lanes[index];
        if let Some(ask) = self.asks.get(&lane.ask) {
            let choice = lane.choice;
            let text = lane.writer.take().map(Writer::finish).unwrap_or_default();
            if !text.is_empty() {
                let piece = Piece { text, tokens: Vec::new() };
                let _ = ask.events.send(Event::Piece { choice, piece });
            }
            let _ = ask.events.send(Event::End { choice, finish, tokens: lane.written });
        }
        self.retire(index);
    }
}
