//! An app behind a door: it keeps accounts, and lets in only who shows what it wants. Beside it a token endpoint that gives
//! tokens to who proves itself, and takes back what it gave.

mod papers;
mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

pub use papers::Papers;
pub use proof::{CLIENT_ID, Proof};

/// What the app wants to be shown.
#[derive(Clone, Debug)]
pub enum Wants {
    /// This `Authorization`.
    Header(String),
    /// A token of the endpoint that was not taken back.
    Token,
    /// Nothing beside the connection's certificate.
    Nothing,
}

#[derive(Default)]
struct Inside {
    wants: Option<Wants>,
    proof: Option<Proof>,
    /// What the endpoint answers instead, when it is sick.
    sick: Option<u16>,
    tokens: BTreeSet<String>,
    given: usize,
    refused_at_the_door: usize,
    refused_tokens: usize,
    used: BTreeSet<String>,
    accounts: BTreeMap<String, Value>,
}

/// A running app behind a door. Ends with the process.
#[derive(Clone)]
pub struct Door {
    address: SocketAddr,
    secure: bool,
    inside: Arc<Mutex<Inside>>,
}

impl Door {
    /// Starts it; over TLS with these papers, of which it also demands one.
    pub fn start(wants: Wants, proof: Option<Proof>, papers: Option<&Papers>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("an address");
        let inside = Arc::new(Mutex::new(Inside { wants: Some(wants), proof, ..Inside::default() }));
        let door = Self { address, secure: papers.is_some(), inside };
        let router = door.router();
        let tls = papers.map(Papers::server);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let service = router.into_make_service();
                match tls {
                    Some(tls) => {
                        let server = axum_server::from_tcp_rustls(listener, tls).expect("a server");
                        server.serve(service).await
                    }
                    None => axum_server::from_tcp(listener).expect("a server").serve(service).await,
                }
                .expect("the door is served");
            });
        });
        door
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/token", post(token))
            .route("/scim/{kind}", get(list).post(create))
            .route("/scim/{kind}/{id}", get(read).put(replace).patch(change).delete(delete))
            .with_state(self.clone())
    }

    /// The address of something.
    pub fn url(&self, path: &str) -> String {
        // A certificate is for a name.
        if self.secure {
            return format!("https://localhost:{}{path}", self.address.port());
        }
        format!("http://{}{path}", self.address)
    }

    /// From now on it wants this.
    pub fn wants(&self, wants: Wants) {
        self.lock().wants = Some(wants);
    }

    /// From now on the endpoint wants this proof.
    pub fn wants_proof(&self, proof: Proof) {
        self.lock().proof = Some(proof);
    }

    /// From now on the endpoint answers this; nothing means that it is well.
    pub fn sick(&self, status: Option<u16>) {
        self.lock().sick = status;
    }

    /// Takes back every token.
    pub fn take_back(&self) {
        self.lock().tokens.clear();
    }

    /// How many tokens were given.
    pub fn given(&self) -> usize {
        self.lock().given
    }

    /// How many requests were not let in.
    pub fn refused(&self) -> usize {
        self.lock().refused_at_the_door
    }

    /// How often the endpoint gave none.
    pub fn refused_tokens(&self) -> usize {
        self.lock().refused_tokens
    }

    /// Every token that is out, and what else must be shown to nobody.
    pub fn tokens(&self) -> Vec<String> {
        self.lock().tokens.iter().cloned().collect()
    }

    /// The names of all who have an account.
    pub fn names(&self) -> Vec<String> {
        let inside = self.lock();
        let name = |account: &Value| account["userName"].as_str().unwrap_or_default().to_string();
        inside.accounts.values().map(name).filter(|name| !name.is_empty()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let mut inside = self.lock();
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_let_in = match &inside.wants {
            Some(Wants::Header(wanted)) => shown == wanted,
            Some(Wants::Token) => {
                shown.strip_prefix("Bearer ").is_some_and(|token| inside.tokens.contains(token))
            }
            Some(Wants::Nothing) => shown.is_empty(),
            None => false,
        };
        if is_let_in {
            return None;
        }
        inside.refused_at_the_door += 1;
        Some(problem(401, ""))
    }
}

