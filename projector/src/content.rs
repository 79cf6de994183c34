//! What a row says about its resource, and where in its text something is put in for readers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proto::{Body, KeyRef, ResourceId};
use scim::{Attribute, Registry, ResourceType};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::directory::Slot;
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
    pub(crate) cuts: OnceLock<Option<Arc<Cuts>>>,
    /// `externalId` by source, as it is shown, once a reader came.
    pub(crate) shown_ids: OnceLock<ShownIds>,
    /// The groups of its resource.
    pub(crate) kin: Kin,
}

/// Where a document's text is cut, to put in what is derived.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cuts {
    /// Where it names others, in the order of the text.
    pub(crate) named: Vec<Named>,
    /// Which extensions of its type it holds, a bit for each, by number.
    pub(crate) extensions: u64,
}

/// Where a resource was found last; a guess.
#[derive(Debug)]
pub(crate) struct Guess(AtomicU32);

impl Default for Guess {
    fn default() -> Self {
        Self(AtomicU32::new(Slot::MAX))
    }
}

impl Guess {
    pub(crate) fn get(&self) -> Option<Slot> {
        Some(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, slot: Slot) {
        if self.get() != Some(slot) {
            self.0.store(slot, Ordering::Relaxed);
        }
    }
}

impl Clone for Guess {
    fn clone(&self) -> Self {
        Self(AtomicU32::new(self.0.load(Ordering::Relaxed)))
    }
}

impl PartialEq for Guess {
    /// It follows from the id.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A place where a document names another resource whose name is shown with it: `manager`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    /// Before the brace that closes the attribute's value.
    pub(crate) at: usize,
    /// The attribute's `value`.
    pub(crate) value: String,
    /// The same, when it is an id.
    pub(crate) id: Option<ResourceId>,
    pub(crate) guess: Guess,
    /// Whether the document itself tells `$ref`.
    pub(crate) has_ref: bool,
    /// The type that is named when nobody has the id.
    pub(crate) kind: Option<String>,
}

impl Content {
    pub(crate) fn of(body: &Body, key_ref: Option<KeyRef>) -> Self {
        let (json, external_ids) = (body.document.json().clone(), Arc::new(body.external_ids.clone()));
        Self { json, external_ids, key_ref, ..Self::default() }
    }

    /// Where its text is cut for readers; nothing when only its tree will do.
    pub(crate) fn cuts(&self, registry: &Registry, kind: &ResourceType) -> Option<&Arc<Cuts>> {
        self.cuts.get_or_init(|| cuts(registry, kind, &self.json)).as_ref()
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

/// Single attributes that name another resource and show its name, which only we can know.
pub(crate) fn naming<'a>(
    registry: &'a Registry,
    kind: &'a ResourceType,
) -> impl Iterator<Item = (Option<&'a str>, &'a Attribute)> {
    let core = registry.core(kind).iter().map(|attribute| (None, attribute));
    let extended = registry
        .extensions(kind)
        .flat_map(|schema| schema.attributes.iter().map(|attribute| (Some(schema.id.as_str()), attribute)));
    core.chain(extended).filter(|(_, attribute)| attribute.names_resource())
}

/// What is derived for every reader; a document holds none of it.
pub(crate) const DERIVED: [&str; 6] = ["id", "externalId", "schemas", "meta", "members", "groups"];

/// Where a document's JSON is cut. Nothing when it holds what should be derived, so that its text alone will not do.
pub(crate) fn cuts(registry: &Registry, kind: &ResourceType, json: &[u8]) -> Option<Arc<Cuts>> {
    let mut cuts = Cuts::default();
    if json.is_empty() {
        return Some(Arc::new(cuts));
    }
    let members = members(json)?;
    if DERIVED.iter().any(|name| members.has(name)) {
        return None;
    }
    for (number, schema) in (0_u32..).zip(registry.extensions(kind)) {
        if members.has(&schema.id) {
            cuts.extensions |= 1_u64.checked_shl(number)?;
        }
    }
    for (extension, attribute) in naming(registry, kind) {
        let raw = match extension {
            None => members.get(&attribute.name),
            Some(urn) => match members.get(urn) {
                // Most extensions name nobody, and need not be read.
                Some(raw) if raw.get().contains(&attribute.name) => {
                    self::members(raw.get().as_bytes())?.get(&attribute.name)
                }
                Some(_) | None => None,
            },
        };
        let Some(raw) = raw else { continue };
        let object = self::members(raw.get().as_bytes())?;
        if object.has("displayName") {
            return None;
        }
        let value = object.get("value").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let Some(value) = value else { continue };
        // One is a part of the other.
        let begin = (raw.get().as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
        cuts.named.push(Named {
            at: begin + raw.get().len().checked_sub(1)?,
            id: value.parse().ok(),
            guess: Guess::default(),
            value,
            has_ref: object.has("$ref"),
            kind: attribute.sub("$ref").and_then(|sub| sub.reference_types.first().cloned()),
        });
    }
    cuts.named.sort_by_key(|named| named.at);
    Some(Arc::new(cuts))
}

/// The members of an object's text; nothing when it is none.
fn members(json: &[u8]) -> Option<Members<'_>> {
    serde_json::from_slice(json).ok()
}

/// The members of an object, in the order of the text. They are few.
struct Members<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersOf)
    }
}

struct MembersOf;

impl<'de> Visitor<'de> for MembersOf {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(24);
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_before_the_closing_brace_is_found() {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let text = r#"{"title":"\"manager\"","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"x","manager":{"value":"42"}}}"#;
        let cut = cuts(&registry, user, text.as_bytes()).unwrap();
        let [place] = &cut.named[..] else { panic!("{cut:?}") };
        assert_eq!((&text[place.at..], place.value.as_str(), place.has_ref), ("}}}", "42", false));
        assert_eq!(cut.extensions, 1);
        assert_eq!(*cuts(&registry, user, br#"{"userName":"manager"}"#).unwrap(), Cuts::default());
        assert_eq!(*cuts(&registry, user, b"").unwrap(), Cuts::default());
        assert_eq!(cuts(&registry, user, br#"{"id":"7"}"#), None);
    }
}
