//! Opened documents of rows that were asked for lately, so that they are not unsealed and parsed for every reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::{Body, Kind};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use scim::Object;
use serde_json::Value;

use crate::row::ReadRow;

/// What a row says about its resource. A row never changes, so neither does this.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) document: Arc<Object>,
    pub(crate) external_ids: BTreeMap<String, String>,
    /// About how much memory it takes; the cache asks again and again.
    bytes: u64,
}

impl Content {
    pub(crate) fn of(body: &Body) -> Self {
        Self::new(body.document.clone(), body.external_ids.clone())
    }

    fn new(document: Arc<Object>, external_ids: BTreeMap<String, String>) -> Self {
        let bytes = 128 + members(&document);
        Self { document, external_ids, bytes }
    }
}

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

    pub(crate) fn put(&self, sequence: u64, content: Arc<Content>) {
        self.0.insert(sequence, content);
    }

    /// Learns from an event that was just applied: whoever wrote it will read it next. What was erased must not stay.
    pub(crate) fn learn(&self, read: &ReadRow) {
        match (&read.event.kind, &read.body) {
            (Kind::Erased | Kind::TenantDropped, _) => self.0.clear(),
            (Kind::Created { .. } | Kind::Updated { .. }, Some(body)) => {
                self.put(read.row.sequence, Arc::new(Content::of(body)));
            }
            (_, _) => {}
        }
    }
}

#[derive(Clone)]
struct Size;

impl Weighter<u64, Arc<Content>> for Size {
    fn weight(&self, _: &u64, content: &Arc<Content>) -> u64 {
        content.bytes
    }
}

fn members(object: &Object) -> u64 {
    object.iter().map(|(name, value)| 96 + name.len() as u64 + size(value)).sum()
}

fn size(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(|value| 32 + size(value)).sum(),
        Value::Object(object) => members(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_holds_what_fits() {
        let hot = Hot::new(200_000);
        let text = "x".repeat(1_000);
        for sequence in 0..1_000 {
            let document = json!({"title": text}).as_object().unwrap().clone();
            hot.put(sequence, Arc::new(Content::new(Arc::new(document), BTreeMap::new())));
        }
        let held = (0..1_000).filter(|sequence| hot.get(*sequence).is_some()).count();
        assert!((50..200).contains(&held), "{held}");
    }
}
