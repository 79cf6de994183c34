//! Groups of ten thousand, and many who want the same thing at once.

#![cfg(test)]

use std::thread;

use serde_json::{Value, json};
use street::House;
use street::house::{Client, Options, Reply, eventually, group, user};

const CROWD: usize = 32;
/// Changes of each.
const STEPS: usize = 50;

fn house() -> House {
    House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(
            "[gateway.limits]\nbulk_operations_max = 10000\nbody_bytes_max = 16777216\n".to_string(),
        ),
        ..Options::default()
    })
}

/// What everybody in the crowd is answered.
fn all_at_once(corp: &Client, act: impl Fn(&Client, usize) -> Reply + Send + Clone + 'static) -> Vec<Reply> {
    let act = |number: usize| {
        let (corp, act) = (corp.clone(), act.clone());
        thread::spawn(move || act(&corp, number))
    };
    let running: Vec<_> = (0..CROWD).map(act).collect();
    running.into_iter().map(|one| one.join().unwrap()).collect()
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

#[test]
fn a_name_that_many_want_goes_to_one() {
    let house = house();
    let corp = house.corp();
    let replies = all_at_once(&corp, |corp, number| {
        let name: String = "Countess.Lovelace"
            .chars()
            .enumerate()
            .map(
                |(at, letter)| if number >> (at % 5) & 1 == 1 { letter.to_ascii_uppercase() } else { letter },
            )
            .collect();
        corp.post("/Users", &user(&name))
    });
    assert_eq!((count(&replies, 201), count(&replies, 409)), (1, CROWD - 1));
    assert_eq!(corp.get("/Users").expect(200).body["totalResults"], 1);

    // A rename to one name.
    let ids: Vec<String> =
        (0..CROWD).map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id()).collect();
    let replies = all_at_once(&corp, move |corp, number| {
        let operations = json!([{"op": "replace", "path": "userName", "value": "The.One"}]);
        corp.patch(&format!("/Users/{}", ids[number]), operations)
    });
    assert_eq!((count(&replies, 200), count(&replies, 409)), (1, CROWD - 1));

    // One version: one change wins, nobody else overwrites it.
    let made = corp.post("/Users", &user("shared")).expect(201);
    let (path, tag) = (format!("/Users/{}", made.id()), made.header("etag").unwrap().to_string());
    let replies = all_at_once(&corp, move |corp, number| {
        let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                          "Operations": [{"op": "replace", "path": "title", "value": format!("T{number}")}]});
        corp.send("PATCH", &path, &[("If-Match", &tag)], Some(body.to_string().into_bytes()))
    });
    assert_eq!((count(&replies, 200), count(&replies, 412)), (1, CROWD - 1));

    // One group: every member that was added is there, with and without a guard.
    let team = corp.post("/Groups", &group("Team", &[])).expect(201).id();
    let members: Vec<String> =
        (0..CROWD).map(|number| corp.post("/Users", &user(&format!("m{number}"))).expect(201).id()).collect();
    let (path, all) = (format!("/Groups/{team}"), members.clone());
    let replies = all_at_once(&corp, move |corp, number| {
        let mut operations =
            vec![json!({"op": "add", "path": "members", "value": [{"value": members[number]}]})];
        if number % 2 == 0 {
            operations
                .push(json!({"op": "replace", "path": "displayName", "value": format!("Team {number}")}));
        }
        corp.patch(&path, operations.into())
    });
    assert_eq!(count(&replies, 200), CROWD, "{replies:?}");
    // Each is told what its own change led to, however many came since.
    for (reply, member) in replies.iter().zip(&all) {
        let shown = reply.body["members"].as_array().unwrap();
        assert!(shown.iter().any(|one| one["value"] == **member), "{member}: {reply:?}");
        assert_eq!(reply.header("etag"), reply.body["meta"]["version"].as_str());
    }
    let team = corp.get(&format!("/Groups/{team}")).expect(200);
    assert_eq!(team.body["members"].as_array().unwrap().len(), CROWD);
}

