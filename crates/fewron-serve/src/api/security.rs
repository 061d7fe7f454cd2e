//! Who may use the server.

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::app::{App, Config};
use super::error::ApiError;
use super::{Shared, assets};

/// What pages of this server may load.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Headers of every reply.
pub(super) async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Lets pages of the origins that the operator names use the server.
pub(super) fn cors(app: &App) -> CorsLayer {
    let origins = app.config.cors_origins.iter();
    let origins = origins.filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
}

/// Refuses requests that name another host: see [`Config::check_host`].
pub(super) async fn check_host(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Response {
    if !app.config.check_host || is_allowed(&app.config, request.headers(), request.uri()) {
        return next.run(request).await;
    }
    let message = "the header Host does not name this machine; start the server with --allow-host, or \
                   with a key";
    ApiError::new(StatusCode::FORBIDDEN, message).code("host_not_allowed").into_response()
}

/// Whether both the header `Host` and the host of the address, where there is one, are allowed.
fn is_allowed(config: &Config, headers: &HeaderMap, uri: &Uri) -> bool {
    let mut named = headers.get_all(HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else { return false };
    let of_uri = uri.authority().map(Authority::as_str);
    host.to_str().is_ok_and(|host| is_allowed_name(config, host))
        && of_uri.is_none_or(|host| is_allowed_name(config, host))
}

fn is_allowed_name(config: &Config, host: &str) -> bool {
    let name = without_port(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        || config.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Refuses requests without the key, where there is one and the path needs it.
pub(super) async fn check_key(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let Some(key) = &app.config.api_key else { return next.run(request).await };
    let path = request.uri().path();
    if path == "/health" || assets::is_asset(path) {
        return next.run(request).await;
    }
    let message = match shown_key(request.headers()) {
        Some(shown) if bool::from(shown.as_bytes().ct_eq(key.as_bytes())) => {
            return next.run(request).await;
        }
        Some(_) => "Incorrect API key provided",
        None => "You didn't provide an API key: send the header Authorization: Bearer KEY",
    };
    ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key").into_response()
}

fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let config = Config { allowed_hosts: vec!["box.lan".to_owned()], ..Config::default() };
        let allowed = |host| is_allowed_name(&config, host);
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:80", "[::1]:8080", "[::1]", "box.lan:1"]
        {
            assert!(allowed(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1", "box.lan.evil:80"] {
            assert!(!allowed(host), "{host}");
        }
    }
}
