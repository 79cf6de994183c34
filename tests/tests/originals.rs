//! The apps of the tests are as strict as their originals: what each refuses, asked directly.

#![cfg(test)]

use std::time::Duration;

use serde_json::{Value, json};
use street::apps::Kind;
use street::house::{group, user};
use street::{App, Client};

fn client(app: &App) -> Client {
    Client::new(&app.url(), app.token())
}

fn started(kind: Kind) -> (App, Client) {
    let app = App::start(kind);
    let client = client(&app);
    (app, client)
}

#[test]
fn a_plain_one_keeps_what_it_is_given() {
    let (app, client) = started(Kind::Scim);
    let ada = client.post("/Users", &user("ada")).expect(201).id();
    let bob = client.post("/Users", &user("bob")).expect(201).id();
    client.post("/Users", &user("ADA")).expect(409);
    let team = client.post("/Groups", &group("Team", &[&ada])).expect(201).id();
    client.post("/Groups", &group("Other", &["nobody"])).expect(400);
    let add = json!([{"op": "add", "path": "members", "value": [{"value": bob}]}]);
    client.patch(&format!("/Groups/{team}"), add).expect(200);
    let remove = json!([{"op": "remove", "path": format!("members[value eq \"{ada}\"]")}]);
    client.patch(&format!("/Groups/{team}"), remove.clone()).expect(200);
    let refused = client.patch(&format!("/Groups/{team}"), remove).expect(400);
    assert_eq!(refused.body["scimType"], "noTarget");
    assert_eq!(app.groups()["Team"].iter().collect::<Vec<_>>(), ["bob"]);
    client
        .patch(&format!("/Users/{ada}"), json!([{"op": "replace", "path": "shoeSize", "value": 1}]))
        .expect(400);
    client
        .patch(&format!("/Users/{ada}"), json!([{"op": "replace", "path": "active", "value": false}]))
        .expect(200);
    client
        .patch(
            &format!("/Users/{ada}"),
            json!([{"op": "replace", "path": "emails[type eq \"work\"].value", "value": "new@corp.test"}]),
        )
        .expect(200);
    let account = app.account("ada").unwrap();
    assert_eq!(
        (&account["active"], &account["emails"][0]["value"]),
        (&json!(false), &json!("new@corp.test"))
    );
    let mut strange = user("eve");
    strange["shoeSize"] = json!(43);
    client.post("/Users", &strange).expect(400);
    client.delete(&format!("/Users/{bob}")).expect(204);
    client.delete(&format!("/Users/{bob}")).expect(404);
    assert!(app.groups()["Team"].is_empty(), "who is gone is in no group");
}

#[test]
fn a_plain_one_is_listed_by_the_page_and_searched() {
    let (app, client) = started(Kind::Scim);
    for number in 0..25 {
        let mut person = user(&format!("u{number}"));
        person["externalId"] = json!(format!("e{number}"));
        client.post("/Users", &person).expect(201);
    }
    let page = client.get("/Users?startIndex=21&count=10").expect(200).body;
    assert_eq!((&page["totalResults"], &page["itemsPerPage"]), (&json!(25), &json!(5)));
    assert_eq!(client.find("/Users", "externalId", "e7").unwrap()["userName"], "u7");
    assert_eq!(client.find("/Users", "userName", "U7").unwrap()["externalId"], "e7");
    client.get("/Users?filter=userName%20co%20%22u%22").expect(400);
    let version =
        client.find("/Users", "userName", "u7").unwrap()["meta"]["version"].as_str().unwrap().to_string();
    let id = client.find("/Users", "userName", "u7").unwrap()["id"].as_str().unwrap().to_string();
    app.edit("/Users", "u7", |account| drop(account.insert("title".to_string(), json!("Dr"))));
    let body = user("u7").to_string().into_bytes();
    client.send("PUT", &format!("/Users/{id}"), &[("If-Match", &version)], Some(body)).expect(412);
    client.with_token("another").get("/Users").expect(401);
    assert_eq!(app.calls_like("GET", "/Users", 400), 1);
}

#[test]
fn it_is_sick_as_told() {
    let (app, client) = started(Kind::Scim);
    app.answer_all_with_headers(429, &[("Retry-After", "7")]);
    assert_eq!(client.post("/Users", &user("ada")).expect(429).header("retry-after"), Some("7"));
    app.get_well();
    app.answer_next_with(2, 503);
    client.get("/Users").expect(503);
    client.get("/Users").expect(503);
    client.get("/Users").expect(200);
    app.without_answer(1);
    let lost = client.try_send("POST", "/Users", &[], Some(user("ada").to_string().into_bytes()));
    assert!(lost.is_err(), "the connection breaks");
    assert!(app.account("ada").is_some(), "and yet it was done");
    app.stop();
    let gone = client.try_send("GET", "/Users", &[], None).expect_err("nobody is there");
    assert!(gone.is_connect(), "{gone:?}");
    app.start_again();
    assert_eq!(client.get("/Users").expect(200).body["totalResults"], 1);
    app.forget_all();
    assert_eq!(client.get("/Users").expect(200).body["totalResults"], 0);
    app.allow(2, Duration::from_secs(3_600));
    client.get("/Users").expect(200);
    client.get("/Users").expect(200);
    assert!(client.get("/Users").expect(429).header("retry-after").is_some());
}

