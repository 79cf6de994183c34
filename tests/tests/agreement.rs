//! Many at once: one name has one owner, no member is lost, a repeat changes nothing, a lost answer is found again.

#![cfg(test)]

use std::sync::Barrier;

use serde_json::{Value, json};
use street::house::{Options, group, user};
use street::proxy::Proxy;
use street::{Client, House};

#[test]
fn two_creates_of_one_name_have_one_winner() {
    let house = House::start();
    let corp = house.corp();
    for round in 0..10 {
        let barrier = Barrier::new(4);
        let mut statuses: Vec<(u16, Value)> = std::thread::scope(|scope| {
            let create = || {
                barrier.wait();
                let reply = corp.post("/Users", &user(&format!("Racer-{round}")));
                (reply.status, reply.body["scimType"].clone())
            };
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        statuses.sort_by_key(|(status, _)| *status);
        assert_eq!(statuses[0].0, 201);
        for loser in &statuses[1..] {
            assert_eq!(loser, &(409, json!("uniqueness")));
        }
    }
    assert_eq!(house.events("corp").len(), 10);
}

#[test]
fn no_concurrent_member_is_lost() {
    let house = House::start();
    let corp = house.corp();
    let ids: Vec<String> = (0..64)
        .map(|number| corp.post("/Users", &user(&format!("member-{number}"))).expect(201).id())
        .collect();
    let team = corp.post("/Groups", &group("Team", &[])).expect(201).id();
    let path = format!("/Groups/{team}");
    std::thread::scope(|scope| {
        for id in &ids {
            let (corp, path) = (&corp, &path);
            scope.spawn(move || {
                corp.patch(path, json!([{"op": "add", "path": "members", "value": [{"value": id}]}]))
                    .expect(200);
            });
        }
    });
    let members = corp.get(&path).expect(200).body["members"].as_array().unwrap().len();
    assert_eq!(members, 64);
}

#[test]
fn a_repeat_writes_nothing_and_keeps_the_version() {
    let house = House::start();
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    let path = format!("/Users/{id}");
    let patch = json!([{"op": "Replace", "path": "active", "value": "False"}, {"op": "add", "path": "title", "value": "Dr"}]);
    let first = corp.patch(&path, patch.clone()).expect(200);
    let events = house.events("corp").len();
    let second = corp.patch(&path, patch).expect(200);
    assert_eq!(second.header("etag"), first.header("etag"));
    assert_eq!(second.body, first.body);
    let mut whole = second.body.clone();
    assert_eq!(corp.put(&path, &whole).expect(200).header("etag"), first.header("etag"));
    assert_eq!(house.events("corp").len(), events);
    whole["title"] = json!("Prof");
    assert_ne!(corp.put(&path, &whole).expect(200).header("etag"), first.header("etag"));
}

#[test]
fn versions_guard_changes() {
    let house = House::start();
    let corp = house.corp();
    let created = corp.post("/Users", &user("ada")).expect(201);
    let (path, old) = (format!("/Users/{}", created.id()), created.header("etag").unwrap().to_string());
    let get = |tag: &str| corp.send("GET", &path, &[("If-None-Match", tag)], None);
    assert_eq!(get(&old).expect(304).text, "");
    let change = |tag: &str, title: &str| {
        let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [{"op": "add", "path": "title", "value": title}]});
        corp.send("PATCH", &path, &[("If-Match", tag)], Some(body.to_string().into_bytes()))
    };
    let new = change(&old, "Dr").expect(200).header("etag").unwrap().to_string();
    change(&old, "Prof").expect(412);
    get(&old).expect(200);
    // What is derived can change without the version: then a copy with the same version is not the same.
    let team = corp.post("/Groups", &group("Team", &[&created.id()])).expect(201).id();
    assert_eq!(get(&new).expect(200).body["groups"][0]["value"], json!(team));
    let body = Some(created.body.to_string().into_bytes());
    for tag in [new.as_str(), "*"] {
        corp.send("PUT", &path, &[("If-None-Match", tag)], body.clone()).expect(412);
        let refused = corp.send("DELETE", &path, &[("If-None-Match", tag), ("If-Match", "*")], None);
        assert_eq!(refused.expect(412).body["status"], "412");
    }
    corp.send("DELETE", &path, &[("If-Match", &old)], None).expect(412);
    corp.send("DELETE", &path, &[("If-Match", "*")], None).expect(204);
    corp.get(&path).expect(404);
}

#[test]
fn a_rename_frees_the_old_name() {
    let house = House::start();
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "userName", "value": "eve"}]))
        .expect(200);
    corp.post("/Users", &user("EVE")).expect(409);
    corp.post("/Users", &user("ada")).expect(201);
    assert_eq!(corp.find("/Users", "userName", "eve").unwrap()["id"], json!(id));
    let again = corp.post("/Users", &user("Ada"));
    assert_eq!(again.expect(409).body["scimType"], "uniqueness");
    corp.delete(&format!("/Users/{id}")).expect(204);
    corp.post("/Users", &user("eve")).expect(201);
}

/// The broker writes the event, but its acknowledgement never arrives.
#[test]
fn a_create_whose_answer_was_lost_stands_once() {
    let broker = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let url = broker.env("NATS_URL").to_string();
    let (credentials, address) = url.trim_start_matches("nats://").split_once('@').unwrap();
    let proxy = Proxy::start(address.parse().unwrap());
    let flags = vec![
        "--no-demo".to_string(),
        "--nats".to_string(),
        format!("nats://{credentials}@{}", proxy.address()),
    ];
    // The same installation has the same master key.
    let key = std::fs::read_to_string(broker.data_dir().join("master.key")).unwrap();
    let flags = flags.into_iter().chain(["--master-key".to_string(), key]).collect();
    let second = House::start_with(Options { flags, ..Options::default() });
    let corp = second.corp();
    corp.post("/Users", &user("warm")).expect(201);
    proxy.lose_next_acknowledgement();
    let created = corp.post("/Users", &user("ada")).expect(201);
    assert_eq!(proxy.lost(), 1, "the fault did not strike");
    let mine = |event: &&Value| event["resourceId"] == json!(created.id());
    assert_eq!(broker.events("corp").iter().filter(mine).count(), 1);
    assert_eq!(corp.get(&format!("/Users/{}", created.id())).expect(200).body, created.body);
    // Both gateways answer from the same log.
    let other = Client::new(broker.env("SCIM_URL"), broker.env("SCIM_TOKEN"));
    assert_eq!(other.find("/Users", "userName", "ada").unwrap()["id"], created.body["id"]);
    other.post("/Users", &user("ADA")).expect(409);
}
