//! What a subscriber hears: typed JSON events, derived purely from an event of the log and from the resource's document
//! before and after it, with only the attributes that the feed may show. The catalogue says what each type promises.

use jiff::Timestamp;
use proto::{Body, Event, Kind, ResourceId, Tenant};
use scim::{Object, diff};
use serde_json::{Value, json};

use super::catalogue::{FEED, Verb};
use super::document;
use super::view::View;

/// Members that one event names at most.
pub(super) const MEMBERS_PART: usize = 1_000;

/// One event as a subscriber hears it: CloudEvents in structured form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The same whenever it is derived again.
    pub(super) id: String,
    /// Its type.
    pub(super) kind: String,
    /// The whole of it.
    pub(super) text: String,
}

/// An event of the log, where it stands, and the replay that tells it again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happened<'a> {
    pub(super) event: &'a Event,
    pub(super) body: Option<&'a Body>,
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    pub(super) replay: Option<&'a str>,
}

/// The resource around the event, as far as it is known and needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// Its document before.
    pub(super) before: Option<Object>,
    /// Its document after, where the event does not tell it.
    pub(super) after: Option<Object>,
    /// Its members after, when it enters the scope.
    pub(super) members: Vec<ResourceId>,
}

/// Which documents must be looked up for an event, because it does not tell them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// None.
    Nothing,
    /// The one before the event.
    Before,
    /// The one at the event.
    After,
}

/// What must be looked up.
pub(super) fn lookup(event: &Event, view: &View) -> Lookup {
    let is_chosen = view.chooses(&event.resource_type);
    match &event.kind {
        Kind::Deleted if is_chosen || !view.identity.is_empty() => Lookup::Before,
        Kind::MembersChanged { .. } if is_chosen => Lookup::After,
        Kind::Deleted | Kind::MembersChanged { .. } | Kind::Created { .. } | Kind::Updated { .. } => {
            Lookup::Nothing
        }
        Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased
        | Kind::TenantDropped
        | Kind::PassedOver => Lookup::Nothing,
    }
}

/// The document before an update, which the event tells by its changes.
pub(super) fn before_update(event: &Event, body: Option<&Body>) -> Option<Object> {
    match &event.kind {
        Kind::Updated { .. } => body.map(|body| document::before(&body.document, &body.changes)),
        Kind::Created { .. }
        | Kind::Deleted
        | Kind::MembersChanged { .. }
        | Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased
        | Kind::TenantDropped
        | Kind::PassedOver => None,
    }
}

/// Whether the resource was in scope before the event, and is after it. Only an update moves a resource in or out;
/// whoever comes or goes altogether is created or deleted.
pub(super) fn scope(happened: &Happened<'_>, around: &Around, view: &View) -> (bool, bool) {
    let selects = |document: Option<&Object>| view.selects(&happened.event.resource_type, document);
    let told = happened.body.map(|body| &*body.document);
    match &happened.event.kind {
        Kind::Created { .. } => (selects(told), selects(told)),
        Kind::Updated { .. } => (selects(around.before.as_ref()), selects(told)),
        Kind::MembersChanged { .. } => (selects(around.after.as_ref()), selects(around.after.as_ref())),
        Kind::Deleted => (selects(around.before.as_ref()), selects(around.before.as_ref())),
        Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased
        | Kind::TenantDropped
        | Kind::PassedOver => (true, true),
    }
}

/// What is told of an event of the log.
pub(super) fn of(happened: &Happened<'_>, around: &Around, view: &View) -> Vec<Told> {
    let noun = noun(&happened.event.resource_type);
    let (told, mark) = match scope(happened, around, view) {
        (false, false) => return Vec::new(),
        (false, true) => (entered(happened, around, view), "scope."),
        (true, false) => (vec![(Verb::ScopeLeft, identity(around, view))], "scope."),
        (true, true) => (changed(happened, around, view), ""),
    };
    let id = |index: usize| format!("{}.{mark}{index}", happened.event.id);
    let told = told.into_iter().enumerate().map(|(index, (verb, data))| (id(index), verb, data));
    told.filter(|(_, verb, _)| view.wants(&verb.of(&noun)))
        .map(|(id, verb, data)| log_event(happened, id, verb, data))
        .collect()
}

