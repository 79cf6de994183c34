//! Bad input gets the status, the keyword and a sentence that helps, and writes nothing.

#![cfg(test)]

use serde_json::json;
use street::House;
use street::house::{Options, user};

#[test]
fn bad_requests_are_refused_and_write_nothing() {
    let configuration = Some(
        "[gateway.limits]\nbody_bytes_max = 20000\nmembers_max = 10\npatch_operations_max = 5\nattributes_max = 3\n"
            .to_string(),
    );
    let house = House::start_with(Options { configuration, ..Options::default() });
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    let team = corp.post("/Groups", &street::house::group("Team", &[])).expect(201).id();
    let events = house.events("corp").len();

    let ops = |operations: serde_json::Value| {
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations})
            .to_string()
    };
    let many: Vec<_> = (0..20).map(|_| json!({"op": "add", "path": "title", "value": "x"})).collect();
    let members: Vec<_> = (0..20).map(|_| json!({"value": id})).collect();
    let (user_path, team_path) = (format!("/Users/{id}"), format!("/Groups/{team}"));
    let big = user(&"x".repeat(30_000)).to_string();
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let long_filter = format!("/Users?filter=userName%20eq%20%22{}%22", "x".repeat(9_000));
    let cases: Vec<(&str, &str, String, u16, Option<&str>)> = vec![
        ("POST", "/Users", "{".to_string(), 400, Some("invalidSyntax")),
        ("POST", "/Users", "[]".to_string(), 400, Some("invalidSyntax")),
        ("POST", "/Users", deep, 400, Some("invalidSyntax")),
        ("POST", "/Users", "\u{0}".to_string(), 400, Some("invalidSyntax")),
        ("POST", "/Users", json!({"userName": "x"}).to_string(), 400, Some("invalidSyntax")),
        (
            "POST",
            "/Users",
            json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"]}).to_string(),
            400,
            Some("invalidValue"),
        ),
        ("POST", "/Users", user("ADA").to_string(), 409, Some("uniqueness")),
        ("POST", "/Users", big, 413, None),
        ("POST", "/Nothing", "{}".to_string(), 404, None),
        (
            "PATCH",
            &user_path,
            ops(json!([{"op": "add", "path": "shoeSize", "value": 1}])),
            400,
            Some("invalidPath"),
        ),
        (
            "PATCH",
            &user_path,
            ops(json!([{"op": "add", "path": "emails[type eq", "value": 1}])),
            400,
            Some("invalidFilter"),
        ),
        ("PATCH", &user_path, ops(json!([{"op": "remove"}])), 400, Some("noTarget")),
        ("PATCH", &user_path, ops(json!([{"op": "remove", "path": "userName"}])), 400, Some("mutability")),
        (
            "PATCH",
            &user_path,
            ops(json!([{"op": "replace", "path": "active", "value": "maybe"}])),
            400,
            Some("invalidValue"),
        ),
        ("PATCH", &user_path, ops(json!(many)), 413, None),
        ("PATCH", &user_path, "{}".to_string(), 400, Some("invalidSyntax")),
        ("PATCH", &team_path, ops(json!([{"op": "add", "path": "members", "value": members}])), 413, None),
        (
            "PATCH",
            &team_path,
            ops(json!([{"op": "add", "path": "members", "value": [{"value": "nobody"}]}])),
            400,
            Some("invalidValue"),
        ),
        ("PATCH", "/Users/nobody", "{}".to_string(), 404, None),
        ("PUT", "/Users/01890a5d-ac96-774b-bcce-b302099a8057", user("x").to_string(), 404, None),
        ("DELETE", "/Users/nobody", String::new(), 404, None),
        ("GET", "/Users/nobody", String::new(), 404, None),
        ("GET", "/Users?filter=userName%20xx%20%22a%22", String::new(), 400, Some("invalidFilter")),
        ("GET", "/Users?filter=password%20eq%20%22a%22", String::new(), 400, Some("invalidFilter")),
        ("GET", &long_filter, String::new(), 400, Some("invalidFilter")),
        ("GET", "/Users?startIndex=one", String::new(), 400, Some("invalidValue")),
        ("GET", "/Users?attributes=id&excludedAttributes=name", String::new(), 400, Some("invalidValue")),
        ("GET", "/Users?attributes=id,userName,title,name", String::new(), 400, Some("invalidValue")),
        ("GET", "/Schemas?filter=id%20pr", String::new(), 403, None),
        ("GET", "/Schemas/urn:nothing", String::new(), 404, None),
        ("PATCH", "/Users", "{}".to_string(), 405, None),
        ("POST", "/Schemas", "{}".to_string(), 405, None),
    ];
    for (method, path, body, status, scim_type) in cases {
        let place = format!("{method} {} {}", &path[..path.len().min(80)], &body[..body.len().min(80)]);
        let body = (!body.is_empty()).then(|| body.into_bytes());
        let reply = corp.send(method, path, &[], body);
        assert_eq!(reply.status, status, "{place}: {}", reply.text);
        assert_eq!(reply.body["status"], status.to_string(), "{place}: {}", reply.text);
        assert_eq!(reply.body["schemas"][0], "urn:ietf:params:scim:api:messages:2.0:Error", "{place}");
        assert_eq!(reply.body["scimType"].as_str(), scim_type, "{place}: {}", reply.text);
        assert!(reply.body["detail"].as_str().unwrap().len() > 10, "{place}: {}", reply.text);
        assert_eq!(reply.header("content-type"), Some("application/scim+json"), "{place}");
        if status == 405 {
            assert!(
                reply.header("allow").is_some_and(|allow| allow.contains("GET")),
                "{place}: {:?}",
                reply.headers
            );
        }
    }
    corp.send("POST", "/Users", &[("Content-Type", "text/xml")], Some(b"<user/>".to_vec())).expect(415);
    let packed = corp
        .send("POST", "/Users", &[("Content-Encoding", "gzip")], Some(vec![0x1f, 0x8b, 8, 0]))
        .expect(415);
    assert!(packed.body["detail"].as_str().unwrap().contains("Content-Encoding"), "{}", packed.text);
    let invalid = corp.send("POST", "/Users", &[], Some(vec![b'{', b'"', 0xff, b'"', b'}'])).expect(400);
    assert_eq!(invalid.body["scimType"], "invalidSyntax");
    assert_eq!(house.events("corp").len(), events, "something was written");
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn answers_are_named_as_the_client_asks() {
    let house = House::start();
    let corp = house.corp();
    let body = || Some(user("ada").to_string().into_bytes());
    let latin = [("Content-Type", "application/json; charset=iso-8859-1")];
    corp.send("POST", "/Users", &latin, body()).expect(415);
    let utf_8 = [
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Content-Encoding", "identity"),
        ("Accept", "Application/JSON"),
    ];
    let made = corp.send("POST", "/Users", &utf_8, body()).expect(201);
    assert_eq!(made.header("content-type"), Some("application/json"));
    let one = format!("/Users/{}", made.id());
    for (path, status) in [
        ("/Users", 200),
        (&one, 200),
        ("/Users/nobody", 404),
        ("/Schemas", 200),
        ("/Nothing", 404),
        ("/a/b/c", 404),
    ] {
        for (accept, named) in [
            ("application/json", "application/json"),
            ("*/*", "application/scim+json"),
            ("application/json, application/scim+json", "application/scim+json"),
        ] {
            let reply = corp.send("GET", path, &[("Accept", accept)], None).expect(status);
            assert_eq!(reply.header("content-type"), Some(named), "{path} {accept}");
        }
    }
    // A slash at the end means the same.
    let stranger = corp.with_token("");
    for path in ["/Schemas/", "/ResourceTypes/", "/ServiceProviderConfig/", "/ResourceTypes/User/"] {
        assert_eq!(stranger.get(path).expect(200).body, corp.get(path.trim_end_matches('/')).body, "{path}");
    }
    assert_eq!(corp.get(&format!("{one}/")).expect(200).id(), made.id());
}

