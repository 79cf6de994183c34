//! An app that speaks SCIM 2.0.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use scim::{Object, ResourceType};
use serde_json::{Value, json};
use url::Url;

use super::transport::{Http, NoAnswer, Transport};
use super::{Found, Outcome};
use crate::config::AppConfig;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Members in one PATCH; every provider of the table takes this many.
pub(crate) const MEMBERS_MAX: usize = 100;

/// One app.
#[derive(Clone)]
pub(crate) struct ScimApp {
    transport: Arc<dyn Transport>,
    base: String,
    token: crate::Secret,
}

impl ScimApp {
    /// An app that is reached in this way, or else over HTTP.
    pub(crate) fn new(
        config: &AppConfig,
        transport: Option<Arc<dyn Transport>>,
    ) -> Result<Self, reqwest::Error> {
        let transport = match transport {
            Some(transport) => transport,
            None => Arc::new(Http::new(Duration::from_millis(config.timeout_ms))?),
        };
        let base = config.url.as_str().trim_end_matches('/').to_string();
        Ok(Self { transport, base, token: config.token.clone() })
    }

    pub(crate) async fn create(&self, kind: &ResourceType, attributes: &Object) -> Outcome {
        let answer = self.send(Method::POST, &kind.endpoint, Some(json!(attributes))).await;
        match self.judged(answer) {
            // A success without an id gives us nothing to hold on to: read it back.
            Outcome::Done { remote_id: None, status } => {
                Outcome::Unavailable { after: None, error: format!("{status} without an id") }
            }
            other => other,
        }
    }

    /// PUT for a person; PATCH for a type with members, because a PUT would have to name them all.
    pub(crate) async fn update(
        &self,
        kind: &ResourceType,
        remote_id: &str,
        attributes: &Object,
        has_members: bool,
    ) -> Outcome {
        let path = format!("{}/{remote_id}", kind.endpoint);
        if has_members {
            let value: Object = attributes
                .iter()
                .filter(|(name, _)| *name != "schemas")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let operations = json!([{"op": "replace", "value": value}]);
            return self.judged(self.send(Method::PATCH, &path, Some(patch(operations))).await);
        }
        let mut body = attributes.clone();
        body.insert("id".to_string(), remote_id.into());
        self.judged(self.send(Method::PUT, &path, Some(json!(body))).await)
    }

    pub(crate) async fn deactivate(&self, kind: &ResourceType, remote_id: &str) -> Outcome {
        let operations = json!([{"op": "replace", "path": "active", "value": false}]);
        let path = format!("{}/{remote_id}", kind.endpoint);
        self.judged(self.send(Method::PATCH, &path, Some(patch(operations))).await)
    }

    pub(crate) async fn delete(&self, kind: &ResourceType, remote_id: &str) -> Outcome {
        self.judged(self.send(Method::DELETE, &format!("{}/{remote_id}", kind.endpoint), None).await)
    }

    pub(crate) async fn change_members(
        &self,
        kind: &ResourceType,
        remote_id: &str,
        added: &[String],
        removed: &[String],
    ) -> Outcome {
        let mut operations: Vec<Value> = removed
            .iter()
            .map(|id| json!({"op": "remove", "path": format!("members[value eq {}]", Value::String(id.clone()))}))
            .collect();
        if !added.is_empty() {
            let values: Vec<Value> = added.iter().map(|id| json!({"value": id})).collect();
            operations.push(json!({"op": "add", "path": "members", "value": values}));
        }
        let path = format!("{}/{remote_id}", kind.endpoint);
        self.judged(self.send(Method::PATCH, &path, Some(patch(operations.into()))).await)
    }

