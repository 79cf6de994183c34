//! A POST: somebody new, somebody who returns, the same request again, or somebody whom another source made.

use std::collections::BTreeMap;
use std::sync::Arc;

use eventlog::Guard;
use projector::Stored;
use proto::subject::{Key, key_of_id};
use proto::{Body, Kind, ResourceId};
use scim::validate::{self, Context, Parts};
use scim::{AttrPath, Dialect, Error, Object, Patch, Quirk};
use serde_json::{Value, json};

use super::{
    Decision, Gone, Holding, Rejection, Rival, State, Terms, Write, body_of, change, claims, has, hidden,
    members, unique_value, within_size,
};

/// So many that the same request made are told from one another; further ones are made without looking.
const TURNS_MAX: u8 = 16;

pub(super) fn create(
    state: &State<'_>,
    terms: Terms<'_>,
    id: ResourceId,
    parts: &Parts,
) -> Result<Decision, Rejection> {
    match state.rival {
        Rival::Holder { holding: Holding::Repeated, .. } => {
            terms.context.speech.note(Quirk::CreateRepeated);
            Ok(Decision::Nothing)
        }
        Rival::Holder { stored, holding: Holding::Own, .. } if is_switched_off(terms, stored) => {
            terms.context.speech.note(Quirk::CreateReturns);
            change(state, terms, stored, returning(terms, stored, parts)?, Gone::Refused)
        }
        Rival::Holder { attribute, .. } => Err(Rejection::NameTaken { attribute: attribute.to_string() }),
        Rival::Joined(stored) => {
            let mut joined = joined(terms, stored, parts)?;
            joined.members = parts.members.as_ref().map(|named| {
                let held = state.directory.members().into_iter().map(|id| id.to_string());
                held.chain(named.iter().cloned()).collect()
            });
            match change(state, terms, stored, joined, Gone::Refused)? {
                Decision::Nothing => Ok(Decision::Nothing),
                written => {
                    metrics::counter!("rollcall_joined_total").increment(1);
                    Ok(written)
                }
            }
        }
        Rival::Ambiguous => Err(Rejection::Ambiguous),
        Rival::Former(former) => {
            terms.context.speech.note(Quirk::CreateAfterDelete);
            fresh(state, terms, former, parts.clone())
        }
        Rival::None => fresh(state, terms, id, parts.clone()),
    }
}

/// Nobody is there yet.
fn fresh(
    state: &State<'_>,
    terms: Terms<'_>,
    id: ResourceId,
    mut parts: Parts,
) -> Result<Decision, Rejection> {
    // RFC 7643 leaves open what an absent `active` means; a new account may be used, unless somebody said that it may not,
    // whether or not that was his to say.
    let active = parts.document.get("active") != Some(&Value::Bool(false));
    mask(terms, &mut parts, None);
    if has(terms.context, "active") && !parts.document.contains_key("active") {
        Arc::make_mut(&mut parts.document).insert("active".to_string(), active.into());
    }
    let members_added = members::all(state, terms.limits, parts.members.as_deref(), Gone::Refused)?;
    let body = body_of(terms.caller, None, parts);
    within_size(terms.limits, &body.document)?;
    let (key, guard) = match unique_value(terms.context.registry, terms.context.kind, &body.document) {
        None => turn(state, terms, &body)?.unwrap_or((key_of_id(id), 0)),
        Some((attribute, value)) => {
            let key = state.directory.key_of(value);
            let known = state.key(&key)?;
            if known.holder.is_some() {
                return Err(Rejection::NameTaken { attribute });
            }
            (key, known.last)
        }
    };
    let (claimed, released) = claims(state, terms, id, &BTreeMap::new(), &body.document)?;
    let (kind, guard) = (Kind::Created { members_added }, Guard::Last(guard));
    let (moved, beyond_guards) = (None, false);
    let write = Write { id, kind, key, guard, body, moved, claimed, released, beyond_guards };
    Ok(Decision::Write(Box::new(write)))
}

/// Of a type without a unique attribute: the key that the same request at the same moment takes too, so that one of them is
/// refused and finds what the other made, and its guard. Nothing where a request that is repeated makes another one.
fn turn(state: &State<'_>, terms: Terms<'_>, body: &Body) -> Result<Option<(Key, u64)>, Rejection> {
    if terms.rules.called.is_none() {
        return Ok(None);
    }
    let source = &terms.caller.source;
    let external_id = body.external_ids.get(source).map(String::as_str).unwrap_or_default();
    let document = String::from_utf8_lossy(body.document.json());
    let request = [source, external_id, &document].join("\0");
    for turn in 0..TURNS_MAX {
        let key = state.directory.request_key(&request, turn);
        let known = state.key(&key)?;
        if known.holder.is_none() {
            return Ok(Some((key, known.last)));
        }
    }
    Ok(None)
}

/// Whether somebody was switched off who comes back when he is asked for again.
fn is_switched_off(terms: Terms<'_>, stored: &Stored) -> bool {
    terms.rules.reactivate && stored.document.get("active") == Some(&Value::Bool(false))
}

