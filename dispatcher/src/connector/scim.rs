//! An app that speaks SCIM 2.0, as far as its profile says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eventlog::clock;
use http::{Method, Request, Response, header};
use scim::{Object, ResourceType};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{self, class, json_body};
use super::transport::{Http, NoAnswer, Transport};
use super::{Found, Outcome, Unanswered};
use crate::auth::Authenticator;
use crate::budget::{Flight, Purse, Wanted};
use crate::config::AppConfig;
use crate::profile::{Calls, Change, Cleared, Operation, Profile, RemovedBy, Type};
use crate::told::{Said, Told, said};

/// One app.
#[derive(Clone)]
pub(crate) struct ScimApp {
    transport: Arc<dyn Transport>,
    pub(super) base: String,
    auth: Arc<Authenticator>,
    /// What it answered in good health.
    answers: Arc<AtomicU64>,
    pub(super) profile: Arc<Profile>,
    /// What a resource type is taken for that the profile does not name.
    plain: Arc<Type>,
    pub(crate) purse: Purse,
    /// Changes of members in one request, where the app taught us that it takes fewer than its profile says.
    members_most: Arc<AtomicUsize>,
    /// Whether what is read belongs to a reduction of access, which has a budget of its own.
    reduces: bool,
    /// The call that all requests belong to, where it was begun already.
    flight: Option<Arc<Flight>>,
}

impl ScimApp {
    /// An app that is reached in this way, or else over HTTP.
    pub(crate) fn new(
        config: &AppConfig,
        purse: Purse,
        transport: Option<Arc<dyn Transport>>,
    ) -> Result<Self, String> {
        let transport = match transport {
            Some(transport) => transport,
            None => Arc::new(Http::new(Duration::from_millis(config.timeout_ms), config.auth.tls.clone())?),
        };
        let base = config.url.as_str().trim_end_matches('/').to_string();
        let profile = config.profile.clone();
        Ok(Self {
            transport,
            base,
            auth: Arc::new(Authenticator::new(&config.auth)),
            answers: Arc::default(),
            profile,
            plain: Arc::default(),
            purse,
            members_most: Arc::new(AtomicUsize::new(usize::MAX)),
            reduces: false,
            flight: None,
        })
    }

    /// How many answers say that the app can be used.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// The same app, for a reduction of access: what is read for it draws on what is kept for these.
    pub(crate) fn reducing(&self) -> Self {
        Self { reduces: true, ..self.clone() }
    }

    /// The same app, for a call that was begun before it was intended.
    pub(crate) fn begun(&self, flight: Flight) -> Self {
        Self { flight: Some(Arc::new(flight)), ..self.clone() }
    }

    /// What the app supports of a resource type.
    pub(crate) fn own(&self, kind: &ResourceType) -> &Type {
        self.profile.of(&kind.name).unwrap_or(&self.plain)
    }

    /// Changes of members in one request.
    pub(crate) fn members_per_call(&self, kind: &ResourceType) -> usize {
        self.own(kind).members_per_call.min(self.members_most.load(Ordering::Relaxed)).max(1)
    }

    /// The app said that this was too much.
    pub(crate) fn halve_members(&self, kind: &ResourceType) {
        self.members_most.store((self.members_per_call(kind) / 2).max(1), Ordering::Relaxed);
    }

    pub(crate) async fn create(&self, kind: &ResourceType, attributes: &Object) -> Outcome {
        match self.send(Method::POST, &kind.endpoint, Some(attributes.clone())).await {
            // A success without an id gives us nothing to hold on to: read it back.
            Outcome::Done { remote_id: None, status } => {
                let error = format!("{status} without an id");
                Outcome::Unavailable { after: None, error, unheard: false }
            }
            other => other,
        }
    }

