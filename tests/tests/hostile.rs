//! Bodies that nobody sends by mistake: a SCIM error in bounded time and memory, and nothing written.

#![cfg(test)]

use serde_json::{Value, json};
use street::House;
use street::house::{Client, Options, user};

const CORE: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// Sends bytes and returns the status of a well-formed SCIM error.
fn refused(corp: &Client, method: &str, path: &str, body: impl Into<Vec<u8>>) -> (u16, String) {
    let reply = corp.send(method, path, &[], Some(body.into()));
    assert_eq!(reply.body["status"], json!(reply.status.to_string()), "{:.300}", reply.text);
    assert!(reply.text.len() < 4_000, "an error is short: {} bytes", reply.text.len());
    (reply.status, reply.body["scimType"].as_str().unwrap_or_default().to_string())
}

#[test]
fn hostile_bodies_are_refused() {
    let house = House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        // What is refused at its limit is refused for that, however slow the machine is.
        configuration: Some("[gateway.limits]\nrequest_timeout_ms = 60000\n".to_string()),
        ..Options::default()
    });
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    let path = format!("/Users/{id}");
    let version = corp.get(&path).expect(200).body["meta"]["version"].clone();
    let invalid_syntax = (400, "invalidSyntax".to_string());
    let wrap = |inner: &str| format!("{{\"schemas\": [\"{CORE}\"], \"userName\": \"eve\", {inner}}}");

    for (name, body) in [
        ("arrays in arrays", "[".repeat(1_000_000)),
        ("objects in objects", "{\"a\":".repeat(500_000)),
        ("a deep attribute", wrap(&format!("\"emails\": {}1{}", "[".repeat(5_000), "]".repeat(5_000)))),
        ("a huge number", wrap(&format!("\"x\": {}", "9".repeat(100_000)))),
        ("a huge exponent", wrap("\"x\": 1e999999999")),
        ("a name twice", wrap("\"userName\": \"mallory\"")),
        ("a name twice in other letters", wrap("\"USERNAME\": \"mallory\"")),
        (
            "a sub-attribute twice in other letters",
            wrap("\"name\": {\"givenName\": \"a\", \"givenname\": \"b\"}"),
        ),
    ] {
        assert_eq!(refused(&corp, "POST", "/Users", body), invalid_syntax, "{name}");
    }
    let not_utf8 = [wrap("\"title\": \"").into_bytes(), b"\xff\xfe\"}".to_vec()].concat();
    assert_eq!(refused(&corp, "POST", "/Users", not_utf8), invalid_syntax);
    let million = format!("[{}1]", "1,".repeat(1_000_000));
    let (status, _) = refused(&corp, "POST", "/Users", wrap(&format!("\"emails\": {million}")));
    assert_eq!(status, 400);
    let (status, _) = refused(&corp, "POST", "/Users", format!("{{\"schemas\": {million}}}"));
    assert_eq!(status, 400);
    let nul = wrap("\"x\": 1").replace("\"eve\"", "\"e\\u0000ve\"");
    assert_eq!(refused(&corp, "POST", "/Users", nul), (400, "invalidValue".to_string()));
    assert_eq!(refused(&corp, "POST", "/Users", vec![b' '; 9 * 1024 * 1024]).0, 413);

    // Names that no schema can have are names that no schema has.
    let strange = wrap(
        "\"\\u0000\": 1, \"a.b.c\": 2, \"\": 3, \"urn:\": 4, \"\\ud83d\\ude00\": [[]], \"__proto__\": {}",
    );
    let made = corp.send("POST", "/Users", &[], Some(strange.into_bytes())).expect(201);
    assert_eq!(corp.get(&format!("/Users/{}", made.id())).expect(200).body["userName"], "eve");

    let operations =
        |count: usize, operation: Value| json!({"schemas": [OP], "Operations": vec![operation; count]});
    let many = operations(10_000, json!({"op": "add", "path": "emails", "value": [{"value": "a@x.test"}]}));
    assert_eq!(refused(&corp, "PATCH", &path, many.to_string()).0, 413);
    let emails: Vec<Value> = (0..30_000).map(|number| json!({"value": format!("{number}@x.test")})).collect();
    let mut work = vec![json!({"op": "add", "path": "emails", "value": emails})];
    work.extend(
        (0..900)
            .map(|number| json!({"op": "add", "path": "emails", "value": [{"value": number.to_string()}]})),
    );
    let body = json!({"schemas": [OP], "Operations": work});
    assert_eq!(refused(&corp, "PATCH", &path, body.to_string()).0, 413, "too much to look at");
    let deep = format!("emails[{}value eq 1{}]", "(".repeat(1_000), ")".repeat(1_000));
    let body = json!({"schemas": [OP], "Operations": [{"op": "remove", "path": deep}]});
    assert_eq!(refused(&corp, "PATCH", &path, body.to_string()), (400, "invalidFilter".to_string()));
    let long = json!({"schemas": [OP], "Operations": [{"op": "remove", "path": "a".repeat(100_000)}]});
    assert_eq!(refused(&corp, "PATCH", &path, long.to_string()), (400, "invalidPath".to_string()));
    let terms = vec!["userName eq \"a\""; 5_000].join(" or ");
    let search = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "filter": terms});
    assert_eq!(
        refused(&corp, "POST", "/Users/.search", search.to_string()),
        (400, "invalidFilter".to_string())
    );
    let bulk = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
                      "Operations": vec![json!({"method": "DELETE", "path": "/Users/x"}); 10_000]});
    assert_eq!(refused(&corp, "POST", "/Bulk", bulk.to_string()).0, 413);

    assert_eq!(corp.get(&path).expect(200).body["meta"]["version"], version, "nothing was written");
    assert_eq!(house.events("corp").len(), 2);
    let log = house.log();
    assert!(!log.contains("panicked"), "{log}");
}