/// The same resource, active, with what is said of it now, as by a PUT: what cannot change is as it was, and what nobody was
/// shown stays.
fn returning(terms: Terms<'_>, stored: &Stored, parts: &Parts) -> Result<Parts, Error> {
    let mut said = parts.clone();
    restrict(terms, &mut said, Some(stored));
    let mut body = Object::clone(&said.document);
    body.insert("active".to_string(), true.into());
    body.insert("schemas".to_string(), vec![terms.context.kind.schema.clone()].into());
    let body = Value::from(body);
    let context = quietly(terms);
    let keep = |parts: &mut Parts| hidden::keep(context, &body, &stored.document, parts);
    let put = validate::replace(context, body.clone(), &stored.document, keep)?;
    Ok(Parts { external_id: said.external_id, members: None, ..put })
}

/// The resource that another source made, with what this source adds, as by a PATCH, members aside; nothing is cleared.
fn joined(terms: Terms<'_>, stored: &Stored, parts: &Parts) -> Result<Parts, Error> {
    let mut said = parts.clone();
    restrict(terms, &mut said, Some(stored));
    let operation = json!({"op": "add", "value": Object::clone(&said.document)});
    let body = json!({"schemas": [Patch::SCHEMA], "Operations": [operation]});
    let context = quietly(terms);
    let patch = Patch::parse(context, body, &terms.limits.filter())?;
    let (id, values_max) = (stored.id.to_string(), terms.limits.patch_values_max);
    let full = patch.apply(context, &id, Object::clone(&stored.document), values_max)?;
    let added = validate::split(context, full);
    Ok(Parts { external_id: said.external_id, members: None, ..added })
}

/// What was read before is as the RFCs have it, and none of it is a quirk of the client's once more.
fn quietly(terms: Terms<'_>) -> Context<'_> {
    Context { speech: Dialect::Rfc.into(), ..terms.context }
}

/// Whether all that a POST asks for is so already, as far as its source may write it.
pub(crate) fn is_met(terms: Terms<'_>, stored: &Stored, parts: &Parts) -> bool {
    let Ok(mut wanted) = joined(terms, stored, parts) else { return false };
    if has(terms.context, "active") && !parts.document.contains_key("active") {
        Arc::make_mut(&mut wanted.document).insert("active".to_string(), true.into());
    }
    restrict(terms, &mut wanted, Some(stored));
    *wanted.document == *stored.document
}

/// Whether a POST is the one that a resource began with. Who was switched off since is not what was asked for.
pub(crate) fn is_as_begun(terms: Terms<'_>, stored: &Stored, beginning: &Object, parts: &Parts) -> bool {
    let mut wanted = parts.clone();
    restrict(terms, &mut wanted, None);
    let document = Arc::make_mut(&mut wanted.document);
    if let Some(active) = beginning.get("active") {
        document.entry("active").or_insert_with(|| active.clone());
    }
    stored.document.get("active") == document.get("active") && beginning == document
}

/// What another source owns stays as it is; of a new resource it is left out, unless it is required.
pub(super) fn mask(terms: Terms<'_>, parts: &mut Parts, current: Option<&Stored>) {
    let ignored = restrict(terms, parts, current);
    if ignored > 0 {
        metrics::counter!("rollcall_unowned_attributes_total", "source" => terms.caller.source.clone())
            .increment(ignored);
    }
}

/// The same; how many attributes stay as they are.
fn restrict(terms: Terms<'_>, parts: &mut Parts, current: Option<&Stored>) -> u64 {
    if matches!(terms.rules.owns, crate::policy::Ownership::All) {
        return 0;
    }
    let registry = terms.context.registry;
    let empty = Object::new();
    let old = current.map_or(&empty, |current| &current.document);
    let mut ignored = 0;
    let document = Arc::make_mut(&mut parts.document);
    for attribute in registry.core(terms.context.kind) {
        let required = attribute.required && current.is_none();
        let path = AttrPath::of(&attribute.name);
        ignored += u64::from(!required && restore(terms, &path, &attribute.name, document, old));
    }
    for schema in registry.extensions(terms.context.kind) {
        let old = old.get(&schema.id).and_then(Value::as_object).unwrap_or(&empty);
        let mut members = match document.remove(&schema.id) {
            Some(Value::Object(members)) => members,
            Some(_) | None => Object::new(),
        };
        for attribute in &schema.attributes {
            let path =
                AttrPath { schema: Some(schema.id.clone()), name: Some(attribute.name.clone()), sub: None };
            ignored += u64::from(restore(terms, &path, &attribute.name, &mut members, old));
        }
        if !members.is_empty() {
            document.insert(schema.id.clone(), members.into());
        }
    }
    if parts.members.is_some() && !terms.rules.owns.holds(&AttrPath::of("members")) {
        parts.members = None;
        ignored += 1;
    }
    ignored
}

/// Whether a value was put back because the source may not write it.
fn restore(terms: Terms<'_>, path: &AttrPath, name: &str, new: &mut Object, old: &Object) -> bool {
    if terms.rules.owns.holds(path) || new.get(name) == old.get(name) {
        return false;
    }
    match old.get(name) {
        Some(value) => new.insert(name.to_string(), value.clone()),
        None => new.remove(name),
    };
    true
}
