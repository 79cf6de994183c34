//! Webhook feeds, heard by real HTTP servers that check signatures, refuse, rest, wait, and are not there.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use proto::control::{self, Kind};
use serde_json::{Value, json};
use street::house::{Options, eventually, group, user};
use street::subscriber::{Subscriber, Verdict};
use street::{Client, House};

const SECRET: &str = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=";
const OLD_SECRET: &str = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQ=";

/// A house without a demo app whose configuration this is.
fn house(configuration: String) -> House {
    House::start_with(Options {
        configuration: Some(configuration),
        flags: vec!["--no-demo".to_string()],
        ..Options::default()
    })
}

fn admin(house: &House) -> Client {
    Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"))
}

fn set(corp: &Client, id: &str, name: &str, value: Value) {
    let operation = json!([{"op": "replace", "path": name, "value": value}]);
    corp.patch(&format!("/Users/{id}"), operation).expect(200);
}

fn subject(event: &Value) -> String {
    event["subject"].as_str().unwrap_or_default().to_string()
}

/// What is held of a feed, as `rollcall feed held` says.
fn held(house: &House, feed: &str) -> Vec<Value> {
    let said = house.rollcall(&["feed", "held", feed, "--json"]);
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Everything on CONTROL that was done to feeds: what, to what, by whom.
fn instructed(house: &House) -> Vec<(String, String, String)> {
    let url = house.env("NATS_URL").to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = eventlog::nats::Config {
            url,
            replicas: 1,
            connect_timeout: Duration::from_secs(60),
            ..Default::default()
        };
        let control = eventlog::nats::connect(&config).await.unwrap().control;
        let last = control.last_sequence().await.unwrap();
        let messages = control.follow(1).take(usize::try_from(last).unwrap());
        let events = messages.map(|message| control::decode(message.unwrap().payload).unwrap());
        let events: Vec<control::Event> = events.collect().await;
        let done = events.into_iter().filter_map(|event| match event.kind {
            Kind::Operated { subject, operation, detail } if subject == "feed/audit" => {
                Some((operation, detail, event.actor))
            }
            _ => None,
        });
        done.collect()
    })
}

#[test]
fn a_subscriber_hears_everything_once_taken_in_order_and_only_what_is_allowed() {
    let subscriber = Subscriber::new(&[SECRET]);
    subscriber.answer(|_, _| Verdict::RetryAfter(503, 0));
    let more =
        "attributes = [\"userName\", \"active\", \"displayName\"]\nfrom_start = true\nconcurrency = 1\n";
    let mut house = house(subscriber.configuration("audit", SECRET, more));
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    let team = corp.post("/Groups", &group("Team", &[&ada])).expect(201).id();
    set(&corp, &ada, "active", json!(false));
    let remove = json!([{"op": "remove", "path": format!("members[value eq \"{ada}\"]")}]);
    corp.patch(&format!("/Groups/{team}"), remove).expect(200);
    corp.delete(&format!("/Users/{ada}")).expect(204);
    eventually("some refusals", || (subscriber.deliveries().len() >= 2).then_some(()));
    subscriber.answer(|_, _| Verdict::Status(204));
    let wanted = [
        "user.created",
        "group.created",
        "group.member_added",
        "user.deactivated",
        "group.member_removed",
        "user.deleted",
    ];
    eventually("every event", || (subscriber.types().len() >= wanted.len()).then_some(()));
    assert_eq!(subscriber.types(), wanted);
    let first = subscriber.taken().remove(0);
    assert_eq!(first.headers["content-type"], "application/cloudevents+json");
    assert_eq!(first.headers["webhook-id"], first.text("id"));
    assert_eq!(first.event["data"]["attributes"]["userName"], "ada");
    assert!(!first.event.to_string().contains("corp.test"), "e-mail is not allowed: {}", first.event);
    assert!(subscriber.deliveries().iter().all(|delivery| delivery.verified == 1), "all are signed");

    // After a clean stop it goes on where it was.
    assert!(house.stop());
    house.start_again();
    house.corp().post("/Users", &user("bob")).expect(201);
    eventually("the next event", || (subscriber.types().len() > wanted.len()).then_some(()));
    assert_eq!(subscriber.types()[wanted.len()..], ["user.created"]);
    let came = subscriber.deliveries().iter().filter(|delivery| delivery.status == 204).count();
    assert_eq!(came, wanted.len() + 1, "nothing that was taken came again");
}

