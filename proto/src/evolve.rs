//! What an event means for a resource: the fold that every projection must agree with.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{Body, Document, Event, Kind, Position, ResourceId};

/// Where and when an event stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The place.
    pub position: Position,
    /// Log time: never before that of an earlier sequence.
    pub time: Timestamp,
}

/// A resource as its events make it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The id.
    pub id: ResourceId,
    /// The resource type's name.
    pub resource_type: String,
    /// The document.
    pub document: Document,
    /// `externalId` by source.
    pub external_ids: BTreeMap<String, String>,
    /// Members that were added and not removed; whether each is alive is another resource's matter.
    pub members: BTreeSet<ResourceId>,
    /// Its first event.
    pub created: At,
    /// The last event that changed what a client reads.
    pub modified: At,
}

/// The resource after the event. Total: the past has happened and cannot be refused. An event of another resource, or
/// one whose resource is gone, changes nothing.
pub fn evolve(current: Option<Resource>, event: &Event, body: Option<&Body>, at: At) -> Option<Resource> {
    if current.as_ref().is_some_and(|resource| resource.id != event.resource_id) {
        return current;
    }
    match (current, &event.kind) {
        (None, Kind::Created { members_added }) => {
            let body = body.cloned().unwrap_or_default();
            Some(Resource {
                id: event.resource_id,
                resource_type: event.resource_type.clone(),
                document: body.document,
                external_ids: body.external_ids,
                members: members_added.iter().copied().collect(),
                created: at,
                modified: at,
            })
        }
        (Some(mut resource), Kind::Updated { members_added, members_removed }) => {
            if let Some(body) = body {
                resource.document.clone_from(&body.document);
                resource.external_ids.clone_from(&body.external_ids);
            }
            change_members(&mut resource.members, members_added, members_removed);
            resource.modified = at;
            Some(resource)
        }
        (Some(mut resource), Kind::MembersChanged { added, removed }) => {
            if change_members(&mut resource.members, added, removed) {
                resource.modified = at;
            }
            Some(resource)
        }
        (Some(_) | None, Kind::Deleted | Kind::TenantDropped) => None,
        (
            current,
            Kind::Moved { .. }
            | Kind::Claimed { .. }
            | Kind::Released { .. }
            | Kind::CredentialsChanged
            | Kind::Erased
            | Kind::PassedOver,
        ) => current,
        (None, Kind::Updated { .. } | Kind::MembersChanged { .. }) => None,
        (Some(resource), Kind::Created { .. }) => Some(resource),
    }
}

fn change_members(members: &mut BTreeSet<ResourceId>, added: &[ResourceId], removed: &[ResourceId]) -> bool {
    let mut changed = false;
    for id in removed {
        changed |= members.remove(id);
    }
    for id in added {
        changed |= members.insert(*id);
    }
    changed
}