    /// Sets the whole membership.
    pub(crate) async fn replace_members(
        &self,
        kind: &ResourceType,
        remote_id: &str,
        ids: &[String],
    ) -> Outcome {
        let values: Vec<Value> = ids.iter().map(|id| json!({"value": id})).collect();
        let operations = json!([{"op": "replace", "path": "members", "value": values}]);
        let path = format!("{}/{remote_id}", kind.endpoint);
        self.judged(self.send(Method::PATCH, &path, Some(patch(operations))).await)
    }

    /// The account whose attribute has this value, unless its id and its `externalId` say that it is another's.
    pub(crate) async fn find(
        &self,
        kind: &ResourceType,
        attribute: &str,
        value: &str,
        is_others: impl Fn(&str, &str) -> bool,
    ) -> Found {
        let filter = format!("{attribute} eq {}", Value::String(value.to_string()));
        let mut url = match Url::parse(&format!("{}{}", self.base, kind.endpoint)) {
            Ok(url) => url,
            Err(error) => return Found::Unavailable { after: None, error: error.to_string() },
        };
        url.query_pairs_mut().append_pair("filter", &filter).append_pair("count", "2");
        let response = match self.request(Method::GET, url.as_str(), None).await {
            Ok(response) => response,
            Err(error) => return Found::Unavailable { after: None, error: error.to_string() },
        };
        let after = retry_after(&response);
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Found::None;
        }
        if !status.is_success() {
            return Found::Unavailable { after, error: format!("search answered {status}") };
        }
        let Some(body) = json_body(&response) else {
            return Found::Unavailable { after, error: "search answered no JSON".to_string() };
        };
        let listed = body.get("Resources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        match listed {
            [] => Found::None,
            [only] => match only.get("id").and_then(Value::as_str) {
                Some(id)
                    if is_others(id, only.get("externalId").and_then(Value::as_str).unwrap_or_default()) =>
                {
                    Found::None
                }
                Some(id) => Found::One(id.to_string()),
                None => Found::Unavailable {
                    after,
                    error: "search answered a resource without an id".to_string(),
                },
            },
            [_, _, ..] => Found::Many,
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Response<Bytes>, NoAnswer> {
        self.request(method, &format!("{}{path}", self.base), body).await
    }

    async fn request(
        &self,
        method: Method,
        url: &str,
        body: Option<Value>,
    ) -> Result<Response<Bytes>, NoAnswer> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(header::ACCEPT, "application/scim+json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/scim+json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(body).map_err(|_| NoAnswer::Unreachable)?;
        self.transport.send(request).await
    }

    /// The class of an answer.
    fn judged(&self, answer: Result<Response<Bytes>, NoAnswer>) -> Outcome {
        let response = match answer {
            Ok(response) => response,
            Err(error) => return Outcome::Unavailable { after: None, error: error.to_string() },
        };
        let after = retry_after(&response);
        let status = response.status().as_u16();
        match status {
            200..=299 => {
                let body = json_body(&response);
                let remote_id =
                    body.as_ref().and_then(|body| body.get("id")).and_then(Value::as_str).map(str::to_string);
                Outcome::Done { remote_id, status }
            }
            401 | 429 => Outcome::PutOff { status, after },
            404 => Outcome::Missing,
            409 => Outcome::Taken,
            412 => Outcome::Retry { status },
            502..=504 => Outcome::Unavailable { after, error: format!("the app answers {status}") },
            500..=599 => Outcome::Retry { status },
            _ => {
                let body = json_body(&response);
                let keyword =
                    body.as_ref().and_then(|body| body.get("scimType")).and_then(Value::as_str).unwrap_or("");
                // The keyword only: an app's own sentence can name a person.
                let keyword: String = keyword.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
                Outcome::Refused { status, error: format!("{status} {keyword}").trim().to_string() }
            }
        }
    }
}

fn patch(operations: Value) -> Value {
    json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations})
}

/// Seconds only; a date is rare and a guess of ours is as good.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn json_body(response: &Response<Bytes>) -> Option<Value> {
    let bytes = response.body();
    if bytes.len() > ANSWER_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}
