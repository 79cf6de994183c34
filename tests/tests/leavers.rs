//! Whoever leaves loses access before anything else is done, and an app that only says so is not believed.

#![cfg(test)]

use std::time::Duration;

use serde_json::{Value, json};
use street::apps::{App, Kind};
use street::house::{eventually, group, pause, user};
use street::{Client, House};

fn admin(house: &House) -> Client {
    Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"))
}

/// A metric of the app `wiki`, or nothing before it is counted.
fn metric(house: &House, name: &str) -> Option<u64> {
    let text = admin(house).get("/metrics").expect(200).text;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{app=\"wiki\"")))?;
    line.rsplit(' ').next()?.parse().ok()
}

const VERIFIED: &str = "rollcall_app_access_ended_seconds_count";
const BELIED: &str = "rollcall_app_belied_total";

fn active(app: &App, name: &str) -> Option<Value> {
    app.account(name)?.get("active").cloned()
}

fn switch(corp: &Client, id: &str, active: bool) {
    let operations = json!([{"op": "replace", "path": "active", "value": active}]);
    corp.patch(&format!("/Users/{id}"), operations).expect(200);
}

fn held(house: &House) -> u64 {
    let status = admin(house).get("/api/v1/status").expect(200).body;
    status["apps"]["wiki"]["held"].as_u64().unwrap_or_default()
}

#[test]
fn an_app_that_only_says_so_is_told_again_until_it_is_true() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "")]);
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    eventually("the account", || active(&app, "ada").filter(|active| *active == true));
    app.forget_calls();
    app.pretend(1);
    switch(&corp, &id, false);
    eventually("it is seen to have ended", || metric(&house, VERIFIED).filter(|count| *count == 1));
    assert_eq!(active(&app, "ada"), Some(json!(false)), "verified before it was true");
    assert_eq!(metric(&house, BELIED), Some(1));
    let told: Vec<String> = app
        .calls()
        .iter()
        .filter(|call| call.method != "GET" && call.body.contains("\"active\":false"))
        .map(|call| call.status.to_string())
        .collect();
    assert_eq!(told, ["204", "200"]);
}

/// Whoever has no `active` any more was told to have none, and no app makes of that what it likes.
#[test]
fn nobody_is_switched_on_by_silence() {
    for mapping in ["", "[app.wiki.map]\nuserName = \"user.userName\"\ntitle = \"user.title\"\n"] {
        let app = App::start(Kind::Scim);
        let house = House::feeding(&[("wiki", &app, mapping)]);
        let corp = house.corp();
        let id = corp.post("/Users", &user("ada")).expect(201).id();
        eventually("the account", || active(&app, "ada").filter(|active| *active == true));
        switch(&corp, &id, false);
        eventually("it is switched off", || active(&app, "ada").filter(|active| *active == false));
        let operations =
            json!([{"op": "remove", "path": "active"}, {"op": "add", "path": "title", "value": "Dr"}]);
        let shown = corp.patch(&format!("/Users/{id}"), operations).expect(200);
        assert_eq!(shown.body.get("active"), None);
        eventually("the title", || app.account("ada")?.get("title").filter(|title| *title == "Dr").cloned());
        assert_eq!(active(&app, "ada"), Some(json!(false)), "{mapping}");
        switch(&corp, &id, true);
        eventually("it is back", || active(&app, "ada").filter(|active| *active == true));
    }
}

#[test]
fn an_app_that_never_does_it_is_held_and_works_again_when_it_does() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "")]);
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    let team = corp.post("/Groups", &group("Team", &[&id])).expect(201).id();
    eventually("the group with its member", || {
        app.groups().get("Team").filter(|members| members.len() == 1).cloned()
    });
    app.forget_calls();
    app.pretend(usize::MAX);
    corp.patch(
        &format!("/Groups/{team}"),
        json!([{"op": "remove", "path": format!("members[value eq \"{id}\"]")}]),
    )
    .expect(200);
    eventually("it is held", || (held(&house) == 1).then_some(()));
    assert_eq!(metric(&house, BELIED), Some(3));
    assert_eq!(metric(&house, VERIFIED), None);
    assert_eq!(app.calls_like("PATCH", "/Groups/", 204), 3);
    // Another change of the group is another wish, and everything is planned again.
    app.get_well();
    corp.patch(
        &format!("/Groups/{team}"),
        json!([{"op": "replace", "path": "displayName", "value": "Crew"}]),
    )
    .expect(200);
    eventually("he is out", || app.groups().get("Crew").filter(|members| members.is_empty()).cloned());
    eventually("it is not held any more", || (held(&house) == 0).then_some(()));
    eventually("it is seen", || metric(&house, VERIFIED));
}

