//! An app that others wrote: PyPI's `scim2-server`, a process of its own, kept in step and edited behind our back.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};
use street::house::{Options, eventually, group, pause, user};
use street::process::{Process, free_port};
use street::{Client, House};

const TOKEN: &str = "others-token";
const USERS: usize = 500;
const GROUPS: usize = 20;

/// The server that `make scim2-server` fetched.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let mut folders = test.ancestors().map(|folder| folder.join("tools/scim2-server/bin/scim2-server"));
    let found = folders.find(|program| program.is_file());
    found.expect("scim2-server is not there: run `make scim2-server`")
}

struct Others {
    process: Process,
    url: String,
    _folder: tempfile::TempDir,
}

impl Others {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = free_port().to_string();
        let arguments = ["--bearer-token", TOKEN, "--hostname", "127.0.0.1", "--port", &port];
        let mut process = Process::new("scim2-server", &program(), folder.path(), &arguments);
        process.start();
        let url = format!("http://127.0.0.1:{port}/v2");
        let others = Self { process, url, _folder: folder };
        others.wait();
        others
    }

    fn client(&self) -> Client {
        Client::new(&self.url, TOKEN)
    }

    fn wait(&self) {
        let client = self.client();
        eventually("the server answers", || {
            client
                .try_send("GET", "/ServiceProviderConfig", &[], None)
                .ok()
                .filter(|reply| reply.status == 200)
        });
    }

    /// Everything of one type, by our id.
    fn all(&self, endpoint: &str) -> BTreeMap<String, Value> {
        let reply = self.client().get(&format!("{endpoint}?count=1000"));
        let listed = reply.body["Resources"].as_array().cloned().unwrap_or_default();
        listed
            .into_iter()
            .map(|account| (account["externalId"].as_str().unwrap_or("nobody's").to_string(), account))
            .collect()
    }
}

/// Our ids of a group's members at the app. This server keeps the ids of deleted accounts in its groups, and nobody has access
/// by them.
fn members(group: &Value, users: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let ours: BTreeMap<&str, &String> =
        users.iter().filter_map(|(id, account)| Some((account["id"].as_str()?, id))).collect();
    let listed = group["members"].as_array().into_iter().flatten();
    listed
        .map(|member| member["value"].as_str().unwrap_or_default())
        .filter_map(|theirs| ours.get(theirs).map(ToString::to_string))
        .collect()
}

/// What our directory has, by id: titles of people, members of groups.
struct Ours {
    people: BTreeMap<String, String>,
    groups: BTreeMap<String, BTreeSet<String>>,
}

fn fill(corp: &Client) -> Ours {
    let mut ours = Ours { people: BTreeMap::new(), groups: BTreeMap::new() };
    for number in 0..USERS {
        let mut person = user(&format!("u{number}"));
        person["title"] = json!(format!("Title {number}"));
        let id = corp.post("/Users", &person).expect(201).id();
        ours.people.insert(id, format!("Title {number}"));
    }
    let ids: Vec<&str> = ours.people.keys().map(String::as_str).collect();
    for (number, some) in ids.chunks(USERS / GROUPS).enumerate() {
        let id = corp.post("/Groups", &group(&format!("g{number}"), some)).expect(201).id();
        ours.groups.insert(id, some.iter().map(ToString::to_string).collect());
    }
    ours
}

#[track_caller]
fn agrees(others: &Others, ours: &Ours, what: &str) {
    eventually(what, || {
        // The server does one thing at a time, and what it is asked here keeps it from being filled.
        (0..50).for_each(|_| pause());
        let (users, groups) = (others.all("/Users"), others.all("/Groups"));
        let titles = ours
            .people
            .iter()
            .all(|(id, title)| users.get(id).is_some_and(|account| account["title"] == title.as_str()));
        let held = ours
            .groups
            .iter()
            .all(|(id, expected)| groups.get(id).is_some_and(|group| members(group, &users) == *expected));
        (titles && held && groups.len() == GROUPS).then_some(())
    });
}

