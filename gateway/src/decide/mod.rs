//! What we permit: from the state and a command to what shall be written, nothing, or a refusal. Pure.

mod create;
mod hidden;
mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eventlog::Guard;
use projector::{KeyState, Stored};
use proto::subject::{Key, key_of_id};
use proto::{Body, Document, Kind, ResourceId};
use scim::validate::{self, Context, Parts};
use scim::{AttrPath, Change, Error, Object, Patch, Registry, ResourceType, ScimType, diff};
use serde_json::Value;

use crate::Limits;
use crate::command::{Caller, Command, Expected};
use crate::policy::{Claimable, Rules};
pub(crate) use create::{is_as_begun, is_met};
use members::Gone;

/// What a decision may look at.
pub(crate) struct State<'a> {
    /// The resource that the command names, if it exists.
    pub(crate) current: Option<&'a Stored>,
    /// For a create: who may already be the one that it asks for.
    pub(crate) rival: Rival<'a>,
    /// What had been applied before both were looked for. The directory may have gone on since.
    pub(crate) looked_at: u64,
    /// The rest of the tenant's directory.
    pub(crate) directory: &'a dyn Directory,
}

impl State<'_> {
    /// What is known of a key that is to be taken. Whoever took it after a rival was looked for may be that rival.
    fn key(&self, key: &Key) -> Result<KeyState, Rejection> {
        let known = self.directory.key(key);
        let was_seen = known.holder.is_none() || known.last <= self.looked_at;
        was_seen.then_some(known).ok_or(Rejection::Overtaken)
    }
}

/// Who may already be the one that a create asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rival<'a> {
    /// Nobody.
    None,
    /// The holder of this attribute's value.
    Holder { stored: &'a Stored, attribute: &'a str, holding: Holding },
    /// Found by a join key, and not yet known to the caller's source.
    Joined(&'a Stored),
    /// Join keys find several.
    Ambiguous,
    /// The former holder of the unique value is gone, and was this source's same person.
    Former(ResourceId),
}

/// What the holder of a value is to the source that asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// What the same request came to a while ago.
    Repeated,
    /// Its own: known to it under the same `externalId`, or made by it where nobody gave one.
    Own,
    /// Somebody else.
    Other,
}

/// Questions about the tenant's directory as it is now.
pub(crate) trait Directory: Sync {
    /// The key of a value of the type's unique attribute.
    fn key_of(&self, value: &str) -> Key;
    /// The key of a value, as it is compared, of a further unique attribute.
    fn claim_key(&self, attribute: &str, compared: &str) -> Key;
    /// The key of what a request makes whose type has no unique attribute, when it makes something for this time.
    fn request_key(&self, request: &str, turn: u8) -> Key;
    /// What is known of a key.
    fn key(&self, key: &Key) -> KeyState;
    /// Whether a resource exists.
    fn exists(&self, id: ResourceId) -> bool;
    /// Whether a resource exists or ever did.
    fn was_there(&self, id: ResourceId) -> bool;
    /// Whether somebody is a member of the resource that is changed.
    fn is_member(&self, member: ResourceId) -> bool;
    /// The members of the resource that is changed.
    fn members(&self) -> Vec<ResourceId>;
    /// The same as clients see them.
    fn members_shown(&self) -> Vec<Value>;
}

/// What follows from a command.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// The state is already as wanted: no message, same version, success.
    Nothing,
    /// This is written.
    Write(Box<Write>),
}

/// One event, or the batch of a rename or of further unique values.
#[derive(Debug, PartialEq)]
pub(crate) struct Write {
    /// The resource.
    pub(crate) id: ResourceId,
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) guard: Guard,
    pub(crate) body: Body,
    /// The old key of a renamed resource, and its guard.
    pub(crate) moved: Option<(Key, u64)>,
    /// Further unique values that are taken.
    pub(crate) claimed: Vec<Claim>,
    /// And those that are free again.
    pub(crate) released: Vec<Claim>,
    /// Whether it rests on more than its guards watch, so that only the latest state will do.
    pub(crate) beyond_guards: bool,
}

/// A further unique value.
#[derive(Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) attribute: String,
    pub(crate) key: Key,
    /// The last sequence on the key's subject.
    pub(crate) last: u64,
}

/// Understood, but not in this state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rejection {
    /// There is no such resource.
    NotFound,
    /// Another resource has the unique value.
    NameTaken { attribute: String },
    /// Several resources may be the one that a create asks for.
    Ambiguous,
    /// If-Match names another version, or If-None-Match this one.
    VersionMismatch,
    /// A member does not exist.
    NoSuchMember { id: String },
    /// The request breaks a rule of the RFCs.
    Invalid(Error),
    /// Somebody came between: look again.
    Overtaken,
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self::Invalid(error)
    }
}

