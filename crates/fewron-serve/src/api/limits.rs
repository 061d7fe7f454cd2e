//! Bodies of requests, no longer and no slower than allowed.

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::timeout;

use super::app::Config;
use super::error::ApiError;

/// Bytes beyond the limit that are read and dropped, so that the client sees the reply instead of a broken
/// connection.
const DROPPED_BYTES: usize = 64 << 20;

/// Longest time for that.
const DROPPING: Duration = Duration::from_secs(5);

/// The JSON body of a request.
///
/// # Errors
/// When it is no JSON by its type, is compressed, or is too long or too slow.
pub(super) async fn read(
    config: &Config,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, ApiError> {
    check_type(headers)?;
    let limit = config.max_body_bytes;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > limit) {
        if !headers.contains_key(EXPECT) {
            drop_rest(body).await;
        }
        return Err(too_long(limit));
    }
    timeout(config.body_timeout, collect(body, limit)).await.unwrap_or_else(|_| {
        let message = format!("the body took longer than {} s", config.body_timeout.as_secs());
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message).code("body_timeout"))
    })
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |message| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = value.split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = "the body must be JSON: send the header Content-Type: application/json";
        return Err(unsupported(message).code("unsupported_media_type"));
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unsupported("compressed bodies are not supported").code("unsupported_encoding"));
    }
    Ok(())
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid("the body broke off"))?;
        let Some(bytes) = frame.data_ref() else { continue };
        if whole.len() + bytes.len() > limit {
            drop(whole);
            drop_rest(body).await;
            return Err(too_long(limit));
        }
        whole.extend_from_slice(bytes);
    }
    Ok(whole.into())
}

async fn drop_rest(mut body: Body) {
    let read = async {
        let mut dropped = 0;
        while let (true, Some(Ok(frame))) = (dropped < DROPPED_BYTES, body.frame().await) {
            dropped += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    let _ = timeout(DROPPING, read).await;
}

fn too_long(limit: usize) -> ApiError {
    let message =
        format!("the body is longer than {limit} bytes; --max-body of the server says so");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("body_too_large")
}
