//! Requests that are answered before they are carried out: RFC 9967 §2.5.1.

#![cfg(test)]

use eventlog::{Keyring, nats};
use proto::sealing::DataKey;
use serde_json::{Value, json};
use street::House;
use street::house::{Client, Options, Reply, eventually, group, user};

const ASYNC: (&str, &str) = ("Prefer", "respond-async");
const COMPLETED: &str = "urn:ietf:params:scim:event:misc:asyncresp";
const BULK: &str = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";

fn house() -> House {
    House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some("[gateway]\nannounce_security_events = true\n".to_string()),
        ..Options::default()
    })
}

fn ask(corp: &Client, method: &str, path: &str, body: &Value) -> Reply {
    let body = (!body.is_null()).then(|| body.to_string().into_bytes());
    let reply = corp.send(method, path, &[ASYNC], body).expect(202);
    assert_eq!(reply.header("preference-applied"), Some("respond-async"));
    assert!(reply.text.is_empty());
    reply
}

fn txn(reply: &Reply) -> String {
    let txn = reply.header("set-txn").unwrap();
    assert!(reply.header("location").unwrap().ends_with(&format!("/scim/v2/Requests/{txn}")));
    txn.to_string()
}

fn completion(corp: &Client, reply: &Reply) -> Vec<Value> {
    let path = format!("/Requests/{}", txn(reply));
    eventually("the completion", || {
        let answer = corp.get(&path);
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text);
        (answer.status == 200).then(|| answer.body["sets"].as_array().unwrap().clone())
    })
}

#[test]
fn every_change_can_be_told_about_later() {
    let house = house();
    let corp = house.corp();
    let config = corp.get("/ServiceProviderConfig").expect(200);
    assert_eq!(config.body["securityEvents"]["asyncRequest"], "request");

    let asked = ask(&corp, "POST", "/Users", &user("ada"));
    let sets = completion(&corp, &asked);
    let made = &sets[0]["events"][COMPLETED];
    assert_eq!((sets.len(), &made["status"], &made["method"]), (1, &json!("201"), &json!("POST")));
    assert_eq!(sets[0]["txn"], json!(txn(&asked)));
    let path = sets[0]["sub_id"]["uri"].as_str().unwrap().to_string();
    assert_eq!(corp.get(&path).expect(200).body["meta"]["version"], made["version"]);
    let events = house.events("corp");
    assert_eq!(events[0]["txn"], sets[0]["txn"], "the event names the transaction");

    let twice = ask(&corp, "POST", "/Users", &user("ADA"));
    let refused = &completion(&corp, &twice)[0]["events"][COMPLETED];
    assert_eq!((&refused["status"], &refused["response"]["scimType"]), (&json!("409"), &json!("uniqueness")));
    let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                      "Operations": [{"op": "replace", "path": "title", "value": "Dr"}]});
    assert_eq!(
        completion(&corp, &ask(&corp, "PATCH", &path, &body))[0]["events"][COMPLETED]["status"],
        "200"
    );
    assert_eq!(corp.get(&path).expect(200).body["title"], "Dr");
    let gone = completion(&corp, &ask(&corp, "DELETE", &path, &Value::Null));
    assert_eq!(gone[0]["events"][COMPLETED]["status"], "204");
    corp.get(&path).expect(404);

    // As a token, for the source that asked and for nobody else.
    let place = format!("/Requests/{}", txn(&asked));
    let token = corp.send("GET", &place, &[("Accept", "application/secevent+jwt")], None).expect(200);
    assert_eq!(token.header("content-type"), Some("application/secevent+jwt"));
    assert_eq!(token.text.split('.').count(), 3);
    corp.with_token(&house.token_of("corp", "another", "rfc")).get(&place).expect(404);
    corp.with_token("rc_nobody").get(&place).expect(401);
    for none in
        ["00000000-0000-7000-8000-000000000000", "%3E", "*", "%20", "%C3%A4", &format!("{}:0", txn(&asked))]
    {
        corp.get(&format!("/Requests/{none}")).expect(404);
    }
    // Who would wait a moment gets the ordinary answer.
    let body = Some(user("eve").to_string().into_bytes());
    corp.send("POST", "/Users", &[("Prefer", "respond-async, wait=5")], body).expect(201);
    // Outside of Bulk nothing refers to another operation, whenever it is carried out.
    let mut eva = user("eva");
    eva["title"] = json!("bulkId:none");
    let made = completion(&corp, &ask(&corp, "POST", "/Users", &eva));
    assert_eq!(made[0]["events"][COMPLETED]["status"], "201", "{made:?}");
    // What is no request at all is refused at once.
    corp.send("POST", "/Users", &[ASYNC], Some(b"{".to_vec())).expect(400);
}

