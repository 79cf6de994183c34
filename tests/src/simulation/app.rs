//! A strict SCIM app in memory: names are unique, members must exist, and a seed decides when it answers late, wrongly or
//! not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dispatcher::{NoAnswer, Transport};
use eventlog::memory::{Chance, Line};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};

/// How long its callers wait.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take, at most, to do what nobody waits for any more.
const LATE: Duration = Duration::from_secs(14);

/// One account or group.
pub type Account = Map<String, Value>;

/// The app. Clones are the same app.
#[derive(Clone)]
pub struct App {
    chance: Arc<Chance>,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    accounts: BTreeMap<String, BTreeMap<String, Account>>,
    next: u64,
    calm: bool,
    /// Every call and its status.
    calls: Vec<String>,
}

/// How one process reaches the app.
pub struct Wire {
    /// The app.
    pub app: App,
    /// Dead with the process.
    pub line: Arc<Line>,
}

#[async_trait::async_trait]
impl Transport for Wire {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        self.line.alive().await;
        // It goes on when whoever called is dead.
        let app = self.app.clone();
        let asked = tokio::spawn(async move { app.ask(&request).await });
        let answer = asked.await.map_err(|_| NoAnswer::Broken)?;
        self.line.alive().await;
        answer
    }
}

impl App {
    /// An app without accounts.
    pub fn new(seed: u64) -> Self {
        Self { chance: Arc::new(Chance::new(seed)), held: Arc::default() }
    }

    /// From now on it answers everything at once.
    pub fn calm(&self) {
        self.held.lock().expect("no panic").calm = true;
    }

    /// What it holds, by endpoint and id.
    pub fn accounts(&self) -> BTreeMap<String, BTreeMap<String, Account>> {
        self.held.lock().expect("no panic").accounts.clone()
    }

    /// Every call and its status.
    pub fn calls(&self) -> Vec<String> {
        self.held.lock().expect("no panic").calls.clone()
    }

    async fn ask(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        let calm = self.held.lock().expect("no panic").calm;
        if calm {
            return Ok(self.answer(request));
        }
        tokio::time::sleep(self.chance.up_to(Duration::from_millis(60))).await;
        let answer = match self.chance.below(100) {
            0..2 => Err(NoAnswer::Unreachable),
            2..3 => {
                tokio::time::sleep(TIMEOUT).await;
                Err(NoAnswer::Timeout)
            }
            3..4 => {
                let (app, request) = (self.clone(), request.clone());
                let late = self.chance.up_to(LATE);
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    app.answer(&request);
                });
                tokio::time::sleep(TIMEOUT).await;
                Err(NoAnswer::Timeout)
            }
            4..8 => {
                self.answer(request);
                tokio::time::sleep(TIMEOUT).await;
                Err(NoAnswer::Timeout)
            }
            8..10 => {
                let mut busy = reply(StatusCode::TOO_MANY_REQUESTS, &Value::Null);
                busy.headers_mut().insert("retry-after", "2".parse().expect("a number"));
                Ok(busy)
            }
            10..12 => Ok(reply(StatusCode::INTERNAL_SERVER_ERROR, &Value::Null)),
            12..13 => Ok(reply(StatusCode::SERVICE_UNAVAILABLE, &Value::Null)),
            _ => Ok(self.answer(request)),
        };
        tokio::time::sleep(self.chance.up_to(Duration::from_millis(60))).await;
        answer
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let mut held = self.held.lock().expect("no panic");
        let (status, body) = held.answer(request);
        let call = format!("{} {} {}", request.method(), request.uri(), status.as_u16());
        let text = String::from_utf8_lossy(request.body());
        held.calls.push(format!("{call} {text}"));
        reply(status, &body)
    }
}

fn reply(status: StatusCode, body: &Value) -> Response<Bytes> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn refused(keyword: &str) -> (StatusCode, Value) {
    (StatusCode::BAD_REQUEST, json!({"scimType": keyword, "status": "400"}))
}

impl Held {
    fn answer(&mut self, request: &Request<Bytes>) -> (StatusCode, Value) {
        let path = request.uri().path().trim_start_matches("/scim/").to_string();
        let (endpoint, id) =
            path.split_once('/').map_or((path.as_str(), ""), |(endpoint, id)| (endpoint, id));
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let there = self.accounts.get(endpoint).is_some_and(|accounts| accounts.contains_key(id));
        match *request.method() {
            Method::GET if there => (StatusCode::OK, json!(self.of(endpoint)[id])),
            Method::GET if !id.is_empty() => (StatusCode::NOT_FOUND, Value::Null),
            Method::GET => self.search(endpoint, request.uri().query().unwrap_or_default()),
            Method::POST => self.create(endpoint, body),
            _ if !there => (StatusCode::NOT_FOUND, Value::Null),
            Method::PUT => self.put(endpoint, id, body),
            Method::PATCH => self.patch(endpoint, id, &body),
            Method::DELETE => {
                self.of(endpoint).remove(id);
                for group in self.of("Groups").values_mut() {
                    members(group).retain(|member| member["value"] != id);
                }
                (StatusCode::NO_CONTENT, Value::Null)
            }
            _ => (StatusCode::METHOD_NOT_ALLOWED, Value::Null),
        }
    }

