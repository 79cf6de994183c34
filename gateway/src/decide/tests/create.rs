//! Given a directory, when somebody is to be made, then he is, or is there, or is refused.

use super::*;

#[test]
fn a_free_name_is_taken_under_its_last_sequence() {
    let write = given("User").freed("ada", 12).written(&create("Ada"));
    assert_eq!(write.guard, Guard::Last(12));
    assert_eq!(write.body.document["active"], true);
    assert_eq!(given("User").written(&create("new")).guard, Guard::Last(0));
}

#[test]
fn a_taken_name_is_refused() {
    let rejected = given("User").user(1, "ada", 5).when(&create("ADA")).unwrap_err();
    assert_eq!(rejected, Rejection::NameTaken { attribute: "userName".to_string() });
}

#[test]
fn the_same_request_at_the_same_moment_meets_under_one_key() {
    let called = || Some(AttrPath::of("displayName"));
    let mut given = given("Group");
    let of = |given: &Given, name: &str, external_id: Option<&str>| {
        let write = given.written(&creation(&json!({"displayName": name}), external_id));
        (write.key, write.guard)
    };
    let by_id = proto::subject::key_of_id(id(50));
    assert_eq!(of(&given, "Team", None), (by_id, Guard::Last(0)), "two are wanted");
    given.rules.called = called();
    let (first, guard) = of(&given, "Team", None);
    assert_eq!((of(&given, "Team", None), guard), ((first, Guard::Last(0)), Guard::Last(0)));
    for other in [of(&given, "Crew", None), of(&given, "Team", Some("1"))] {
        assert_ne!(other.0, first);
    }
    // One that was made so stands in nobody's way, and what is gone leaves its place.
    given.keys.insert(first, KeyState { last: 7, holder: Some(id(1)) });
    let (second, guard) = of(&given, "Team", None);
    assert!(second != first && second != by_id && guard == Guard::Last(0));
    given.keys.insert(first, KeyState { last: 9, holder: None });
    assert_eq!(of(&given, "Team", None), (first, Guard::Last(9)));
}

/// Looked for before it was made, and asked for its key after: it may be what this very request made.
#[test]
fn whoever_came_after_a_rival_was_looked_for_is_looked_at_again() {
    let mut ada = given("User").user(1, "ada", 5);
    let mut team = given("Group");
    team.rules.called = Some(AttrPath::of("displayName"));
    let crew = || creation(&json!({"displayName": "Crew"}), None);
    let first = team.written(&crew()).key;
    team.keys.insert(first, KeyState { last: 5, holder: Some(id(2)) });
    (ada.looked_at, team.looked_at) = (Some(4), Some(4));
    assert_eq!(ada.when(&create("ada")).unwrap_err(), Rejection::Overtaken);
    assert_eq!(team.when(&crew()).unwrap_err(), Rejection::Overtaken);
    (ada.looked_at, team.looked_at) = (Some(5), Some(5));
    assert!(matches!(ada.when(&create("ada")), Err(Rejection::NameTaken { .. })));
    assert_ne!(team.written(&crew()).key, first);
    // Whoever left meanwhile left the key, and its guard is as new.
    team.keys.insert(first, KeyState { last: 6, holder: None });
    let write = team.written(&crew());
    assert_eq!((write.key, write.guard), (first, Guard::Last(6)));
}

#[test]
fn whoever_is_made_inactive_is_not_active_because_another_source_owns_that() {
    let mut given = given("User");
    given.rules.owns = Ownership::Except(BTreeSet::from([AttrPath::of("active")]));
    let active = |said: Value| {
        let mut document = json!({"userName": "ada"});
        document["active"] = said;
        given.written(&creation(&document, None)).body.document["active"].clone()
    };
    assert_eq!((active(json!(false)), active(json!(true))), (json!(false), json!(true)));
    assert_eq!(given.written(&create("ada")).body.document["active"], true);
}

#[test]
fn the_same_post_again_writes_nothing() {
    let mut given = given("User").ada();
    given.rival = Asked::Holder(Holding::Repeated);
    assert_eq!(given.when(&create("ada")).unwrap(), Decision::Nothing);
    given.rival = Asked::Holder(Holding::Own);
    assert!(matches!(given.when(&create("ada")), Err(Rejection::NameTaken { .. })));
}

#[test]
fn somebody_inactive_comes_back_only_where_the_rules_say_so() {
    let key = given("User").key_of("ada");
    let mut given =
        given("User").user(1, "ada", 5).current(1, key, json!({"userName": "ada", "active": false}), 5);
    given.rival = Asked::Holder(Holding::Own);
    assert!(matches!(given.when(&create("ada")), Err(Rejection::NameTaken { .. })));
    given.rules.reactivate = true;
    let write = given.written(&creation(&json!({"userName": "ada", "title": "Dr"}), Some("x1")));
    assert_eq!((write.id, write.guard), (id(1), Guard::Last(5)));
    assert_eq!(
        Value::from(Object::clone(&write.body.document)),
        json!({"userName": "ada", "title": "Dr", "active": true})
    );
    // Somebody of another source is another matter.
    given.rival = Asked::Holder(Holding::Other);
    assert!(matches!(given.when(&create("ada")), Err(Rejection::NameTaken { .. })));
}

#[test]
fn a_deletion_is_taken_back_under_the_former_id() {
    let mut given = given("User").freed("ada", 8);
    given.rules.tombstone = Some(SignedDuration::from_hours(24));
    given.rival = Asked::Former(id(3));
    let write = given.written(&create("ada"));
    assert_eq!((write.id, write.guard), (id(3), Guard::Last(8)));
}

