//! The auditor: what the directory was at any moment, and what happened, compared with what was answered then.

#![cfg(test)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use street::house::{Options, Reply, group, user};
use street::{Client, House};

/// What SCIM and the auditor said at a moment.
struct Snapshot {
    position: Value,
    digest: Value,
    users: Value,
    groups: Value,
}

impl Snapshot {
    fn take(house: &House) -> Self {
        let list = |path: &str| house.corp().get(path).expect(200).body["Resources"].clone();
        let digest = ask(house, "audit/digest", &[]).expect(200).body;
        Self {
            position: digest["position"].clone(),
            digest: digest["items"][0].clone(),
            users: list("/Users?count=200"),
            groups: list("/Groups?count=200"),
        }
    }

    fn sequence(&self) -> String {
        self.position["sequence"].to_string()
    }

    fn time(&self) -> &str {
        self.position["time"].as_str().unwrap()
    }

    /// A resource as it was answered.
    fn find(&self, id: &str) -> Option<&Value> {
        let all = self.users.as_array().unwrap().iter().chain(self.groups.as_array().unwrap());
        all.into_iter().find(|resource| resource["id"] == id)
    }
}

fn admin(house: &House) -> Client {
    Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"))
}

fn path(surface: &str, parameters: &[(&str, &str)]) -> String {
    let mut url = url::Url::parse("http://x").unwrap();
    url.query_pairs_mut().extend_pairs(parameters);
    format!("/api/v1/{surface}?{}", url.query().unwrap_or_default())
}

/// Asks about tenant `corp`.
fn ask(house: &House, surface: &str, parameters: &[(&str, &str)]) -> Reply {
    admin(house).get(&path(surface, &[&[("tenant", "corp")], parameters].concat()))
}

/// The digest that a reader makes of items.
fn digest(items: &[Value]) -> String {
    let text: String = items.iter().map(|item| format!("{item}\n")).collect();
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An answer whose count and digest are those of its items.
#[track_caller]
fn items(reply: Reply) -> Vec<Value> {
    let body = reply.expect(200).body;
    let items = body["items"].as_array().unwrap().clone();
    assert_eq!((body["count"].as_u64(), &body["digest"]), (Some(items.len() as u64), &json!(digest(&items))));
    items
}

/// All pages of an answer.
fn pages(house: &House, surface: &str, parameters: &[(&str, &str)]) -> (usize, Vec<Value>) {
    let mut parameters: BTreeMap<String, String> =
        parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let (mut count, mut all, mut position) = (0, Vec::new(), None);
    loop {
        let asked: Vec<(&str, &str)> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = ask(house, surface, &asked);
        let (next, at) = (reply.body["next"].clone(), reply.body["position"].clone());
        assert_eq!(*position.get_or_insert(at.clone()), at, "a page is as of another moment");
        all.extend(items(reply));
        count += 1;
        let Some(next) = next.as_object() else { return (count, all) };
        for (name, value) in next {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            parameters.insert(name.clone(), value);
        }
    }
}

/// What `rollcall audit` answers as JSON, whose count and digest are those of its items.
#[track_caller]
fn command(house: &House, arguments: &[&str]) -> Value {
    let text = house.rollcall(&[arguments, &["--tenant", "corp", "--format", "json"]].concat());
    let body: Value = serde_json::from_str(&text).unwrap();
    let items = body["items"].as_array().unwrap();
    // What `sed` leaves of it (docs/operations/audit.md).
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches(',')).collect();
    assert!(lines[1..lines.len() - 1].iter().copied().eq(items.iter().map(ToString::to_string)), "{text}");
    assert_eq!((body["count"].as_u64(), &body["digest"]), (Some(items.len() as u64), &json!(digest(items))));
    body
}

fn member_ids(group: &Value) -> Vec<&str> {
    group["members"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|member| member["value"].as_str().unwrap())
        .collect()
}

