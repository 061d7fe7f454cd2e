//! What the engine has done and is doing: the numbers behind [`Status`].

use super::guard::{Judged, Scored};
use super::handle::Shared;
use super::request::{Failure, Request};
use super::settings::Guard;
use super::status::{
    Latency, Load, LogLine, MemoryStatus, RequestState, RequestStatus, Status, Totals,
    VariantStatus,
};
use super::variant::Variant;
use super::window::{Latest, Rate};
use fewron_sparsity::Counts;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Ended requests and lines of the log that are kept.
const KEPT: usize = 50;

/// Masked neurons of a layer over which the active share is taken: older ones count less and less.
const COUNTED: u64 = 4_000_000;

/// The numbers.
pub(super) struct Book {
    start: Instant,
    next: u64,
    totals: Totals,
    decoded: Rate,
    read: Rate,
    /// Those at work and in the queue, then the latest that ended.
    requests: VecDeque<Entry>,
    /// Dense first.
    variants: Vec<Page>,
    log: VecDeque<LogLine>,
    kv_bytes: (usize, usize),
}

/// A request.
struct Entry {
    id: u64,
    variant: usize,
    state: RequestState,
    came: Instant,
    prompt: usize,
    reused: usize,
    tokens: usize,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// A variant.
struct Page {
    variant: Arc<Variant>,
    fallen_back: bool,
    requests: u64,
    tokens: u64,
    first_token: Latest,
    inter_token: Latest,
    request: Latest,
    stream: Latest,
    counts: Option<Counts>,
    judged: Judged,
    waiting_tokens: u64,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

impl Entry {
    fn at_work(&self) -> bool {
        matches!(self.state, RequestState::Reading | RequestState::Writing)
    }

    fn ended(&self) -> bool {
        !self.at_work() && self.state != RequestState::Waiting
    }

    /// Answer tokens a second from the first one on.
    fn speed(&self) -> Option<f64> {
        let time = (self.last? - self.first?).as_secs_f64();
        (self.tokens > 1 && time > 0.0).then(|| (self.tokens - 1) as f64 / time)
    }

    fn status(&self, variants: &[Page], now: Instant) -> RequestStatus {
        RequestStatus {
            id: self.id,
            variant: variants[self.variant].variant.name.clone(),
            state: self.state,
            age_s: (now - self.came).as_secs_f64(),
            prompt_tokens: self.prompt,
            reused_tokens: self.reused,
            answer_tokens: self.tokens,
            first_token_ms: self.first.map(|first| ms(first - self.came)),
            tok_s: self.speed(),
        }
    }
}

impl Page {
    fn new(variant: Arc<Variant>) -> Self {
        Self {
            variant,
            fallen_back: false,
            requests: 0,
            tokens: 0,
            first_token: Latest::default(),
            inter_token: Latest::default(),
            request: Latest::default(),
            stream: Latest::default(),
            counts: None,
            judged: Judged::default(),
            waiting_tokens: 0,
        }
    }

    fn status(&self, shared: &Shared) -> VariantStatus {
        let layers = shared.model.config().layers.len();
        let active = self.counts.as_ref().and_then(Counts::active);
        let (active, active_by_layer) =
            active.map_or_else(|| (1.0, vec![1.0; layers]), |active| (active.mean, active.layers));
        let plan = self.variant.plan.as_ref();
        VariantStatus {
            name: self.variant.name.clone(),
            policy: plan.map(|plan| plan.policy.to_string()),
            sparsity: self.variant.sparsity,
            share: shared.variants.share(&self.variant.name),
            fallen_back: self.fallen_back,
            requests: self.requests,
            answer_tokens: self.tokens,
            stream_tok_s: Latest::percentiles([&self.stream]).p50,
            latency: latency(std::slice::from_ref(self)),
            active,
            active_by_layer,
            quality: plan.map(|_| self.judged.status(&shared.settings.guard, self.waiting_tokens)),
        }
    }
}

fn latency(pages: &[Page]) -> Latency {
    let of = |latest: fn(&Page) -> &Latest| Latest::percentiles(pages.iter().map(latest));
    Latency {
        first_token_ms: of(|page| &page.first_token),
        inter_token_ms: of(|page| &page.inter_token),
        request_ms: of(|page| &page.request),
    }
}

impl Book {
    /// A book of these variants, dense first.
    pub(super) fn new(variants: Vec<Arc<Variant>>) -> Self {
        Self {
            start: Instant::now(),
            next: 1,
            totals: Totals::default(),
            decoded: Rate::default(),
            read: Rate::default(),
            requests: VecDeque::new(),
            variants: variants.into_iter().map(Page::new).collect(),
            log: VecDeque::new(),
            kv_bytes: (0, 0),
        }
    }

