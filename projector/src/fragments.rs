//! Texts that were written of resources, kept for the next reader: many are in the same groups, and how a link to one of
//! them reads changes only with that group.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashTable;

use crate::directory::{Number, Slot, mix};

/// So much text is kept. When it is full it begins anew, which costs each its writing once.
const BYTES_MAX: usize = 16 << 20;

/// Of one directory.
#[derive(Debug, Default)]
pub(crate) struct Fragments(RwLock<Kept>);

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    places: HashTable<Fragment>,
    /// One behind the other.
    text: Vec<u8>,
}

/// Where a text stands.
#[derive(Debug)]
struct Fragment {
    slot: Slot,
    /// The change of its resource as of which it was written.
    modified: Number,
    from: usize,
    /// Where it is cut, for what only its reader knows.
    cut: usize,
    to: usize,
}

/// A text, before and behind its cut.
pub(crate) type Halves<'a> = (&'a [u8], &'a [u8]);

/// One to be kept.
pub(crate) struct New {
    pub(crate) slot: Slot,
    pub(crate) modified: Number,
    pub(crate) before: Vec<u8>,
    pub(crate) behind: Vec<u8>,
}

impl Fragments {
    /// What is kept, for one reader who looks for several.
    pub(crate) fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps texts, in place of older ones of the same resources.
    pub(crate) fn keep(&self, new: &[New]) {
        if new.is_empty() {
            return;
        }
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        new.iter().for_each(|new| kept.put(new));
    }

    /// Leaves nothing of any text.
    pub(crate) fn wipe(&mut self) {
        let kept = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
    }
}

impl Kept {
    /// The text of a resource as of its last change.
    pub(crate) fn find(&self, slot: Slot, modified: Number) -> Option<Halves<'_>> {
        let same = |known: &Fragment| known.slot == slot;
        let known = self.places.find(mix(slot.into()), same).filter(|known| known.modified == modified)?;
        Some((self.text.get(known.from..known.cut)?, self.text.get(known.cut..known.to)?))
    }

    fn put(&mut self, new: &New) {
        if self.text.len() + new.before.len() + new.behind.len() > BYTES_MAX {
            self.clear();
        }
        let from = self.text.len();
        self.text.extend_from_slice(&new.before);
        let cut = self.text.len();
        self.text.extend_from_slice(&new.behind);
        let fragment = Fragment { slot: new.slot, modified: new.modified, from, cut, to: self.text.len() };
        match self.places.find_mut(mix(new.slot.into()), |known| known.slot == new.slot) {
            Some(known) => *known = fragment,
            None => {
                self.places.insert_unique(mix(new.slot.into()), fragment, |known| mix(known.slot.into()));
            }
        }
    }

    /// Zeros stay where texts were: what is cleared may be wiped later.
    fn clear(&mut self) {
        self.places.clear();
        self.text.fill(0);
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(slot: Slot, modified: Number) -> New {
        New { slot, modified, before: format!("{slot}<").into_bytes(), behind: vec![b'>'; 1_000] }
    }

    #[test]
    fn a_text_is_found_until_its_resource_changes() {
        let fragments = Fragments::default();
        fragments.keep(&(0..1_000).map(|slot| new(slot, 7)).collect::<Vec<_>>());
        let found = |slot, modified| {
            fragments.kept().find(slot, modified).map(|(before, behind)| (before.to_vec(), behind.to_vec()))
        };
        assert_eq!(found(999, 7), Some((b"999<".to_vec(), vec![b'>'; 1_000])));
        assert_eq!((found(999, 8), found(1_000, 7)), (None, None));
        fragments.keep(&[new(999, 8)]);
        assert!(found(999, 8).is_some() && found(999, 7).is_none() && found(998, 7).is_some());
    }

    #[test]
    fn it_begins_anew_when_it_is_full_and_leaves_nothing_when_it_is_wiped() {
        let mut fragments = Fragments::default();
        for slot in 0..20_000 {
            fragments.keep(&[new(slot, 0)]);
        }
        let kept = fragments.kept();
        assert!(kept.text.len() <= BYTES_MAX && kept.find(19_999, 0).is_some() && kept.find(0, 0).is_none());
        drop(kept);
        fragments.wipe();
        let kept = fragments.kept();
        assert!(kept.text.is_empty() && kept.find(19_999, 0).is_none());
    }
}
