//! What the directory keeps of a resource besides its values, its edges and its events.

use proto::{ResourceId, Version};

use super::versions::Number;
use crate::table::plain_struct;

/// A resource, by slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceRow {
    pub(crate) id: [u8; 16],
    /// The resource type's number.
    pub(crate) kind: u8,
    /// The number of its key.
    pub(crate) key: Number,
    /// Its first event.
    pub(crate) created: Number,
    /// Its last event.
    pub(crate) last: Number,
    /// The last event, its own or another's, that changed what a client reads of it.
    pub(crate) modified: Number,
    /// The event that ended it.
    pub(crate) ended: Number,
    /// The last event at which it left a group, or a group of it ended: what is derived for it changed then.
    pub(crate) unlinked: Number,
    /// The last of its touches.
    pub(crate) touched: Number,
}

plain_struct!(ResourceRow {
    id: [u8; 16],
    kind: u8,
    key: u32,
    created: u32,
    last: u32,
    modified: u32,
    ended: u32,
    unlinked: u32,
    touched: u32,
});

impl ResourceRow {
    pub(crate) fn is_at(&self, at: Number) -> bool {
        self.created <= at && at < self.ended
    }
}

/// Another's event that changed what a client reads of a resource: a member of the group is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub(crate) at: Number,
    pub(crate) slot: Number,
    /// The touch of the same resource before it.
    pub(crate) previous: Number,
}

plain_struct!(Touch { at: u32, slot: u32, previous: u32 });

/// A resource as it is at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) id: ResourceId,
    /// The resource type's number.
    pub(crate) kind: u8,
    /// The sequence of the event that holds its document.
    pub(crate) row: u64,
    pub(crate) created_ms: i64,
    pub(crate) modified_ms: i64,
    pub(crate) version: Version,
}
