//! Figures that go up and down say how many wait, for as long as they do, and only of whoever is worked for.

#![cfg(test)]

use serde_json::Value;
use street::apps::{App, Kind};
use street::house::{Options, eventually, user};
use street::subscriber::{Subscriber, Verdict};
use street::{Client, House};

const SECRET: &str = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=";

/// A gauge of `/metrics`, which is written with all its labels; nothing when it is not there.
fn gauge(house: &House, name: &str) -> Option<String> {
    let text = Client::new(house.env("ADMIN_URL"), "").get("/metrics").expect(200).text;
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_string);
    text.lines().find_map(value)
}

#[track_caller]
fn becomes(house: &House, name: &str, expected: &str) {
    eventually(name, || (gauge(house, name).as_deref() == Some(expected)).then_some(()));
}

#[test]
fn what_a_guard_rail_held_is_counted_no_more_once_it_is_released() {
    let app = App::start(Kind::Scim);
    let guard = "[app.wiki.guard]\ndelete = { more_than = 1 }\n";
    let house = House::feeding(&[("wiki", &app, guard)]);
    let corp = house.corp();
    let ids: Vec<String> =
        (0..6).map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id()).collect();
    eventually("all have accounts", || (app.accounts().len() == 6).then_some(()));
    for id in &ids {
        corp.delete(&format!("/Users/{id}")).expect(204);
    }
    let railed = "rollcall_app_railed{app=\"wiki\",operation=\"delete\"}";
    eventually("some wait", || gauge(&house, railed).filter(|count| count != "0"));
    house.rollcall(&["app", "release", "wiki", "--by", "ann"]);
    eventually("all are gone", || app.accounts().is_empty().then_some(()));
    becomes(&house, railed, "0");
}

#[test]
fn what_a_feed_holds_is_told_also_while_it_is_stopped_and_not_once_it_is_gone() {
    let subscriber = Subscriber::new(&[SECRET]);
    subscriber.answer(|_, _| Verdict::Status(422));
    let more = "begin = \"start\"\nattempts_max = 1\nheld_max = 1\n";
    let mut house = House::start_with(Options {
        configuration: Some(subscriber.configuration("audit", SECRET, more)),
        flags: vec!["--no-demo".to_string()],
        ..Options::default()
    });
    let corp = house.corp();
    corp.post("/Users", &user("ada")).expect(201);
    let held = "rollcall_feed_held{feed=\"audit\"}";
    becomes(&house, held, "1");
    corp.post("/Users", &user("bob")).expect(201);
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let status = |admin: &Client| admin.get("/api/v1/status").expect(200).body["apps"]["feed.audit"].clone();
    let stopped = eventually("it is stopped", || {
        let status = status(&admin);
        let why = status["waiting_for"].as_str().unwrap_or_default();
        why.contains("held_max").then_some(status)
    });
    assert_eq!(stopped["held"], 1, "{stopped}");
    assert!(stopped["watermark"].as_u64() > Some(0), "{stopped}");
    becomes(&house, held, "1");
    assert_eq!(gauge(&house, "rollcall_app_held{app=\"feed.audit\"}"), None, "a feed is no app");
    house.configure("");
    house.hang_up();
    becomes(&house, held, "0");
    assert_eq!(status(&admin), Value::Null);
}