#[test]
fn each_operation_of_a_bulk_request_is_told_by_its_place() {
    let house = house();
    let corp = house.corp();
    let operations = json!([
        {"method": "POST", "path": "/Groups", "bulkId": "g", "data": group("Team", &["bulkId:u"])},
        {"method": "POST", "path": "/Users", "bulkId": "u", "data": user("ada")},
        {"method": "DELETE", "path": "/Users/00000000-0000-7000-8000-000000000000"},
    ]);
    let body = json!({"schemas": [BULK], "Operations": operations});
    let asked = ask(&corp, "POST", "/Bulk", &body);
    let sets = completion(&corp, &asked);
    let seen: Vec<(String, &str)> = sets
        .iter()
        .map(|set| {
            (set["txn"].as_str().unwrap().to_string(), set["events"][COMPLETED]["status"].as_str().unwrap())
        })
        .collect();
    let txn = txn(&asked);
    let expected = [(format!("{txn}:0"), "201"), (format!("{txn}:1"), "201"), (format!("{txn}:2"), "404")];
    assert_eq!(seen, expected);
    assert_eq!(sets[1]["events"][COMPLETED]["bulkId"], "u");
    let waited = json!({"schemas": [BULK], "Operations": [
        {"method": "POST", "path": "/Users", "bulkId": "u", "data": user("eve")}]});
    let reply = corp.send(
        "POST",
        "/Bulk",
        &[("Prefer", "respond-async, wait=10")],
        Some(waited.to_string().into_bytes()),
    );
    assert_eq!(reply.expect(200).body["Operations"][0]["status"], "201");
}

/// The first of a circle is made without its reference; when the errors end the request, that is no success.
#[test]
fn a_circle_that_errors_end_is_not_told_as_made() {
    let house = house();
    let corp = house.corp();
    let mut second = group("B", &["bulkId:a"]);
    second["displayName"] = json!(5);
    let operations = json!([
        {"method": "POST", "path": "/Groups", "bulkId": "a", "data": group("A", &["bulkId:b"])},
        {"method": "POST", "path": "/Groups", "bulkId": "b", "data": second},
    ]);
    let body = json!({"schemas": [BULK], "failOnErrors": 1, "Operations": operations});
    let sets = completion(&corp, &ask(&corp, "POST", "/Bulk", &body));
    let statuses: Vec<&str> =
        sets.iter().map(|set| set["events"][COMPLETED]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["409", "400"]);
    let location = sets[0]["events"][COMPLETED]["location"].as_str().unwrap();
    let path = location.split("/scim/v2").nth(1).unwrap();
    assert_eq!(corp.get(path).expect(200).body.get("members"), None);
}

#[test]
fn what_was_accepted_is_carried_out_once_through_a_crash() {
    let mut house = house();
    let corp = house.corp();
    let count = 300;
    let operations: Vec<Value> = (0..count)
        .map(|number| {
            json!({"method": "POST", "path": "/Users", "bulkId": format!("u{number}"), "data": user(&format!("user{number}"))})
        })
        .collect();
    let asked = ask(&corp, "POST", "/Bulk", &json!({"schemas": [BULK], "Operations": operations}));
    eventually("a part of it is done", || {
        (corp.get("/Users?count=0").expect(200).body["totalResults"].as_u64()? > 10).then_some(())
    });
    house.kill();
    house.start_again();
    let corp = house.corp();
    let sets = completion(&corp, &asked);
    assert_eq!(sets.len(), count);
    assert!(sets.iter().all(|set| set["events"][COMPLETED]["status"] == "201"), "{sets:?}");
    assert_eq!(corp.get("/Users?count=0").expect(200).body["totalResults"], count);
    let created = house.events("corp").iter().filter(|event| event["kind"] == "Created").count();
    assert_eq!(created, count, "each once");
    assert!(house.log().contains("taking over an accepted request"), "it was cut in the middle");
}

/// Writes a request down as a gateway does that dies right after it.
fn abandon(house: &House, txn: &str, since: u64, single: bool, operations: &Value) {
    let record = json!({
        "source": "abandoned", "dialect": "rfc", "actor": "nobody", "address": "", "base_url": house.env("SCIM_URL"),
        "single": single, "errors_max": 1, "operations": operations, "since": since, "until": "2026-01-01T00:00:00Z",
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url = house.env("NATS_URL").to_string();
        let connect_timeout = std::time::Duration::from_secs(10);
        let broker = nats::connect(&nats::Config { url, replicas: 1, connect_timeout, ..Default::default() })
            .await
            .unwrap();
        let master = std::fs::read_to_string(house.data_dir().join("master.key")).unwrap();
        let keyring = Keyring::new(broker.keys.clone(), DataKey::from_hex(&master).unwrap());
        let key = format!("corp.{txn}");
        let sealed =
            keyring.seal(&"corp".parse().unwrap(), record.to_string().as_bytes(), key.as_bytes()).await;
        broker.requests.create(&key, sealed.unwrap()).await.unwrap();
    });
}

