//! An app that was full before anybody kept it: what it holds becomes ours without a call that changes it.

#![cfg(test)]

#[path = "../../eventlog/tests/common/wire.rs"]
#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod wire;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use eventlog::server::{self, Server};
use serde_json::{Value, json};
use street::apps::{App, Kind};
use street::control::control;
use street::house::{Options, eventually, group, program, user};
use street::{Client, House};
use wire::{Fault, Wire};

/// How `rollcall app show` tells the app.
fn shown(house: &House) -> Value {
    serde_json::from_str(&house.rollcall(&["app", "show", "wiki", "--json"])).expect("one JSON object")
}

/// An account that somebody made at the app by hand.
fn by_hand(app: &App, name: &str, display: &str) -> String {
    let schemas = json!(["urn:ietf:params:scim:schemas:core:2.0:User"]);
    let account = json!({"schemas": schemas, "userName": name, "displayName": display, "active": true});
    app.add("/Users", account.as_object().unwrap().clone())
}

fn group_by_hand(app: &App, name: &str, members: &[&String]) {
    let schemas = json!(["urn:ietf:params:scim:schemas:core:2.0:Group"]);
    let members: Vec<Value> = members.iter().map(|id| json!({"value": id})).collect();
    let group = json!({"schemas": schemas, "displayName": name, "members": members});
    app.add("/Groups", group.as_object().unwrap().clone());
}

/// What an import says at last.
fn last(text: &str) -> Value {
    serde_json::from_str(text.lines().next_back().expect("a last line")).expect("one JSON object")
}

fn import(house: &House, more: &[&str]) -> Value {
    last(&house.rollcall(&[&["app", "import", "wiki", "--json"], more].concat()))
}