    /// Index of a variant, which is made known.
    fn page(&mut self, variant: &Arc<Variant>) -> usize {
        let known = self.variants.iter().position(|page| page.variant.name == variant.name);
        known.unwrap_or_else(|| {
            self.variants.push(Page::new(Arc::clone(variant)));
            self.variants.len() - 1
        })
    }

    /// Makes a variant known that clients asked for.
    pub(super) fn know(&mut self, variant: &Arc<Variant>) {
        self.page(variant);
    }

    /// What serves a variant's requests.
    pub(super) fn serving(&mut self, variant: &Arc<Variant>) -> Arc<Variant> {
        let page = self.page(variant);
        let page = if self.variants[page].fallen_back { 0 } else { page };
        Arc::clone(&self.variants[page].variant)
    }

    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.requests.iter_mut().find(|entry| entry.id == id)
    }

    /// A request joins the queue; its number, and the variant that will serve it.
    pub(super) fn take_on(&mut self, request: &Request) -> (u64, Arc<Variant>) {
        let serving = self.serving(&request.variant);
        let (id, variant) = (self.next, self.page(&serving));
        self.next += 1;
        self.totals.requests += 1;
        self.totals.prompt_tokens += request.prompt.len() as u64;
        self.variants[variant].requests += 1;
        self.requests.push_front(Entry {
            id,
            variant,
            state: RequestState::Waiting,
            came: Instant::now(),
            prompt: request.prompt.len(),
            reused: 0,
            tokens: 0,
            first: None,
            last: None,
        });
        (id, serving)
    }

    /// A request is not taken on; `waiting` where the queue is full.
    pub(super) fn refuse(&mut self, waiting: Option<usize>) {
        self.totals.refused += 1;
        if let Some(waiting) = waiting {
            let last =
                self.log.front().is_some_and(|line| line.text.starts_with("the queue is full"));
            if !last {
                self.tell("warning", format!("the queue is full: {waiting} requests wait"));
            }
        }
    }

    /// When a place is likely to be free: by the median time of the latest requests.
    pub(super) fn retry_after(&self, waiting: usize) -> Duration {
        let median = latency(&self.variants).request_ms.p50 / 1e3;
        let rounds = waiting as f64 / self.running().max(1) as f64;
        Duration::from_secs_f64((median * rounds).clamp(1.0, 60.0).ceil())
    }

    /// Requests at work.
    pub(super) fn running(&self) -> usize {
        self.requests.iter().filter(|entry| entry.at_work()).count()
    }

    /// A request's prompt is being read, so many of its tokens known already.
    pub(super) fn start(&mut self, id: u64, reused: usize) {
        self.totals.reused_tokens += reused as u64;
        if let Some(entry) = self.entry(id) {
            (entry.state, entry.reused) = (RequestState::Reading, reused);
        }
    }

    /// Prompt tokens that were known already.
    pub(super) fn reused(&mut self, id: u64) -> usize {
        self.entry(id).map_or(0, |entry| entry.reused)
    }

    /// Prompt tokens were read.
    pub(super) fn prefilled(&mut self, tokens: usize, now: Instant) {
        self.read.add(now, tokens);
    }

    /// A token was written, so long after the one before it.
    pub(super) fn token(&mut self, id: u64, now: Instant, gap: Option<Duration>) {
        self.decoded.add(now, 1);
        self.totals.answer_tokens += 1;
        let Some(entry) = self.requests.iter_mut().find(|entry| entry.id == id) else { return };
        let page = &mut self.variants[entry.variant];
        page.tokens += 1;
        if entry.first.is_none() {
            page.first_token.push(ms(now - entry.came));
            entry.first = Some(now);
        }
        if let Some(gap) = gap {
            page.inter_token.push(ms(gap));
        }
        (entry.last, entry.tokens, entry.state) =
            (Some(now), entry.tokens + 1, RequestState::Writing);
    }

    /// A mask kept so many neurons.
    pub(super) fn ran(&mut self, variant: &Arc<Variant>, counts: &Counts) {
        if counts.seen.iter().all(|&seen| seen == 0) {
            return;
        }
        let page = self.page(variant);
        let all = self.variants[page].counts.get_or_insert_with(|| Counts::new(counts.seen.len()));
        if all.seen.iter().any(|&seen| seen > COUNTED) {
            all.kept.iter_mut().chain(&mut all.seen).for_each(|count| *count /= 2);
        }
        all.join(counts);
    }

