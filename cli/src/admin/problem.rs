//! What the admin API answers when it has no answer: a word for programs and a sentence for people.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::failure::causes;

/// How long a client should wait before it comes again, in seconds.
const RETRY_AFTER_S: &str = "1";

const JSON: &str = "application/json";

/// No answer.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    error: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, error, detail: detail.into() }
    }

    /// The request cannot be read.
    pub(super) fn unreadable(error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, detail)
    }

    /// The body could not be read to its end.
    pub(super) fn unread(status: StatusCode) -> Self {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, "tooLarge", "the body is larger than the 2 MB that can be read")
            }
            _ => Self::unreadable("invalidBody", "the body did not arrive whole"),
        }
    }

    /// The head of a request cannot be read.
    pub(super) fn of_head(_status: StatusCode, detail: &str) -> (&'static str, String) {
        (JSON, text("unreadable", detail))
    }

    /// There is no such endpoint.
    pub(super) async fn no_endpoint() -> Self {
        Self::missing(
            "noEndpoint",
            "the admin API has no such endpoint; docs/operations/running.md says where to begin",
        )
    }

    /// There is, but not with this method.
    pub(super) async fn no_method() -> Self {
        let detail = "this endpoint does not have this method; see the header Allow";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "noMethod", detail)
    }

    /// The admin token is missing or another one.
    pub(super) fn unauthorized() -> Self {
        let detail = "the admin token is needed as a bearer token: ADMIN_TOKEN in dev.env, or the file admin.token in the \
                      data folder";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// There is no such thing.
    pub(super) fn missing(error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, detail)
    }

    /// Whether there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// It can be read, and has no answer.
    pub(super) fn unanswerable(error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error, detail)
    }

    /// It can be read, and does not go with how things are.
    pub(super) fn conflict(error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error, detail)
    }

    /// Our own fault.
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = causes(error), "the admin API could not answer");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed",
            "it could not be read; the log of this process says why",
        )
    }

    /// Not now.
    pub(super) fn busy(error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, detail)
    }
}

impl From<scim::Error> for Problem {
    fn from(error: scim::Error) -> Self {
        let word = error.scim_type.map_or("invalidValue", scim::ScimType::as_str);
        Self::unreadable(word, error.detail)
    }
}

impl From<projector::Error> for Problem {
    fn from(error: projector::Error) -> Self {
        match &error {
            projector::Error::NotYet { .. } => {
                Self::new(StatusCode::CONFLICT, "notReached", error.to_string())
            }
            projector::Error::Snapshot { .. } => Self::busy("noSnapshot", error.to_string()),
            projector::Error::NotKept { .. } => Self::new(StatusCode::GONE, "notKept", error.to_string()),
            projector::Error::TooMany { .. } => Self::unanswerable("tooMany", error.to_string()),
            projector::Error::Lagging(_) => Self::busy("catchingUp", error.to_string()),
            projector::Error::Log(eventlog) if eventlog.is_retryable() => Self::busy(
                "logUnavailable",
                format!(
                    "the log cannot be asked how far it is ({}); a sequence that is applied can be asked for with at",
                    causes(&error)
                ),
            ),
            projector::Error::Log(_)
            | projector::Error::Event { .. }
            | projector::Error::Stranger { .. }
            | projector::Error::Folder { .. }
            | projector::Error::Gone { .. }
            | projector::Error::Replaced { .. }
            | projector::Error::Index(_) => Self::failed(&error),
        }
    }
}

fn text(error: &str, detail: &str) -> String {
    format!("{}\n", json!({"error": error, "detail": detail}))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, JSON)];
        let mut response = (self.status, json, text(self.error, &self.detail)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer realm=\"rollcall admin\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}