fn problem(status: u16, kind: &str) -> Response {
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": status.to_string(),
        "scimType": kind,
    });
    answer(status, body)
}

fn answer(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).expect("a status"), Json(body)).into_response()
}

async fn token(State(door): State<Door>, headers: HeaderMap, form: String) -> Response {
    let url = door.url("/token");
    let mut inside = door.lock();
    if let Some(status) = inside.sick {
        inside.refused_tokens += 1;
        return answer(status, json!({"error": "temporarily_unavailable"}));
    }
    let inside = &mut *inside;
    let proven =
        inside.proof.as_ref().is_some_and(|proof| proof.holds(&url, &headers, &form, &mut inside.used));
    if !proven {
        inside.refused_tokens += 1;
        return answer(401, json!({"error": "invalid_client", "error_description": form}));
    }
    let token = uuid::Uuid::new_v4().simple().to_string();
    inside.given += 1;
    inside.tokens.insert(token.clone());
    answer(200, json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600}))
}

async fn list(
    State(door): State<Door>,
    Path(kind): Path<String>,
    Query(asked): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = door.refusal(&headers) {
        return refused;
    }
    let filter = asked.get("filter").map(String::as_str).unwrap_or_default();
    let parts: Vec<&str> = filter.splitn(3, ' ').collect();
    let found: Vec<Value> = match parts[..] {
        [attribute, "eq", value] => {
            let value: Value = serde_json::from_str(value).unwrap_or_default();
            let is_it = |account: &&Value| account["kind"] == kind.as_str() && account[attribute] == value;
            door.lock().accounts.values().filter(is_it).cloned().collect()
        }
        [""] => door
            .lock()
            .accounts
            .values()
            .filter(|account| account["kind"] == kind.as_str())
            .cloned()
            .collect(),
        _ => return problem(400, "invalidFilter"),
    };
    answer(
        200,
        json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": found.len(), "startIndex": 1, "itemsPerPage": found.len(), "Resources": found,
        }),
    )
}

async fn create(
    State(door): State<Door>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    Json(mut account): Json<Value>,
) -> Response {
    if let Some(refused) = door.refusal(&headers) {
        return refused;
    }
    let mut inside = door.lock();
    let name = &account["userName"];
    if !name.is_null() && inside.accounts.values().any(|other| &other["userName"] == name) {
        return problem(409, "uniqueness");
    }
    let id = uuid::Uuid::new_v4().to_string();
    account["id"] = json!(id);
    account["kind"] = json!(kind);
    inside.accounts.insert(id, account.clone());
    answer(201, account)
}

async fn read(
    State(door): State<Door>,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = door.refusal(&headers) {
        return refused;
    }
    door.lock().accounts.get(&id).map_or_else(|| problem(404, ""), |account| answer(200, account.clone()))
}

async fn replace(
    State(door): State<Door>,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
    Json(mut account): Json<Value>,
) -> Response {
    if let Some(refused) = door.refusal(&headers) {
        return refused;
    }
    let mut inside = door.lock();
    let Some(kept) = inside.accounts.get_mut(&id) else { return problem(404, "") };
    account["id"] = json!(id);
    account["kind"] = json!(kind);
    *kept = account.clone();
    answer(200, account)
}

async fn change(
    State(door): State<Door>,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
    Json(patch): Json<Value>,
) -> Response {
    if let Some(refused) = door.refusal(&headers) {
        return refused;
    }
    let mut inside = door.lock();
    let Some(account) = inside.accounts.get_mut(&id) else { return problem(404, "") };
    for operation in patch["Operations"].as_array().into_iter().flatten() {
        match (operation["path"].as_str(), &operation["value"]) {
            (Some(path), value) => account[path] = value.clone(),
            (None, Value::Object(values)) => {
                for (name, value) in values {
                    account[name] = value.clone();
                }
            }
            (None, _) => return problem(400, "invalidValue"),
        }
    }
    answer(200, account.clone())
}

async fn delete(
    State(door): State<Door>,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = door.refusal(&headers) {
        return refused;
    }
    match door.lock().accounts.remove(&id) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => problem(404, ""),
    }
}