/// A life: people and groups come, are renamed, move and go. Returns the moments and the ids by a name of ours.
fn live(house: &House) -> (Vec<Snapshot>, BTreeMap<&'static str, String>) {
    let corp = house.corp();
    let mut ids = BTreeMap::new();
    let mut moments = Vec::new();
    let mut create = |moments: &mut Vec<Snapshot>, name, path: &str, body: Value| {
        let id = corp.post(path, &body).expect(201).id();
        ids.insert(name, id.clone());
        moments.push(Snapshot::take(house));
        id
    };
    let mut ada = user("ada");
    ada["externalId"] = json!("external-ada");
    let ada = create(&mut moments, "ada", "/Users", ada);
    let bob = create(&mut moments, "bob", "/Users", user("bob"));
    let cyd = create(&mut moments, "cyd", "/Users", user("cyd"));
    let inner = create(&mut moments, "inner", "/Groups", group("Inner", &[&ada, &bob]));
    let outer = create(&mut moments, "outer", "/Groups", group("Outer", &[&inner, &cyd]));
    let mut patch = |path: &str, operations: Value| {
        let status = corp.patch(path, operations).status;
        assert!(status == 200 || status == 204, "{status}");
        moments.push(Snapshot::take(house));
    };
    let (ada_path, inner_path) = (format!("/Users/{ada}"), format!("/Groups/{inner}"));
    patch(&ada_path, json!([{"op": "replace", "path": "userName", "value": "ada.lovelace"}]));
    patch(&ada_path, json!([{"op": "replace", "path": "title", "value": "=Countess"}]));
    patch(&inner_path, json!([{"op": "remove", "path": format!("members[value eq \"{ada}\"]")}]));
    patch(&inner_path, json!([{"op": "replace", "path": "displayName", "value": "Core"}]));
    patch(&inner_path, json!([{"op": "add", "path": "members", "value": [{"value": ada}]}]));
    corp.delete(&format!("/Users/{bob}")).expect(204);
    moments.push(Snapshot::take(house));
    corp.post("/Users", &user("bob")).expect(201);
    moments.push(Snapshot::take(house));
    corp.delete(&format!("/Groups/{outer}")).expect(204);
    moments.push(Snapshot::take(house));
    (moments, ids)
}

#[test]
fn every_moment_is_answered_as_it_was() {
    let house = House::start();
    let (moments, ids) = live(&house);
    for (number, then) in moments.iter().enumerate() {
        let sequence = then.sequence();
        let mut ways = vec![sequence.as_str()];
        // Two events of one millisecond are one instant.
        if moments.get(number + 1).is_none_or(|next| next.time() > then.time()) {
            ways.push(then.time());
        }
        for at in ways {
            let as_then = [("at", at), ("source", "first-client")];
            let list = |kind| items(ask(&house, "audit/at", &[&as_then[..], &[("type", kind)]].concat()));
            assert_eq!(json!(list("User")), then.users, "users at {at}");
            assert_eq!(json!(list("Group")), then.groups, "groups at {at}");
            let reply = ask(&house, "audit/digest", &[("at", at)]);
            assert_eq!((&reply.body["position"], &reply.body["items"][0]), (&then.position, &then.digest));
            for id in ids.values() {
                let reply = ask(&house, "audit/at", &[&as_then[..], &[("id", id)]].concat());
                match then.find(id) {
                    None => assert_eq!(reply.expect(404).body["error"], "notFound"),
                    Some(expected) => {
                        assert_eq!(items(reply), std::slice::from_ref(expected), "{id} at {at}")
                    }
                }
            }
            for resource in then.groups.as_array().unwrap() {
                let (id, name) =
                    (resource["id"].as_str().unwrap(), resource["displayName"].as_str().unwrap());
                for who in [("id", id), ("group", name)] {
                    let found = items(ask(&house, "audit/members", &[who, ("at", at)]));
                    let found: Vec<&str> = found.iter().map(|item| item["id"].as_str().unwrap()).collect();
                    assert_eq!(found, member_ids(resource), "members of {name} at {at}");
                }
            }
            for resource in then.users.as_array().unwrap() {
                let name = resource["userName"].as_str().unwrap();
                let found = items(ask(&house, "audit/members", &[("user", name), ("at", at)]));
                let told = |name: &str, direct: &str| json!([name, direct]);
                let found: Vec<Value> = found
                    .iter()
                    .map(|item| {
                        let how = if item["direct"] == true { "direct" } else { "indirect" };
                        told(item["id"].as_str().unwrap(), how)
                    })
                    .collect();
                let expected = resource["groups"].as_array().cloned().unwrap_or_default();
                let expected: Vec<Value> = expected
                    .iter()
                    .map(|link| told(link["value"].as_str().unwrap(), link["type"].as_str().unwrap()))
                    .collect();
                assert_eq!(found, expected, "groups of {name} at {at}");
            }
        }
    }
    // The command says the same.
    for then in [&moments[4], &moments[9]] {
        let sequence = then.sequence();
        let at = ["--at", &sequence, "--source", "first-client"];
        let told = command(&house, &[&["audit", "at", "--type", "User"][..], &at].concat());
        assert_eq!((&told["items"], &told["position"]), (&then.users, &then.position));
        let told = command(&house, &["audit", "digest", "--at", &sequence]);
        assert_eq!((&told["items"][0], &told["position"]), (&then.digest, &then.position));
    }
    assert!(!house.log().contains("lovelace"), "the log names a person");
}

