//! The parts of RFC 7644 and RFC 9865 that few clients use, from the street.

#![cfg(test)]

use serde_json::{Value, json};
use street::House;
use street::house::{Client, Options, Reply, group, user};

const SEARCH: &str = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const BULK: &str = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn house() -> House {
    let configuration = "[gateway.limits]\nbulk_operations_max = 8\npage_max = 50\ncursor_timeout_s = 3600\n";
    House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(configuration.to_string()),
        ..Options::default()
    })
}

fn names(reply: &Reply) -> Vec<String> {
    let resources = reply.body["Resources"].as_array().unwrap();
    let name = |one: &Value| one["userName"].as_str().or(one["displayName"].as_str()).unwrap().to_string();
    resources.iter().map(name).collect()
}

fn bulk(corp: &Client, fail_on_errors: Option<u32>, operations: Value) -> Reply {
    let mut body = json!({"schemas": [BULK], "Operations": operations});
    if let Some(count) = fail_on_errors {
        body["failOnErrors"] = count.into();
    }
    corp.post("/Bulk", &body)
}

fn statuses(reply: &Reply) -> Vec<&str> {
    let operations = reply.body["Operations"].as_array().unwrap();
    operations.iter().map(|operation| operation["status"].as_str().unwrap()).collect()
}

#[test]
fn search_sort_and_the_root() {
    let house = house();
    let corp = house.corp();
    for name in ["cyd", "Ada", "bob"] {
        corp.post("/Users", &user(name)).expect(201);
    }
    corp.post("/Groups", &group("Team", &[])).expect(201);
    let sorted = corp.get("/Users?sortBy=userName&attributes=userName").expect(200);
    assert_eq!(names(&sorted), ["Ada", "bob", "cyd"]);
    assert_eq!(
        names(&corp.get("/Users?sortBy=userName&sortOrder=descending&startIndex=2").expect(200)),
        ["bob", "Ada"]
    );
    assert_eq!(names(&corp.get("/Users").expect(200)), ["cyd", "Ada", "bob"], "the order of creation");
    assert_eq!(corp.get("/Users?sortBy=name").expect(400).body["scimType"], "invalidValue");
    let body = json!({"schemas": [SEARCH], "filter": "userName sw \"b\" or displayName eq \"team\"", "attributes": ["userName"]});
    let found = corp.post("/Users/.search", &body).expect(200);
    assert_eq!(names(&found), ["bob"]);
    assert!(found.body["Resources"][0].get("name").is_none() && found.header("location").is_none());
    let body = json!({"schemas": [SEARCH], "filter": "userName sw \"b\" or displayName eq \"team\""});
    assert_eq!(names(&corp.post("/.search", &body).expect(200)), ["bob", "Team"]);
    assert_eq!(corp.get("/").expect(200).body["totalResults"], 4);
    let groups = corp.get("/?filter=meta.resourceType%20eq%20%22Group%22").expect(200);
    assert_eq!(names(&groups), ["Team"]);
    // What a type does not have has no value there.
    for nobody in ["emails%5Btype%20eq%20%22none%22%5D", "emails.type%20eq%20%22none%22"] {
        assert_eq!(corp.get(&format!("/?filter={nobody}")).expect(200).body["totalResults"], 0);
    }
    assert_eq!(
        corp.get("/Users?filter=&count=&startIndex=&sortBy=&sortOrder=").expect(200).body["totalResults"],
        3
    );
    let urn = "urn:ietf:params:scim:schemas:core:2.0";
    let all = corp.get(&format!("/?filter={urn}:User%20pr%20or%20{urn}:Group%20pr")).expect(200);
    assert_eq!(all.body["totalResults"], 4);
    let ada =
        corp.get("/Users?filter=userName%20eq%20%22ada%22").expect(200).body["Resources"][0]["id"].clone();
    let crew = corp.post("/Groups", &group("Crew", &[ada.as_str().unwrap()])).expect(201).id();
    let seen = corp.get(&format!("/Groups/{crew}?attributes={urn}:Group")).expect(200);
    assert_eq!(seen.body["members"][0]["value"], ada);
    let seen = corp.get(&format!("/Users/{}?attributes={urn}:User", ada.as_str().unwrap())).expect(200);
    assert_eq!(seen.body["groups"][0]["value"], crew);
    assert_eq!(
        corp.post("/Users/.search", &json!({"filter": "userName pr"})).expect(400).body["scimType"],
        "invalidSyntax"
    );
    assert_eq!(corp.get("/Users/.search").expect(405).header("allow"), Some("POST"));
    // Whoever has no token learns nothing else.
    for path in ["/Users/%FF", "/%FF", "/Schemas/%C3"] {
        let reply = corp.get(path).expect(404);
        assert!(reply.body["detail"].as_str().unwrap().contains("not UTF-8"), "{path}: {}", reply.text);
    }
    corp.with_token("nobody").get("/Users/%FF").expect(401);
    let elsewhere = Client::new(&house.env("SCIM_URL").replace("/corp/", "/%FF/"), house.env("SCIM_TOKEN"));
    elsewhere.get("/").expect(404);
    let old = Client::new(&house.env("SCIM_URL").replace("/v2", "/v1"), house.env("SCIM_TOKEN"));
    assert_eq!(old.get("/Users").expect(400).body["scimType"], "invalidVers");
}

