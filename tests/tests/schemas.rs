//! Resource types and extensions of one's own: served, checked, found, unique, told to subscribers and apps.

#![cfg(test)]

use std::thread;

use serde_json::{Value, json};
use street::House;
use street::house::{Client, Options, eventually, group, user};

const BADGE: &str = "urn:example:scim:Badge";
const DESK: &str = "urn:example:scim:Desk";

fn options(more: &str) -> Options {
    let schemas = json!([
        {"id": BADGE, "name": "Badge", "attributes": [
            {"name": "number", "type": "string", "required": true, "uniqueness": "server"},
            {"name": "chip", "type": "integer", "uniqueness": "server"},
            {"name": "issuedAt", "type": "dateTime", "mutability": "immutable"},
            {"name": "pin", "type": "string", "mutability": "writeOnly", "returned": "never"},
            {"name": "seed", "type": "string", "returned": "never"},
            {"name": "doors", "type": "complex", "multiValued": true, "subAttributes": [
                {"name": "value", "type": "string"}, {"name": "floor", "type": "integer"}]},
        ]},
        {"id": DESK, "name": "Desk", "attributes": [
            {"name": "place", "type": "string", "uniqueness": "server"},
            {"name": "screens", "type": "integer"},
            {"name": "remark", "type": "string", "returned": "request"},
        ]},
    ]);
    let types = json!({"id": "Badge", "name": "Badge", "endpoint": "/Badges", "schema": BADGE});
    let configuration = format!(
        "[scim]\nschemas = [\"*.schema.json\"]\nresource_types = [\"types.json\"]\n\
         [[scim.extension]]\nresource_type = \"User\"\nschema = \"{DESK}\"\n\
         [projection]\nindexed = [\"{DESK}:screens\"]\n{more}"
    );
    Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(configuration),
        files: vec![
            ("own.schema.json".to_string(), schemas.to_string()),
            ("types.json".to_string(), types.to_string()),
        ],
    }
}

fn badge(number: &str, chip: i64) -> Value {
    json!({"schemas": [BADGE], "number": number, "chip": chip, "issuedAt": "2026-01-02T03:04:05Z", "pin": "1234",
           "seed": "s3cret", "doors": [{"value": "north", "floor": 3}]})
}

fn found(corp: &Client, path: &str, filter: &str) -> u64 {
    let filter = filter.replace(' ', "%20").replace('"', "%22").replace('[', "%5B").replace(']', "%5D");
    corp.get(&format!("{path}?filter={filter}")).expect(200).body["totalResults"].as_u64().unwrap()
}

#[test]
fn a_type_of_ones_own_is_served_like_any_other() {
    let house = House::start_with(options(""));
    let corp = house.corp();
    let types = corp.get("/ResourceTypes").expect(200);
    assert!(types.body["Resources"].as_array().unwrap().iter().any(|kind| kind["endpoint"] == "/Badges"));
    assert_eq!(corp.get(&format!("/Schemas/{BADGE}")).expect(200).body["attributes"][1]["name"], "chip");
    let user_type = corp.get("/ResourceTypes/User").expect(200);
    assert_eq!(user_type.body["schemaExtensions"][1]["schema"], DESK);

    let made = corp.post("/Badges", &badge("A-1", 7)).expect(201);
    assert!(made.body.get("pin").is_none(), "{}", made.text);
    assert!(made.header("location").unwrap().ends_with(&format!("/Badges/{}", made.id())));
    assert_eq!(made.body["meta"]["resourceType"], "Badge");
    let path = format!("/Badges/{}", made.id());
    assert_eq!(
        corp.post("/Badges", &json!({"schemas": [BADGE]})).expect(400).body["scimType"],
        "invalidValue"
    );
    let again = corp.post("/Badges", &badge("a-1", 8)).expect(409);
    assert_eq!(again.body["scimType"], "uniqueness");
    assert_eq!(corp.post("/Badges", &badge("a-2", 7)).expect(409).body["scimType"], "uniqueness");
    corp.post("/Badges", &badge("a-2", 8)).expect(201);

    for (filter, count) in [
        ("number eq \"A-2\"", 1),
        ("chip gt 7", 1),
        ("chip eq 7", 1),
        ("doors[value eq \"north\" and floor ge 3]", 2),
        ("issuedAt gt \"2026-01-02T03:04:04Z\"", 2),
        ("urn:example:scim:Badge:number sw \"a-\"", 2),
        ("userName pr", 0),
    ] {
        assert_eq!(found(&corp, "/Badges", filter), count, "{filter}");
    }
    let later = json!([{"op": "replace", "path": "issuedAt", "value": "2026-02-02T00:00:00Z"}]);
    assert_eq!(corp.patch(&path, later).expect(400).body["scimType"], "mutability");
    let more = json!([{"op": "add", "path": "doors", "value": [{"value": "south", "floor": 1}]}]);
    assert_eq!(corp.patch(&path, more).expect(200).body["doors"].as_array().unwrap().len(), 2);
    // A freed chip can be taken by another, and the freed number too.
    corp.patch(&path, json!([{"op": "remove", "path": "chip"}])).expect(200);
    corp.post("/Badges", &badge("a-3", 7)).expect(201);
    corp.delete(&path).expect(204);
    corp.post("/Badges", &badge("A-1", 9)).expect(201);
    let told = house.events("corp");
    assert!(told.iter().any(|event| event["resourceType"] == "Badge"));
}

