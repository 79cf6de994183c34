//! What a row says about its resource, and where in its text something is put in for readers.

use std::sync::OnceLock;

use bytes::Bytes;
use proto::{Body, ExternalIds, KeyRef};

use crate::cuts::{Cuts, Seams};
use crate::kin::Kin;

/// What a row says. A row never changes, so neither does this.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The document's canonical JSON.
    pub(crate) json: Bytes,
    pub(crate) external_ids: ExternalIds,
    /// The data key that seals the row.
    pub(crate) key_ref: Option<KeyRef>,
    /// Where its text is cut for readers, once one came; nothing when only its tree will do.
    pub(crate) cuts: OnceLock<Option<Cuts>>,
    /// The groups of its resource.
    pub(crate) kin: Kin,
}

impl Content {
    pub(crate) fn of(body: &Body, key_ref: Option<KeyRef>) -> Self {
        let (json, external_ids) = (body.document.json().clone(), body.external_ids.clone().into());
        Self { json, external_ids, key_ref, ..Self::default() }
    }

    /// Where its text is cut for readers; nothing when only its tree will do.
    pub(crate) fn cuts(&self, seams: &Seams) -> Option<&Cuts> {
        self.cuts.get_or_init(|| seams.cuts(&self.json)).as_ref()
    }

    /// About how much memory it takes: always the same, or whoever weighs it would count wrongly.
    pub(crate) fn bytes(&self) -> u64 {
        // What readers add to it is small.
        (480 + self.json.len() + self.external_ids.bytes()) as u64
    }
}