#[test]
fn cursors_stay_true_while_the_directory_changes() {
    let house = house();
    let corp = house.corp();
    let ids: Vec<String> =
        (0..25).map(|number| corp.post("/Users", &user(&format!("u{number:02}"))).expect(201).id()).collect();
    for question in ["", "&sortBy=userName", "&filter=userName%20sw%20%22u%22"] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        for page in 0.. {
            let reply = corp.get(&format!("/Users?count=10&cursor={cursor}{question}")).expect(200);
            assert!(reply.body.get("startIndex").is_none());
            seen.extend(names(&reply));
            let Some(next) = reply.body["nextCursor"].as_str() else { break };
            assert!(page < 5, "there is no end");
            cursor = next.to_string();
            if page == 0 {
                // The last of the page that was read, and one that was not yet.
                let _ = corp.delete(&format!("/Users/{}", ids[9]));
                let _ = corp.post("/Users", &user("u09"));
            }
        }
        let unique: std::collections::BTreeSet<&String> = seen.iter().collect();
        assert!(unique.len() >= 25 && seen.len() <= 26, "{question}: {seen:?}");
        for name in ["u00", "u08", "u10", "u24"] {
            assert_eq!(seen.iter().filter(|one| *one == name).count(), 1, "{question}: {name} in {seen:?}");
        }
    }
    let next =
        corp.get("/Users?count=10&cursor").expect(200).body["nextCursor"].as_str().unwrap().to_string();
    let refused =
        |question: String| corp.get(&question).expect(400).body["scimType"].as_str().unwrap().to_string();
    assert_eq!(refused(format!("/Users?count=11&cursor={next}")), "invalidCount");
    assert_eq!(refused(format!("/Groups?count=10&cursor={next}")), "invalidCursor");
    assert_eq!(refused(format!("/Users?count=10&sortBy=id&cursor={next}")), "invalidCursor");
    assert_eq!(refused("/Users?count=10&cursor=AAAA".to_string()), "invalidCursor");
    let other = corp.with_token(&house.token("okta"));
    assert_eq!(
        other.get(&format!("/Users?count=10&cursor={next}")).expect(400).body["scimType"],
        "invalidCursor"
    );
    let offered = corp.get("/ServiceProviderConfig").expect(200).body;
    assert_eq!(
        (&offered["pagination"]["cursor"], &offered["pagination"]["cursorTimeout"]),
        (&json!(true), &json!(3600))
    );
}

/// Whoever has nothing to sort by stands at an end of the list, and a page can end there too.
#[test]
fn a_sorted_list_is_whole_in_pages_of_any_size() {
    let house = house();
    let corp = house.corp();
    let mut ids = Vec::new();
    for (name, title) in [("u1", Some("b")), ("u2", None), ("u3", Some("a")), ("u4", None), ("u5", Some("A"))]
    {
        let mut user = user(name);
        user["title"] = json!(title);
        ids.push(corp.post("/Users", &user).expect(201).id());
    }
    corp.post("/Groups", &group("One", &[&ids[1], &ids[2]])).expect(201);
    corp.post("/Groups", &group("Another", &[&ids[3]])).expect(201);
    let questions = [
        "sortBy=title",
        "sortBy=groups.display",
        "sortBy=active",
        "sortBy=members.display",
        "sortBy=shoeSize",
    ];
    for (root, by) in ["/Users", "/"].into_iter().flat_map(|root| questions.map(|by| (root, by))) {
        for order in ["ascending", "descending"] {
            let question = format!("{root}?{by}&sortOrder={order}");
            let whole = names(&corp.get(&question).expect(200));
            for count in 1..=whole.len() {
                let (mut paged, mut cursor) = (Vec::new(), String::new());
                while paged.len() <= whole.len() {
                    let page = corp.get(&format!("{question}&count={count}&cursor={cursor}")).expect(200);
                    paged.extend(names(&page));
                    let Some(next) = page.body["nextCursor"].as_str() else { break };
                    cursor = next.to_string();
                }
                assert_eq!(paged, whole, "{question} in pages of {count}");
            }
        }
    }
}

