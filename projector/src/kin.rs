//! The groups of a resource, kept beside its document for whoever reads it next.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::directory::{Mark, Slot};

/// More groups than these are looked for each time: what is kept must stay small beside a document.
const GROUPS_MAX: usize = 64;

/// The groups that a resource was in when somebody looked.
#[derive(Debug, Default)]
pub(crate) struct Kin(RwLock<Kept>);

#[derive(Debug, Default)]
pub(crate) struct Kept(Option<(Mark, Box<[Slot]>)>);

impl Kin {
    pub(crate) fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps them, if they are few enough.
    pub(crate) fn keep(&self, mark: Mark, groups: Box<[Slot]>) {
        if groups.len() > GROUPS_MAX {
            return;
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).0 = Some((mark, groups));
    }
}

impl Kept {
    /// The groups, if they are still these.
    pub(crate) fn of(&self, mark: Mark) -> Option<&[Slot]> {
        self.0.as_ref().filter(|(of, _)| *of == mark).map(|(_, groups)| &**groups)
    }
}