#[test]
fn a_second_source_joins_and_clears_nothing() {
    let key = given("User").key_of("ada");
    let document = json!({"userName": "ada", "title": "Dr", "active": true});
    let mut given = given("User").user(1, "ada", 5).current(1, key, document, 5);
    given.rival = Asked::Joined;
    let write = given.written(&creation(&json!({"userName": "ada", "nickName": "A"}), Some("x1")));
    assert_eq!(write.id, id(1));
    assert_eq!(write.body.external_ids["hr"], "x1");
    assert_eq!(write.body.document["title"], "Dr");
    assert_eq!(write.body.document["nickName"], "A");
    given.rival = Asked::Ambiguous;
    assert_eq!(given.when(&create("ada")).unwrap_err(), Rejection::Ambiguous);
}

#[test]
fn a_second_source_adds_to_what_has_parts_and_values() {
    let enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
    let key = given("User").key_of("ada");
    let document = json!({
        "userName": "ada", "active": true, "name": {"givenName": "Ada", "familyName": "B"},
        "emails": [{"value": "a@x.test", "type": "work", "primary": true}], "roles": [{"value": "nurse"}],
        enterprise: {"department": "D", "manager": {"value": "1"}},
    });
    let mut given = given("User").user(1, "ada", 5).current(1, key, document, 5);
    given.rival = Asked::Joined;
    let said = json!({
        "userName": "ada", "name": {"familyName": "L"}, "emails": [{"value": "b@x.test", "primary": true}],
        "roles": [{"value": "nurse"}, {"value": "poet"}], enterprise: {"division": "V"},
    });
    let expected = json!({
        "userName": "ada", "active": true, "name": {"givenName": "Ada", "familyName": "L"},
        "emails": [{"value": "a@x.test", "type": "work", "primary": false}, {"value": "b@x.test", "primary": true}],
        "roles": [{"value": "nurse"}, {"value": "poet"}],
        enterprise: {"department": "D", "division": "V", "manager": {"value": "1"}},
    });
    let write = given.written(&creation(&said, Some("x1")));
    assert_eq!(Value::from(Object::clone(&write.body.document)), expected);
    // What it does not own is not added, whatever it says.
    given.rules.owns = Ownership::Except(BTreeSet::from([AttrPath::of("emails"), AttrPath::of("roles")]));
    let document = given.written(&creation(&said, None)).body.document;
    assert_eq!(
        (document["emails"].as_array().unwrap().len(), document["roles"].as_array().unwrap().len()),
        (1, 1)
    );
}

/// A POST changes no more than a PUT or a PATCH could.
#[test]
fn what_cannot_change_does_not_because_somebody_joins_or_comes_back() {
    let urn = "urn:example:scim:Kit";
    let with_kit = |mut given: Given| {
        let schema = json!({"id": urn, "name": "Kit", "attributes": [
            {"name": "once", "type": "string", "mutability": "immutable"}, {"name": "pin", "type": "string", "returned": "never"},
            {"name": "word", "type": "string"}]});
        given.registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        let extension = scim::SchemaExtension { schema: urn.to_string(), required: false };
        given.registry.extend("User", extension).unwrap();
        let key = given.key_of("ada");
        let document =
            json!({"userName": "ada", "active": false, urn: {"once": "1", "pin": "p", "word": "w"}});
        given.rules.reactivate = true;
        given.user(1, "ada", 5).current(1, key, document, 5)
    };
    for rival in [Asked::Joined, Asked::Holder(Holding::Own)] {
        let mut given = with_kit(given("User"));
        given.rival = rival;
        let other = creation(&json!({"userName": "ada", urn: {"once": "2"}}), Some("x1"));
        let Err(Rejection::Invalid(error)) = given.when(&other) else { panic!("it is changed") };
        assert_eq!(error.scim_type, Some(ScimType::Mutability));
        given.rules.owns = Ownership::Except(BTreeSet::from([AttrPath {
            schema: Some(urn.to_string()),
            name: Some("once".to_string()),
            sub: None,
        }]));
        assert_eq!(given.written(&other).body.document[urn]["once"], "1");
        given.rules.owns = Ownership::All;
        let kept = given.written(&creation(&json!({"userName": "ada", "title": "Dr"}), Some("x1")));
        let kit = &kept.body.document[urn];
        assert_eq!((&kit["once"], &kit["pin"]), (&json!("1"), &json!("p")));
    }
}

#[test]
fn a_resource_has_its_size() {
    let mut given = given("User");
    given.rules = Rules::default();
    let long = "x".repeat(Limits::default().resource_bytes_max);
    let refused = given.when(&creation(&json!({"userName": "ada", "title": long}), None)).unwrap_err();
    assert!(matches!(refused, Rejection::Invalid(error) if error.status == 413));
}

/// The limit may be lower than it was when somebody came, and he must be able to leave.
#[test]
fn whoever_is_too_large_already_may_not_grow_and_may_leave() {
    let long = "x".repeat(Limits::default().resource_bytes_max);
    let document = json!({"userName": "ada", "active": true, "title": long, "nickName": "A"});
    let given = given("User").ada();
    let key = given.key_of("ada");
    let given = given.current(1, key, document, 5);
    let patched = |value: &Value| patch(1, json!([{"op": "replace", "value": value}]));
    for changed in [
        json!({"active": false}),
        json!({"active": false, "title": &long[1..]}),
        json!({"nickName": "B"}),
        json!({"nickName": null}),
    ] {
        given.written(&patched(&changed));
    }
    for grown in [json!({"nickName": "AB"}), json!({"displayName": "A"})] {
        let refused = given.when(&patched(&grown)).unwrap_err();
        assert!(matches!(refused, Rejection::Invalid(error) if error.status == 413));
    }
}