/// A GitHub user as both kinds of GitHub take it.
fn octocat(name: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "externalId": format!("e-{name}"),
        "userName": name,
        "name": {"givenName": "Octo", "familyName": "Cat"},
        "emails": [{"value": format!("{name}@corp.test"), "type": "work", "primary": true}],
        "active": true,
    })
}

#[test]
fn a_github_organization_forgets_whom_it_switches_off() {
    let (app, client) = started(Kind::GithubOrg);
    let nameless = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    let nameless = nameless.get(format!("{}/Users", app.url())).bearer_auth(app.token()).send().unwrap();
    assert_eq!(nameless.status(), 403, "without User-Agent");
    client.post("/Groups", &group("Team", &[])).expect(404);
    client.get("/users").expect(404);
    let id = client.post("/Users", &octocat("ada")).expect(201).id();
    client.post("/Users", &user("bob")).expect(400);
    client
        .patch(
            &format!("/Users/{id}"),
            json!([{"op": "replace", "path": "emails[type eq \"work\"].value", "value": "x"}]),
        )
        .expect(400);
    client
        .patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "active", "value": false}]))
        .expect(200);
    client.get(&format!("/Users/{id}")).expect(404);
    assert!(app.accounts().is_empty());
    assert_ne!(client.post("/Users", &octocat("ada")).expect(201).id(), id);
    let mut off = octocat("eve");
    off["active"] = json!(false);
    client.post("/Users", &off).expect(400);
}

#[test]
fn a_github_enterprise_never_forgives_a_delete() {
    let (app, client) = started(Kind::GithubEmu);
    client.post("/Users", &octocat("ada")).expect(400);
    let mut ada = octocat("ada");
    ada["displayName"] = json!("Ada");
    let id = client.post("/Users", &ada).expect(201).id();
    client
        .patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "active", "value": false}]))
        .expect(200);
    assert_eq!(app.account("ada").unwrap()["active"], false);
    let mut team = group("Team", &[&id]);
    client.post("/Groups", &team).expect(400);
    team["externalId"] = json!("t");
    let team = client.post("/Groups", &team).expect(201).id();
    let one_by_one = json!([{"op": "remove", "path": format!("members[value eq \"{id}\"]")}]);
    client.patch(&format!("/Groups/{team}"), one_by_one).expect(400);
    let by_value = json!([{"op": "remove", "path": "members", "value": [{"value": id}]}]);
    client.patch(&format!("/Groups/{team}"), by_value).expect(200);
    assert!(app.groups()["Team"].is_empty());
    client.delete(&format!("/Users/{id}")).expect(204);
    client.post("/Users", &ada).expect(409);
}

#[test]
fn aws_takes_one_of_each_and_hides_members() {
    let (app, client) = started(Kind::AwsIdentityCenter);
    let elsewhere = Client::new(&app.url().replace("0123", "9999"), app.token());
    elsewhere.get("/Users").expect(401);
    let mut ada = user("ada");
    let id = client.post("/Users", &ada).expect(201).id();
    ada["userName"] = json!("two");
    ada["emails"] = json!([{"value": "a@x", "primary": true}, {"value": "b@x"}]);
    client.post("/Users", &ada).expect(400);
    ada["emails"] = json!([{"value": "a@x"}]);
    client.post("/Users", &ada).expect(400);
    ada["emails"] = json!([{"value": "a@x", "primary": true}]);
    ada["photos"] = json!([{"value": "https://x"}]);
    client.post("/Users", &ada).expect(400);
    ada.as_object_mut().unwrap().remove("photos");
    ada.as_object_mut().unwrap().remove("displayName");
    client.post("/Users", &ada).expect(400);
    let team = client.post("/Groups", &group("Team", &[&id])).expect(201).id();
    client.put(&format!("/Groups/{team}"), &group("Team", &[])).expect(405);
    assert_eq!(client.get(&format!("/Groups/{team}")).expect(200).body.get("members"), None);
    let probe = format!("/Groups?filter=id%20eq%20%22{team}%22%20and%20members%20eq%20%22{id}%22");
    assert_eq!(client.get(&probe).expect(200).body["totalResults"], 1);
    let all = json!([{"op": "replace", "path": "members", "value": []}]);
    client.patch(&format!("/Groups/{team}"), all).expect(400);
    client.patch(&format!("/Groups/{team}"), json!([{"op": "remove", "path": "members"}])).expect(400);
    let many: Vec<Value> = (0..101).map(|_| json!({"value": id})).collect();
    client
        .patch(&format!("/Groups/{team}"), json!([{"op": "add", "path": "members", "value": many}]))
        .expect(400);
    assert_eq!(app.groups()["Team"].len(), 1);
}

#[test]
fn slack_has_short_names_and_a_limit_for_everybody() {
    let (app, client) = started(Kind::Slack);
    client.post("/Users", &user("Ada")).expect(400);
    client.post("/Users", &user("a-name-that-is-much-too-long")).expect(400);
    let mut without = user("ada");
    without.as_object_mut().unwrap().remove("emails");
    client.post("/Users", &without).expect(400);
    let id = client.post("/Users", &user("ada")).expect(201).id();
    client.delete(&format!("/Users/{id}")).expect(204);
    assert_eq!(app.account("ada").unwrap()["active"], false);
    let statuses: Vec<u16> =
        (0..60).map(|number| client.post("/Users", &user(&format!("u{number}"))).status).collect();
    assert!(statuses.contains(&429), "20 at once, 180 a minute: {statuses:?}");
}
