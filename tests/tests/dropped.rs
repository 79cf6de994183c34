//! A tenant that was dropped: nobody of it is left anywhere, and it begins anew.

#![cfg(test)]

use std::time::Duration;

use eventlog::{Append, Guard, clock};
use proto::{Event, Kind, ResourceId, subject};
use serde_json::{Value, json};
use street::House;
use street::apps::{App, Kind as AppKind};
use street::house::{eventually, user};
use tokio::time::Instant;

/// Writes that the tenant corp is dropped; returns the sequence.
fn drop_corp(house: &House) -> u64 {
    let url = house.env("NATS_URL").to_string();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let connect_timeout = Duration::from_secs(60);
        let config = eventlog::nats::Config { url, replicas: 1, connect_timeout, ..Default::default() };
        let log = eventlog::nats::connect(&config).await.unwrap().identity;
        let resource_id = ResourceId::new(clock::new_uuid());
        let event = Event {
            id: clock::new_event_id(),
            tenant: "corp".parse().unwrap(),
            resource_type: "User".to_string(),
            resource_id,
            source: "operator".to_string(),
            actor: "ann".to_string(),
            txn: String::new(),
            occurred_at: clock::now(),
            reason: "the company is gone".to_string(),
            key_ref: None,
            continued: false,
            kind: Kind::TenantDropped,
        };
        let append = Append {
            subject: subject::identity(&event.tenant, "User", &subject::key_of_id(resource_id)),
            guard: Guard::Last(0),
            id: event.id,
            payload: proto::codec::encode(&event, None),
            headers: eventlog::Headers::default(),
        };
        log.append(append, Instant::now() + connect_timeout).await.unwrap()
    })
}

/// The digest that a command shows.
fn digest(told: &str) -> String {
    let (_, digest) = told.split_once("sha256 ").unwrap_or_else(|| panic!("no digest: {told}"));
    digest.split_whitespace().next().unwrap().to_string()
}

/// A house whose tenant corp had three people with accounts at an app, and was dropped.
fn dropped(app: &App, guard: &str) -> House {
    let house = House::feeding(&[("wiki", app, guard)]);
    for name in ["ada", "bob", "cyd"] {
        house.corp().post("/Users", &user(name)).expect(201);
    }
    eventually("all have accounts", || (app.accounts().len() == 3).then_some(()));
    drop_corp(&house);
    eventually("nobody is left", || {
        (house.corp().get("/Users").expect(200).body["totalResults"] == 0).then_some(())
    });
    house
}

#[test]
fn all_of_its_people_go_at_once_so_a_guard_rail_counts_all_of_them_before_the_first() {
    let app = App::start(AppKind::Scim);
    let house = dropped(&app, "[app.wiki.guard]\ndelete = { more_than = 2 }\n");
    eventually("all of them wait", || {
        let told: Value = serde_json::from_str(&house.rollcall(&["app", "show", "wiki", "--json"])).unwrap();
        (told["tripped"]["delete"]["waiting"] == 3).then_some(())
    });
    assert_eq!(app.accounts().len(), 3);
    house.rollcall(&["app", "release", "wiki", "--by", "bob", "--why", "it is so"]);
    eventually("no account is left", || app.accounts().is_empty().then_some(()));
}

/// The broker remembers the subjects of former names; the directory does not.
#[test]
fn its_names_are_free_and_whoever_builds_anew_answers_the_same() {
    let app = App::start(AppKind::Scim);
    let mut house = dropped(&app, "");
    eventually("no account is left", || app.accounts().is_empty().then_some(()));
    let corp = house.corp();
    let again = corp.post("/Users", &user("ada")).expect(201);
    let path = format!("/Users/{}", again.id());
    corp.patch(&path, json!([{"op": "replace", "path": "userName", "value": "bob"}])).expect(200);
    eventually("her account", || app.account("bob"));
    house.kill();
    house.start_again();
    let corp = house.corp();
    corp.post("/Users", &user("cyd")).expect(201);
    corp.post("/Users", &user("ada")).expect(201);
    corp.post("/Users", &user("bob")).expect(409);
    assert_eq!(corp.get("/Users").expect(200).body["totalResults"], 3);
    let rebuilt = house.rollcall(&["projector", "rebuild", "--folder", "second"]);
    assert_eq!(digest(&rebuilt), digest(&house.rollcall(&["audit", "digest"])), "{rebuilt}");
    eventually("they have accounts", || (app.accounts().len() == 3).then_some(()));
}