#[test]
fn what_happened_is_told_with_who_and_what() {
    let house = House::start();
    let (moments, ids) = live(&house);
    let (ada, bob, inner, outer) = (&ids["ada"], &ids["bob"], &ids["inner"], &ids["outer"]);

    // The events of the log are what a history tells.
    let history = items(ask(&house, "audit/history", &[("user", "ada.lovelace")]));
    let log: Vec<Value> =
        house.events("corp").into_iter().filter(|event| event["resourceId"] == **ada).collect();
    assert_eq!(history.len(), log.len());
    for (told, event) in history.iter().zip(&log) {
        for name in ["sequence", "kind", "resourceId", "source", "actor", "txn", "changes"] {
            assert_eq!(&told[name], &event[name], "{name}");
        }
        assert_eq!(told["erased"], false);
    }
    assert_eq!(history[0]["callerAddress"], "127.0.0.1");
    let renamed = json!([{"path": "userName", "before": "ada", "after": "ada.lovelace"}]);
    assert!(history.iter().any(|event| event["changes"] == renamed), "{history:?}");
    let early = moments[2].sequence();
    let until = items(ask(&house, "audit/history", &[("user", "ada"), ("at", &early)]));
    assert_eq!(until, history[..1]);

    // A member that is gone is gone from its groups.
    let told = command(&house, &["audit", "history", "--group", "Core"]);
    let last = told["items"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["kind"], &last["membersRemoved"]), (&json!("Deleted"), &json!([bob])));
    let gone = items(ask(&house, "audit/history", &[("id", bob)]));
    assert_eq!(gone.last().unwrap()["kind"], "Deleted");

    // Nested members, and every stay.
    let then = moments[4].sequence();
    let nested =
        items(ask(&house, "audit/members", &[("group", "Outer"), ("nested", "true"), ("at", &then)]));
    let nested: Vec<Value> = nested.iter().map(|item| json!([item["id"], item["direct"]])).collect();
    let cyd = &ids["cyd"];
    assert_eq!(json!(nested), json!([[cyd, true], [inner, true], [ada, false], [bob, false]]));
    let stays = command(&house, &["audit", "members", "--id", ada, "--stays"]);
    let spans: Vec<Value> = stays["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stay| json!([stay["group"], stay["from"]["sequence"], stay["to"]["sequence"]]))
        .collect();
    let at = |number: usize| moments[number].position["sequence"].clone();
    assert_eq!(json!(spans), json!([[inner, at(3), at(7)], [inner, at(9), null]]));
    let who = items(ask(&house, "audit/members", &[("id", outer), ("stays", "true")]));
    assert!(who.len() == 2 && who.iter().all(|stay| stay["to"]["sequence"] == at(12)), "{who:?}");

    // Differences: the same as between what was answered.
    let (from, to) = (moments[4].sequence(), moments[12].sequence());
    let found = items(ask(&house, "audit/diff", &[("from", &from), ("to", &to)]));
    let what: BTreeMap<&str, &str> =
        found.iter().map(|one| (one["id"].as_str().unwrap(), one["what"].as_str().unwrap())).collect();
    let new_bob = moments[12].users.as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
    let expected = [
        (ada.as_str(), "changed"),
        (bob, "deleted"),
        (inner, "changed"),
        (outer, "deleted"),
        (new_bob, "created"),
    ];
    assert_eq!(what, expected.into());
    let core = found.iter().find(|one| one["id"] == **inner).unwrap();
    assert_eq!(core["membersRemoved"], json!([bob]));
    assert_eq!(core["changes"], json!([{"path": "displayName", "before": "Inner", "after": "Core"}]));
    let everything = items(ask(&house, "audit/diff", &[("from", "0"), ("to", &from)]));
    assert!(everything.len() == 5 && everything.iter().all(|one| one["what"] == "created"), "{everything:?}");

    // A plan names no values and reads nothing.
    let told = command(&house, &["explain", "userName eq \"ada.lovelace\"", "--type", "User"]);
    assert!(told["items"].to_string().contains("index userName equal"), "{told}");
    assert!(!told.to_string().contains("lovelace"), "{told}");
    let scan = items(ask(&house, "explain", &[("type", "User"), ("filter", "title co \"x\"")]));
    assert!(json!(scan).to_string().contains("each is looked at"), "{scan:?}");

    // Text and CSV.
    let told = command(&house, &["audit", "history", "--id", ada]);
    let said = house.rollcall(&["audit", "history", "--tenant", "corp", "--id", ada]);
    let last = said.lines().last().unwrap();
    assert!(last.contains(told["digest"].as_str().unwrap()) && last.contains("position"), "{last}");
    let file = house.data_dir().join("digest.json");
    let csv = ["audit", "history", "--tenant", "corp", "--id", ada, "--format", "csv", "--digest-file"];
    let output = house.attempt(&[&csv[..], &[file.to_str().unwrap()]].concat());
    let (rows, words) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(rows.starts_with("sequence,time,kind,") && rows.contains(",title,,'=Countess\r\n"), "{rows}");
    assert!(rows.lines().count() > history.len() && rows.ends_with("\r\n"));
    assert!(words.contains(told["digest"].as_str().unwrap()), "{words}");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(kept, json!({"position": told["position"], "count": told["count"], "digest": told["digest"]}));
}

