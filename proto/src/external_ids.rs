//! `externalId` by source: as it stands in a body, and the map that it stands for, made when it is first asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;

/// A resource's `externalId` by source. It never changes, so whoever needs it shares it: clones are cheap. Most readers need
/// that of one source at most, which needs no map.
#[derive(Clone, Default)]
pub struct ExternalIds(Arc<Forms>);

#[derive(Default)]
struct Forms {
    /// Nothing where the map came first.
    entries: Vec<Entry>,
    map: OnceLock<BTreeMap<String, String>>,
    /// About how much memory they take, in both forms: whoever weighs them does so again and must find the same.
    bytes: usize,
}

/// About what an entry takes besides its texts, in both forms.
const ENTRY_BYTES: usize = 104 + size_of::<Entry>();

fn bytes(texts: impl Iterator<Item = usize>) -> usize {
    texts.map(|length| ENTRY_BYTES + 2 * length).sum()
}

/// An entry of a map on the wire. Its texts are parts of what was read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    source: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    id: Bytes,
}

impl ExternalIds {
    /// Those of these entries; nothing when one of them is no text.
    pub(crate) fn of_entries(entries: Vec<Entry>) -> Option<Self> {
        let is_text = |bytes: &Bytes| std::str::from_utf8(bytes).is_ok();
        let are_texts = entries.iter().all(|entry| is_text(&entry.source) && is_text(&entry.id));
        let bytes = bytes(entries.iter().map(|entry| entry.source.len() + entry.id.len()));
        are_texts.then(|| Self(Arc::new(Forms { entries, map: OnceLock::new(), bytes })))
    }

    /// That of a source, as UTF-8.
    pub fn of(&self, source: &str) -> Option<&[u8]> {
        if let Some(map) = self.0.map.get() {
            return map.get(source).map(String::as_bytes);
        }
        // Of two with one name the last counts.
        let mut entries = self.0.entries.iter().rev();
        entries.find(|entry| entry.source == source).map(|entry| &entry.id[..])
    }

    /// All of them with their sources. No map is made.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        let Forms { entries, map, .. } = &*self.0;
        let made = map.get().into_iter().flatten().map(|(source, id)| (source.as_str(), id.as_str()));
        let left = if map.get().is_some() { &[] } else { &entries[..] };
        let read = (1..).zip(left).filter_map(|(next, entry)| {
            let is_last = left.get(next..)?.iter().all(|later| later.source != entry.source);
            let texts = std::str::from_utf8(&entry.source).ok().zip(std::str::from_utf8(&entry.id).ok());
            texts.filter(|_| is_last)
        });
        made.chain(read)
    }

    /// About how many bytes of memory they take; always the same.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }
}

impl Deref for ExternalIds {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &BTreeMap<String, String> {
        self.0.map.get_or_init(|| {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            self.0.entries.iter().map(|entry| (text(&entry.source), text(&entry.id))).collect()
        })
    }
}

impl From<BTreeMap<String, String>> for ExternalIds {
    fn from(map: BTreeMap<String, String>) -> Self {
        let bytes = bytes(map.iter().map(|(source, id)| source.len() + id.len()));
        Self(Arc::new(Forms { entries: Vec::new(), map: map.into(), bytes }))
    }
}

impl PartialEq for ExternalIds {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl fmt::Debug for ExternalIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: &'static str, id: &'static str) -> Entry {
        Entry { source: Bytes::from_static(source.as_bytes()), id: Bytes::from_static(id.as_bytes()) }
    }

    #[test]
    fn both_forms_are_the_same_ids() {
        let entries = vec![entry("hr", "7"), entry("", "x"), entry("okta", "ä\"b"), entry("hr", "8")];
        let read = ExternalIds::of_entries(entries).unwrap();
        let ids = ["hr", "", "okta", "hr7"].map(|source| read.of(source).map(<[u8]>::to_vec));
        let map =
            BTreeMap::from([("hr", "8"), ("", "x"), ("okta", "ä\"b")].map(|(s, id)| (s.into(), id.into())));
        let each = read.each().map(|(source, id)| (source.to_string(), id.to_string()));
        assert_eq!(each.collect::<BTreeMap<_, _>>(), map);
        assert_eq!(read.each().count(), 3);
        let bytes = read.bytes();
        assert!(bytes > 500);
        assert_eq!(
            (&*read, read.bytes()),
            (&map, bytes),
            "it weighs what it weighed before its map was made"
        );
        let made = ExternalIds::from(map);
        assert!(made.each().eq(read.each()));
        for form in [&read, &made] {
            assert_eq!(["hr", "", "okta", "hr7"].map(|source| form.of(source).map(<[u8]>::to_vec)), ids);
        }
        assert_eq!(ids, [Some(b"8".to_vec()), Some(b"x".to_vec()), Some("ä\"b".as_bytes().to_vec()), None]);
        assert_eq!(read, made);
        assert!(ExternalIds::default().is_empty() && ExternalIds::default().of("").is_none());
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let odd = Bytes::from_static(&[0xff]);
        assert!(ExternalIds::of_entries(vec![Entry { id: odd.clone(), ..entry("hr", "7") }]).is_none());
        assert!(ExternalIds::of_entries(vec![Entry { source: odd, ..entry("hr", "7") }]).is_none());
    }
}
