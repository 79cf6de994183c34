//! Which values lead to resources without a scan.

use scim::{AttrPath, Filter, Object, Op, Registry, Resolved};
use serde_json::Value;

use proto::Body;

/// Attributes that clients look people up by.
const BUILT_IN: [&str; 4] = [
    "userName",
    "displayName",
    "emails.value",
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber",
];

/// The indexed attributes of a directory.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    paths: Vec<(AttrPath, bool)>,
}

/// An indexed value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Term {
    /// An attribute's compared form.
    Attribute(usize, String),
    /// A source's `externalId`.
    External(String, String),
}

/// Whether each of these paths can be indexed; if not, why, in a sentence.
pub fn check_indexed(registry: &Registry, further: &[String]) -> Result<(), String> {
    Indexes::new(registry, further).map(|_| ())
}

impl Indexes {
    /// The built-in ones, those of unique attributes, and these. A path that names no string attribute of any type is
    /// an error, said in a sentence.
    pub(crate) fn new(registry: &Registry, further: &[String]) -> Result<Self, String> {
        let mut indexes = Self::default();
        for text in BUILT_IN {
            indexes.add(registry, text)?;
        }
        for kind in registry.resource_types() {
            let main = registry.unique_attribute(kind).map(|attribute| AttrPath::of(&attribute.name));
            for path in main.into_iter().chain(registry.further_unique(kind)) {
                indexes.add(registry, &path.to_string())?;
            }
        }
        for text in further {
            indexes.add(registry, text)?;
        }
        Ok(indexes)
    }

    fn add(&mut self, registry: &Registry, text: &str) -> Result<(), String> {
        let path = AttrPath::parse(text, registry)?;
        let resolve = |kind| match registry.resolve(kind, &path) {
            Some(Resolved::Attribute { attribute, sub, .. }) => {
                let named = sub.unwrap_or(attribute);
                Some((registry.canonical(kind, &path)?, named.case_exact))
            }
            Some(Resolved::Extension(_)) | None => None,
        };
        let found = registry.resource_types().iter().find_map(resolve);
        let found = found.ok_or_else(|| format!("{text:?} is an attribute of no resource type"))?;
        if !self.paths.contains(&found) {
            self.paths.push(found);
        }
        Ok(())
    }

    /// Every term of a resource.
    pub(crate) fn terms(&self, body: &Body) -> Vec<Term> {
        let mut terms: Vec<Term> = Vec::new();
        for (index, (path, exact)) in self.paths.iter().enumerate() {
            terms.extend(
                texts(&body.document, path).map(|text| Term::Attribute(index, compared(*exact, text))),
            );
        }
        terms.extend(body.external_ids.iter().map(|(source, id)| Term::External(source.clone(), id.clone())));
        terms.sort_unstable();
        terms.dedup();
        terms
    }

    /// The term that an equality asks for, if there is an index for it. A complex attribute is compared by its `value`.
    pub(crate) fn term(&self, path: &AttrPath, value: &str) -> Option<Term> {
        let by_value = || AttrPath { sub: Some("value".to_string()), ..path.clone() };
        let at = |path: &AttrPath| self.paths.iter().position(|(known, _)| known == path);
        let index = at(path).or_else(|| path.sub.is_none().then(by_value).as_ref().and_then(at))?;
        let (_, exact) = self.paths.get(index)?;
        Some(Term::Attribute(index, compared(*exact, value)))
    }

    /// The term of `attr[… value eq "x" …]`.
    pub(crate) fn term_within(&self, path: &AttrPath, filter: &Filter) -> Option<Term> {
        match filter {
            Filter::And(filters) => filters.iter().find_map(|filter| self.term_within(path, filter)),
            Filter::Compare { path: inner, op: Op::Eq, value: Value::String(value), .. } => {
                let path = AttrPath { sub: inner.name.clone(), ..path.clone() };
                self.term(&path, value)
            }
            Filter::Compare { .. }
            | Filter::Or(_)
            | Filter::Not(_)
            | Filter::Present(_)
            | Filter::Values { .. } => None,
        }
    }
}

fn texts<'a>(document: &'a Object, path: &AttrPath) -> impl Iterator<Item = &'a str> {
    path.values(document).into_iter().filter_map(Value::as_str)
}

fn compared(exact: bool, text: &str) -> String {
    if exact { text.to_string() } else { scim::fold(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_equality_finds_the_terms_of_a_document() {
        let registry = Registry::built_in().unwrap();
        let indexes = Indexes::new(&registry, &["title".to_string()]).unwrap();
        let document = json!({"userName": "Ada", "title": "Dr", "emails": [{"value": "A@x.test"}, {"value": "b@x.test"}]});
        let body = Body { document: document.as_object().unwrap().clone().into(), ..Body::default() };
        let terms = indexes.terms(&body);
        assert_eq!(terms.len(), 4);
        let parse = |text: &str| AttrPath::parse(text, &registry).unwrap();
        for (path, value) in
            [("userName", "ADA"), ("emails", "a@x.test"), ("emails.value", "B@x.test"), ("title", "dr")]
        {
            assert!(terms.contains(&indexes.term(&parse(path), value).unwrap()), "{path}");
        }
        assert_eq!(indexes.term(&parse("nickName"), "x"), None);
        assert!(Indexes::new(&registry, &["shoeSize".to_string()]).is_err());
    }
}
