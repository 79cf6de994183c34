//! What rows say that were asked for lately, so that they are not fetched and unsealed for every reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use proto::Kind;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::content::Content;

/// So much of it, one in how many parts, is left before it counts as full.
const SPARE: u64 = 8;

/// Contents by sequence, bounded by their size.
pub(crate) struct Hot {
    contents: Cache<u64, Arc<Content>, Size>,
    /// How often it was cleared: what was read before must not stay afterwards.
    cleared: AtomicU64,
    /// Which rows of pages were read lately and not kept.
    passed: Box<[AtomicU32]>,
}

impl Hot {
    pub(crate) fn new(bytes: u64) -> Self {
        // The number of places is a guess that the cache corrects; a kilobyte is a usual document.
        let places = usize::try_from(bytes / 1024).unwrap_or(usize::MAX).clamp(64, 1 << 20);
        let contents = Cache::with_weighter(places, bytes, Size);
        Self {
            contents,
            cleared: AtomicU64::new(0),
            passed: (0..places).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Arc<Content>> {
        self.contents.get(&sequence)
    }

    /// The same without counting as use: a long scan is no reason to keep anything.
    pub(crate) fn peek(&self, sequence: u64) -> Option<Arc<Content>> {
        self.contents.peek(&sequence)
    }

    /// What [`Hot::put`] must be told, asked before the content is read.
    pub(crate) fn cleared(&self) -> u64 {
        self.cleared.load(Ordering::SeqCst)
    }

    pub(crate) fn put(&self, sequence: u64, content: Arc<Content>, cleared: u64) {
        self.contents.insert(sequence, content);
        if self.cleared() != cleared {
            self.contents.remove(&sequence);
        }
    }

    /// Whether there is room without somebody going for it.
    pub(crate) fn has_room(&self) -> bool {
        let capacity = self.contents.capacity();
        self.contents.weight() + capacity / SPARE < capacity
    }

    /// Whether a row that is read with the others of a page was so lately, so that it is worth more than what would go for
    /// it: who pages through a directory asks for everybody, and for nobody twice. What lies between is a guess.
    pub(crate) fn comes_again(&self, sequence: u64) -> bool {
        let places = self.passed.len() as u64;
        let (round, place) = (sequence / places, sequence % places);
        // Never zero, which says that nobody passed.
        let mark = u32::try_from(round % u64::from(u32::MAX)).unwrap_or_default() + 1;
        let passed = usize::try_from(place).ok().and_then(|place| self.passed.get(place));
        passed.is_some_and(|passed| passed.swap(mark, Ordering::Relaxed) == mark)
    }

    fn clear(&self) {
        self.cleared.fetch_add(1, Ordering::SeqCst);
        self.contents.clear();
    }

    /// Learns from an event that was just applied: whoever wrote it will read it next, unless it is one of a history that
    /// is read. What was erased must not stay.
    pub(crate) fn learn(&self, sequence: u64, kind: &Kind, content: Option<&Arc<Content>>, is_history: bool) {
        match (kind, content) {
            (Kind::Erased | Kind::TenantDropped, _) => self.clear(),
            (Kind::Created { .. } | Kind::Updated { .. }, Some(content)) if !is_history => {
                self.put(sequence, content.clone(), self.cleared());
            }
            (_, _) => {}
        }
    }
}

#[derive(Clone)]
struct Size;

impl Weighter<u64, Arc<Content>> for Size {
    fn weight(&self, _: &u64, content: &Arc<Content>) -> u64 {
        content.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_somebody_was_erased_does_not_stay() {
        let hot = Hot::new(200_000);
        let cleared = hot.cleared();
        hot.put(1, Arc::default(), cleared);
        assert!(hot.get(1).is_some());
        hot.clear();
        hot.put(2, Arc::default(), cleared);
        assert!(hot.get(1).is_none() && hot.get(2).is_none());
    }

    #[test]
    fn a_history_that_is_read_is_not_kept_but_its_erasures_count() {
        let hot = Hot::new(200_000);
        let (created, content) = (Kind::Created { members_added: Vec::new() }, Arc::default());
        hot.learn(1, &created, Some(&content), false);
        hot.learn(2, &created, Some(&content), true);
        assert!(hot.get(1).is_some() && hot.get(2).is_none());
        hot.learn(3, &Kind::Erased, None, true);
        assert!(hot.get(1).is_none());
    }

    #[test]
    fn rows_of_a_page_come_again_when_they_passed_lately() {
        let hot = Hot::new(200_000);
        assert!((1..150).all(|sequence| !hot.comes_again(sequence)));
        assert!((1..150).all(|sequence| hot.comes_again(sequence)));
        // Others, which take the same places.
        assert!((1_951..2_100).all(|sequence| !hot.comes_again(sequence)));
        assert!((1..150).all(|sequence| !hot.comes_again(sequence)));
        assert!(!hot.comes_again(u64::MAX) && hot.comes_again(u64::MAX));
    }

    #[test]
    fn there_is_room_until_it_is_full() {
        let hot = Hot::new(200_000);
        let mut kept = 0;
        while hot.has_room() {
            hot.put(kept, Arc::new(Content { json: vec![b'x'; 1_000].into(), ..Content::default() }), 0);
            kept += 1;
            assert!(kept < 10_000, "it is never full");
        }
        assert!(kept > 100, "{kept}");
    }

    #[test]
    fn it_holds_what_fits() {
        let hot = Hot::new(200_000);
        for sequence in 0..1_000 {
            hot.put(sequence, Arc::new(Content { json: vec![b'x'; 1_000].into(), ..Content::default() }), 0);
        }
        let held = (0..1_000).filter(|sequence| hot.get(*sequence).is_some()).count();
        assert!((50..200).contains(&held), "{held}");
    }
}
