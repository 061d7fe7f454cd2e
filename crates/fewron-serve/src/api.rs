//! The HTTP interface: routes, who may use them, and what they answer.

mod answers;
mod app;
mod assets;
mod chat;
mod completions;
mod error;
mod json;
mod limits;
mod logprobs;
mod metrics;
mod models;
mod prompts;
mod security;
mod served;
mod status;
mod stream;
mod tokens;
mod traffic;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use app::Phase;
pub use app::{App, Chat, Config};
pub(crate) use error::ApiError;

/// The state that all handlers share.
pub(crate) type Shared = Arc<App>;

#[derive(OpenApi)]
#[openapi(info(
    title = "fewron serve",
    description = "OpenAI's API for one model, dense or sparse by request."
))]
struct Document;

/// All routes of the server.
pub fn router(app: Arc<App>) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(chat::chat))
        .routes(routes!(completions::completions))
        .routes(routes!(models::list))
        .routes(routes!(models::one))
        .routes(routes!(tokens::tokenize))
        .routes(routes!(tokens::detokenize))
        .routes(routes!(tokens::info))
        .routes(routes!(status::health))
        .routes(routes!(status::status))
        .routes(routes!(status::events))
        .routes(routes!(status::rearm))
        .routes(routes!(metrics::metrics))
        .split_for_parts();
    let document = document.to_json().unwrap_or_default();
    let of_document = move || async move { json::of_text(document) };
    assets::add(router)
        .route("/openapi.json", get(of_document))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&app), security::check_key))
        .layer(security::cors(&app))
        .layer(from_fn_with_state(Arc::clone(&app), security::check_host))
        .layer(from_fn(security::add_headers))
        .layer(from_fn_with_state(Arc::clone(&app), traffic::count))
        .with_state(app)
}

async fn not_found(State(_): State<Shared>, request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    let message =
        format!("Unknown request URL: {method} {path}. /openapi.json lists what there is.");
    ApiError::new(StatusCode::NOT_FOUND, message).code("unknown_url")
}

async fn wrong_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    let message = format!("Not allowed to {method} on {path}");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).code("method_not_allowed")
}

/// A fault of a handler is told as such; the hook for panics has said where it is.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal("a fault of the server; its log says more").into_response()
}
