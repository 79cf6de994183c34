//! The broker is away for ten seconds. Who can wait is served, who cannot gets 503 with `Retry-After`; afterwards each
//! name stands once at most, what was acknowledged stands, and no rename is half there.

#![cfg(test)]

#[path = "../../eventlog/tests/common/wire.rs"]
#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod wire;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use eventlog::server::{self, Server};
use serde_json::{Value, json};
use street::house::{Options, eventually, user};
use street::{Client, House, Reply};
use wire::Wire;

/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(10);
/// How long the one house waits for its broker, and the other.
const PATIENT_MS: u64 = 40_000;
const HASTY_MS: u64 = 3_000;
const COUNT: usize = 8;

struct Scene {
    server: Server,
    wire: Wire,
    patient: House,
    hasty: House,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binary = server::find(None, "").expect("`make test` fetches the broker: run `make broker`");
        let config =
            server::Config { binary, folder: folder.path().to_path_buf(), port: 0, processors: None };
        let server = Server::start(&config).unwrap();
        let wire = Wire::to(server.url().rsplit_once('@').unwrap().1.parse().unwrap());
        let house = |timeout_ms: u64| {
            let key = "a".repeat(64);
            let flags = ["--no-demo", "--nats", &wire.url(server.url()), "--master-key", &key];
            let house = House::start_with(Options {
                flags: flags.map(ToString::to_string).to_vec(),
                configuration: Some(format!("[gateway.limits]\nrequest_timeout_ms = {timeout_ms}\n")),
                ..Options::default()
            });
            // For the operator's commands, which are given no key.
            std::fs::write(house.data_dir().join("master.key"), key).unwrap();
            house
        };
        let (patient, hasty) = (house(PATIENT_MS), house(HASTY_MS));
        Self { server, wire, patient, hasty, _folder: folder }
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.server.pid()).unwrap();
        // SAFETY: a signal to a child of ours, by its id.
        #[expect(unsafe_code, reason = "the standard library can only kill what it started itself")]
        unsafe {
            libc::kill(pid, signal);
        }
    }
}

/// Somebody's wish, and what was answered.
struct Told {
    name: String,
    /// The resource to be renamed; nothing for a create.
    id: Option<String>,
    reply: Reply,
}

fn ask(client: &Client, id: Option<&String>, name: &str) -> Reply {
    match id {
        Some(id) => client
            .patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "userName", "value": name}])),
        None => client.post("/Users", &user(name)),
    }
}

/// As many creates as renames at once, each from a client of its own.
fn crowd(house: &House, who: &str, ids: &[String]) -> Vec<thread::JoinHandle<Told>> {
    let creates = (0..COUNT).map(|number| (format!("{who}-new-{number}"), None));
    let renames =
        ids.iter().enumerate().map(|(number, id)| (format!("{who}-renamed-{number}"), Some(id.clone())));
    let wishes: Vec<(String, Option<String>)> = creates.chain(renames).collect();
    let ask = |(name, id): (String, Option<String>)| {
        let corp = house.corp();
        thread::spawn(move || Told { reply: ask(&corp, id.as_ref(), &name), name, id })
    };
    wishes.into_iter().map(ask).collect()
}

fn members(house: &House, who: &str) -> Vec<String> {
    let corp = house.corp();
    (0..COUNT)
        .map(|number| corp.post("/Users", &user(&format!("{who}-old-{number}"))).expect(201).id())
        .collect()
}

fn busy(told: &Told) {
    assert_eq!(
        (told.reply.status, told.reply.header("retry-after")),
        (503, Some("1")),
        "{}",
        told.reply.text
    );
}

fn metric(house: &House, name: &str) -> f64 {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let text = admin.get("/metrics").expect(200).text;
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_default()
}

