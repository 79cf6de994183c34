//! Where a document's text is cut, to put in what is derived for its readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proto::ResourceId;
use scim::{Attribute, Registry, ResourceType};

use crate::directory::Slot;
use crate::members::{Step, each, items, text};

/// What is derived for every reader; a document holds none of it.
pub(crate) const DERIVED: [&str; 6] = ["id", "externalId", "schemas", "meta", "members", "groups"];

/// Where a document's text is cut.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cuts {
    /// Where it names others, in the order of the text.
    pub(crate) named: Vec<Named>,
    /// Which extensions of its type it holds, a bit for each, by number.
    pub(crate) extensions: u64,
}

/// A place where a document names another resource whose name is shown with it: `manager`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    /// Before the brace that closes the attribute's value.
    pub(crate) at: usize,
    /// Where the attribute's `value` stands in the text, and where it ends, without its quotation marks.
    pub(crate) value: (usize, usize),
    /// The same, when it is an id.
    pub(crate) id: Option<ResourceId>,
    pub(crate) guess: Guess,
    /// Whether the document itself tells `$ref`.
    pub(crate) has_ref: bool,
    /// The type that is named when nobody has the id.
    pub(crate) kind: Option<Arc<str>>,
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

/// Single attributes that name another resource and show its name, which only we can know.
pub(crate) fn naming_attributes<'a>(
    registry: &'a Registry,
    kind: &'a ResourceType,
) -> impl Iterator<Item = (Option<&'a str>, &'a Attribute)> {
    let core = registry.core(kind).iter().map(|attribute| (None, attribute));
    let extended = registry
        .extensions(kind)
        .flat_map(|schema| schema.attributes.iter().map(|attribute| (Some(schema.id.as_str()), attribute)));
    core.chain(extended).filter(|(_, attribute)| attribute.names_resource())
}

/// What decides where the documents of one resource type are cut.
#[derive(Debug)]
pub(crate) struct Seams(Vec<Part>);

/// A member that an object may have: an attribute, a part of one, or an extension.
#[derive(Debug)]
struct Part {
    name: String,
    /// The members that it may have in turn.
    parts: Vec<Part>,
    /// The bit of an extension.
    extension: u64,
    /// Whether it names another resource.
    names: bool,
    /// The type that is named when nobody has the id.
    kind: Option<Arc<str>>,
}

impl Part {
    fn of(attribute: &Attribute) -> Self {
        let kind = attribute.sub("$ref").and_then(|sub| sub.reference_types.first());
        Self {
            name: attribute.name.clone(),
            parts: attribute.sub_attributes.iter().map(Self::of).collect(),
            extension: 0,
            names: attribute.names_resource(),
            kind: kind.map(|kind| kind.as_str().into()),
        }
    }
}

impl Seams {
    pub(crate) fn of(registry: &Registry, kind: &ResourceType) -> Self {
        let core = registry.core(kind).iter().map(Part::of);
        let extension = |(number, schema): (u32, &scim::Schema)| Part {
            name: schema.id.clone(),
            parts: schema.attributes.iter().map(Part::of).collect(),
            // One for which there is no bit is not known, and who has it is shown as a tree.
            extension: 1_u64.checked_shl(number).unwrap_or_default(),
            names: false,
            kind: None,
        };
        let extensions =
            (0..).zip(registry.extensions(kind)).map(extension).filter(|part| part.extension != 0);
        let written = |part: &Part| !DERIVED.contains(&part.name.as_str());
        Self(core.filter(written).chain(extensions).collect())
    }

    /// Where a document's JSON is cut. Nothing when only its tree will do: it holds what should be derived, or what no
    /// schema knows and nobody is shown, or is not as we write it.
    pub(crate) fn cuts(&self, json: &[u8]) -> Option<Cuts> {
        let mut cuts = Cuts::default();
        if json.is_empty() {
            return Some(cuts);
        }
        let end = object(json, 0, &self.0, &mut cuts)?;
        (end == json.len()).then_some(cuts)
    }
}

/// Goes over an object that may have these members. Returns where it ends.
fn object(json: &[u8], begin: usize, parts: &[Part], cuts: &mut Cuts) -> Option<usize> {
    each(json, begin, |name, begin| {
        let Some(part) = parts.iter().find(|part| part.name.as_bytes() == name) else { return Step::Stop };
        let end = match json.get(begin) {
            Some(b'{') if part.names => naming(json, begin, part, cuts),
            Some(b'{') => {
                let end = object(json, begin, &part.parts, cuts);
                // One that holds nothing is not there.
                if end.is_some_and(|end| end > begin + 2) {
                    cuts.extensions |= part.extension;
                }
                end
            }
            Some(b'[') => items(json, begin, |begin| match json.get(begin) {
                Some(b'{') => object(json, begin, &part.parts, cuts).map_or(Step::Stop, Step::Read),
                Some(b'[') | None => Step::Stop,
                Some(_) => Step::Pass,
            }),
            // Something else than we expect of it.
            Some(_) if part.names || part.extension != 0 => None,
            Some(_) | None => return Step::Pass,
        };
        end.map_or(Step::Stop, Step::Read)
    })
}

