//! How an account that is there already is recognized as somebody's: by which attributes it is looked for, in their order, and
//! what becomes of it. Read and checked once, when the configuration is read. Pure.

use std::collections::BTreeMap;
use std::fmt;

use scim::{AttrPath, Object, Registry, Resolved, ResourceType, Returned, Type};
use serde::Deserialize;
use serde_json::Value;

use crate::mapping::Mapping;
use crate::profile;

/// The attribute at the app that holds our id.
pub(crate) const OUR_ID: &str = "externalId";

/// What becomes of an account that was there before, and that is found by something else than our id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMatch {
    /// It is the resource's from now on.
    #[default]
    Adopt,
    /// A person must look.
    Hold,
}

/// By which attributes accounts are looked for, by resource type. Where nothing is said, it is by our id and then by its
/// name, and only once the app says that a name is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    keys: BTreeMap<String, Vec<AttrPath>>,
    on_match: OnMatch,
}

impl Matching {
    /// Nothing is said of any type.
    pub fn new(on_match: OnMatch) -> Self {
        Self { keys: BTreeMap::new(), on_match }
    }

    /// Says by what a type is looked for, at an app that supports so much of it and calls it so. All that is wrong is said,
    /// each in a sentence.
    pub fn choose(
        &mut self,
        registry: &Registry,
        kind: &ResourceType,
        own: &profile::Type,
        mapping: &Mapping,
        keys: &[String],
    ) -> Result<(), Vec<String>> {
        let (mut paths, mut mistakes) = (Vec::new(), Vec::new());
        for text in keys {
            match key(registry, kind, own, mapping, text) {
                Ok(path) if paths.contains(&path) => mistakes.push(format!("{text:?} is named twice")),
                Ok(path) => paths.push(path),
                Err(why) => mistakes.push(why),
            }
        }
        if keys.is_empty() {
            mistakes.push(
                "names no attribute; left out, it is externalId and the name (userName, displayName)"
                    .to_string(),
            );
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        self.keys.insert(kind.name.clone(), paths);
        Ok(())
    }

    /// By what a type is looked for, in this order. Whoever has what the mapping makes unique is somebody else, so nobody is
    /// looked for by that.
    pub(crate) fn keys(&self, registry: &Registry, kind: &ResourceType, mapping: &Mapping) -> Vec<AttrPath> {
        let mut keys = self.all_keys(registry, kind);
        if let Some(mapping) = mapping.of(&kind.name) {
            keys.retain(|key| !mapping.is_unique(key));
        }
        keys
    }

    /// The same with what the mapping makes unique.
    pub(crate) fn all_keys(&self, registry: &Registry, kind: &ResourceType) -> Vec<AttrPath> {
        self.keys.get(&kind.name).cloned().unwrap_or_else(|| {
            let name = registry.called(kind).map(|attribute| attribute.name.as_str());
            [OUR_ID].into_iter().chain(name).map(AttrPath::of).collect()
        })
    }

    /// Whether a key is a name that several may have, and that nobody said they are recognized by: what was there before
    /// may have it as well as what a call of ours made.
    pub(crate) fn is_mere_name(&self, registry: &Registry, kind: &ResourceType, key: &str) -> bool {
        !self.keys.contains_key(&kind.name)
            && key != OUR_ID
            && registry.unique_attribute(kind).is_none_or(|unique| unique.name != key)
    }

    /// Whether the app is searched before an account is made, rather than when it says that a name is taken.
    pub(crate) fn looks_first(&self, kind: &str) -> bool {
        self.keys.contains_key(kind) || self.holds()
    }

    /// Whether a person must look at what was there before.
    pub(crate) fn holds(&self) -> bool {
        self.on_match == OnMatch::Hold
    }
}

/// As the configuration's hash has it; nothing where nothing is said.
impl fmt::Display for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, keys) in &self.keys {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            write!(f, "|match {kind} {}", keys.join(" "))?;
        }
        if self.holds() { f.write_str("|on_match hold") } else { Ok(()) }
    }
}

/// What an account is looked for by: the text of the attribute, of several the primary one, or else the first.
pub(crate) fn value(key: &AttrPath, attributes: &Object) -> Option<String> {
    let whole = AttrPath { sub: None, ..key.clone() };
    let values = whole.values(attributes);
    let is_primary = |value: &&&Value| value.get("primary") == Some(&Value::Bool(true));
    let chosen = values.iter().find(is_primary).or(values.first())?;
    let text = key.sub.as_ref().map_or(Some(*chosen), |sub| chosen.get(sub))?.as_str()?;
    Some(text.to_string()).filter(|text| !text.is_empty())
}

