//! What an app was last told of an account, as one short number for each attribute, and what is left to say. Pure.
//!
//! An app that is changed attribute by attribute is told what became another since, and nothing else. Numbers rather than
//! values: there is one of these for each account of each app, and nobody's data need be kept twice.

use scim::Object;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::profile::Type;

/// Bits of a number that say which attribute it is of; the others say what was told of it.
const NAME_BITS: u64 = 0xffff << 48;

/// The attributes that an app was last made to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told(Box<[u64]>);

/// What is to be said in a change of single attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// Attributes with their values.
    pub(crate) values: Object,
    /// Attributes that end, and that the app wants to hear of in its own way.
    pub(crate) cleared: Vec<String>,
}

impl Told {
    /// All of these were told.
    pub(crate) fn of(attributes: &Object) -> Self {
        Self(attributes.iter().map(|(name, value)| number(name, value)).collect())
    }

    /// Whether exactly this was told.
    fn holds(&self, name: &str, value: &Value) -> bool {
        self.0.contains(&number(name, value))
    }

    /// Whether anything was told of it.
    fn names(&self, name: &str) -> bool {
        self.0.iter().any(|number| (number ^ name_bits(name)) & NAME_BITS == 0)
    }
}

/// What is to be said of these attributes to an app of this type that was told so much; nothing told means everything is said.
pub(crate) fn said(own: &Type, attributes: &Object, told: Option<&Told>) -> Said {
    let is_known = |name: &str, value: &Value| told.is_some_and(|told| told.holds(name, value));
    // What the app clears in its own way need not be said to be nothing.
    let ends = |name: &String| own.clears.contains(name) && attributes.get(name).is_none_or(Value::is_null);
    let had_value =
        |name: &String| told.is_none_or(|told| told.names(name) && !told.holds(name, &Value::Null));
    let new = attributes.iter().filter(|(name, value)| !ends(name) && !is_known(name, value));
    Said {
        values: new.map(|(name, value)| (name.clone(), value.clone())).collect(),
        cleared: own.clears.iter().filter(|name| ends(name) && had_value(name)).cloned().collect(),
    }
}

fn number(name: &str, value: &Value) -> u64 {
    let told =
        first_bytes(Sha256::new().chain_update(name).chain_update([0]).chain_update(value.to_string()));
    name_bits(name) | (told & !NAME_BITS)
}

fn name_bits(name: &str) -> u64 {
    first_bytes(Sha256::new().chain_update(name)) & NAME_BITS
}

fn first_bytes(digest: Sha256) -> u64 {
    digest.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    /// What is said of `now` after `before`, at an app that clears titles and nicknames by name.
    #[track_caller]
    fn check(before: Option<Value>, now: Value, values: Value, cleared: &[&str]) {
        let own = Type { clears: vec!["title".to_string(), "nickName".to_string()], ..Type::default() };
        let told = before.map(|before| Told::of(&object(before)));
        let found = said(&own, &object(now), told.as_ref());
        let cleared = cleared.iter().map(ToString::to_string).collect();
        assert_eq!(found, Said { values: object(values), cleared });
    }

    #[test]
    fn what_became_another_is_said_and_nothing_else() {
        let before = json!({"userName": "ada", "title": "Dr", "name": {"givenName": "Ada"}, "active": true});
        check(Some(before.clone()), before.clone(), json!({}), &[]);
        let mut now = before.clone();
        now["title"] = json!("Prof");
        check(Some(before.clone()), now.clone(), json!({"title": "Prof"}), &[]);
        now["name"]["familyName"] = json!("Lovelace");
        let name = json!({"givenName": "Ada", "familyName": "Lovelace"});
        check(Some(before.clone()), now, json!({"title": "Prof", "name": name}), &[]);
        let more = json!({"userName": "ada", "title": "Dr", "name": {"givenName": "Ada"}, "active": true, "locale": "en"});
        check(Some(before), more, json!({"locale": "en"}), &[]);
    }

    #[test]
    fn what_ended_is_said_once() {
        let before = json!({"userName": "ada", "title": "Dr", "locale": "en"});
        check(Some(before.clone()), json!({"userName": "ada", "locale": "en"}), json!({}), &["title"]);
        // In a mapping that tells single attributes it is nothing, rather than absent.
        let now = json!({"userName": "ada", "title": null, "locale": null});
        check(Some(before), now.clone(), json!({"locale": null}), &["title"]);
        check(Some(now.clone()), now.clone(), json!({}), &[]);
        check(
            Some(now),
            json!({"userName": "ada", "title": "Dr", "locale": null}),
            json!({"title": "Dr"}),
            &[],
        );
    }

    #[test]
    fn where_nothing_is_known_everything_is_said() {
        let now = json!({"userName": "ada", "title": null, "locale": null});
        check(None, now, json!({"userName": "ada", "locale": null}), &["title", "nickName"]);
    }

    #[test]
    fn the_same_value_of_another_attribute_is_another_number() {
        let told = Told::of(&object(json!({"title": "x"})));
        assert!(told.holds("title", &json!("x")) && told.names("title"));
        assert!(!told.holds("nickName", &json!("x")) && !told.names("nickName"));
        assert!(!told.holds("title", &json!("y")));
    }
}
