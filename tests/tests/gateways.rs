//! Three gateways on one log, as behind a balancer: whatever happens at the same time through any of them could have
//! happened in one order through one of them.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use street::fleet::{Balancer, Gateway, ONCE};
use street::house::{Client, Options, eventually, group, user};
use street::serial::{Answer, Chance, Command, History, Set, Step, User, ask, everybody};
use street::{House, Reply};

const LATEST: (&str, &str) = ("Rollcall-Consistency", "latest");

/// One broker with a gateway of its own, and two further gateways.
struct Fleet {
    house: House,
    others: Vec<Gateway>,
}

/// Gateways that wait for a slow machine longer than clients usually like.
fn fleet(configuration: &str) -> Fleet {
    let configuration = format!("[gateway.limits]\nrequest_timeout_ms = 40000\n{configuration}");
    let house = House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(configuration.clone()),
        ..Options::default()
    });
    let further = || Gateway::start_on(&house, house.env("NATS_URL"), Some(&configuration));
    let others = vec![further(), further()];
    Fleet { house, others }
}

impl Fleet {
    /// The same tenant at each gateway.
    fn clients(&self) -> Vec<Client> {
        let mut clients = vec![self.house.corp()];
        clients.extend(self.others.iter().map(Gateway::corp));
        clients
    }
}

fn latest(client: &Client, path: &str) -> Reply {
    client.send("GET", path, &[LATEST], None)
}

/// What the clients of one history know of each other.
#[derive(Default)]
struct Heard {
    /// The tag that was last seen of each id.
    tags: Mutex<BTreeMap<String, String>>,
}

impl Heard {
    fn learn(&self, answer: &Answer) {
        if let Answer::Shown(user) = answer {
            self.tags.lock().unwrap().insert(user.id.clone(), user.tag.clone());
        }
    }

    /// Somebody, and the tag, for a change that wants that version.
    fn somebody(&self, chance: &mut Chance) -> (String, Option<String>) {
        let tags = self.tags.lock().unwrap();
        let all: Vec<_> = tags.iter().collect();
        let (id, tag) = chance.of(&all);
        ((*id).clone(), (chance.below(4) == 0).then(|| (*tag).clone()))
    }
}

/// What a client does next.
fn choose(chance: &mut Chance, names: &[String], heard: &Heard) -> Command {
    let title = |chance: &mut Chance| format!("T{}", chance.below(3));
    let (id, expected) = heard.somebody(chance);
    match chance.below(12) {
        0..3 => Command::Create { name: chance.of(names).clone(), title: title(chance) },
        3..5 => {
            let set = Set { name: Some(chance.of(names).clone()), ..Set::default() };
            Command::Change { id, set, expected }
        }
        5..7 => {
            let set = match chance.below(2) {
                0 => Set { title: Some(title(chance)), ..Set::default() },
                _ => Set { active: Some(chance.below(2) == 0), ..Set::default() },
            };
            Command::Change { id, set, expected }
        }
        7..9 => {
            let (name, active) = (chance.of(names).clone(), chance.below(2) == 0);
            let set = Set { name: Some(name), title: Some(title(chance)), active: Some(active) };
            Command::Change { id, set, expected }
        }
        9..10 => Command::Delete { id, expected },
        10..11 => Command::Read { id },
        _ => Command::Find { name: chance.of(names).clone() },
    }
}

