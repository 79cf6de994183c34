//! Invented histories: a good one passes, and each lie is found.

use jiff::{SignedDuration, Timestamp};

use super::{Answer, Asked, Operation, Promise, Seen, check};
use crate::fold::{LogEvent, Version};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn event(sequence: u64, kind: &str, id: &str, name: Option<&str>, mark: Option<&str>) -> LogEvent {
    LogEvent {
        sequence,
        id: format!("00-{sequence:08x}"),
        time: at(sequence as i64 * 10),
        kind: kind.to_string(),
        resource_type: "User".to_string(),
        resource_id: id.to_string(),
        name: name.map(str::to_string),
        mark: mark.map(str::to_string),
        added: Vec::new(),
        removed: Vec::new(),
    }
}

fn version(sequence: u64) -> Version {
    Version { sequence, event: format!("{sequence:08x}") }
}

fn done(sequence: u64, id: &str, name: &str, mark: &str) -> Answer {
    let seen = Seen {
        id: id.to_string(),
        name: Some(name.to_string()),
        mark: Some(mark.to_string()),
        members: [].into(),
    };
    Answer::Done { status: 200, version: Some(version(sequence)), seen: Some(seen) }
}

/// An operation around the time of a sequence.
fn operation(sequence: u64, asked: Asked, answer: Answer) -> Operation {
    let time = sequence as i64 * 10;
    Operation { client: 0, gateway: 0, asked, answer, begun: at(time - 1), ended: at(time + 1) }
}

fn create(name: &str, mark: &str) -> Asked {
    Asked::Create { name: Some(name.to_string()), mark: mark.to_string() }
}

fn change(id: &str, mark: &str, name: Option<&str>, expected: Option<u64>) -> Asked {
    Asked::Change {
        id: id.to_string(),
        mark: mark.to_string(),
        name: name.map(str::to_string),
        expected: expected.map(version),
    }
}

/// Ada is made, changed under her version, renamed; another takes the free name; Ada is deleted.
fn good() -> (Vec<Operation>, Vec<LogEvent>) {
    let events = vec![
        event(1, "Created", "a", Some("ada"), Some("m1")),
        event(2, "Updated", "a", None, Some("m2")),
        event(3, "Updated", "a", Some("lovelace"), Some("m3")),
        event(4, "Moved", "a", None, None),
        event(5, "Created", "b", Some("Ada"), Some("m5")),
        event(6, "Deleted", "a", None, None),
    ];
    let deleted = Answer::Done { status: 204, version: None, seen: None };
    let operations = vec![
        operation(1, create("ada", "m1"), done(1, "a", "ada", "m1")),
        operation(2, change("a", "m2", None, Some(1)), done(2, "a", "ada", "m2")),
        operation(2, create("ADA", "refused"), Answer::Refused { status: 409 }),
        operation(3, change("a", "m3", Some("lovelace"), None), done(3, "a", "lovelace", "m3")),
        operation(4, change("a", "late", None, Some(2)), Answer::Refused { status: 412 }),
        operation(5, create("Ada", "m5"), Answer::Unknown { status: Some(503) }),
        operation(5, create("nobody", "m6"), Answer::Unknown { status: None }),
        operation(6, Asked::Delete { id: "a".to_string() }, deleted),
        operation(7, Asked::Read { id: "a".to_string() }, Answer::Refused { status: 404 }),
        operation(7, Asked::Read { id: "b".to_string() }, done(5, "b", "Ada", "m5")),
    ];
    (operations, events)
}

#[track_caller]
fn finds(promise: Promise, spoil: impl FnOnce(&mut Vec<Operation>, &mut Vec<LogEvent>)) {
    let (mut operations, mut events) = good();
    spoil(&mut operations, &mut events);
    let found = check(&operations, &events, SignedDuration::from_secs(1));
    assert!(found.iter().any(|violation| violation.promise == promise), "{promise:?} in {found:#?}");
}

#[test]
fn a_good_history_passes() {
    let (operations, events) = good();
    assert_eq!(check(&operations, &events, SignedDuration::from_secs(1)), []);
}

#[test]
fn a_lost_write_is_found() {
    finds(Promise::NothingLost, |_, events| drop(events.remove(1)));
    finds(Promise::NothingLost, |_, events| drop(events.pop()));
}

