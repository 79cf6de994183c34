//! Commands as a client sends them, answers as it reads them.

use serde_json::{Value, json};

use super::{Answer, Command, Set, User};
use crate::house::{Client, Reply};

/// Asks for the latest state.
const LATEST: (&str, &str) = ("Rollcall-Consistency", "latest");
const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// Chance with a seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % end.max(1)
    }

    /// One of these.
    pub fn of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Sends a command and reads its answer; no answer, and one that says "perhaps", is unknown.
pub fn ask(client: &Client, command: &Command) -> Answer {
    let (method, path, expected, body) = request(command);
    let mut headers = Vec::new();
    if let Some(tag) = expected {
        headers.push(("If-Match", tag.as_str()));
    }
    if method == "GET" {
        headers.push(LATEST);
    }
    let reply = client.try_send(method, &path, &headers, body.map(|body| body.to_string().into_bytes()));
    match reply {
        Err(_) => Answer::Unknown,
        Ok(reply) => read(command, &reply),
    }
}

/// Everybody who has one of these names now.
pub fn everybody(client: &Client, names: &[String]) -> Vec<User> {
    let terms: Vec<String> = names.iter().map(|name| format!("userName eq \"{name}\"")).collect();
    let path = format!("/Users?filter={}", escaped(&terms.join(" or ")));
    let reply = client.send("GET", &path, &[LATEST], None).expect(200);
    reply.body["Resources"].as_array().map(|users| users.iter().map(user).collect()).unwrap_or_default()
}

fn request(command: &Command) -> (&'static str, String, Option<&String>, Option<Value>) {
    let user = |name: &str, title: &str, active: bool| {
        let mut body = json!({"schemas": [USER], "userName": name, "active": active});
        if !title.is_empty() {
            body["title"] = title.into();
        }
        Some(body)
    };
    let at = |id: &str| format!("/Users/{id}");
    match command {
        Command::Create { name, title } => ("POST", "/Users".to_string(), None, user(name, title, true)),
        Command::Read { id } => ("GET", at(id), None, None),
        Command::Find { name } => {
            let filter = escaped(&format!("userName eq \"{name}\""));
            ("GET", format!("/Users?filter={filter}"), None, None)
        }
        Command::Delete { id, expected } => ("DELETE", at(id), expected.as_ref(), None),
        Command::Change {
            id,
            set: Set { name: Some(name), title: Some(title), active: Some(active) },
            expected,
        } => ("PUT", at(id), expected.as_ref(), user(name, title, *active)),
        Command::Change { id, set, expected } => {
            let mut operations = Vec::new();
            let mut replace = |path: &str, value: Value| {
                operations.push(json!({"op": "replace", "path": path, "value": value}));
            };
            if let Some(name) = &set.name {
                replace("userName", name.as_str().into());
            }
            if let Some(title) = &set.title {
                replace("title", title.as_str().into());
            }
            if let Some(active) = set.active {
                replace("active", active.into());
            }
            let body = json!({"schemas": [PATCH], "Operations": operations});
            ("PATCH", at(id), expected.as_ref(), Some(body))
        }
    }
}

fn read(command: &Command, reply: &Reply) -> Answer {
    let tagged = |body: &Value| {
        // Both say the same.
        assert_eq!(Some(body["meta"]["version"].as_str().unwrap_or_default()), reply.header("etag"));
        Answer::Shown(user(body))
    };
    match (reply.status, command) {
        (500 | 503, _) => Answer::Unknown,
        (200, Command::Find { .. }) => match reply.body["Resources"].as_array().map(Vec::as_slice) {
            Some([one]) => Answer::Shown(user(one)),
            None | Some([]) => Answer::Nobody,
            Some(many) => panic!("{command}: several have one name: {many:?}"),
        },
        (201, Command::Create { .. }) | (200, Command::Read { .. } | Command::Change { .. }) => {
            tagged(&reply.body)
        }
        (204, Command::Delete { .. }) => Answer::Deleted,
        (404 | 409 | 412, _) => Answer::Refused(reply.status),
        (_, _) => panic!("{command} is answered {}: {}", reply.status, reply.text),
    }
}

fn user(body: &Value) -> User {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    User {
        id: text(&body["id"]),
        name: text(&body["userName"]),
        title: text(&body["title"]),
        active: body["active"] == json!(true),
        tag: text(&body["meta"]["version"]),
    }
}

fn escaped(filter: &str) -> String {
    filter.replace(' ', "%20").replace('"', "%22")
}
