//! What was decided of single attributes of an account, beside what the mapping says: a name that was chosen because it had to
//! be the only one, or a value of the app's own that is left there. Part of a link, and like it a projection of PROVISIONING. Pure.
//!
//! The values stand in the sealed part of `Decided`. Of a person who was erased nobody can read them any more, and nothing is
//! decided.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use proto::provisioning::{Details, Event, Kind};
use scim::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::drift::named;

/// The decision that an attribute is this, so that no other account of the app has the same.
pub(crate) const CHOOSE: &str = "choose";
/// The decision that the app's own value stays.
pub(crate) const ADOPT: &str = "adopt";
/// What the app was left is not its own any more.
pub(crate) const REVERT: &str = "revert";
/// Nothing is decided of these attributes any more.
pub(crate) const FORGET: &str = "forget";

/// A name that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Choice {
    /// What was chosen before, if anything was.
    pub(crate) before: Option<String>,
    /// What was chosen.
    pub(crate) after: String,
    /// The candidate that it was made of.
    pub(crate) base: String,
    /// What the app said is somebody else's, while this was looked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) refused: BTreeSet<String>,
    /// By this, two choices are the same name.
    #[serde(skip)]
    name: u64,
}

/// A value of the app's own that is left there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Adopted {
    /// What the app was told: as long as this is what it would be told, its own value stays.
    pub(crate) before: Value,
    /// What the app shows; nothing is null.
    pub(crate) after: Value,
    /// Where it stands in the account, name by name.
    pub(crate) at: Vec<String>,
}

/// Everything that was decided of one account. Most have nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decisions(Option<Box<Inner>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Inner {
    chosen: BTreeMap<String, Choice>,
    adopted: BTreeMap<String, Adopted>,
}

/// By this, two accounts of an app are called the same. Case never tells two names apart.
pub(crate) fn name(kind: &str, attribute: &str, value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, attribute, scim::fold(value)).hash(&mut hasher);
    hasher.finish()
}

impl Choice {
    pub(crate) fn new(
        before: Option<String>,
        after: String,
        base: String,
        refused: BTreeSet<String>,
    ) -> Self {
        Self { before, after, base, refused, name: 0 }
    }
}

impl Decisions {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What was chosen for an attribute.
    pub(crate) fn chosen(&self, attribute: &str) -> Option<&Choice> {
        self.0.as_ref()?.chosen.get(attribute)
    }

    /// Every name that was chosen.
    pub(crate) fn names(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|inner| inner.chosen.values()).map(|choice| choice.name)
    }

    /// What the app's own value was decided to stay for.
    pub(crate) fn adopted(&self) -> impl Iterator<Item = (&String, &Adopted)> {
        self.0.iter().flat_map(|inner| &inner.adopted)
    }

    /// The attributes of which anything is decided.
    pub(crate) fn attributes(&self) -> Vec<String> {
        let all = |inner: &Inner| inner.chosen.keys().chain(inner.adopted.keys()).cloned().collect();
        self.0.as_deref().map(all).unwrap_or_default()
    }

    /// After an event.
    pub(crate) fn apply(&mut self, event: &Event, details: Option<&Details>) {
        match &event.kind {
            Kind::Decided { operation, attributes } => match operation.as_str() {
                CHOOSE => {
                    for (attribute, mut choice) in read::<Choice>(attributes, details) {
                        choice.name = name(&event.resource_type, &attribute, &choice.after);
                        self.inner().chosen.insert(attribute, choice);
                    }
                }
                ADOPT => {
                    for (attribute, adopted) in read::<Adopted>(attributes, details) {
                        self.inner().adopted.insert(attribute, adopted);
                    }
                }
                REVERT => self.retain(|_| true, |attribute, _| !attributes.contains(attribute)),
                _ => {
                    let other = |attribute: &String| !attributes.contains(attribute);
                    self.retain(other, |attribute, _| other(attribute));
                }
            },
            // Whoever comes back after that has another account, and somebody else may have the name by then.
            Kind::Done { operation, .. } if operation == "delete" => self.0 = None,
            Kind::Done { operation, .. } if operation == "create" || operation == "update" => {
                // The app was told something else, because the directory says something else.
                if let Some(details) = details.filter(|details| !details.intended.is_empty()) {
                    let stays =
                        |_: &String, adopted: &Adopted| *at(&details.intended, &adopted.at) == adopted.after;
                    self.retain(|_| true, stays);
                }
            }
            Kind::Done { .. }
            | Kind::Intended { .. }
            | Kind::Retrying { .. }
            | Kind::Refused { .. }
            | Kind::Held { .. }
            | Kind::Released { .. }
            | Kind::ScopeEntered
            | Kind::ScopeLeft
            | Kind::Verified
            | Kind::PassedOver => {}
        }
    }

    /// Attributes as they are left at the app: where the app was told what it would be told now, its own value stays.
    pub(crate) fn leave(&self, attributes: &mut Object, is_partial: bool) {
        for (_, adopted) in self.adopted() {
            if *at(attributes, &adopted.at) == adopted.before {
                put(attributes, &adopted.at, adopted.after.clone(), is_partial);
            }
        }
    }

    fn inner(&mut self) -> &mut Inner {
        self.0.get_or_insert_default()
    }

    fn retain(&mut self, named: impl Fn(&String) -> bool, stays: impl Fn(&String, &Adopted) -> bool) {
        let Some(inner) = &mut self.0 else { return };
        inner.chosen.retain(|attribute, _| named(attribute));
        inner.adopted.retain(|attribute, adopted| stays(attribute, adopted));
        if inner.chosen.is_empty() && inner.adopted.is_empty() {
            self.0 = None;
        }
    }
}

