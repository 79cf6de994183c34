//! The checker.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Answer, Asked, Operation, Promise, Seen, Violation};
use crate::fold::{Fold, LogEvent, Version, compared};

/// What the log says about everything that was asked.
#[derive(Default)]
struct Found {
    violations: Vec<Violation>,
    /// The events of a mark: sequence, resource, and the version that the resource had before.
    marks: BTreeMap<String, Vec<(u64, String, Option<Version>)>>,
    /// The deletions of a resource.
    deletions: BTreeMap<String, Vec<Timestamp>>,
    /// How often a member came to a group (true) and went (false).
    members: BTreeMap<(String, String, bool), u64>,
    /// Who held a name, from when to when.
    held: BTreeMap<String, Vec<(String, Timestamp, Option<Timestamp>)>>,
    /// When a resource got which version.
    versions: BTreeMap<String, Vec<(u64, Timestamp)>>,
}

impl Found {
    fn add(&mut self, promise: Promise, text: String) {
        self.violations.push(Violation { promise, text });
    }
}

/// Compares; an empty list is the wish. `slack` is how long before an answer the state that it names may have ended: a
/// broker's timestamp is of the moment when a message is proposed, not of the moment when it is agreed on.
pub fn check(operations: &[Operation], events: &[LogEvent], slack: SignedDuration) -> Vec<Violation> {
    let mut found = fold(operations, events);
    for operation in operations {
        one(&mut found, operation, slack);
    }
    strangers(&mut found, operations);
    deletions_and_members(&mut found, operations);
    order(&mut found, operations);
    found.violations
}

/// An answer, the version that it names, and what it shows.
type Named<'a> = (&'a Operation, &'a Version, Option<&'a Seen>);

/// Goes through the log once, and at each version looks at the answers that named it.
fn fold(operations: &[Operation], events: &[LogEvent]) -> Found {
    let mut found = Found::default();
    let mut named: BTreeMap<u64, Vec<Named<'_>>> = BTreeMap::new();
    for operation in operations {
        if let Answer::Done { version: Some(version), seen, .. } = &operation.answer {
            named.entry(version.sequence).or_default().push((operation, version, seen.as_ref()));
        }
    }
    let mut fold = Fold::default();
    let mut last = 0;
    for event in events {
        if event.sequence <= last {
            found.add(Promise::NothingTwice, format!("sequence {} comes after {last}", event.sequence));
        }
        last = event.sequence;
        let id = &event.resource_id;
        let before = fold.resources.get(id).cloned();
        if let Some(mark) = &event.mark {
            let version = before.as_ref().map(|before| before.version.clone());
            found.marks.entry(mark.clone()).or_default().push((event.sequence, id.clone(), version));
        }
        for (ids, add) in [(&event.added, true), (&event.removed, false)] {
            for member in ids {
                *found.members.entry((id.clone(), member.clone(), add)).or_default() += 1;
            }
        }
        if event.kind == "Deleted" {
            found.deletions.entry(id.clone()).or_default().push(event.time);
        }
        if let Some(clash) = fold.apply(event) {
            let [first, second] = &clash.holders;
            let text =
                format!("at {} {second} takes the name {} that {first} holds", clash.sequence, clash.name);
            found.add(Promise::OneHolder, text);
        }
        let after = fold.resources.get(id);
        let (old, new) = (
            before.and_then(|before| before.name).map(|name| compared(&name)),
            after.and_then(|after| after.name.as_deref()).map(compared),
        );
        if old != new {
            if let Some(held) = old.and_then(|old| found.held.get_mut(&old))
                && let Some(own) = held.iter_mut().rev().find(|(holder, _, _)| holder == id)
            {
                own.2 = Some(event.time);
            }
            if let Some(new) = new {
                found.held.entry(new).or_default().push((id.clone(), event.time, None));
            }
        }
        for id in &fold.changed {
            found.versions.entry(id.clone()).or_default().push((event.sequence, event.time));
        }
        for (operation, version, seen) in named.remove(&event.sequence).unwrap_or_default() {
            if let Some(text) = differs(&fold, operation, version, seen) {
                found.add(Promise::RightVersion, text);
            }
        }
    }
    for (operation, version, _) in named.into_values().flatten() {
        let text = format!("{} is in no event of the log: {operation:?}", version.tag());
        found.add(Promise::RightVersion, text);
    }
    found
}