/// In a PATCH, a PUT and in a request that makes a group, which then is not made at all.
#[test]
fn nobody_becomes_a_member_of_itself() {
    let house = house();
    let corp = house.corp();
    let team = corp.post("/Groups", &group("Team", &[])).expect(201).id();
    let path = format!("/Groups/{team}");
    let events = house.events("corp").len();
    let refused = |reply: Reply| assert_eq!(reply.expect(400).body["scimType"], "invalidValue");
    refused(corp.patch(&path, json!([{"op": "add", "path": "members", "value": [{"value": team}]}])));
    refused(corp.put(&path, &group("Team", &[&team])));
    let patch = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "add", "path": "members", "value": [{"value": team}]}],
    });
    let operations = json!([
        {"method": "POST", "bulkId": "own", "path": "/Groups", "data": group("Own", &["bulkId:own"])},
        {"method": "PATCH", "path": path, "data": patch},
    ]);
    assert_eq!(statuses(&bulk(&corp, None, operations)), ["400", "400"]);
    assert_eq!(corp.get("/Groups").expect(200).body["totalResults"], 1);
    assert_eq!(house.events("corp").len(), events, "nothing is written");
}

/// RFC 7644 §3.5.2.2, with what a client reads of members.
#[test]
fn members_go_by_what_is_shown_of_them() {
    let house = house();
    let corp = house.corp();
    let [ann, bob] = ["ann", "bob"].map(|name| corp.post("/Users", &user(name)).expect(201).id());
    let inner = corp.post("/Groups", &group("Inner", &[])).expect(201).id();
    let team = corp.post("/Groups", &group("Team", &[&ann, &bob, &inner])).expect(201);
    let path = format!("/Groups/{}", team.id());
    let shown = team.body["members"].as_array().unwrap().clone();
    let of = |id: &str| shown.iter().find(|member| member["value"] == id).unwrap();
    let left = |filter: String, expected: &[&String]| {
        let reply =
            corp.patch(&path, json!([{"op": "remove", "path": format!("members[{filter}]")}])).expect(200);
        let members = reply.body["members"].as_array().cloned().unwrap_or_default();
        let ids: Vec<String> =
            members.iter().map(|member| member["value"].as_str().unwrap().to_string()).collect();
        assert_eq!(ids.iter().collect::<Vec<_>>(), expected, "{filter}");
    };
    left(format!("display ne {} and type eq \"Robot\"", of(&ann)["display"]), &[&ann, &bob, &inner]);
    left(format!("$ref eq {}", of(&ann)["$ref"]), &[&bob, &inner]);
    left(format!("display ne {}", of(&bob)["display"]), &[&bob]);
    left("type eq \"User\"".to_string(), &[]);
}

