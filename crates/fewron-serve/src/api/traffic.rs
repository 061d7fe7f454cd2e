//! Counts and logs of requests.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::time::Instant;

use super::Shared;
use super::metrics::OfEngine;
use crate::engine::Engine;

/// What tells the counts of replies apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reply {
    /// The route; empty for paths that are none.
    path: String,
    status: u16,
}

/// Counts since the start.
pub(crate) struct Traffic {
    registry: Registry,
    replies: Family<Reply, Counter>,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Idle connections that were closed to make room.
    pub(crate) evicted: Counter,
}

impl Traffic {
    /// No counts yet.
    pub(crate) fn new(engine: &Engine) -> Self {
        let mut registry = Registry::with_prefix("fewron");
        let replies = Family::default();
        let (connections, evicted) = (Gauge::default(), Counter::default());
        registry.register("http_replies", "Replies", replies.clone());
        registry.register("http_connections", "Open connections", connections.clone());
        let help = "Idle connections that were closed to make room";
        registry.register("http_connections_evicted", help, evicted.clone());
        registry.register_collector(Box::new(OfEngine::new(engine.clone())));
        Self { registry, replies, connections, evicted }
    }

    /// All counts as OpenMetrics text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// Counts and logs a reply.
pub(super) async fn count(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let came = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let reply = Reply { path: route.unwrap_or_default(), status };
    app.traffic.replies.get_or_create(&reply).inc();
    let ms = came.elapsed().as_secs_f64() * 1e3;
    tracing::info!(%method, ?path, status, ms = format_args!("{ms:.1}"), "reply");
    response
}
