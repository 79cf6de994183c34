//! One app is dead, one answers late, one has had enough of us, one is well: the last is kept in step meanwhile, and the
//! others afterwards, with what is then, not with all that happened.

#![cfg(test)]

use std::time::Duration;

use serde_json::json;
use street::apps::{App, Call, Kind};
use street::expected::Expected;
use street::house::{Options, eventually, group, user};
use street::{Client, House};

const PEOPLE: usize = 20;
/// Changes of each of them.
const CHANGES: usize = 4;

fn status(house: &House, app: &str) -> serde_json::Value {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    admin.get("/api/v1/status").expect(200).body["apps"][app].clone()
}

#[test]
fn a_sick_app_holds_nobody_up_and_is_caught_up_with() {
    let [dead, late, busy, well] = [(); 4].map(|()| App::start(Kind::Scim));
    let apps = [("dead", &dead), ("late", &late), ("busy", &busy), ("well", &well)];
    // So slow that it cannot be done before the one that is well, however slow this machine is.
    let more = |name: &str| if name == "late" { "concurrency = 1" } else { "" };
    let house = House::feeding(&apps.map(|(name, app)| (name, app, more(name))));
    dead.stop();
    late.delay(Duration::from_secs(5));
    busy.answer_all_with_headers(429, &[("Retry-After", "5")]);
    let corp = house.corp();
    let ids: Vec<String> = (0..PEOPLE)
        .map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id())
        .collect();
    let members: Vec<&str> = ids.iter().map(String::as_str).collect();
    corp.post("/Groups", &group("Everybody", &members)).expect(201);
    for change in 0..CHANGES {
        for id in &ids {
            let title = json!([{"op": "replace", "path": "title", "value": format!("Title {change}")}]);
            corp.patch(&format!("/Users/{id}"), title).expect(200);
        }
    }
    corp.delete(&format!("/Users/{}", ids[0])).expect(204);
    let expected = Expected::of(&corp);
    let events = PEOPLE * (CHANGES + 1) + 2;

    // Nobody waits for the sick.
    expected.converges("well", &well);
    for (name, app) in [("dead", &dead), ("late", &late), ("busy", &busy)] {
        assert!(expected.difference(app).is_some(), "{name} is in step, although it cannot be");
    }
    eventually("it is said why the busy one rests", || {
        status(&house, "busy")["waiting_for"].as_str()?.contains("429").then_some(())
    });
    eventually("it is said why the dead one rests", || {
        status(&house, "dead")["waiting_for"].as_str()?.contains("cannot be reached").then_some(())
    });
    assert!(busy.calls_count() < events / 2, "{} calls to one that asks for rest", busy.calls_count());

    dead.start_again();
    late.get_well();
    busy.get_well();
    for (name, app) in apps {
        expected.converges(name, app);
        let made = app.calls_like("POST", "/Users", 201);
        assert!(made <= PEOPLE, "{name}: {made} accounts were made");
    }
    for (name, app) in [("dead", &dead), ("busy", &busy)] {
        let is_write = |call: &&Call| call.method != "GET" && call.status < 300;
        let writes = app.calls().iter().filter(is_write).count();
        assert!(writes < events, "{name}: {writes} writes for {events} events");
        assert!(status(&house, name)["held"] == 0, "{name}: nobody waits for a person");
    }
}

/// What stands before an app and knows no way to it answers 404 to everything. By that nobody's access has ended.
#[test]
fn an_app_that_is_not_there_at_all_ends_nobodys_access() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "users = 'userType ne \"Gone\"'\nattempts_max = 2")]);
    let corp = house.corp();
    let [deleted, left] = ["deleted", "left"].map(|name| corp.post("/Users", &user(name)).expect(201).id());
    eventually("both have accounts", || (app.accounts().len() == 2).then_some(()));
    app.answer_all_with(404);
    corp.delete(&format!("/Users/{deleted}")).expect(204);
    let gone = json!([{"op": "replace", "path": "userType", "value": "Gone"}]);
    corp.patch(&format!("/Users/{left}"), gone).expect(200);
    corp.post("/Users", &user("new")).expect(201);
    eventually("each was told", || {
        let told = |method: &str| app.calls_like(method, "/Users", 404) > 0;
        (told("DELETE") && told("PATCH") && told("POST")).then_some(())
    });
    app.get_well();
    eventually("their access has ended", || {
        let is_off = |name: &str| app.account(name).is_none_or(|account| account["active"] == false);
        (app.account("deleted").is_none() && is_off("left")).then_some(())
    });
    eventually("the new one has an account", || app.account("new"));
    eventually("nothing is due", || (status(&house, "wiki")["due"] == 0).then_some(()));
    assert_eq!(status(&house, "wiki")["held"], 0, "nobody waits for a person");
}

/// An app of many machines may not know everywhere yet whom it made a moment ago.
#[test]
fn whoever_leaves_before_the_app_knows_him_everywhere_keeps_no_account() {
    let app = App::start(Kind::Scim);
    app.refuse("/Users/", 404);
    let house = House::feeding(&[("wiki", &app, "late_ms = 30000")]);
    let corp = house.corp();
    let id = corp.post("/Users", &user("brief")).expect(201).id();
    eventually("the account", || app.account("brief"));
    corp.delete(&format!("/Users/{id}")).expect(204);
    eventually("it is not known there", || (app.calls_like("DELETE", "/Users", 404) > 0).then_some(()));
    app.get_well();
    eventually("the account is gone", || app.accounts().is_empty().then_some(()));
}

/// After a rest an app that is still down is tried by one call, not by as many as it may have at a time.
#[test]
fn an_app_that_is_still_down_is_tried_with_one_call() {
    let app = App::start(Kind::Scim);
    let configuration = app.configuration("wiki", "concurrency = 16");
    let flags = vec!["--no-demo".to_string()];
    let house =
        House::start_with(Options { configuration: Some(configuration), flags, ..Options::default() });
    app.answer_all_with(503);
    let corp = house.corp();
    corp.post("/Users", &user("first")).expect(201);
    eventually("it rests", || status(&house, "wiki")["waiting_for"].as_str().map(str::to_string));
    for number in 1..60 {
        corp.post("/Users", &user(&format!("u{number}"))).expect(201);
    }
    let before = app.calls_count();
    for tries in 1..4 {
        eventually("one more try", || (app.calls_count() >= before + tries).then_some(()));
        assert!(app.calls_count() < before + 10, "{} calls after {before}", app.calls_count());
    }
    app.get_well();
    Expected::of(&corp).converges("wiki", &app);
    assert_eq!(app.calls_like("POST", "/Users", 201), 60);
}
