//! Answers as server-sent events.

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

use super::answers::Answers;
use super::error::ApiError;
use crate::engine::Event;
use crate::openai::Usage;

/// After so long without an event a comment is sent: proxies keep the connection, and a client that is
/// gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Makes the events of a stream.
pub(super) trait Format: Send + 'static {
    /// What is sent before anything is known.
    fn start(&mut self, events: &mut Events);
    /// What an event of a prompt becomes, with the tokens so far; it is not [`Event::Failed`].
    fn event(&mut self, prompt: usize, event: Event, usage: Usage, events: &mut Events);
    /// What is sent after all answers.
    fn end(&mut self, usage: Usage, events: &mut Events);
}

/// Events that wait to be sent.
#[derive(Default)]
pub(super) struct Events(VecDeque<Bytes>);

impl Events {
    /// Adds an event with a value as JSON.
    pub(super) fn push(&mut self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(json) => self.push_text(&json),
            Err(error) => self.push_text(&ApiError::internal(error.to_string()).json()),
        }
    }

    /// Adds an event with JSON. Clients that split lines as Python's `str.splitlines` does (httpx is one) end
    /// them at more characters than the form does; the others of those JSON escapes by itself.
    fn push_text(&mut self, json: &str) {
        let mut event = format!("data: {json}\n\n");
        for (end, escaped) in
            [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")]
        {
            if event.contains(end) {
                event = event.replace(end, escaped);
            }
        }
        self.0.push_back(event.into());
    }
}

/// A reply that streams answers. They are cancelled when the client goes away.
pub(super) fn respond(answers: Answers, mut format: impl Format) -> Response {
    let mut events = Events::default();
    format.start(&mut events);
    let state = Streamed { answers: Some(answers), format, events };
    reply(unfold(state, Streamed::next))
}

struct Streamed<F> {
    /// None once they have ended.
    answers: Option<Answers>,
    format: F,
    events: Events,
}

impl<F: Format> Streamed<F> {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if let Some(bytes) = self.events.0.pop_front() {
                return Some((Ok(bytes), self));
            }
            let answers = self.answers.as_mut()?;
            match timeout(KEEP_ALIVE, answers.next()).await {
                Err(_) => return Some((Ok(Bytes::from_static(b": still there\n\n")), self)),
                Ok(event) => self.take(event),
            }
        }
    }

    fn take(&mut self, event: Option<(usize, Event)>) {
        match event {
            Some((_, Event::Failed(failure))) => {
                self.events.push_text(&ApiError::from(&failure).json());
                self.answers = None;
            }
            Some((prompt, event)) => {
                let usage = self.answers.as_ref().map(Answers::usage).unwrap_or_default();
                self.format.event(prompt, event, usage, &mut self.events);
            }
            None => {
                let usage = self.answers.take().map(|answers| answers.usage());
                self.format.end(usage.unwrap_or_default(), &mut self.events);
                self.events.push_text("[DONE]");
            }
        }
    }
}

/// A reply of server-sent events.
pub(super) fn reply(
    stream: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response {
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
