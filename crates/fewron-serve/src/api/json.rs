//! JSON in and out.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::{Shared, limits};

/// A body that is JSON.
#[derive(Clone, Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        let bytes = limits::read(&app.config, &head.headers, body).await?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let at = error.valid_up_to();
            ApiError::invalid(format!("the body is not UTF-8 (byte {at})")).code("invalid_json")
        })?;
        parse(text).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(text) => of_text(text).into_response(),
            Err(error) => ApiError::internal(error.to_string()).into_response(),
        }
    }
}

/// A reply whose text is JSON already.
pub(super) fn of_text(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Reads a request.
///
/// # Errors
/// Names the parameter that is missing, unknown or of the wrong type.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        explain(error.inner(), &path)
    })?;
    reader.end().map_err(|error| explain(&error, "."))?;
    Ok(value)
}

fn explain(error: &serde_json::Error, path: &str) -> ApiError {
    let problem = error.to_string();
    if !error.is_data() {
        let message = format!("We could not parse the JSON body of your request: {problem}");
        return ApiError::invalid(message).code("invalid_json");
    }
    let named = |start: &str| problem.strip_prefix(start)?.split('`').next();
    if named("unknown field `").is_some() {
        let message = format!("Unrecognized request argument supplied: {path}");
        return ApiError::invalid(message).param(path).code("unknown_parameter");
    }
    if let Some(name) = named("missing field `") {
        let name = inside(path, name);
        let message = format!("Missing required parameter: '{name}'");
        return ApiError::invalid(message).param(&name).code("missing_required_parameter");
    }
    match path {
        "." => ApiError::invalid(format!("Invalid request: {problem}")).code("invalid_type"),
        _ => ApiError::invalid(format!("Invalid value for '{path}': {problem}"))
            .param(path)
            .code("invalid_type"),
    }
}

/// A field of the value at a path.
fn inside(path: &str, name: &str) -> String {
    if path == "." { name.to_owned() } else { format!("{path}.{name}") }
}
