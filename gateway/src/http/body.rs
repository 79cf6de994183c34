//! The body of a request, read within its limits and the room that there is for it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use scim::{Error, ScimType};
use serde_json::Value;

use super::problem::Problem;
use super::request::Asked;
use super::resources::deadline;
use crate::Gateway;
use crate::connections::Slow;
use crate::room::{SMALL_BYTES, Share};

/// What is made of a body is so many times as large.
const HELD_OF_BODY: usize = 8;

impl Asked {
    /// The body as JSON, within its limit.
    pub(crate) async fn json(&self, gateway: &Gateway, body: Body) -> Result<Value, Problem> {
        let limit = gateway.inner.limits.body_bytes_max;
        let too_large =
            || Problem::from(Error::status(413, format!("the body is larger than {limit} bytes")));
        if self.header(header::CONTENT_TYPE).is_some_and(|content_type| !is_json(&content_type)) {
            let detail = "the body must be application/scim+json or application/json, in UTF-8";
            return Err(Error::status(415, detail).into());
        }
        // RFC 9110 §8.4: what is packed would be called no JSON, which helps nobody.
        let coding = self.header(header::CONTENT_ENCODING);
        if coding.is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity")) {
            return Err(Error::status(415, "the body must not be packed: leave out Content-Encoding").into());
        }
        let announced = self.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let unread = |error| match why(&error) {
            Unread::Large => too_large(),
            Unread::Slow => Error::status(408, "the body did not arrive in time").into(),
            Unread::Broken => {
                Error::new(ScimType::InvalidSyntax, "the body cannot be read to its end").into()
            }
        };
        let bytes = match announced {
            Some(length) => {
                self.make_room(gateway, length).await?;
                axum::body::to_bytes(body, limit).await.map_err(unread)?
            }
            None => self.unannounced(gateway, body, limit).await?.map_err(unread)?,
        };
        Ok(scim::json::parse(&bytes)?)
    }

    /// A body that does not say how long it is. It is small, as most are, or may become the longest.
    async fn unannounced(
        &self,
        gateway: &Gateway,
        body: Body,
        limit: usize,
    ) -> Result<Result<Bytes, axum::Error>, Problem> {
        let mut body = Body::new(Limited::new(body, limit));
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let data = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) => return Ok(Err(error)),
            };
            if self.room.get().is_none() && read.len() + data.len() > SMALL_BYTES {
                self.make_room(gateway, limit).await?;
            }
            read.extend_from_slice(&data);
        }
        Ok(Ok(read.freeze()))
    }

    /// Waits until there is room for a body of so many bytes.
    async fn make_room(&self, gateway: &Gateway, bytes: usize) -> Result<(), Problem> {
        if bytes <= SMALL_BYTES {
            return Ok(());
        }
        let bytes = bytes.saturating_mul(HELD_OF_BODY);
        let taken = gateway.inner.room.take(&self.caller.tenant, bytes, deadline(gateway)).await;
        let share = taken.map_err(|full| Problem::full("body", &full))?;
        // There is one body.
        let _ = self.room.set(Arc::new(share));
        Ok(())
    }

    /// The room that its body takes.
    pub(crate) fn room(&self) -> Option<Arc<Share>> {
        self.room.get().cloned()
    }

    /// Room for an answer of about so many bytes, beside that of the body. Whoever waited for it would hold what it is made
    /// of.
    pub(crate) fn room_to_answer(&self, gateway: &Gateway, bytes: usize) -> Result<Vec<Arc<Share>>, Problem> {
        let mut held: Vec<Arc<Share>> = self.room().into_iter().collect();
        if bytes > SMALL_BYTES {
            let taken = gateway.inner.room.try_take(&self.caller.tenant, bytes);
            held.push(Arc::new(taken.map_err(|full| Problem::full("answer", &full))?));
        }
        Ok(held)
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    Large,
    Slow,
    /// Its pieces are not what was announced, or the client is gone.
    Broken,
}

fn why(error: &axum::Error) -> Unread {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let mut found = causes.filter_map(|cause| {
        let slow = cause.is::<Slow>().then_some(Unread::Slow);
        slow.or_else(|| cause.is::<LengthLimitError>().then_some(Unread::Large))
    });
    found.next().unwrap_or(Unread::Broken)
}

/// Whether a body of this type can be read. JSON between systems is UTF-8 (RFC 8259 §8.1).
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let known = |essence: String| matches!(essence.as_str(), "application/scim+json" | "application/json");
    parts.next().is_some_and(known)
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, charset)) if name.trim() == "charset" => {
                matches!(charset.trim().trim_matches('"'), "utf-8" | "utf8")
            }
            Some(_) | None => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_in_utf_8() {
        for good in [
            "application/json",
            "Application/SCIM+JSON",
            "application/json;charset=utf-8",
            "application/scim+json; Charset=\"UTF-8\"",
            "application/json; profile=\"x\"",
            "application/json;",
            "application/scim+json; charset=utf8",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/json; charset=iso-8859-1",
            "application/json;charset=",
            "application/jsonp",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