fn key(
    registry: &Registry,
    kind: &ResourceType,
    own: &profile::Type,
    mapping: &Mapping,
    text: &str,
) -> Result<AttrPath, String> {
    let path = AttrPath::parse(text, registry)?;
    let found = registry.resolve(kind, &path).zip(registry.canonical(kind, &path));
    let Some((Resolved::Attribute { attribute, sub, .. }, path)) = found else {
        return Err(format!("{text:?} is no attribute of a {}", kind.name));
    };
    let of = sub.unwrap_or(attribute);
    match of.kind {
        Type::String | Type::Reference if of.returned != Returned::Never => {}
        Type::Complex => return Err(format!("{text:?} has parts: name one, as in {path}.value")),
        Type::String
        | Type::Reference
        | Type::Boolean
        | Type::Decimal
        | Type::Integer
        | Type::DateTime
        | Type::Binary => return Err(format!("{text:?} is no text that can be searched for")),
    }
    if mapping.of(&kind.name).is_some_and(|mapping| mapping.is_unique(&path)) {
        return Err(format!(
            "{text:?}: the mapping makes it unique, so whoever has it is somebody else; name another"
        ));
    }
    if !own.can_search(&path.to_string()) {
        return Err(format!(
            "{text:?}: its profile cannot search a {} by it; it can by {} (see search in docs/profiles.md)",
            kind.name,
            own.searched()
        ));
    }
    let is_told = own.is_told(&path) && mapping.of(&kind.name).is_none_or(|mapping| mapping.says(&path));
    if !path.is(OUR_ID) && !is_told {
        return Err(format!("{text:?}: the app is never told it, so nobody would be found by it"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::MapRule;
    use serde_json::json;

    const DEPARTMENT: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department";

    fn chosen(keys: &[&str]) -> Result<Matching, String> {
        let registry = Registry::built_in().unwrap();
        let kind = registry.by_name("User").unwrap();
        let search = ["externalId", "userName", "emails.value", "title", "nickName", "active", DEPARTMENT];
        let own = profile::Type {
            search: search.map(str::to_string).to_vec(),
            dropped: vec!["nickName".to_string()],
            ..profile::Type::default()
        };
        let rule = |text: &str| MapRule { value: Some(text.to_string()), ..MapRule::default() };
        let rules = [
            ("userName", rule("user.userName")),
            ("emails", rule("user.emails")),
            ("nickName", rule("user.nickName")),
            (DEPARTMENT, rule("user.title")),
            ("title", rule("unique(user.title)")),
        ];
        let mut mapping = Mapping::default();
        mapping.choose(&registry, kind, &rules.map(|(name, rule)| (name.to_string(), rule)).into()).unwrap();
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let mut matching = Matching::default();
        matching.choose(&registry, kind, &own, &mapping, &keys).map_err(|mistakes| mistakes.join("; "))?;
        Ok(matching)
    }

    #[test]
    fn keys_are_kept_in_their_order() {
        let matching = chosen(&["emails.value", "EXTERNALID", "userName", DEPARTMENT]).unwrap();
        let expected = format!("|match User emails.value externalId userName {DEPARTMENT}");
        assert_eq!(matching.to_string(), expected);
        assert!(matching.looks_first("User") && !matching.looks_first("Group"));
    }

    #[test]
    fn what_is_not_said_is_our_id_and_the_name() {
        let registry = Registry::built_in().unwrap();
        let keys = |name: &str| {
            let kind = registry.by_name(name).unwrap();
            let keys = Matching::default().keys(&registry, kind, &Mapping::default());
            keys.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(keys("User"), ["externalId", "userName"]);
        assert_eq!(keys("Group"), ["externalId", "displayName"]);
        let is_mere_name = |name: &str, key: &str| {
            let kind = registry.by_name(name).unwrap();
            Matching::default().is_mere_name(&registry, kind, key)
        };
        assert!(is_mere_name("Group", "displayName") && !is_mere_name("Group", "externalId"));
        assert!(!is_mere_name("User", "userName"));
        // Another configuration than before would plan everything again.
        assert_eq!(Matching::default().to_string(), "");
        assert!(!Matching::default().looks_first("User"));
        assert!(Matching::new(OnMatch::Hold).looks_first("User"));
    }

    #[test]
    fn keys_that_find_nobody_are_mistakes() {
        #[track_caller]
        fn check(keys: &[&str], expected: &str) {
            let mistake = chosen(keys).unwrap_err();
            assert!(mistake.contains(expected), "{mistake}");
        }
        check(&[], "names no attribute");
        check(&["shoe"], "\"shoe\" is no attribute of a User");
        check(&["emails"], "\"emails\" has parts: name one, as in emails.value");
        check(&["active"], "\"active\" is no text");
        check(
            &["displayName"],
            "its profile cannot search a User by it; it can by externalId, userName, emails",
        );
        check(&["userName", "USERNAME"], "\"USERNAME\" is named twice");
        check(&["title"], "\"title\": the mapping makes it unique");
        check(&["nickName"], "\"nickName\": the app is never told it");
    }

    #[test]
    fn of_several_values_the_primary_one_counts() {
        let registry = Registry::built_in().unwrap();
        let find = |key: &str, attributes: Value| {
            value(&AttrPath::parse(key, &registry).unwrap(), attributes.as_object().unwrap())
        };
        let emails = json!({"emails": [{"value": "a"}, {"value": "b", "primary": true}]});
        assert_eq!(find("emails.value", emails).as_deref(), Some("b"));
        assert_eq!(find("emails.value", json!({"emails": [{"value": "a"}]})).as_deref(), Some("a"));
        assert_eq!(find("emails.value", json!({"emails": []})), None);
        assert_eq!(find("name.familyName", json!({"name": {"familyName": "L"}})).as_deref(), Some("L"));
        assert_eq!(find("userName", json!({"userName": ""})), None);
        let extension =
            json!({"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "R"}});
        assert_eq!(find(DEPARTMENT, extension).as_deref(), Some("R"));
    }
}
