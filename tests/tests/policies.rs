//! Several sources for one person, retries and returns: what the standard leaves to the service.

#![cfg(test)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use street::House;
use street::house::{Client, Options, group, user};

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn house(configuration: &str) -> House {
    House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(configuration.to_string()),
        ..Options::default()
    })
}

fn client(house: &House, source: &str, dialect: &str) -> Client {
    house.corp().with_token(&house.token_of("corp", source, dialect))
}

fn known_as(name: &str, external_id: &str) -> Value {
    let mut user = user(name);
    user["externalId"] = external_id.into();
    user
}

#[test]
fn two_sources_keep_one_person() {
    let house = house(&format!(
        "[tenant.corp.source.hr]\nowns = [\"title\", \"name\", \"{ENTERPRISE}\"]\n\
         [tenant.corp.source.idp]\njoin = [\"{ENTERPRISE}:employeeNumber\", \"userName\"]\n"
    ));
    let (hr, idp) = (client(&house, "hr", "rfc"), client(&house, "idp", "rfc"));
    let mut ada = known_as("ada", "hr-1");
    ada["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE]);
    ada["title"] = json!("Dr");
    ada[ENTERPRISE] = json!({"employeeNumber": "17", "department": "R"});
    let made = hr.post("/Users", &ada).expect(201);

    // The provider knows her by her number under another name, and adds what is its own.
    let mut same = known_as("ada", "idp-1");
    same["schemas"] = ada["schemas"].clone();
    same[ENTERPRISE] = json!({"employeeNumber": "17", "department": "X"});
    same["title"] = json!("Miss");
    same["nickName"] = json!("A");
    let joined = idp.post("/Users", &same).expect(201);
    assert_eq!(joined.id(), made.id());
    assert_eq!(joined.body["externalId"], "idp-1");
    let seen = hr.get(&format!("/Users/{}", made.id())).expect(200);
    assert_eq!((&seen.body["externalId"], &seen.body["title"]), (&json!("hr-1"), &json!("Dr")));
    assert_eq!((&seen.body["nickName"], &seen.body[ENTERPRISE]["department"]), (&json!("A"), &json!("R")));

    // A PUT of the provider that omits what HR owns clears nothing of it, and what it says about it is not taken.
    let put = known_as("ada", "idp-1");
    let after = idp.put(&format!("/Users/{}", made.id()), &put).expect(200);
    assert_eq!(
        (&after.body["title"], &after.body[ENTERPRISE]["employeeNumber"]),
        (&json!("Dr"), &json!("17"))
    );
    assert!(after.body.get("nickName").is_none());
    let version = after.header("etag").unwrap().to_string();
    let taken = json!([{"op": "replace", "path": "title", "value": "Boss"}]);
    let same = idp.patch(&format!("/Users/{}", made.id()), taken.clone()).expect(200);
    assert_eq!((same.header("etag").unwrap(), &same.body["title"]), (version.as_str(), &json!("Dr")));
    assert_eq!(hr.patch(&format!("/Users/{}", made.id()), taken).expect(200).body["title"], "Boss");

    // Each finds the person under its own identifier only.
    assert!(hr.find("/Users", "externalId", "hr-1").is_some());
    assert!(hr.find("/Users", "externalId", "idp-1").is_none());
    // Who joined already does not join again.
    assert_eq!(idp.post("/Users", &known_as("ada", "idp-2")).expect(409).body["scimType"], "uniqueness");
}

/// A group that two sources know by its name has the members of both.
#[test]
fn whoever_joins_a_group_brings_its_members() {
    let house = house("[tenant.corp.source.idp]\njoin = [\"displayName\"]\nrepeat = true\n");
    let (hr, idp) = (client(&house, "hr", "rfc"), client(&house, "idp", "rfc"));
    let [ada, eve, bob] = ["ada", "eve", "bob"].map(|name| hr.post("/Users", &user(name)).expect(201).id());
    let made = hr.post("/Groups", &group("Team", &[&ada, &eve])).expect(201).id();
    let mut same = group("team", &[&eve, &bob]);
    same["externalId"] = json!("g1");
    let members = |reply: &Value| {
        let members = reply["members"].as_array().unwrap();
        members.iter().map(|member| member["value"].as_str().unwrap().to_string()).collect::<BTreeSet<_>>()
    };
    let all = BTreeSet::from([ada, eve, bob]);
    let joined = idp.post("/Groups", &same).expect(201);
    assert_eq!((joined.id(), members(&joined.body)), (made.clone(), all.clone()), "{}", joined.text);
    let again = idp.post("/Groups", &same).expect(201);
    assert_eq!((again.id(), again.header("etag")), (made.clone(), joined.header("etag")));
    assert_eq!(members(&hr.get(&format!("/Groups/{made}")).expect(200).body), all);
}

/// A provider that has not heard of HR's deletion still lists whom HR deleted: whoever it takes out goes all the same.
#[test]
fn whom_another_source_deleted_keeps_nobody_in_a_group() {
    let house = house("");
    let (hr, idp) = (client(&house, "hr", "rfc"), client(&house, "idp", "okta"));
    let [ada, bob, cyd, dan, eve] =
        ["ada", "bob", "cyd", "dan", "eve"].map(|name| idp.post("/Users", &user(name)).expect(201).id());
    let everybody = [&ada, &bob, &cyd, &dan].map(String::as_str);
    let path = format!("/Groups/{}", idp.post("/Groups", &group("Team", &everybody)).expect(201).id());
    hr.delete(&format!("/Users/{bob}")).expect(204);
    let members = |reply: &Value| {
        let members = reply["members"].as_array().cloned().unwrap_or_default();
        members.iter().map(|member| member["value"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let without_cyd = idp.put(&path, &group("Team", &[&ada, &bob, &dan])).expect(200);
    assert_eq!(members(&without_cyd.body), [ada.clone(), dan.clone()]);
    let one = |id: &str| json!([{"value": id}]);
    let remove = json!({"op": "remove", "path": format!("members[value eq \"{dan}\"]")});
    let without_dan = json!([{"op": "add", "path": "members", "value": one(&bob)}, remove]);
    assert_eq!(members(&idp.patch(&path, without_dan).expect(200).body), vec![ada.clone()]);
    let nobody = json!([{"op": "replace", "path": "members", "value": one(&bob)}]);
    assert!(members(&idp.patch(&path, nobody).expect(200).body).is_empty());

    // Whoever only adds is told, and whoever comes back under his former id is there again.
    let add = json!([{"op": "add", "path": "members", "value": [{"value": bob}, {"value": eve}]}]);
    assert_eq!(idp.patch(&path, add.clone()).expect(400).body["scimType"], "invalidValue");
    let mut again = user("bob");
    again["externalId"] = json!("00u-bob");
    let back = idp.post("/Users", &again).expect(201).id();
    hr.delete(&format!("/Users/{back}")).expect(204);
    assert_eq!(members(&idp.put(&path, &group("Team", &[&back, &eve])).expect(200).body), vec![eve.clone()]);
    assert_eq!(idp.post("/Users", &again).expect(201).id(), back);
    assert_eq!(members(&idp.put(&path, &group("Team", &[&back])).expect(200).body), [back]);
}

/// An empty field, which templates send for what nobody filled in, names nobody; of many values each may name somebody.
#[test]
fn a_join_key_names_somebody_by_any_value_that_says_something() {
    let number = format!("{ENTERPRISE}:employeeNumber");
    let house = house(&format!("[tenant.corp.source.idp]\njoin = [\"{number}\", \"emails.value\"]\n"));
    let (hr, idp) = (client(&house, "hr", "rfc"), client(&house, "idp", "rfc"));
    let person = |name: &str, number: &str, addresses: &[&str]| {
        let mut person = known_as(name, name);
        person["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE]);
        person[ENTERPRISE] = json!({"employeeNumber": number});
        person["emails"] = addresses.iter().map(|address| json!({"value": address})).collect();
        person
    };
    let eve = hr.post("/Users", &person("eve", "", &["", "eve@corp.test"])).expect(201).id();
    let ada = idp.post("/Users", &person("ada", "", &["", "ada@corp.test"])).expect(201);
    assert_ne!(ada.id(), eve, "{}", ada.text);
    let same = idp.post("/Users", &person("eva", " ", &["eva@home.test", "EVE@corp.test"])).expect(201);
    assert_eq!(same.id(), eve, "{}", same.text);
    let both = person("both", "", &["ada@corp.test", "eve@corp.test"]);
    assert_eq!(idp.post("/Users", &both).expect(409).body["scimType"], "uniqueness");
}

#[test]
fn several_that_may_be_meant_are_held() {
    let house = house("[tenant.corp.source.idp]\njoin = [\"emails.value\"]\n");
    let (hr, idp) = (client(&house, "hr", "rfc"), client(&house, "idp", "rfc"));
    for name in ["ada", "eve"] {
        let mut one = user(name);
        one["emails"] = json!([{"value": "shared@corp.test", "type": "work"}]);
        hr.post("/Users", &one).expect(201);
    }
    let mut new = known_as("new", "1");
    new["emails"] = json!([{"value": "SHARED@corp.test", "type": "work"}]);
    let held = idp.post("/Users", &new).expect(409);
    assert!(held.body["detail"].as_str().unwrap().contains("several"), "{}", held.text);
    assert_eq!(idp.get("/Users").expect(200).body["totalResults"], 2);
}

#[test]
fn oktas_retries_and_returns() {
    let house = house("");
    let okta = client(&house, "okta", "okta");
    let ada = known_as("ada", "00u1");
    let made = okta.post("/Users", &ada).expect(201);
    let again = okta.post("/Users", &ada).expect(201);
    assert_eq!((again.id(), again.header("etag")), (made.id(), made.header("etag")));
    assert_eq!(again.header("location"), made.header("location"));
    let mut other = ada.clone();
    other["title"] = json!("Dr");
    okta.post("/Users", &other).expect(409);
    let path = format!("/Users/{}", made.id());
    okta.patch(&path, json!([{"op": "replace", "value": {"active": false}}])).expect(200);
    let back = okta.post("/Users", &other).expect(201);
    assert_eq!(
        (back.id(), &back.body["active"], &back.body["title"]),
        (made.id(), &json!(true), &json!("Dr"))
    );
    okta.delete(&path).expect(204);
    let returned = okta.post("/Users", &ada).expect(201);
    assert_eq!(returned.id(), made.id(), "the same person keeps the id");
    okta.delete(&path).expect(204);
    assert_ne!(okta.post("/Users", &known_as("ada", "00u2")).expect(201).id(), made.id());
    assert_eq!(house.events("corp").iter().filter(|event| event["kind"] == "Created").count(), 3);
    // An empty identifier is none, so nobody is known by it.
    let eve = okta.post("/Users", &known_as("eve", "")).expect(201);
    assert!(eve.body.get("externalId").is_none(), "{}", eve.text);
    okta.post("/Users", &known_as("eve", "")).expect(409);
    okta.delete(&format!("/Users/{}", eve.id())).expect(204);
    assert_ne!(okta.post("/Users", &known_as("eve", "")).expect(201).id(), eve.id());
}

/// A retry is heard whatever the POST before it came to: a new account, one that returned, one that was joined.
#[test]
fn a_retry_is_heard_whatever_the_first_one_came_to() {
    let house = house(&format!(
        "[tenant.corp.source.hr]\nowns = [\"title\", \"userName\", \"{ENTERPRISE}\"]\n\
         [tenant.corp.source.okta]\njoin = [\"{ENTERPRISE}:employeeNumber\"]\n"
    ));
    let (hr, okta) = (client(&house, "hr", "rfc"), client(&house, "okta", "okta"));
    let numbered = |name: &str, external_id: &str, number: &str| {
        let mut person = known_as(name, external_id);
        person["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE]);
        person["title"] = json!("Miss");
        person[ENTERPRISE] = json!({"employeeNumber": number});
        person
    };
    let twice = |body: &Value| {
        let first = okta.post("/Users", body).expect(201);
        let again = okta.post("/Users", body).expect(201);
        assert_eq!((again.id(), again.header("etag")), (first.id(), first.header("etag")));
        first.id()
    };

    // Made without what another source owns.
    let ada = numbered("ada", "1", "17");
    let made = twice(&ada);
    // Back again, with something new.
    okta.patch(&format!("/Users/{made}"), json!([{"op": "replace", "value": {"active": false}}])).expect(200);
    let mut back = ada.clone();
    back["nickName"] = json!("A");
    assert_eq!(twice(&back), made);
    // Joined, under the name that HR gave and Okta does not own.
    let eve = hr.post("/Users", &numbered("eve", "hr-2", "18")).expect(201).id();
    assert_eq!(twice(&numbered("eve@okta", "2", "18")), eve);
    assert_eq!(hr.get("/Users?count=0").expect(200).body["totalResults"], 2);

    // What asks for something else is no retry.
    let mut other = numbered("eve@okta", "2", "18");
    other["nickName"] = json!("E");
    assert_eq!(okta.post("/Users", &other).expect(409).body["scimType"], "uniqueness");
}

/// Whom another source made and switched off is not this source's own, also where nobody gave an identifier.
#[test]
fn nobody_is_brought_back_by_a_source_that_does_not_know_him() {
    let house = house("");
    let (hr, okta) = (client(&house, "hr", "rfc"), client(&house, "okta", "okta"));
    let ada = hr.post("/Users", &user("ada")).expect(201).id();
    let off = json!([{"op": "replace", "path": "active", "value": false}]);
    hr.patch(&format!("/Users/{ada}"), off.clone()).expect(200);
    for body in [user("ada"), known_as("ada", "00u1")] {
        assert_eq!(okta.post("/Users", &body).expect(409).body["scimType"], "uniqueness");
    }
    assert_eq!(hr.get(&format!("/Users/{ada}")).expect(200).body["active"], false);
    // Its own comes back.
    let eve = okta.post("/Users", &user("eve")).expect(201).id();
    hr.patch(&format!("/Users/{eve}"), off).expect(200);
    let back = okta.post("/Users", &user("eve")).expect(201);
    assert_eq!((back.id(), &back.body["active"]), (eve, &json!(true)));
}

/// Whoever does not own `members` gives nobody what a group gives.
#[test]
fn a_new_group_has_no_members_of_a_source_that_does_not_own_them() {
    let house = house("[tenant.corp.source.hr]\nowns = [\"members\"]\n");
    let (hr, okta) = (client(&house, "hr", "rfc"), client(&house, "okta", "okta"));
    let ada = okta.post("/Users", &user("ada")).expect(201).id();
    let made = okta.post("/Groups", &group("Team", &[&ada])).expect(201);
    assert!(made.body.get("members").is_none(), "{}", made.text);
    assert_eq!(okta.post("/Groups", &group("Team", &[&ada])).expect(201).id(), made.id());
    let add = json!([{"op": "add", "path": "members", "value": [{"value": ada}]}]);
    hr.patch(&format!("/Groups/{}", made.id()), add).expect(200);
    let shown = hr.get(&format!("/Groups/{}", made.id())).expect(200);
    assert_eq!(shown.body["members"][0]["value"], ada.as_str());
}

/// Okta pushes groups without an `externalId`, and nothing about a group is unique.
#[test]
fn a_group_that_is_posted_again_is_the_same_group() {
    let house = house("");
    let (hr, okta, api) =
        (client(&house, "hr", "okta"), client(&house, "okta", "okta"), client(&house, "api", "rfc"));
    let ada = api.post("/Users", &user("ada")).expect(201).id();
    let count = |name: &str| {
        let filter = format!("/Groups?count=0&filter=displayName%20eq%20%22{name}%22");
        api.get(&filter).expect(200).body["totalResults"].as_u64().unwrap()
    };
    let team = okta.post("/Groups", &group("Team", &[])).expect(201);
    let again = okta.post("/Groups", &group("Team", &[])).expect(201);
    assert_eq!((again.id(), again.header("etag")), (team.id(), team.header("etag")));
    assert_eq!(count("Team"), 1);
    let crew = okta.post("/Groups", &group("Crew", &[&ada])).expect(201).id();
    assert_eq!(okta.post("/Groups", &group("Crew", &[&ada])).expect(201).id(), crew);
    // Another request: what it asks for differs, or somebody went on with what the first made, or somebody else asks.
    let mut known = group("Team", &[]);
    known["externalId"] = json!("1");
    let second = okta.post("/Groups", &known).expect(201).id();
    assert_ne!(second, team.id());
    assert_eq!(okta.post("/Groups", &known).expect(201).id(), second);
    assert_ne!(okta.post("/Groups", &group("Crew", &[])).expect(201).id(), crew);
    let add = json!([{"op": "add", "path": "members", "value": [{"value": ada}]}]);
    okta.patch(&format!("/Groups/{}", team.id()), add).expect(200);
    let third = okta.post("/Groups", &json!({"schemas": team.body["schemas"], "displayName": "Team"}));
    assert_ne!(third.expect(201).id(), team.id());
    assert_eq!(count("Team"), 3);
    hr.post("/Groups", &group("Team", &[])).expect(201);
    assert_eq!(count("Team"), 4);
    for number in [5, 6] {
        api.post("/Groups", &group("Team", &[])).expect(201);
        assert_eq!(count("Team"), number);
    }
}

#[test]
fn a_strict_client_gets_none_of_that_and_a_policy_overrules_the_dialect() {
    let house = house(
        "[tenant.corp.source.hr]\nrepeat = true\ntombstone_days = 1\n[tenant.corp.source.okta]\nreactivate = false\n",
    );
    let (rfc, hr, okta) =
        (client(&house, "api", "rfc"), client(&house, "hr", "rfc"), client(&house, "okta", "okta"));
    let ada = known_as("ada", "1");
    let made = rfc.post("/Users", &ada).expect(201).id();
    rfc.post("/Users", &ada).expect(409);
    let path = format!("/Users/{made}");
    rfc.patch(&path, json!([{"op": "replace", "path": "active", "value": false}])).expect(200);
    rfc.post("/Users", &ada).expect(409);
    rfc.delete(&path).expect(204);
    let second = rfc.post("/Users", &ada).expect(201).id();
    assert_ne!(second, made);

    let eve = known_as("eve", "2");
    let first = hr.post("/Users", &eve).expect(201).id();
    assert_eq!(hr.post("/Users", &eve).expect(201).id(), first);
    hr.delete(&format!("/Users/{first}")).expect(204);
    assert_eq!(hr.post("/Users", &eve).expect(201).id(), first);

    let bob = okta.post("/Users", &known_as("bob", "3")).expect(201).id();
    okta.patch(&format!("/Users/{bob}"), json!([{"op": "replace", "value": {"active": false}}])).expect(200);
    okta.post("/Users", &known_as("bob", "3")).expect(409);
}

#[test]
fn a_tenant_may_want_more() {
    let house = house(
        "[gateway.limits]\nresource_bytes_max = 4096\n\
         [tenant.corp]\nunknown_attributes = \"refuse\"\nunique = {Group = [\"displayName\"], User = [\"nickName\"]}\n",
    );
    let corp = house.corp();
    let mut ada = user("ada");
    ada["shoeSize"] = json!(42);
    let refused = corp.post("/Users", &ada).expect(400);
    assert_eq!(refused.body["scimType"], "invalidSyntax");
    assert!(refused.body["detail"].as_str().unwrap().contains("shoeSize"));
    let team = corp.post("/Groups", &group("Team", &[])).expect(201).id();
    assert_eq!(corp.post("/Groups", &group("TEAM", &[])).expect(409).body["scimType"], "uniqueness");
    let other = corp.post("/Groups", &group("Other", &[])).expect(201).id();
    let rename = json!([{"op": "replace", "path": "displayName", "value": "team"}]);
    corp.patch(&format!("/Groups/{other}"), rename.clone()).expect(409);
    corp.delete(&format!("/Groups/{team}")).expect(204);
    corp.patch(&format!("/Groups/{other}"), rename).expect(200);
    // What nobody filled in is no value that another could have taken.
    for name in ["eve", "bob"] {
        let mut blank = user(name);
        blank["nickName"] = json!("");
        corp.post("/Users", &blank).expect(201);
    }
    let mut long = user("long");
    long["title"] = json!("x".repeat(5000));
    corp.post("/Users", &long).expect(413);
    // Other tenants have their own ways.
    let demo = Client::new(
        &house.env("SCIM_URL").replace("/t/corp/", "/t/other/"),
        &house.token_of("other", "api", "rfc"),
    );
    demo.post("/Users", &ada).expect(201);
}

/// Two sources that find a person at the same moment, under different names: one person, because the number is unique too.
#[test]
fn two_sources_that_race_make_one_person() {
    let house = house(&format!(
        "[tenant.corp]\nunique = {{User = [\"{ENTERPRISE}:employeeNumber\"]}}\n\
         [tenant.corp.source.hr]\njoin = [\"{ENTERPRISE}:employeeNumber\"]\n\
         [tenant.corp.source.idp]\njoin = [\"{ENTERPRISE}:employeeNumber\"]\n"
    ));
    for round in 0..10 {
        let racers: Vec<_> = ["hr", "idp"]
            .map(|source| {
                let client = client(&house, source, "rfc");
                let mut body = known_as(&format!("{source}-{round}"), &format!("{source}-id-{round}"));
                body["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE]);
                body[ENTERPRISE] = json!({"employeeNumber": round.to_string()});
                std::thread::spawn(move || client.post("/Users", &body).expect(201).id())
            })
            .into_iter()
            .collect();
        let ids: Vec<String> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        assert_eq!(ids[0], ids[1], "round {round}");
    }
    assert_eq!(house.corp().get("/Users?count=0").expect(200).body["totalResults"], 10);
}
