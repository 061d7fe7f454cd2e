//! Errors as OpenAI's API tells them.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

use crate::engine::{Failure, Refused, VariantError};

/// An error with its status.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorInfo,
    retry_after: Option<Duration>,
}

/// The body of a reply that is an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorInfo,
}

/// What is wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorInfo {
    /// For people.
    message: String,
    /// `invalid_request_error` and so on.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The parameter that is wrong.
    param: Option<String>,
    /// For programs.
    code: Option<&'static str>,
}

impl ApiError {
    /// An error of a status.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let body = ErrorInfo { message: message.into(), kind, param: None, code: None };
        Self { status, body, retry_after: None }
    }

    /// A request that cannot be answered as it is.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A parameter whose value is wrong.
    pub(crate) fn parameter(name: &str, message: impl Into<String>) -> Self {
        Self::invalid(message).param(name).code("invalid_value")
    }

    /// A parameter that means nothing here.
    pub(crate) fn unsupported(name: &str, instead: &str) -> Self {
        let message = format!("Unsupported parameter: '{name}' is not supported here; {instead}");
        Self::invalid(message).param(name).code("unsupported_parameter")
    }

    /// A fault of the server.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message).code("internal_error")
    }

    /// With the parameter that is wrong.
    pub(crate) fn param(mut self, name: &str) -> Self {
        self.body.param = Some(name.to_owned());
        self
    }

    /// With a code for programs.
    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.body.code = Some(code);
        self
    }

    /// A request that the engine does not take on; `prompt` is the parameter that holds the prompt.
    pub(crate) fn refused(refused: &Refused, prompt: &str) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Busy { retry_after, .. } => Self {
                retry_after: Some(*retry_after),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, message).code("rate_limit_exceeded")
            },
            Refused::ShuttingDown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, message).code("shutting_down")
            }
            Refused::TooLong { .. } => {
                Self::invalid(message).param(prompt).code("context_length_exceeded")
            }
            Refused::TooLarge { .. } => {
                Self::invalid(message).param("max_tokens").code("kv_budget_exceeded")
            }
            Refused::Prompt(_) => Self::parameter(prompt, message),
            Refused::Choices { .. } => Self::parameter("n", message),
            Refused::Sampling(_) => Self::invalid(message).code("invalid_value"),
        }
    }

    /// The body as JSON, for replies and streams.
    pub(crate) fn json(&self) -> String {
        let body = ErrorBody { error: self.body.clone() };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

impl From<&Failure> for ApiError {
    fn from(failure: &Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::TimedOut(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, message).code("timeout"),
            Failure::ShuttingDown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, message).code("shutting_down")
            }
            Failure::Internal(_) => Self::internal(message),
        }
    }
}

impl From<VariantError> for ApiError {
    fn from(error: VariantError) -> Self {
        match &error {
            VariantError::Unknown { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string())
                .param("model")
                .code("model_not_found"),
            VariantError::Policy(_) => Self::parameter("fewron", error.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.json()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}
