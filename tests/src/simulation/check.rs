//! What must be true afterwards, of the log and of what clients were told. Each violation is a sentence.

use std::collections::BTreeMap;

use http::Method;
use proto::{Kind, Resource, ResourceId};
use serde_json::Value;

use super::client::{Asked, Dialogue, Told};
use super::history::{History, State, text, version};

/// Unique attributes are unique at every sequence, and nobody is made or ended twice.
pub fn uniqueness(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for (sequence, state) in history.states.iter().enumerate() {
        for attribute in ["userName", "nickName"] {
            let mut seen: BTreeMap<String, ResourceId> = BTreeMap::new();
            for (id, resource) in state {
                let Some(value) = text(resource, attribute) else { continue };
                if let Some(other) = seen.insert(scim::fold(value), *id) {
                    wrong.push(format!("at {sequence}, {id} and {other} have the {attribute} {value}"));
                }
            }
        }
    }
    let mut counts: BTreeMap<(ResourceId, &str), u64> = BTreeMap::new();
    for entry in &history.entries {
        if matches!(entry.event.kind, Kind::Created { .. } | Kind::Deleted) {
            *counts.entry((entry.event.resource_id, entry.event.kind.name())).or_default() += 1;
        }
    }
    let twice = counts.into_iter().filter(|(_, count)| *count > 1);
    wrong.extend(twice.map(|((id, kind), count)| format!("{id}: {kind} stands in the log {count} times")));
    wrong.truncate(5);
    wrong
}

/// What each client was told agrees with the log.
pub fn dialogues(history: &History, dialogues: &[Dialogue]) -> Vec<String> {
    let mut wrong = Vec::new();
    for dialogue in dialogues {
        if let Err(sentence) = one(history, dialogue) {
            let Dialogue { asked, since, until, told, through, .. } = dialogue;
            let Asked { method, path, body, .. } = asked;
            wrong.push(format!(
                "{sentence}: {method} {path} {body} through {through:?} while the log went from {since} to {until}, told {told:?}"
            ));
        }
    }
    wrong.extend(own_writes(history, dialogues));
    wrong
}

fn one(history: &History, dialogue: &Dialogue) -> Result<(), String> {
    let (asked, window) = (&dialogue.asked, dialogue.since..=dialogue.until);
    let marked = asked.wish.marker.as_ref().map(|(attribute, marker)| history.beginnings(attribute, marker));
    let times = marked.as_ref().map_or(0, Vec::len);
    let id: Option<ResourceId> = asked.path.split('/').nth(2).and_then(|id| id.parse().ok());
    let ever = |holds: &dyn Fn(&State) -> bool| window.clone().any(|sequence| holds(history.at(sequence)));
    let fail = |sentence: &str| Err(sentence.to_string());
    match &dialogue.told {
        Told::Nothing | Told::Answer(500..=599, ..) => {
            if times > 1 {
                return fail("a write of unknown outcome stands in the log more than once");
            }
            match &dialogue.told {
                Told::Answer(status, ..) if *status != 503 => fail("an error of ours"),
                _ => Ok(()),
            }
        }
        Told::Answer(200..=299, ..) if asked.method == Method::DELETE => {
            let ended = window.clone().skip(1).any(|sequence| {
                let entry = history.entry(sequence);
                entry.is_some_and(|entry| {
                    entry.event.kind == Kind::Deleted && Some(entry.event.resource_id) == id
                })
            });
            if ended { Ok(()) } else { fail("an acknowledged deletion does not stand in the log") }
        }
        Told::Answer(200..=299, tag, body) => {
            let id = id.or_else(|| body["id"].as_str()?.parse().ok()).ok_or("no id")?;
            let sequence = at_version(history, id, tag.as_deref(), body)?;
            if asked.method == Method::GET {
                return Ok(());
            }
            if sequence > dialogue.until {
                return fail("its version is from the future");
            }
            if let Some(marked) = marked {
                let [stands] = marked.as_slice() else {
                    return Err(format!("an acknowledged write stands in the log {times} times"));
                };
                if !(dialogue.since < *stands && *stands <= sequence) {
                    return Err(format!(
                        "an acknowledged write stands at {stands}, its version names {sequence}"
                    ));
                }
                // Alone in that stretch, it is what the version names.
                let others = (*stands + 1..=sequence).filter_map(|sequence| history.entry(sequence));
                let touched = others
                    .into_iter()
                    .any(|entry| entry.event.resource_id == id || matches!(entry.event.kind, Kind::Deleted));
                if sequence != *stands && !touched {
                    return Err(format!(
                        "an acknowledged write stands at {stands}, its version names {sequence}"
                    ));
                }
            }
            if ever(&|state| state.get(&id).is_some_and(|resource| fulfilled(resource, dialogue, state))) {
                Ok(())
            } else {
                fail("a success that was never true")
            }
        }
        Told::Answer(status, ..) => {
            if times > 0 {
                return fail("a refused write stands in the log");
            }
            let there = |state: &State| id.is_none_or(|id| state.contains_key(&id));
            let justified = match status {
                404 => ever(&|state| !there(state)),
                412 => ever(&|state| {
                    let now = id.and_then(|id| state.get(&id)).map(|resource| version(resource));
                    now.is_none_or(|now| !now.is(asked.expected.as_deref().unwrap_or_default()))
                }),
                409 => ever(&|state| taken(state, id, dialogue)),
                400 => ever(&|state| {
                    asked.wish.members.iter().any(|(member, joins)| {
                        *joins && !member.parse().is_ok_and(|id| state.contains_key(&id))
                    })
                }),
                _ => false,
            };
            if justified { Ok(()) } else { fail("a refusal that was never true") }
        }
    }
}