/// Clients PUT back what they got with GET, and what that did not show is not theirs to clear without a word.
#[test]
fn what_was_not_shown_is_not_cleared_by_a_put() {
    let house = House::start_with(options(""));
    let corp = house.corp();
    let mut ada = user("ada");
    ada["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", DESK]);
    ada[DESK] = json!({"place": "W1", "remark": "by the window"});
    let path = format!("/Users/{}", corp.post("/Users", &ada).expect(201).id());
    let remark = || {
        let shown = corp.get(&format!("{path}?attributes={DESK}:remark")).expect(200);
        shown.body[DESK]["remark"].clone()
    };
    let mut got = corp.get(&path).expect(200).body;
    assert_eq!(got[DESK], json!({"place": "W1"}));
    got["title"] = json!("Countess");
    assert_eq!(corp.put(&path, &got).expect(200).body["title"], "Countess");
    assert_eq!(remark(), "by the window");
    got[DESK]["remark"] = Value::Null;
    corp.put(&path, &got).expect(200);
    assert_eq!(remark(), Value::Null);
}

/// RFC 7643 §7: what is returned on request is in the answer to a change that names it, and in no other.
#[test]
fn a_change_is_answered_with_what_it_named() {
    let house = House::start_with(options(""));
    let corp = house.corp();
    let mut ada = user("ada");
    ada["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", DESK]);
    ada[DESK] = json!({"place": "W1", "remark": "by the window"});
    let made = corp.post("/Users", &ada).expect(201);
    assert_eq!(made.body[DESK], ada[DESK]);
    let path = format!("/Users/{}", made.id());
    assert_eq!(corp.put(&path, &ada).expect(200).body[DESK], ada[DESK]);
    let patched = |path_in: &str, value: &str| {
        let operations = json!([{"op": "replace", "path": path_in, "value": value}]);
        corp.patch(&path, operations).expect(200).body[DESK]["remark"].clone()
    };
    assert_eq!(patched(&format!("{DESK}:remark"), "by the door"), "by the door");
    assert_eq!(patched("title", "Dr"), Value::Null);
    assert_eq!(corp.get(&path).expect(200).body[DESK], json!({"place": "W1"}));
    let shown = corp.post(&format!("/Users?excludedAttributes={DESK}:remark"), &{
        ada["userName"] = json!("bob");
        ada[DESK]["place"] = json!("W2");
        ada
    });
    assert_eq!(shown.expect(201).body[DESK], json!({"place": "W2"}));
}

#[test]
fn an_extension_of_ones_own_is_checked_found_and_unique() {
    let mut house = House::start_with(options(""));
    let corp = house.corp();
    let at = |name: &str, place: &str, screens: Value| {
        let mut user = user(name);
        user["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", DESK]);
        user[DESK] = json!({"place": place, "screens": screens});
        user
    };
    corp.post("/Users", &at("ada", "3-17", json!(2))).expect(201);
    assert_eq!(
        corp.post("/Users", &at("eve", "3-18", json!("two"))).expect(400).body["scimType"],
        "invalidValue"
    );
    assert_eq!(corp.post("/Users", &at("eve", "3-17", json!(1))).expect(409).body["scimType"], "uniqueness");
    let bob = corp.post("/Users", &at("bob", "3-18", json!(1))).expect(201).id();
    assert_eq!(found(&corp, "/Users", &format!("{DESK}:place eq \"3-17\"")), 1);
    assert_eq!(found(&corp, "/Users", &format!("{DESK}:screens eq 2")), 1);
    let moves = json!([{"op": "replace", "path": format!("{DESK}:place"), "value": "3-17"}]);
    assert_eq!(
        corp.patch(&format!("/Users/{bob}"), moves.clone()).expect(409).body["scimType"],
        "uniqueness"
    );

    // What is taken stays taken after a restart from nothing but the log.
    assert!(house.stop());
    std::fs::remove_dir_all(house.data_dir().join("projection")).unwrap();
    house.start_again();
    let corp = house.corp();
    corp.patch(&format!("/Users/{bob}"), moves).expect(409);
    let racers: Vec<_> = (0..16)
        .map(|number| {
            let (corp, body) = (corp.clone(), at(&format!("racer{number}"), "9-1", json!(1)));
            thread::spawn(move || corp.post("/Users", &body).status)
        })
        .collect();
    let mut answers: Vec<u16> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
    answers.sort_unstable();
    assert_eq!(
        (answers[0], answers.iter().filter(|status| **status == 409).count()),
        (201, 15),
        "{answers:?}"
    );
}