/// Refusals, rests and a kill in between: each resource's events are taken in their order, none is missing, several
/// resources go on at a time, and of one there are never two under way.
#[test]
fn each_resource_keeps_its_order_while_others_go_on() {
    const PEOPLE: usize = 8;
    const CHANGES: usize = 6;
    let subscriber = Subscriber::new(&[SECRET]);
    subscriber.answer(|event, before| {
        let number = event["sequence"].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        for _ in 0..3 {
            street::house::pause();
        }
        match (number % 7, before) {
            (3, 0) => Verdict::Status(422),
            (5, 0) => Verdict::RetryAfter(503, 0),
            (_, _) => Verdict::Status(200),
        }
    });
    let more = "attributes = [\"userName\", \"title\"]\nbegin = \"start\"\nattempts_max = 50\n";
    let mut house = house(subscriber.configuration("audit", SECRET, more));
    let corp = house.corp();
    let ids: Vec<String> = (0..PEOPLE)
        .map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id())
        .collect();
    for change in 0..CHANGES {
        let corp = house.corp();
        for id in &ids {
            set(&corp, id, "title", json!(format!("t{change}")));
        }
        if change == CHANGES / 2 {
            house.kill();
            house.start_again();
        }
    }
    let wanted = PEOPLE * (CHANGES + 1);
    eventually("every event", || (subscriber.taken().len() >= wanted).then_some(()));
    let mut told: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for delivery in subscriber.taken() {
        let title = delivery.event["data"]["attributes"]["title"].as_str().unwrap_or("new").to_string();
        told.entry(delivery.text("subject").to_string()).or_default().push((delivery.sequence(), title));
    }
    assert_eq!(told.len(), PEOPLE);
    for (subject, events) in told {
        assert!(events.is_sorted(), "{subject}: {events:?}");
        let titles: Vec<&str> = events.iter().map(|(_, title)| title.as_str()).collect();
        assert_eq!(titles, ["new", "t0", "t1", "t2", "t3", "t4", "t5"], "{subject}");
    }
    let (of_all, of_one) = subscriber.most();
    assert!(of_all > 1, "several resources go on at a time");
    // Whoever is killed leaves a request behind that its subscriber still works on.
    assert!(of_one <= 2, "{of_one} of one resource at a time");
    assert!(subscriber.deliveries().iter().all(|delivery| delivery.verified == 1));
}