/// The log tells each name's story: taken once at most, and where a rename was acknowledged, wholly.
fn agree(house: &House, told: &[Told]) {
    let corp = house.corp();
    let events = house.events("corp");
    let count = |kind: &str, id: &str| {
        events.iter().filter(|event| event["kind"] == kind && event["resourceId"] == id).count()
    };
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &events {
        for change in event["changes"].as_array().into_iter().flatten() {
            if change["path"] == "userName" {
                *taken.entry(change["after"].as_str().unwrap()).or_default() += 1;
            }
        }
    }
    assert!(taken.values().all(|times| *times == 1), "{taken:?}");
    for Told { name, id, reply } in told {
        let shown: Option<Value> = corp.find("/Users", "userName", name);
        let stands = taken.contains_key(name.as_str());
        assert_eq!(shown.is_some(), stands, "{name} is shown as the log has it");
        assert!(
            reply.status == 503 || stands,
            "{name} was acknowledged with {} and is not there",
            reply.status
        );
        let Some(id) = id else { continue };
        assert_eq!(
            (count("Updated", id), count("Moved", id)),
            (usize::from(stands), usize::from(stands)),
            "{name}"
        );
        let now = corp.get(&format!("/Users/{id}")).expect(200).body["userName"].clone();
        assert_eq!(now == json!(name), stands, "{name}: {now}");
        // The name that a rename freed can be taken, and no other.
        let former = name.replace("renamed", "old");
        let again = corp.post("/Users", &user(&former)).status;
        assert_eq!(again, if stands { 201 } else { 409 }, "{former}");
    }
}

fn wait(begun: Instant) {
    wait_for(AWAY, begun);
}

fn wait_for(time: Duration, begun: Instant) {
    eventually("the broker was away long enough", || (begun.elapsed() >= time).then_some(()));
}

/// A Bulk request that makes so many people.
fn bulk(who: &str, count: usize) -> Value {
    let operation = |number: usize| {
        let (id, name) = (format!("b{number}"), format!("{who}-bulk-{number}"));
        json!({"method": "POST", "path": "/Users", "bulkId": id, "data": user(&name)})
    };
    let operations: Vec<Value> = (0..count).map(operation).collect();
    json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": operations})
}

#[test]
fn a_broker_that_is_cut_off_for_ten_seconds() {
    let scene = Scene::start();
    let (patient, hasty) = (members(&scene.patient, "patient"), members(&scene.hasty, "hasty"));
    scene.wire.go_away();
    let begun = Instant::now();
    // The houses know it: nothing is on its way that could be written later.
    for house in [&scene.patient, &scene.hasty] {
        let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
        eventually("the cut is noticed", || (admin.get("/readyz").status != 200).then_some(()));
    }
    let waiting = crowd(&scene.patient, "patient", &patient);
    let mut told: Vec<Told> =
        crowd(&scene.hasty, "hasty", &hasty).into_iter().map(|asked| asked.join().unwrap()).collect();
    told.iter().for_each(busy);
    wait(begun);
    scene.wire.come_back();
    for asked in waiting {
        let asked = asked.join().unwrap();
        assert!(matches!(asked.reply.status, 200 | 201), "{}: {}", asked.name, asked.reply.text);
        told.push(asked);
    }
    eventually("the other house is connected again", || {
        (scene.hasty.corp().post("/Users", &user("after")).status == 201).then_some(())
    });
    let shown = |name: &str| scene.hasty.corp().find("/Users", "userName", name).is_some();
    assert!(
        !told.iter().any(|told| told.reply.status == 503 && shown(&told.name)),
        "refused means not written"
    );
    agree(&scene.patient, &told);
    assert!(metric(&scene.hasty, "rollcall_append_timeouts_total{unknown=\"false\"}") >= 1.0);
}

/// The first who are created in a tenant need data keys, which the broker keeps: they wait for it as others do, and for no
/// longer than they may, however many they are.
#[test]
fn whoever_needs_a_new_key_waits_within_the_deadline() {
    let scene = Scene::start();
    scene.wire.go_away();
    let begun = Instant::now();
    let patient = crowd(&scene.patient, "patient", &[]);
    let hasty = crowd(&scene.hasty, "hasty", &[]);
    hasty.into_iter().for_each(|asked| busy(&asked.join().unwrap()));
    assert!(begun.elapsed() < Duration::from_millis(3 * HASTY_MS), "they waited for one another");
    wait(begun);
    scene.wire.come_back();
    let told: Vec<Told> = patient.into_iter().map(|asked| asked.join().unwrap()).collect();
    told.iter().for_each(|told| assert_eq!(told.reply.status, 201, "{}: {}", told.name, told.reply.text));
    agree(&scene.patient, &told);
}

