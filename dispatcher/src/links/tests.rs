//! What links say after events.

use super::*;
use eventlog::memory;
use proto::provisioning::Kind;
use proto::sealing::DataKey;

/// UUIDv7 of 2023, and of 2030.
const OLD: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const NEW: &str = "01b8d3b0-5c00-774b-bcce-b302099a8057";

fn links(restored: bool) -> Links {
    let broker = memory::broker(memory::Faults::default());
    let time: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let timeline =
        Timeline { id: "t".to_string(), restored_at: time, backup_of: time, identity: 9, provisioning: 5 };
    let keyring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
    Links::new(broker.provisioning.clone(), keyring, restored.then_some(timeline))
}

#[track_caller]
fn check(links: &Links, id: &str, last: u64, expected: bool) {
    let id: ResourceId = id.parse().unwrap();
    let link = Link { last, ..Link::default() };
    links.book("app", |book| book.put(id, link));
    assert_eq!(links.get("app", id).intent_open, expected);
    assert_eq!(links.waits_for_reading("app", id), expected);
}

#[test]
fn after_a_restore_the_app_is_read_first() {
    let links = links(true);
    check(&links, OLD, 5, true);
    check(&links, OLD, 0, true);
    // Read back since.
    check(&links, OLD, 6, false);
    // Made since.
    check(&links, NEW, 0, false);
}

#[test]
fn without_a_restore_nothing_is_doubted() {
    let links = links(false);
    check(&links, OLD, 5, false);
    check(&links, OLD, 0, false);
}

/// Under an app's former name accounts stay that nobody looks after.
#[test]
fn accounts_at_apps_that_nobody_names_are_counted() {
    let links = links(false);
    let id: ResourceId = NEW.parse().unwrap();
    let account = Link { remote_id: Some("1".to_string()), ..Link::default() };
    links.book("former", |book| book.put(id, account.clone()));
    links.book("known", |book| book.put(id, account));
    links.book("ended", |book| book.put(id, Link::default()));
    assert_eq!(links.beside(|name| name == "known"), [("former".to_string(), 1)]);
}

/// Two users and two groups, each type counted from one by the app.
#[test]
fn an_account_is_anothers_only_if_that_one_is_of_its_type() {
    let links = links(false);
    let id = |number: u8| format!("01b8d3b0-5c00-774b-bcce-b302099a80{number:02x}").parse().unwrap();
    for (number, kind, remote_id) in [(1, "User", "1"), (2, "User", "2"), (3, "Group", "1")] {
        let made = Kind::Done {
            operation: "create".to_string(),
            linked: true,
            remote_id: remote_id.to_string(),
            members_added: Vec::new(),
            members_removed: Vec::new(),
            members_replaced: true,
            status: 201,
        };
        let (app, resource_type) = ("app".to_string(), kind.to_string());
        let event = Event { app, resource_type, resource_id: id(number), ..crate::sample::event(made) };
        links.enter(&event, None, u64::from(number));
    }
    let group = id(4);
    assert!(links.is_others("app", "Group", ("1", ""), group));
    assert!(!links.is_others("app", "Group", ("2", ""), group), "that one is somebody's, and no group");
    assert!(links.is_others("app", "User", ("2", ""), id(1)));
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
    assert_eq!(links.owners("app", "Group", &ids(&["1", "2"])), [("1".to_string(), id(3))].into());
    // Somebody before another group; a group where the app has nobody with that id.
    let members = links.members("app", "Group", &ids(&["1", "2", "9"]));
    assert_eq!(members, [("1".to_string(), id(1)), ("2".to_string(), id(2))].into());
    assert_eq!(links.members("app", "User", &ids(&["1"])), [("1".to_string(), id(3))].into());
    assert_eq!(links.remote_ids("app", "Group"), [("1".to_string(), id(3))]);
}

/// What was written by ourselves is known at once, and is not applied a second time when the log tells it.
#[test]
fn an_event_of_ours_is_applied_once() {
    let links = links(false);
    let id: ResourceId = NEW.parse().unwrap();
    let event = |kind| Event {
        id: eventlog::clock::new_event_id(),
        app: "app".to_string(),
        resource_id: id,
        ..crate::sample::event(kind)
    };
    let (intended, refused) = (
        event(Kind::Intended { operation: "create".to_string() }),
        event(Kind::Refused { operation: "create".to_string(), status: 429, error: String::new() }),
    );
    links.enter(&intended, None, 7);
    assert!(links.get("app", id).intent_open && links.knows(&intended, 7) && !links.knows(&refused, 9));
    links.enter(&refused, None, 9);
    // The log is behind.
    links.enter(&intended, None, 7);
    assert_eq!((links.get("app", id).intent_open, links.get("app", id).last), (false, 9));
}
