//! Which attributes an answer holds: RFC 7644 §3.9.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::written::{self, Sent};
use crate::{
    AttrPath, Attribute, Error, Mutability, Object, Quirk, Registry, Resolved, ResourceType, Returned, Speech,
};

/// The parameters `attributes` and `excludedAttributes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeSelection {
    attributes: Option<Vec<AttrPath>>,
    excluded: Vec<AttrPath>,
    /// What the change named that this answers.
    written: BTreeSet<AttrPath>,
}

impl AttributeSelection {
    /// Reads the two comma-separated lists of a query. Names that nobody knows are passed over; both lists at once, and
    /// one of more than `names_max`, are `invalidValue`: every resource of an answer is held against all of them.
    pub fn parse<'a>(
        attributes: Option<&str>,
        excluded: Option<&str>,
        names_max: usize,
        registry: &Registry,
        speech: impl Into<Speech<'a>>,
    ) -> Result<Self, Error> {
        let speech = speech.into();
        let given = |text: Option<&str>| -> Option<Vec<AttrPath>> {
            let names = text?.split(',').map(str::trim).filter(|name| !name.is_empty());
            let paths = names.filter_map(|name| AttrPath::parse(name, registry).ok());
            Some(paths.map(|path| meant(path, registry, speech)).collect())
        };
        let is_long = |text: Option<&str>| text.is_some_and(|text| text.split(',').nth(names_max).is_some());
        if is_long(attributes) || is_long(excluded) {
            let detail = format!("attributes and excludedAttributes hold {names_max} names at most");
            return Err(Error::value(detail));
        }
        let attributes = given(attributes.filter(|text| !text.trim().is_empty()));
        let excluded = given(excluded).unwrap_or_default();
        if attributes.is_some() && !excluded.is_empty() {
            return Err(Error::value("attributes and excludedAttributes cannot be given together"));
        }
        Ok(Self { attributes, excluded, written: BTreeSet::new() })
    }

    /// For the answer to a change: RFC 7643 §7 shows what is returned on request when the change named it, too.
    pub fn after(self, registry: &Registry, kind: &ResourceType, sent: Sent<'_>) -> Self {
        let on_request = |attribute: &Attribute| attribute.returned == Returned::Request;
        let on_request =
            |attribute: &Attribute| on_request(attribute) || attribute.sub_attributes.iter().any(on_request);
        let extended = registry.extensions(kind).flat_map(|schema| &schema.attributes);
        if !registry.core(kind).iter().chain(extended).any(on_request) {
            return self;
        }
        Self { written: written::paths(registry, kind, sent), ..self }
    }

    /// Whether `attributes` was given; then a PATCH must be answered with a body (RFC 7644 §3.5.2).
    pub fn names_attributes(&self) -> bool {
        self.attributes.is_some()
    }

    /// Whether an answer can hold this attribute of the base schema, so that it must be computed.
    pub fn wants(&self, registry: &Registry, name: &str) -> bool {
        let is = |path: &AttrPath| match (&path.name, &path.schema) {
            (Some(given), _) => given.eq_ignore_ascii_case(name),
            // A URN alone stands for every attribute of its schema.
            (None, Some(urn)) => registry
                .schema(urn)
                .is_some_and(|schema| schema.attributes.iter().any(|attribute| attribute.name == name)),
            (None, None) => false,
        };
        match &self.attributes {
            Some(paths) => paths.iter().any(is),
            None => !self.excluded.iter().any(|path| is(path) && path.sub.is_none()),
        }
    }

    /// Whether the answer is the resource as it is represented, once `members` and `groups` were left out where they
    /// are not wanted: nothing is to be taken out of it.
    pub fn is_whole(&self, registry: &Registry, kind: &ResourceType) -> bool {
        let linked = |path: &AttrPath| {
            let name = path.name.as_deref().filter(|_| path.sub.is_none() && path.schema.is_none());
            name.is_some_and(|name| {
                ["members", "groups"].iter().any(|linked| name.eq_ignore_ascii_case(linked))
            })
        };
        let hidden =
            |attribute: &Attribute| matches!(attribute.returned, Returned::Never | Returned::Request);
        let hides = |attribute: &Attribute| hidden(attribute) || attribute.sub_attributes.iter().any(hidden);
        // What is never returned is never kept either.
        let hides = |attribute: &Attribute| hides(attribute) && attribute.mutability != Mutability::WriteOnly;
        let extended = registry.extensions(kind).flat_map(|schema| &schema.attributes);
        self.attributes.is_none()
            && self.excluded.iter().all(linked)
            && !registry.core(kind).iter().chain(extended).any(hides)
    }

    /// The resource with only what the client asked for and may see.
    pub fn apply(&self, registry: &Registry, kind: &ResourceType, resource: Object) -> Object {
        let mut kept = Object::new();
        for (name, value) in resource {
            let core =
                registry.common().iter().chain(registry.core(kind)).find(|attribute| attribute.name == name);
            if let Some(attribute) = core {
                if let Some(value) = self.attribute(None, &kind.schema, attribute, value) {
                    kept.insert(name, value);
                }
                continue;
            }
            let Some(schema) = registry.extensions(kind).find(|schema| schema.id == name) else { continue };
            let Value::Object(members) = value else { continue };
            let mut inner = Object::new();
            for (name, value) in members {
                let Some(attribute) = schema.attributes.iter().find(|attribute| attribute.name == name)
                else {
                    continue;
                };
                if let Some(value) = self.attribute(Some(&schema.id), &schema.id, attribute, value) {
                    inner.insert(name, value);
                }
            }
            if !inner.is_empty() {
                kept.insert(schema.id.clone(), inner.into());
            }
        }
        kept
    }

    fn attribute(
        &self,
        extension: Option<&str>,
        urn: &str,
        attribute: &Attribute,
        value: Value,
    ) -> Option<Value> {
        // A path with a URN must be this schema's; one without means the base schema and the common attributes.
        let is_meant = |path: &AttrPath| {
            let is_here = match &path.schema {
                Some(given) => given.eq_ignore_ascii_case(urn),
                None => extension.is_none(),
            };
            let name = path.name.as_deref();
            is_here && name.is_none_or(|name| name.eq_ignore_ascii_case(&attribute.name))
        };
        let is_written = |sub: Option<&str>| {
            self.written.iter().any(|path| {
                let is = path.schema.as_deref() == extension && path.name.as_deref() == Some(&attribute.name);
                is && sub.is_none_or(|sub| path.sub.as_deref() == Some(sub))
            })
        };
        let parts = match (&self.attributes, attribute.returned) {
            (_, Returned::Never) => return None,
            (_, Returned::Always) => Parts::All,
            (Some(paths), Returned::Default | Returned::Request) => {
                let mut meant = paths.iter().filter(|path| is_meant(path)).peekable();
                meant.peek()?;
                let these: Option<Vec<&str>> = meant.map(|path| path.sub.as_deref()).collect();
                these.map_or(Parts::All, Parts::These)
            }
            (None, Returned::Request) if !is_written(None) => return None,
            (None, Returned::Default | Returned::Request) => {
                let meant = self.excluded.iter().filter(|path| is_meant(path));
                Parts::Others(meant.map(|path| path.sub.as_deref()).collect::<Option<_>>()?)
            }
        };
        let is_named = |sub: &Attribute| {
            let is_it = |path: &AttrPath| {
                path.sub.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(&sub.name))
            };
            self.attributes.iter().flatten().any(|path| is_it(path) && is_meant(path))
        };
        // What is never returned, or on request, is so whatever is said of the attribute that it is a part of.
        let is_shown = |sub: &Attribute| match sub.returned {
            Returned::Never => false,
            Returned::Always => true,
            Returned::Default => parts.hold(&sub.name),
            Returned::Request => is_named(sub) || parts.hold(&sub.name) && is_written(Some(&sub.name)),
        };
        if attribute.sub_attributes.iter().all(is_shown) {
            return Some(value);
        }
        only(attribute, value, |name| attribute.sub(name).is_none_or(is_shown))
    }
}

