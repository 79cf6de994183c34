//! Answers: the right status, content type, Location and ETag.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

use crate::room::Share;

/// A success.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Option<Vec<u8>>,
    location: Option<String>,
    version: Option<String>,
    further: Vec<(HeaderName, String)>,
    plain_json: bool,
    /// Room in memory that it takes until the client has taken it.
    room: Vec<Arc<Share>>,
}

/// A body that takes room.
struct Roomy {
    text: Vec<u8>,
    _room: Vec<Arc<Share>>,
}

impl AsRef<[u8]> for Roomy {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Reply {
    /// A success with this JSON.
    pub(crate) fn text(status: StatusCode, body: Vec<u8>) -> Self {
        Self { body: Some(body), ..Self::empty(status) }
    }

    pub(crate) fn ok(body: Value) -> Self {
        Self::text(StatusCode::OK, body.to_string().into_bytes())
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            body: None,
            location: None,
            version: None,
            further: Vec::new(),
            plain_json: false,
            room: Vec::new(),
        }
    }

    pub(crate) fn located(self, location: String, version: String) -> Self {
        Self { location: Some(location), version: Some(version), ..self }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: String) -> Self {
        self.further.push((name, value));
        self
    }

    pub(crate) fn holding(self, room: impl IntoIterator<Item = Arc<Share>>) -> Self {
        Self { room: room.into_iter().collect(), ..self }
    }

    /// `application/json`, because it is none of SCIM's.
    pub(crate) fn in_plain_json(self) -> Self {
        Self { plain_json: true, ..self }
    }
}

pub(super) const SCIM_JSON: &str = "application/scim+json";
const PLAIN_JSON: &str = "application/json";

/// RFC 7644 §3.8: whether the client wants `application/json` and not `application/scim+json`.
pub(super) fn wants_plain_json(headers: &HeaderMap) -> bool {
    let accepts = |wanted: &str| {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        // RFC 9110 §8.3.1: in any case.
        values.into_iter().any(|value| value.to_ascii_lowercase().contains(wanted))
    };
    accepts(PLAIN_JSON) && !accepts(SCIM_JSON)
}

/// Names an answer as such a client wants it, whatever it is: a resource, a list, discovery or an error.
pub(super) fn name_plain_json(response: &mut Response) {
    if let Some(content_type) = response.headers_mut().get_mut(header::CONTENT_TYPE)
        && content_type == SCIM_JSON
    {
        *content_type = HeaderValue::from_static(PLAIN_JSON);
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let content_type = if self.plain_json { PLAIN_JSON } else { SCIM_JSON };
        let mut response = match self.body {
            Some(body) => {
                let mut response = match self.room.is_empty() {
                    true => (self.status, body).into_response(),
                    false => {
                        let roomy = Roomy { text: body, _room: self.room };
                        (self.status, Bytes::from_owner(roomy)).into_response()
                    }
                };
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                response
            }
            None => self.status.into_response(),
        };
        let mut set = |name, value: Option<String>| {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                response.headers_mut().insert(name, value);
            }
        };
        set(header::LOCATION, self.location);
        set(header::ETAG, self.version);
        for (name, value) in self.further {
            set(name, Some(value));
        }
        response
    }
}