/// What a request is decided under.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) caller: &'a Caller,
    pub(crate) limits: &'a Limits,
    pub(crate) rules: &'a Rules,
}

/// The decision. Existence comes before preconditions, preconditions before the body, the body before conflicts.
pub(crate) fn decide(state: &State<'_>, terms: Terms<'_>, command: &Command) -> Result<Decision, Rejection> {
    match command {
        Command::Create { id, parts } => create::create(state, terms, *id, parts),
        Command::Replace { expected, body, .. } => {
            let current = existing(state, expected)?;
            replace(state, terms, current, body)
        }
        Command::Patch { expected, body, .. } => {
            let current = existing(state, expected)?;
            patch(state, terms, current, !expected.is_any(), body)
        }
        Command::Delete { expected, .. } => {
            let current = existing(state, expected)?;
            let guard = Guard::Last(current.guard);
            Ok(write(current.id, Kind::Deleted, current.key, guard, Body::default()))
        }
    }
}

fn existing<'a>(state: &State<'a>, expected: &Expected) -> Result<&'a Stored, Rejection> {
    let current = state.current.ok_or(Rejection::NotFound)?;
    if expected.holds(current.version) { Ok(current) } else { Err(Rejection::VersionMismatch) }
}

fn write(id: ResourceId, kind: Kind, key: Key, guard: Guard, body: Body) -> Decision {
    let (moved, claimed, released, beyond_guards) = (None, Vec::new(), Vec::new(), false);
    Decision::Write(Box::new(Write { id, kind, key, guard, body, moved, claimed, released, beyond_guards }))
}

fn replace(
    state: &State<'_>,
    terms: Terms<'_>,
    current: &Stored,
    body: &Value,
) -> Result<Decision, Rejection> {
    let context = terms.context;
    known_only(terms, || validate::unknown(context, body))?;
    let keep = |parts: &mut Parts| hidden::keep(context, body, &current.document, parts);
    let mut parts = validate::replace(context, body.clone(), &current.document, keep)?;
    // An omitted `active` never brings back an account that somebody switched off.
    if has(context, "active")
        && !parts.document.contains_key("active")
        && let Some(active) = current.document.get("active")
    {
        Arc::make_mut(&mut parts.document).insert("active".to_string(), active.clone());
    }
    change(state, terms, current, parts, Gone::PassedOver)
}

fn patch(
    state: &State<'_>,
    terms: Terms<'_>,
    current: &Stored,
    guarded: bool,
    body: &Value,
) -> Result<Decision, Rejection> {
    let Terms { context, caller, limits, .. } = terms;
    let operations =
        body.as_object().and_then(|body| body.values().filter_map(Value::as_array).map(Vec::len).max());
    if operations.is_some_and(|operations| operations > limits.patch_operations_max) {
        return Err(too_large(format!("a PATCH may hold {} operations", limits.patch_operations_max)));
    }
    let patch = Patch::parse(context, body.clone(), &limits.filter())?;
    known_only(terms, || patch.unknown(context))?;
    if !guarded
        && has(context, "members")
        && terms.rules.owns.holds(&AttrPath::of("members"))
        && let Some(changes) = patch.member_changes()
    {
        return members::by_value(state, limits, current, &changes);
    }
    let mut full = Object::clone(&current.document);
    if let Some(external_id) = current.external_ids.get(&caller.source) {
        full.insert("externalId".to_string(), external_id.clone().into());
    }
    let touches_members = has(context, "members") && patch.touches_members();
    let beyond_guards = touches_members && members::are_described(&patch);
    if touches_members {
        let members = if beyond_guards {
            state.directory.members_shown()
        } else {
            let ids = state.directory.members();
            ids.iter().map(|id| serde_json::json!({"value": id.to_string()})).collect()
        };
        if !members.is_empty() {
            full.insert("members".to_string(), members.into());
        }
    }
    let changed = patch.apply(context, &current.id.to_string(), full, limits.patch_values_max)?;
    let mut parts = validate::split(context, changed);
    if !touches_members {
        parts.members = None;
    }
    let gone = if patch.takes_members() { Gone::PassedOver } else { Gone::Refused };
    let mut decision = change(state, terms, current, parts, gone)?;
    if let Decision::Write(write) = &mut decision {
        write.beyond_guards |= beyond_guards;
    }
    Ok(decision)
}

