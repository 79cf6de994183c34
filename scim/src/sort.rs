//! Sorting: RFC 7644 §3.4.2.3.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::filter::{Rule, values};
use crate::{AttrPath, Error, Object, Registry, Resolved, ResourceType, Returned, Type, compare, fold};

/// By which attribute and in which direction a list is sorted.
#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    path: AttrPath,
    /// Nothing when the type has no such attribute: then no resource has a value to sort by.
    rule: Option<Rule>,
    /// Whether a resource has one value at most.
    single: bool,
    descending: bool,
}

/// What a resource is sorted by; a resource without a value comes last (first when descending).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SortKey(Sortable);

#[derive(Clone, Debug, Deserialize, Serialize)]
enum Sortable {
    Boolean(bool),
    Number(Number),
    Instant(Timestamp),
    Text(String),
    /// No value. Written as a word: `null` could not be told from no key at all where one is read.
    Missing,
}

impl Sort {
    /// Reads `sortBy` for a resource type. A complex attribute without a `value` cannot be sorted by, nor can one that
    /// is never returned: `invalidValue`.
    pub fn parse(
        sort_by: &str,
        descending: bool,
        registry: &Registry,
        kind: &ResourceType,
    ) -> Result<Self, Error> {
        let path = AttrPath::parse(sort_by.trim(), registry).map_err(Error::value)?;
        let unsuited = |why: &str| Err(Error::value(format!("sortBy: {path} {why}")));
        let (rule, single) = match registry.resolve(kind, &path) {
            None if path.is_whole(&kind.schema) => return unsuited("is a whole schema"),
            None => (None, true),
            Some(Resolved::Extension(_)) => return unsuited("is a whole extension"),
            Some(Resolved::Attribute { attribute, sub, .. }) => {
                let named = sub.unwrap_or(attribute);
                if named.returned == Returned::Never || attribute.returned == Returned::Never {
                    return unsuited("cannot be asked for");
                }
                let rule = Rule::of(named);
                if rule.kind == Type::Complex {
                    return unsuited("is complex; name one of its sub-attributes");
                }
                (Some(rule), !attribute.multi_valued && !named.multi_valued)
            }
        };
        let path = registry.canonical(kind, &path).unwrap_or(path);
        Ok(Self { path, rule, single, descending })
    }

    /// Whether the order depends on this attribute of the base schema or the common attributes (canonical name).
    pub fn mentions(&self, name: &str) -> bool {
        self.path.is(name)
    }

    /// The attribute, if the resource type has it, and its rule.
    pub fn attribute(&self) -> Option<(&AttrPath, Rule)> {
        Some((&self.path, self.rule?))
    }

    /// Whether a resource of the type has one value at most to be sorted by.
    pub fn is_single(&self) -> bool {
        self.single
    }

    /// Whether the last comes first.
    pub fn is_descending(&self) -> bool {
        self.descending
    }

    /// What this resource, as it is represented to clients, is sorted by: of many values the primary one, else the
    /// first.
    pub fn key(&self, resource: &Object) -> SortKey {
        let value = self.rule.and_then(|rule| sortable(rule, self.value(resource)?));
        SortKey(value.unwrap_or(Sortable::Missing))
    }

    fn value<'a>(&self, resource: &'a Object) -> Option<&'a Value> {
        let whole = AttrPath { sub: None, ..self.path.clone() };
        let found = values(resource, &whole);
        let value = found.iter().find(|value| crate::validate::is_primary(value)).or(found.first())?;
        match (&self.path.sub, value.as_object()) {
            (Some(sub), Some(members)) => members.get(sub),
            (None, Some(members)) => members.get("value"),
            (Some(_), None) => None,
            (None, None) => Some(value),
        }
    }

    /// The order of two resources.
    pub fn compare(&self, left: &SortKey, right: &SortKey) -> Ordering {
        let ascending = left.0.order(&right.0);
        if self.descending { ascending.reverse() } else { ascending }
    }
}

impl SortKey {
    /// The key of a text in the form in which it is compared.
    pub fn of_text(compared: Option<String>) -> Self {
        Self(compared.map_or(Sortable::Missing, Sortable::Text))
    }

    /// The key of an instant.
    pub fn of_instant(instant: Timestamp) -> Self {
        Self(Sortable::Instant(instant))
    }