#[test]
fn tokens_open_their_tenant_until_they_are_revoked() {
    let house = House::start();
    let corp = house.corp();
    for token in ["", "wrong", "rc_a_b"] {
        let reply = corp.with_token(token).get("/Users").expect(401);
        assert_eq!(reply.body["status"], "401");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
    corp.with_token(house.env("APP_TOKEN")).get("/Users").expect(403);
    let token = house.token("okta");
    corp.with_token(&token).get("/Users").expect(200);
    let listed = house.rollcall(&["token", "list", "--tenant", "corp"]);
    let id = token.trim_start_matches("rc_").split('_').next().unwrap();
    assert!(listed.contains(id) && listed.contains("okta") && listed.contains("valid"), "{listed}");
    assert!(!listed.contains(&token), "the list shows the token");
    house.rollcall(&["token", "revoke", id, "--reason", "leaked"]);
    street::house::eventually("the token is refused", || {
        (corp.with_token(&token).get("/Users").status == 401).then_some(())
    });
    // The credential's own tenant answers below /scim/v2 too.
    let base = house.env("SCIM_URL").replace("/t/corp", "");
    let found = street::Client::new(&base, house.env("SCIM_TOKEN")).get("/Users").expect(200);
    assert_eq!(found.body["totalResults"], 0);
    // Discovery needs no token.
    corp.with_token("").get("/ServiceProviderConfig").expect(200);
    assert_eq!(corp.get("/ResourceTypes").expect(200).body["totalResults"], 2);
    assert_eq!(
        corp.get("/Schemas/urn:ietf:params:scim:schemas:core:2.0:User").expect(200).body["name"],
        "User"
    );
}

/// An answer is made as a whole, so there is a bound to what one may ask for.
#[test]
fn a_list_that_is_too_long_says_how_to_get_it() {
    let configuration = Some("[gateway.limits]\nanswer_bytes_max = 20000\n".to_string());
    let house = House::start_with(Options { configuration, ..Options::default() });
    let corp = house.corp();
    for name in ["ada", "bob", "eve"] {
        let mut long = user(name);
        long["displayName"] = json!(name.repeat(3_000));
        corp.post("/Users", &long).expect(201);
    }
    let search = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"]});
    for reply in [corp.get("/Users"), corp.get("/Users?cursor"), corp.get(""), corp.post("/.search", &search)]
    {
        let refused = reply.expect(400).body;
        assert_eq!(refused["scimType"], "tooMany", "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains("count"), "{refused}");
    }
    for first in 1..=3 {
        let page = corp.get(&format!("/Users?startIndex={first}&count=1")).expect(200).body;
        assert_eq!((&page["totalResults"], &page["itemsPerPage"]), (&json!(3), &json!(1)));
    }
    let page = corp.get("/Users?excludedAttributes=displayName").expect(200).body;
    assert_eq!(page["Resources"].as_array().unwrap().len(), 3);
}

/// A client keeps its connection: whatever is refused before its body was read must not take the next request along.
#[test]
fn a_refusal_leaves_the_connection_usable() {
    let configuration = Some("[gateway.limits]\nbody_bytes_max = 20000\n".to_string());
    let house = House::start_with(Options { configuration, ..Options::default() });
    let corp = house.corp();
    let big = user(&"x".repeat(3_000_000));
    for round in 0..20 {
        let answers = [
            corp.post("/Users", &big).status,
            corp.post("/Nothing", &big).status,
            corp.with_token("wrong").post("/Users", &big).status,
            corp.get("/Users?count=0").status,
        ];
        assert_eq!(answers, [413, 404, 401, 200], "round {round}");
    }
}
