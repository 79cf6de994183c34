//! A gateway whose directory is behind the log says nothing that the log contradicts: it waits, and when it has waited
//! long enough it says so. What the log delivers is held back here, while another gateway goes on writing.

#![cfg(test)]

use std::thread;

use serde_json::{Value, json};
use street::House;
use street::fleet::Gateway;
use street::house::{Client, Options, Reply, eventually, group, user};
use street::lag::Lag;

const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const CONSISTENCY: &str = "Rollcall-Consistency";
const POLICY: &str = "[tenant.corp.source.idp]\njoin = [\"nickName\"]\n";

/// A house, and a gateway on its broker that can be made to lag.
struct Street {
    house: House,
    lag: Lag,
    behind: Gateway,
}

fn street(limits: &str) -> Street {
    let house = House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(format!("[gateway.limits]\nrequest_timeout_ms = 40000\n{POLICY}")),
        ..Options::default()
    });
    let lag = Lag::start(house.env("NATS_URL"));
    let url = lag.url(house.env("NATS_URL"));
    let behind = Gateway::start_on(&house, &url, Some(&format!("[gateway.limits]\n{limits}\n{POLICY}")));
    Street { house, lag, behind }
}

fn latest(client: &Client, path: &str) -> Reply {
    client.send("GET", path, &[(CONSISTENCY, "latest")], None)
}

fn tag(reply: &Reply) -> String {
    reply.header("etag").expect("an ETag").to_string()
}

fn filtered(attribute: &str, value: &str) -> String {
    format!("/Users?filter={attribute}%20eq%20%22{value}%22")
}

/// A request, and what is true about its answer once the gateway knows everything.
struct Case<'a> {
    name: &'static str,
    send: Box<dyn Fn() -> Reply + Send + Sync + 'a>,
    holds: Box<dyn Fn(&Reply) -> bool + 'a>,
}

fn case<'a>(
    name: &'static str,
    send: impl Fn() -> Reply + Send + Sync + 'a,
    holds: impl Fn(&Reply) -> bool + 'a,
) -> Case<'a> {
    Case { name, send: Box::new(send), holds: Box::new(holds) }
}