#[test]
fn an_app_gets_the_types_that_it_is_asked_to() {
    let app = House::start_with(options(""));
    let house = House::start_with(options(&format!(
        "[app.doors]\ntenant = \"corp\"\nurl = \"{}\"\ntoken = \"{}\"\nusers = 'userName eq \"nobody\"'\n\
         provision_groups = false\n[app.doors.types]\nBadge = 'chip gt 5'\n",
        app.env("SCIM_URL"),
        app.env("SCIM_TOKEN")
    )));
    let (corp, accounts) = (house.corp(), app.corp());
    corp.post("/Users", &user("ada")).expect(201);
    corp.post("/Groups", &group("Team", &[])).expect(201);
    corp.post("/Badges", &badge("low", 1)).expect(201);
    let id = corp.post("/Badges", &badge("high", 6)).expect(201).id();
    let there = eventually("the badge", || accounts.find("/Badges", "number", "high"));
    assert_eq!(there["externalId"], json!(id));
    assert_eq!(accounts.get("/Badges").expect(200).body["totalResults"], 1);
    corp.patch(&format!("/Badges/{id}"), json!([{"op": "replace", "path": "chip", "value": 2}])).expect(200);
    eventually("the badge is gone", || accounts.find("/Badges", "number", "high").is_none().then_some(()));
    assert_eq!(accounts.get("/Users").expect(200).body["totalResults"], 0);
}

/// Nobody who looks back is shown it, either, and no app is told that does not have it named in its mapping.
#[test]
fn what_is_never_returned_is_told_to_nobody_else() {
    let app = House::start_with(options(""));
    let house = House::start_with(options(&format!(
        "[app.doors]\ntenant = \"corp\"\nurl = \"{}\"\ntoken = \"{}\"\n[app.doors.types]\nBadge = ''\n",
        app.env("SCIM_URL"),
        app.env("SCIM_TOKEN")
    )));
    let id = house.corp().post("/Badges", &badge("one", 6)).expect(201).id();
    let there = eventually("the badge", || app.corp().find("/Badges", "number", "one"));
    let told = |house: &House, id: &str| {
        let history =
            house.rollcall(&["audit", "history", "--tenant", "corp", "--id", id, "--format", "json"]);
        let tail = house.rollcall(&["events", "tail", "--from", "1", "--no-follow", "--json"]);
        let timeline = house.rollcall(&["timeline", id, "--json"]);
        [history, tail, timeline]
    };
    for text in told(&house, &id) {
        assert!(text.contains("seed") && !text.contains("s3cret"), "{text}");
    }
    let at_the_app = app.rollcall(&["events", "tail", "--from", "1", "--no-follow", "--json"]);
    assert!(
        at_the_app.contains(there["id"].as_str().unwrap()) && !at_the_app.contains("seed"),
        "{at_the_app}"
    );
}

