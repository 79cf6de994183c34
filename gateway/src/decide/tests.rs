//! Given a directory, when a command comes, then this is written, nothing, or refused.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proto::subject::{SubjectSecret, key_of_value};
use proto::{Position, Version};
use scim::{Dialect, Registry};
use serde_json::json;

use super::*;

fn id(number: u8) -> ResourceId {
    format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
}

struct Given {
    registry: Registry,
    kind: &'static str,
    keys: BTreeMap<Key, KeyState>,
    alive: BTreeSet<ResourceId>,
    members: Vec<ResourceId>,
    current: Option<Stored>,
}

impl Directory for Given {
    fn key_of(&self, value: &str) -> Key {
        key_of_value(&SubjectSecret::new([0; 32]), &"corp".parse().unwrap(), "User", value)
    }

    fn key(&self, key: &Key) -> KeyState {
        self.keys.get(key).copied().unwrap_or_default()
    }

    fn exists(&self, id: ResourceId) -> bool {
        self.alive.contains(&id)
    }

    fn is_member(&self, member: ResourceId) -> bool {
        self.members.contains(&member)
    }

    fn members(&self) -> Vec<ResourceId> {
        self.members.clone()
    }
}

fn given(kind: &'static str) -> Given {
    let registry = Registry::built_in().unwrap();
    Given {
        registry,
        kind,
        keys: BTreeMap::new(),
        alive: BTreeSet::new(),
        members: Vec::new(),
        current: None,
    }
}

impl Given {
    fn user(mut self, number: u8, name: &str, guard: u64) -> Self {
        let key = self.key_of(name);
        self.keys.insert(key, KeyState { last: guard, holder: Some(id(number)) });
        self.alive.insert(id(number));
        self
    }

    fn freed(mut self, name: &str, last: u64) -> Self {
        let key = self.key_of(name);
        self.keys.insert(key, KeyState { last, holder: None });
        self
    }

    fn current(mut self, number: u8, key: Key, document: Value, guard: u64) -> Self {
        self.alive.insert(id(number));
        self.current = Some(Stored {
            id: id(number),
            resource_type: self.kind.to_string(),
            document: document.as_object().unwrap().clone(),
            external_ids: BTreeMap::new(),
            created: Timestamp::UNIX_EPOCH,
            last_modified: Timestamp::UNIX_EPOCH,
            version: Version::new(Position {
                sequence: guard,
                event: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            }),
            key,
            guard,
            key_ref: None,
        });
        self
    }

    fn ada(self) -> Self {
        let key = self.key_of("ada");
        self.user(1, "ada", 5).current(1, key, json!({"userName": "ada", "active": true}), 5)
    }

    fn team(self, members: &[u8]) -> Self {
        let mut given = self.current(9, proto::subject::key_of_id(id(9)), json!({"displayName": "Team"}), 7);
        given.members = members.iter().map(|number| id(*number)).collect();
        given.alive.extend(given.members.clone());
        given
    }

    fn when(&self, command: &Command) -> Result<Decision, Rejection> {
        let kind = self.registry.by_name(self.kind).unwrap();
        let context = Context { registry: &self.registry, kind, dialect: Dialect::Rfc };
        let caller = Caller {
            tenant: "corp".parse().unwrap(),
            source: "hr".to_string(),
            dialect: Dialect::Rfc,
            actor: "k".to_string(),
            address: String::new(),
        };
        let state = State { current: self.current.as_ref(), directory: self };
        decide(&state, context, &caller, &Limits::default(), command)
    }

    #[track_caller]
    fn written(&self, command: &Command) -> Write {
        match self.when(command).unwrap() {
            Decision::Write(write) => *write,
            Decision::Nothing => panic!("nothing is written"),
        }
    }
}

fn create(name: &str) -> Command {
    let body = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": name});
    Command::Create { id: id(50), body }
}

fn patch(number: u8, operations: Value) -> Command {
    let body =
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
    Command::Patch { id: id(number), expected: None, body }
}

#[test]
fn a_free_name_is_taken_under_its_last_sequence() {
    let write = given("User").freed("ada", 12).written(&create("Ada"));
    assert_eq!(write.guard, Guard::Last(12));
    assert_eq!(write.body.document["active"], true);
    assert_eq!(given("User").written(&create("new")).guard, Guard::Last(0));
}