    fn of(&mut self, endpoint: &str) -> &mut BTreeMap<String, Account> {
        self.accounts.entry(endpoint.to_string()).or_default()
    }

    fn taken(&mut self, endpoint: &str, id: &str, body: &Value) -> bool {
        let name = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_lowercase);
        let wanted = name(body.get("userName"));
        let mut others = self.of(endpoint).iter().filter(|(other, _)| *other != id);
        wanted.is_some() && others.any(|(_, account)| name(account.get("userName")) == wanted)
    }

    fn create(&mut self, endpoint: &str, body: Value) -> (StatusCode, Value) {
        let required = if endpoint == "Users" { "userName" } else { "displayName" };
        if body.get(required).and_then(Value::as_str).is_none() {
            return refused("invalidValue");
        }
        if self.taken(endpoint, "", &body) {
            return (StatusCode::CONFLICT, json!({"scimType": "uniqueness"}));
        }
        self.next += 1;
        let id = format!("r{}", self.next);
        let mut account = body.as_object().cloned().unwrap_or_default();
        account.insert("id".to_string(), id.clone().into());
        self.of(endpoint).insert(id, account.clone());
        (StatusCode::CREATED, account.into())
    }

    fn put(&mut self, endpoint: &str, id: &str, body: Value) -> (StatusCode, Value) {
        if self.taken(endpoint, id, &body) {
            return (StatusCode::CONFLICT, json!({"scimType": "uniqueness"}));
        }
        let mut account = body.as_object().cloned().unwrap_or_default();
        account.insert("id".to_string(), id.into());
        self.of(endpoint).insert(id.to_string(), account.clone());
        (StatusCode::OK, account.into())
    }

    fn patch(&mut self, endpoint: &str, id: &str, body: &Value) -> (StatusCode, Value) {
        let known: Vec<String> = self.accounts.values().flat_map(BTreeMap::keys).cloned().collect();
        let mut account = self.of(endpoint)[id].clone();
        for operation in body["Operations"].as_array().into_iter().flatten() {
            let (path, value) = (operation["path"].as_str(), &operation["value"]);
            let named: Vec<Value> = value.as_array().cloned().unwrap_or_default();
            let strangers = named.iter().any(|member| !known.iter().any(|id| member["value"] == id.as_str()));
            match (operation["op"].as_str(), path) {
                (Some("replace"), None) => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        account.insert(name.clone(), value.clone());
                    }
                }
                (Some("replace"), Some("active")) => {
                    drop(account.insert("active".to_string(), value.clone()))
                }
                (Some("add" | "replace"), Some("members")) if strangers => return refused("invalidValue"),
                (Some("replace"), Some("members")) => *members(&mut account) = named,
                (Some("add"), Some("members")) => {
                    for member in named {
                        let there = members(&mut account);
                        if !there.contains(&member) {
                            there.push(member);
                        }
                    }
                }
                (Some("remove"), Some(path)) => {
                    let Some(id) =
                        path.strip_prefix("members[value eq \"").and_then(|rest| rest.strip_suffix("\"]"))
                    else {
                        return refused("invalidPath");
                    };
                    members(&mut account).retain(|member| member["value"] != id);
                }
                _ => return refused("invalidSyntax"),
            }
        }
        self.of(endpoint).insert(id.to_string(), account.clone());
        (StatusCode::OK, account.into())
    }

    fn search(&mut self, endpoint: &str, query: &str) -> (StatusCode, Value) {
        let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
        if let Some(from) = query.get("startIndex").and_then(|from| from.parse::<usize>().ok()) {
            let accounts = self.of(endpoint);
            // It never shows more than three at once.
            let page: Vec<Value> =
                accounts.values().skip(from - 1).take(3).map(|account| json!(account)).collect();
            return (StatusCode::OK, json!({"totalResults": accounts.len(), "Resources": page}));
        }
        let Some(filter) = query.get("filter") else { return refused("invalidFilter") };
        let Some((attribute, value)) = filter.split_once(" eq ") else { return refused("invalidFilter") };
        let wanted: Value = serde_json::from_str(value).unwrap_or_default();
        let lower = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
        let same = |account: &&Account| match account.get(attribute) {
            Some(found) if attribute == "userName" => lower(found) == lower(&wanted),
            Some(found) => *found == wanted,
            None => false,
        };
        let found: Vec<Value> =
            self.of(endpoint).values().filter(same).map(|account| Value::Object(account.clone())).collect();
        (StatusCode::OK, json!({"totalResults": found.len(), "Resources": found}))
    }
}

fn members(group: &mut Account) -> &mut Vec<Value> {
    let members = group.entry("members").or_insert_with(|| json!([]));
    if !members.is_array() {
        *members = json!([]);
    }
    members.as_array_mut().expect("an array")
}