/// Every one is answered "come back later" while the log is held back, and rightly when it is not.
fn check(street: &Street, cases: &[Case<'_>]) {
    let replies: Vec<Reply> = thread::scope(|scope| {
        let running: Vec<_> = cases.iter().map(|Case { send, .. }| scope.spawn(send)).collect();
        running.into_iter().map(|one| one.join().expect("a request")).collect()
    });
    let wrong: Vec<_> = cases
        .iter()
        .zip(&replies)
        .filter(|(_, reply)| reply.status != 503 || reply.header("retry-after").is_none())
        .map(|(case, reply)| (case.name, reply.status, &reply.text))
        .collect();
    assert!(wrong.is_empty(), "said from an old state: {wrong:#?}");
    street.lag.release();
    eventually("the gateway catches up", || {
        (latest(&street.behind.corp(), "/Users").status == 200).then_some(())
    });
    for case in cases {
        let reply = eventually(case.name, || Some((case.send)()).filter(|reply| reply.status != 503));
        assert!((case.holds)(&reply), "{}: {} {}", case.name, reply.status, reply.text);
    }
}

fn is(status: u16) -> impl Fn(&Reply) -> bool {
    move |reply| reply.status == status
}

fn finds(count: u64) -> impl Fn(&Reply) -> bool {
    move |reply| reply.status == 200 && reply.body["totalResults"] == json!(count)
}

fn body(operations: Value) -> Vec<u8> {
    json!({"schemas": [PATCH], "Operations": operations}).to_string().into_bytes()
}

fn known_by(name: &str, nick: &str) -> Value {
    let mut user = user(name);
    user["nickName"] = json!(nick);
    user
}

#[test]
fn what_appends_nothing_is_said_from_the_latest_state() {
    let street = street("request_timeout_ms = 2000");
    let (corp, behind) = (street.house.corp(), street.behind.corp());
    let made = |name: &str| corp.post("/Users", &user(name)).expect(201);
    let [path, noop, matched, gone, member] =
        ["path", "noop", "matched", "gone", "member"].map(|name| format!("/Users/{}", made(name).id()));
    let member_id = member.trim_start_matches("/Users/");
    let [plain, versioned] = ["Plain", "Versioned"]
        .map(|name| corp.post("/Groups", &group(name, &[member_id])).expect(201))
        .map(|made| (format!("/Groups/{}", made.id()), tag(&made)));
    let idp = behind.with_token(&street.house.token_of("corp", "idp", "rfc"));
    for path in [&path, &noop, &matched, &gone, &plain.0, &versioned.0] {
        latest(&behind, path).expect(200);
    }

    street.lag.hold("identity.");
    let [new, newer] = ["new", "newer"].map(|name| made(name).id());
    let home = json!([{"op": "add", "path": "emails", "value": [{"value": "h@corp.test", "type": "home"}]}]);
    corp.patch(&path, home).expect(200);
    let title = |title: &str| json!([{"op": "replace", "path": "title", "value": title}]);
    corp.patch(&noop, title("Dr")).expect(200);
    let matched_now = tag(&corp.patch(&matched, title("Dr")).expect(200));
    corp.delete(&gone).expect(204);
    corp.delete(&member).expect(204);
    let person = corp.post("/Users", &known_by("person", "Number 7")).expect(201).id();
    let minted =
        street.house.rollcall(&["token", "create", "--tenant", "corp", "--source", "me", "--user", &new]);
    let me = behind.with_token(minted.lines().find(|line| line.starts_with("rc_")).expect("a token"));

    let nobody = json!([{"op": "remove", "path": "title"}]);
    let bulk = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": [{"method": "PUT", "path": format!("/Users/{new}"), "data": user("new")}],
    });
    let cases = [
        case("a GET of nobody", || behind.get(&format!("/Users/{new}")), is(200)),
        case("a name that nobody has", || behind.get(&filtered("userName", "new")), finds(1)),
        case("another attribute", || behind.get(&filtered("displayName", "Person%20new")), finds(1)),
        case(
            "a search",
            || {
                let question = json!({
                    "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
                    "filter": "userName eq \"new\"",
                });
                behind.post("/Users/.search", &question)
            },
            finds(1),
        ),
        case("/Me", || me.get("/Me"), is(200)),
        case(
            "no target",
            || {
                let work = json!([{"op": "replace", "path": "emails[type eq \"home\"].value", "value": "i@corp.test"}]);
                behind.patch(&path, work)
            },
            is(200),
        ),
        case(
            "no such member",
            || behind.patch(&plain.0, json!([{"op": "add", "path": "members", "value": [{"value": new}]}])),
            is(200),
        ),
        case("a name that is taken", || behind.post("/Users", &user("gone")), is(201)),
        case("a DELETE of nobody", || behind.delete(&format!("/Users/{newer}")), is(204)),
        case(
            "a change of nothing",
            || behind.patch(&noop, nobody.clone()),
            |reply| reply.status == 200 && reply.body.get("title").is_none(),
        ),
        case(
            "another version",
            || behind.send("PATCH", &matched, &[("If-Match", &matched_now)], Some(body(title("Prof")))),
            is(200),
        ),
        case(
            "a version that changed by another's end",
            || {
                let rename = json!([{"op": "replace", "path": "displayName", "value": "Renamed"}]);
                behind.send("PATCH", &versioned.0, &[("If-Match", &versioned.1)], Some(body(rename)))
            },
            is(412),
        ),
        case(
            "a person that another source made",
            || idp.post("/Users", &known_by("same-person", "Number 7")),
            |reply| reply.status == 201 && reply.id() == person,
        ),
    ];
    check(&street, &cases);
    let done = behind.post("/Bulk", &bulk).expect(200);
    assert_eq!(done.body["Operations"][0]["status"], "200", "{}", done.text);
    let told = street.behind.metrics();
    for why in ["miss", "nothing written", "premise", "asked for"] {
        assert!(told.contains(&format!("rollcall_catch_ups_total{{why=\"{why}\"}}")), "{why}:\n{told}");
    }
}