#[test]
fn a_taken_name_is_refused() {
    let rejected = given("User").user(1, "ada", 5).when(&create("ADA")).unwrap_err();
    assert_eq!(rejected, Rejection::NameTaken { attribute: "userName".to_string() });
}

#[test]
fn existence_comes_before_everything() {
    let broken =
        Command::Patch { id: id(1), expected: Some("W/\"0-0\"".to_string()), body: json!("nonsense") };
    assert_eq!(given("User").when(&broken).unwrap_err(), Rejection::NotFound);
    assert_eq!(given("User").ada().when(&broken).unwrap_err(), Rejection::VersionMismatch);
}

#[test]
fn no_change_writes_nothing() {
    let given = given("User").ada();
    assert_eq!(
        given.when(&patch(1, json!([{"op": "replace", "path": "active", "value": true}]))).unwrap(),
        Decision::Nothing
    );
    assert_eq!(
        given.when(&patch(1, json!([{"op": "replace", "path": "password", "value": "x"}]))).unwrap(),
        Decision::Nothing
    );
}

#[test]
fn a_put_without_active_does_not_bring_an_account_back() {
    let key = given("User").key_of("ada");
    let given =
        given("User").user(1, "ada", 5).current(1, key, json!({"userName": "ada", "active": false}), 5);
    let body =
        json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada", "title": "Dr"});
    let write = given.written(&Command::Replace { id: id(1), expected: None, body });
    assert_eq!(write.body.document["active"], false);
}

#[test]
fn a_rename_takes_the_new_key_and_frees_the_old() {
    let given = given("User").freed("eve", 3).ada();
    let write = given.written(&patch(1, json!([{"op": "replace", "path": "userName", "value": "eve"}])));
    assert_eq!((write.key.clone(), write.guard), (given.key_of("eve"), Guard::Last(3)));
    assert_eq!(write.moved, Some((given.key_of("ada"), 5)));
    let write = given.written(&patch(1, json!([{"op": "replace", "path": "userName", "value": "Ada"}])));
    assert_eq!((write.moved, write.guard), (None, Guard::Last(5)));
    let taken = given.user(2, "eve", 3);
    assert!(matches!(
        taken.when(&patch(1, json!([{"op": "replace", "path": "userName", "value": "eve"}]))),
        Err(Rejection::NameTaken { .. })
    ));
}

#[test]
fn members_by_value_need_no_guard() {
    let given = given("Group").user(1, "ada", 1).user(2, "bob", 2).team(&[2]);
    let write = given.written(&patch(9, json!([
        {"op": "add", "path": "members", "value": [{"value": id(1).to_string()}, {"value": id(2).to_string()}]},
        {"op": "remove", "path": format!("members[value eq \"{}\"]", id(2))},
    ])));
    assert_eq!(write.guard, Guard::None);
    assert_eq!(write.kind, Kind::MembersChanged { added: vec![id(1)], removed: vec![id(2)] });
    let again = patch(9, json!([{"op": "add", "path": "members", "value": [{"value": id(2).to_string()}]}]));
    assert_eq!(given.when(&again).unwrap(), Decision::Nothing);
    let stranger = patch(9, json!([{"op": "add", "path": "members", "value": [{"value": "nobody"}]}]));
    assert_eq!(given.when(&stranger).unwrap_err(), Rejection::NoSuchMember { id: "nobody".to_string() });
}

#[test]
fn everything_else_about_members_is_guarded() {
    let given = given("Group").user(1, "ada", 1).team(&[2]);
    let write = given.written(&patch(
        9,
        json!([{"op": "replace", "path": "members", "value": [{"value": id(1).to_string()}]}]),
    ));
    assert_eq!(write.guard, Guard::Last(7));
    assert_eq!(write.kind, Kind::MembersChanged { added: vec![id(1)], removed: vec![id(2)] });
    let write = given.written(&patch(
        9,
        json!([
            {"op": "replace", "path": "displayName", "value": "Crew"},
            {"op": "add", "path": "members", "value": [{"value": id(1).to_string()}]},
        ]),
    ));
    assert_eq!(write.kind, Kind::Updated { members_added: vec![id(1)], members_removed: vec![] });
    assert_eq!(write.guard, Guard::Last(7));
}
