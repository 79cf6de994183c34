//! What subscribers are told of events.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::config::FeedConfig;
use scim::{Change, Registry};

fn event(kind: Kind, resource_type: &str) -> Event {
    Event {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        tenant: "corp".parse().unwrap(),
        resource_type: resource_type.to_string(),
        resource_id: "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap(),
        source: "hr".to_string(),
        actor: "k".to_string(),
        txn: "t".to_string(),
        occurred_at: Timestamp::UNIX_EPOCH,
        reason: String::new(),
        key_ref: None,
        continued: false,
        kind,
    }
}

fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

fn view(change: impl FnOnce(&mut FeedConfig)) -> View {
    let mut config = FeedConfig { attributes: vec!["userName".to_string()], ..FeedConfig::example() };
    change(&mut config);
    View::new(&config, &Registry::built_in().unwrap())
}

/// The envelope and the data follow their schemas.
#[track_caller]
fn valid(told: &Told) -> Value {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/feeds");
    let validator = |name: &str| {
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
    };
    let value: Value = serde_json::from_str(&told.text).unwrap();
    let verb = Verb::ALL.into_iter().find(|verb| value["dataschema"] == verb.schema()).unwrap();
    for (name, part) in [("event", &value), (verb.promise().name, &value["data"])] {
        let errors: Vec<String> = validator(name).iter_errors(part).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}: {value}");
    }
    assert_eq!((&value["id"], &value["type"]), (&json!(told.id), &json!(told.kind)));
    value
}

fn told(event: &Event, old: Option<Value>, new: Option<Value>, view: &View) -> Vec<Value> {
    let (old, new) = (old.map(object), new.map(object));
    let changes = match (&old, &new) {
        (Some(old), Some(new)) => diff(old, new),
        (_, _) => Vec::new(),
    };
    let body = new.map(|new| Body { document: new.into(), changes, ..Body::default() });
    let before = before_update(event, body.as_ref());
    assert!(before.is_none() || before == old, "the changes tell the document before");
    let members = vec!["01890a5d-ac96-774b-bcce-b302099a8059".parse().unwrap(); MEMBERS_PART + 1];
    let members = if event.resource_type == "Group" { members } else { Vec::new() };
    let after = body.as_ref().map(|body| Object::clone(&body.document));
    let around = Around { before: old, after, members };
    let happened =
        Happened { event, body: body.as_ref(), sequence: 7, time: Timestamp::UNIX_EPOCH, replay: None };
    of(&happened, &around, view).iter().map(valid).collect()
}