    /// The text in the form in which it is compared, when the key is one.
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            Sortable::Text(text) => Some(text),
            Sortable::Boolean(_) | Sortable::Number(_) | Sortable::Instant(_) | Sortable::Missing => None,
        }
    }

    /// Whether the resource has no value to sort by.
    pub fn is_none(&self) -> bool {
        matches!(self.0, Sortable::Missing)
    }
}

fn sortable(rule: Rule, value: &Value) -> Option<Sortable> {
    Some(match rule.kind {
        Type::Boolean => Sortable::Boolean(value.as_bool()?),
        Type::Decimal | Type::Integer => Sortable::Number(value.as_number()?.clone()),
        Type::DateTime => Sortable::Instant(compare::instant(value.as_str()?)?),
        Type::String | Type::Reference | Type::Binary | Type::Complex if rule.case_exact => {
            Sortable::Text(value.as_str()?.to_string())
        }
        Type::String | Type::Reference | Type::Binary | Type::Complex => {
            Sortable::Text(fold(value.as_str()?))
        }
    })
}

impl Sortable {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => compare::ordinal(left).cmp(&compare::ordinal(right)),
            (Self::Instant(left), Self::Instant(right)) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            // Types of one list agree on an attribute's type; otherwise the kinds of values stand apart. What has
            // none comes last.
            (left, right) => left.rank().cmp(&right.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Boolean(_) => 0,
            Self::Number(_) => 1,
            Self::Instant(_) => 2,
            Self::Text(_) => 3,
            Self::Missing => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(by: &str, descending: bool, expected: &[&str]) {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let sort = Sort::parse(by, descending, &registry, user).unwrap();
        let mut users: Vec<Object> = [
            json!({"id": "1", "userName": "bob", "active": true, "emails": [{"value": "z@x"}, {"value": "b@x", "primary": true}],
                   "meta": {"created": "2026-01-01T01:00:00+02:00"}}),
            json!({"id": "2", "userName": "Ada", "name": {"familyName": "L"}, "meta": {"created": "2026-01-01T00:00:00Z"}}),
            json!({"id": "3", "userName": "cyd", "active": false, "emails": [{"value": "a@x"}], "name": {"familyName": "k"}}),
        ]
        .into_iter()
        .map(|user| user.as_object().unwrap().clone())
        .collect();
        users.sort_by(|left, right| sort.compare(&sort.key(left), &sort.key(right)));
        let ids: Vec<&str> = users.iter().map(|user| user["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{by}");
    }

    #[test]
    fn by_type_case_and_primary_value_and_missing_ones_last() {
        check("userName", false, &["2", "1", "3"]);
        check("USERNAME", true, &["3", "1", "2"]);
        check("name.familyName", false, &["3", "2", "1"]);
        check("name.familyName", true, &["1", "2", "3"]);
        check("emails", false, &["3", "1", "2"]);
        check("emails.value", true, &["2", "1", "3"]);
        check("meta.created", false, &["1", "2", "3"]);
        check("active", false, &["3", "1", "2"]);
        check("shoeSize", false, &["1", "2", "3"]);
    }

    /// A place in a list is written down and read again: a key that is read as none, or as another, would be elsewhere.
    #[test]
    fn a_key_is_read_as_it_was_written() {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let resource = json!({"userName": "Ada", "active": true, "meta": {"created": "2026-01-01T01:00:00.123456+02:00"}});
        let resource = resource.as_object().unwrap();
        let numbers = [Number::from_f64(0.1 + 0.2).unwrap(), Number::from(9_007_199_254_740_993_u64)];
        let mut keys: Vec<SortKey> = ["userName", "active", "meta.created", "title", "shoeSize"]
            .map(|by| Sort::parse(by, false, &registry, user).unwrap().key(resource))
            .to_vec();
        keys.extend(numbers.map(|number| SortKey(Sortable::Number(number))));
        for key in keys {
            let written = serde_json::to_string(&Some(&key)).unwrap();
            let read: Option<SortKey> = serde_json::from_str(&written).unwrap();
            let read = read.unwrap_or_else(|| panic!("{written} is no key"));
            assert!(key.0.order(&read.0).is_eq() && key.is_none() == read.is_none(), "{written}");
        }
    }

    #[test]
    fn what_has_no_order_is_refused() {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let urns = [user.schema.as_str(), "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"];
        for by in ["name", "password", "a b", ""].into_iter().chain(urns) {
            assert!(Sort::parse(by, false, &registry, user).is_err(), "{by}");
        }
    }
}
