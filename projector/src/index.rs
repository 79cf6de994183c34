//! Which attributes lead to resources without a scan, and how their values are taken from a document's text.

use scim::{AttrPath, Op, Registry, Resolved, Rule, Type};
use serde_json::Value;

use crate::cuts::naming_attributes;
use crate::directory::{ColumnNumber, DISPLAY};
use crate::extract::Tree;

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
    columns: Vec<Indexed>,
    tree: Tree,
}

/// An indexed attribute.
#[derive(Debug, PartialEq)]
pub(crate) struct Indexed {
    pub(crate) path: AttrPath,
    rule: Rule,
}

/// Whether each of these paths can be indexed; if not, why, in a sentence.
pub fn check_indexed(registry: &Registry, further: &[String]) -> Result<(), String> {
    Indexes::new(registry, further).map(|_| ())
}

impl Indexes {
    /// The built-in ones, those of unique attributes and of attributes that name others, and these. A path that names no attribute of any type, or one
    /// whose values have no order as texts, is an error, said in a sentence.
    pub(crate) fn new(registry: &Registry, further: &[String]) -> Result<Self, String> {
        let mut indexes = Self::default();
        let mut columns = Vec::new();
        for text in BUILT_IN {
            columns.push(indexed(registry, text)?);
        }
        for kind in registry.resource_types() {
            let main = registry.unique_attribute(kind).map(|attribute| AttrPath::of(&attribute.name));
            let unique = main.into_iter().chain(registry.further_unique(kind));
            // Whoever is meant by one that has no order is found by its key.
            columns.extend(unique.filter_map(|path| indexed(registry, &path.to_string()).ok()));
        }
        // Whom a change of somebody's concerns is found by whom they name.
        for (extension, attribute) in
            registry.resource_types().iter().flat_map(|kind| naming_attributes(registry, kind))
        {
            let path = AttrPath {
                schema: extension.map(str::to_string),
                name: Some(attribute.name.clone()),
                sub: Some("value".to_string()),
            };
            columns.extend(indexed(registry, &path.to_string()).ok());
        }
        for text in further {
            columns.push(indexed(registry, text)?);
        }
        for found in columns {
            if !indexes.columns.contains(&found) {
                indexes.columns.push(found);
            }
        }
        indexes.tree.add(["displayName"], DISPLAY, true);
        for (number, column) in (DISPLAY + 1..).zip(&indexes.columns) {
            let AttrPath { schema, name, sub } = &column.path;
            let names = [schema, name, sub].into_iter().filter_map(|name| name.as_deref());
            indexes.tree.add(names, number, column.rule.case_exact);
        }
        Ok(indexes)
    }

