//! A Bulk request comes to the same as its operations one after the other, however many of them are carried out at once.

#![cfg(test)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use street::House;
use street::house::{Client, Options, group, user};
use street::random::{Random, fresh_seed};

const ROUNDS: u64 = 25;
const OPERATIONS: usize = 40;
const NAMES: usize = 10;
const BULK: &str = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// Operations that get in each other's way: few names, and references to what earlier ones made.
fn operations(random: &mut Random, round: u64) -> Vec<Value> {
    let mut users: Vec<String> = Vec::new();
    let name = |random: &mut Random| format!("r{round}-{}", random.index(NAMES));
    let patch = |path: String, value: Value| {
        let data = json!({"schemas": [PATCH], "Operations": [{"op": "replace", "value": value}]});
        json!({"method": "PATCH", "path": path, "data": data})
    };
    let mut kind = 0;
    (0..OPERATIONS)
        .map(|number| {
            // Several alike are what is carried out at once.
            if random.percent(25) {
                kind = random.below(100);
            }
            let of = (!users.is_empty()).then(|| users[random.index(users.len())].clone());
            match (kind, of) {
                (45..60, Some(of)) => {
                    patch(format!("/Users/bulkId:{of}"), json!({"title": format!("t{number}")}))
                }
                (60..72, Some(of)) => patch(format!("/Users/bulkId:{of}"), json!({"userName": name(random)})),
                (72..88, Some(of)) => json!({"method": "DELETE", "path": format!("/Users/bulkId:{of}")}),
                (88.., Some(of)) => {
                    let data = group(&format!("r{round} g{number}"), &[&format!("bulkId:{of}")]);
                    json!({"method": "POST", "path": "/Groups", "bulkId": format!("g{number}"), "data": data})
                }
                (_, _) => {
                    let id = format!("u{number}");
                    users.push(id.clone());
                    json!({"method": "POST", "path": "/Users", "bulkId": id, "data": user(&name(random))})
                }
            }
        })
        .collect()
}

/// The statuses of the operations sent one after the other. What refers to nothing is 409.
fn one_by_one(client: &Client, operations: &[Value]) -> Vec<String> {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let status = |operation: &Value| {
        let mut text = operation.to_string();
        for (bulk_id, id) in &ids {
            text = text.replace(&format!("bulkId:{bulk_id}\""), &format!("{id}\""));
        }
        if text.contains("bulkId:") {
            return "409".to_string();
        }
        let resolved: Value = serde_json::from_str(&text).unwrap();
        let body = resolved.get("data").map(|data| data.to_string().into_bytes());
        let (method, path) = (resolved["method"].as_str().unwrap(), resolved["path"].as_str().unwrap());
        let reply = client.send(method, path, &[], body);
        if let (201, Some(bulk_id)) = (reply.status, operation["bulkId"].as_str()) {
            ids.insert(bulk_id.to_string(), reply.id());
        }
        reply.status.to_string()
    };
    operations.iter().map(status).collect()
}

fn together(client: &Client, operations: &[Value]) -> Vec<String> {
    let reply = client.post("/Bulk", &json!({"schemas": [BULK], "Operations": operations})).expect(200);
    let results = reply.body["Operations"].as_array().unwrap();
    results.iter().map(|result| result["status"].as_str().unwrap().to_string()).collect()
}

/// Everybody, and every group by its members' names.
fn directory(client: &Client, round: u64) -> Vec<String> {
    let list =
        |path: &str| client.get(path).expect(200).body["Resources"].as_array().cloned().unwrap_or_default();
    let users = list(
        &format!("/Users?count=200&filter=userName sw \"r{round}-\"").replace(' ', "%20").replace('"', "%22"),
    );
    let groups = list(
        &format!("/Groups?count=200&filter=displayName sw \"r{round} \"")
            .replace(' ', "%20")
            .replace('"', "%22"),
    );
    let names: BTreeMap<&str, &Value> =
        users.iter().map(|user| (user["id"].as_str().unwrap(), &user["userName"])).collect();
    let members = |group: &Value| -> Vec<String> {
        let members = group["members"].as_array().into_iter().flatten();
        members.map(|member| names[member["value"].as_str().unwrap()].to_string()).collect()
    };
    let user = |user: &Value| format!("{} {} {}", user["userName"], user["title"], user["active"]);
    let group = |group: &Value| format!("{} {:?}", group["displayName"], members(group));
    let mut all: Vec<String> = users.iter().map(user).chain(groups.iter().map(group)).collect();
    all.sort();
    all
}

#[test]
fn a_bulk_request_comes_to_the_same_as_its_operations_in_their_order() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let tenant = |name: &str| {
        let url = house.env("SCIM_URL").replace("/t/corp/", &format!("/t/{name}/"));
        Client::new(&url, &house.token_of(name, "hr", "rfc"))
    };
    let (one, other) = (tenant("one"), tenant("other"));
    let seed = fresh_seed();
    let random = Random::new(seed);
    let mut done = 0;
    for round in 0..ROUNDS {
        let operations = operations(&mut random.fork(round), round);
        let expected = one_by_one(&one, &operations);
        assert_eq!(together(&other, &operations), expected, "seed {seed} round {round}: {operations:#?}");
        assert_eq!(directory(&other, round), directory(&one, round), "seed {seed} round {round}");
        done += expected.iter().filter(|status| status.starts_with('2')).count();
    }
    assert!(done > 300, "{done} of the operations did something");
}

#[test]
fn strangers_are_made_at_once_and_none_is_made_twice() {
    let house = House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some("[gateway.limits]\nbulk_parallel_max = 60\n".to_string()),
        ..Options::default()
    });
    let corp = house.corp();
    let post =
        |name: String| json!({"method": "POST", "path": "/Users", "bulkId": name, "data": user(&name)});
    // The last but one has a name that is in the same company already.
    let names = (0..100).map(|number| format!("u{number}")).chain(["U99".to_string(), "u100".to_string()]);
    let statuses = together(&corp, &names.map(post).collect::<Vec<_>>());
    assert_eq!(statuses.iter().filter(|status| *status == "201").count(), 101);
    assert_eq!(statuses[100], "409");
    assert_eq!(corp.get("/Users?count=0").expect(200).body["totalResults"], 101);
    let metrics = Client::new(house.env("ADMIN_URL"), "").get("/metrics").expect(200).text;
    let count = metrics.lines().find_map(|line| line.strip_prefix("rollcall_bulk_at_once_count "));
    assert_eq!(count, Some("3"), "60, 40, and two");
}
