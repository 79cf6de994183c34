//! Given a directory, when a command comes, then this is written, nothing, or refused.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use proto::subject::{SubjectSecret, key_of_claim, key_of_request, key_of_value};
use proto::{ExternalIds, Position, Version};
use scim::{AttrPath, Dialect, Registry};
use serde_json::json;

use super::*;
use crate::policy::Ownership;

mod create;
mod members;

fn id(number: u8) -> ResourceId {
    format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
}

struct Given {
    registry: Registry,
    kind: &'static str,
    keys: BTreeMap<Key, KeyState>,
    alive: BTreeSet<ResourceId>,
    gone: BTreeSet<ResourceId>,
    members: Vec<ResourceId>,
    current: Option<Stored>,
    rival: Asked,
    looked_at: Option<u64>,
    rules: Rules,
}

/// Whom a create finds.
#[derive(Default)]
enum Asked {
    #[default]
    Nobody,
    Holder(Holding),
    Joined,
    Ambiguous,
    Former(ResourceId),
}

impl Directory for Given {
    fn key_of(&self, value: &str) -> Key {
        key_of_value(&SubjectSecret::new([0; 32]), &"corp".parse().unwrap(), "User", value)
    }

    fn request_key(&self, request: &str, turn: u8) -> Key {
        let secret = SubjectSecret::new([0; 32]);
        key_of_request(&secret, &"corp".parse().unwrap(), self.kind, request, turn)
    }

    fn claim_key(&self, attribute: &str, compared: &str) -> Key {
        let secret = SubjectSecret::new([0; 32]);
        key_of_claim(&secret, &"corp".parse().unwrap(), self.kind, attribute, compared)
    }

    fn key(&self, key: &Key) -> KeyState {
        self.keys.get(key).copied().unwrap_or_default()
    }

    fn exists(&self, id: ResourceId) -> bool {
        self.alive.contains(&id)
    }

    fn was_there(&self, id: ResourceId) -> bool {
        self.alive.contains(&id) || self.gone.contains(&id)
    }

    fn is_member(&self, member: ResourceId) -> bool {
        self.members.contains(&member)
    }

    fn members(&self) -> Vec<ResourceId> {
        self.members.clone()
    }

    /// By their numbers: those below 5 are users.
    fn members_shown(&self) -> Vec<Value> {
        let shown = |member: &ResourceId| {
            let number = (1..20).find(|number| id(*number) == *member).unwrap();
            let (kind, endpoint) = if number < 5 { ("User", "Users") } else { ("Group", "Groups") };
            json!({
                "value": member.to_string(), "type": kind, "display": format!("Number {number}"),
                "$ref": format!("https://x.test/{endpoint}/{member}"),
            })
        };
        self.members.iter().map(shown).collect()
    }
}

