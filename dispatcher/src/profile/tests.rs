//! What profiles say, and what they make of somebody.

use super::*;
use serde_json::json;

fn own(text: &str) -> Profile {
    Profile::parse(text).unwrap()
}

#[track_caller]
fn check(profile: &str, attributes: Value, expected: Value) {
    let shaped = own(profile).shape("User", attributes.as_object().unwrap().clone());
    let shaped = match shaped {
        Ok(shaped) => Value::Object(shaped),
        Err(missing) => missing.to_string().into(),
    };
    assert_eq!(shaped, expected);
}

#[test]
fn every_shipped_profile_can_be_read() {
    for name in Profile::shipped_names() {
        let profile = Profile::shipped(name).unwrap().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(profile.of("User").is_some() && !profile.about.is_empty(), "{name}");
    }
    assert_eq!((IdCase::Any.of("A1"), IdCase::Exact.of("A1")), ("a1".to_string(), "A1".to_string()));
    assert_eq!(Profile::shipped("teams"), None);
    assert_eq!(Profile::scim().of("Device").map(|own| own.change), Some(Change::Put));
    assert!(Profile::shipped("github-org").unwrap().unwrap().of("Group").is_none());
}

#[test]
fn attributes_are_kept_or_dropped() {
    let person = json!({"schemas": ["core"], "userName": "ada", "name": {"givenName": "A", "middleName": "M"},
        "title": "Dr", "externalId": "1", "emails": [{"value": "a@x", "display": "A"}]});
    check(
        "[type.User]\nonly = [\"userName\", \"name.givenName\"]",
        person.clone(),
        json!({"schemas": ["core"], "userName": "ada", "name": {"givenName": "A"}, "externalId": "1"}),
    );
    check(
        "[type.User]\ndropped = [\"emails.display\", \"name.givenName\", \"name.middleName\", \"title\"]",
        person,
        json!({"schemas": ["core"], "userName": "ada", "externalId": "1", "emails": [{"value": "a@x"}]}),
    );
}

#[test]
fn an_extension_goes_with_its_schema() {
    let urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
    let person = json!({"schemas": ["core", urn], "userName": "a", urn: {"manager": {"value": "1", "displayName": "B"}}});
    check(
        &format!("[type.User]\ndropped = [\"{urn}:manager.displayName\"]"),
        person.clone(),
        json!({"schemas": ["core", urn], "userName": "a", urn: {"manager": {"value": "1"}}}),
    );
    check(
        &format!("[type.User]\ndropped = [\"{urn}\"]"),
        person.clone(),
        json!({"schemas": ["core"], "userName": "a"}),
    );
    check(
        &format!("[type.User]\ndropped = [\"{urn}:manager\"]"),
        person,
        json!({"schemas": ["core"], "userName": "a"}),
    );
}

#[test]
fn one_value_remains_and_is_the_primary_one() {
    let profile = "[type.User]\nsingle = [\"emails\"]";
    check(
        profile,
        json!({"emails": [{"value": "a"}, {"value": "b", "primary": true}]}),
        json!({"emails": [{"value": "b", "primary": true}]}),
    );
    check(
        profile,
        json!({"emails": [{"value": "a"}, {"value": "b"}]}),
        json!({"emails": [{"value": "a", "primary": true}]}),
    );
}

#[test]
fn what_is_missing_is_said_without_saying_of_whom() {
    let profile = "[type.User]\nrequired = [\"name.givenName\", \"emails\"]\nlower_case = [\"userName\"]\nlongest = { userName = 3 }";
    check(
        profile,
        json!({"userName": "Ada", "name": {"givenName": "A"}, "emails": [{"value": "a"}]}),
        json!({"userName": "ada", "name": {"givenName": "A"}, "emails": [{"value": "a"}]}),
    );
    check(
        profile,
        json!({"userName": "adele", "emails": []}),
        json!(
            "the app would refuse it: it needs name.givenName, emails, which the resource does not have; userName has more than 3 characters"
        ),
    );
}

#[track_caller]
fn wrong(text: &str, expected: &str) {
    let error = Profile::parse(text).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_cannot_be_is_refused_and_said() {
    wrong("", "it has no resource type");
    wrong("[type.User]\nfoo = 1", "unknown field `foo`");
    wrong("[type.User]\nchange = \"post\"", "unknown variant `post`");
    wrong("[type.User]\noperations = [\"create\", \"put\"]", "type.User.delete: delete is not among");
    wrong(
        "[type.User]\noperations = [\"create\", \"put\", \"delete\"]\nchange = \"patch\"",
        "change: patch is not among",
    );
    wrong("[type.User]\nclears = [\"title\"]", "type.User.clears: say how");
    wrong("[type.User]\nexternal_id = false", "externalId cannot be searched");
    wrong("[type.User]\nrequired = [\"title\"]\nonly = [\"userName\"]", "title is required and dropped");
    wrong("[[budget]]\ncalls = \"all\"\nper = \"minute\"\nlimit = 0\n[type.User]", "limit must be 1 or more");
}

#[test]
fn budgets_do_not_count_for_the_plan() {
    let plain = own("[type.User]");
    let budget = own("[[budget]]\ncalls = \"all\"\nper = \"minute\"\nlimit = 5\n[type.User]");
    assert_eq!(plain.hash(), budget.hash());
    assert_ne!(plain.hash(), own("[type.User]\nsingle = [\"emails\"]").hash());
}
