//! Looking at resources one by one, where no index says enough: of each document only what the filter and the order ask for
//! is read. Pieces of the work go to threads of their own, a few at a time, so that others get their turn.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use memchr::memmem;
use proto::Tenant;
use scim::{Filter, Object, ResourceType, Sort};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::content::Content;
use crate::cuts::{DERIVED, naming_attributes};
use crate::directory::{Directory, Slot};
use crate::query::Found;
use crate::row::Row;
use crate::stored::Outline;
use crate::{Error, Lens, Projection};

/// Resources that are looked at in one piece.
const PIECE: usize = 1024;
/// Pieces under way for one question.
pub(crate) const PIECES_MAX: usize = 3;
/// So many rows between two that are wanted are passed over rather than sought.
pub(crate) const DENSE: u64 = 3;

/// So much is read of documents before others have a turn, counted once for each comparison of the filter: some are large.
const PIECE_BYTES: usize = 8 << 20;

/// What one look at many came to.
#[derive(Default)]
struct Looked {
    /// Those that satisfy.
    found: Vec<Found>,
    /// Those whose row or key must be fetched first, with the row where it is at hand.
    fetched: Vec<(Slot, Option<Row>)>,
    /// Those that were not looked at, because the others were as much as one piece may be.
    left: Vec<Slot>,
    /// Bytes that were compared.
    compared: usize,
}

impl Looked {
    fn is_full(&self) -> bool {
        self.compared >= PIECE_BYTES
    }
}

/// What is looked for in each resource.
pub(crate) struct Scan {
    pub(crate) projection: Projection,
    pub(crate) tenant: Tenant,
    pub(crate) kind: ResourceType,
    pub(crate) filter: Option<Filter>,
    pub(crate) sort: Option<Sort>,
    pub(crate) lens: Lens,
    wanted: BTreeSet<String>,
    /// How often a document is compared with something.
    terms: usize,
    /// Whether documents alone say all that is looked for: nothing that is derived, and nobody's name.
    by_document: bool,
    /// What is in every document that satisfies.
    needle: Option<memmem::Finder<'static>>,
}

impl Scan {
    pub(crate) fn new(
        projection: &Projection,
        tenant: &Tenant,
        kind: &ResourceType,
        filter: Option<&Filter>,
        sort: Option<&Sort>,
        lens: &Lens,
    ) -> Self {
        let mut wanted = BTreeSet::new();
        if let Some(filter) = filter {
            filter.roots(&mut wanted);
        }
        if let Some((path, _)) = sort.and_then(Sort::attribute) {
            wanted.extend(path.root().map(str::to_string));
        }
        let named = naming_attributes(&projection.inner.registry, kind)
            .any(|(extension, attribute)| wanted.contains(extension.unwrap_or(&attribute.name)));
        let by_document = !named && !DERIVED.iter().any(|name| wanted.contains(*name));
        let lens =
            Lens { members: wanted.contains("members"), groups: wanted.contains("groups"), ..lens.clone() };
        Self {
            projection: projection.clone(),
            tenant: tenant.clone(),
            kind: kind.clone(),
            filter: filter.cloned(),
            sort: sort.cloned(),
            lens,
            wanted,
            terms: filter.map_or(1, Filter::terms),
            by_document,
            needle: filter.and_then(Filter::needle).map(|text| memmem::Finder::new(&text).into_owned()),
        }
    }

    /// Those that satisfy the filter, with what they are sorted by.
    pub(crate) async fn run(self, slots: &[Slot]) -> Result<Vec<Found>, Error> {
        let scan = Arc::new(self);
        let pieces = slots.chunks(PIECE).map(<[Slot]>::to_vec);
        let found: Vec<Vec<Found>> =
            stream::iter(pieces).map(|piece| scan.piece(piece)).buffered(PIECES_MAX).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn piece(self: &Arc<Self>, mut slots: Vec<Slot>) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        while !slots.is_empty() {
            // Those who have the permits let go of them.
            let _turn = self.projection.inner.scans.acquire().await.ok();
            slots = self.turn(slots, &mut found).await?;
        }
        found.sort_by_key(|found| found.slot);
        Ok(found)
    }