#[test]
fn what_was_not_read_back_before_a_crash_is_read_after_it() {
    let app = App::start(Kind::Scim);
    let mut house = House::feeding(&[("wiki", &app, "")]);
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    eventually("the account", || active(&app, "ada"));
    app.answer_reads_with(503);
    app.forget_calls();
    corp.delete(&format!("/Users/{id}")).expect(204);
    eventually("the app was told, and asked in vain", || {
        (app.calls_like("GET", "/Users/", 503) > 0 && app.account("ada").is_none()).then_some(())
    });
    house.kill();
    app.forget_calls();
    app.get_well();
    house.start_again();
    eventually("it is seen to have ended", || metric(&house, VERIFIED).filter(|count| *count == 1));
    assert_eq!(app.calls_like("DELETE", "/Users/", 204), 0, "it was done, and is not done again");
    assert!(app.calls_like("GET", "/Users/", 404) > 0);
}

const PENDING: usize = 400;

#[test]
fn a_leaver_overtakes_everybody_who_waits() {
    overtakes("", "active", &json!(false));
}

#[test]
fn whoever_leaves_the_scope_overtakes_everybody_who_waits() {
    overtakes("users = 'userType ne \"Gone\"'", "userType", &json!("Gone"));
}

/// The last of many is switched off at the app before they are all told of something else, once this is so of him.
fn overtakes(more: &str, path: &str, value: &Value) {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, more)]);
    let corp = house.corp();
    let ids: Vec<String> = (0..PENDING)
        .map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id())
        .collect();
    eventually("everybody has an account", || (app.accounts().len() == PENDING).then_some(()));
    eventually("nothing is left to do", || {
        let status = admin(&house).get("/api/v1/status").expect(200).body;
        (status["apps"]["wiki"]["due"] == 0).then_some(())
    });
    app.forget_calls();
    app.allow(10, Duration::from_secs(1));
    let operations: Vec<Value> = ids
        .iter()
        .map(|id| {
            json!({"method": "PATCH", "path": format!("/Users/{id}"), "data": {
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                "Operations": [{"op": "replace", "path": "title", "value": "Dr"}],
            }})
        })
        .collect();
    let bulk =
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": operations});
    corp.post("/Bulk", &bulk).expect(200);
    let leaver = ids.last().unwrap();
    corp.patch(&format!("/Users/{leaver}"), json!([{"op": "replace", "path": path, "value": value}]))
        .expect(200);
    let name = format!("u{}", PENDING - 1);
    let updated =
        |app: &App| app.calls().iter().filter(|call| call.method != "GET" && call.status == 200).count();
    let before = updated(&app);
    eventually("he is switched off", || active(&app, &name).filter(|active| *active == false));
    let after = updated(&app);
    assert!(
        before + PENDING / 4 < PENDING,
        "{before} of {PENDING} were done before he left: nothing was overtaken"
    );
    assert!(after <= before + 40, "{} updates went before him", after - before);
    eventually("it is seen", || {
        pause();
        metric(&house, VERIFIED)
    });
    assert!(updated(&app) < PENDING - PENDING / 8, "his end was read only when everybody else was done");
}