/// One operation waits for the broker, and the others know.
#[test]
fn a_bulk_request_waits_once() {
    let scene = Scene::start();
    let corp = scene.hasty.corp();
    scene.wire.go_away();
    let begun = Instant::now();
    let reply = corp.post("/Bulk", &bulk("hasty", COUNT)).expect(200);
    assert!(begun.elapsed() < Duration::from_millis(3 * HASTY_MS), "each waited for itself");
    let operations = reply.body["Operations"].as_array().unwrap();
    assert_eq!(operations.len(), COUNT, "each is told about");
    assert!(operations.iter().all(|operation| operation["status"] == "503"), "{}", reply.text);
    // Who cannot be known yet has changed nothing.
    let stranger = corp.with_token("rc_stranger_secret").get("/Users").expect(503);
    assert_eq!(stranger.header("retry-after"), Some("1"));
    assert!(stranger.text.contains("nothing was changed"), "{}", stranger.text);
    scene.wire.come_back();
    eventually("all of it is done", || {
        let reply = corp.post("/Bulk", &bulk("hasty", COUNT)).expect(200);
        let operations = reply.body["Operations"].as_array().unwrap();
        operations.iter().all(|operation| operation["status"] == "201").then_some(())
    });
}

/// Whoever was told that it will be done need not come again because of an outage.
#[test]
fn what_was_accepted_is_done_when_the_broker_is_back() {
    let scene = Scene::start();
    let (corp, count) = (scene.hasty.corp(), 1_000);
    let body = bulk("hasty", count).to_string().into_bytes();
    let accepted = corp.send("POST", "/Bulk", &[("Prefer", "respond-async")], Some(body)).expect(202);
    scene.wire.go_away();
    // Longer than a write may take, shorter than the lease of the request.
    wait_for(Duration::from_millis(HASTY_MS + 1_000), Instant::now());
    scene.wire.come_back();
    let path = format!("/Requests/{}", accepted.header("set-txn").unwrap());
    let sets = eventually("the completion", || {
        let answer = corp.get(&path);
        (answer.status == 200).then(|| answer.body["sets"].as_array().unwrap().clone())
    });
    let completed = "urn:ietf:params:scim:event:misc:asyncresp";
    let failed: Vec<&Value> = sets.iter().filter(|set| set["events"][completed]["status"] != "201").collect();
    assert_eq!((sets.len(), failed), (count, vec![]));
    let created = scene.hasty.events("corp").iter().filter(|event| event["kind"] == "Created").count();
    assert_eq!(created, count, "each once");
}

/// Stopped with its connections open: what was sent waits there, and may be written later.
#[test]
fn a_broker_that_is_stopped_for_ten_seconds() {
    let scene = Scene::start();
    let (patient, hasty) = (members(&scene.patient, "patient"), members(&scene.hasty, "hasty"));
    scene.signal(libc::SIGSTOP);
    let begun = Instant::now();
    let waiting = crowd(&scene.patient, "patient", &patient);
    let mut told: Vec<Told> =
        crowd(&scene.hasty, "hasty", &hasty).into_iter().map(|asked| asked.join().unwrap()).collect();
    told.iter().for_each(busy);
    wait(begun);
    scene.signal(libc::SIGCONT);
    told.extend(waiting.into_iter().map(|asked| asked.join().unwrap()));
    for told in told.iter().filter(|told| told.name.starts_with("patient")) {
        assert!(matches!(told.reply.status, 200 | 201), "{}: {}", told.name, told.reply.text);
    }
    // Behind everything that was on its way.
    scene.hasty.corp().post("/Users", &user("after")).expect(201);
    scene.patient.corp().post("/Users", &user("after that")).expect(201);
    agree(&scene.patient, &told);
    assert!(metric(&scene.hasty, "rollcall_append_timeouts_total{unknown=\"true\"}") >= 1.0);
}
