//! To whom links lead, which can be a million: they are read in pieces, between which others have their turn, and all as of one
//! moment.

use proto::{ResourceId, Tenant};

use crate::directory::{Directory, Number, Slot};
use crate::{Moment, Projection};

/// Links that are read while nobody can change the directory.
const PIECE: usize = 1_000;

/// The others at the ends of one resource's links.
pub(crate) struct Linked<T> {
    others: Vec<T>,
    of: (Slot, ResourceId),
    at: Number,
}

impl<T> Linked<T> {
    /// These, which a resource at this place is linked to at a moment.
    pub(crate) fn new(directory: &Directory, slot: Slot, at: Number, others: Vec<T>) -> Option<Self> {
        Some(Self { others, of: (slot, directory.id(slot)?), at: directory.moment_that_stays(at) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.others.is_empty()
    }

    /// Whether they are read at once, so that it costs nobody anything.
    pub(crate) fn is_one_piece(&self) -> bool {
        self.others.len() <= PIECE
    }

    pub(crate) fn others(&self) -> &[T] {
        &self.others
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment(self.at)
    }

    /// Whether places are still those of the same: not where the tenant was dropped meanwhile.
    fn is_known_to(&self, directory: &Directory) -> bool {
        let (slot, id) = self.of;
        directory.rows() > self.at as usize && directory.id(slot) == Some(id)
    }
}

impl Projection {
    /// Reads all of them, a piece at a time; whether that could be done to the end.
    pub(crate) fn in_pieces<T>(
        &self,
        tenant: &Tenant,
        linked: &Linked<T>,
        mut read: impl FnMut(&Directory, &[T]),
    ) -> bool {
        linked.others.chunks(PIECE).all(|piece| {
            let done = self.with(tenant, |directory| {
                let is_known = linked.is_known_to(directory);
                if is_known {
                    read(directory, piece);
                }
                is_known
            });
            done.unwrap_or_default()
        })
    }
}
