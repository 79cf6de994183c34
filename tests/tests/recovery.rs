//! Killed at any moment, started again: nothing acknowledged is missing, nothing is there twice.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use street::house::{Options, eventually, group, pause, user};
use street::{Client, House};

/// Every user of an endpoint by name; fails when a name stands there twice.
fn users(client: &Client) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut start = 1;
    loop {
        let reply = client.get(&format!("/Users?startIndex={start}&count=100")).expect(200);
        let page = reply.body["Resources"].as_array().unwrap().clone();
        if page.is_empty() {
            assert_eq!(reply.body["totalResults"].as_u64(), Some(found.len() as u64));
            return found;
        }
        start += page.len();
        for user in page {
            let name = user["userName"].as_str().unwrap().to_string();
            assert!(found.insert(name.clone(), user).is_none(), "{name} is there twice");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_everything_is_killed() {
    let mut house = House::start();
    let acknowledged = Mutex::new(BTreeMap::new());
    let number = AtomicUsize::new(0);
    for round in 1..=4 {
        let (corp, stop) = (house.corp(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let name = format!("user-{}", number.fetch_add(1, Ordering::Relaxed));
                        let body = user(&name).to_string().into_bytes();
                        match corp.try_send("POST", "/Users", &[], Some(body)) {
                            Ok(reply) if reply.status == 201 => {
                                acknowledged.lock().unwrap().insert(name, reply.id());
                            }
                            Ok(_) | Err(_) => return,
                        }
                    }
                });
            }
            eventually("some more users", || {
                (acknowledged.lock().unwrap().len() >= round * 60).then_some(())
            });
            house.kill();
            stop.store(true, Ordering::Relaxed);
        });
        house.start_again();
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    let found = users(&house.corp());
    for (name, id) in &acknowledged {
        assert_eq!(found.get(name).map(|user| &user["id"]), Some(&json!(id)), "{name}");
    }
    // The app converges on the same people, none of them twice.
    let app = house.app();
    eventually("the app holds everybody", || (users(&app).len() == found.len()).then_some(()));
    let accounts = users(&app);
    for (name, user) in &found {
        assert_eq!(accounts[name]["externalId"], user["id"], "{name}");
    }
}

#[test]
fn a_projection_that_is_gone_or_damaged_is_built_again() {
    let mut house = House::start();
    let corp = house.corp();
    let ids: Vec<String> =
        (0..5).map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id()).collect();
    corp.post("/Groups", &group("Team", &[&ids[0], &ids[1]])).expect(201);
    corp.delete(&format!("/Users/{}", ids[1])).expect(204);
    let answers = |house: &House| {
        let corp = house.corp();
        let at = house.env("SCIM_URL").to_string();
        ["/Users", "/Groups"].map(|path| corp.get(path).expect(200).text.replace(&at, "URL"))
    };
    let expected = answers(&house);
    assert!(house.stop());
    std::fs::remove_dir_all(house.data_dir().join("projection")).unwrap();
    house.start_again();
    assert_eq!(answers(&house), expected);
    assert!(house.stop());
    for entry in std::fs::read_dir(house.data_dir().join("projection")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(path, b"no database").unwrap();
        }
    }
    house.start_again();
    assert_eq!(answers(&house), expected);
    assert!(house.log().contains("cannot be trusted"), "{}", house.log());
}

/// Of a store that is damaged in the middle, sled may fail with a panic.
#[test]
fn damage_is_told_in_the_words_of_the_log() {
    let mut house = House::start_with(Options {
        flags: ["--no-demo", "--log-format", "json"].map(str::to_string).to_vec(),
        ..Options::default()
    });
    let long = "x".repeat(1_000);
    let operations = (0..1_000).map(|number| {
        let mut data = user(&format!("u{number}"));
        data["displayName"] = long.clone().into();
        json!({"method": "POST", "path": "/Users", "bulkId": number.to_string(), "data": data})
    });
    let schemas = ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"];
    let bulk = json!({"schemas": schemas, "Operations": operations.collect::<Vec<_>>()});
    house.corp().post("/Bulk", &bulk).expect(200);
    assert!(house.stop());
    let store = house.data_dir().join("projection/db");
    let mut bytes = std::fs::read(&store).unwrap();
    let third = bytes.len() / 3;
    bytes[third..2 * third].fill(0);
    std::fs::write(&store, bytes).unwrap();
    house.start_again();
    assert_eq!(house.corp().get("/Users?count=0").expect(200).body["totalResults"], 1_000);
    let log = house.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("panick")).collect();
    assert_eq!(lines, Vec::<&str>::new());
}

#[test]
fn the_broker_alone_may_die() {
    let house = House::start();
    let corp = house.corp();
    corp.post("/Users", &user("before")).expect(201);
    let folder = house.data_dir().join("nats");
    let pid = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_prefix("nats-server_")?.strip_suffix(".ports")?.parse::<libc::pid_t>().ok()
        })
        .next()
        .unwrap();
    // SAFETY: a signal to a process that this house started, by its id.
    #[expect(unsafe_code, reason = "the standard library can only kill what it started itself")]
    unsafe {
        libc::kill(pid, libc::SIGKILL);
    }
    // A request waits for the broker within its deadline.
    corp.post("/Users", &user("after")).expect(201);
    assert_eq!(users(&corp).len(), 2);
}

#[test]
fn the_broker_is_gone_when_its_house_is_killed() {
    let mut house = House::start();
    let url = house.env("NATS_URL").to_string();
    let address: std::net::SocketAddr = url.rsplit_once('@').unwrap().1.parse().unwrap();
    std::net::TcpStream::connect(address).unwrap();
    house.kill();
    eventually("the broker is gone", || std::net::TcpStream::connect(address).is_err().then_some(()));
    pause();
}

/// Many write at once, so that batches are under way when everything is killed, again and again.
#[test]
fn what_a_crowd_was_told_stands_once_after_a_crash() {
    let mut house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let mut told: Vec<String> = Vec::new();
    for round in 0..3 {
        let corp = house.corp();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..48)
            .map(|writer| {
                let (corp, stop) = (corp.clone(), stop.clone());
                thread::spawn(move || {
                    let mut told = Vec::new();
                    for number in 0.. {
                        let name = format!("r{round}-w{writer}-{number}");
                        let body = user(&name).to_string().into_bytes();
                        match corp.try_send("POST", "/Users", &[], Some(body)) {
                            Ok(reply) if reply.status == 201 => told.push(name),
                            Ok(_) | Err(_) => {}
                        }
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    told
                })
            })
            .collect();
        let wanted = (round + 1) * 400;
        eventually("a crowd has written", || {
            (corp.get("/Users?count=0").expect(200).body["totalResults"].as_u64()? > wanted).then_some(())
        });
        house.kill();
        stop.store(true, Ordering::Relaxed);
        told.extend(writers.into_iter().flat_map(|writer| writer.join().unwrap()));
        house.start_again();
    }
    let created: Vec<String> = house
        .events("corp")
        .iter()
        .filter(|event| event["kind"] == "Created")
        .map(|event| {
            let changes = event["changes"].as_array().unwrap();
            let name = changes.iter().find(|change| change["path"] == "userName").unwrap();
            name["after"].as_str().unwrap().to_string()
        })
        .collect();
    let once: BTreeSet<&String> = created.iter().collect();
    assert_eq!(once.len(), created.len(), "nobody was made twice");
    let lost: Vec<&String> = told.iter().filter(|name| !once.contains(name)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), told.len());
    let shown = house.corp().get("/Users?count=0").expect(200).body["totalResults"].as_u64();
    assert_eq!(shown, Some(created.len() as u64));
}
