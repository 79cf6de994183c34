//! What bodies become, and which are refused.

use super::*;
use crate::Dialect;
use serde_json::json;

fn read(kind: &str, dialect: Dialect, body: Value) -> Result<Object, Error> {
    let registry = Registry::built_in().unwrap();
    let kind = registry.by_name(kind).unwrap().clone();
    create(Context { registry: &registry, kind: &kind, speech: dialect.into() }, body)
}

/// The document of a PUT.
fn replace(context: Context<'_>, body: Value, current: &Object) -> Result<Object, Error> {
    super::replace(context, body, current, |_| {}).map(|parts| Object::clone(&parts.document))
}

#[track_caller]
fn check(body: Value, expected: Value) {
    let mut body = body;
    body["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User"]);
    assert_eq!(Value::Object(read("User", Dialect::Rfc, body).unwrap()), expected);
}

#[track_caller]
fn refused(dialect: Dialect, body: Value, scim_type: ScimType) {
    assert_eq!(read("User", dialect, body).unwrap_err().scim_type, Some(scim_type));
}

#[test]
fn names_become_canonical_and_nothing_becomes_absent() {
    check(
        json!({"USERNAME": "ada", "Name": {"GIVENNAME": "Ada", "familyName": null}, "emails": [], "title": null, "id": "x",
               "groups": [{"value": "1"}], "shoeSize": 9, "roles": [{"value": "a"}, {"value": "a"}]}),
        json!({"userName": "ada", "name": {"givenName": "Ada"}, "roles": [{"value": "a"}]}),
    );
}

#[test]
fn wrong_types_are_refused_by_name() {
    let with = |name: &str, value: Value| json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada", name: value});
    for (name, value) in [
        ("active", json!("yes")),
        ("active", json!("True")),
        ("name", json!("Ada")),
        ("emails", json!("a@b.test")),
        ("title", json!(5)),
        ("emails", json!([{"value": "a", "primary": true}, {"value": "b", "primary": true}])),
        ("x509Certificates", json!([{"value": "no base64!"}])),
        ("userName", json!("  ")),
    ] {
        refused(Dialect::Rfc, with(name, value), ScimType::InvalidValue);
    }
    refused(Dialect::Rfc, json!([]), ScimType::InvalidSyntax);
    refused(Dialect::Rfc, json!({"userName": "ada"}), ScimType::InvalidSyntax);
    refused(Dialect::Rfc, json!({"schemas": ["urn:x"], "userName": "ada"}), ScimType::InvalidSyntax);
    refused(
        Dialect::Rfc,
        json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "a", "username": "b"}),
        ScimType::InvalidSyntax,
    );
    refused(
        Dialect::Rfc,
        json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"]}),
        ScimType::InvalidValue,
    );
}

#[test]
fn what_entra_sends_is_understood() {
    let full = read(
        "User",
        Dialect::Entra,
        json!({
            "schemas": ["urn:x"], "userName": "ada", "active": "False", "manager": "42",
            "roles": ["{\"value\":\"admin\",\"displayName\":\"Administrator\"}"],
        }),
    )
    .unwrap();
    assert_eq!(full["active"], false);
    assert_eq!(full["urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"]["manager"]["value"], "42");
    assert_eq!(full["roles"][0], json!({"value": "admin", "display": "Administrator"}));
}

#[test]
fn a_full_document_is_taken_apart() {
    let registry = Registry::built_in().unwrap();
    let kind = registry.by_name("Group").unwrap();
    let context = Context { registry: &registry, kind, speech: Dialect::Rfc.into() };
    let full = create(context, json!({
        "schemas": [kind.schema], "displayName": "G", "externalId": "e",
        "members": [{"value": "1", "display": "One"}, {"$ref": "https://x.test/Users/2"}, {"value": "1", "type": "User"}],
    })).unwrap();
    let parts = split(context, full);
    assert_eq!(parts.external_id.as_deref(), Some("e"));
    assert_eq!(parts.members, Some(vec!["1".to_string(), "2".to_string()]));
    assert_eq!(Value::Object(Object::clone(&parts.document)), json!({"displayName": "G"}));
}

#[test]
fn a_member_is_somebody() {
    let group = |members: Value| json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "G", "members": members});
    for nobody in [json!({}), json!({"value": null}), json!({"value": ""}), json!({"display": "x"})] {
        let refused = read("Group", Dialect::Entra, group(json!([{"value": "1"}, nobody])));
        assert_eq!(refused.unwrap_err().scim_type, Some(ScimType::InvalidValue));
    }
    for none in [json!([]), json!(null)] {
        assert_eq!(read("Group", Dialect::Okta, group(none)).unwrap().get("members"), None);
    }
}