fn given(kind: &'static str) -> Given {
    let registry = Registry::built_in().unwrap();
    Given {
        registry,
        kind,
        keys: BTreeMap::new(),
        alive: BTreeSet::new(),
        gone: BTreeSet::new(),
        members: Vec::new(),
        current: None,
        rival: Asked::Nobody,
        looked_at: None,
        rules: Rules::default(),
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
            row: guard,
            resource_type: self.kind.to_string(),
            document: document.as_object().unwrap().clone().into(),
            external_ids: ExternalIds::default(),
            created: Timestamp::UNIX_EPOCH,
            last_modified: Timestamp::UNIX_EPOCH,
            version: Version::new(Position {
                sequence: guard,
                event: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            }),
            key,
            guard,
            key_ref: None,
            claims: BTreeMap::new(),
            cuts: projector::Cut::default(),
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
        let context = Context { registry: &self.registry, kind, speech: Dialect::Rfc.into() };
        let caller = Caller {
            tenant: "corp".parse().unwrap(),
            source: "hr".to_string(),
            dialect: Dialect::Rfc,
            heard: Arc::default(),
            actor: "k".to_string(),
            address: String::new(),
            base_url: "https://x.test".to_string(),
            reason: String::new(),
        };
        let stored = || self.current.as_ref().unwrap();
        let rival = match self.rival {
            Asked::Nobody => Rival::None,
            Asked::Holder(holding) => Rival::Holder { stored: stored(), attribute: "userName", holding },
            Asked::Joined => Rival::Joined(stored()),
            Asked::Ambiguous => Rival::Ambiguous,
            Asked::Former(id) => Rival::Former(id),
        };
        let current = self.current.as_ref().filter(|_| !matches!(command, Command::Create { .. }));
        let looked_at = self.looked_at.unwrap_or(u64::MAX);
        let state = State { current, rival, looked_at, directory: self };
        let limits = Limits::default();
        let terms = Terms { context, caller: &caller, limits: &limits, rules: &self.rules };
        decide(&state, terms, command)
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
    creation(&json!({"userName": name}), None)
}

fn creation(document: &Value, external_id: Option<&str>) -> Command {
    let parts = Parts {
        document: document.as_object().unwrap().clone().into(),
        external_id: external_id.map(str::to_string),
        members: None,
        credentials: Object::new(),
    };
    Command::Create { id: id(50), parts: Box::new(parts) }
}

fn patch(number: u8, operations: Value) -> Command {
    let body =
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
    Command::Patch { id: id(number), expected: Expected::default(), body }
}

#[test]
fn existence_comes_before_everything() {
    let expected = Expected { none_of: Some("*".to_string()), ..Expected::default() };
    let broken = Command::Patch { id: id(1), expected, body: json!("nonsense") };
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
    let write = given.written(&Command::Replace { id: id(1), expected: Expected::default(), body });
    assert_eq!(write.body.document["active"], false);
}

#[test]
fn a_rename_takes_the_new_key_and_frees_the_old() {
    let given = given("User").freed("eve", 3).ada();
    let write = given.written(&patch(1, json!([{"op": "replace", "path": "userName", "value": "eve"}])));
    assert_eq!((write.key, write.guard), (given.key_of("eve"), Guard::Last(3)));
    assert_eq!(write.moved, Some((given.key_of("ada"), 5)));
    let write = given.written(&patch(1, json!([{"op": "replace", "path": "userName", "value": "Ada"}])));
    assert_eq!((write.moved, write.guard), (None, Guard::Last(5)));
    let taken = given.user(2, "eve", 3);
    assert!(matches!(
        taken.when(&patch(1, json!([{"op": "replace", "path": "userName", "value": "eve"}]))),
        Err(Rejection::NameTaken { .. })
    ));
}

/// A type of one's own need not have its unique attribute.
#[test]
fn a_unique_value_that_is_taken_away_is_free() {
    let badge = |number: Value, key: &dyn Fn(&Given) -> Key| {
        let mut given = given("Badge");
        let schema = json!({"id": "urn:example:scim:Badge", "name": "Badge", "attributes": [
            {"name": "number", "type": "string", "uniqueness": "server"}, {"name": "color", "type": "string"}]});
        let kind = json!({"id": "Badge", "name": "Badge", "endpoint": "/Badges", "schema": "urn:example:scim:Badge"});
        given.registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        given.registry.add_resource_type(serde_json::from_value(kind).unwrap()).unwrap();
        let key = key(&given);
        let mut given = given.current(1, key, json!({"number": number, "color": "red"}), 5);
        given.keys.insert(key, KeyState { last: 5, holder: Some(id(1)) });
        given
    };
    let own = key_of_id(id(1));
    let of_value = badge("A".into(), &|given| given.key_of("a"));
    for taken in
        [json!({"op": "remove", "path": "number"}), json!({"op": "replace", "path": "number", "value": " "})]
    {
        let write = of_value.written(&patch(1, json!([taken])));
        assert_eq!((write.key, write.guard), (own, Guard::Last(0)), "{taken}");
        assert_eq!(write.moved, Some((of_value.key_of("a"), 5)), "{taken}");
    }
    let recolored = json!([{"op": "replace", "path": "color", "value": "blue"}]);
    assert_eq!(of_value.written(&patch(1, recolored.clone())).moved, None);
    // Nobody is known by an empty text, whoever was is so no more.
    let empty = badge("".into(), &|_| own);
    assert_eq!(empty.written(&patch(1, recolored.clone())).key, own);
    let once = badge("".into(), &|given| given.key_of(""));
    assert_eq!(once.written(&patch(1, recolored)).key, own);
    let numbered = json!([{"op": "add", "path": "number", "value": "B"}]);
    let write = empty.written(&patch(1, numbered));
    assert_eq!((write.key, write.moved), (empty.key_of("b"), Some((own, 5))));
    let write = once.written(&creation(&json!({"number": "", "color": "green"}), None));
    assert_eq!(write.key, key_of_id(id(50)));
}

#[test]
fn members_that_another_source_owns_stay() {
    let mut given = given("Group").user(1, "ada", 1).team(&[2]);
    given.rules.owns = Ownership::Except(BTreeSet::from([AttrPath::of("members")]));
    for operation in [
        json!({"op": "add", "path": "members", "value": [{"value": id(1).to_string()}]}),
        json!({"op": "remove", "path": format!("members[value eq \"{}\"]", id(2))}),
        json!({"op": "remove", "path": "members"}),
    ] {
        assert_eq!(given.when(&patch(9, json!([operation]))).unwrap(), Decision::Nothing, "{operation}");
    }
    let document = json!({"displayName": "Crew"});
    let Command::Create { id: new, mut parts } = creation(&document, None) else { panic!() };
    parts.members = Some(vec![id(1).to_string()]);
    let write = given.written(&Command::Create { id: new, parts });
    assert_eq!(write.kind, Kind::Created { members_added: vec![] });
}

#[test]
fn what_has_no_unique_attribute_keeps_its_key() {
    let mut given = given("Group").team(&[]);
    let key = given.request_key("hr", 0);
    given.current.as_mut().unwrap().key = key;
    let rename = patch(9, json!([{"op": "replace", "path": "displayName", "value": "Crew"}]));
    let write = given.written(&rename);
    assert_eq!((write.key, write.moved), (key, None));
}

#[test]
fn what_another_source_owns_stays() {
    let key = given("User").key_of("ada");
    let document = json!({"userName": "ada", "title": "Dr", "active": true});
    let mut given = given("User").user(1, "ada", 5).current(1, key, document, 5);
    given.rules.owns = Ownership::Except(BTreeSet::from([AttrPath::of("title"), AttrPath::of("active")]));
    let taken = patch(1, json!([{"op": "replace", "value": {"title": "Prof", "active": false}}]));
    assert_eq!(given.when(&taken).unwrap(), Decision::Nothing);
    let own = patch(1, json!([{"op": "replace", "value": {"title": "Prof", "nickName": "A"}}]));
    let write = given.written(&own);
    assert_eq!(
        (&write.body.document["title"], &write.body.document["nickName"]),
        (&json!("Dr"), &json!("A"))
    );
    let body = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada"});
    let put = Command::Replace { id: id(1), expected: Expected::default(), body };
    assert_eq!(given.when(&put).unwrap(), Decision::Nothing);
}

#[test]
fn a_further_unique_value_is_claimed_and_released() {
    let claimable = || Claimable { path: AttrPath::of("nickName"), case_exact: false };
    let mut given = given("User").freed("ada", 0);
    given.rules.claims = vec![claimable()];
    let key = given.claim_key("nickName", "liz");
    let write = given.written(&creation(&json!({"userName": "ada", "nickName": "Liz"}), None));
    assert_eq!(write.claimed, [Claim { attribute: "nickName".to_string(), key, last: 0 }]);
    given.keys.insert(key, KeyState { last: 9, holder: Some(id(2)) });
    let taken = given.when(&creation(&json!({"userName": "ada", "nickName": "LIZ"}), None));
    assert_eq!(taken.unwrap_err(), Rejection::NameTaken { attribute: "nickName".to_string() });

    let mut held = given.ada();
    held.keys.insert(key, KeyState { last: 9, holder: Some(id(1)) });
    let current = held.current.as_mut().unwrap();
    let mut document = Object::clone(&current.document);
    document.insert("nickName".to_string(), "Liz".into());
    current.document = document.into();
    current.claims.insert("nickName".to_string(), key);
    let write = held.written(&patch(1, json!([{"op": "remove", "path": "nickName"}])));
    assert_eq!(write.released, [Claim { attribute: "nickName".to_string(), key, last: 9 }]);
    assert!(write.claimed.is_empty());
}

/// It may have to be unique only since both had it: the second must be able to leave.
#[test]
fn what_two_have_already_keeps_neither_from_being_changed() {
    let off = patch(1, json!([{"op": "replace", "path": "active", "value": false}]));
    let mut given = given("User").ada();
    given.rules.claims = vec![Claimable { path: AttrPath::of("nickName"), case_exact: false }];
    let [liz, own] = ["liz", "own"].map(|text| given.claim_key("nickName", text));
    given.keys.insert(liz, KeyState { last: 9, holder: Some(id(2)) });
    let named = |given: Given, name: &str| {
        let key = given.key_of("ada");
        given.current(1, key, json!({"userName": "ada", "active": true, "nickName": name}), 5)
    };
    let both = named(given, "Liz");
    let write = both.written(&off);
    assert!(write.claimed.is_empty() && write.released.is_empty());
    let rename = |name: &str| patch(1, json!([{"op": "replace", "path": "nickName", "value": name}]));
    let write = both.written(&rename("own"));
    assert_eq!(write.claimed, [Claim { attribute: "nickName".to_string(), key: own, last: 0 }]);
    assert!(write.released.is_empty(), "the other has it");
    let taken = named(both, "own").when(&rename("LIZ")).unwrap_err();
    assert_eq!(taken, Rejection::NameTaken { attribute: "nickName".to_string() });

    // The same of what a resource is known by.
    let document = json!({"userName": "ada", "active": true});
    let own = proto::subject::key_of_id(id(1));
    let both = self::given("User").user(2, "ada", 5).user(3, "bob", 6).current(1, own, document, 7);
    let write = both.written(&off);
    assert_eq!((write.key, write.guard, write.moved), (own, Guard::Last(7), None));
    let renamed = |name: &str| patch(1, json!([{"op": "replace", "path": "userName", "value": name}]));
    let taken = both.when(&renamed("bob")).unwrap_err();
    assert_eq!(taken, Rejection::NameTaken { attribute: "userName".to_string() });
    assert_eq!(both.written(&renamed("eve")).moved, Some((own, 7)));
}

#[test]
fn what_no_schema_knows_is_refused_in_a_patch_too() {
    let mut given = given("User").ada();
    let some = patch(1, json!([{"op": "replace", "value": {"title": "Dr", "shoes": 9}}]));
    assert_eq!(given.written(&some).body.document["title"], "Dr");
    given.rules.refuse_unknown = true;
    // As Entra writes them, a path that is passed over with `ignore` as well.
    let leaves = json!([{"op": "Add", "path": "shoes", "value": 9}, {"op": "Replace", "path": "active", "value": false}]);
    for refused in [some, patch(1, leaves.clone())] {
        let refused = given.when(&refused).unwrap_err();
        assert!(
            matches!(refused, Rejection::Invalid(error) if error.scim_type == Some(ScimType::InvalidSyntax))
        );
    }
    given.rules.refuse_unknown = false;
    assert_eq!(given.written(&patch(1, leaves)).body.document["active"], false);
}
