//! Files of the dashboard, which hold no data.

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Shared;
use crate::dashboard::{ASSETS, Asset};

/// Adds a route for each file.
pub(super) fn add(router: Router<Shared>) -> Router<Shared> {
    ASSETS.iter().fold(router, |router, asset| router.route(asset.path, get(move || reply(asset))))
}

/// Whether a path is that of a file.
pub(super) fn is_asset(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

async fn reply(asset: &'static Asset) -> Response {
    let mut response = asset.body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
