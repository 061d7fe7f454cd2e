//! What the server is doing.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

use super::app::{App, Phase};
use super::error::{ApiError, ErrorBody};
use super::json::{self, Json};
use super::{Shared, stream};
use crate::openai::Rearm;

/// Time between events.
const EVERY: Duration = Duration::from_secs(1);

/// Whether requests are taken on: 200, or 503 while the server drains.
#[utoipa::path(
    get, path = "/health", tag = "Server",
    responses((status = 200, body = serde_json::Value), (status = 503, body = serde_json::Value))
)]
pub(super) async fn health(State(app): State<Shared>) -> Response {
    let phase = *app.phase.borrow();
    match phase {
        Phase::Serving => Json(json!({ "status": "ok" })).into_response(),
        Phase::Draining | Phase::Ending => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "draining" }))).into_response()
        }
    }
}

/// Load, speed, latency, memory and quality, by variant.
#[utoipa::path(
    get, path = "/fewron/status", tag = "Server",
    responses((status = 200, body = serde_json::Value), (status = 401, body = ErrorBody))
)]
pub(super) async fn status(State(app): State<Shared>) -> Response {
    json::of_text(text(&app))
}

fn text(app: &App) -> String {
    serde_json::to_string(&app.engine.status()).unwrap_or_default()
}

/// The same as server-sent events, once a second.
#[utoipa::path(
    get, path = "/fewron/events", tag = "Server",
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 401, body = ErrorBody),
    )
)]
pub(super) async fn events(State(app): State<Shared>) -> Response {
    let phases = app.phase.subscribe();
    stream::reply(unfold((app, phases, false), async |(app, mut phases, again)| {
        if again {
            tokio::select! {
                () = sleep(EVERY) => {}
                _ = phases.wait_for(|&phase| phase == Phase::Ending) => return None,
            }
        }
        let event = Bytes::from(format!("data: {}\n\n", text(&app)));
        Some((Ok(event), (app, phases, true)))
    }))
}

/// Lets a variant run sparse again that left its quality budget.
#[utoipa::path(
    post, path = "/fewron/rearm", tag = "Server", request_body = Rearm,
    responses((status = 200, body = serde_json::Value), (status = "4XX", body = ErrorBody))
)]
pub(super) async fn rearm(
    State(app): State<Shared>,
    Json(request): Json<Rearm>,
) -> Result<Response, ApiError> {
    app.engine.rearm(&request.variant).map_err(|error| {
        ApiError::new(StatusCode::NOT_FOUND, error.to_string())
            .param("variant")
            .code("variant_not_found")
    })?;
    tracing::info!(variant = ?request.variant, "re-armed");
    Ok(Json(json!({ "variant": request.variant })).into_response())
}