#[track_caller]
fn refused(house: &House, more: &[&str], code: i32) -> String {
    let output = house.attempt(&[&["app", "import", "wiki"], more].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

/// Whether an account has the id of the resource that has its name.
fn is_ours(app: &App, corp: &Client, name: &str) -> bool {
    let ours = corp.find("/Users", "userName", name).map(|user| user["id"].clone());
    ours.is_some() && app.account(name).and_then(|account| account.get("externalId").cloned()) == ours
}

#[test]
fn fifty_accounts_from_before_become_ours_without_a_create() {
    let app = App::start(Kind::Scim);
    let lines = "match = [\"userName\", \"displayName\"]\n";
    let mut house = House::feeding(&[("wiki", &app, &format!("read_only = true\n{lines}"))]);
    let corp = house.corp();
    let (matching, strangers): (Vec<String>, Vec<String>) = (
        (0..30).map(|number| format!("m{number}")).collect(),
        (0..17).map(|number| format!("s{number}")).collect(),
    );
    for name in matching.iter().map(String::as_str).chain(["dup"]) {
        corp.post("/Users", &user(name)).expect(201);
    }
    for name in ["twin1", "twin2"] {
        let mut twin = user(name);
        twin["displayName"] = json!("Twin");
        corp.post("/Users", &twin).expect(201);
    }
    for name in &matching {
        by_hand(&app, name, "By hand");
    }
    let ids: Vec<String> =
        strangers.iter().map(|name| by_hand(&app, name, &format!("Stranger {name}"))).collect();
    by_hand(&app, "theirs", "Twin");
    by_hand(&app, "dup-a", "Person dup");
    by_hand(&app, "dup-b", "Person dup");
    app.forget_calls();

    let dry = import(&house, &[]);
    assert_eq!(dry["counts"], json!({"ambiguous": 3, "create": 17, "link": 30}));
    // Whoever does not expect so many is told, and nothing is done.
    let told = refused(&house, &["--apply", "--by", "ann", "--most", "46"], 1);
    assert!(
        told.contains("30 would be linked and 17 made in the directory, more than 46 together"),
        "{told}"
    );
    refused(&house, &["--apply"], 2);
    assert_eq!(import(&house, &[])["counts"], dry["counts"]);
    assert_eq!(shown(&house)["linked"], 0);

    let came = import(&house, &["--apply", "--only", "links", "--by", "ann", "--why", "ticket 4711"]);
    let expected = json!({"linked": 30, "created": 0, "skipped": 0, "refused": 0, "left": 0});
    assert_eq!(came["applied"], expected, "{came}");
    assert_eq!(shown(&house)["linked"], 30);
    let came = import(&house, &["--apply", "--by", "ann", "--yes", "--keep-ids"]);
    let expected = json!({"linked": 17, "created": 17, "skipped": 0, "refused": 0, "left": 0});
    assert_eq!(came["applied"], expected, "{came}");
    assert!(app.calls().iter().all(|call| call.method == "GET"), "the app was changed: {:?}", app.calls());

    // Who made them, why, and under which id they are known.
    let made: Vec<Value> =
        house.events("corp").into_iter().filter(|event| event["source"] == "import").collect();
    assert_eq!(made.len(), 17);
    assert!(made.iter().all(|event| event["actor"] == "ann"), "{made:?}");
    let id = made[3]["resourceId"].as_str().expect("an id");
    let told = house.rollcall(&["audit", "history", "--tenant", "corp", "--id", id]);
    assert!(told.contains("imported from wiki"), "{told}");
    let as_import = corp.with_token(&house.token_of("corp", "import", "rfc"));
    let known = as_import.find("/Users", "userName", "s3").expect("s3 was made");
    assert_eq!(known["externalId"], json!(ids[3]));
    let imports = control(&house).into_iter().filter(|event| event.actor == "ann").count();
    assert_eq!(imports, 2, "what was refused was not done");

    // Again: nothing.
    let events = house.events("corp").len();
    let came = import(&house, &["--apply", "--by", "ann"]);
    assert_eq!(came["counts"], json!({"ambiguous": 3, "linked": 47}));
    assert_eq!(came["applied"], json!({"linked": 0, "created": 0, "skipped": 0, "refused": 0, "left": 0}));
    assert_eq!(house.events("corp").len(), events);

    // From now on they are kept: made equal, and nobody is made a second time.
    house.configure(&app.configuration("wiki", lines));
    house.rollcall(&["config", "reload", "--by", "ann"]);
    eventually("all are as the directory says", || {
        let all = matching.iter().chain(&strangers).all(|name| is_ours(&app, &corp, name));
        (all && shown(&house)["due"] == 0).then_some(())
    });
    let makes = app.calls().into_iter().filter(|call| call.method == "POST");
    let made: Vec<String> = makes.map(|call| call.body).collect();
    assert!(made.iter().all(|body| body.contains("twin")), "only a twin has no account: {made:?}");
}

#[test]
fn killed_in_the_middle_and_run_again_it_ends_the_same() {
    let app = App::start(Kind::Scim);
    // The worker runs meanwhile, and looks for nobody before it makes an account.
    let mut house = House::feeding(&[("wiki", &app, "")]);
    let names: Vec<String> = (0..60).map(|number| format!("s{number}")).collect();
    let ids: Vec<String> = names.iter().map(|name| by_hand(&app, name, "By hand")).collect();
    group_by_hand(&app, "Team", &[&ids[0], &ids[1]]);
    let arguments = ["app", "import", "wiki", "--json", "--apply", "--by", "ann", "--yes"];
    let mut command = Command::new(program());
    command.args(arguments).arg("--data-dir").arg(house.data_dir());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let done = lines.by_ref().filter(|line| line.as_ref().is_ok_and(|line| line.contains("\"outcome\"")));
    assert_eq!(done.take(10).count(), 10, "ten were done");
    house.kill();
    let _ = child.wait();
    house.start_again();

    let corp = house.corp();
    let came = eventually("nothing is left to import", || {
        let output = house.attempt(&arguments);
        let came = last(&String::from_utf8(output.stdout).ok()?);
        (came["counts"] == json!({"linked": 61})).then_some(came)
    });
    assert_eq!(came["applied"]["linked"], 0);
    eventually("all are as the directory says", || {
        let all = names.iter().all(|name| is_ours(&app, &corp, name));
        (all && shown(&house)["due"] == 0).then_some(())
    });
    let users = corp.get("/Users?count=0").expect(200).body["totalResults"].clone();
    assert_eq!(users, 60, "each was made once");
    assert_eq!(app.accounts().len(), 60, "no account was made");
    assert!(app.calls().iter().all(|call| call.method != "POST"), "{:?}", app.calls());
    let team = corp.find("/Groups", "displayName", "Team").expect("the group was made");
    assert_eq!(team["members"].as_array().map(Vec::len), Some(2));
    assert_eq!(app.groups()["Team"].len(), 2);
}

#[test]
fn a_group_is_read_before_it_is_made_equal_and_one_with_strangers_waits() {
    let app = App::start(Kind::Scim);
    let lines = "match_groups = [\"displayName\"]\n";
    let mut house = House::feeding(&[("wiki", &app, &format!("read_only = true\n{lines}"))]);
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    corp.post("/Users", &user("bob")).expect(201);
    corp.post("/Groups", &group("Known", &[&ada])).expect(201);
    let [ada, bob, zoe] = ["ada", "bob", "zoe"].map(|name| by_hand(&app, name, "By hand"));
    group_by_hand(&app, "Known", &[&ada, &bob]);
    group_by_hand(&app, "Mixed", &[&ada, &zoe]);
    app.forget_calls();

    // Whoever is not imported would lose the membership.
    let arguments = ["app", "import", "wiki", "--json", "--apply", "--only", "links", "--by", "ann"];
    let came = last(&house.rollcall(&arguments));
    assert_eq!(came["applied"]["linked"], 3, "{came}");
    let creates = |house: &House| {
        let arguments = ["app", "import", "wiki", "--json", "--apply", "--only", "creates", "--by", "ann"];
        house.attempt(&arguments)
    };
    assert_eq!(creates(&house).status.code(), Some(0));
    assert!(app.calls().iter().all(|call| call.method == "GET"), "{:?}", app.calls());
    let mixed = corp.find("/Groups", "displayName", "Mixed").expect("it was made after its members");
    assert_eq!(mixed["members"].as_array().map(Vec::len), Some(2));

    // The worker of another process learns of it from the log: here after a restart.
    house.kill();
    house.configure(&app.configuration("wiki", lines));
    house.start_again();
    let members = |name: &str| app.groups().get(name).cloned().unwrap_or_default();
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
    eventually("the groups are as the directory says", || {
        (members("Known") == set(&["ada"])
            && members("Mixed") == set(&["ada", "zoe"])
            && shown(&house)["due"] == 0)
            .then_some(())
    });
    assert!(app.calls().iter().all(|call| call.method != "POST"), "{:?}", app.calls());

    // A group whose members are not all ours waits until they are.
    let eve = by_hand(&app, "eve", "By hand");
    group_by_hand(&app, "Late", &[&eve]);
    app.edit("/Users", "eve", |account| drop(account.insert("userName".to_string(), json!(""))));
    let output = creates(&house);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("1 skipped, 1 refused"), "{told}");
    assert!(told.contains("1 of its members are nobody's yet"), "{told}");
    app.edit("/Users", "", |account| drop(account.insert("userName".to_string(), json!("eve"))));
    assert_eq!(creates(&house).status.code(), Some(0));
    eventually("she is one of us", || {
        (is_ours(&app, &house.corp(), "eve") && members("Late") == set(&["eve"])).then_some(())
    });
}

/// The broker writes some of those who are made and does not say so, until the gateway gives up.
#[test]
fn whoever_was_made_without_an_answer_is_not_made_twice() {
    let folder = tempfile::tempdir().unwrap();
    let binary = server::find(None, "").expect("`make test` fetches the broker: run `make broker`");
    let config = server::Config { binary, folder: folder.path().to_path_buf(), port: 0, processors: None };
    let server = Server::start(&config).unwrap();
    let wire = Wire::to(server.url().rsplit_once('@').unwrap().1.parse().unwrap());
    let (app, key) = (App::start(Kind::Scim), "a".repeat(64));
    let flags = ["--no-demo", "--nats", &wire.url(server.url()), "--master-key", &key];
    let limits = "[gateway.limits]\nrequest_timeout_ms = 2000\n";
    let house = House::start_with(Options {
        flags: flags.map(ToString::to_string).to_vec(),
        configuration: Some(app.configuration("wiki", "") + limits),
        ..Options::default()
    });
    // For the operator's commands, which are given no key.
    std::fs::write(house.data_dir().join("master.key"), key).unwrap();
    let names: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();
    for name in &names {
        by_hand(&app, name, "By hand");
    }
    let arguments = ["app", "import", "wiki", "--json", "--apply", "--by", "ann", "--yes"];
    let lost = (0..40).map(|_| Fault::LoseAnswer);
    wire.next([Fault::Pass, Fault::Pass, Fault::LosePublish].into_iter().chain(lost));
    let told = String::from_utf8(house.attempt(&arguments).stdout).unwrap();
    assert!(wire.struck() > 3, "the faults did not strike: {told}");
    wire.calm();

    let corp = house.corp();
    let came = eventually("nothing is left to import", || {
        let output = house.attempt(&arguments);
        let came = last(&String::from_utf8(output.stdout).ok()?);
        (came["counts"] == json!({"linked": 8})).then_some(came)
    });
    assert_eq!(came["applied"]["created"], 0, "{came}");
    eventually("all are as the directory says", || {
        let all = names.iter().all(|name| is_ours(&app, &corp, name));
        (all && shown(&house)["due"] == 0).then_some(())
    });
    assert_eq!(corp.get("/Users?count=0").expect(200).body["totalResults"], 8, "each was made once");
    let made = house.events("corp").into_iter().filter(|event| event["kind"] == "Created").count();
    assert_eq!(made, 8, "each was made once");
    assert_eq!(app.accounts().len(), 8, "no account was made");
    assert!(app.calls().iter().all(|call| call.method != "POST"), "{:?}", app.calls());
}

#[test]
fn whoever_joins_somebody_gets_that_ones_account_and_links_alone_are_left() {
    let app = App::start(Kind::Scim);
    let configuration = |more: &str| {
        format!("{}[tenant.corp.source.import]\njoin = [\"title\"]\n", app.configuration("wiki", more))
    };
    let mut house = House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(configuration("read_only = true\n")),
        ..Options::default()
    });
    let corp = house.corp();
    let mut ada = user("ada");
    ada["title"] = json!("Number 17");
    let ada = corp.post("/Users", &ada).expect(201).id();
    corp.post("/Users", &user("bob")).expect(201);
    let theirs = by_hand(&app, "countess", "By hand");
    app.edit("/Users", "countess", |account| drop(account.insert("title".to_string(), json!("Number 17"))));
    for name in ["bob", "zoe"] {
        by_hand(&app, name, "By hand");
    }
    app.forget_calls();

    let only = ["--apply", "--only", "creates", "--by", "ann"];
    let came = import(&house, &only);
    assert_eq!(came["counts"], json!({"create": 2, "link": 1}));
    let expected = json!({"linked": 2, "created": 1, "skipped": 0, "refused": 0, "left": 0});
    assert_eq!(came["applied"], expected, "{came}");
    assert_eq!(shown(&house)["linked"], 2, "bob is not asked for");
    assert_eq!(corp.get("/Users?count=0").expect(200).body["totalResults"], 3, "ada was not made twice");
    assert!(app.calls().iter().all(|call| call.method == "GET"), "{:?}", app.calls());
    // Again: only bob is left, and he is no create.
    let came = import(&house, &only);
    assert_eq!((&came["counts"], &came["applied"]["created"]), (&json!({"link": 1, "linked": 2}), &json!(0)));

    house.configure(&configuration(""));
    house.rollcall(&["config", "reload", "--by", "ann"]);
    eventually("all are as the directory says", || {
        let hers = app.accounts().into_values().find(|account| account.get("id") == Some(&json!(theirs)))?;
        let is_hers = hers.get("externalId") == Some(&json!(ada));
        let others = ["bob", "zoe"].iter().all(|name| is_ours(&app, &corp, name));
        (is_hers && others && shown(&house)["due"] == 0).then_some(())
    });
    assert_eq!(app.calls_like("POST", "/Users", 201), 0, "{:?}", app.calls());
    assert_eq!(app.accounts().len(), 3);
}