    /// Looks at as many as one piece may be; returns the others.
    async fn turn(self: &Arc<Self>, slots: Vec<Slot>, found: &mut Vec<Found>) -> Result<Vec<Slot>, Error> {
        let all = slots.clone();
        let looked = self.aside(all, move |scan| scan.look(&slots)).await;
        found.extend(looked.found);
        // The keys of many rows stand on one page.
        for (_, row) in &looked.fetched {
            if let Some(row) = row {
                // What fails here is said below.
                let _ = self.projection.inner.reader.fetch_key(row).await;
            }
        }
        let all = looked.fetched.iter().map(|(slot, _)| *slot).collect();
        let again = self.aside(all, move |scan| scan.look_again(looked.fetched)).await;
        found.extend(again.found);
        for (slot, _) in again.fetched {
            let Some(outline) = self.outline(slot) else { continue };
            let content = self.projection.content(&self.tenant, outline.seen.row).await?;
            found.extend(self.one(slot, &content));
        }
        Ok([looked.left, again.left].concat())
    }

    /// Does what needs no waiting, for all of these.
    async fn aside(
        self: &Arc<Self>,
        all: Vec<Slot>,
        look: impl FnOnce(&Self) -> Looked + Send + 'static,
    ) -> Looked {
        if all.is_empty() {
            return Looked::default();
        }
        if self.projection.inner.store.is_memory() {
            tokio::task::yield_now().await;
            return look(self);
        }
        let scan = self.clone();
        let looked = tokio::task::spawn_blocking(move || look(&scan)).await;
        // Whoever panics over a damaged store leaves all of them to be fetched one by one.
        looked.unwrap_or_else(|_| {
            let fetched = all.into_iter().map(|slot| (slot, None)).collect();
            Looked { fetched, ..Looked::default() }
        })
    }

    fn outline(&self, slot: Slot) -> Option<Outline> {
        self.projection
            .with(&self.tenant, |directory| Outline::of(directory, slot, self.lens.moment.0))
            .flatten()
    }

    /// The sequences of the rows that hold the documents, ascending, and whose they are.
    fn rows(&self, slots: &[Slot]) -> Vec<(u64, Slot)> {
        let row = |directory: &Directory, slot: Slot| {
            let at = self.lens.moment.0;
            directory.exists(slot, at).then(|| directory.document_row(slot, at)).flatten()
        };
        let rows = self.projection.with(&self.tenant, |directory| {
            slots.iter().filter_map(|slot| Some((row(directory, *slot)?, *slot))).collect::<Vec<_>>()
        });
        let mut rows = rows.unwrap_or_default();
        rows.sort_unstable();
        rows
    }

    /// Looks at what is at hand.
    fn look(&self, slots: &[Slot]) -> Looked {
        let mut looked = Looked::default();
        let inner = &self.projection.inner;
        let mut sought = Vec::new();
        for (sequence, slot) in self.rows(slots) {
            match inner.hot.peek(sequence) {
                Some(_) if looked.is_full() => looked.left.push(slot),
                Some(content) => {
                    looked.compared += content.json.len() * self.terms;
                    looked.found.extend(self.one(slot, &content));
                }
                None => sought.push((sequence, slot)),
            }
        }
        let span = sought.first().zip(sought.last()).map(|((first, _), (last, _))| (*first, *last));
        let Some((first, last)) = span else { return looked };
        let mut unread = sought.into_iter().peekable();
        let mut missed = Vec::new();
        if last - first < unread.len() as u64 * DENSE {
            // What cannot be read here is fetched one by one, and said then.
            let _ = inner.store.range(&self.tenant, first, last, |row| {
                while let Some((_, slot)) = unread.next_if(|(wanted, _)| *wanted < row.sequence) {
                    missed.push(slot);
                }
                if let Some((_, slot)) = unread.next_if(|(wanted, _)| *wanted == row.sequence) {
                    self.read(slot, row, &mut looked);
                }
                !looked.is_full()
            });
        }
        let missed = self.rows(&missed);
        for (sequence, slot) in missed.into_iter().chain(unread) {
            match looked.is_full() {
                true => looked.left.push(slot),
                false => match self.projection.row_at_hand(&self.tenant, sequence) {
                    Some(row) => self.read(slot, row, &mut looked),
                    None => looked.fetched.push((slot, None)),
                },
            }
        }
        looked
    }