/// How an answer differs from the log at the answer's version.
fn differs(fold: &Fold, operation: &Operation, version: &Version, seen: Option<&Seen>) -> Option<String> {
    let id = match (&operation.asked, seen) {
        (_, Some(seen)) => &seen.id,
        (
            Asked::Change { id, .. }
            | Asked::Delete { id }
            | Asked::Read { id }
            | Asked::Member { group: id, .. },
            None,
        ) => id,
        (Asked::Create { .. }, None) => return Some(format!("a create without a body: {operation:?}")),
    };
    let at = version.sequence;
    let Some(resource) = fold.resources.get(id) else {
        return Some(format!("at {at} there is no {id}: {operation:?}"));
    };
    if resource.version != *version {
        return Some(format!("at {at} {id} has the version {}: {operation:?}", resource.version.tag()));
    }
    let seen = seen?;
    let same = seen.name == resource.name && seen.mark == resource.mark && seen.members == resource.members;
    (!same).then(|| format!("at {at} {id} is {resource:?}: {operation:?}"))
}

fn one(found: &mut Found, operation: &Operation, slack: SignedDuration) {
    let mark = match &operation.asked {
        Asked::Create { mark, .. } | Asked::Change { mark, .. } => Some(mark),
        Asked::Delete { .. } | Asked::Member { .. } | Asked::Read { .. } => None,
    };
    let stands = mark.and_then(|mark| found.marks.get(mark)).cloned().unwrap_or_default();
    if stands.len() > 1 {
        let places: Vec<u64> = stands.iter().map(|(sequence, _, _)| *sequence).collect();
        found.add(Promise::NothingTwice, format!("stands at {places:?}: {operation:?}"));
    }
    match &operation.answer {
        Answer::Done { version, seen, .. } => {
            if let (Some(_), Some((sequence, id, before))) = (mark, stands.first()) {
                done(found, operation, (*sequence, id, before.as_ref()), version.as_ref(), seen.as_ref());
            } else if mark.is_some() {
                found.add(Promise::NothingLost, format!("acknowledged, and not in the log: {operation:?}"));
            }
            match (&operation.asked, seen) {
                (Asked::Member { member, add, .. }, Some(seen)) if seen.members.contains(member) != *add => {
                    found.add(Promise::NothingLost, format!("acknowledged, and not shown: {operation:?}"));
                }
                _ => {}
            }
        }
        Answer::Refused { status } => {
            if !stands.is_empty() {
                found.add(Promise::NoLie, format!("refused, and stands in the log: {operation:?}"));
            }
            if let Some(text) = unfounded(found, operation, *status, slack) {
                found.add(Promise::NoLie, format!("{text}: {operation:?}"));
            }
        }
        Answer::NotSent if !stands.is_empty() => {
            found.add(Promise::NoStranger, format!("was never sent, and stands in the log: {operation:?}"));
        }
        Answer::Unexpected { .. } => found.add(Promise::KnownAnswer, format!("{operation:?}")),
        Answer::NotSent | Answer::Unknown { .. } => {}
    }
}

/// A write that was acknowledged and stands in the log.
fn done(
    found: &mut Found,
    operation: &Operation,
    (sequence, id, before): (u64, &String, Option<&Version>),
    version: Option<&Version>,
    seen: Option<&Seen>,
) {
    if seen.is_some_and(|seen| seen.id != *id) {
        found.add(Promise::RightVersion, format!("the log has it for {id}: {operation:?}"));
    }
    // Somebody else's later change may be in the answer too, never an earlier state.
    if version.is_none_or(|version| version.sequence < sequence) {
        found.add(Promise::RightVersion, format!("stands at {sequence}: {operation:?}"));
    }
    if let Asked::Change { id: asked, expected, .. } = &operation.asked {
        if asked != id {
            found.add(Promise::RightVersion, format!("changed {id} at {sequence}: {operation:?}"));
        }
        if expected.as_ref().is_some_and(|expected| Some(expected) != before) {
            let text = format!("was written at {sequence} over {before:?}: {operation:?}");
            found.add(Promise::RightVersion, text);
        }
    }
}