/// A resource whose document the feed shows from now on, with its members.
fn entered(happened: &Happened<'_>, around: &Around, view: &View) -> Vec<(Verb, Object)> {
    let shown = attributes(happened.body, view);
    parts(&around.members)
        .into_iter()
        .map(|part| (Verb::ScopeEntered, joined([shown.clone(), part])))
        .collect()
}

/// What happened to a resource that is in scope.
fn changed(happened: &Happened<'_>, around: &Around, view: &View) -> Vec<(Verb, Object)> {
    let body = happened.body;
    let members = |verb, ids: &[ResourceId]| {
        ids.iter().map(|id| (verb, one("member", id.to_string()))).collect::<Vec<_>>()
    };
    let mut told = Vec::new();
    match &happened.event.kind {
        Kind::Created { members_added } => {
            told.push((Verb::Created, attributes(body, view)));
            told.extend(members(Verb::MemberAdded, members_added));
        }
        Kind::Updated { members_added, members_removed } => {
            told.extend(updated(body, around, view));
            told.extend(members(Verb::MemberRemoved, members_removed));
            told.extend(members(Verb::MemberAdded, members_added));
        }
        Kind::MembersChanged { added, removed } => {
            told.extend(members(Verb::MemberRemoved, removed));
            told.extend(members(Verb::MemberAdded, added));
        }
        Kind::Deleted => told.push((Verb::Deleted, identity(around, view))),
        Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased
        | Kind::TenantDropped
        | Kind::PassedOver => {}
    }
    told
}

fn updated(body: Option<&Body>, around: &Around, view: &View) -> Vec<(Verb, Object)> {
    let changes = body.map(|body| body.changes.as_slice()).unwrap_or_default();
    let active = changes.iter().find(|change| change.path == "active");
    let mut told = Vec::new();
    match active.map(|change| change.after == Some(json!(true))) {
        Some(true) => told.push((Verb::Reactivated, attributes(body, view))),
        Some(false) => told.push((Verb::Deactivated, attributes(body, view))),
        None => {}
    }
    if active.is_none() || changes.len() > 1 {
        let shown = |document: Option<&Object>| {
            document.map(|document| view.attributes.of(document)).unwrap_or_default()
        };
        let (old, new) = (shown(around.before.as_ref()), shown(body.map(|body| &*body.document)));
        let paths: Vec<String> = diff(&old, &new).into_iter().map(|change| change.path).collect();
        told.push((Verb::Updated, joined([attributes(body, view), one("changed", paths)])));
    }
    told
}

fn attributes(body: Option<&Body>, view: &View) -> Object {
    one("attributes", body.map(|body| view.attributes.of(&body.document)).unwrap_or_default())
}

/// By what the subscriber may know a resource that it does not hear of any more.
fn identity(around: &Around, view: &View) -> Object {
    if view.identity.is_empty() {
        return Object::new();
    }
    one("identity", around.before.as_ref().map(|before| view.identity.of(before)).unwrap_or_default())
}

/// A resource in a snapshot. `members` is nothing for a type that has none.
pub(super) struct Snapshotted<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) snapshot: &'a str,
    pub(super) position: u64,
    pub(super) time: Timestamp,
    pub(super) resource_type: &'a str,
    pub(super) id: ResourceId,
    pub(super) document: &'a Object,
    pub(super) members: &'a [ResourceId],
}