#[test]
fn what_stands_under_the_base_schema_is_meant() {
    let urn = "urn:ietf:params:scim:schemas:core:2.0:User";
    check(json!({"userName": "ada", urn: {"TITLE": "Dr"}}), json!({"userName": "ada", "title": "Dr"}));
    check(json!({"userName": "ada", urn.to_uppercase(): null}), json!({"userName": "ada"}));
    let with = |inner: Value| json!({"schemas": [urn], "userName": "ada", "title": "Dr", urn: inner});
    refused(Dialect::Rfc, with(json!({"title": "Prof"})), ScimType::InvalidSyntax);
    refused(Dialect::Rfc, with(json!({"Title": "Prof"})), ScimType::InvalidSyntax);
    refused(Dialect::Rfc, with(json!("Prof")), ScimType::InvalidValue);
}

#[test]
fn what_nobody_knows_is_named() {
    let registry = Registry::built_in().unwrap();
    let kind = registry.by_name("User").unwrap();
    let context = Context { registry: &registry, kind, speech: Dialect::Rfc.into() };
    let (base, more) = (&kind.schema, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User");
    for (body, expected) in [
        (json!({"userName": "a", base: {"title": "x"}, more: {"department": "d"}}), None),
        (json!({"shoes": 1}), Some("shoes".to_string())),
        (json!({"name": {"shoes": 1}}), Some("name.shoes".to_string())),
        // Only a PATCH has paths for keys.
        (json!({"name.givenName": "A"}), Some("name.givenName".to_string())),
        (json!({base: {"shoes": 1}}), Some(format!("{base}:shoes"))),
        (json!({more: {"shoes": 1}}), Some(format!("{more}:shoes"))),
    ] {
        assert_eq!(unknown(context, &body), expected, "{body}");
    }
    for (operation, expected) in [
        (
            json!({"op": "add", "value": {"title": "x", more: {"department": "d"}, base: {"title": "x"}}}),
            None,
        ),
        (json!({"op": "add", "value": {"shoes": 1}}), Some("shoes".to_string())),
        (json!({"op": "add", "value": {"name.shoes": 1}}), Some("name.shoes".to_string())),
        (json!({"op": "add", "value": {"shoes[type eq 1]": 1}}), Some("shoes[type eq 1]".to_string())),
        (json!({"op": "add", "path": "name", "value": {"shoes": 1}}), Some("name.shoes".to_string())),
        (
            json!({"op": "add", "path": "emails", "value": [{"value": "a"}, {"shoes": 1}]}),
            Some("emails.shoes".to_string()),
        ),
        (
            json!({"op": "add", "path": "emails[type eq \"a\"]", "value": {"shoes": 1}}),
            Some("emails.shoes".to_string()),
        ),
        (json!({"op": "add", "value": {more: {"shoes": 1}}}), Some(format!("{more}:shoes"))),
        (json!({"op": "add", "path": more, "value": {"shoes": 1}}), Some(format!("{more}:shoes"))),
        (json!({"op": "add", "value": {more: {"": {"shoes": 1}}}}), Some(format!("{more}:"))),
    ] {
        let body =
            json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [operation]});
        let patch = crate::Patch::parse(context, body, &crate::FilterLimits::default()).unwrap();
        assert_eq!(patch.unknown(context), expected, "{operation}");
    }
}

#[test]
fn a_name_that_stands_twice_is_noticed_in_few_and_in_many() {
    for others in [1, COMPARED_MAX - 1, COMPARED_MAX, 200] {
        let mut object: Object = (0..others).map(|number| (format!("x{number}"), json!(1))).collect();
        object.insert("Title".to_string(), json!(1));
        assert!(each_name_once(&object).is_ok(), "{others}");
        object.insert("tITLE".to_string(), json!(1));
        assert!(each_name_once(&object).is_err(), "{others}");
    }
}

#[test]
fn each_value_has_its_required_parts() {
    let mut registry = Registry::built_in().unwrap();
    let desk = serde_json::from_str(include_str!("../../testdata/desk.json")).unwrap();
    registry.add_schema(desk).unwrap();
    let urn = "urn:example:scim:Desk";
    registry.extend("User", crate::SchemaExtension { schema: urn.to_string(), required: false }).unwrap();
    let kind = registry.by_name("User").unwrap();
    let context = Context { registry: &registry, kind, speech: Dialect::Rfc.into() };
    let with = |kit: Value| json!({"schemas": [kind.schema, urn], "userName": "ada", urn: {"kit": kit}});
    assert!(create(context, with(json!([{"code": "c", "serial": "s"}]))).is_ok());
    assert!(create(context, with(json!([]))).is_ok());
    for kit in [json!([{"serial": "s"}]), json!([{"code": "c"}, {"code": " ", "serial": "s"}])] {
        let error = create(context, with(kit.clone())).unwrap_err();
        assert_eq!(error.scim_type, Some(ScimType::InvalidValue));
        assert!(error.detail.contains("kit.code"), "{}", error.detail);
        assert!(replace(context, with(kit), &Object::new()).is_err());
    }
}

