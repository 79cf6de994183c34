//! The one place that turns what went wrong into an HTTP answer: SCIM's error body for everything.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use scim::{Error, ScimType};

use super::reply::SCIM_JSON;
use crate::execute::Failure;
use crate::room::Full;

/// What a client should wait before it comes again. Okta understands whole seconds only.
const RETRY_AFTER_S: &str = "1";

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Problem {
    error: Error,
    /// A header that the status asks for.
    header: Option<(header::HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn refused(error: Error) -> Self {
        Self { error, header: None }
    }

    /// What was wrong, for an answer that holds many.
    pub(crate) fn into_error(self) -> Error {
        self.error
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::refused(Error::status(404, detail))
    }

    /// RFC 6750 §3: what kind of credential is wanted, and what was wrong with the one that came.
    pub(crate) fn unauthorized(presented: bool) -> Self {
        let (challenge, detail) = if presented {
            (
                "Bearer realm=\"rollcall\", error=\"invalid_token\"",
                "the bearer token is not valid (unknown, expired or revoked)",
            )
        } else {
            ("Bearer realm=\"rollcall\"", "a bearer token is needed in the header Authorization")
        };
        Self {
            error: Error::status(401, detail),
            header: Some((header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))),
        }
    }
}

impl Problem {
    /// Come again: the log is away, or others are faster.
    fn busy(detail: &str, doing: &'static str, source: &dyn std::error::Error) -> Self {
        metrics::counter!("rollcall_requests_busy_total").increment(1);
        tracing::warn!(error = %source, doing, "a request could not be served in time");
        let retry_after = HeaderValue::from_static(RETRY_AFTER_S);
        Self { error: Error::status(503, detail), header: Some((header::RETRY_AFTER, retry_after)) }
    }
}

impl Problem {
    /// Come again: others have the memory that this takes.
    pub(crate) fn full(what: &'static str, source: &Full) -> Self {
        metrics::counter!("rollcall_memory_full_total", "what" => what).increment(1);
        Self::busy("as much is being sent and answered as may be at once; nothing was changed", what, source)
    }
}

/// The answer to a request that never came to a route.
pub(crate) fn unreadable(status: StatusCode, detail: &str) -> (&'static str, String) {
    let scim_type = (status == StatusCode::BAD_REQUEST).then_some(ScimType::InvalidSyntax);
    let error = Error { status: status.as_u16(), scim_type, detail: detail.to_string() };
    (SCIM_JSON, error.to_body().to_string())
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::refused(error)
    }
}

impl From<projector::Error> for Problem {
    fn from(error: projector::Error) -> Self {
        Failure::from(error).into()
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => Self::refused(error),
            Failure::Busy { doing, source } => {
                Self::busy("the service could not answer in time; nothing was changed", doing, &*source)
            }
            Failure::Unknown { doing, source } => {
                let detail = "the service could not finish this in time; whether the change was made is to be seen by reading";
                Self::busy(detail, doing, &*source)
            }
            Failure::Broken { doing, source } => {
                let cause = source.source().map(ToString::to_string).unwrap_or_default();
                tracing::error!(error = %source, cause, doing, "a request failed");
                Self::refused(Error::status(500, "the service failed; its log says why"))
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.error.to_body().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SCIM_JSON));
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}
