//! What is asked and what is answered.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri, header};
use http_body_util::Full;
use serde_json::{Value, json};

use super::check::{Refusal, check};
use super::held::{Account, take_members};
use super::rules::Type;
use super::{Call, Document, State, patch};

/// A request.
pub(crate) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Asked {
    /// Whether it says this: in its method and path, its query or its body.
    fn says(&self, path: &str, text: &str) -> bool {
        let query = self.uri.query().unwrap_or_default();
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {path}?{query} {body}", self.method).contains(text)
    }
}

/// What comes of it.
pub(crate) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<Value>,
}

impl Answer {
    fn new(status: u16, body: Option<Value>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = self.body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut response = Response::builder().status(self.status);
        if !body.is_empty() {
            response = response.header(header::CONTENT_TYPE, "application/scim+json");
        }
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(Full::new(body)).expect("headers are ours")
    }
}

impl State {
    /// The answer, or none when the connection shall break.
    pub(super) fn ask(&mut self, asked: &Asked) -> Option<Answer> {
        let path = asked.uri.path().strip_prefix(self.rules.base).map(str::to_string);
        let answer = self.judge(asked, path.as_deref());
        self.counted += 1;
        if self.remembers {
            let query = asked.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            self.calls.push(Call {
                method: asked.method.to_string(),
                path: format!("{}{query}", path.as_deref().unwrap_or(asked.uri.path())),
                body: String::from_utf8_lossy(&asked.body).into_owned(),
                status: answer.status,
            });
        }
        if asked.method != Method::GET && self.sick.without_answer > 0 {
            self.sick.without_answer -= 1;
            return None;
        }
        Some(answer)
    }

    fn judge(&mut self, asked: &Asked, path: Option<&str>) -> Answer {
        if let Some((status, headers)) = self.sick.answer.clone() {
            return Answer { headers, ..Answer::new(status, None) };
        }
        if let Some((count, status)) = self.sick.next.take() {
            self.sick.next = (count > 1).then_some((count - 1, status));
            return Answer::new(status, None);
        }
        let bearer = format!("Bearer {}", self.token);
        let known = asked.headers.get(header::AUTHORIZATION).is_some_and(|value| value == bearer.as_str());
        // AWS, and not AWS alone: another tenant's path is as strange as another's token.
        let Some(path) = path.filter(|_| known) else { return Refusal::of(401, "who are you?").into() };
        if self.rules.user_agent && !asked.headers.contains_key(header::USER_AGENT) {
            return Refusal::of(403, "User-Agent is missing").into();
        }
        if let Err(wait) = self.limits.take(asked, path) {
            let mut answer = Answer::from(Refusal::of(self.rules.throttled, "too many calls"));
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            answer.headers.push(("retry-after".to_string(), seconds.max(1).to_string()));
            return answer;
        }
        if let Some(status) = self.sick.reads.filter(|_| asked.method == Method::GET) {
            return Answer::new(status, None);
        }
        if let Some((method, begin)) = &self.sick.unknown
            && asked.method == method.as_str()
            && path.starts_with(begin.as_str())
        {
            return Answer::new(404, None);
        }
        if let Some((text, status)) = &self.sick.refused
            && asked.says(path, text)
        {
            return Answer::new(*status, None);
        }
        if asked.method != Method::GET && self.sick.pretended > 0 {
            self.sick.pretended -= 1;
            return Answer::new(204, None);
        }
        self.done(asked, path).unwrap_or_else(Answer::from)
    }

    fn done(&mut self, asked: &Asked, path: &str) -> Result<Answer, Refusal> {
        let (endpoint, id) = split(path);
        if self.type_of(endpoint).is_none() {
            return Err(Refusal::of(404, "there is no such endpoint"));
        }
        match (&asked.method, id) {
            (&Method::GET, None) => self.search(endpoint, asked.uri.query().unwrap_or_default()),
            (&Method::POST, None) => self.create(endpoint, body(asked)?),
            (_, None) => Err(Refusal::of(405, "not here")),
            (_, Some(id)) if !self.shelf(endpoint).accounts.contains_key(id) => {
                Err(Refusal::of(404, "there is no such resource"))
            }
            (&Method::GET, Some(id)) => Ok(self.read(endpoint, id, asked.uri.query().unwrap_or_default())),
            (method, Some(id)) => {
                self.expects(endpoint, id, asked)?;
                match *method {
                    Method::PUT => self.put(endpoint, id, body(asked)?),
                    Method::PATCH => self.patch(endpoint, id, &body(asked)?),
                    Method::DELETE if endpoint == "/Users" && !self.rules.deletes => {
                        Err(Refusal::of(405, "DELETE is not supported"))
                    }
                    Method::DELETE => Ok(self.delete(endpoint, id)),
                    _ => Err(Refusal::of(405, "not here")),
                }
            }
        }
    }

