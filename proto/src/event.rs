//! What happened to people and groups.

use std::collections::BTreeMap;

use jiff::Timestamp;
use scim::{Change, Object, diff};

use crate::subject::Key;
use crate::{Document, EventId, KeyRef, ResourceId, Tenant};

/// One message of the stream IDENTITY, without its sealed part. Holds no person's data.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event's id.
    pub id: EventId,
    /// The tenant.
    pub tenant: Tenant,
    /// The resource type's name.
    pub resource_type: String,
    /// The resource.
    pub resource_id: ResourceId,
    /// The client that wrote.
    pub source: String,
    /// The credential's id.
    pub actor: String,
    /// RFC 9967: one for each request, the same for all it causes.
    pub txn: String,
    /// The gateway's clock; see [`log_time`](crate::log_time) for how far it counts.
    pub occurred_at: Timestamp,
    /// Why, in the operator's words; empty for a client's request.
    pub reason: String,
    /// The data key that seals the body; nothing when there is no body.
    pub key_ref: Option<KeyRef>,
    /// Whether the next message of the log belongs to the same command: readers show the two together or not at all.
    pub continued: bool,
    /// What happened.
    pub kind: Kind,
}

/// The kinds. Never renamed, never reused.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A resource exists from now on.
    Created {
        /// Its first members.
        members_added: Vec<ResourceId>,
    },
    /// A resource's attributes changed, and perhaps its members.
    Updated {
        /// New members.
        members_added: Vec<ResourceId>,
        /// Former members.
        members_removed: Vec<ResourceId>,
    },
    /// A resource is gone.
    Deleted,
    /// Only members changed; such events commute.
    MembersChanged {
        /// New members.
        added: Vec<ResourceId>,
        /// Former members.
        removed: Vec<ResourceId>,
    },
    /// The key is free again: its resource has another. Never touches the resource.
    Moved {
        /// The other key.
        to_key: Key,
    },
    /// A further unique value is taken.
    Claimed {
        /// The attribute.
        attribute: String,
    },
    /// A further unique value is free again.
    Released {
        /// The attribute.
        attribute: String,
    },
    /// Only a credential changed; its value is sealed.
    CredentialsChanged,
    /// The resource's data key is destroyed.
    Erased,
    /// Everything of the tenant is gone.
    TenantDropped,
    /// Stands for a message that nobody can read, and changes nothing. Nobody writes it; readers are given it.
    PassedOver,
}

impl Kind {
    /// New members, and former ones.
    pub fn members(&self) -> (&[ResourceId], &[ResourceId]) {
        match self {
            Self::Created { members_added } => (members_added, &[]),
            Self::Updated { members_added, members_removed } => (members_added, members_removed),
            Self::MembersChanged { added, removed } => (added, removed),
            Self::Deleted
            | Self::Moved { .. }
            | Self::Claimed { .. }
            | Self::Released { .. }
            | Self::CredentialsChanged
            | Self::Erased
            | Self::TenantDropped
            | Self::PassedOver => (&[], &[]),
        }
    }

    /// The kind's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "Created",
            Self::Updated { .. } => "Updated",
            Self::Deleted => "Deleted",
            Self::MembersChanged { .. } => "MembersChanged",
            Self::Moved { .. } => "Moved",
            Self::Claimed { .. } => "Claimed",
            Self::Released { .. } => "Released",
            Self::CredentialsChanged => "CredentialsChanged",
            Self::Erased => "Erased",
            Self::TenantDropped => "TenantDropped",
            Self::PassedOver => "PassedOver",
        }
    }
}

/// The sealed part of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// The document after the change; see [`scim`].
    pub document: Document,
    /// `externalId` by source.
    pub external_ids: BTreeMap<String, String>,
    /// What changed; of a beginning nothing, because the document tells it all: see [`Body::all_changes`].
    pub changes: Vec<Change>,
    /// Where the request came from.
    pub caller_address: String,
    /// Write-only attributes, in `CredentialsChanged` only.
    pub credentials: Object,
}

impl Body {
    /// What the event changed, those of a beginning included. Of a beginning, the `externalId` of the source that wrote
    /// it is `externalId`, as in later changes; that of another is `externalId[SOURCE]`.
    pub fn all_changes(&self, event: &Event) -> Vec<Change> {
        if !self.changes.is_empty() || !matches!(event.kind, Kind::Created { .. }) {
            return self.changes.clone();
        }
        let mut changes = diff(&Object::new(), &self.document);
        for (source, id) in &self.external_ids {
            let is_own = *source == event.source;
            let path = if is_own { "externalId".to_string() } else { format!("externalId[{source}]") };
            let place = changes.partition_point(|other| other.path < path);
            changes.insert(place, Change { path, before: None, after: Some(id.clone().into()) });
        }
        changes
    }
}
