//! Clients: what they ask for, through which gateway, and what they were told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use eventlog::memory::Chance;
use http::{Method, Request, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::process::{Place, World};

/// Names that everybody wants, some in two spellings.
const NAMES: [&str; 7] = ["ada", "Ada", "bob", "cleo", "dan", "eve", "EVE"];
/// Nicknames that everybody wants; they are unique too.
const NICKNAMES: [&str; 3] = ["ace", "Ace", "boo"];
/// How long a client may take for a thought.
const PAUSE_MAX: Duration = Duration::from_millis(700);

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// POST, PUT, PATCH, DELETE or GET.
    pub method: Method,
    /// Below the base URL.
    pub path: String,
    /// The body.
    pub body: Value,
    /// If-Match.
    pub expected: Option<String>,
    /// What is to be true afterwards.
    pub wish: Wish,
}

/// What is to be true of a resource after a success.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// A value that nobody else ever writes, and its attribute.
    pub marker: Option<(&'static str, String)>,
    /// `userName`.
    pub name: Option<String>,
    /// `nickName`.
    pub nickname: Option<String>,
    /// `active`.
    pub active: Option<bool>,
    /// Who is to be in the group, and who not.
    pub members: Vec<(String, bool)>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Told {
    /// Status, ETag, body.
    Answer(u16, Option<String>, Value),
    /// The gateway died, or the client gave up.
    Nothing,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Dialogue {
    /// Which process, and which of its lives.
    pub through: (usize, u64),
    /// What was asked for.
    pub asked: Asked,
    /// The log's last sequence when it was asked.
    pub since: u64,
    /// The log's last sequence when it was answered.
    pub until: u64,
    /// The answer.
    pub told: Told,
    /// When, in order.
    pub order: (u64, u64),
}

/// What clients know of each other's work.
#[derive(Clone, Default)]
pub struct Common {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    users: Vec<String>,
    groups: Vec<String>,
    versions: Vec<(String, String)>,
    dialogues: Vec<Dialogue>,
    clock: u64,
}

impl Common {
    /// Every dialogue so far.
    pub fn dialogues(&self) -> Vec<Dialogue> {
        self.held.lock().expect("no panic").dialogues.clone()
    }

    fn tick(&self) -> u64 {
        let mut held = self.held.lock().expect("no panic");
        held.clock += 1;
        held.clock
    }

    fn pick(&self, chance: &Chance, groups: bool) -> Option<String> {
        let held = self.held.lock().expect("no panic");
        let ids = if groups { &held.groups } else { &held.users };
        // Most of what happens happens to a few.
        let near = &ids[ids.len().saturating_sub(4)..];
        if chance.strikes(800) { chance.pick(near) } else { chance.pick(ids) }.cloned()
    }

    fn version(&self, id: &str) -> Option<String> {
        let held = self.held.lock().expect("no panic");
        held.versions.iter().rev().find(|(of, _)| of == id).map(|(_, version)| version.clone())
    }

    fn learn(&self, dialogue: Dialogue) {
        let mut held = self.held.lock().expect("no panic");
        if let Told::Answer(200..=299, version, body) = &dialogue.told
            && let Some(id) = body["id"].as_str()
        {
            if dialogue.asked.method == Method::POST {
                let of = if dialogue.asked.path == "/Users" { &mut held.users } else { &mut held.groups };
                of.push(id.to_string());
            }
            held.versions.extend(version.clone().map(|version| (id.to_string(), version)));
        }
        held.dialogues.push(dialogue);
    }
}

/// One client's work, one request after the other.
pub async fn work(
    world: World,
    places: Arc<Vec<(Place, std::sync::atomic::AtomicU64)>>,
    common: Common,
    (token, name): (String, usize),
    chance: Chance,
    requests: usize,
) {
    let mut done = 0;
    while done < requests {
        tokio::time::sleep(chance.up_to(PAUSE_MAX)).await;
        let number = usize::try_from(chance.below(places.len() as u64)).unwrap_or_default();
        let (place, life) = &places[number];
        let Some(running) = place.running() else { continue };
        let life = life.load(std::sync::atomic::Ordering::SeqCst);
        let Some(asked) = thought(&common, &chance, &format!("m-{name}-{done}")) else { continue };
        done += 1;
        let since = world.cluster.identity.last_sequence();
        let begun = common.tick();
        let patience = if chance.strikes(30) {
            chance.up_to(Duration::from_millis(60))
        } else {
            Duration::from_secs(60)
        };
        let told = tokio::select! {
            biased;
            () = running.killed.cancelled() => Told::Nothing,
            told = ask(running.router.clone(), &token, &asked) => told,
            () = tokio::time::sleep(patience) => Told::Nothing,
        };
        let until = world.cluster.identity.last_sequence();
        let order = (begun, common.tick());
        common.learn(Dialogue { through: (number, life), asked, since, until, told, order });
    }
}

/// One request through a gateway.
pub async fn ask(router: Router, token: &str, asked: &Asked) -> Told {
    let mut request = Request::builder()
        .method(asked.method.clone())
        .uri(format!("/scim/v2{}", asked.path))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/scim+json");
    if let Some(expected) = &asked.expected {
        request = request.header(header::IF_MATCH, expected);
    }
    let body = if asked.body.is_null() { Body::empty() } else { Body::from(asked.body.to_string()) };
    let response = router.oneshot(request.body(body).expect("a request")).await.expect("an answer");
    let status = response.status().as_u16();
    let version = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_string);
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    Told::Answer(status, version, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// What a client may want next.
fn thought(common: &Common, chance: &Chance, marker: &str) -> Option<Asked> {
    let name = || chance.pick(&NAMES).map(ToString::to_string);
    let nickname =
        || if chance.strikes(300) { chance.pick(&NICKNAMES).map(ToString::to_string) } else { None };
    let user = || common.pick(chance, false);
    let group = || common.pick(chance, true);
    let title = Some(("title", marker.to_string()));
    let expected = |id: &str| if chance.strikes(150) { common.version(id) } else { None };
    Some(match chance.below(100) {
        0..22 => {
            let active = chance.strikes(750);
            let (name, nickname) = (name()?, nickname());
            let body = person(&name, nickname.as_deref(), marker, active);
            let wish =
                Wish { marker: title, name: Some(name), nickname, active: Some(active), ..Wish::default() };
            asked(Method::POST, "/Users".to_string(), body, None, wish)
        }
        22..32 => {
            let (id, name, nickname) = (user()?, name()?, nickname());
            let active = chance.strikes(750);
            let body = person(&name, nickname.as_deref(), marker, active);
            let wish =
                Wish { marker: title, name: Some(name), nickname, active: Some(active), ..Wish::default() };
            let expected = expected(&id);
            asked(Method::PUT, format!("/Users/{id}"), body, expected, wish)
        }
        32..46 => {
            let (id, name) = (user()?, name()?);
            let mut operations = vec![json!({"op": "replace", "path": "userName", "value": name})];
            let marker = chance.strikes(500).then_some(("title", marker.to_string()));
            if let Some((path, value)) = &marker {
                operations.push(json!({"op": "replace", "path": path, "value": value}));
            }
            let expected = expected(&id);
            let wish = Wish { marker, name: Some(name), ..Wish::default() };
            asked(Method::PATCH, format!("/Users/{id}"), patch(operations), expected, wish)
        }
        46..58 => {
            let (id, active) = (user()?, chance.strikes(500));
            let operations = vec![json!({"op": "replace", "path": "active", "value": active})];
            let expected = expected(&id);
            let wish = Wish { active: Some(active), ..Wish::default() };
            asked(Method::PATCH, format!("/Users/{id}"), patch(operations), expected, wish)
        }
        58..63 => {
            let (id, nickname) = (user()?, chance.pick(&NICKNAMES)?.to_string());
            let operations = vec![json!({"op": "replace", "path": "nickName", "value": nickname})];
            let wish = Wish { nickname: Some(nickname), ..Wish::default() };
            asked(Method::PATCH, format!("/Users/{id}"), patch(operations), None, wish)
        }
        63..72 => {
            let id = user()?;
            let expected = expected(&id);
            asked(Method::DELETE, format!("/Users/{id}"), Value::Null, expected, Wish::default())
        }
        72..77 => {
            let members: Vec<String> = user().into_iter().chain(user()).collect();
            let body = crate::house::group(marker, &members.iter().map(String::as_str).collect::<Vec<_>>());
            let wish = Wish {
                marker: Some(("displayName", marker.to_string())),
                members: members.into_iter().map(|id| (id, true)).collect(),
                ..Wish::default()
            };
            asked(Method::POST, "/Groups".to_string(), body, None, wish)
        }
        77..90 => {
            let (id, member, joins) = (group()?, user()?, chance.strikes(650));
            let operation = if joins {
                json!({"op": "add", "path": "members", "value": [{"value": member}]})
            } else {
                json!({"op": "remove", "path": format!("members[value eq \"{member}\"]")})
            };
            let wish = Wish { members: vec![(member, joins)], ..Wish::default() };
            asked(Method::PATCH, format!("/Groups/{id}"), patch(vec![operation]), None, wish)
        }
        90..92 => {
            let id = group()?;
            let operations = vec![json!({"op": "replace", "path": "displayName", "value": marker})];
            let wish = Wish { marker: Some(("displayName", marker.to_string())), ..Wish::default() };
            asked(Method::PATCH, format!("/Groups/{id}"), patch(operations), None, wish)
        }
        92..94 => asked(Method::DELETE, format!("/Groups/{}", group()?), Value::Null, None, Wish::default()),
        _ => asked(Method::GET, format!("/Users/{}", user()?), Value::Null, None, Wish::default()),
    })
}

fn asked(method: Method, path: String, body: Value, expected: Option<String>, wish: Wish) -> Asked {
    Asked { method, path, body, expected, wish }
}

fn person(name: &str, nickname: Option<&str>, marker: &str, active: bool) -> Value {
    let mut body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": name,
        "title": marker,
        "active": active,
    });
    if let Some(nickname) = nickname {
        body["nickName"] = nickname.into();
    }
    body
}

fn patch(operations: Vec<Value>) -> Value {
    json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations})
}