#[test]
fn mistakes_in_schemas_and_policies_are_all_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.json"), r#"{"id": "badge", "name": "x", "attributes": []}"#)
        .unwrap();
    let configuration = "[scim]\nschemas = [\"bad.json\", \"gone.json\"]\n[projection]\nindexed = [\"shoeSize\"]\n\
                         [tenant.corp]\nunique = {User = [\"emails\"]}\n[tenant.corp.source.hr]\njoin = [\"nothing\"]\nowns = [\"wings\"]\n";
    let path = folder.path().join("rollcall.toml");
    std::fs::write(&path, configuration).unwrap();
    let output = std::process::Command::new(street::house::program())
        .args([
            "up",
            "--config",
            path.to_str().unwrap(),
            "--data-dir",
            folder.path().join("var").to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in ["must be a URN", "gone.json", "shoeSize", "emails", "nothing", "wings"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Nothing says any more who may see it: it may have been what nobody may.
#[test]
fn what_was_taken_away_is_shown_to_nobody_and_comes_back_with_its_schema() {
    let with_both = options("");
    let mut house = House::start_with(options(""));
    let mut ada = user("ada");
    ada["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", DESK]);
    ada[DESK] = json!({"place": "W1", "remark": "by the window"});
    let user = format!("/Users/{}", house.corp().post("/Users", &ada).expect(201).id());
    let shown = house.corp().post("/Badges", &badge("one", 6)).expect(201);
    let badge = format!("/Badges/{}", shown.id());
    let fewer = json!([{"id": BADGE, "name": "Badge", "attributes": [
        {"name": "number", "type": "string", "required": true, "uniqueness": "server"},
        {"name": "doors", "type": "complex", "multiValued": true, "subAttributes": [{"name": "value", "type": "string"}]},
    ]}]);
    assert!(house.stop());
    house.place("own.schema.json", &fewer.to_string());
    house.configure("[scim]\nschemas = [\"*.schema.json\"]\nresource_types = [\"types.json\"]\n");
    house.start_again();
    let corp = house.corp();
    for path in [user.clone(), "/Users".to_string(), format!("{user}?excludedAttributes=title")] {
        let told = corp.get(&path).expect(200).text;
        assert!(told.contains("ada") && !told.contains("W1") && !told.contains("window"), "{told}");
        assert!(!told.contains(DESK), "{told}");
    }
    for path in [badge.clone(), "/Badges".to_string(), format!("{badge}?attributes=doors,seed,chip")] {
        let told = corp.get(&path).expect(200).text;
        assert!(told.contains("north") && !told.contains("floor") && !told.contains("s3cret"), "{told}");
    }
    let id = badge.rsplit_once('/').unwrap().1;
    let history = house.rollcall(&["audit", "history", "--tenant", "corp", "--id", id, "--format", "json"]);
    let tail = house.rollcall(&["events", "tail", "--from", "1", "--no-follow", "--json"]);
    for told in [history, tail] {
        assert!(told.contains("seed") && !told.contains("s3cret"), "{told}");
    }
    // A change of the rest leaves it where it is.
    corp.patch(&user, json!([{"op": "replace", "path": "active", "value": false}])).expect(200);
    let mut got = corp.get(&badge).expect(200).body;
    got["number"] = json!("two");
    corp.put(&badge, &got).expect(200);
    assert!(house.stop());
    house.place("own.schema.json", &with_both.files[0].1);
    house.configure(with_both.configuration.as_ref().unwrap());
    house.start_again();
    let corp = house.corp();
    assert_eq!(corp.get(&user).expect(200).body[DESK], json!({"place": "W1"}));
    let back = corp.get(&badge).expect(200).body;
    assert_eq!((&back["number"], &back["chip"]), (&json!("two"), &json!(6)));
}

/// A type whose name is unique and that has members: a POST that names others than there are asks for something else.
#[test]
fn a_post_again_with_other_members_is_no_retry() {
    const TEAM: &str = "urn:example:scim:Team";
    let schemas = json!([{"id": TEAM, "name": "Team", "attributes": [
        {"name": "name", "type": "string", "required": true, "uniqueness": "server"},
        {"name": "members", "type": "complex", "multiValued": true, "subAttributes": [
            {"name": "value", "type": "string"}, {"name": "$ref", "type": "reference", "referenceTypes": ["User"]}]},
    ]}]);
    let types = json!({"id": "Team", "name": "Team", "endpoint": "/Teams", "schema": TEAM});
    let house = House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(
            "[scim]\nschemas = [\"*.schema.json\"]\nresource_types = [\"types.json\"]\n".to_string(),
        ),
        files: vec![
            ("own.schema.json".to_string(), schemas.to_string()),
            ("types.json".to_string(), types.to_string()),
        ],
    });
    let okta = house.corp().with_token(&house.token_of("corp", "okta", "okta"));
    let (ada, eve) = (
        okta.post("/Users", &user("ada")).expect(201).id(),
        okta.post("/Users", &user("eve")).expect(201).id(),
    );
    let team = |members: &[&String]| {
        let members: Vec<Value> = members.iter().map(|id| json!({"value": id})).collect();
        json!({"schemas": [TEAM], "name": "Red", "externalId": "t1", "members": members})
    };
    let made = okta.post("/Teams", &team(&[&ada, &eve])).expect(201).id();
    assert_eq!(okta.post("/Teams", &team(&[&eve, &ada])).expect(201).id(), made);
    assert_eq!(okta.post("/Teams", &team(&[&ada])).expect(409).body["scimType"], "uniqueness");
    let gone = json!([{"op": "remove", "path": format!("members[value eq \"{eve}\"]")}]);
    okta.patch(&format!("/Teams/{made}"), gone).expect(200);
    okta.post("/Teams", &team(&[&ada, &eve])).expect(409);
    assert_eq!(okta.post("/Teams", &team(&[&ada])).expect(201).id(), made);
}
