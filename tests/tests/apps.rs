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

/// An app that can be searched by more than most.
const SEARCHED: &str = "about = \"Searched.\"\n[type.User]\nsearch = [\"externalId\", \"userName\", \"emails.value\"]\n[type.Group]\nsearch = [\"displayName\"]\n";

/// A house that keeps `app` in step and looks for accounts by these further settings.
fn matching(app: &House, more: &str) -> House {
    let configuration = format!(
        "[app.wiki]\ntenant = \"corp\"\nurl = \"{}\"\ntoken = \"{}\"\nprofile = \"searched.toml\"\n{more}",
        app.env("SCIM_URL"),
        app.env("SCIM_TOKEN")
    );
    House::start_with(Options {
        configuration: Some(configuration),
        files: vec![("searched.toml".to_string(), SEARCHED.to_string())],
        ..without_demo()
    })
}

/// Somebody with this address.
fn addressed(name: &str, address: &str) -> Value {
    let mut person = user(name);
    person["emails"] = json!([{"value": "other@home.test"}, {"value": address, "primary": true}]);
    person
}

/// Waits until so many are held, and says what of them is told.
fn held(house: &House, count: usize) -> String {
    let admin = street::Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    eventually("somebody is held", || {
        let status = admin.get("/api/v1/status").expect(200).body;
        (status["apps"]["wiki"]["held"] == count).then_some(())
    });
    house.rollcall(&["app", "held", "wiki"])
}

