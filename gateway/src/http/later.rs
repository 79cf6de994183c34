//! `Prefer: respond-async` and `/Requests/{txn}`: RFC 9967 §2.5.1.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use scim::bulk::{self, Operation, Request};
use serde_json::{Value, json};

use super::problem::Problem;
use super::reply::Reply;
use super::request::Asked;
use crate::Gateway;
use crate::batch::Batch;
use crate::execute::Failure;
use crate::later::Known;

/// RFC 7240 §3.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// RFC 9967 §7.1.
const SET_TXN: HeaderName = HeaderName::from_static("set-txn");
/// RFC 8417 §7.2.
const SET: &str = "application/secevent+jwt";

/// RFC 7240 §4: the client need not wait for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preference {
    /// How long it would wait nevertheless.
    wait: Duration,
}

impl Preference {
    pub(super) fn of(asked: &Asked) -> Option<Self> {
        Self::parse(&asked.header(HeaderName::from_static("prefer"))?)
    }

    fn parse(header: &str) -> Option<Self> {
        let (mut asked, mut wait) = (false, 0);
        for preference in header.split(',') {
            let text = preference.split(';').next().unwrap_or_default();
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "respond-async" => asked = true,
                "wait" => wait = value.trim().trim_matches('"').parse().unwrap_or(0),
                _ => {}
            }
        }
        asked.then_some(Self { wait: Duration::from_secs(wait) })
    }
}

/// Accepts a list of operations, or gives it back to be carried out now.
pub(super) async fn accept(
    gateway: &Gateway,
    batch: Batch,
    preference: Preference,
) -> Result<Result<Reply, Batch>, Problem> {
    let (single, txn) = (batch.single, batch.txn.clone());
    let location = format!("{}/Requests/{txn}", batch.caller.base_url);
    // One operation is over long before a second has passed.
    if single && !preference.wait.is_zero() {
        return Ok(Err(batch));
    }
    let accepted = match gateway.accept(batch).await.map_err(Failure::writing)? {
        Ok(accepted) => accepted,
        Err(batch) => return Ok(Err(batch)),
    };
    if !preference.wait.is_zero()
        && let Ok(Ok(results)) = tokio::time::timeout(preference.wait, accepted.finished).await
    {
        return Ok(Ok(Reply::ok(bulk::response(results.into_iter().flatten().collect()))));
    }
    Ok(Ok(Reply::empty(StatusCode::ACCEPTED)
        .with(SET_TXN, txn)
        .with(PREFERENCE_APPLIED, "respond-async".to_string())
        .with(header::LOCATION, location)))
}

/// The answer to an ordinary request that need not be carried out at once; nothing when it shall be.
pub(super) async fn accept_one(
    gateway: &Gateway,
    asked: &Asked,
    method: &str,
    data: &Value,
) -> Result<Option<Reply>, Problem> {
    let Some(preference) = Preference::of(asked) else { return Ok(None) };
    // An operation can be kept for one version alone, and a preference need not be followed.
    if asked.header(header::IF_NONE_MATCH).is_some() {
        return Ok(None);
    }
    Box::pin(accept_operation(gateway, asked, preference, method, data)).await
}

async fn accept_operation(
    gateway: &Gateway,
    asked: &Asked,
    preference: Preference,
    method: &str,
    data: &Value,
) -> Result<Option<Reply>, Problem> {
    let kind = asked.kind(gateway)?;
    let path = match asked.id.as_str() {
        "" => kind.endpoint.clone(),
        id => format!("{}/{id}", kind.endpoint),
    };
    let version = asked.header(header::IF_MATCH);
    let operation = Operation {
        method: method.to_string(),
        bulk_id: None,
        path,
        version,
        data: data.clone(),
        fault: None,
    };
    let batch = Batch {
        caller: asked.caller.clone(),
        txn: asked.txn.clone(),
        single: true,
        request: Request { errors_max: usize::MAX, operations: vec![operation] },
        done: BTreeMap::new(),
    };
    Ok(accept(gateway, batch, preference).await?.ok())
}

/// What came of a request: one security event token for each operation.
pub(super) async fn read(State(gateway): State<Gateway>, asked: Asked) -> Result<Response, Problem> {
    let known = gateway.transaction(&asked.caller, &asked.id).await.map_err(Failure::reading)?;
    match known {
        Known::Nothing => Err(Problem::not_found("there is no such request, or it was completed a day ago")),
        Known::Pending => {
            let reply = Reply::empty(StatusCode::ACCEPTED).with(header::RETRY_AFTER, "1".to_string());
            Ok(reply.into_response())
        }
        Known::Done(tokens) => {
            let wants_token = asked.header(header::ACCEPT).is_some_and(|accept| accept.contains(SET));
            match tokens.as_slice() {
                [token] if wants_token => {
                    Ok(([(header::CONTENT_TYPE, SET)], unsecured(token)).into_response())
                }
                _ => Ok(Reply::ok(json!({"txn": asked.id, "sets": tokens})).in_plain_json().into_response()),
            }
        }
    }
}

/// RFC 7519 §6: the channel secures it, and only whoever asked for the change can read it.
fn unsecured(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"alg": "none", "typ": "secevent+jwt"})), part(claims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read() {
        let wait = |seconds| Some(Preference { wait: Duration::from_secs(seconds) });
        for (header, expected) in [
            ("respond-async", wait(0)),
            ("return=minimal, Respond-Async; x=1, wait=5", wait(5)),
            ("respond-async,wait=\"7\"", wait(7)),
            ("wait=5", None),
            ("return=representation", None),
        ] {
            assert_eq!(Preference::parse(header), expected, "{header}");
        }
    }
}
