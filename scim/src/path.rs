//! Attribute paths: RFC 7644 §3.10.

use std::fmt;

use crate::Registry;

/// `[URN ":"] name ["." sub]`, or a URN alone for a whole extension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttrPath {
    /// The schema's URN, when one was given.
    pub schema: Option<String>,
    /// The attribute; nothing for a whole extension.
    pub name: Option<String>,
    /// The sub-attribute.
    pub sub: Option<String>,
}

impl AttrPath {
    /// A path of one name.
    pub fn of(name: &str) -> Self {
        Self { schema: None, name: Some(name.to_string()), sub: None }
    }

    /// Reads a path. The registry's URNs decide where a URN ends, because both URNs and names hold dots and colons.
    /// The error is a sentence for the client.
    pub fn parse(text: &str, registry: &Registry) -> Result<Self, String> {
        let (schema, rest) = split_urn(text, registry);
        if rest.is_empty() {
            return match schema {
                Some(schema) if registry.schema(schema).is_none() => {
                    Err(format!("{text:?} names no attribute after the URN"))
                }
                Some(schema) => Ok(Self { schema: Some(schema.to_string()), name: None, sub: None }),
                None => Err("an attribute path must not be empty".to_string()),
            };
        }
        let (name, sub) = match rest.split_once('.') {
            Some((name, sub)) => (name, Some(sub)),
            None => (rest, None),
        };
        for part in std::iter::once(name).chain(sub) {
            if !is_name(part) {
                return Err(format!("{part:?} in {text:?} is not an attribute name"));
            }
        }
        Ok(Self {
            schema: schema.map(str::to_string),
            name: Some(name.to_string()),
            sub: sub.map(str::to_string),
        })
    }

    /// Every value that a path with canonical names has in a resource.
    pub fn values<'a>(&self, resource: &'a crate::Object) -> Vec<&'a serde_json::Value> {
        crate::filter::values(resource, self)
    }

    /// The member of a resource that holds what the path names: the attribute, or its extension.
    pub fn root(&self) -> Option<&str> {
        self.schema.as_deref().or(self.name.as_deref())
    }

    /// Whether the path is this URN and nothing else.
    pub(crate) fn is_whole(&self, urn: &str) -> bool {
        self.name.is_none() && self.schema.as_deref().is_some_and(|schema| schema.eq_ignore_ascii_case(urn))
    }

    /// Whether the path is this attribute of the base schema or the common attributes (canonical name), or a part.
    pub fn is(&self, name: &str) -> bool {
        self.schema.is_none() && self.name.as_deref() == Some(name)
    }
}

/// The longest known URN that the text begins with; for an unknown one, all up to the last colon.
fn split_urn<'a>(text: &'a str, registry: &Registry) -> (Option<&'a str>, &'a str) {
    if !is_urn(text) {
        return (None, text);
    }
    let known = registry
        .schemas()
        .iter()
        .filter(|schema| {
            text.get(..schema.id.len()).is_some_and(|start| start.eq_ignore_ascii_case(&schema.id))
        })
        .filter(|schema| matches!(text.as_bytes().get(schema.id.len()), None | Some(b':')))
        .map(|schema| schema.id.len())
        .max();
    match known.or_else(|| text.rfind(':')) {
        Some(end) => (text.get(..end), text.get(end + 1..).unwrap_or_default()),
        None => (None, text),
    }
}

/// Whether a text is a URN, or a path that begins with one. RFC 8141 §3.1: `URN:` is the same as `urn:`.
pub fn is_urn(text: &str) -> bool {
    text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("urn:"))
}

/// RFC 7643 §2.1, and `$ref`.
pub(crate) fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '$')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '$'))
}

impl fmt::Display for AttrPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            f.write_str(schema)?;
        }
        if let Some(name) = &self.name {
            if self.schema.is_some() {
                f.write_str(":")?;
            }
            f.write_str(name)?;
        }
        if let Some(sub) = &self.sub {
            write!(f, ".{sub}")?;
        }
        Ok(())
    }
}