    /// PUT or PATCH, as the profile says; a type with members is always patched, because a PUT would have to name them all.
    /// A PUT says everything. A PATCH says what is another than what the app was told, as far as that is known.
    pub(crate) async fn update(
        &self,
        kind: &ResourceType,
        remote_id: &str,
        attributes: &Object,
        partial: bool,
        told: Option<&Told>,
    ) -> Outcome {
        let own = self.own(kind);
        let path = path(kind, remote_id);
        let patches = partial || own.change == Change::Patch;
        let Said { values: mut body, cleared } = said(own, attributes, told.filter(|_| patches));
        let mut operations = Vec::new();
        for name in cleared {
            match own.cleared {
                Cleared::LeftOut => {}
                Cleared::Null => drop(body.insert(name, Value::Null)),
                Cleared::Empty => drop(body.insert(name, Value::String(String::new()))),
                Cleared::Removed => operations.push(json!({"op": "remove", "path": name})),
            }
        }
        if !patches {
            body.insert("id".to_string(), remote_id.into());
            return self.send(Method::PUT, &path, Some(body)).await;
        }
        body.remove("schemas");
        // Where the app need not hear of what ended, nothing may be left to say.
        let mut outcome = Outcome::Done { remote_id: None, status: 204 };
        if !body.is_empty() {
            outcome = self.patch(&path, json!([{"op": "replace", "value": body}])).await;
        }
        if operations.is_empty() || !matches!(outcome, Outcome::Done { .. }) {
            return outcome;
        }
        match self.patch(&path, operations.into()).await {
            // What is not there need not be removed.
            Outcome::NoTarget { status, .. } => Outcome::Done { remote_id: None, status },
            other => other,
        }
    }

    pub(crate) async fn deactivate(&self, kind: &ResourceType, remote_id: &str) -> Outcome {
        let path = path(kind, remote_id);
        if self.own(kind).can(Operation::Patch) {
            return self.patch(&path, json!([{"op": "replace", "path": "active", "value": false}])).await;
        }
        // Without PATCH, what is there is written back with one thing changed.
        let response = match self.reducing().request(Method::GET, &format!("{}{path}", self.base), None).await
        {
            Ok(response) => response,
            Err(unanswered) => return self.unanswered(unanswered),
        };
        let body = json_body(&response).and_then(|body| body.as_object().cloned());
        match (self.judged(&response, None), body) {
            (Outcome::Done { .. }, Some(mut body)) => {
                body.remove("meta");
                body.insert("active".to_string(), false.into());
                self.send(Method::PUT, &path, Some(body)).await
            }
            (Outcome::Done { status, .. }, None) => {
                let error = format!("{status} without a resource");
                Outcome::Unavailable { after: None, error, unheard: false }
            }
            (other, _) => other,
        }
    }

    pub(crate) async fn delete(&self, kind: &ResourceType, remote_id: &str) -> Outcome {
        match self.send(Method::DELETE, &path(kind, remote_id), None).await {
            Outcome::Missing => match self.reducing().nobody(kind).await {
                Found::NotYet(denied) => self.unanswered(Unanswered::NotYet(denied)),
                Found::Unavailable { after, error } => Outcome::Unavailable { after, error, unheard: false },
                Found::Failed { status } => Outcome::Retry { status },
                Found::One(_) | Found::None | Found::Many(_) | Found::Unsearchable => Outcome::Missing,
            },
            other => other,
        }
    }

    /// Takes members out and puts others in. Whoever should go and is not in is gone.
    pub(crate) async fn change_members(
        &self,
        kind: &ResourceType,
        remote_id: &str,
        added: &[String],
        removed: &[String],
    ) -> Outcome {
        let path = path(kind, remote_id);
        let by = self.own(kind).members_removed_by;
        let mut operations = removal(by, removed);
        operations.extend(addition(added));
        let outcome = self.patch(&path, operations.into()).await;
        let Outcome::NoTarget { status, .. } = outcome else { return outcome };
        // One of them is not in, and so nobody was taken out: one by one, then.
        for id in removed.iter().filter(|_| removed.len() > 1 || !added.is_empty()) {
            match self.patch(&path, removal(by, std::slice::from_ref(id)).into()).await {
                Outcome::Done { .. } | Outcome::NoTarget { .. } => {}
                other => return other,
            }
        }
        if added.is_empty() {
            return Outcome::Done { remote_id: None, status };
        }
        self.patch(&path, addition(added).into_iter().collect()).await
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
        self.patch(&path(kind, remote_id), operations).await
    }