#[test]
fn an_answer_of_many_pages_is_as_of_one_moment() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let corp = house.corp();
    for first in [0, 600] {
        let operation = |number: usize| {
            let body = user(&format!("user{:04}", first + number));
            json!({"method": "POST", "path": "/Users", "bulkId": number.to_string(), "data": body})
        };
        let bulk = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
            "Operations": (0..600).map(operation).collect::<Vec<_>>(),
        });
        corp.post("/Bulk", &bulk).expect(200);
    }
    // The only tenant need not be named.
    let first = admin(&house).get(&path("audit/at", &[("type", "User"), ("count", "9999")])).expect(200).body;
    assert_eq!((first["count"].as_u64(), first["total"].as_u64()), (Some(1_000), Some(1_200)));
    let next = &first["next"];
    corp.post("/Users", &user("late")).expect(201);
    let at = next["at"].to_string();
    let rest = [("type", "User"), ("count", "1000"), ("at", &at), ("startIndex", "1001")];
    let rest = admin(&house).get(&path("audit/at", &rest)).expect(200).body;
    assert_eq!((next["startIndex"].as_u64(), rest["count"].as_u64()), (Some(1_001), Some(200)));
    assert_eq!((&rest["position"], rest.get("next")), (&first["position"], None));

    let whole = house.rollcall(&["audit", "at", "--type", "User", "--at", &at, "--format", "json"]);
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let together: Vec<Value> =
        [&first, &rest].iter().flat_map(|page| page["items"].as_array().unwrap().clone()).collect();
    assert_eq!((&whole["items"], &whole["digest"]), (&json!(together), &json!(digest(&together))));
    let changes = house.rollcall(&["audit", "diff", "--from", "0", "--to", &at, "--format", "json"]);
    let changes: Value = serde_json::from_str(&changes).unwrap();
    assert_eq!(changes["count"], 1_200);

    // Small pages of every kind are the same as one.
    let early = [("from", "0"), ("to", "20")];
    assert_eq!(items(ask(&house, "audit/diff", &early)).len(), 20);
    let (count, small) = pages(&house, "audit/diff", &[&early[..], &[("count", "7")]].concat());
    assert_eq!((count, small), (3, items(ask(&house, "audit/diff", &early))));
    let ids: Vec<&str> = together[..5].iter().map(|one| one["id"].as_str().unwrap()).collect();
    let team = corp.post("/Groups", &group("Team", &ids)).expect(201).id();
    for _ in 0..3 {
        for op in ["remove", "add"] {
            let operation = match op {
                "remove" => json!([{"op": op, "path": format!("members[value eq \"{}\"]", ids[0])}]),
                _ => json!([{"op": op, "path": "members", "value": [{"value": ids[0]}]}]),
            };
            corp.patch(&format!("/Groups/{team}"), operation).expect(200);
        }
    }
    for (surface, parameters, expected) in [
        ("audit/history", vec![("group", "Team")], 7),
        ("audit/members", vec![("group", "Team")], 5),
        ("audit/members", vec![("id", team.as_str()), ("stays", "true")], 8),
    ] {
        let whole = items(ask(&house, surface, &parameters));
        assert_eq!(whole.len(), expected, "{surface}");
        let (count, small) = pages(&house, surface, &[&parameters[..], &[("count", "2")]].concat());
        assert_eq!((count, small), (expected.div_ceil(2), whole), "{surface}");
    }
}

