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
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "")]);
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
    switch(&corp, leaver, false);
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