/// A few clients, each through whatever gateway, about two names.
fn history(clients: &[Client], label: &str, seed: u64, interrupt: Option<&Mutex<Gateway>>) -> History {
    let mut chance = Chance::new(seed);
    let names = [format!("{label}-a"), format!("{label}-b")];
    let heard = Heard::default();
    let first = Command::Create { name: names[0].clone(), title: String::new() };
    let Answer::Shown(first) = ask(&clients[0], &first) else { panic!("nobody could be made") };
    heard.learn(&Answer::Shown(first.clone()));
    let (people, zero) = (3 + chance.below(4), Instant::now());
    let now = || u64::try_from(zero.elapsed().as_nanos()).unwrap();
    let (barrier, asked) = (Barrier::new(people), AtomicUsize::new(0));
    let work = |client: usize, mut chance: Chance| {
        barrier.wait();
        let mut steps = Vec::new();
        for _ in 0..3 + chance.below(3) {
            let command = choose(&mut chance, &names, &heard);
            let gateway = chance.below(clients.len());
            if asked.fetch_add(1, Ordering::Relaxed) == people * 2
                && let Some(victim) = interrupt
            {
                victim.lock().unwrap().kill();
            }
            let begun = now();
            let answer = ask(&clients[gateway], &command);
            heard.learn(&answer);
            steps.push(Step { client, gateway, begun, ended: now(), command, answer });
        }
        steps
    };
    let steps = thread::scope(|scope| {
        let seeds: Vec<Chance> =
            (0..people).map(|_| Chance::new(seed ^ chance.below(usize::MAX) as u64)).collect();
        let running: Vec<_> = seeds
            .into_iter()
            .enumerate()
            .map(|(client, chance)| {
                let work = &work;
                scope.spawn(move || work(client, chance))
            })
            .collect();
        running.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    History { before: vec![first], steps, after: everybody(&clients[0], &names) }
}

fn some_order_explains(history: &History, seed: u64) {
    assert!(history.order().is_some(), "seed {seed}: no order explains this\n{history}");
}

#[test]
fn what_happens_at_once_could_have_happened_in_order() {
    const HISTORIES: u64 = 300;
    let fleet = fleet("");
    let clients = fleet.clients();
    let (mut told, mut steps) = (BTreeMap::<String, usize>::new(), 0);
    for seed in 1..=HISTORIES {
        let history = history(&clients, &format!("h{seed}"), seed, None);
        some_order_explains(&history, seed);
        for Step { answer, .. } in &history.steps {
            let kind = match answer {
                Answer::Refused(status) => status.to_string(),
                Answer::Unknown => "?".to_string(),
                Answer::Shown(_) | Answer::Deleted | Answer::Nobody => "done".to_string(),
            };
            *told.entry(kind).or_default() += 1;
        }
        steps += history.steps.len();
        // Every gateway ends with the same.
        for client in &clients {
            let names = [format!("h{seed}-a"), format!("h{seed}-b")];
            assert_eq!(everybody(client, &names), history.after, "seed {seed}");
        }
    }
    // They got in each other's way.
    for kind in ["done", "404", "409", "412"] {
        assert!(told.get(kind).copied().unwrap_or_default() > 10, "{told:?}");
    }
    println!("{steps} steps: {told:?}");
}

#[test]
fn a_gateway_that_is_killed_leaves_what_some_order_explains() {
    let fleet = fleet("");
    let mut lost = 0;
    for seed in 1..=8 {
        let victim = Gateway::start(&fleet.house);
        let mut clients = fleet.clients();
        clients.extend([victim.corp(), victim.corp()]);
        let history = history(&clients, &format!("k{seed}"), seed, Some(&Mutex::new(victim)));
        some_order_explains(&history, seed);
        lost += history.steps.iter().filter(|step| step.answer == Answer::Unknown).count();
    }
    assert!(lost > 0, "the kill cut nothing off");
}

/// Whose answer was lost may have sent a request again while the first was still under way, through another gateway.
#[test]
fn the_same_group_asked_for_through_several_gateways_at_once_is_one() {
    const ROUNDS: usize = 20;
    let fleet = fleet("");
    let token = fleet.house.token_of("corp", "okta", "okta");
    let clients: Vec<Client> = fleet.clients().iter().map(|client| client.with_token(&token)).collect();
    let made = |name: &str| {
        let path = format!("/Groups?count=0&filter=displayName%20eq%20%22{name}%22");
        latest(&clients[0], &path).expect(200).body["totalResults"].as_u64().unwrap()
    };
    for round in 0..ROUNDS {
        let (name, barrier) = (format!("Team {round}"), Barrier::new(clients.len() * 2));
        let ids: BTreeSet<String> = thread::scope(|scope| {
            let post = |client| {
                let (name, barrier): (_, &Barrier) = (&name, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let client: &Client = client;
                    client.post("/Groups", &group(name, &[])).expect(201).id()
                })
            };
            let asked: Vec<_> = clients.iter().chain(&clients).map(post).collect();
            asked.into_iter().map(|asked| asked.join().expect("a client")).collect()
        });
        assert_eq!((ids.len(), made(&name.replace(' ', "%20"))), (1, 1), "round {round}: {ids:?}");
    }
    // Who wants two of one name gets them.
    let strict = fleet.clients();
    for client in &strict {
        client.post("/Groups", &group("Team 0", &[])).expect(201);
    }
    assert_eq!(made("Team%200"), 1 + strict.len() as u64);
}

#[test]
fn a_writer_reads_what_it_wrote() {
    let fleet = fleet("");
    let clients = fleet.clients();
    let addresses = fleet.others.iter().map(Gateway::address).collect();
    let balanced = Balancer::start(addresses).in_front_of(&fleet.house);
    let made = balanced.post("/Users", &user("ada")).expect(201);
    let path = format!("/Users/{}", made.id());
    for round in 0..50 {
        let writer = &clients[round % clients.len()];
        let title = format!("T{round}");
        let patch = json!([{"op": "replace", "path": "title", "value": title}]);
        let written = writer.patch(&path, patch).expect(200);
        let tag = written.header("etag").expect("a tag");
        // At once through the same gateway; through any other by asking for it.
        assert_eq!(writer.get(&path).expect(200).body["title"], title.as_str());
        for reader in &clients {
            let seen = reader.send("GET", &path, &[("Rollcall-Consistency", tag)], None).expect(200);
            assert_eq!((seen.header("etag"), &seen.body), (Some(tag), &with_host(&written.body, &seen.body)));
            let found = latest(reader, "/Users?filter=userName%20eq%20%22ada%22").expect(200);
            assert_eq!(found.body["Resources"][0]["title"], title.as_str());
        }
        let seen = balanced.send("GET", &path, &[LATEST, ONCE], None).expect(200);
        assert_eq!(seen.body["title"], title.as_str());
    }
    // What is gone is gone everywhere.
    clients[1].delete(&path).expect(204);
    for reader in &clients {
        latest(reader, &path).expect(404);
    }
    let told = fleet.others[0].metrics();
    assert!(told.contains("rollcall_catch_up_duration_seconds_count"), "{told}");
}

/// However many change the same at once, each is answered with what its own change made.
#[test]
fn each_hears_of_its_own_change() {
    let fleet = fleet("");
    let clients = fleet.clients();
    let id = clients[0].post("/Users", &user("ada")).expect(201).id();
    let path = format!("/Users/{id}");
    let tags = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for number in 0..9 {
            let (client, path, tags) = (&clients[number % 3], &path, &tags);
            scope.spawn(move || {
                for round in 0..20 {
                    let title = format!("T{number}-{round}");
                    let patch = json!([{"op": "replace", "path": "title", "value": title}]);
                    let reply = client.patch(path, patch).expect(200);
                    assert_eq!(reply.body["title"], title.as_str(), "{}", reply.text);
                    assert_eq!(reply.body["meta"]["version"].as_str(), reply.header("etag"));
                    let tag = reply.header("etag").unwrap().to_string();
                    assert_eq!(tags.lock().unwrap().insert(tag, title), None, "two have one version");
                }
            });
        }
    });
    let last = latest(&clients[0], &path).expect(200);
    let tags = tags.into_inner().unwrap();
    assert_eq!(last.body["title"].as_str(), tags.get(last.header("etag").unwrap()).map(String::as_str));
}