#[test]
fn the_end_of_a_list_is_the_end() {
    let street = street("request_timeout_ms = 2000\nscan_rows_max = 8");
    let (corp, behind) = (street.house.corp(), street.behind.corp());
    let ids: Vec<String> =
        (0..10).map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id()).collect();
    latest(&behind, &format!("/Users/{}", ids[9])).expect(200);

    street.lag.hold("identity.");
    for id in &ids[..3] {
        corp.delete(&format!("/Users/{id}")).expect(204);
    }
    corp.post("/Users", &user("last")).expect(201);
    let next = corp.get("/Users?cursor&count=5").expect(200).body["nextCursor"].clone();
    let next = format!("/Users?cursor={}&count=5", next.as_str().expect("a cursor"));
    let one_more = |reply: &Reply| {
        let listed = reply.body["Resources"].as_array().map(Vec::len);
        reply.status == 200 && reply.body["totalResults"] == json!(8) && listed == Some(3)
    };
    let cases = [
        case("the last page by index", || behind.get("/Users?startIndex=6&count=5"), one_more),
        case("a page beyond the end", || behind.get("/Users?startIndex=20"), finds(8)),
        case("a cursor of a gateway that is ahead", || behind.get(&next), one_more),
        case("too many", || behind.get("/Users?filter=displayName%20co%20%22Person%22"), finds(8)),
    ];
    check(&street, &cases);
}

#[test]
fn a_reader_that_asks_for_the_latest_gets_it() {
    let street = street("request_timeout_ms = 2000");
    let (corp, behind) = (street.house.corp(), street.behind.corp());
    let made = corp.post("/Users", &user("ada")).expect(201);
    let path = format!("/Users/{}", made.id());
    latest(&behind, &path).expect(200);

    street.lag.hold("identity.");
    let title = json!([{"op": "replace", "path": "title", "value": "Dr"}]);
    let changed = tag(&corp.patch(&path, title).expect(200));
    // Whoever asks for nothing gets what is there, at once.
    assert!(behind.get(&path).expect(200).body.get("title").is_none());
    behind
        .send("GET", &path, &[("If-None-Match", &tag(&made)), ("Cache-Control", "no-cache")], None)
        .expect(304);
    let at_least = |version: &str| behind.send("GET", &path, &[(CONSISTENCY, version)], None);
    at_least(&tag(&made)).expect(200);
    let new = |reply: &Reply| reply.status == 200 && tag(reply) == changed && reply.body["title"] == "Dr";
    let listed = |reply: &Reply| reply.status == 200 && reply.body["Resources"][0]["title"] == "Dr";
    let with_latest = [(CONSISTENCY, "latest")];
    let cases = [
        case("the latest", || latest(&behind, &path), new),
        case("not before a version", || at_least(&changed), new),
        case("the later of two", || at_least(&format!("{}, {changed}", tag(&made))), new),
        case(
            "whether it changed",
            || {
                let headers = [("If-None-Match", made.header("etag").expect("a tag")), with_latest[0]];
                behind.send("GET", &path, &headers, None)
            },
            new,
        ),
        case("a list", || latest(&behind, &filtered("userName", "ada")), listed),
        case(
            "a search",
            || {
                let question = json!({
                    "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
                    "filter": "userName eq \"ada\"",
                });
                let body = question.to_string().into_bytes();
                behind.send("POST", "/.search", &with_latest, Some(body))
            },
            listed,
        ),
    ];
    check(&street, &cases);

    for wrong in ["", "eventual", "42", "latest, soon", "W/\"42\""] {
        let refused = behind.send("GET", &path, &[(CONSISTENCY, wrong)], None).expect(400);
        assert!(
            refused.body["detail"].as_str().is_some_and(|detail| detail.contains(CONSISTENCY)),
            "{}",
            refused.text
        );
    }
    // A version that this log never gave is not waited for.
    let refused = at_least("W/\"9999999-01ab23cd\"").expect(400);
    assert!(
        refused.body["detail"].as_str().is_some_and(|detail| detail.contains("9999999")),
        "{}",
        refused.text
    );
}

/// A broker that says nothing at all: each request ends in its own time, however many wait.
#[test]
fn a_silent_log_holds_nobody_beyond_the_deadline() {
    let street = street("request_timeout_ms = 1000");
    let behind = street.behind.corp();
    let id = street.house.corp().post("/Users", &user("ada")).expect(201).id();
    latest(&behind, &format!("/Users/{id}")).expect(200);
    street.lag.hold("");
    thread::scope(|scope| {
        for number in 0..24 {
            let (behind, id) = (&behind, &id);
            scope.spawn(move || {
                let reply = match number % 3 {
                    0 => behind.get(&filtered("userName", "nobody")),
                    1 => latest(behind, &format!("/Users/{id}")),
                    _ => behind.patch(&format!("/Users/{id}"), json!([])),
                };
                assert_eq!(reply.expect(503).header("retry-after"), Some("1"));
            });
        }
    });
    behind.get(&format!("/Users/{id}")).expect(200);
    street.lag.release();
    eventually("the gateway answers again", || (latest(&behind, "/Users").status == 200).then_some(()));
}