    /// Every value of a document's JSON.
    pub(crate) fn values(&self, json: &[u8]) -> Result<Vec<(ColumnNumber, String)>, serde_json::Error> {
        let mut values = self.tree.values(json)?;
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    /// The column of the first source's `externalId`; those of the others follow.
    pub(crate) fn first_source(&self) -> ColumnNumber {
        DISPLAY + 1 + ColumnNumber::try_from(self.columns.len()).unwrap_or(ColumnNumber::MAX / 2)
    }

    pub(crate) fn column(&self, number: ColumnNumber) -> Option<&Indexed> {
        self.columns.get(usize::from(number.checked_sub(DISPLAY + 1)?))
    }

    /// The column that a comparison asks, if there is one with the attribute's rule. A complex attribute is compared by
    /// its `value`.
    pub(crate) fn find(&self, path: &AttrPath, rule: Rule) -> Option<ColumnNumber> {
        let by_value = || AttrPath { sub: Some("value".to_string()), ..path.clone() };
        let at =
            |path: &AttrPath| self.columns.iter().position(|known| known.path == *path && known.rule == rule);
        let index = at(path).or_else(|| path.sub.is_none().then(by_value).as_ref().and_then(at))?;
        Some(DISPLAY + 1 + ColumnNumber::try_from(index).ok()?)
    }

    /// The column of exactly this path.
    pub(crate) fn exactly(&self, path: &AttrPath) -> Option<ColumnNumber> {
        let index = self.columns.iter().position(|known| known.path == *path)?;
        Some(DISPLAY + 1 + ColumnNumber::try_from(index).ok()?)
    }

    /// The form in which a constant is compared with a column's values.
    pub(crate) fn compared(&self, number: ColumnNumber, op: Op, value: &Value) -> Option<String> {
        let rule = self.column(number)?.rule;
        match (rule.kind, value) {
            (Type::Boolean, Value::Bool(value)) if matches!(op, Op::Eq | Op::Ne) => Some(value.to_string()),
            (Type::Decimal | Type::Integer, Value::Number(value)) => Some(scim::number(value)),
            (Type::String, Value::String(text)) if rule.case_exact => Some(text.clone()),
            (Type::String, Value::String(text)) => Some(scim::fold(text)),
            (_, _) => None,
        }
    }

    /// What an image of the indexes belongs to.
    pub(crate) fn fingerprint(&self) -> String {
        let column = |column: &Indexed| {
            let Rule { kind, case_exact } = column.rule;
            // Once numbers were kept as doubles.
            let form = if matches!(kind, Type::Decimal | Type::Integer) { ":exact" } else { "" };
            format!("{}:{kind:?}:{case_exact}{form}", column.path)
        };
        self.columns.iter().map(column).collect::<Vec<_>>().join(" ")
    }
}

fn indexed(registry: &Registry, text: &str) -> Result<Indexed, String> {
    let path = AttrPath::parse(text, registry)?;
    let resolve = |kind| match registry.resolve(kind, &path) {
        Some(Resolved::Attribute { attribute, sub, .. }) => {
            let mut path = registry.canonical(kind, &path)?;
            if sub.is_none() && attribute.kind == Type::Complex && attribute.sub("value").is_some() {
                path.sub = Some("value".to_string());
            }
            Some(Indexed { path, rule: Rule::of(sub.unwrap_or(attribute)) })
        }
        Some(Resolved::Extension(_)) | None => None,
    };
    let found = registry.resource_types().iter().find_map(resolve);
    let found = found.ok_or_else(|| format!("{text:?} is an attribute of no resource type"))?;
    match found.rule.kind {
        Type::String | Type::Boolean | Type::Decimal | Type::Integer => Ok(found),
        Type::DateTime | Type::Binary | Type::Reference | Type::Complex => {
            Err(format!("{text:?} cannot be indexed: only strings, numbers and booleans can"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_for_is_what_was_taken_from_the_document() {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let indexes = Indexes::new(&registry, &["title".to_string(), "active".to_string()]).unwrap();
        let document = json!({
            "userName": "Ada", "title": "Dr", "active": true, "nickName": "x",
            "emails": [{"type": "work", "value": "A@x.test"}, {"value": "b@x.test"}],
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"employeeNumber": "N7", "manager": {"value": "y"}},
        });
        let values = indexes.values(document.to_string().as_bytes()).unwrap();
        assert_eq!(values.len(), 7);
        let employee = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber";
        for (text, value) in [
            ("userName", json!("ADA")),
            ("emails", json!("a@x.test")),
            ("emails.value", json!("B@x.test")),
            ("title", json!("dr")),
            ("active", json!(true)),
            (employee, json!("n7")),
        ] {
            let path = AttrPath::parse(text, &registry).unwrap();
            let Some(Resolved::Attribute { attribute, sub, .. }) = registry.resolve(user, &path) else {
                panic!()
            };
            let path = registry.canonical(user, &path).unwrap();
            let column = indexes.find(&path, Rule::of(sub.unwrap_or(attribute))).unwrap();
            let wanted = indexes.compared(column, Op::Eq, &value).unwrap();
            assert!(values.contains(&(column, wanted)), "{text}");
        }
        let path = AttrPath::parse("nickName", &registry).unwrap();
        assert_eq!(indexes.exactly(&path), None);
        for wrong in ["shoeSize", "meta.created", "profileUrl"] {
            assert!(Indexes::new(&registry, &[wrong.to_string()]).is_err(), "{wrong}");
        }
    }
}