#[test]
fn what_is_refused_too_often_is_held_and_redriven_through_a_kill_or_given_up() {
    let subscriber = Subscriber::new(&[SECRET]);
    let refuses = |event: &Value, _| match event["data"]["attributes"]["userName"].as_str() {
        Some("ada" | "eve") => Verdict::Status(422),
        _ => Verdict::Status(204),
    };
    subscriber.answer(refuses);
    let more = "attributes = [\"userName\", \"title\"]\nbegin = \"start\"\nattempts_max = 2\n";
    let mut house = house(subscriber.configuration("audit", SECRET, more));
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    let eve = corp.post("/Users", &user("eve")).expect(201).id();
    set(&corp, &ada, "title", json!("Dr"));
    corp.post("/Users", &user("bob")).expect(201);
    eventually("both are held, and what comes behind", || {
        let held = held(&house, "audit");
        let waiting =
            |id: &str| held.iter().find(|one| one["resourceId"] == id)?["waiting"].as_array().map(Vec::len);
        (waiting(&ada) == Some(2) && waiting(&eve) == Some(1)).then_some(())
    });
    eventually("bob's goes on", || (subscriber.types() == ["user.created"]).then_some(()));
    let first = held(&house, "audit").into_iter().find(|one| one["resourceId"] == ada.as_str()).unwrap();
    assert_eq!(
        (&first["type"], &first["reason"]),
        (&json!("user.created"), &json!("the subscriber answers 422"))
    );

    house.kill();
    house.start_again();
    let tried = subscriber.deliveries().len();
    house.corp().post("/Users", &user("carol")).expect(201);
    eventually("others go on after the restart", || (subscriber.types().len() == 2).then_some(()));
    assert_eq!(held(&house, "audit").len(), 2, "what is held is held through a kill");
    assert_eq!(subscriber.deliveries().len(), tried + 1, "and not tried by itself");

    // Killed while it is tried again: whoever comes next takes it up.
    subscriber.answer(
        move |event, _| if subject(event).ends_with(&ada) { Verdict::Wait } else { refuses(event, 0) },
    );
    let ada = first["resourceId"].as_str().unwrap().to_string();
    house.rollcall(&["feed", "redrive", "audit", &ada, "--by", "grace"]);
    eventually("it is on its way", || (subscriber.under_way() == 1).then_some(()));
    house.kill();
    subscriber.answer(move |event, _| {
        if subject(event).ends_with(&eve) { Verdict::Status(422) } else { Verdict::Status(204) }
    });
    house.start_again();
    eventually("ada is told, in order", || (subscriber.types().len() == 4).then_some(()));
    let of_ada = subscriber.taken().into_iter().filter(|delivery| delivery.text("subject").ends_with(&ada));
    let of_ada: Vec<String> = of_ada.map(|delivery| delivery.text("type").to_string()).collect();
    assert_eq!(of_ada, ["user.created", "user.updated"]);

    // Giving up is written down, with who did it; what comes behind goes on.
    let last = eventually("only eve is left", || {
        let held = held(&house, "audit");
        (held.len() == 1).then(|| held[0].clone())
    });
    let (event, eve) = (last["event"].as_str().unwrap(), last["resourceId"].as_str().unwrap().to_string());
    subscriber.answer(|_, _| Verdict::Status(204));
    assert!(!house.attempt(&["feed", "skip", "audit", event]).status.success(), "--by is needed");
    house.rollcall(&["feed", "skip", "audit", event, "--by", "grace"]);
    set(&house.corp(), &eve, "title", json!("Dr"));
    eventually("what comes behind", || (subscriber.types().len() == 5).then_some(()));
    assert_eq!(subscriber.taken().last().unwrap().text("type"), "user.updated");
    assert_eq!(held(&house, "audit"), Vec::<Value>::new());
    let grace = "grace".to_string();
    let (ids, id) = (json!({"ids": [ada]}).to_string(), json!({"id": event}).to_string());
    let done = [("redrive".to_string(), ids, grace.clone()), ("skip".to_string(), id, grace)];
    assert_eq!(instructed(&house), done);
    let unknown = house.attempt(&["feed", "redrive", "audit", "nobody"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody is not held"));
}

#[test]
fn a_filter_chooses_and_says_who_comes_and_goes() {
    let subscriber = Subscriber::new(&[SECRET]);
    let more = "attributes = [\"userName\"]\nidentify = [\"userName\"]\nbegin = \"start\"\n\
                users = 'title eq \"Staff\"'\ngroups = 'displayName sw \"Team\"'\n\
                types = [\"user.*\", \"group.scope_entered\", \"group.member_added\"]\n";
    let house = house(subscriber.configuration("audit", SECRET, more));
    let corp = house.corp();
    let mut staff = user("ada");
    staff["title"] = json!("Staff");
    let ada = corp.post("/Users", &staff).expect(201).id();
    let guest = corp.post("/Users", &user("guest")).expect(201).id();
    let club = corp.post("/Groups", &group("Club", &[&ada, &guest])).expect(201).id();
    set(&corp, &guest, "displayName", json!("Nobody hears this"));
    set(&corp, &guest, "title", json!("Staff"));
    set(&corp, &guest, "displayName", json!("This is heard"));
    set(&corp, &ada, "title", json!("Alumna"));
    corp.delete(&format!("/Users/{ada}")).expect(204);
    let rename = json!([{"op": "replace", "path": "displayName", "value": "Team Club"}]);
    corp.patch(&format!("/Groups/{club}"), rename).expect(200);
    let bob = corp.post("/Users", &user("bob")).expect(201).id();
    let add = json!([{"op": "add", "path": "members", "value": [{"value": bob}]}]);
    corp.patch(&format!("/Groups/{club}"), add).expect(200);
    corp.delete(&format!("/Users/{guest}")).expect(204);
    eventually("every event", || (subscriber.taken().len() >= 7).then_some(()));
    let of = |id: &str| -> Vec<Value> {
        let taken = subscriber.taken().into_iter().filter(|delivery| delivery.text("subject").ends_with(id));
        taken.map(|delivery| delivery.event).collect()
    };
    let types = |id: &str| of(id).iter().map(|event| event["type"].clone()).collect::<Vec<_>>();
    assert_eq!(types(&ada), ["user.created", "user.scope_left"]);
    assert_eq!(types(&guest), ["user.scope_entered", "user.updated", "user.deleted"]);
    assert_eq!(types(&club), ["group.scope_entered", "group.member_added"]);
    assert_eq!(types(&bob), Vec::<Value>::new());
    assert_eq!(of(&ada)[1]["data"]["identity"], json!({"userName": "ada"}));
    assert_eq!(of(&guest)[0]["data"]["attributes"], json!({"userName": "guest"}));
    assert_eq!(of(&guest)[2]["data"]["identity"], json!({"userName": "guest"}));
    assert_eq!(of(&club)[0]["data"]["members"], json!([guest]), "ada is gone by then");
    assert_eq!(of(&club)[1]["data"]["member"], json!(bob));
    assert!(
        subscriber.deliveries().iter().all(|one| !one.event.to_string().contains("Staff")),
        "titles are not shown"
    );
}

/// What a subscriber of a snapshot and the tail ends up with, applied in the order in which it came.
fn mirror(subscriber: &Subscriber) -> (BTreeMap<String, Value>, BTreeMap<String, BTreeSet<String>>) {
    let (mut people, mut teams) = (BTreeMap::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for delivery in subscriber.taken() {
        let data = &delivery.event["data"];
        let id = data["id"].as_str().unwrap_or_default().to_string();
        let member = || data["member"].as_str().unwrap_or_default().to_string();
        match delivery.text("type") {
            "user.snapshot" | "user.created" | "user.updated" => {
                people.insert(id, data["attributes"].clone());
            }
            "user.deleted" => {
                people.remove(&id);
                for members in teams.values_mut() {
                    members.remove(&id);
                }
            }
            "group.snapshot" => {
                let members = data["members"].as_array().into_iter().flatten();
                let members = members.filter_map(|id| id.as_str().map(str::to_string));
                teams.entry(id).or_default().extend(members);
            }
            "group.member_added" => drop(teams.entry(id).or_default().insert(member())),
            "group.member_removed" => drop(teams.entry(id).or_default().remove(&member())),
            "feed.snapshot_completed" => {}
            other => panic!("{other} was not expected"),
        }
    }
    (people, teams)
}

#[test]
fn a_snapshot_is_followed_by_the_tail_without_gap_while_writes_go_on() {
    const PEOPLE: usize = 30;
    let subscriber = Subscriber::new(&[SECRET]);
    let mut house = house(String::new());
    let corp = house.corp();
    let ids: Vec<String> = (0..PEOPLE)
        .map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id())
        .collect();
    let members: Vec<&str> = ids.iter().map(String::as_str).collect();
    let team = corp.post("/Groups", &group("Team", &members)).expect(201).id();
    corp.delete(&format!("/Users/{}", ids[0])).expect(204);
    assert!(house.stop());

    // The first deliveries wait, so that the directory changes while the snapshot is told.
    subscriber.answer(|_, _| Verdict::Wait);
    let more = "attributes = [\"userName\", \"displayName\"]\nbegin = \"snapshot\"\n";
    house.configure(&subscriber.configuration("audit", SECRET, more));
    house.start_again();
    eventually("the snapshot is on its way", || (subscriber.under_way() > 0).then_some(()));
    let corp = house.corp();
    let change = |corp: &Client, from: usize, name: &str| {
        corp.delete(&format!("/Users/{}", ids[from])).expect(204);
        set(corp, &ids[from + 1], "displayName", json!(name));
        let new = corp.post("/Users", &user(name)).expect(201).id();
        let add = json!([{"op": "add", "path": "members", "value": [{"value": new}]}]);
        corp.patch(&format!("/Groups/{team}"), add).expect(200);
        let remove = json!([{"op": "remove", "path": format!("members[value eq \"{}\"]", ids[from + 2])}]);
        corp.patch(&format!("/Groups/{team}"), remove).expect(200);
    };
    change(&corp, 1, "early");
    // In the middle of it the process is killed, and goes on where it was.
    house.kill();
    subscriber.release();
    house.start_again();
    let corp = house.corp();
    change(&corp, 4, "later");
    change(&corp, 7, "last");
    let wanted = || -> (BTreeMap<String, Value>, BTreeSet<String>) {
        let all = corp.get("/Users?count=200").expect(200).body;
        let people = all["Resources"].as_array().unwrap().iter().map(|person| {
            let shown = json!({"userName": person["userName"], "displayName": person["displayName"]});
            (person["id"].as_str().unwrap().to_string(), shown)
        });
        let team = corp.get(&format!("/Groups/{team}")).expect(200).body;
        let members = team["members"].as_array().unwrap().iter();
        (people.collect(), members.map(|member| member["value"].as_str().unwrap().to_string()).collect())
    };
    let (people, members) = wanted();
    eventually("the subscriber holds what the directory does", || {
        let (known, teams) = mirror(&subscriber);
        (known == people && teams.get(&team) == Some(&members)).then_some(())
    });
    let taken = subscriber.taken();
    let end = taken.iter().position(|delivery| delivery.text("type") == "feed.snapshot_completed").unwrap();
    let position = taken[end].event["data"]["position"].as_u64().unwrap();
    for (index, delivery) in taken.iter().enumerate() {
        let is_snapshot = delivery.text("type").ends_with(".snapshot");
        assert_eq!(is_snapshot, index < end, "first the snapshot, then the tail: {}", delivery.event);
        assert!(index <= end || delivery.sequence() > position, "{}", delivery.event);
    }
    let ends = taken.iter().filter(|delivery| delivery.text("type") == "feed.snapshot_completed").count();
    assert_eq!(ends, 1);
    let snapshotted: BTreeSet<&str> = taken[..end].iter().map(|delivery| delivery.text("subject")).collect();
    assert_eq!(snapshotted.len(), PEOPLE - 1 + 1, "everybody who was there, and the group");
}

#[test]
fn a_replay_is_marked_and_a_secret_is_exchanged() {
    let subscriber = Subscriber::new(&[OLD_SECRET, SECRET]);
    let more = "attributes = [\"userName\"]\nbegin = \"start\"\n";
    let mut house = house(subscriber.configuration("audit", OLD_SECRET, more));
    let corp = house.corp();
    for name in ["ada", "bob", "carol"] {
        corp.post("/Users", &user(name)).expect(201);
    }
    eventually("the first time", || (subscriber.taken().len() == 3).then_some(()));
    assert!(subscriber.deliveries().iter().all(|delivery| delivery.verified == 1));
    let first = subscriber.taken();
    let second =
        first.iter().find(|delivery| delivery.event["data"]["attributes"]["userName"] == "bob").unwrap();
    let said =
        house.rollcall(&["feed", "replay", "audit", "--from", second.text("sequence"), "--by", "grace"]);
    assert!(said.contains("begins"), "{said}");
    eventually("the replay is whole", || {
        subscriber.types().contains(&"feed.replay_completed".to_string()).then_some(())
    });
    let again: Vec<_> =
        subscriber.taken().into_iter().filter(|delivery| delivery.event["replay"] == true).collect();
    let ids = |deliveries: &[street::subscriber::Delivery]| -> BTreeSet<String> {
        deliveries.iter().map(|delivery| delivery.text("id").to_string()).collect()
    };
    assert_eq!(again.len(), 3, "bob, carol, and the end");
    assert_eq!(ids(&again[..2]).intersection(&ids(&first)).count(), 2, "the ids are those of the first time");
    let replay = again[0].text("replayid").to_string();
    assert!(again.iter().all(|delivery| delivery.text("replayid") == replay));
    assert_eq!(again[2].event["data"]["replay"], json!(replay));

    // An instant, and one that is too late.
    let instant = second.text("time").to_string();
    house.rollcall(&["feed", "replay", "audit", "--from", &instant, "--to", second.text("sequence")]);
    eventually("it is told a third time", || (subscriber.types().len() == 3 + 3 + 2).then_some(()));
    let future = house.attempt(&["feed", "replay", "audit", "--from", "999999"]);
    assert!(String::from_utf8_lossy(&future.stderr).contains("nothing to replay"));
    let other = house.attempt(&["feed", "resume", "audit/replay?from=1#"]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("no feed of this name"), "a name is no path");

    // The feed goes on, and the secret is exchanged.
    assert!(house.stop());
    let both = format!("{more}previous_secret = \"{OLD_SECRET}\"\n");
    house.configure(&subscriber.configuration("audit", SECRET, &both));
    house.start_again();
    house.corp().post("/Users", &user("dave")).expect(201);
    let dave = eventually("the next event", || {
        subscriber.taken().into_iter().find(|one| one.event["data"]["attributes"]["userName"] == "dave")
    });
    assert_eq!((dave.verified, dave.event.get("replay")), (2, None), "both secrets sign");
}

/// It fails with one event however often, and takes all others.
#[test]
fn an_event_that_its_subscriber_cannot_digest_holds_up_nobody_else() {
    let subscriber = Subscriber::new(&[SECRET]);
    subscriber.answer(|event, _| match event["data"]["attributes"]["userName"].as_str() {
        Some("poison") => Verdict::Status(500),
        Some(_) | None => Verdict::Status(204),
    });
    let more = "attributes = [\"userName\"]\nbegin = \"start\"\nattempts_max = 3\n";
    let house = house(subscriber.configuration("audit", SECRET, more));
    let corp = house.corp();
    let poison = corp.post("/Users", &user("poison")).expect(201).id();
    eventually("it is not taken", || subscriber.deliveries().first().map(|_| ()));
    let mut others = 0;
    eventually("it is held", || {
        corp.post("/Users", &user(&format!("u{others}"))).expect(201);
        others += 1;
        eventually("the other is taken", || (subscriber.taken().len() == others).then_some(()));
        held(&house, "audit").first().map(|held| {
            assert_eq!(held["reason"], "the subscriber answers 500");
            assert_eq!(held["resourceId"], poison);
        })
    });
    subscriber.answer(|_, _| Verdict::Status(204));
    house.rollcall(&["feed", "redrive", "audit", "--all", "--by", "grace"]);
    eventually("it is taken", || (subscriber.taken().len() == others + 1).then_some(()));
}

#[test]
fn a_dead_a_slow_and_a_gone_subscriber_hold_up_nobody() {
    let (slow, gone, healthy) =
        (Subscriber::new(&[SECRET]), Subscriber::new(&[SECRET]), Subscriber::new(&[SECRET]));
    slow.answer(|_, _| Verdict::Wait);
    gone.answer(|_, _| Verdict::Status(410));
    let more = "attributes = [\"userName\"]\nbegin = \"start\"\n";
    let dead = format!(
        "[feed.dead]\ntenant = \"corp\"\nurl = \"http://127.0.0.1:9/hook\"\nsecret = \"{SECRET}\"\nbegin = \"start\"\n"
    );
    let configuration = [
        slow.configuration("slow", SECRET, &format!("{more}timeout_ms = 25000\n")),
        gone.configuration("gone", SECRET, more),
        healthy.configuration("healthy", SECRET, more),
        dead,
    ]
    .concat();
    // The demo app is there too.
    let house = House::start_with(Options { configuration: Some(configuration), ..Options::default() });
    let corp = house.corp();
    for number in 0..10 {
        corp.post("/Users", &user(&format!("u{number}"))).expect(201);
    }
    eventually("the healthy one hears all", || (healthy.taken().len() == 10).then_some(()));
    let app = Client::new(house.env("APP_URL"), house.env("APP_TOKEN"));
    eventually("the app holds all", || {
        (app.get("/Users").expect(200).body["totalResults"] == 10).then_some(())
    });
    assert_eq!(slow.taken().len(), 0);
    let list = || -> BTreeMap<String, Value> {
        let body = admin(&house).get("/api/v1/feeds").expect(200).body;
        let feeds = body["feeds"].as_array().unwrap().iter();
        feeds.map(|feed| (feed["name"].as_str().unwrap().to_string(), feed.clone())).collect()
    };
    eventually("each says what it waits for", || {
        let list = list();
        let rests = list["dead"]["resting"] == "the subscriber cannot be reached";
        let is_stopped = list["gone"]["stopped"]["why"].as_str()?.contains("410");
        (rests && is_stopped && list["healthy"]["behind"] == 0).then_some(())
    });
    let asked = gone.deliveries().len();
    slow.release();
    eventually("the slow one hears all", || (slow.taken().len() == 10).then_some(()));
    assert_eq!(gone.deliveries().len(), asked, "whoever is gone is left alone");
    gone.answer(|_, _| Verdict::Status(204));
    house.rollcall(&["feed", "resume", "gone", "--by", "grace"]);
    eventually("it hears all, once it is back", || (gone.taken().len() == 10).then_some(()));
    assert!(house.rollcall(&["feed", "list"]).contains("rests: the subscriber cannot be reached"));
    let token = Client::new(house.env("ADMIN_URL"), "wrong");
    token.get("/api/v1/feeds").expect(401);
}