/// A credential of which the news have not come is not called invalid: a client that hears that may give up for good.
#[test]
fn an_unknown_token_is_not_refused_before_the_news_are_in() {
    let street = street("");
    let behind = street.behind.corp();
    street.lag.hold("control.");
    let new = behind.with_token(&street.house.token("rfc"));
    new.get("/Users").expect(503);
    street.lag.release();
    eventually("the token is known", || (new.get("/Users").status == 200).then_some(()));
    behind.with_token("rc_aaaaaaaaaaaaaaaa_bbbbbbbb").get("/Users").expect(401);
}

/// Members are added without a guard, so the group may be gone by then: the client hears what came of it.
#[test]
fn members_added_to_a_group_that_is_gone_went_nowhere() {
    let street = street("request_timeout_ms = 30000");
    let (corp, behind) = (street.house.corp(), street.behind.corp());
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    let team = corp.post("/Groups", &group("Team", &[])).expect(201).id();
    let path = format!("/Groups/{team}");
    latest(&behind, &path).expect(200);
    street.lag.hold("identity.");
    corp.delete(&path).expect(204);
    let events = street.house.events("corp").len();
    let add = json!([{"op": "add", "path": "members", "value": [{"value": ada}]}]);
    thread::scope(|scope| {
        let adding = scope.spawn(|| behind.patch(&path, add));
        eventually("the addition stands in the log", || {
            (street.house.events("corp").len() > events).then_some(())
        });
        street.lag.release();
        adding.join().expect("a request").expect(404);
    });
}

/// Of several members in one request some may be where they shall be already, as far as a gateway knows that is behind:
/// they are not left out before it knows everything. Whom it does not see there is written at once.
#[test]
fn no_member_of_a_request_is_left_out_from_an_old_state() {
    let street = street("request_timeout_ms = 2000");
    let (corp, behind) = (street.house.corp(), street.behind.corp());
    let [ann, bob, cyd] = ["ann", "bob", "cyd"].map(|name| corp.post("/Users", &user(name)).expect(201).id());
    let made = |name: &str, members: &[&str]| {
        format!("/Groups/{}", corp.post("/Groups", &group(name, members)).expect(201).id())
    };
    let leaving = made("Leaving", &[&bob]);
    let (joining, by_name) = (made("Joining", &[&ann]), made("By name", &[&bob]));
    let plain = made("Plain", &[]);
    latest(&behind, &plain).expect(200);

    street.lag.hold("identity.");
    let change = |op: &str, ids: &[&String]| {
        let values: Vec<Value> = ids.iter().map(|id| json!({"value": id})).collect();
        json!([{"op": op, "path": "members", "value": values}])
    };
    let members = |reply: &Reply| -> Vec<String> {
        let members = reply.body["members"].as_array().cloned().unwrap_or_default();
        members.iter().filter_map(|member| Some(member["value"].as_str()?.to_string())).collect()
    };
    corp.patch(&leaving, change("add", &[&ann])).expect(200);
    corp.patch(&joining, change("remove", &[&ann])).expect(200);
    let rename = json!([{"op": "replace", "path": "displayName", "value": "Bee"}]);
    corp.patch(&format!("/Users/{bob}"), rename).expect(200);
    // It is written, and cannot be shown yet.
    behind.patch(&plain, change("add", &[&cyd])).expect(204);
    let cases = [
        case(
            "two leave",
            || behind.patch(&leaving, change("remove", &[&ann, &bob])),
            |reply| reply.status == 200 && members(reply).is_empty(),
        ),
        case(
            "two join",
            || behind.patch(&joining, change("add", &[&ann, &cyd])),
            |reply| reply.status == 200 && members(reply) == [ann.clone(), cyd.clone()],
        ),
        case(
            "whoever is called so leaves",
            || behind.patch(&by_name, json!([{"op": "remove", "path": "members[display eq \"Bee\"]"}])),
            |reply| reply.status == 200 && members(reply).is_empty(),
        ),
    ];
    check(&street, &cases);
    for (path, expected) in
        [(&leaving, vec![]), (&joining, vec![ann.clone(), cyd.clone()]), (&plain, vec![cyd.clone()])]
    {
        assert_eq!(members(&latest(&corp, path).expect(200)), expected);
    }
}
