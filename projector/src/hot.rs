//! What rows say that were asked for lately, so that they are not fetched and unsealed for every reader.

use std::sync::Arc;

use proto::Kind;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::content::Content;
use crate::row::ReadRow;

/// Contents by sequence, bounded by their size.
pub(crate) struct Hot(Cache<u64, Arc<Content>, Size>);

impl Hot {
    pub(crate) fn new(bytes: u64) -> Self {
        // The number of places is a guess that the cache corrects; a kilobyte is a usual document.
        let places = usize::try_from(bytes / 1024).unwrap_or(usize::MAX).clamp(64, 1 << 20);
        Self(Cache::with_weighter(places, bytes, Size))
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Arc<Content>> {
        self.0.get(&sequence)
    }

    /// The same without counting as use: a long scan is no reason to keep anything.
    pub(crate) fn peek(&self, sequence: u64) -> Option<Arc<Content>> {
        self.0.peek(&sequence)
    }

    pub(crate) fn put(&self, sequence: u64, content: Arc<Content>) {
        self.0.insert(sequence, content);
    }

    /// Learns from an event that was just applied: whoever wrote it will read it next. What was erased must not stay.
    pub(crate) fn learn(&self, read: &ReadRow) {
        match (&read.event.kind, &read.content) {
            (Kind::Erased | Kind::TenantDropped, _) => self.0.clear(),
            (Kind::Created { .. } | Kind::Updated { .. }, Some(content)) => {
                self.put(read.row.sequence, content.clone());
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
    fn it_holds_what_fits() {
        let hot = Hot::new(200_000);
        for sequence in 0..1_000 {
            hot.put(sequence, Arc::new(Content { json: vec![b'x'; 1_000].into(), ..Content::default() }));
        }
        let held = (0..1_000).filter(|sequence| hot.get(*sequence).is_some()).count();
        assert!((50..200).contains(&held), "{held}");
    }
}
