//! An app that is another house: accounts that were there before, a filter, an app that is away.

#![cfg(test)]

use serde_json::{Value, json};
use street::apps::{App, Kind};
use street::house::{eventually, group, user};
use street::{House, Options};

fn without_demo() -> Options {
    Options { flags: vec!["--no-demo".to_string()], ..Options::default() }
}

/// A house whose dispatcher keeps `app` in step, with these further settings of the app.
fn feeding(app: &House, more: &str) -> House {
    let configuration = format!(
        "[app.wiki]\ntenant = \"corp\"\nurl = \"{}\"\ntoken = \"{}\"\n{more}",
        app.env("SCIM_URL"),
        app.env("SCIM_TOKEN")
    );
    House::start_with(Options { configuration: Some(configuration), ..without_demo() })
}

#[test]
fn an_account_that_was_there_is_adopted_and_not_made_twice() {
    let app = House::start_with(without_demo());
    let accounts = app.corp();
    let old = accounts.post("/Users", &user("Ada")).expect(201).id();
    let stranger = accounts.post("/Users", &user("stranger")).expect(201).id();
    let house = feeding(&app, "");
    let corp = house.corp();
    let mut ada = user("ada");
    ada["title"] = json!("Dr");
    let id = corp.post("/Users", &ada).expect(201).id();
    let account = eventually("the account is made equal", || {
        accounts.find("/Users", "userName", "ada").filter(|account| account["title"] == "Dr")
    });
    assert_eq!(account["id"], json!(old));
    assert_eq!(account["externalId"], json!(id));

    // Its groups hold it, and nobody else.
    let team = corp.post("/Groups", &group("Team", &[&id])).expect(201).id();
    let members = eventually("the group with its member", || {
        accounts.find("/Groups", "externalId", &team)?["members"].as_array().cloned()
    });
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["value"], json!(old));
    assert_ne!(stranger, old);
    assert_eq!(accounts.get("/Users").expect(200).body["totalResults"], 2);
}

#[test]
fn whoever_leaves_the_filter_is_switched_off() {
    let app = House::start_with(without_demo());
    let house = feeding(&app, "users = 'title eq \"Staff\"'\non_leave = \"deactivate\"\n");
    let (corp, accounts) = (house.corp(), app.corp());
    let mut ada = user("ada");
    ada["title"] = json!("Staff");
    let id = corp.post("/Users", &ada).expect(201).id();
    corp.post("/Users", &user("guest")).expect(201);
    eventually("the account", || accounts.find("/Users", "userName", "ada"));
    corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "title", "value": "Alumni"}]))
        .expect(200);
    eventually("it is switched off", || {
        accounts.find("/Users", "userName", "ada").filter(|account| account["active"] == false)
    });
    corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "title", "value": "Staff"}]))
        .expect(200);
    eventually("it is back", || {
        accounts.find("/Users", "userName", "ada").filter(|account| account["active"] == true)
    });
    assert!(accounts.find("/Users", "userName", "guest").is_none());
}

#[test]
fn an_app_that_was_away_is_caught_up_with() {
    let mut app = House::start_with(without_demo());
    let address = app.env("SCIM_URL").split('/').nth(2).unwrap().to_string();
    let house = feeding(&app, "");
    app.kill();
    let corp = house.corp();
    let ids: Vec<String> =
        (0..5).map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id()).collect();
    corp.delete(&format!("/Users/{}", ids[0])).expect(204);
    let admin = street::Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    eventually("the status says why", || {
        let status = admin.get("/api/v1/status").expect(200).body;
        status["apps"]["wiki"]["waiting_for"].as_str().map(str::to_string)
    });
    app.listen_on(&address);
    app.start_again();
    let accounts = app.corp();
    eventually("everybody has an account", || {
        (accounts.get("/Users").expect(200).body["totalResults"] == 4).then_some(())
    });
}

/// An app that is changed attribute by attribute.
const PATCHED: &str = "about = \"PATCH.\"\n[type.Group]\n[type.User]\nchange = \"patch\"\ncleared = \"removed\"\nclears = [\"title\", \"nickName\"]\n";

/// The operations of every PATCH since the last look.
fn patches(app: &App) -> Vec<Value> {
    let calls = app.calls();
    app.forget_calls();
    let writes = calls.iter().filter(|call| call.method != "GET");
    writes
        .map(|call| {
            assert_eq!(call.method, "PATCH", "{call:?}");
            serde_json::from_str::<Value>(&call.body).expect("JSON")["Operations"].take()
        })
        .collect()
}

fn settled(house: &House) {
    let admin = street::Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    eventually("nothing is due", || {
        let status = admin.get("/api/v1/status").expect(200).body;
        (status["apps"]["wiki"]["due"] == 0).then_some(())
    });
}

#[test]
fn only_what_changed_is_told_where_single_attributes_can_be() {
    let app = App::start(Kind::Scim);
    let mut house = House::start_with(Options {
        configuration: Some(app.configuration("wiki", "profile = \"patched.toml\"\n")),
        files: vec![("patched.toml".to_string(), PATCHED.to_string())],
        ..without_demo()
    });
    let corp = house.corp();
    let mut ada = user("ada");
    ada["title"] = json!("Dr");
    let id = corp.post("/Users", &ada).expect(201).id();
    let team = corp.post("/Groups", &group("Team", &[&id])).expect(201).id();
    let title = || app.account("ada").and_then(|account| Some(account.get("title")?.as_str()?.to_string()));
    let titled =
        |wanted: Option<&str>| eventually("the title", || (title().as_deref() == wanted).then_some(()));
    eventually("the group", || app.groups().get("Team").filter(|members| members.len() == 1).map(|_| ()));
    settled(&house);
    app.forget_calls();

    let set = |corp: &street::Client, title: &str| {
        let operations = json!([{"op": "replace", "path": "title", "value": title}]);
        corp.patch(&format!("/Users/{id}"), operations).expect(200);
    };
    set(&corp, "Prof");
    titled(Some("Prof"));
    settled(&house);
    assert_eq!(patches(&app), [json!([{"op": "replace", "value": {"title": "Prof"}}])]);
    corp.patch(&format!("/Users/{id}"), json!([{"op": "remove", "path": "title"}])).expect(200);
    titled(None);
    settled(&house);
    assert_eq!(patches(&app), [json!([{"op": "remove", "path": "title"}])]);
    let renamed = json!([{"op": "replace", "path": "displayName", "value": "Crew"}]);
    corp.patch(&format!("/Groups/{team}"), renamed).expect(200);
    eventually("the group's name", || app.group("Crew"));
    settled(&house);
    assert_eq!(patches(&app), [json!([{"op": "replace", "value": {"displayName": "Crew"}}])]);

    // What it was told is known to whoever comes after us.
    house.stop();
    house.start_again();
    set(&house.corp(), "Sir");
    titled(Some("Sir"));
    settled(&house);
    assert_eq!(patches(&app), [json!([{"op": "replace", "value": {"title": "Sir"}}])]);

    // What was changed behind our back is told again: what it holds of the others is not known.
    app.edit("/Users", "ada", |account| drop(account.insert("title".to_string(), json!("King"))));
    house.rollcall(&["app", "reconcile", "wiki", "--wait", "--json"]);
    titled(Some("Sir"));
    settled(&house);
    let told = patches(&app);
    assert_eq!(told[0][0]["value"]["title"], "Sir", "{told:?}");
    assert_eq!(told[0][0]["value"]["userName"], "ada", "{told:?}");
}