#[test]
fn an_account_is_recognized_by_the_first_key_that_finds_one() {
    let app = House::start_with(without_demo());
    let accounts = app.corp();
    let old = accounts.post("/Users", &addressed("old", "ada@corp.test")).expect(201).id();
    let team = accounts.post("/Groups", &group("Team", &[&old])).expect(201).id();
    let keys = "match = [\"externalId\", \"emails.value\", \"userName\"]\nmatch_groups = [\"displayName\"]\n";
    let house = matching(&app, keys);
    let corp = house.corp();
    let ada = corp.post("/Users", &addressed("ada", "ada@corp.test")).expect(201).id();
    let bob = corp.post("/Users", &addressed("bob", "bob@corp.test")).expect(201).id();
    let crew = corp.post("/Groups", &group("Team", &[&bob])).expect(201).id();
    let account = eventually("the account is made equal", || accounts.find("/Users", "userName", "ada"));
    assert_eq!((&account["id"], &account["externalId"]), (&json!(old), &json!(ada)));
    let account = eventually("whom no key finds has an account of his own", || {
        accounts.find("/Users", "userName", "bob").filter(|account| account["externalId"] == json!(bob))
    });
    let group = eventually("the group is taken over, and its members are ours", || {
        let found = accounts.get(&format!("/Groups/{team}")).expect(200).body;
        (found["externalId"] == json!(crew) && found["members"][0]["value"] == account["id"]).then_some(found)
    });
    assert_eq!(group["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(accounts.get("/Users").expect(200).body["totalResults"], 2);
    assert_eq!(accounts.get("/Groups").expect(200).body["totalResults"], 1);
}

/// Nothing is said of how groups are recognized, and the standard lets several have one name.
#[test]
fn a_group_whose_name_the_app_says_is_taken_is_found_by_it() {
    let app = App::start(Kind::Scim);
    app.add("/Groups", group("Team", &[]).as_object().unwrap().clone());
    let house = House::feeding(&[("wiki", &app, "")]);
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    let crew = corp.post("/Groups", &group("Team", &[&ada])).expect(201).id();
    eventually("the group is ours, and ada is in it", || {
        let found = app.group("Team")?;
        (found.get("externalId")? == &json!(crew) && found.get("members")?.as_array()?.len() == 1)
            .then_some(())
    });
    assert_eq!(app.groups().len(), 1);
}

/// They are looked for at the same time, and all find it.
#[test]
fn an_account_that_many_find_becomes_one_persons() {
    let app = App::start(Kind::Scim);
    let named = |name: &str| {
        let mut person = user(name);
        person["displayName"] = json!("Ada");
        person
    };
    app.add("/Users", named("old").as_object().unwrap().clone());
    let house = House::feeding(&[("wiki", &app, "match = [\"displayName\"]\nconcurrency = 8\n")]);
    let corp = house.corp();
    app.delay(std::time::Duration::from_secs(1));
    let people: Vec<Value> = (0..8)
        .map(|number| {
            let name = format!("u{number}");
            json!({"method": "POST", "path": "/Users", "bulkId": name, "data": named(&name)})
        })
        .collect();
    let schemas = ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"];
    corp.post("/Bulk", &json!({"schemas": schemas, "Operations": people})).expect(200);
    eventually("they are looked for", || (app.most_at_once() >= 8).then_some(()));
    app.get_well();
    eventually("everybody has an account", || (app.accounts().len() == 8).then_some(()));
    assert!(!app.accounts().contains_key("old"));
}

#[test]
fn whom_a_key_finds_twice_is_held_with_the_key_and_how_many() {
    let app = House::start_with(without_demo());
    let accounts = app.corp();
    for name in ["one", "two", "three"] {
        accounts.post("/Users", &addressed(name, "ada@corp.test")).expect(201);
    }
    let house = matching(&app, "match = [\"emails.value\"]\n");
    let ada = house.corp().post("/Users", &addressed("ada", "ada@corp.test")).expect(201).id();
    let text = held(&house, 1);
    assert!(text.contains("3 accounts at the app match by emails.value"), "{text}");
    assert!(!text.contains("ada@"), "{text}");
    assert_eq!(accounts.get("/Users").expect(200).body["totalResults"], 3, "nobody was made");
    // Two of them are taken away, and it is tried again.
    for name in ["one", "three"] {
        let account = accounts.find("/Users", "userName", name).unwrap();
        accounts.delete(&format!("/Users/{}", account["id"].as_str().unwrap())).expect(204);
    }
    house.rollcall(&["app", "redrive", "wiki", "--by", "ann", "--all"]);
    let account = eventually("the one that is left", || accounts.find("/Users", "userName", "ada"));
    assert_eq!(account["externalId"], json!(ada));
    assert_eq!(accounts.get("/Users").expect(200).body["totalResults"], 1);
}

#[test]
fn what_was_there_before_waits_for_a_person_where_that_is_wanted() {
    let app = App::start(Kind::Scim);
    app.add("/Users", user("ada").as_object().unwrap().clone());
    let house = House::feeding(&[("wiki", &app, "on_match = \"hold\"\n")]);
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    let text = held(&house, 1);
    assert!(text.contains("found by userName") && text.contains("on_match"), "{text}");
    let writes = |app: &App| app.calls().iter().filter(|call| call.method != "GET").count();
    assert_eq!(writes(&app), 0, "{:?}", app.calls());
    // What a call of ours made whose answer was lost is ours all the same.
    app.without_answer(1);
    let bob = corp.post("/Users", &user("bob")).expect(201).id();
    eventually("it is read back", || {
        let calls = app.calls();
        calls.iter().any(|call| call.method == "PUT" && call.body.contains(&bob)).then_some(())
    });
    assert_eq!(app.calls_like("POST", "/Users", 201), 1);
    assert!(app.account("bob").is_some());
    held(&house, 1);
    // The person says that it is hers, with our id.
    app.edit("/Users", "ada", |account| drop(account.insert("externalId".to_string(), json!(ada))));
    house.rollcall(&["app", "redrive", "wiki", "--by", "ann", "--all"]);
    eventually("it is made equal", || {
        let calls = app.calls();
        calls.iter().any(|call| call.method == "PUT" && call.body.contains(&ada)).then_some(())
    });
    held(&house, 0);
    assert_eq!(app.accounts().len(), 2);
}

#[test]
fn a_password_is_made_up_for_an_account_and_only_the_app_sees_it() {
    let app = App::start(Kind::Scim);
    let map = "[app.wiki.map]\nuserName = \"user.userName\"\ntitle = \"user.title\"\npassword = { value = \"generate_password()\", create_only = true }\n";
    let house = House::feeding(&[("wiki", &app, map)]);
    let corp = house.corp();
    let ids = ["ada", "bob"].map(|name| corp.post("/Users", &user(name)).expect(201).id());
    let password = |name: &str| {
        let account = eventually("the account", || app.account(name));
        account["password"].as_str().expect("a password").to_string()
    };
    let (first, other) = (password("ada"), password("bob"));
    assert_eq!(first.chars().count(), 24);
    assert_ne!(first, other);
    settled(&house);
    app.forget_calls();
    let titled = json!([{"op": "replace", "path": "title", "value": "Dr"}]);
    corp.patch(&format!("/Users/{}", ids[0]), titled).expect(200);
    eventually("the title", || {
        app.account("ada").filter(|account| account.get("title") == Some(&json!("Dr")))
    });
    settled(&house);
    assert_eq!(patches(&app), [json!([{"op": "replace", "value": {"title": "Dr"}}])]);
    assert_eq!(password("ada"), first);
    assert!(!house.log().contains(&first), "the log tells it");
    let plan = house.rollcall(&["app", "plan", "wiki", "--who", &ids[0]]);
    let timeline = house.rollcall(&["why", &ids[0], "wiki"]);
    assert!(!plan.contains(&first) && !timeline.contains(&first));
}