    fn expects(&self, endpoint: &str, id: &str, asked: &Asked) -> Result<(), Refusal> {
        let Some(wanted) = asked.headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()) else {
            return Ok(());
        };
        let version = self.shelf(endpoint).accounts.get(id).map(Account::version_tag);
        if wanted == "*" || version.as_deref() == Some(wanted) {
            Ok(())
        } else {
            Err(Refusal::of(412, "changed"))
        }
    }

    fn kind(&self, endpoint: &str) -> Result<&Type, Refusal> {
        self.type_of(endpoint).ok_or_else(|| Refusal::of(404, "there is no such endpoint"))
    }

    fn create(&mut self, endpoint: &str, mut body: Document) -> Result<Answer, Refusal> {
        if body.contains_key("id") || body.contains_key("meta") {
            return Err(Refusal::new("mutability", "id and meta are ours"));
        }
        check(&self.rules, self.kind(endpoint)?, endpoint, &body)?;
        let members = take_members(&mut body);
        self.members_exist(&members)?;
        self.fits(members.len())?;
        let id =
            self.held.insert(endpoint, tidy(body), members).map_err(|_| Refusal::taken(self.rules.taken))?;
        let mut answer = Answer::new(201, Some(self.shown(endpoint, &id, "").into()));
        answer.headers.push(("location".to_string(), format!("{}{endpoint}/{id}", self.rules.base)));
        Ok(answer)
    }

    fn put(&mut self, endpoint: &str, id: &str, mut body: Document) -> Result<Answer, Refusal> {
        if !self.kind(endpoint)?.put {
            return Err(Refusal::of(405, "PUT is not supported"));
        }
        if body.get("id").is_some_and(|own| own != id) {
            return Err(Refusal::new("mutability", "id cannot change"));
        }
        let members = take_members(&mut body);
        self.keep(endpoint, id, body, members)
    }

    fn patch(&mut self, endpoint: &str, id: &str, body: &Document) -> Result<Answer, Refusal> {
        let account = self.shelf(endpoint).accounts.get(id).cloned().unwrap_or_default();
        let changed = patch::patch(&self.rules, self.kind(endpoint)?, account, body)?;
        self.keep(endpoint, id, changed.document, changed.members)
    }

    /// The changed resource, if it is one.
    fn keep(
        &mut self,
        endpoint: &str,
        id: &str,
        document: Document,
        members: BTreeSet<String>,
    ) -> Result<Answer, Refusal> {
        let off = document.get("active") == Some(&Value::Bool(false));
        if endpoint == "/Users" && off && self.rules.off_is_gone {
            let mut shown = document;
            shown.insert("id".to_string(), id.into());
            self.held.remove(endpoint, id);
            return Ok(Answer::new(200, Some(shown.into())));
        }
        check(&self.rules, self.kind(endpoint)?, endpoint, &document)?;
        let mut document = document;
        if let Some(attribute) = &self.sick.forgotten {
            document.remove(attribute);
        }
        let old =
            self.shelf(endpoint).accounts.get(id).map(|account| account.members.clone()).unwrap_or_default();
        let joined: BTreeSet<String> = members.difference(&old).cloned().collect();
        self.members_exist(&joined)?;
        let version = self.shelf(endpoint).accounts.get(id).map(Account::version_tag);
        self.held
            .replace(endpoint, id, tidy(document), members)
            .map_err(|_| Refusal::taken(self.rules.taken))?;
        debug_assert_ne!(version, None);
        Ok(Answer::new(200, Some(self.shown(endpoint, id, "").into())))
    }

    fn delete(&mut self, endpoint: &str, id: &str) -> Answer {
        if endpoint == "/Users" && self.rules.delete_is_off {
            let account = self.shelf(endpoint).accounts.get(id).cloned().unwrap_or_default();
            let mut document = account.document;
            document.insert("active".to_string(), false.into());
            let _ = self.held.replace(endpoint, id, document, account.members);
        } else {
            self.held.remove(endpoint, id);
        }
        Answer::new(204, None)
    }

    fn members_exist(&self, members: &BTreeSet<String>) -> Result<(), Refusal> {
        let known = |id: &&String| {
            let user = self.held.users.accounts.contains_key(*id);
            user || (self.rules.members.nested && self.held.knows(id))
        };
        match members.iter().find(|id| !known(id)) {
            None => Ok(()),
            Some(id) => Err(Refusal::new("invalidValue", format!("members: there is no {id}"))),
        }
    }

    fn fits(&self, members: usize) -> Result<(), Refusal> {
        let most = self.rules.members.most;
        if members > most {
            return Err(Refusal::new(
                "invalidValue",
                format!("members: {members} in one request, {most} at most"),
            ));
        }
        Ok(())
    }

    fn read(&self, endpoint: &str, id: &str, query: &str) -> Answer {
        Answer::new(200, Some(self.shown(endpoint, id, query).into()))
    }

    fn shown(&self, endpoint: &str, id: &str, query: &str) -> Document {
        let Some(account) = self.shelf(endpoint).accounts.get(id) else { return Document::new() };
        let mut without = parameter(query, "excludedAttributes").unwrap_or_default();
        if !self.rules.members.shown {
            without.push_str(",members");
        }
        let excluded: BTreeSet<&str> = without.split(',').map(str::trim).collect();
        let mut shown = if excluded.contains("members") { account.shown(id) } else { account.whole(id) };
        shown.remove("password");
        shown.retain(|name, _| !excluded.contains(name.as_str()));
        if let Some(only) = parameter(query, "attributes") {
            let wanted: BTreeSet<&str> = only.split(',').map(str::trim).chain(["id", "schemas"]).collect();
            shown.retain(|name, _| wanted.contains(name.as_str()));
        }
        shown
    }

    fn search(&self, endpoint: &str, query: &str) -> Result<Answer, Refusal> {
        let number = |name: &str| parameter(query, name).map(|text| text.parse::<usize>().unwrap_or(1));
        let start = number("startIndex").unwrap_or(1).max(1);
        let count = number("count").unwrap_or(self.rules.page_max).min(self.rules.page_max);
        let shelf = self.shelf(endpoint);
        let found: Vec<&String> = match parameter(query, "filter") {
            None => shelf.accounts.keys().collect(),
            Some(filter) => self.matching(endpoint, &filter)?,
        };
        let shown = self.sick.listed.unwrap_or(found.len());
        let page = found.iter().take(shown).skip(start - 1).take(count);
        let resources: Vec<Value> = page.map(|id| Value::Object(self.shown(endpoint, id, query))).collect();
        Ok(Answer::new(
            200,
            Some(json!({
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
                "totalResults": found.len(),
                "startIndex": start,
                "itemsPerPage": resources.len(),
                "Resources": resources,
            })),
        ))
    }

    fn matching(&self, endpoint: &str, filter: &str) -> Result<Vec<&String>, Refusal> {
        let refused = |why: &str| Refusal::new("invalidFilter", why.to_string());
        let kind = self.kind(endpoint)?;
        let mut terms = Vec::new();
        for term in filter.split(" and ") {
            let (name, value) = term.split_once(" eq ").ok_or_else(|| refused("only eq"))?;
            let value: Value = serde_json::from_str(value).map_err(|_| refused("the value is no JSON"))?;
            if !kind.filters.contains(&name) {
                return Err(refused("this attribute cannot be searched"));
            }
            terms.push((name, value));
        }
        if terms.len() > 1 && !self.rules.and {
            return Err(refused("one comparison only"));
        }
        let shelf = self.shelf(endpoint);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let unique = if endpoint == "/Users" { "userName" } else { "displayName" };
        let by = |name: &str| terms.iter().find(|(own, _)| *own == name).map(|(_, value)| text(value));
        // What is found by an index is few; the other terms are looked at one by one.
        let few: Vec<&String> = match (by("id"), by(unique), by("externalId")) {
            (Some(id), _, _) => shelf.accounts.get_key_value(&id).map(|(id, _)| id).into_iter().collect(),
            (_, Some(name), _) => shelf
                .named(&name)
                .and_then(|id| shelf.accounts.get_key_value(id))
                .map(|(id, _)| id)
                .into_iter()
                .collect(),
            (_, _, Some(external)) => shelf.external(&external).collect(),
            (None, None, None) => shelf.accounts.keys().collect(),
        };
        let all = |id: &&String| terms.iter().all(|(name, value)| self.is(endpoint, id, unique, name, value));
        Ok(few.into_iter().filter(all).collect())
    }

    fn is(&self, endpoint: &str, id: &str, unique: &str, name: &str, value: &Value) -> bool {
        let Some(account) = self.shelf(endpoint).accounts.get(id) else { return false };
        let text = value.as_str().unwrap_or_default();
        match name {
            "id" => id == text,
            "members" | "members.value" => account.members.contains(text),
            name if name == unique => {
                account.document.get(name).and_then(Value::as_str).map(str::to_lowercase)
                    == Some(text.to_lowercase())
            }
            name => account.document.get(name) == Some(value),
        }
    }
}

/// `/Users/u1` is the endpoint and an id. Paths are compared with their case.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.get(1..).and_then(|rest| rest.find('/')) {
        None => (path, None),
        Some(place) => {
            let (endpoint, id) = path.split_at(place + 1);
            (endpoint, Some(id.trim_start_matches('/')))
        }
    }
}

fn body(asked: &Asked) -> Result<Document, Refusal> {
    let kind =
        asked.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/scim+json") && !kind.starts_with("application/json") {
        return Err(Refusal::of(415, "Content-Type is not application/scim+json"));
    }
    serde_json::from_slice(&asked.body).map_err(|_| Refusal::new("invalidSyntax", "no JSON object"))
}

/// RFC 7643 §2.5: null and an empty list are as if the attribute were not there.
fn tidy(mut document: Document) -> Document {
    document.retain(|_, value| !value.is_null() && *value != json!([]));
    document
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}