/// Goes over an object that names another resource. Returns where it ends.
fn naming(json: &[u8], begin: usize, part: &Part, cuts: &mut Cuts) -> Option<usize> {
    let (mut value, mut has_ref) = (None, false);
    let end = each(json, begin, |name, begin| {
        match name {
            b"displayName" => return Step::Stop,
            b"$ref" => has_ref = true,
            b"value" => {
                let Some(text) = text(json, begin) else { return Step::Pass };
                if !text.is_plain {
                    return Step::Stop;
                }
                value = Some((begin + 1, text.end - 1));
                return Step::Read(text.end);
            }
            // What else it has is shown as it stands, and has no parts.
            name if part.parts.iter().all(|part| part.name.as_bytes() != name) => return Step::Stop,
            _ => {}
        }
        Step::Pass
    })?;
    if let Some(value) = value {
        let text = json.get(value.0..value.1).and_then(|text| std::str::from_utf8(text).ok());
        let id = text.and_then(|text| text.parse().ok());
        let (guess, kind) = (Guess::default(), part.kind.clone());
        cuts.named.push(Named { at: end - 1, value, id, guess, has_ref, kind });
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

    fn seams() -> Seams {
        let registry = Registry::built_in().unwrap();
        Seams::of(&registry, registry.by_name("User").unwrap())
    }

    #[test]
    fn the_place_before_the_closing_brace_is_found() {
        let text = format!(
            r#"{{"title":"\"manager\"","{ENTERPRISE}":{{"department":"x","manager":{{"value":"42"}}}},"name":{{"givenName":"manager"}}}}"#
        );
        let cut = seams().cuts(text.as_bytes()).unwrap();
        let [place] = &cut.named[..] else { panic!("{cut:?}") };
        let value = &text[place.value.0..place.value.1];
        assert_eq!((&text[place.at..][..4], value, place.has_ref, place.id), ("}},\"", "42", false, None));
        assert_eq!((cut.extensions, place.kind.as_deref()), (1, Some("User")));
        let id = "0198c0de-0000-7000-8000-000000000001";
        let text = format!(r#"{{"{ENTERPRISE}":{{"manager":{{"$ref":"../Users/1","value":"{id}"}}}}}}"#);
        let cut = seams().cuts(text.as_bytes()).unwrap();
        assert_eq!((cut.named[0].id, cut.named[0].has_ref), (Some(id.parse().unwrap()), true));
    }

    #[test]
    fn a_document_that_names_nobody_is_not_cut() {
        for text in [
            "",
            "{}",
            r#"{"userName":"manager"}"#,
            r#"{"name":{"givenName":"{\"id\":7}"},"emails":[{"value":"id","primary":true},"x"]}"#,
        ] {
            assert_eq!(seams().cuts(text.as_bytes()), Some(Cuts::default()), "{text}");
        }
        let text = format!(r#"{{"{ENTERPRISE}":{{}}}}"#);
        assert_eq!(seams().cuts(text.as_bytes()), Some(Cuts::default()));
        for inner in [r#"{"department":"manager"}"#, r#"{"manager":{"value":42}}"#, r#"{"manager":{}}"#] {
            let text = format!(r#"{{"{ENTERPRISE}":{inner}}}"#);
            let expected = Cuts { extensions: 1, ..Cuts::default() };
            assert_eq!(seams().cuts(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_holds_what_is_derived_or_is_not_as_we_write_it_is_left_to_its_tree() {
        for text in [
            r#"{"id":"7"}"#,
            r#"{"title":"x","groups":[]}"#,
            r#"{"manager":{"value":"42"}}"#,
            r#"{"userName": "x"}"#,
            "{} ",
            "[]",
            "{",
        ] {
            assert_eq!(seams().cuts(text.as_bytes()), None, "{text}");
        }
        for text in [
            r#"{"name":{"pin":"7"}}"#,
            r#"{"emails":[{"pin":"7"}]}"#,
            r#"{"emails":[[]]}"#,
            r#"{"title":{"a":1}}"#,
        ] {
            assert_eq!(seams().cuts(text.as_bytes()), None, "{text}");
        }
        for inner in [
            r#"{"manager":{"displayName":"x","value":"42"}}"#,
            r#"{"manager":{"value":"4\u0032"}}"#,
            r#"{"manager":{"pin":"7","value":"42"}}"#,
            r#"{"pin":"7"}"#,
            r#"{"manager":"42"}"#,
            "null",
        ] {
            let text = format!(r#"{{"{ENTERPRISE}":{inner}}}"#);
            assert_eq!(seams().cuts(text.as_bytes()), None, "{text}");
        }
    }
}