#[test]
fn what_cannot_be_answered_says_why() {
    let house = House::start();
    let (moments, ids) = live(&house);
    house.corp().post("/Groups", &group("Twin", &[])).expect(201);
    house.corp().post("/Groups", &group("Twin", &[])).expect(201);
    let (first, last) = (moments[0].sequence(), moments[12].sequence());
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("audit/digest", vec![("at", "99999999")], 409, "notReached"),
        ("audit/digest", vec![("at", "2199-01-01T00:00:00Z")], 409, "notReached"),
        ("audit/digest", vec![("at", "0")], 404, "beforeFirst"),
        ("audit/digest", vec![("at", "2020-01-01")], 404, "beforeFirst"),
        ("audit/digest", vec![("at", "soon")], 400, "invalidParameter"),
        ("audit/digest", vec![("att", "1")], 400, "invalidParameter"),
        ("audit/history", vec![("user", "nobody")], 404, "notFound"),
        ("audit/history", vec![("user", "ada.lovelace"), ("at", &first)], 404, "notFound"),
        ("audit/history", vec![("id", nobody)], 404, "notFound"),
        ("audit/history", vec![("id", "Nobody")], 400, "invalidParameter"),
        ("audit/history", vec![], 400, "invalidParameter"),
        ("audit/history", vec![("user", "a"), ("group", "b")], 400, "invalidParameter"),
        ("audit/history", vec![("user", "ada.lovelace"), ("count", "0")], 400, "invalidParameter"),
        ("audit/at", vec![("group", "Twin")], 422, "ambiguous"),
        ("audit/at", vec![("id", &ids["bob"])], 404, "notFound"),
        ("audit/at", vec![("type", "Robot")], 400, "invalidParameter"),
        ("audit/at", vec![("type", "User"), ("filter", "userName eq")], 400, "invalidFilter"),
        ("audit/at", vec![("type", "User"), ("sortBy", "name")], 400, "invalidValue"),
        ("audit/members", vec![("id", &ids["bob"])], 404, "notFound"),
        ("audit/members", vec![("group", "Core"), ("nested", "yes")], 400, "invalidParameter"),
        ("audit/diff", vec![], 400, "invalidParameter"),
        ("audit/diff", vec![("from", &last), ("to", &first)], 422, "reversed"),
        ("explain", vec![("filter", "(")], 400, "invalidFilter"),
    ];
    for (surface, parameters, status, word) in cases {
        let reply = ask(&house, surface, &parameters);
        assert_eq!((reply.status, reply.body["error"].as_str()), (status, Some(word)), "{}", reply.text);
        assert!(reply.body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{}", reply.text);
    }
    let elsewhere = admin(&house).get(&path("audit/digest", &[("tenant", "nobodys")])).expect(404);
    assert_eq!(elsewhere.body["error"], "noTenant");
    assert_eq!(admin(&house).get("/api/v1/audit/digest").expect(400).body["error"], "invalidParameter");
    for token in ["", "wrong", house.env("SCIM_TOKEN")] {
        for surface in ["audit/history", "audit/at", "audit/members", "audit/diff", "audit/digest", "explain"]
        {
            let reply =
                admin(&house).with_token(token).get(&path(surface, &[("tenant", "corp")])).expect(401);
            assert_eq!(reply.body["error"], "unauthorized");
            assert!(
                reply.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer"))
            );
        }
    }

    let says = |arguments: &[&str], words: &[&str]| {
        let output = house.attempt(arguments);
        let text = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in {text}");
    };
    let corp = ["--tenant", "corp"];
    says(&[&["audit", "at", "--user", "nobody"], &corp[..]].concat(), &["userName", "as of sequence"]);
    says(&[&["audit", "digest", "--at", "99999999"], &corp[..]].concat(), &["not reached", "99999999"]);
    says(&[&["audit", "digest", "--at", "0"], &corp[..]].concat(), &["first event", "sequence 1"]);
    says(&["audit", "digest", "--tenant", "nobodys"], &["no such tenant", "corp"]);
    says(&["audit", "digest"], &["tenant", "corp, demo-app"]);
    says(&["audit", "digest", "--admin-token", "wrong"], &["refuses the token"]);
    says(&["audit", "digest", "--admin-url", "http://127.0.0.1:9"], &["127.0.0.1:9", "rollcall up"]);
}