fn completed(client: &Client, txn: &str) -> Vec<Value> {
    eventually("the completion", || {
        let answer = client.get(&format!("/Requests/{txn}"));
        (answer.status == 200).then(|| answer.body["sets"].as_array().unwrap().clone())
    })
}

/// Nothing of it was done, and nobody writes anything that would wake a reader of the log.
#[test]
fn an_abandoned_request_does_not_wait_for_others_to_write() {
    let house = house();
    let corp = house.corp().with_token(&house.token_of("corp", "abandoned", "rfc"));
    let last = 1;
    corp.post("/Users", &user("first")).expect(201);
    let (one, two) = ("00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002");
    abandon(&house, one, last, true, &json!([{"method": "POST", "path": "/Users", "data": user("ada")}]));
    abandon(&house, two, last, true, &json!([{"method": "POST", "path": "/Users", "data": user("first")}]));
    assert_eq!(completed(&corp, one)[0]["events"][COMPLETED]["status"], "201");
    assert_eq!(completed(&corp, two)[0]["events"][COMPLETED]["status"], "409");
    assert!(corp.find("/Users", "userName", "ada").is_some());
}

/// The first resource of a circle was made without its reference when everything ended.
#[test]
fn a_circle_that_was_cut_is_closed() {
    let house = house();
    let corp = house.corp().with_token(&house.token_of("corp", "abandoned", "rfc"));
    let first = json!({"schemas": [BULK], "Operations": [
        {"method": "POST", "path": "/Groups", "bulkId": "a", "data": group("A", &[])}]});
    corp.post("/Bulk", &first).expect(200);
    let event = &house.events("corp")[0];
    let txn = event["txn"].as_str().unwrap().strip_suffix(":0").unwrap();
    let operations = json!([
        {"method": "POST", "path": "/Groups", "bulkId": "a", "data": group("A", &["bulkId:b"])},
        {"method": "POST", "path": "/Groups", "bulkId": "b", "data": group("B", &["bulkId:a"])},
    ]);
    abandon(&house, txn, 0, false, &operations);
    let sets = completed(&corp, txn);
    assert!(sets.iter().all(|set| set["events"][COMPLETED]["status"] == "201"), "{sets:?}");
    let groups = corp.get("/Groups").expect(200);
    assert_eq!(groups.body["totalResults"], 2, "each once");
    for shown in groups.body["Resources"].as_array().unwrap() {
        assert_eq!(shown["members"].as_array().map(Vec::len), Some(1), "{shown}");
    }
}

/// Somebody who is active is asked to be, which changes nothing, and is switched off. Then everything ended.
#[test]
fn what_changed_nothing_is_not_done_again_after_what_came_behind_it() {
    let house = house();
    let corp = house.corp().with_token(&house.token_of("corp", "abandoned", "rfc"));
    let path = |reply: &Reply| format!("/Users/{}", reply.body["id"].as_str().unwrap());
    let [ada, bob] = ["ada", "bob"].map(|name| path(&corp.post("/Users", &user(name)).expect(201)));
    let switch = |path: &str, active: bool| {
        let data = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                          "Operations": [{"op": "replace", "path": "active", "value": active}]});
        json!({"method": "PATCH", "path": path, "data": data})
    };
    let operations = json!([switch(&ada, true), switch(&ada, false)]);
    corp.post("/Bulk", &json!({"schemas": [BULK], "Operations": operations})).expect(200);
    let events = house.events("corp");
    let txn = events.last().unwrap()["txn"].as_str().unwrap().strip_suffix(":1").unwrap();
    // What had not been reached is carried out.
    let operations = json!([operations[0], operations[1], switch(&bob, false)]);
    abandon(&house, txn, 0, false, &operations);
    let sets = completed(&corp, txn);
    let statuses: Vec<&str> =
        sets.iter().map(|set| set["events"][COMPLETED]["status"].as_str().unwrap()).collect();
    for path in [&ada, &bob] {
        assert_eq!(corp.get(path).expect(200).body["active"], false, "{sets:?}");
    }
    assert_eq!(statuses, ["409", "200", "200"]);
}