/// What an event decides of these attributes, as far as it can be read.
fn read<T: serde::de::DeserializeOwned>(
    attributes: &[String],
    details: Option<&Details>,
) -> Vec<(String, T)> {
    let Some(details) = details else { return Vec::new() };
    let one = |attribute: &String| {
        let value = details.decided.get(attribute)?;
        Some((attribute.clone(), serde_json::from_value(value.clone()).ok()?))
    };
    attributes.iter().filter_map(one).collect()
}

/// A value by the names that lead to it, in any case; nothing is null.
pub(crate) fn at<'a>(object: &'a Object, names: &[String]) -> &'a Value {
    const NOTHING: Value = Value::Null;
    let Some((first, rest)) = names.split_first() else { return &NOTHING };
    match (named(object, first), rest) {
        (Some(value), []) => value,
        (Some(Value::Object(inner)), rest) => at(inner, rest),
        (Some(_) | None, _) => &NOTHING,
    }
}

/// Sets a value, or takes it away. Where single attributes are told, what ends is said to be null.
pub(crate) fn put(object: &mut Object, names: &[String], value: Value, is_partial: bool) {
    let Some((first, rest)) = names.split_first() else { return };
    let known = object.keys().find(|name| name.eq_ignore_ascii_case(first)).unwrap_or(first).clone();
    if !rest.is_empty() {
        let inner = object.entry(known).or_insert_with(|| Object::new().into());
        if let Some(inner) = inner.as_object_mut() {
            put(inner, rest, value, is_partial);
        }
    } else if value.is_null() && !is_partial {
        object.remove(&known);
    } else {
        object.insert(known, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::event;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn decided(operation: &str, decided: Value) -> (Event, Details) {
        let attributes = decided.as_object().unwrap().keys().cloned().collect();
        let kind = Kind::Decided { operation: operation.to_string(), attributes };
        (event(kind), Details { decided: object(decided), ..Details::default() })
    }

    fn done(operation: &str, linked: bool, intended: Value) -> (Event, Details) {
        let kind = Kind::Done {
            operation: operation.to_string(),
            linked,
            remote_id: "r".to_string(),
            members_added: Vec::new(),
            members_removed: Vec::new(),
            members_replaced: false,
            status: 200,
        };
        (event(kind), Details { intended: object(intended), ..Details::default() })
    }

    fn after(events: &[(Event, Details)]) -> Decisions {
        let mut decisions = Decisions::default();
        for (event, details) in events {
            decisions.apply(event, Some(details));
        }
        decisions
    }

    #[test]
    fn a_name_is_remembered_until_its_account_is_deleted() {
        let chosen = decided(CHOOSE, json!({"userName": {"before": null, "after": "ada2", "base": "ada"}}));
        let name_of =
            |events: &[(Event, Details)]| after(events).chosen("userName").map(|choice| choice.after.clone());
        let ada = Some("ada2".to_string());
        assert_eq!(name_of(std::slice::from_ref(&chosen)), ada);
        for (operation, linked) in
            [("create", true), ("deactivate", true), ("update", false), ("observe", false)]
        {
            let events = [chosen.clone(), done(operation, linked, json!({}))];
            assert_eq!(name_of(&events), ada, "{operation}");
        }
        assert!(after(&[chosen.clone(), done("delete", false, json!({}))]).is_empty());
        assert!(after(&[chosen.clone(), decided(FORGET, json!({"userName": {}}))]).is_empty());
        let names: Vec<u64> = after(std::slice::from_ref(&chosen)).names().collect();
        assert_eq!(names, [name("User", "userName", "ADA2")]);
        assert_ne!(names, [name("User", "nickName", "ada2")]);
        // Of somebody who was erased nothing can be read.
        let mut erased = Decisions::default();
        erased.apply(&chosen.0, None);
        assert!(erased.is_empty());
    }

    #[test]
    fn the_apps_own_value_stays_until_the_directory_says_something_else() {
        let own = decided(
            ADOPT,
            json!({"name.givenName": {"before": "Ada", "after": "Augusta", "at": ["name", "givenName"]},
                "title": {"before": "Dr", "after": null, "at": ["title"]}}),
        );
        let told = |events: &[(Event, Details)], attributes: Value, is_partial| {
            let mut attributes = object(attributes);
            after(events).leave(&mut attributes, is_partial);
            Value::Object(attributes)
        };
        let before = json!({"name": {"givenName": "Ada"}, "title": "Dr"});
        let left = json!({"name": {"givenName": "Augusta"}});
        let own_alone = std::slice::from_ref(&own);
        assert_eq!(told(own_alone, before.clone(), false), left);
        let partial = json!({"name": {"givenName": "Augusta"}, "title": null});
        assert_eq!(told(own_alone, before.clone(), true), partial);
        let other = json!({"name": {"givenName": "Eve"}, "title": "Dr"});
        assert_eq!(told(own_alone, other, false), json!({"name": {"givenName": "Eve"}}));
        // Once it was told something else, the old value coming back is the directory's.
        let events = [own.clone(), done("update", true, json!({"name": {"givenName": "Eve"}}))];
        assert_eq!(told(&events, before.clone(), false), json!({"name": {"givenName": "Ada"}}));
        let events = [own, done("update", true, json!({"name": {"givenName": "Augusta"}}))];
        assert_eq!(told(&events, before, false), left);
    }
}