/// Why a refusal was not true at any moment between question and answer.
fn unfounded(found: &Found, operation: &Operation, status: u16, slack: SignedDuration) -> Option<String> {
    let (from, to) = (operation.begun - slack, operation.ended + SignedDuration::from_millis(50));
    let gone = |id: &String| {
        found.deletions.get(id).is_some_and(|deletions| deletions.iter().any(|time| *time <= to))
    };
    match (&operation.asked, status) {
        (Asked::Create { name: Some(name), .. }, 409) | (Asked::Change { name: Some(name), .. }, 409) => {
            let own = match &operation.asked {
                Asked::Change { id, .. } => Some(id),
                _ => None,
            };
            let held = found.held.get(&compared(name)).is_some_and(|held| {
                held.iter().any(|(holder, since, until)| {
                    Some(holder) != own && *since <= to && until.is_none_or(|until| until >= from)
                })
            });
            (!held).then(|| "nobody else had the name then".to_string())
        }
        (Asked::Change { id, .. } | Asked::Delete { id } | Asked::Read { id }, 404) => {
            (!gone(id)).then(|| "it was not gone then".to_string())
        }
        (Asked::Change { id, expected: Some(expected), .. }, 412) => {
            let versions = found.versions.get(id).map(Vec::as_slice).unwrap_or_default();
            let newer = versions.iter().any(|(sequence, time)| *sequence > expected.sequence && *time <= to);
            (!newer).then(|| "it had that version then".to_string())
        }
        (Asked::Member { member, .. }, 400) => (!gone(member)).then(|| "the member existed".to_string()),
        _ => Some("no reason for such a refusal is known".to_string()),
    }
}

/// Events with a mark that nobody sent.
fn strangers(found: &mut Found, operations: &[Operation]) {
    let sent: BTreeSet<&String> = operations
        .iter()
        .filter_map(|operation| match &operation.asked {
            Asked::Create { mark, .. } | Asked::Change { mark, .. } => Some(mark),
            Asked::Delete { .. } | Asked::Member { .. } | Asked::Read { .. } => None,
        })
        .collect();
    let strange: Vec<String> = found.marks.keys().filter(|mark| !sent.contains(mark)).cloned().collect();
    for mark in strange {
        found.add(Promise::NoStranger, format!("nobody wrote {mark}"));
    }
}

/// What carries no mark is counted: at least as often as acknowledged, at most as often as sent.
fn deletions_and_members(found: &mut Found, operations: &[Operation]) {
    let mut wanted: BTreeMap<(String, String, bool), (u64, u64)> = BTreeMap::new();
    for operation in operations {
        let key = match &operation.asked {
            Asked::Delete { id } => (id.clone(), String::new(), false),
            Asked::Member { group, member, add } => (group.clone(), member.clone(), *add),
            Asked::Create { .. } | Asked::Change { .. } | Asked::Read { .. } => continue,
        };
        let (least, most) = wanted.entry(key).or_default();
        match &operation.answer {
            Answer::Done { .. } => (*least, *most) = (*least + 1, *most + 1),
            Answer::Unknown { .. } | Answer::Unexpected { .. } => *most += 1,
            Answer::Refused { .. } | Answer::NotSent => {}
        }
    }
    let mut counted = std::mem::take(&mut found.members);
    for (id, times) in &found.deletions {
        counted.insert((id.clone(), String::new(), false), times.len() as u64);
    }
    for key in counted.keys() {
        wanted.entry(key.clone()).or_default();
    }
    for (key, (least, most)) in wanted {
        let stands = counted.get(&key).copied().unwrap_or_default();
        let (id, member, add) = &key;
        let what = match (member.is_empty(), add) {
            (true, _) => format!("the deletion of {id}"),
            (false, true) => format!("{member} comes to {id}"),
            (false, false) => format!("{member} leaves {id}"),
        };
        if stands < least {
            found.add(
                Promise::NothingLost,
                format!("{what}: acknowledged {least} times, stands {stands} times"),
            );
        } else if stands > most {
            found.add(Promise::NothingTwice, format!("{what}: sent {most} times, stands {stands} times"));
        }
    }
}

/// The log is one order for all: what began after another's acknowledgement stands after it.
fn order(found: &mut Found, operations: &[Operation]) {
    let mut marked: Vec<(&Operation, u64)> = Vec::new();
    for operation in operations {
        let (Asked::Create { mark, .. } | Asked::Change { mark, .. }) = &operation.asked else { continue };
        if let Some((sequence, _, _)) = found.marks.get(mark).and_then(|stands| stands.first()) {
            marked.push((operation, *sequence));
        }
    }
    let mut told: Vec<(Timestamp, u64)> = marked
        .iter()
        .filter(|(operation, _)| matches!(operation.answer, Answer::Done { .. }))
        .map(|(operation, sequence)| (operation.ended, *sequence))
        .collect();
    told.sort();
    marked.sort_by_key(|(operation, _)| operation.begun);
    let (mut highest, mut next) = (0, told.into_iter().peekable());
    for (operation, sequence) in marked {
        while let Some((_, earlier)) = next.next_if(|(ended, _)| *ended < operation.begun) {
            highest = highest.max(earlier);
        }
        if sequence < highest {
            let text = format!(
                "stands at {sequence}, before {highest}, which was acknowledged first: {operation:?}"
            );
            found.add(Promise::InOrder, text);
        }
    }
}