#[test]
fn a_server_of_others_converges_is_reconciled_and_is_refilled() {
    let mut others = Others::start();
    let configuration =
        format!("[app.others]\ntenant = \"corp\"\nurl = \"{}\"\ntoken = \"{TOKEN}\"\n", others.url);
    let options = Options {
        configuration: Some(configuration),
        flags: vec!["--no-demo".to_string()],
        ..Options::default()
    };
    let house = House::start_with(options);
    let ours = fill(&house.corp());
    agrees(&others, &ours, "500 people and 20 groups are there");

    let found = reconcile(&house);
    assert_eq!(found["broken"], Value::Null, "{found}");
    assert_eq!(found["findings"]["listed"], json!({"User": USERS, "Group": GROUPS}), "{found}");
    for nothing in ["drifted", "missing", "membersTooMany", "membersTooFew", "strangers", "unreadable"] {
        assert_eq!(found["findings"][nothing], 0, "{nothing}: {found}");
    }

    // Behind its back: a title, a member too many, one too few, a lost account, a stranger.
    let client = others.client();
    let (users, groups) = (others.all("/Users"), others.all("/Groups"));
    let theirs = |id: &String| users[id]["id"].as_str().unwrap().to_string();
    let people: Vec<&String> = ours.people.keys().collect();
    change(
        &client,
        &format!("/Users/{}", theirs(people[0])),
        json!([{"op": "replace", "path": "title", "value": "King"}]),
    );
    let lost = people[USERS - 1];
    client.delete(&format!("/Users/{}", theirs(lost))).expect(204);
    let stranger = client.post("/Users", &user("stranger")).expect(201).id();
    let (group, expected) = ours.groups.first_key_value().unwrap();
    let team = groups[group]["id"].as_str().unwrap();
    let leaver = expected.first().unwrap();
    let joins = ours.people.keys().find(|id| !expected.contains(*id)).unwrap();
    change(
        &client,
        &format!("/Groups/{team}"),
        json!([
            {"op": "add", "path": "members", "value": [{"value": theirs(joins)}, {"value": stranger}]},
            {"op": "remove", "path": format!("members[value eq \"{}\"]", theirs(leaver))},
        ]),
    );

    let found = reconcile(&house);
    let findings = &found["findings"];
    assert_eq!(found["broken"], Value::Null, "{found}");
    assert_eq!(findings["drifted"], 1, "{found}");
    assert_eq!(findings["missing"], 1, "{found}");
    // Whether the group still names the lost account is the server's choice.
    assert!(findings["membersTooMany"].as_u64() >= Some(2), "{found}");
    assert!(findings["membersTooFew"].as_u64() >= Some(1), "{found}");
    assert_eq!(
        findings["firstStrangers"],
        json!([{"resourceType": "User", "remoteId": stranger}]),
        "{found}"
    );
    assert!(findings["firstDrifted"].to_string().contains(people[0]), "{found}");
    agrees(&others, &ours, "what was changed is set right");
    client.get(&format!("/Users/{stranger}")).expect(200);
    assert_ne!(others.all("/Users")[lost]["id"], theirs(lost), "the lost account was made anew");
    // The id of the lost account stood in its group until the next look.
    only_remembered(&reconcile(&house));
    eventually("no group names anybody who is not there", || {
        let groups = others.all("/Groups");
        let sizes = ours.groups.iter().all(|(id, expected)| {
            groups[id]["members"].as_array().is_some_and(|members| members.len() == expected.len())
        });
        sizes.then_some(())
    });
    let events = house.events("corp").len();

    // Killed, started again with nothing, filled again.
    others.process.kill();
    others.process.start();
    others.wait();
    assert!(others.all("/Users").is_empty());
    let found = reconcile(&house);
    // A group is noticed when its lost members are, or by its own absence.
    assert!(found["findings"]["missing"].as_u64() >= Some(USERS as u64), "{found}");
    agrees(&others, &ours, "everything is there again");
    assert_eq!(others.all("/Users").len(), USERS);
    assert_eq!(house.events("corp").len(), events, "an app that lost everything changed the directory");
}

/// Nothing but members that the server remembered too long was otherwise.
#[track_caller]
fn only_remembered(found: &Value) {
    for nothing in ["drifted", "missing", "membersTooFew"] {
        assert_eq!(found["findings"][nothing], 0, "{nothing}: {found}");
    }
}

/// Changes something behind our back. The server answers with what it is now, or with nothing.
fn change(client: &Client, path: &str, operations: Value) {
    let reply = client.patch(path, operations);
    assert!((200..300).contains(&reply.status), "{}", reply.text);
}

/// Reconciles the app and waits for the end.
fn reconcile(house: &House) -> Value {
    let printed = house.rollcall(&["app", "reconcile", "others", "--wait", "--json"]);
    serde_json::from_str(&printed).expect("one JSON object")
}