/// The same resource as another gateway shows it.
fn with_host(body: &Value, like: &Value) -> Value {
    let mut body = body.clone();
    body["meta"]["location"] = like["meta"]["location"].clone();
    body
}

/// Tells the readers to end, also when the writer failed.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_rename_never_shows_two_names_or_none() {
    let fleet = fleet("");
    let clients = fleet.clients();
    let id = clients[0].post("/Users", &user("before")).expect(201).id();
    let both = "/Users?filter=userName%20eq%20%22before%22%20or%20userName%20eq%20%22after%22";
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = clients[1..]
            .iter()
            .flat_map(|client| [(client, true), (client, false)])
            .map(|(client, new)| {
                let done = &done;
                scope.spawn(move || {
                    let (mut seen, mut last) = (BTreeMap::<String, usize>::new(), String::new());
                    let headers: &[(&str, &str)] = if new { &[LATEST] } else { &[] };
                    while !done.load(Ordering::Relaxed) {
                        let found = client.send("GET", both, headers, None);
                        // The log may be slow to say how long it is.
                        if found.status == 503 && new {
                            continue;
                        }
                        let found = found.expect(200);
                        assert_eq!(found.body["totalResults"], 1, "{}", found.text);
                        let name = found.body["Resources"][0]["userName"].as_str().unwrap().to_string();
                        if name != last {
                            *seen.entry(name.clone()).or_default() += 1;
                        }
                        last = name;
                    }
                    seen
                })
            })
            .collect();
        let end = End(&done);
        for name in ["after", "before"].into_iter().cycle().take(60) {
            let rename = json!([{"op": "replace", "path": "userName", "value": name}]);
            let shown = eventually("the name is changed", || {
                let reply = clients[0].patch(&format!("/Users/{id}"), rename.clone());
                Some(reply).filter(|reply| reply.status != 503)
            });
            assert_eq!(shown.expect(200).body["userName"], name);
        }
        drop(end);
        for reader in readers {
            let seen = reader.join().expect("a reader");
            assert!(seen.len() == 2, "the reader saw nothing happen: {seen:?}");
        }
    });
}