    /// PATCH. What cannot be replaced because it is not there is added.
    async fn patch(&self, path: &str, operations: Value) -> Outcome {
        let body = |operations: &Value| {
            let schemas = json!(["urn:ietf:params:scim:api:messages:2.0:PatchOp"]);
            Object::from_iter([
                ("schemas".to_string(), schemas),
                ("Operations".to_string(), operations.clone()),
            ])
        };
        let outcome = self.send(Method::PATCH, path, Some(body(&operations))).await;
        let replaces = operations.as_array().is_some_and(|all| all.iter().all(|one| one["op"] == "replace"));
        if !matches!(outcome, Outcome::NoTarget { .. }) || !replaces {
            return outcome;
        }
        let mut operations = operations;
        for operation in operations.as_array_mut().into_iter().flatten() {
            operation["op"] = "add".into();
        }
        self.send(Method::PATCH, path, Some(body(&operations))).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Object>) -> Outcome {
        let sent = body.clone().map(Value::Object);
        match self.request(method, &format!("{}{path}", self.base), sent).await {
            Ok(response) => self.judged(&response, body.as_ref()),
            Err(unanswered) => self.unanswered(unanswered),
        }
    }

    fn unanswered(&self, unanswered: Unanswered) -> Outcome {
        match unanswered {
            Unanswered::NotYet(denied) => {
                let error = unanswered.to_string();
                Outcome::Unavailable { after: Some(denied.after), error, unheard: false }
            }
            Unanswered::Lost(lost) => {
                let unheard = matches!(lost, NoAnswer::Timeout | NoAnswer::Broken);
                Outcome::Unavailable { after: None, error: lost.to_string(), unheard }
            }
        }
    }

    /// One request. What is read needs a place in the budget, and among the calls that are under way; what is written had to
    /// have both before it was intended.
    pub(super) async fn request(
        &self,
        method: Method,
        url: &str,
        body: Option<Value>,
    ) -> Result<Response<Bytes>, Unanswered> {
        let begun = match self.flight {
            Some(_) => None,
            None => Some(self.purse.begin(self.reduces).map_err(Unanswered::NotYet)?),
        };
        if method == Method::GET {
            let kind = self.kind_of(url);
            let wanted = Wanted { calls: Calls::Reads, kind, reduces: self.reduces, members: None };
            self.purse.take(&wanted, Instant::now()).map_err(Unanswered::NotYet)?;
        }
        let mut request =
            Request::builder().method(method).uri(url).header(header::ACCEPT, "application/scim+json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/scim+json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(body).map_err(|_| super::NoAnswer::Unreachable)?;
        let response = self.auth.send(&*self.transport, request).await?;
        drop(begun);
        if answer::is_throttle(&self.profile.answers, &response) {
            self.purse.slow_down(Instant::now());
        } else if !matches!(response.status().as_u16(), 401 | 429 | 502..=504) {
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
        Ok(response)
    }

    /// The resource type whose endpoint is asked, as budgets name it.
    fn kind_of(&self, url: &str) -> &str {
        let path = url.strip_prefix(self.base.as_str()).unwrap_or_default();
        match path.split(['/', '?']).nth(1).unwrap_or_default() {
            "Users" => "User",
            "Groups" => "Group",
            _ => "",
        }
    }

    /// The class of an answer.
    pub(super) fn judged(&self, response: &Response<Bytes>, sent: Option<&Object>) -> Outcome {
        match class(&self.profile.answers, response, sent, clock::now()) {
            Outcome::Done { remote_id: Some(id), status } => {
                Outcome::Done { remote_id: Some(self.profile.id_case.of(&id)), status }
            }
            other => other,
        }
    }
}

/// Where an account is. An app may give ids that are no step of a path as they stand (RFC 3986 §3.3).
pub(super) fn path(kind: &ResourceType, remote_id: &str) -> String {
    let mut path = format!("{}/", kind.endpoint);
    for byte in remote_id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => path.push(byte.into()),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' => path.push(byte.into()),
            b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn removal(by: RemovedBy, ids: &[String]) -> Vec<Value> {
    match by {
        RemovedBy::Selector => {
            let path = |id: &String| format!("members[value eq {}]", Value::String(id.clone()));
            ids.iter().map(|id| json!({"op": "remove", "path": path(id)})).collect()
        }
        RemovedBy::Value if ids.is_empty() => Vec::new(),
        RemovedBy::Value => {
            let values: Vec<Value> = ids.iter().map(|id| json!({"value": id})).collect();
            vec![json!({"op": "remove", "path": "members", "value": values})]
        }
    }
}

fn addition(ids: &[String]) -> Option<Value> {
    let values: Vec<Value> = ids.iter().map(|id| json!({"value": id})).collect();
    (!values.is_empty()).then(|| json!({"op": "add", "path": "members", "value": values}))
}
