//! Who shall be a member.

use std::collections::{BTreeMap, BTreeSet};

use eventlog::Guard;
use projector::Stored;
use proto::{Body, Kind, ResourceId};
use scim::{Error, MemberChange, Patch};

use super::{Decision, Rejection, State, too_large, write};
use crate::Limits;

/// What becomes of a member who is named and was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Whoever asks for him is told that there is no such resource.
    Refused,
    /// He is left out, as if he had been deleted right after. So it is wherever somebody else may be taken out: a source that
    /// has not heard yet that another one deleted a person sends its lists with him, and whoever leaves must not stay for that.
    PassedOver,
}

/// Whether a PATCH asks more of a member than who it is. All else that is shown of it is what another resource is like.
pub(super) fn are_described(patch: &Patch) -> bool {
    let mut named = BTreeSet::new();
    for operation in patch.operations.iter().filter(|operation| operation.path.attr.is("members")) {
        if let Some(filter) = &operation.path.filter {
            filter.roots(&mut named);
        }
    }
    named.iter().any(|name| name != "value")
}

/// Members by explicit value, and nothing else: such changes commute, so they need no guard. But then nobody sees to it
/// that those who are where they shall be already are still there when it is written.
pub(super) fn by_value(
    state: &State<'_>,
    limits: &Limits,
    current: &Stored,
    changes: &[MemberChange],
) -> Result<Decision, Rejection> {
    within(limits, changes.len())?;
    let takes = changes.iter().any(|change| matches!(change, MemberChange::Remove(_)));
    let gone = if takes { Gone::PassedOver } else { Gone::Refused };
    let mut passed_over = false;
    // In the order of the request; of several words about one the last holds.
    let mut wanted: Vec<(ResourceId, bool)> = Vec::with_capacity(changes.len());
    let mut places: BTreeMap<ResourceId, usize> = BTreeMap::new();
    for change in changes {
        let (id, joins) = match change {
            MemberChange::Add(text) => match one(state, text, gone)? {
                Some(id) => (id, true),
                None => {
                    passed_over = true;
                    continue;
                }
            },
            MemberChange::Remove(text) => match text.parse() {
                Ok(id) => (id, false),
                // Whoever is no resource is no member either: removing it again is no mistake.
                Err(_) => continue,
            },
        };
        let place = *places.entry(id).or_insert(wanted.len());
        match wanted.get_mut(place) {
            Some(known) => known.1 = joins,
            None => wanted.push((id, joins)),
        }
    }
    let named = wanted.len();
    wanted.retain(|(id, joins)| state.directory.is_member(*id) != *joins);
    if wanted.is_empty() {
        return Ok(Decision::Nothing);
    }
    let beyond_guards = passed_over || wanted.len() < named;
    let of = |joins: bool| wanted.iter().filter(|one| one.1 == joins).map(|one| one.0).collect();
    let kind = Kind::MembersChanged { added: of(true), removed: of(false) };
    let mut decision = write(current.id, kind, current.key, Guard::None, Body::default());
    if let Decision::Write(write) = &mut decision {
        write.beyond_guards = beyond_guards;
    }
    Ok(decision)
}

/// Those who are named, who must exist, or have existed where who is gone is passed over.
pub(super) fn all(
    state: &State<'_>,
    limits: &Limits,
    ids: Option<&[String]>,
    gone: Gone,
) -> Result<Vec<ResourceId>, Rejection> {
    let ids = ids.unwrap_or_default();
    within(limits, ids.len())?;
    ids.iter().filter_map(|id| one(state, id, gone).transpose()).collect()
}

/// Who is named; nothing when he is gone and passed over.
fn one(state: &State<'_>, text: &str, gone: Gone) -> Result<Option<ResourceId>, Rejection> {
    match text.parse() {
        Ok(id) if state.current.is_some_and(|current| current.id == id) => {
            Err(Error::value("members: nobody is a member of itself").into())
        }
        Ok(id) if state.directory.exists(id) => Ok(Some(id)),
        Ok(id) if gone == Gone::PassedOver && state.directory.was_there(id) => Ok(None),
        Ok(_) | Err(_) => Err(Rejection::NoSuchMember { id: text.chars().take(64).collect() }),
    }
}

fn within(limits: &Limits, members: usize) -> Result<(), Rejection> {
    if members > limits.members_max {
        return Err(too_large(format!("a request may name {} members", limits.members_max)));
    }
    Ok(())
}