/// What a snapshot tells of a resource.
pub(super) fn of_snapshot(resource: &Snapshotted<'_>, view: &View) -> Vec<Told> {
    let noun = noun(resource.resource_type);
    let kind = Verb::Snapshot.of(&noun);
    if !view.wants(&kind) || !view.selects(resource.resource_type, Some(resource.document)) {
        return Vec::new();
    }
    let data = joined([
        one("id", resource.id.to_string()),
        one("resourceType", resource.resource_type),
        one("snapshot", resource.snapshot),
        one("attributes", view.attributes.of(resource.document)),
    ]);
    let told = parts(resource.members).into_iter().enumerate().map(|(index, part)| {
        let id = format!("{}.{}.{index}", resource.snapshot, resource.id);
        let about = About {
            tenant: resource.tenant,
            subject: format!("{}/{}", resource.resource_type, resource.id),
            time: resource.time,
            sequence: resource.position,
            replay: None,
        };
        cloud_event(&about, id, Verb::Snapshot, &noun, joined([data.clone(), part]))
    });
    told.collect()
}

/// A snapshot's end: from `position` on the feed goes on as it does always.
pub(super) fn of_snapshot_end(
    tenant: &Tenant,
    feed: &str,
    snapshot: &str,
    position: u64,
    time: Timestamp,
) -> Told {
    let data = joined([one("feed", feed), one("snapshot", snapshot), one("position", position)]);
    let about = About { tenant, subject: format!("{FEED}/{feed}"), time, sequence: position, replay: None };
    cloud_event(&about, format!("{snapshot}.completed"), Verb::SnapshotCompleted, FEED, data)
}

/// A replay's end.
pub(super) fn of_replay_end(
    tenant: &Tenant,
    feed: &str,
    replay: &str,
    (first, last): (u64, u64),
    time: Timestamp,
) -> Told {
    let data = joined([one("feed", feed), one("replay", replay), one("from", first), one("to", last)]);
    let subject = format!("{FEED}/{feed}");
    let about = About { tenant, subject, time, sequence: last, replay: Some(replay) };
    cloud_event(&about, format!("{replay}.completed"), Verb::ReplayCompleted, FEED, data)
}

fn log_event(happened: &Happened<'_>, id: String, verb: Verb, data: Object) -> Told {
    let Happened { event, sequence, time, replay, .. } = *happened;
    let subject = format!("{}/{}", event.resource_type, event.resource_id);
    let about = About { tenant: &event.tenant, subject, time, sequence, replay };
    let data = joined([
        data,
        one("id", event.resource_id.to_string()),
        one("resourceType", event.resource_type.as_str()),
        one("txn", event.txn.as_str()),
    ]);
    cloud_event(&about, id, verb, &noun(&event.resource_type), data)
}

/// What the envelope says.
struct About<'a> {
    tenant: &'a Tenant,
    subject: String,
    time: Timestamp,
    sequence: u64,
    replay: Option<&'a str>,
}

fn cloud_event(about: &About<'_>, id: String, verb: Verb, noun: &str, data: Object) -> Told {
    let kind = verb.of(noun);
    let mut told = json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("/t/{}", about.tenant),
        "type": kind,
        "subject": about.subject,
        "time": about.time.to_string(),
        "datacontenttype": "application/json",
        "dataschema": verb.schema(),
        "sequence": about.sequence.to_string(),
        "data": data,
    });
    if let (Some(replay), Some(told)) = (about.replay, told.as_object_mut()) {
        told.insert("replay".to_string(), true.into());
        told.insert("replayid".to_string(), replay.into());
    }
    Told { id, kind, text: told.to_string() }
}

/// A resource type as types of events name it.
fn noun(resource_type: &str) -> String {
    resource_type.to_ascii_lowercase()
}

/// Members by so many an event; of nobody one part that says nothing.
fn parts(members: &[ResourceId]) -> Vec<Object> {
    if members.is_empty() {
        return vec![Object::new()];
    }
    let parts = members.len().div_ceil(MEMBERS_PART);
    let part = |(index, ids): (usize, &[ResourceId])| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        joined([one("members", ids), one("part", index + 1), one("parts", parts)])
    };
    members.chunks(MEMBERS_PART).enumerate().map(part).collect()
}

fn one(name: &str, value: impl Into<Value>) -> Object {
    [(name.to_string(), value.into())].into_iter().collect()
}

fn joined<const COUNT: usize>(objects: [Object; COUNT]) -> Object {
    objects.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