/// From the current resource to what it shall be: PUT and PATCH are the same from here.
fn change(
    state: &State<'_>,
    terms: Terms<'_>,
    current: &Stored,
    mut parts: Parts,
    gone: Gone,
) -> Result<Decision, Rejection> {
    let Terms { context, caller, limits, .. } = terms;
    create::mask(terms, &mut parts, Some(current));
    let mut beyond_guards = false;
    let (members_added, members_removed) = match &parts.members {
        Some(wanted) if has(context, "members") => {
            let held: BTreeSet<ResourceId> = state.directory.members().into_iter().collect();
            let known: Vec<String> =
                wanted.iter().filter(|id| !id.parse().is_ok_and(|id| held.contains(&id))).cloned().collect();
            let added = members::all(state, limits, Some(&known), gone)?;
            beyond_guards = added.len() < known.len();
            let kept: BTreeSet<ResourceId> = wanted.iter().filter_map(|id| id.parse().ok()).collect();
            (added, held.difference(&kept).copied().collect())
        }
        Some(_) | None => (Vec::new(), Vec::new()),
    };
    let body = body_of(caller, Some(current), parts);
    if body.changes.is_empty() && members_added.is_empty() && members_removed.is_empty() {
        return Ok(Decision::Nothing);
    }
    let kind = if body.changes.is_empty() {
        Kind::MembersChanged { added: members_added, removed: members_removed }
    } else {
        Kind::Updated { members_added, members_removed }
    };
    if grows(&body.changes) {
        within_size(limits, &body.document)?;
    }
    let (claimed, released) = claims(state, terms, current.id, &current.claims, &body.document)?;
    let wanted = unique_value(context.registry, context.kind, &body.document);
    let named = match &wanted {
        Some((_, value)) => state.directory.key_of(value),
        // The value that it was known by is free for others.
        None if is_known_by_value(state, context, current) => key_of_id(current.id),
        None => current.key,
    };
    let known = (named != current.key).then(|| state.directory.key(&named));
    let (key, guard, moved) = match known {
        None => (current.key, current.guard, None),
        Some(known) if known.holder.is_some_and(|holder| holder != current.id) => {
            // As with further unique values: both had it before.
            if let Some((attribute, _)) = &wanted
                && unique_value(context.registry, context.kind, &current.document) != wanted
            {
                return Err(Rejection::NameTaken { attribute: attribute.clone() });
            }
            (current.key, current.guard, None)
        }
        Some(known) => (named, known.last, Some((current.key, current.guard))),
    };
    let guard = Guard::Last(guard);
    let id = current.id;
    let write = Write { id, kind, key, guard, body, moved, claimed, released, beyond_guards };
    Ok(Decision::Write(Box::new(write)))
}

/// Further unique values that come and go with a document.
fn claims(
    state: &State<'_>,
    terms: Terms<'_>,
    id: ResourceId,
    held: &BTreeMap<String, Key>,
    document: &Object,
) -> Result<(Vec<Claim>, Vec<Claim>), Rejection> {
    let (mut claimed, mut released) = (Vec::new(), Vec::new());
    for Claimable { path, case_exact } in &terms.rules.claims {
        let attribute = path.to_string();
        let key_in = |document: &Object| {
            // An empty text, as templates send it for what nobody filled in, is nobody's.
            let says = |value: &&&Value| value.as_str().is_none_or(|text| !text.trim().is_empty());
            let text = path.values(document).first().filter(says).map(|value| match value {
                Value::String(text) if *case_exact => text.clone(),
                Value::String(text) => scim::fold(text),
                other => other.to_string(),
            });
            text.map(|text| state.directory.claim_key(&attribute, &text))
        };
        let wanted = key_in(document);
        let old = held.get(&attribute);
        // Of a batch that changed the value, its claims may not be applied yet. Nothing guards them but their own subjects, so
        // what the document says is named too: then the write is refused and decided again.
        let now = state.current.and_then(|current| key_in(&current.document));
        let half_applied = now.as_ref() != old;
        // Asked once: whoever takes a key between two questions would lose it under the newer guard.
        let asked = |key: Key| (key, state.directory.key(&key));
        let claim =
            |(key, known): (Key, KeyState)| Claim { attribute: attribute.clone(), key, last: known.last };
        if half_applied {
            let free = |(_, known): &(Key, KeyState)| known.holder.is_none_or(|holder| holder == id);
            let former = now.filter(|key| Some(key) != wanted.as_ref()).map(asked);
            released.extend(former.filter(free).map(claim));
        }
        if wanted.as_ref() == old {
            claimed.extend(wanted.filter(|_| half_applied).map(asked).map(claim));
            continue;
        }
        if let Some(key) = wanted {
            let known = state.key(&key)?;
            if known.holder.is_some_and(|holder| holder != id) {
                // Two may have had it before it was to be unique. It is the other's, and whoever has it too can be changed,
                // and leave, all the same.
                if now == Some(key) {
                    continue;
                }
                return Err(Rejection::NameTaken { attribute });
            }
            claimed.push(claim((key, known)));
        }
        released.extend(old.copied().map(asked).map(claim));
    }
    Ok((claimed, released))
}

