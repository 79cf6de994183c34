//! A resource as it stands in the directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proto::subject::Key;
use proto::{Document, ExternalIds, KeyRef, ResourceId, Version};

use crate::content::Content;
use crate::directory::{Directory, Number, Seen, Slot};

/// A resource as it stands in the directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The id.
    pub id: ResourceId,
    /// The sequence of the event that holds its document.
    pub row: u64,
    /// The resource type's name.
    pub resource_type: String,
    /// The document.
    pub document: Document,
    /// `externalId` by source.
    pub external_ids: ExternalIds,
    /// Log time of its first event.
    pub created: Timestamp,
    /// Log time of the last event that changed what a client reads.
    pub last_modified: Timestamp,
    /// That event.
    pub version: Version,
    /// Its key.
    pub key: Key,
    /// The last sequence on its key's subject.
    pub guard: u64,
    /// The data key that seals its events.
    pub key_ref: Option<KeyRef>,
    /// The keys of its further unique values, by attribute.
    pub claims: BTreeMap<String, Key>,
    /// Where the document's text is cut.
    pub cuts: Cut,
}

/// Where a document's text is cut for readers, where the resource stands and how many members it has; the default is found
/// out when it is needed.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    pub(crate) content: Option<Arc<Content>>,
    pub(crate) slot: Option<Slot>,
    pub(crate) members: usize,
}

impl Stored {
    /// How many members it had when it was read from the directory.
    pub fn member_count(&self) -> usize {
        self.cuts.members
    }
}

impl PartialEq for Cut {
    /// It follows from the document and the id.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A resource that is gone, as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Former {
    /// The id.
    pub id: ResourceId,
    /// Log time of its end.
    pub deleted: Timestamp,
    /// `externalId` by source.
    pub external_ids: BTreeMap<String, String>,
}

/// A resource without what its row says.
pub(crate) struct Outline {
    pub(crate) seen: Seen,
    slot: Slot,
    members: usize,
    resource_type: String,
    key: Key,
    guard: u64,
    claims: BTreeMap<String, Key>,
}

impl Outline {
    pub(crate) fn of(directory: &Directory, slot: Slot, at: Number) -> Option<Self> {
        let seen = directory.seen(slot, at)?;
        let (key, guard) = directory.key_of(slot)?;
        let resource_type = directory.kind_name(seen.kind).to_string();
        let (members, claims) = (directory.edges().member_count(slot), directory.claims_of(slot));
        Some(Self { seen, slot, members, resource_type, key, guard, claims })
    }

    /// With what its row says; `shared` is that content where it is shared.
    pub(crate) fn filled(self, content: &Content, shared: Option<Arc<Content>>) -> Stored {
        let time = |ms| Timestamp::from_millisecond(ms).unwrap_or_default();
        Stored {
            id: self.seen.id,
            row: self.seen.row,
            resource_type: self.resource_type,
            // The text is shared with whoever reads the same row; a tree, where one is made, is this reader's own.
            document: Document::of_json(content.json.clone()),
            external_ids: content.external_ids.clone(),
            created: time(self.seen.created_ms),
            last_modified: time(self.seen.modified_ms),
            version: self.seen.version,
            key: self.key,
            guard: self.guard,
            key_ref: content.key_ref,
            claims: self.claims,
            cuts: Cut { content: shared, slot: Some(self.slot), members: self.members },
        }
    }
}