/// An extension, or an attribute, may be required only since somebody was written: he must be able to leave.
#[test]
fn a_patch_need_not_bring_what_was_missing_before_it() {
    let mut registry = Registry::built_in().unwrap();
    let desk = serde_json::from_str(include_str!("../../testdata/desk.json")).unwrap();
    registry.add_schema(desk).unwrap();
    let urn = "urn:example:scim:Desk";
    registry.extend("User", crate::SchemaExtension { schema: urn.to_string(), required: true }).unwrap();
    let kind = registry.by_name("User").unwrap();
    let context = Context { registry: &registry, kind, speech: Dialect::Rfc.into() };
    let patched = |document: Value, path: &str, value: Value| {
        let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": path, "value": value}]});
        let patch = crate::Patch::parse(context, body, &crate::FilterLimits::default()).unwrap();
        patch.apply(context, "1", document.as_object().unwrap().clone(), 1_000)
    };
    let kit = format!("{urn}:kit");
    assert!(patched(json!({"userName": "ada", "active": true}), "active", json!(false)).is_ok());
    let half = json!({"userName": "ada", "active": true, urn: {"kit": [{"serial": "s"}]}});
    assert!(patched(half.clone(), "active", json!(false)).is_ok());
    assert!(patched(half.clone(), &kit, json!([{"serial": "t"}])).is_ok());
    let two = json!([{"serial": "s"}, {"serial": "t"}]);
    assert!(patched(half, &kit, two).unwrap_err().detail.contains("kit.code"));
    let whole = json!({"userName": "ada", urn: {"kit": [{"code": "c"}]}});
    assert!(patched(whole.clone(), &kit, json!([{"serial": "s"}])).is_err());
    assert!(patched(whole, urn, Value::Null).unwrap_err().detail.contains("is required"));
    let body = json!({"schemas": [kind.schema], "userName": "ada"});
    assert!(replace(context, body, &Object::new()).is_err(), "whoever says all of it says what is required");
}

/// What a PUT leaves out of a complex attribute is gone, save for what never changes.
#[test]
fn an_immutable_part_keeps_its_value() {
    let mut registry = Registry::built_in().unwrap();
    let desk: Schema = serde_json::from_str(include_str!("../../testdata/desk.json")).unwrap();
    let urn = desk.id.clone();
    registry.add_schema(desk).unwrap();
    let extension = crate::SchemaExtension { schema: urn.clone(), required: false };
    registry.extend("User", extension).unwrap();
    let kind = registry.by_name("User").unwrap();
    let context = Context { registry: &registry, kind, speech: Dialect::Rfc.into() };
    let current = json!({"userName": "ada", &*urn: {"screen": {"serial": "s1", "size": 27}}});
    let put = |desk: Value| {
        let body = json!({"schemas": [kind.schema], "userName": "ada", &*urn: desk});
        replace(context, body, current.as_object().unwrap()).map(|full| full.get(&urn).cloned())
    };
    let kept = |screen: Value| Ok(Some(json!({"screen": screen})));
    assert_eq!(put(json!({"screen": {"size": 32}})), kept(json!({"serial": "s1", "size": 32})));
    assert_eq!(put(json!({"screen": {"serial": "s1"}})), kept(json!({"serial": "s1"})));
    assert_eq!(put(json!({"screen": null})), kept(json!({"serial": "s1"})));
    assert_eq!(put(Value::Null), kept(json!({"serial": "s1"})));
    let changed = put(json!({"screen": {"serial": "s2"}})).unwrap_err();
    assert_eq!(changed.scim_type, Some(ScimType::Mutability));
}

/// Whoever knows nothing of an attribute leaves it out, and what is kept of it is whole all the same.
#[test]
fn what_is_kept_of_something_left_out_has_its_required_parts() {
    let mut registry = Registry::built_in().unwrap();
    let rack: Schema = serde_json::from_str(include_str!("../../testdata/rack.json")).unwrap();
    let urn = rack.id.clone();
    registry.add_schema(rack).unwrap();
    let extension = crate::SchemaExtension { schema: urn.clone(), required: false };
    registry.extend("User", extension).unwrap();
    let kind = registry.by_name("User").unwrap();
    let context = Context { registry: &registry, kind, speech: Dialect::Rfc.into() };
    let put = |lock: Value, body: Value| {
        let current = json!({"userName": "ada", &*urn: {"lock": lock}});
        let mut whole = json!({"schemas": [kind.schema], "userName": "ada"});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        replace(context, whole, current.as_object().unwrap()).map(|full| full.get(&urn).cloned())
    };
    let lock = || json!({"kind": "k", "serial": "s", "note": "n"});
    let kept = Ok(Some(json!({"lock": {"kind": "k", "serial": "s"}})));
    assert_eq!(put(lock(), json!({})), kept);
    assert_eq!(put(lock(), json!({&*urn: {}})), kept);
    assert_eq!(put(lock(), json!({&*urn: {"lock": null}})), kept);
    // Whoever names it says it as a whole.
    assert!(put(lock(), json!({&*urn: {"lock": {"note": "m"}}})).is_err());
    assert_eq!(put(json!({"kind": "k", "note": "n"}), json!({})), Ok(None));
}