/// What is printed about tenant `corp`: position, resources, digest.
fn printed(text: &str) -> (String, String, String) {
    let line =
        text.lines().find(|line| line.starts_with("Tenant corp: ")).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |word: &str| {
        let place = words.iter().position(|known| *known == word).unwrap_or_else(|| panic!("{line}"));
        words[place + 1].to_string()
    };
    let resources = words.iter().position(|word| *word == "resources,").unwrap_or_else(|| panic!("{line}"));
    (after("position"), words[resources - 1].to_string(), after("sha256"))
}

impl Snapshot {
    fn printed(&self) -> (String, String, String) {
        let sha256 = self.digest["sha256"].as_str().unwrap();
        (self.sequence(), self.digest["resources"].to_string(), sha256.to_string())
    }
}

#[test]
fn a_projection_that_is_built_again_answers_the_same() {
    let mut house = House::start();
    let (moments, _) = live(&house);
    let now = moments.last().unwrap();
    let folder = |name: &str| house.data_dir().with_file_name(name).to_str().unwrap().to_string();
    let (beside, then, own) = (folder("beside"), folder("then"), house.data_dir().join("projection"));
    let own = own.to_str().unwrap();
    let refused = |house: &House, arguments: &[&str], words: &[&str]| {
        let output = house.attempt(&[&["projector", "rebuild"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in {text}");
    };

    // Beside the node that runs.
    let text = house.rollcall(&["projector", "rebuild", "--folder", &beside]);
    assert_eq!(printed(&text), now.printed(), "{text}");
    refused(&house, &["--folder", &beside], &["not empty"]);
    refused(&house, &[], &["holds", "projection", "stop it", "--folder"]);
    refused(&house, &["--to", "3"], &["folder of its own"]);
    refused(&house, &["--to", "3", "--folder", own], &["folder of its own"]);
    refused(&house, &["--to", "99999999", "--folder", &then], &["not reached", "99999999"]);

    // As of earlier moments.
    assert!(house.stop());
    let sequence = |number: usize| moments[number].position["sequence"].as_u64().unwrap();
    for number in [0, 4, 5, 9, 12] {
        let (to, folder) = (sequence(number).to_string(), format!("{then}{number}"));
        let text = house.rollcall(&["projector", "rebuild", "--to", &to, "--folder", &folder]);
        assert_eq!(printed(&text), moments[number].printed(), "to {to}: {text}");
    }

    // The node's own, which it then goes on with.
    std::fs::write(house.data_dir().join("projection/db"), "damaged").unwrap();
    let text = house.rollcall(&["projector", "rebuild"]);
    assert_eq!(printed(&text), now.printed(), "{text}");
    house.start_again();
    assert!(!house.log().contains("cannot be trusted"), "{}", house.log());
    let again = Snapshot::take(&house);
    assert_eq!((&again.position, &again.digest), (&now.position, &now.digest));

    // A command that would be cut is left out.
    let cut = (sequence(5) - 1).to_string();
    let text = house.rollcall(&["projector", "rebuild", "--folder", &format!("{then}-cut"), "--to", &cut]);
    assert!(text.contains("within a command"), "{text}");
    assert_eq!(printed(&text), moments[4].printed(), "{text}");
}