/// The sequence that a version names, and that the answer shows the resource as it was then.
fn at_version(history: &History, id: ResourceId, tag: Option<&str>, body: &Value) -> Result<u64, String> {
    let tag = tag.ok_or("an answer without a version")?;
    let number = tag.trim_start_matches("W/\"").split('-').next().unwrap_or_default();
    let sequence: u64 = number.parse().map_err(|_| "a version that is none")?;
    let found = history.at(sequence).get(&id).ok_or(format!("nobody is there at {sequence}"))?;
    if !version(found).is(tag) {
        return Err(format!("the log has another version, {}", version(found)));
    }
    if body.is_object() && plain(body) != Value::Object(scim::Object::clone(&found.document)) {
        return Err(format!(
            "the answer is not what the log says at {sequence}: {}",
            Value::Object(scim::Object::clone(&found.document))
        ));
    }
    Ok(sequence)
}

/// A representation without what is derived.
pub fn plain(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(object) = body.as_object_mut() {
        for derived in ["id", "meta", "schemas", "members", "groups", "externalId"] {
            object.remove(derived);
        }
    }
    body
}

fn fulfilled(resource: &Resource, dialogue: &Dialogue, state: &State) -> bool {
    let wish = &dialogue.asked.wish;
    let is = |attribute: &str, wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| text(resource, attribute) == Some(wanted))
    };
    let active = || resource.document.get("active").and_then(Value::as_bool);
    let members = wish.members.iter().all(|(member, joins)| {
        let id: Option<ResourceId> = member.parse().ok();
        let there = id.is_some_and(|id| resource.members.contains(&id));
        // Who is gone is in no group.
        there == *joins || id.is_some_and(|id| !state.contains_key(&id))
    });
    is("userName", &wish.name)
        && is("nickName", &wish.nickname)
        && wish.active.is_none_or(|wanted| active() == Some(wanted))
        && members
}

fn taken(state: &State, id: Option<ResourceId>, dialogue: &Dialogue) -> bool {
    let wish = &dialogue.asked.wish;
    let has = |resource: &Resource, attribute: &str, wanted: &Option<String>| match (
        wanted,
        text(resource, attribute),
    ) {
        (Some(wanted), Some(found)) => scim::fold(wanted) == scim::fold(found),
        _ => false,
    };
    state.iter().any(|(other, resource)| {
        Some(*other) != id
            && (has(resource, "userName", &wish.name) || has(resource, "nickName", &wish.nickname))
    })
}

/// Whoever was told of a write through a gateway sees it, or a later state, through the same gateway.
fn own_writes(history: &History, dialogues: &[Dialogue]) -> Vec<String> {
    let sequence = |tag: &Option<String>| -> Option<u64> {
        tag.as_ref()?.trim_start_matches("W/\"").split('-').next()?.parse().ok()
    };
    let mut wrong = Vec::new();
    for read in dialogues.iter().filter(|dialogue| dialogue.asked.method == Method::GET) {
        let id = read.asked.path.split('/').nth(2).unwrap_or_default();
        for write in dialogues {
            let Told::Answer(200..=299, tag, body) = &write.told else { continue };
            let same = write.through == read.through
                && write.order.1 < read.order.0
                && (write.asked.path.contains(id) || body["id"] == id);
            if !same {
                continue;
            }
            let fine = match &read.told {
                Told::Answer(200, seen, _) => {
                    write.asked.method != Method::DELETE && sequence(seen) >= sequence(tag)
                }
                Told::Answer(404, ..) => {
                    id.parse().is_ok_and(|id: ResourceId| !history.at(read.until).contains_key(&id))
                }
                Told::Answer(..) | Told::Nothing => true,
            };
            if !fine {
                wrong.push(format!("a gateway does not show its own write: {write:?} then {read:?}"));
            }
        }
    }
    wrong
}