    /// A request was answered.
    pub(super) fn finish(&mut self, id: u64, now: Instant) {
        self.totals.finished += 1;
        self.end(id, RequestState::Finished);
        if let Some(entry) = self.requests.iter().find(|entry| entry.id == id) {
            let page = &mut self.variants[entry.variant];
            page.request.push(ms(now - entry.came));
            if let Some(speed) = entry.speed() {
                page.stream.push(speed);
            }
        }
    }

    /// A request's client went away.
    pub(super) fn cancel(&mut self, id: u64) {
        self.totals.cancelled += 1;
        self.end(id, RequestState::Cancelled);
    }

    /// A request failed; the log tells why where that is worth it.
    pub(super) fn fail(&mut self, id: u64, failure: Option<&Failure>) {
        self.totals.failed += 1;
        self.end(id, RequestState::Failed);
        if let Some(failure) = failure {
            self.tell("warning", format!("request {id}: {failure}"));
        }
    }

    fn end(&mut self, id: u64, state: RequestState) {
        if let Some(entry) = self.entry(id) {
            entry.state = state;
        }
        while self.requests.iter().filter(|entry| entry.ended()).count() > KEPT {
            let Some(oldest) = self.requests.iter().rposition(Entry::ended) else { return };
            self.requests.remove(oldest);
        }
    }

    /// An answer was set aside for want of memory.
    pub(super) fn park(&mut self) {
        self.totals.parked += 1;
    }

    /// Bytes of keys and values of lanes, and of prompts that are kept.
    pub(super) fn memory(&mut self, lanes: usize, prefix: usize) {
        self.kv_bytes = (lanes, prefix);
    }

    /// Tokens of a variant were scored; it may fall back by them. So many of its tokens wait.
    pub(super) fn judge(
        &mut self,
        guard: &Guard,
        variant: &Arc<Variant>,
        scored: Scored,
        ended: bool,
        waiting: u64,
    ) {
        let index = self.page(variant);
        let page = &mut self.variants[index];
        page.judged.add(guard, scored);
        page.waiting_tokens = waiting;
        if ended {
            page.judged.end_answer();
        }
        let verdict = page.judged.verdict(guard).filter(|_| !page.fallen_back);
        if let Some(why) = verdict {
            page.fallen_back = true;
            let name = &page.variant.name;
            let text = format!("{name} has fallen back to dense: {why}");
            self.tell("warning", text);
        }
    }

    /// Serves a variant sparse again.
    pub(super) fn rearm(&mut self, variant: &Arc<Variant>) {
        let index = self.page(variant);
        let page = &mut self.variants[index];
        (page.fallen_back, page.judged) = (false, Judged::default());
        let text = format!("{} is armed again", page.variant.name);
        self.tell("info", text);
    }

    fn tell(&mut self, level: &'static str, text: String) {
        self.log.push_front(LogLine { time_s: unix_time(), level, text });
        self.log.truncate(KEPT);
    }

    /// Everything at this moment.
    pub(super) fn status(&self, shared: &Shared, waiting: usize, draining: bool) -> Status {
        let (now, limits) = (Instant::now(), &shared.settings.limits);
        let config = shared.model.config();
        let requests = self.requests.iter().take(KEPT);
        Status {
            model: shared.settings.name.clone(),
            time_s: unix_time(),
            uptime_s: (now - self.start).as_secs_f64(),
            threads: shared.pool.threads(),
            layers: config.layers.len(),
            context: config.context,
            load: Load {
                running: self.running(),
                waiting,
                max_running: limits.running,
                max_waiting: limits.waiting,
                draining,
            },
            totals: self.totals.clone(),
            decode_tok_s: self.decoded.per_second(now, self.start),
            prefill_tok_s: self.read.per_second(now, self.start),
            latency: latency(&self.variants),
            memory: MemoryStatus {
                resident_bytes: resident_bytes(),
                weights_bytes: shared.model.bytes_per_token().total() as u64,
                kv_running_bytes: self.kv_bytes.0 as u64,
                kv_prefix_bytes: self.kv_bytes.1 as u64,
                kv_limit_bytes: limits.kv_bytes as u64,
            },
            variants: self.variants.iter().map(|page| page.status(shared)).collect(),
            requests: requests.map(|entry| entry.status(&self.variants, now)).collect(),
            log: self.log.iter().cloned().collect(),
        }
    }
}

/// Memory of this process, where the system tells (Linux); else 0.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes * 1024)
}