#[test]
fn a_write_that_stands_twice_is_found() {
    finds(Promise::NothingTwice, |_, events| events.push(event(7, "Updated", "b", None, Some("m2"))));
    // An unknown one may stand once.
    finds(Promise::NothingTwice, |_, events| events.push(event(7, "Created", "c", Some("c"), Some("m5"))));
    finds(Promise::NothingTwice, |_, events| events.push(event(7, "Deleted", "a", None, None)));
}

#[test]
fn two_holders_of_a_name_are_found() {
    // Without the rename the name was not free.
    finds(Promise::OneHolder, |_, events| events[2].name = None);
    finds(Promise::OneHolder, |_, events| {
        events.insert(2, event(2, "Created", "c", Some("ADA"), Some("m6")));
        for (event, sequence) in events.iter_mut().zip(1..) {
            event.sequence = sequence;
        }
    });
}

#[test]
fn a_wrong_version_is_found() {
    let spoil = |answer: Answer| {
        move |operations: &mut Vec<Operation>, _: &mut Vec<LogEvent>| operations[1].answer = answer
    };
    finds(Promise::RightVersion, spoil(done(1, "a", "ada", "m2")));
    finds(Promise::RightVersion, spoil(done(9, "a", "ada", "m2")));
    finds(Promise::RightVersion, spoil(done(2, "a", "ada", "m1")));
    finds(Promise::RightVersion, spoil(done(2, "b", "ada", "m2")));
    let other = Version { sequence: 2, event: "ffffffff".to_string() };
    finds(Promise::RightVersion, spoil(Answer::Done { status: 200, version: Some(other), seen: None }));
    // If-Match named another version than the one that was overwritten.
    finds(Promise::RightVersion, |operations, _| operations[1].asked = change("a", "m2", None, Some(7)));
}

#[test]
fn a_lie_is_found() {
    // Refused, and written all the same.
    finds(Promise::NoLie, |operations, _| operations[1].answer = Answer::Refused { status: 412 });
    // The name was free.
    finds(Promise::NoLie, |operations, _| operations[2].asked = create("free", "refused"));
    // The resource existed, and had that version.
    finds(Promise::NoLie, |operations, _| operations[3].answer = Answer::Refused { status: 404 });
    finds(Promise::NoLie, |operations, _| operations[4].asked = change("a", "late", None, Some(3)));
    finds(Promise::NoLie, |operations, _| operations[8].asked = Asked::Read { id: "b".to_string() });
}

#[test]
fn members_are_counted() {
    let group = |events: &mut Vec<LogEvent>, times: u64| {
        events.push(LogEvent { resource_type: "Group".into(), ..event(7, "Created", "g", None, Some("g7")) });
        for sequence in 8..8 + times {
            let change = event(sequence, "MembersChanged", "g", None, None);
            events.push(LogEvent { added: vec!["b".to_string()], ..change });
        }
    };
    let add = || Asked::Member { group: "g".to_string(), member: "b".to_string(), add: true };
    let told = Answer::Done { status: 204, version: Some(version(8)), seen: None };
    let made =
        operation(7, Asked::Create { name: None, mark: "g7".to_string() }, Answer::Unknown { status: None });
    let (mut operations, mut events) = good();
    operations.extend([made.clone(), operation(8, add(), told.clone())]);
    group(&mut events, 1);
    assert_eq!(check(&operations, &events, SignedDuration::from_secs(1)), []);
    finds(Promise::NothingTwice, |operations, events| {
        operations.extend([made.clone(), operation(8, add(), told.clone())]);
        group(events, 2);
    });
    finds(Promise::NothingLost, |operations, events| {
        operations.extend([made.clone(), operation(8, add(), told.clone())]);
        group(events, 0);
    });
    let shown = Seen { id: "g".into(), name: None, mark: Some("g7".into()), members: [].into() };
    let shown = Answer::Done { status: 200, version: Some(version(8)), seen: Some(shown) };
    finds(Promise::RightVersion, |operations, events| {
        operations.extend([made, operation(8, add(), shown)]);
        group(events, 1);
    });
}

#[test]
fn strangers_disorder_and_odd_answers_are_found() {
    finds(Promise::NoStranger, |_, events| events.push(event(7, "Updated", "b", None, Some("whose"))));
    finds(Promise::NoStranger, |operations, _| operations[1].answer = Answer::NotSent);
    finds(Promise::InOrder, |operations, _| {
        (operations[0].begun, operations[0].ended) = (at(200), at(201));
    });
    finds(Promise::KnownAnswer, |operations, _| {
        operations[4].answer = Answer::Unexpected { status: 500, text: String::new() };
    });
}
