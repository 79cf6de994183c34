//! Messages in the log that nobody can read: what nothing of ours wrote stops nobody, and what may be ours stops everybody
//! until an operator has said what it is.

#![cfg(test)]

use async_nats::jetstream;
use async_nats::{ConnectOptions, HeaderMap, ServerAddr};
use jiff::Timestamp;
use proto::Event;
use proto::control::Kind;
use serde_json::json;
use street::House;
use street::control::control;
use street::house::{eventually, user};

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// Publishes to the house's broker, past the house; returns the sequence.
fn publish(house: &House, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> u64 {
    let address: ServerAddr = house.env("NATS_URL").parse().unwrap();
    let (user, password) = (address.username().unwrap(), address.password().unwrap());
    let options = ConnectOptions::with_user_and_password(user.to_string(), password.to_string());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let context = jetstream::new(options.connect(address).await.unwrap());
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let published = context.publish_with_headers(subject.to_string(), map, payload.to_vec().into()).await;
        published.unwrap().await.unwrap().sequence
    })
}

/// The last sequence of the tenant corp, and its subject.
fn last(house: &House) -> (u64, String) {
    let sequence = house.events("corp").last().unwrap()["sequence"].as_u64().unwrap();
    let address: ServerAddr = house.env("NATS_URL").parse().unwrap();
    let (user, password) = (address.username().unwrap(), address.password().unwrap());
    let options = ConnectOptions::with_user_and_password(user.to_string(), password.to_string());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let context = jetstream::new(options.connect(address).await.unwrap());
        let stream = context.get_stream("IDENTITY").await.unwrap();
        (sequence, stream.get_raw_message(sequence).await.unwrap().subject.to_string())
    })
}

#[test]
fn what_nothing_of_ours_wrote_stops_nobody() {
    let mut house = House::start();
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    let path = format!("/Users/{id}");
    let key = "01890a5dac96774bbcceb302099a8057";
    for subject in [
        last(&house).1.as_str(),
        "identity.corp.Gadget.x",
        "identity.y",
        &format!("provisioning.corp.demo.User.{key}"),
        "provisioning.z",
        "control.corp.Operated",
    ] {
        assert!(publish(&house, subject, &[], b"hello") > 0);
    }
    // Whoever changes her next meets the message on her own subject.
    corp.patch(&path, json!([{"op": "replace", "path": "active", "value": false}])).expect(200);
    let is_off =
        || house.app().find("/Users", "userName", "ada").filter(|account| account["active"] == false);
    eventually("the app hears that she left", is_off);
    assert!(house.log().contains("nothing of ours wrote"), "{}", house.log());
    let kinds = |house: &House| -> Vec<String> {
        let events = house.events("corp");
        events.iter().map(|event| event["kind"].as_str().unwrap().to_string()).collect()
    };
    let told = ["Created", "PassedOver", "Updated"];
    assert_eq!(kinds(&house), told);
    house.kill();
    house.start_again();
    assert_eq!(house.corp().get(&path).expect(200).body["active"], false);
    house.corp().patch(&path, json!([{"op": "replace", "path": "title", "value": "x"}])).expect(200);
    assert_eq!(kinds(&house)[..3], told);
}

/// What `events pass-over` says when it does not.
fn refused(house: &House, arguments: &[&str]) -> String {
    let output = house.attempt(&[&["events", "pass-over"], arguments].concat());
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_a_newer_version_wrote_is_not_passed_over() {
    let mut house = House::start();
    let id = house.corp().post("/Users", &user("ada")).expect(201).id();
    let subject = last(&house).1;
    let event = Event {
        id: ID.parse().unwrap(),
        tenant: "corp".parse().unwrap(),
        resource_type: "User".to_string(),
        resource_id: id.parse().unwrap(),
        source: "hr".to_string(),
        actor: String::new(),
        txn: String::new(),
        occurred_at: Timestamp::UNIX_EPOCH,
        reason: String::new(),
        key_ref: None,
        continued: false,
        kind: proto::Kind::Erased,
    };
    let payload = proto::codec::encode(&event, None).to_vec();
    // Erased has number 28; nothing has 99 yet.
    let kind = payload.windows(3).rposition(|bytes| bytes == [0xe2, 0x01, 0]).unwrap();
    let newer = [&payload[..kind], &[0x9a, 0x06, 0], &payload[kind + 3..]].concat();
    let place = publish(&house, &subject, &[("Nats-Msg-Id", ID)], &newer).to_string();
    assert!(house.ended().contains("upgrade"), "{}", house.log());
    let said = refused(&house, &[&place, "--by", "ann", "--why", "it is in the way"]);
    assert!(said.contains("newer version"), "{said}");
}

#[test]
fn what_may_be_ours_stops_everybody_until_an_operator_passes_it_over() {
    let mut house = House::start();
    let id = house.corp().post("/Users", &user("ada")).expect(201).id();
    let (first, subject) = last(&house);
    let by = ["--by", "ann", "--why", "a bad disk"];
    let said = refused(&house, &[&[first.to_string().as_str()][..], &by].concat());
    assert!(said.contains("can be read, so it is not passed over"), "{said}");
    let said = refused(&house, &[&["99"][..], &by].concat());
    assert!(said.contains("holds nothing at 99"), "{said}");
    let place = publish(&house, &subject, &[("Nats-Msg-Id", ID)], b"hello").to_string();
    for _ in 0..2 {
        let said = house.ended();
        assert!(
            said.starts_with("rollcall: ") && said.contains(&format!("at sequence {place} (see")),
            "{said}"
        );
        house.begin();
    }
    house.ended();
    // Its broker ended with it.
    let done = house.rollcall(&[&["events", "pass-over", &place][..], &by].concat());
    assert!(done.contains("cannot be read"), "{done}");
    house.start_again();
    let corp = house.corp();
    assert_eq!(corp.get(&format!("/Users/{id}")).expect(200).body["userName"], "ada");
    corp.delete(&format!("/Users/{id}")).expect(204);
    let noted = control(&house).into_iter().find_map(|event| match event.kind {
        Kind::Operated { subject, .. } if subject == format!("message/IDENTITY/{place}") => {
            Some((event.tenant.to_string(), event.actor, event.reason))
        }
        _ => None,
    });
    assert_eq!(noted, Some(("corp".to_string(), "ann".to_string(), "a bad disk".to_string())));
    let again = house.rollcall(&[&["events", "pass-over", &place][..], &by].concat());
    assert!(again.contains("passed over already"), "{again}");
    let tail = house.rollcall(&["events", "tail", "--from", &place, "--no-follow"]);
    assert!(tail.contains("PassedOver") && tail.contains("a bad disk"), "{tail}");
}