    /// Looks at rows whose keys were fetched meanwhile.
    fn look_again(&self, locked: Vec<(Slot, Option<Row>)>) -> Looked {
        let mut looked = Looked::default();
        for (slot, row) in locked {
            match row {
                Some(_) if looked.is_full() => looked.left.push(slot),
                Some(row) => self.read(slot, row, &mut looked),
                None => looked.fetched.push((slot, None)),
            }
        }
        looked
    }

    /// Looks at a row, or leaves it to be looked at when its key is there.
    fn read(&self, slot: Slot, row: Row, looked: &mut Looked) {
        let reader = &self.projection.inner.reader;
        let (read, length) = if self.by_document {
            let json = reader.json_now(&row);
            let length = json.as_ref().ok().and_then(|json| Some(json.as_ref()?.len()));
            (json.map(|json| json.map(|json| self.document(slot, &json))), length)
        } else {
            let content = reader.content_now(&row);
            let length = content.as_ref().ok().and_then(|content| Some(content.as_ref()?.json.len()));
            (content.map(|content| content.map(|content| self.one(slot, &content))), length)
        };
        looked.compared += length.unwrap_or_default() * self.terms;
        match read {
            Ok(Some(one)) => looked.found.extend(one),
            Ok(None) | Err(_) => looked.fetched.push((slot, Some(row))),
        }
    }

    /// One resource, if it satisfies the filter.
    fn one(&self, slot: Slot, content: &Content) -> Option<Found> {
        if self.by_document {
            return self.document(slot, &content.json);
        }
        let part = part(&content.json, &self.wanted);
        let stored = self.outline(slot)?.filled(content, None);
        let (projection, lens) = (&self.projection, &self.lens);
        let wants = |name: &str| self.wanted.contains(name);
        let shown = projection.complete(&self.tenant, &stored, &self.kind, lens, part, wants);
        self.satisfying(slot, &shown.object)
    }

    fn document(&self, slot: Slot, json: &[u8]) -> Option<Found> {
        if self.needle.as_ref().is_some_and(|needle| is_without(needle, json)) {
            return None;
        }
        self.satisfying(slot, &part(json, &self.wanted))
    }

    fn satisfying(&self, slot: Slot, whole: &Object) -> Option<Found> {
        let satisfies = self.filter.as_ref().is_none_or(|filter| filter.matches(whole));
        satisfies.then(|| Found { key: self.sort.as_ref().map(|sort| sort.key(whole)), slot })
    }
}

/// Whether a document's JSON does not hold a text, whose letters are small. No when that would take more to find out.
fn is_without(needle: &memmem::Finder<'_>, json: &[u8]) -> bool {
    json.is_ascii()
        && memchr::memchr(b'\\', json).is_none()
        && needle.find(&json.to_ascii_lowercase()).is_none()
}

/// The wanted members of a document's JSON, or all of them where names are not plain text.
fn part(json: &[u8], wanted: &BTreeSet<String>) -> Object {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let part = Part(wanted).deserialize(&mut reader);
    part.or_else(|_| serde_json::from_slice(json)).unwrap_or_default()
}

struct Part<'a>(&'a BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object::new();
        while let Some(name) = map.next_key::<&str>()? {
            match self.0.get(name) {
                Some(name) => {
                    object.insert(name.clone(), map.next_value()?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_lacks_a_text_is_passed_over() {
        let needle = memmem::Finder::new("kelvin");
        for (json, expected) in [
            (r#"{"title":"Dr Kelvin"}"#, false),
            (r#"{"title":"KELVIN"}"#, false),
            (r#"{"title":"Celsius"}"#, true),
            // The sign of the unit is the letter; an escape may be any.
            ("{\"title\":\"\u{212A}elvin\"}", false),
            (r#"{"title":"\u004belvin"}"#, false),
            ("", true),
        ] {
            assert_eq!(is_without(&needle, json.as_bytes()), expected, "{json}");
        }
    }
}