/// A resource has its size, whatever small steps it grew in.
fn within_size(limits: &Limits, document: &Document) -> Result<(), Rejection> {
    let length = document.json().len();
    if length > limits.resource_bytes_max {
        return Err(too_large(format!(
            "a resource may have {} bytes, not {length}",
            limits.resource_bytes_max
        )));
    }
    Ok(())
}

/// Whether a document is longer after its changes. Whoever was larger than is permitted today may be changed all the same as
/// long as he does not grow, and above all be switched off: a truth value counts as nothing, though one is longer than the other.
fn grows(changes: &[Change]) -> bool {
    let length = |value: Option<&Value>| match value {
        None | Some(Value::Bool(_)) => 0,
        Some(value) => value.to_string().len(),
    };
    let sum = |side: fn(&Change) -> Option<&Value>| {
        changes.iter().map(|change| length(side(change))).sum::<usize>()
    };
    sum(|change| change.after.as_ref()) > sum(|change| change.before.as_ref())
}

/// Attributes that no schema knows, where the tenant wants to hear of them.
pub(crate) fn known_only(
    terms: Terms<'_>,
    unknown: impl FnOnce() -> Option<String>,
) -> Result<(), Rejection> {
    match terms.rules.refuse_unknown.then(unknown).flatten() {
        Some(name) => {
            let detail = format!("{name} is not an attribute of {}", terms.context.kind.name);
            Err(Error::syntax(detail).into())
        }
        None => Ok(()),
    }
}

fn body_of(caller: &Caller, current: Option<&Stored>, parts: Parts) -> Body {
    let mut external_ids = current.map(|current| (*current.external_ids).clone()).unwrap_or_default();
    match parts.external_id {
        Some(external_id) => external_ids.insert(caller.source.clone(), external_id),
        None => external_ids.remove(&caller.source),
    };
    // Of a beginning the document tells everything.
    let mut changes = current.map(|current| diff(&current.document, &parts.document)).unwrap_or_default();
    let was = current.and_then(|current| current.external_ids.get(&caller.source));
    let is = external_ids.get(&caller.source);
    if current.is_some() && was != is {
        let value = |id: Option<&String>| id.map(|id| Value::String(id.clone()));
        let change = Change { path: "externalId".to_string(), before: value(was), after: value(is) };
        let place = changes.partition_point(|other| other.path < change.path);
        changes.insert(place, change);
    }
    Body { document: parts.document.into(), external_ids, changes, ..Body::default() }
}

/// The value of the type's unique attribute. An empty text is nobody's.
pub(crate) fn unique_value<'a>(
    registry: &Registry,
    kind: &ResourceType,
    document: &'a Object,
) -> Option<(String, &'a str)> {
    let attribute = registry.unique_attribute(kind)?;
    let value = document.get(&attribute.name)?.as_str().filter(|text| !text.trim().is_empty())?;
    Some((attribute.name.clone(), value))
}

/// Whether a resource's key is that of its unique value, even of an empty text, which once was one.
fn is_known_by_value(state: &State<'_>, context: Context<'_>, current: &Stored) -> bool {
    let attribute = context.registry.unique_attribute(context.kind);
    let value = attribute.and_then(|attribute| current.document.get(&attribute.name)?.as_str());
    value.is_some_and(|value| state.directory.key_of(value) == current.key)
}

fn has(context: Context<'_>, attribute: &str) -> bool {
    context.registry.core(context.kind).iter().any(|known| known.name == attribute)
}

fn too_large(detail: String) -> Rejection {
    Rejection::Invalid(Error::status(413, detail))
}

impl Rejection {
    /// What the caller sees.
    pub(crate) fn into_error(self, kind: &str) -> Error {
        match self {
            Self::NotFound => Error::status(404, format!("there is no such {kind}")),
            Self::NameTaken { attribute } => {
                Error::new(ScimType::Uniqueness, format!("another {kind} has this {attribute}"))
            }
            Self::Ambiguous => Error::new(
                ScimType::Uniqueness,
                format!("several resources of type {kind} may be this one; an operator must join them"),
            ),
            Self::VersionMismatch => {
                Error::status(412, "the resource has not the version that If-Match or If-None-Match asks for")
            }
            Self::NoSuchMember { id } => Error::value(format!("members: there is no resource {id:?}")),
            Self::Invalid(error) => error,
            Self::Overtaken => Error::status(503, "others changed the directory meanwhile"),
        }
    }
}

#[cfg(test)]
mod tests;