#[track_caller]
fn check(kind: Kind, old: Option<Value>, new: Option<Value>, view: &View, expected: &[&str]) -> Vec<Value> {
    let told = told(&event(kind, "User"), old, new, view);
    let types: Vec<&str> = told.iter().map(|told| told["type"].as_str().unwrap()).collect();
    assert_eq!(types, expected);
    let ids: BTreeSet<&str> = told.iter().map(|told| told["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), told.len(), "each has an id of its own");
    for told in &told {
        assert!(!told.to_string().contains("Dr"), "title is not allowed: {told}");
    }
    told
}

fn updated() -> Kind {
    Kind::Updated { members_added: vec![], members_removed: vec![] }
}

fn ada(more: Value) -> Option<Value> {
    let mut ada = object(json!({"userName": "ada", "active": true}));
    ada.extend(object(more));
    Some(ada.into())
}

#[test]
fn each_event_becomes_what_a_subscriber_understands() {
    let view = view(|_| {});
    let member = "01890a5d-ac96-774b-bcce-b302099a8059".parse().unwrap();
    let created = || Kind::Created { members_added: vec![] };
    check(created(), None, ada(json!({})), &view, &["user.created"]);
    check(updated(), ada(json!({})), ada(json!({"active": false})), &view, &["user.deactivated"]);
    let back = ada(json!({"title": "Dr"}));
    check(updated(), ada(json!({"active": false})), back, &view, &["user.reactivated", "user.updated"]);
    let told = check(updated(), ada(json!({})), ada(json!({"title": "Dr"})), &view, &["user.updated"]);
    assert_eq!(told[0]["data"]["changed"], json!([]), "nothing that is shown has changed");
    let told = check(updated(), ada(json!({})), ada(json!({"userName": "bob"})), &view, &["user.updated"]);
    assert_eq!(told[0]["data"]["changed"], json!(["userName"]));
    let members = Kind::MembersChanged { added: vec![member], removed: vec![member] };
    check(members, None, None, &view, &["user.member_removed", "user.member_added"]);
    let told = check(Kind::Deleted, ada(json!({})), None, &view, &["user.deleted"]);
    assert_eq!(told[0]["data"].get("identity"), None);
    check(Kind::Erased, None, None, &view, &[]);
}

#[test]
fn whoever_comes_into_the_filter_or_goes_is_told_as_that() {
    let staff = view(|config| {
        config.filters.insert("User".to_string(), "title eq \"Staff\"".to_string());
        config.identify = vec!["userName".to_string()];
    });
    let (guest, staff_member) = (ada(json!({"title": "Dr"})), ada(json!({"title": "Staff"})));
    let created = || Kind::Created { members_added: vec![] };
    check(created(), None, guest.clone(), &staff, &[]);
    check(created(), None, staff_member.clone(), &staff, &["user.created"]);
    let entered = check(updated(), guest.clone(), staff_member.clone(), &staff, &["user.scope_entered"]);
    assert_eq!(entered[0]["data"]["attributes"], json!({"userName": "ada"}));
    let left = check(updated(), staff_member.clone(), guest.clone(), &staff, &["user.scope_left"]);
    assert_eq!(left[0]["data"]["identity"], json!({"userName": "ada"}));
    assert_eq!(left[0]["data"].get("attributes"), None);
    check(updated(), guest.clone(), ada(json!({"title": "Dr", "nickName": "a"})), &staff, &[]);
    check(Kind::Deleted, guest, None, &staff, &[]);
    let gone = check(Kind::Deleted, staff_member, None, &staff, &["user.deleted"]);
    assert_eq!(gone[0]["data"]["identity"], json!({"userName": "ada"}));
    // What the projection does not keep any more: only the id is told.
    let gone = check(Kind::Deleted, None, None, &staff, &["user.deleted"]);
    assert_eq!(gone[0]["data"]["identity"], json!({}));
}

#[test]
fn a_group_that_enters_brings_its_members() {
    let teams = view(|config| {
        drop(config.filters.insert("Group".to_string(), "displayName sw \"Team\"".to_string()))
    });
    let (old, new) = (Some(json!({"displayName": "Old"})), Some(json!({"displayName": "Team 1"})));
    let entered = told(&event(updated(), "Group"), old, new, &teams);
    let parts: Vec<usize> =
        entered.iter().map(|told| told["data"]["members"].as_array().unwrap().len()).collect();
    assert_eq!(parts, [MEMBERS_PART, 1]);
    assert_eq!((&entered[1]["data"]["part"], &entered[1]["data"]["parts"]), (&json!(2), &json!(2)));
    let outside = Kind::MembersChanged { added: vec![entered_id()], removed: vec![] };
    let none = told(&event(outside, "Group"), None, Some(json!({"displayName": "Old"})), &teams);
    assert_eq!(none, Vec::<Value>::new());
}

fn entered_id() -> ResourceId {
    "01890a5d-ac96-774b-bcce-b302099a8060".parse().unwrap()
}

#[test]
fn only_wanted_types_are_told_and_keep_their_ids() {
    let all = view(|_| {});
    let some = view(|config| config.types = vec!["user.updated".to_string(), "group.*".to_string()]);
    let (old, new) = (ada(json!({"active": false})), ada(json!({"userName": "bob"})));
    let of_all = check(updated(), old.clone(), new.clone(), &all, &["user.reactivated", "user.updated"]);
    let of_some = check(updated(), old, new, &some, &["user.updated"]);
    assert_eq!(of_all[1]["id"], of_some[0]["id"]);
    assert!(some.wants("group.member_added") && !some.wants("user.deleted"));
}

#[test]
fn a_replay_is_marked_and_has_the_same_ids() {
    let (event, view) = (event(Kind::Deleted, "User"), view(|_| {}));
    let happened =
        Happened { event: &event, body: None, sequence: 7, time: Timestamp::UNIX_EPOCH, replay: None };
    let first = of(&happened, &Around::default(), &view);
    let again = of(&Happened { replay: Some("r1"), ..happened }, &Around::default(), &view);
    assert_eq!(first[0].id, again[0].id);
    let (first, again) = (valid(&first[0]), valid(&again[0]));
    assert_eq!(
        (first.get("replay"), again["replay"].clone(), &again["replayid"]),
        (None, json!(true), &json!("r1"))
    );
    assert_eq!(again["sequence"], "7");
}

#[test]
fn snapshots_and_ends_follow_their_schemas() {
    let view = view(|config| drop(config.filters.insert("User".to_string(), "active eq true".to_string())));
    let tenant = "corp".parse().unwrap();
    let document = object(json!({"userName": "ada", "active": true}));
    let mut resource = Snapshotted {
        tenant: &tenant,
        snapshot: "s1",
        position: 9,
        time: Timestamp::UNIX_EPOCH,
        resource_type: "User",
        id: entered_id(),
        document: &document,
        members: &[],
    };
    let told = of_snapshot(&resource, &view);
    assert_eq!(valid(&told[0])["data"]["attributes"], json!({"userName": "ada"}));
    let members = vec![entered_id(); 2];
    (resource.resource_type, resource.members) = ("Group", &members);
    assert_eq!(valid(&of_snapshot(&resource, &view)[0])["data"]["members"].as_array().unwrap().len(), 2);
    let away = object(json!({"userName": "ada", "active": false}));
    (resource.resource_type, resource.document) = ("User", &away);
    assert_eq!(of_snapshot(&resource, &view), Vec::new());
    valid(&of_snapshot_end(&tenant, "audit", "s1", 9, Timestamp::UNIX_EPOCH));
    valid(&of_replay_end(&tenant, "audit", "r1", (3, 9), Timestamp::UNIX_EPOCH));
}

#[test]
fn an_external_id_alone_is_an_update_that_shows_nothing() {
    let (event, view) = (event(updated(), "User"), view(|_| {}));
    let changes = vec![Change { path: "externalId".to_string(), before: None, after: Some(json!("7")) }];
    let body = Body { document: object(json!({"userName": "ada"})).into(), changes, ..Body::default() };
    let before = before_update(&event, Some(&body));
    let happened =
        Happened { event: &event, body: Some(&body), sequence: 7, time: Timestamp::UNIX_EPOCH, replay: None };
    let told = of(&happened, &Around { before, ..Around::default() }, &view);
    assert_eq!(valid(&told[0])["data"]["changed"], json!([]));
}
