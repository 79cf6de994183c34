//! What a row says about its resource, and where in its text something is put in for readers.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proto::{Body, KeyRef};

use crate::cuts::{Cuts, Seams};
use crate::kin::Kin;
use crate::shown_ids::ShownIds;

/// What a row says. A row never changes, so neither does this.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The document's canonical JSON.
    pub(crate) json: Bytes,
    pub(crate) external_ids: Arc<BTreeMap<String, String>>,
    /// The data key that seals the row.
    pub(crate) key_ref: Option<KeyRef>,
    /// Where its text is cut for readers, once one came; nothing when only its tree will do.
    pub(crate) cuts: OnceLock<Option<Cuts>>,
    /// `externalId` by source, as it is shown, once a reader came.
    pub(crate) shown_ids: OnceLock<ShownIds>,
    /// The groups of its resource.
    pub(crate) kin: Kin,
}

impl Content {
    pub(crate) fn of(body: &Body, key_ref: Option<KeyRef>) -> Self {
        let (json, external_ids) = (body.document.json().clone(), Arc::new(body.external_ids.clone()));
        Self { json, external_ids, key_ref, ..Self::default() }
    }

    /// Where its text is cut for readers; nothing when only its tree will do.
    pub(crate) fn cuts(&self, seams: &Seams) -> Option<&Cuts> {
        self.cuts.get_or_init(|| seams.cuts(&self.json)).as_ref()
    }

    /// `externalId` of a source, as it stands between the quotes of JSON.
    pub(crate) fn shown_id(&self, source: &str) -> Option<&[u8]> {
        self.shown_ids.get_or_init(|| ShownIds::of(&self.external_ids)).get(source)
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> u64 {
        // Readers keep them once more, as they are shown.
        let external = self.external_ids.iter().map(|(source, id)| 104 + 2 * (source.len() + id.len()));
        // What else a reader adds to it is small.
        (480 + self.json.len() + external.sum::<usize>()) as u64
    }
}