#[test]
fn no_member_is_lost_between_gateways() {
    const PEOPLE: usize = 500;
    let fleet = fleet("");
    let clients = fleet.clients();
    let operation = |number: usize| {
        let schema = "urn:ietf:params:scim:schemas:core:2.0:User";
        let data = json!({"schemas": [schema], "userName": format!("m{number}")});
        json!({"method": "POST", "path": "/Users", "bulkId": number.to_string(), "data": data})
    };
    let bulk = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": (0..PEOPLE).map(operation).collect::<Vec<_>>(),
    });
    let made = clients[0].post("/Bulk", &bulk).expect(200);
    let id = |one: &Value| one["location"].as_str().and_then(|at| at.rsplit('/').next()).unwrap().to_string();
    let ids: Vec<String> = made.body["Operations"].as_array().unwrap().iter().map(id).collect();
    let team = clients[0].post("/Groups", &group("Team", &[])).expect(201).id();
    let path = format!("/Groups/{team}?excludedAttributes=members");
    thread::scope(|scope| {
        for (part, ids) in ids.chunks(PEOPLE / 10).enumerate() {
            let (client, path) = (&clients[1 + part % 2], &path);
            scope.spawn(move || {
                for (number, id) in ids.iter().enumerate() {
                    let member = json!({"op": "add", "path": "members", "value": [{"value": id}]});
                    if number % 10 > 0 {
                        client.patch(path, json!([member])).expect(200);
                        continue;
                    }
                    // Some change the group besides, which needs a guard: whoever adds all the time may be in the way
                    // for longer than a request may take.
                    let name = format!("Team {part}-{number}");
                    let rename = json!({"op": "replace", "path": "displayName", "value": name});
                    eventually("the group is changed", || {
                        let reply = client.patch(path, json!([member, rename]));
                        assert!(matches!(reply.status, 200 | 503), "{}", reply.text);
                        (reply.status == 200).then_some(())
                    });
                }
            });
        }
    });
    let mut expected = ids;
    expected.sort();
    for client in &clients {
        let team = latest(client, &format!("/Groups/{team}")).expect(200);
        let member = |member: &Value| member["value"].as_str().unwrap().to_string();
        let mut members: Vec<String> = team.body["members"].as_array().unwrap().iter().map(member).collect();
        members.sort();
        assert_eq!(members, expected);
    }
}