/// What else an app would be told of somebody must not keep him his access.
#[test]
fn an_app_that_refuses_the_rest_switches_off_all_the_same() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "")]);
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    eventually("the account", || active(&app, "ada").filter(|active| *active == true));
    app.refuse("too long", 400);
    let operations = json!([
        {"op": "replace", "path": "title", "value": "too long"},
        {"op": "replace", "path": "active", "value": false},
    ]);
    corp.patch(&format!("/Users/{id}"), operations).expect(200);
    eventually("a person must look at the rest", || (held(&house) == 1).then_some(()));
    assert_eq!(active(&app, "ada"), Some(json!(false)));
    eventually("it is seen", || metric(&house, VERIFIED));
    // What is right again is told.
    corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "title", "value": "Dr"}]))
        .expect(200);
    eventually("the rest", || {
        app.account("ada").filter(|account| account.get("title") == Some(&json!("Dr")))
    });
    eventually("nobody is held", || (held(&house) == 0).then_some(()));
    assert_eq!(active(&app, "ada"), Some(json!(false)));
}

#[test]
fn whose_mapping_gives_nothing_is_switched_off_all_the_same() {
    let app = App::start(Kind::Scim);
    let map = "[app.wiki.map]\nuserName = \"user.userName\"\ntitle = { value = \"user.title\", on_null = \"hold\" }\n";
    let house = House::feeding(&[("wiki", &app, map)]);
    let corp = house.corp();
    let mut ada = user("ada");
    ada["title"] = json!("Dr");
    let id = corp.post("/Users", &ada).expect(201).id();
    eventually("the account", || active(&app, "ada").filter(|active| *active == true));
    let operations = json!([
        {"op": "remove", "path": "title"},
        {"op": "replace", "path": "active", "value": false},
    ]);
    corp.patch(&format!("/Users/{id}"), operations).expect(200);
    eventually("he is switched off", || active(&app, "ada").filter(|active| *active == false));
    // Without a value he cannot come back.
    switch(&corp, &id, true);
    eventually("a person must look at it", || (held(&house) == 1).then_some(()));
    assert_eq!(active(&app, "ada"), Some(json!(false)));
    // Whose `active` is taken away is not switched on either.
    let path = format!("/Users/{id}");
    corp.patch(&path, json!([{"op": "replace", "path": "title", "value": "Dr"}])).expect(200);
    eventually("he is back", || active(&app, "ada").filter(|active| *active == true));
    let operations = json!([{"op": "remove", "path": "title"}, {"op": "remove", "path": "active"}]);
    corp.patch(&path, operations).expect(200);
    eventually("he is switched off again", || active(&app, "ada").filter(|active| *active == false));
}

/// A search that an app refuses is that person's matter.
#[test]
fn one_who_cannot_be_searched_holds_nobody_up() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "match = [\"userName\"]\nattempts_max = 3\n")]);
    app.refuse("o-brien", 400);
    let corp = house.corp();
    corp.post("/Users", &user("o-brien")).expect(201);
    eventually("the search was refused", || (app.calls_like("GET", "/Users?", 400) >= 2).then_some(()));
    corp.post("/Users", &user("ada")).expect(201);
    eventually("the other has an account", || app.account("ada"));
    eventually("a person must look at it", || (held(&house) == 1).then_some(()));
    assert!(app.account("o-brien").is_none());
}

/// Access that should have ended is read back again and again, and whoever leaves meanwhile does not wait for it.
#[test]
fn a_group_that_the_app_never_shows_holds_no_leaver_up() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "")]);
    let corp = house.corp();
    let ids: Vec<String> =
        ["ada", "bob"].iter().map(|name| corp.post("/Users", &user(name)).expect(201).id()).collect();
    let team = corp.post("/Groups", &group("Team", &[&ids[0]])).expect(201).id();
    eventually("the group with its member", || {
        app.groups().get("Team").filter(|members| members.len() == 1).cloned()
    });
    eventually("the other's account", || active(&app, "bob"));
    app.refuse("GET /Groups/", 504);
    let out = json!([{"op": "remove", "path": format!("members[value eq \"{}\"]", ids[0])}]);
    corp.patch(&format!("/Groups/{team}"), out).expect(200);
    eventually("the group was read in vain", || (app.calls_like("GET", "/Groups/", 504) >= 2).then_some(()));
    switch(&corp, &ids[1], false);
    eventually("the leaver is switched off", || active(&app, "bob").filter(|active| *active == false));
    app.get_well();
    eventually("both are seen", || metric(&house, VERIFIED).filter(|count| *count == 2));
}