/// Which parts of an attribute are wanted.
enum Parts<'a> {
    All,
    These(Vec<&'a str>),
    /// All but these.
    Others(Vec<&'a str>),
}

impl Parts<'_> {
    fn hold(&self, name: &str) -> bool {
        let is_among = |names: &[&str]| names.iter().any(|one| one.eq_ignore_ascii_case(name));
        match self {
            Self::All => true,
            Self::These(names) => is_among(names),
            Self::Others(names) => !is_among(names),
        }
    }
}

/// The path, with the URN of an extension where no type has such an attribute without one.
fn meant(path: AttrPath, registry: &Registry, speech: Speech<'_>) -> AttrPath {
    let kinds = registry.resource_types();
    if path.schema.is_some() || kinds.iter().any(|kind| registry.resolve(kind, &path).is_some()) {
        return path;
    }
    let mut extended = kinds.iter().filter_map(|kind| registry.in_extensions(kind, &path));
    match extended.next() {
        Some(Resolved::Attribute { extension: Some(schema), .. }) if speech.forgives(Quirk::UrnMissing) => {
            AttrPath { schema: Some(schema.id.clone()), ..path }
        }
        Some(_) | None => path,
    }
}

pub(crate) fn only(attribute: &Attribute, value: Value, keep: impl Fn(&str) -> bool + Copy) -> Option<Value> {
    match value {
        Value::Array(values) => {
            let kept: Vec<Value> =
                values.into_iter().filter_map(|value| only(attribute, value, keep)).collect();
            (!kept.is_empty()).then_some(kept.into())
        }
        Value::Object(members) => {
            let kept: Object = members
                .into_iter()
                .filter(|(name, _)| match attribute.sub(name).map(|sub| sub.returned) {
                    Some(Returned::Always) => true,
                    Some(Returned::Never) => false,
                    Some(Returned::Default | Returned::Request) | None => keep(name),
                })
                .collect();
            (!kept.is_empty()).then_some(kept.into())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use serde_json::json;

    const NAMES_MAX: usize = 1_000;

    #[track_caller]
    fn check(attributes: Option<&str>, excluded: Option<&str>, expected: &[&str]) {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let resource = json!({
            "schemas": [], "id": "1", "userName": "ada", "title": "Dr", "name": {"givenName": "Ada", "familyName": "L"},
            "emails": [{"value": "a", "type": "work"}], "meta": {"version": "1", "location": "x"},
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "D", "manager": {"value": "2"}},
        });
        let selection =
            AttributeSelection::parse(attributes, excluded, NAMES_MAX, &registry, Dialect::Rfc).unwrap();
        let kept = selection.apply(&registry, user, resource.as_object().unwrap().clone());
        let mut paths: Vec<String> = crate::diff(&Object::new(), &kept)
            .into_iter()
            .map(|change| {
                change.path.replace("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User", "ext")
            })
            .collect();
        paths.retain(|path| path != "schemas" && path != "id");
        assert_eq!(paths, expected);
    }

    #[test]
    fn what_is_always_returned_stays() {
        check(Some("userName"), None, &["userName"]);
        check(Some("USERNAME,name.givenname"), None, &["name.givenName", "userName"]);
        check(Some("emails.value,meta"), None, &["emails", "meta.location", "meta.version"]);
        check(
            Some("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"),
            None,
            &["ext:department", "ext:manager.value"],
        );
        check(
            Some("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department,nothing"),
            None,
            &["ext:department"],
        );
        check(Some("urn:ietf:params:scim:schemas:core:2.0:User:title"), None, &["title"]);
        check(Some("nothing"), None, &[]);
        check(None, Some("id,name,emails,meta,title"), &["ext:department", "ext:manager.value", "userName"]);
        check(
            None,
            Some("name.familyName,urn:ietf:params:scim:schemas:extension:enterprise:2.0:User,meta,emails"),
            &["name.givenName", "title", "userName"],
        );
    }

    #[test]
    fn a_urn_alone_wants_what_its_schema_has() {
        let registry = Registry::built_in().unwrap();
        let wants = |attributes: &str, name: &str| {
            AttributeSelection::parse(Some(attributes), None, NAMES_MAX, &registry, Dialect::Rfc)
                .unwrap()
                .wants(&registry, name)
        };
        assert!(wants("urn:ietf:params:scim:schemas:core:2.0:Group", "members"));
        assert!(wants("URN:ietf:params:scim:schemas:core:2.0:user", "groups"));
        assert!(!wants("urn:ietf:params:scim:schemas:core:2.0:User", "members"));
        assert!(!wants("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User", "groups"));
        let excluded = Some("urn:ietf:params:scim:schemas:core:2.0:Group");
        let selection =
            AttributeSelection::parse(None, excluded, NAMES_MAX, &registry, Dialect::Rfc).unwrap();
        assert!(!selection.wants(&registry, "members") && selection.wants(&registry, "groups"));
    }

    #[test]
    fn a_change_shows_what_it_named() {
        let schema = json!({"id": "urn:example:scim:Safe", "name": "Safe", "attributes": [
            {"name": "hint", "type": "string", "returned": "request"},
            {"name": "pin", "type": "string", "returned": "never"},
            {"name": "owner", "type": "complex", "subAttributes": [
                {"name": "value", "type": "string"}, {"name": "note", "type": "string", "returned": "request"}]},
            {"name": "locks", "type": "complex", "multiValued": true, "subAttributes": [
                {"name": "value", "type": "string"}, {"name": "note", "type": "string", "returned": "request"}]},
        ]});
        let mut registry = Registry::built_in().unwrap();
        registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        let extension =
            crate::SchemaExtension { schema: "urn:example:scim:Safe".to_string(), required: false };
        registry.extend("User", extension).unwrap();
        let user = registry.by_name("User").unwrap();
        let safe = json!({"hint": "h", "pin": "1", "owner": {"value": "o", "note": "n"}, "locks": [{"value": "l", "note": "m"}]});
        let shown = |sent: Sent<'_>, attributes: Option<&str>, excluded: Option<&str>| {
            let selection =
                AttributeSelection::parse(attributes, excluded, NAMES_MAX, &registry, Dialect::Rfc).unwrap();
            let resource = json!({"id": "1", "userName": "ada", "urn:example:scim:Safe": safe});
            let resource = resource.as_object().unwrap().clone();
            let selection = selection.after(&registry, user, sent);
            let shown = selection.apply(&registry, user, resource);
            shown.get("urn:example:scim:Safe").cloned().unwrap_or_default()
        };
        let plain = json!({"owner": {"value": "o"}, "locks": [{"value": "l"}]});
        let all = json!({"hint": "h", "owner": {"value": "o", "note": "n"}, "locks": [{"value": "l", "note": "m"}]});
        let body = json!({"userName": "ada", "URN:example:scim:safe": safe});
        assert_eq!(shown(Sent::Resource(&body), None, None), all);
        assert_eq!(shown(Sent::Resource(&body), None, Some("urn:example:scim:Safe")), Value::Null);
        assert_eq!(shown(Sent::Resource(&body), Some("userName"), None), Value::Null);
        assert_eq!(shown(Sent::Resource(&json!({"userName": "ada"})), None, None), plain);
        let operation =
            |operation: Value| shown(Sent::Patch(&json!({"operations": [operation]})), None, None);
        let urn = "urn:example:scim:Safe";
        for (path, value, member, expected) in [
            (format!("{urn}:HINT"), json!("x"), "hint", json!("h")),
            (format!("{urn}:owner.note"), json!(null), "owner", all["owner"].clone()),
            (format!("{urn}:locks[value eq \"]\"].note"), json!("x"), "locks", all["locks"].clone()),
            (format!("{urn}:locks"), json!([{"value": "x"}, {"Note": "x"}]), "locks", all["locks"].clone()),
            (format!("{urn}:locks"), json!([{"value": "x"}]), "locks", plain["locks"].clone()),
            (urn.to_string(), json!({"hint": "x"}), "hint", json!("h")),
            (format!("{urn}:pin"), json!("x"), "pin", Value::Null),
            ("title".to_string(), json!("x"), "hint", Value::Null),
        ] {
            let found = operation(json!({"op": "add", "PATH": path, "value": value}));
            assert_eq!(found.get(member).cloned().unwrap_or_default(), expected, "{path} {value}");
        }
        let without_path = operation(json!({"op": "add", "value": {urn: {"hint": "x"}, "title": "y"}}));
        assert_eq!(without_path["hint"], "h");
    }

    /// What nobody is shown, or only who asks for it, is so in an attribute that is always there, and in one of which another part
    /// is left out.
    #[test]
    fn a_part_is_hidden_whatever_is_said_of_the_whole() {
        let parts = |name: &str, returned: &str, many: bool| {
            json!({"name": name, "type": "complex", "returned": returned, "multiValued": many, "subAttributes": [
                {"name": "value", "type": "string"}, {"name": "label", "type": "string"},
                {"name": "note", "type": "string", "returned": "request"},
                {"name": "code", "type": "string", "returned": "never"}]})
        };
        let schema = json!({"id": "urn:example:scim:Safe", "name": "Safe", "attributes": [
            parts("door", "always", false), parts("doors", "always", true), parts("lock", "default", false), parts("key", "request", false),
        ]});
        let mut registry = Registry::built_in().unwrap();
        registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        let kind =
            json!({"id": "Safe", "name": "Safe", "endpoint": "/Safes", "schema": "urn:example:scim:Safe"});
        registry.add_resource_type(serde_json::from_value(kind).unwrap()).unwrap();
        let kind = registry.by_name("Safe").unwrap();
        let whole = json!({"value": "v", "label": "l", "note": "n", "code": "c"});
        let (plain, noted) =
            (json!({"value": "v", "label": "l"}), json!({"value": "v", "label": "l", "note": "n"}));
        let check = |attributes: Option<&str>, excluded: Option<&str>, expected: Value| {
            let selection =
                AttributeSelection::parse(attributes, excluded, NAMES_MAX, &registry, Dialect::Rfc).unwrap();
            let safe = json!({"door": whole, "doors": [whole], "lock": whole, "key": whole});
            let shown = selection.apply(&registry, kind, safe.as_object().unwrap().clone());
            assert_eq!(Value::Object(shown), expected, "{attributes:?} {excluded:?}");
        };
        check(None, None, json!({"door": plain, "doors": [plain], "lock": plain}));
        check(None, Some("door,doors.label"), json!({"door": plain, "doors": [plain], "lock": plain}));
        check(None, Some("lock.label"), json!({"door": plain, "doors": [plain], "lock": {"value": "v"}}));
        check(Some("lock.note"), None, json!({"door": plain, "doors": [plain], "lock": {"note": "n"}}));
        check(
            Some("lock,lock.note,lock.code"),
            None,
            json!({"door": plain, "doors": [plain], "lock": noted}),
        );
        check(Some("door.note,key"), None, json!({"door": noted, "doors": [plain], "key": plain}));
        check(Some("lock.code"), None, json!({"door": plain, "doors": [plain]}));
    }

    #[test]
    fn an_extension_is_found_without_its_urn_by_those_who_may() {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        let resource =
            json!({"userName": "ada", urn: {"department": "D", "manager": {"value": "2", "$ref": "x"}}});
        let shown = |attributes: Option<&str>, excluded: Option<&str>, dialect| {
            let selection =
                AttributeSelection::parse(attributes, excluded, NAMES_MAX, &registry, dialect).unwrap();
            selection.apply(&registry, user, resource.as_object().unwrap().clone()).remove(urn)
        };
        let names = Some("userName,Department,manager.value");
        let named = json!({"department": "D", "manager": {"value": "2"}});
        for (dialect, expected) in
            [(Dialect::Rfc, None), (Dialect::Entra, Some(named.clone())), (Dialect::Lenient, Some(named))]
        {
            assert_eq!(shown(names, None, dialect), expected, "{dialect:?}");
        }
        assert_eq!(shown(None, Some("manager"), Dialect::Entra), Some(json!({"department": "D"})));
    }

    #[test]
    fn both_lists_at_once_and_long_ones_are_refused() {
        let registry = Registry::built_in().unwrap();
        let many = |count: usize| vec!["title"; count].join(",");
        for (attributes, excluded, expected) in [
            (Some(many(NAMES_MAX)), None, true),
            (Some(many(NAMES_MAX + 1)), None, false),
            (None, Some(many(NAMES_MAX)), true),
            (None, Some(many(NAMES_MAX + 1)), false),
        ] {
            let found = AttributeSelection::parse(
                attributes.as_deref(),
                excluded.as_deref(),
                NAMES_MAX,
                &registry,
                Dialect::Rfc,
            );
            assert_eq!(found.is_ok(), expected);
        }
        assert!(AttributeSelection::parse(Some("a"), Some("b"), NAMES_MAX, &registry, Dialect::Rfc).is_err());
    }
}