#[test]
fn what_is_claimed_through_several_gateways_has_one_owner() {
    let fleet = fleet("[tenant.corp]\nunique = {User = [\"nickName\"]}\n");
    let clients = fleet.clients();
    let mut owners = Vec::new();
    for round in 0..30 {
        // Each wants another name and the same nickname, by a POST or by a PATCH; the last owner gives it back meanwhile.
        let nick = format!("Nick {}", round / 3);
        let barrier = Barrier::new(clients.len());
        let race = |number: usize| {
            let client = &clients[number];
            let mut person = user(&format!("c{round}-{number}"));
            let path =
                (number == 1).then(|| format!("/Users/{}", client.post("/Users", &person).expect(201).id()));
            barrier.wait();
            match path {
                Some(path) => client
                    .patch(&path, json!([{"op": "add", "path": "nickName", "value": nick.to_uppercase()}])),
                None => {
                    person["nickName"] = nick.as_str().into();
                    client.post("/Users", &person)
                }
            }
        };
        let replies: Vec<Reply> = thread::scope(|scope| {
            let race = &race;
            let running: Vec<_> =
                (0..clients.len()).map(|number| scope.spawn(move || race(number))).collect();
            running.into_iter().map(|one| one.join().expect("a client")).collect()
        });
        let won: Vec<&Reply> = replies.iter().filter(|reply| reply.status < 300).collect();
        let lost =
            replies.iter().filter(|reply| reply.status == 409 && reply.body["scimType"] == "uniqueness");
        assert_eq!((won.len(), lost.count()), (1, clients.len() - 1), "round {round}: {replies:?}");
        let winner = won[0].id();
        for client in &clients {
            let filter = format!("/Users?filter=nickName%20eq%20%22{}%22", nick.replace(' ', "%20"));
            let found = latest(client, &filter).expect(200);
            assert_eq!(
                (&found.body["totalResults"], &found.body["Resources"][0]["id"]),
                (&json!(1), &json!(winner))
            );
        }
        // It is given back in one of three ways, through another gateway than the next that want it.
        let (path, client) = (format!("/Users/{winner}"), &clients[round % clients.len()]);
        match round % 3 {
            0 => client.delete(&path).expect(204),
            1 => client.patch(&path, json!([{"op": "remove", "path": "nickName"}])).expect(200),
            _ => client
                .patch(&path, json!([{"op": "replace", "path": "nickName", "value": winner}]))
                .expect(200),
        };
        owners.push(winner);
    }
    owners.dedup();
    assert_eq!(owners.len(), 30);
}

/// So that the checker is not the one that agrees to everything.
#[test]
fn a_history_that_was_tampered_with_is_noticed() {
    let fleet = fleet("");
    let clients = fleet.clients();
    let mut noticed = 0;
    for seed in 1_000..1_020 {
        let mut history = history(&clients, &format!("t{seed}"), seed, None);
        some_order_explains(&history, seed);
        let other = |user: &User| User { title: format!("{}!", user.title), ..user.clone() };
        let Some(last) = history.after.first_mut() else { continue };
        *last = other(last);
        assert!(history.order().is_none(), "seed {seed}: an end that nobody wrote\n{history}");
        noticed += 1;
    }
    assert!(noticed > 5, "{noticed}");
}