#[test]
fn bulk_resolves_references_in_any_order_and_in_circles() {
    let house = house();
    let corp = house.corp();
    let post = |bulk_id: &str, path: &str, data: Value| json!({"method": "POST", "bulkId": bulk_id, "path": path, "data": data});
    let mut boss = user("boss");
    boss["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE]);
    boss[ENTERPRISE] = json!({"department": "Board", "manager": {"value": "bulkId:boss"}});
    let reply = bulk(
        &corp,
        None,
        json!([
            post("team", "/Groups", group("Team", &["bulkId:ada", "bulkId:inner"])),
            post("inner", "/Groups", group("Inner", &["bulkId:team"])),
            post("ada", "/Users", user("ada")),
            post("boss", "/Users", boss),
            {"method": "PATCH", "path": "/Users/bulkId:ada", "data": {
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                "Operations": [{"op": "replace", "path": "title", "value": "Countess"}]}},
            post("twin", "/Users", user("ADA")),
            post("lost", "/Groups", group("Lost", &["bulkId:twin"])),
            {"method": "DELETE", "path": "/Users/none"},
        ]),
    )
    .expect(200);
    assert_eq!(statuses(&reply), ["201", "201", "201", "201", "200", "409", "409", "404"], "{}", reply.text);
    let operations = &reply.body["Operations"];
    assert_eq!(operations[5]["response"]["scimType"], "uniqueness");
    assert_eq!(operations[5].get("location"), None);
    let ada = corp.find("/Users", "userName", "ada").unwrap();
    assert_eq!(operations[2]["location"], ada["meta"]["location"]);
    assert_eq!(operations[4]["version"], ada["meta"]["version"]);
    assert_eq!(ada["title"], "Countess");
    let team = corp.find("/Groups", "displayName", "Team").unwrap();
    let inner = corp.find("/Groups", "displayName", "Inner").unwrap();
    assert_eq!(team["members"].as_array().unwrap().len(), 2);
    assert_eq!(inner["members"][0]["value"], team["id"]);
    assert_eq!(operations[0]["version"], team["meta"]["version"]);
    let boss = corp.find("/Users", "userName", "boss").unwrap();
    assert_eq!(boss[ENTERPRISE]["manager"]["value"], boss["id"]);
    assert_eq!(boss[ENTERPRISE]["department"], "Board");

    // What was begun is carried out to its end, or said to be unfinished, even when errors end the rest.
    let broken = json!({"method": "POST", "bulkId": "c", "path": "/Groups", "data": group("C", &["bulkId:b", "nobody"])});
    let circle =
        [post("a", "/Groups", group("A", &["bulkId:b"])), post("b", "/Groups", group("B", &["bulkId:a"]))];
    let reply = bulk(&corp, Some(1), json!([circle[0], circle[1], broken])).expect(200);
    assert_eq!(statuses(&reply), ["201", "201", "400"], "{}", reply.text);
    let made = corp.find("/Groups", "displayName", "A").unwrap();
    let other = corp.find("/Groups", "displayName", "B").unwrap();
    assert_eq!(made["members"][0]["value"], other["id"], "{made}");
    let spoilt = post("e", "/Groups", group("E", &["bulkId:d", "nobody"]));
    let reply =
        bulk(&corp, Some(1), json!([post("d", "/Groups", group("D", &["bulkId:e"])), spoilt])).expect(200);
    assert_eq!(statuses(&reply), ["409", "400"], "{}", reply.text);

    let wrong = |name: &str| json!({"method": "DELETE", "path": format!("/Users/{name}")});
    let reply = bulk(&corp, Some(2), json!([wrong("a"), wrong("b"), wrong("c")])).expect(200);
    assert_eq!(statuses(&reply), ["404", "404"]);
    let many: Vec<Value> = (0..9).map(|_| wrong("a")).collect();
    assert!(
        bulk(&corp, None, json!(many)).expect(413).body["detail"].as_str().unwrap().contains("maxOperations")
    );
    let stale = json!({"method": "DELETE", "path": format!("/Users/{}", ada["id"].as_str().unwrap()), "version": "W/\"1-0\""});
    assert_eq!(statuses(&bulk(&corp, None, json!([stale])).expect(200)), ["412"]);
    corp.post("/Bulk", &json!({"Operations": []})).expect(400);
    assert_eq!(corp.get("/ServiceProviderConfig").body["bulk"]["maxOperations"], 8);
}

#[test]
fn derived_values_are_fresh_and_move_no_version() {
    let house = house();
    let corp = house.corp();
    let boss = corp.post("/Users", &user("boss")).expect(201).id();
    let mut ada = user("ada");
    ada["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE]);
    ada[ENTERPRISE] = json!({"manager": {"value": boss, "displayName": "client's word"}});
    let ada = corp.post("/Users", &ada).expect(201).id();
    let inner = corp.post("/Groups", &group("Inner", &[&ada])).expect(201).id();
    let outer = corp.post("/Groups", &group("Outer", &[&inner])).expect(201).id();
    corp.patch(
        &format!("/Groups/{inner}"),
        json!([{"op": "add", "path": "members", "value": [{"value": outer}]}]),
    )
    .expect(200);
    let path = format!("/Users/{ada}");
    let found = corp.get(&path).expect(200);
    let groups: Vec<(&str, &str)> = found.body["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (group["display"].as_str().unwrap(), group["type"].as_str().unwrap()))
        .collect();
    assert_eq!(groups, [("Inner", "direct"), ("Outer", "indirect")]);
    let manager = &found.body[ENTERPRISE]["manager"];
    assert_eq!(manager["displayName"], "Person boss");
    assert!(manager["$ref"].as_str().unwrap().ends_with(&format!("/Users/{boss}")));
    let version = found.header("etag").unwrap().to_string();
    // What was read and is written back unchanged is no change.
    assert_eq!(corp.put(&path, &found.body).expect(200).header("etag"), Some(version.as_str()));
    let again = |expected: u16| {
        let reply = corp.send("GET", &path, &[("If-None-Match", &version)], None).expect(expected);
        assert_eq!(reply.header("etag"), Some(version.as_str()));
        reply
    };
    let filter = format!("/Users?filter=groups.value%20eq%20%22{outer}%22");
    assert_eq!(names(&corp.get(&filter).expect(200)), ["ada"]);
    corp.patch(
        &format!("/Users/{boss}"),
        json!([{"op": "replace", "path": "displayName", "value": "The Boss"}]),
    )
    .expect(200);
    assert_eq!(again(200).body[ENTERPRISE]["manager"]["displayName"], "The Boss");
    corp.patch(&format!("/Groups/{outer}"), json!([{"op": "remove", "path": "members"}])).expect(200);
    assert_eq!(again(200).body["groups"].as_array().unwrap().len(), 1);
    assert_eq!(corp.get(&filter).expect(200).body["totalResults"], 0);
}

#[test]
fn me_is_whom_the_credential_stands_for() {
    let house = house();
    let corp = house.corp();
    corp.get("/Me").expect(501);
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    let minted = house.rollcall(&["token", "create", "--tenant", "corp", "--source", "self", "--user", &ada]);
    let me = corp.with_token(minted.lines().find(|line| line.starts_with("rc_")).unwrap());
    let found = me.get("/Me").expect(200);
    assert_eq!(found.id(), ada);
    assert!(found.header("location").unwrap().ends_with(&format!("/Users/{ada}")));
    me.patch("/Me", json!([{"op": "replace", "path": "nickName", "value": "A"}])).expect(200);
    assert_eq!(corp.get(&format!("/Users/{ada}")).expect(200).body["nickName"], "A");
    // In a Bulk request, too, and with the whole URL.
    let rename = |name: &str| json!({"schemas": [PATCH], "Operations": [{"op": "add", "path": "nickName", "value": name}]});
    let whole = format!("{}/Me/", house.env("SCIM_URL"));
    let operations = json!([
        {"method": "PATCH", "path": "/Me", "data": rename("B")},
        {"method": "PATCH", "path": whole, "data": rename("C")},
        {"method": "POST", "path": "/Me", "bulkId": "a", "data": user("bob")},
        {"method": "PATCH", "path": format!("/Users/{ada}"), "data": rename("D")},
    ]);
    let done = bulk(&me, None, operations.clone());
    assert_eq!(statuses(&done), ["200", "200", "501", "200"], "{}", done.text);
    let location = done.body["Operations"][0]["location"].as_str().unwrap();
    assert!(location.ends_with(&format!("/Users/{ada}")), "{location}");
    assert_eq!(me.get("/Me").expect(200).body["nickName"], "D");
    assert_eq!(statuses(&bulk(&corp, None, operations))[..3], ["501", "501", "501"]);
    let nobody = format!("{}/Users/17", house.env("SCIM_URL"));
    let missed = bulk(
        &corp,
        None,
        json!([{"method": "DELETE", "path": nobody}, {"method": "DELETE", "path": "Users/17/"}]),
    );
    assert_eq!(statuses(&missed), ["404", "404"]);
    for operation in missed.body["Operations"].as_array().unwrap() {
        assert_eq!(operation["location"], nobody.as_str());
    }
    me.delete("/Me").expect(204);
    me.get("/Me").expect(404);
    let gone = bulk(&me, None, json!([{"method": "DELETE", "path": "/Me"}]));
    assert_eq!(statuses(&gone), ["404"]);
}