#[test]
fn a_group_of_ten_thousand() {
    let house = house();
    let corp = house.corp();
    let operations: Vec<Value> = (0..10_000)
        .map(|number| {
            let body = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": format!("u{number}")});
            json!({"method": "POST", "path": "/Users", "bulkId": number.to_string(), "data": body})
        })
        .collect();
    let body =
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": operations});
    // Long work is asked for and told about later.
    let asked =
        corp.send("POST", "/Bulk", &[("Prefer", "respond-async")], Some(body.to_string().into_bytes()));
    let ids: Vec<String> = if asked.status == 202 {
        let place = format!("/Requests/{}", asked.header("set-txn").unwrap());
        let sets = eventually("ten thousand users", || {
            let answer = corp.get(&place);
            (answer.status == 200).then(|| answer.body["sets"].as_array().unwrap().clone())
        });
        sets.iter()
            .map(|set| set["sub_id"]["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_string())
            .collect()
    } else {
        let done = asked.expect(200);
        let operations = done.body["Operations"].as_array().unwrap();
        operations
            .iter()
            .map(|one| one["location"].as_str().unwrap().rsplit('/').next().unwrap().to_string())
            .collect()
    };
    assert_eq!(ids.len(), 10_000);
    let everybody: Vec<&str> = ids.iter().map(String::as_str).collect();
    let made = corp.post("/Groups?attributes=displayName", &group("Everybody", &everybody)).expect(201);
    let path = format!("/Groups/{}", made.id());
    assert_eq!(
        house.events("corp").iter().filter(|event| event["resourceType"] == "Group").count(),
        1,
        "one message"
    );

    let members = |corp: &Client| corp.get(&path).expect(200).body["members"].as_array().unwrap().len();
    assert_eq!(members(&corp), 10_000);
    let one = &ids[7];
    let remove = json!([{"op": "remove", "path": format!("members[value eq \"{one}\"]")}]);
    let changed = corp.send(
        "PATCH",
        &format!("{path}?excludedAttributes=members"),
        &[],
        Some(
            json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": remove})
                .to_string()
                .into_bytes(),
        ),
    );
    assert!(changed.expect(200).text.len() < 1_000);
    assert_eq!(members(&corp), 9_999);
    let listed = corp.get("/Groups?excludedAttributes=members").expect(200);
    assert!(
        listed.text.len() < 1_500 && listed.body["Resources"][0].get("members").is_none(),
        "{:.500}",
        listed.text
    );
    let found =
        corp.get(&format!("/Groups?excludedAttributes=members&filter=members.value%20eq%20%22{one}%22"));
    assert_eq!(found.expect(200).body["totalResults"], 0);
    let add = json!([{"op": "add", "path": "members", "value": [{"value": one}]}]);
    let changed = corp.patch(&path, add).expect(204);
    assert_eq!(changed.header("etag"), corp.get(&path).expect(200).header("etag"));
    assert_eq!(members(&corp), 10_000);
    let replace = json!([{"op": "replace", "path": "members", "value": ids[..5_000].iter().map(|id| json!({"value": id})).collect::<Vec<_>>()}]);
    corp.patch(&path, replace).expect(204);
    assert_eq!(members(&corp), 5_000);
}

/// Whoever is overtaken before the answer is told what the own change led to.
#[test]
fn a_change_that_was_overtaken_is_told_as_it_was() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let corp = house.corp();
    let ids: Vec<String> =
        (0..CROWD).map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id()).collect();
    let path = format!("/Groups/{}", corp.post("/Groups", &group("Team", &[])).expect(201).id());
    let replies = all_at_once(&corp, move |corp, number| {
        let change = |step: usize| {
            let name = format!("Team {number}-{step}");
            let member = json!([{"value": ids[number]}]);
            let is_there = step.is_multiple_of(2);
            let op = if is_there { "add" } else { "remove" };
            let members = json!({"op": op, "path": "members", "value": member});
            let mut operations = vec![members];
            // What changes members alone needs no guard, so that it overtakes the others.
            if number % 4 == 0 {
                operations.push(json!({"op": "replace", "path": "displayName", "value": name}));
            }
            let reply = corp.patch(&path, operations.into()).expect(200);
            let mut shown = reply.body["members"].as_array().into_iter().flatten();
            assert_eq!(shown.any(|one| one["value"] == *ids[number]), is_there, "{reply:?}");
            assert!(number % 4 != 0 || reply.body["displayName"] == *name, "{reply:?}");
            reply
        };
        (0..STEPS).map(change).collect::<Vec<_>>().pop().unwrap()
    });
    assert_eq!(count(&replies, 200), CROWD);
}
