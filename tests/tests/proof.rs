//! What shows whether an app can be worked with: a test that changes nothing, one resource at once, and what the app holds.

#![cfg(test)]

use serde_json::{Value, json};
use street::apps::{App, Kind};
use street::house::{Options, eventually, user};
use street::{Client, House};

/// How `rollcall app show` tells an app.
fn shown(house: &House, app: &str) -> Value {
    serde_json::from_str(&house.rollcall(&["app", "show", app, "--json"])).expect("one JSON object")
}

/// What a command says that must fail: its answer, and why.
#[track_caller]
fn refused(house: &House, arguments: &[&str]) -> (String, String) {
    let output = house.attempt(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr))
}

#[test]
fn an_app_is_tested_without_changing_it() {
    let app = App::start(Kind::Scim);
    let mut house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    // One that tells of itself: the house's own SCIM, as an app.
    let (url, token) = (house.env("APP_URL").to_string(), house.env("APP_TOKEN").to_string());
    let section = |name: &str, url: &str, token: &str| {
        format!("[app.{name}]\ntenant = \"corp\"\nurl = \"{url}\"\ntoken = \"{token}\"\ntimeout_ms = 5000\n")
    };
    house.configure(
        &[
            app.configuration("wiki", ""),
            section("stranger", &app.url(), "another-token"),
            section("lost", "http://127.0.0.1:1/scim/v2", "token"),
            section("house", &url, &token),
        ]
        .concat(),
    );
    house.rollcall(&["config", "reload"]);
    app.forget_calls();

    let text = house.rollcall(&["app", "test", "wiki"]);
    for part in [
        "ok       reachable",
        "ok       credential",
        "skipped  supports",
        "ok       search User externalId",
        "ok       search User userName",
        "ok       list User",
        "ok       list Group",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(app.calls().iter().all(|call| call.method == "GET"), "{:?}", app.calls());

    let (text, error) = refused(&house, &["app", "test", "stranger"]);
    assert!(text.contains("failed   credential  the app answers 401") && text.contains("-> renew"), "{text}");
    assert!(error.contains("1 check of stranger failed"), "{error}");
    assert!(!text.contains("another-token") && !error.contains("another-token"));
    let (text, _) = refused(&house, &["app", "test", "lost"]);
    assert!(
        text.contains("failed   reachable") && text.contains("-> check that http://127.0.0.1:1/"),
        "{text}"
    );

    let told: Value = serde_json::from_str(&house.rollcall(&["app", "test", "house", "--json"])).unwrap();
    let verdict = |name: &str| {
        let items = told["items"].as_array().unwrap().iter();
        items.filter(|item| item["name"] == name).map(|item| item["verdict"].clone()).next_back()
    };
    for name in ["patch", "filter", "required User", "search User userName", "list User"] {
        assert_eq!(verdict(name), Some(json!("ok")), "{name}: {told}");
    }
    let (_, error) = refused(&house, &["app", "test", "nowhere"]);
    assert!(error.contains("there is no app \"nowhere\""), "{error}");
    // What the app does not do is found.
    app.answer_all_with(501);
    let (text, _) = refused(&house, &["app", "test", "wiki"]);
    assert!(text.contains("the app answers 501"), "{text}");
}

#[test]
fn one_resource_is_worked_on_at_once_and_each_call_is_told() {
    let app = App::start(Kind::Scim);
    let guard = "[app.wiki.guard]\ncreate = { more_than = 1 }\n";
    let house = House::feeding(&[("wiki", &app, guard)]);
    let corp = house.corp();
    app.answer_all_with(400);
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    eventually("ada is held", || (shown(&house, "wiki")["held"] == 1).then_some(()));
    let provision = |who: &str| ["app", "provision", "wiki", who, "--by", "ann"].map(str::to_string);
    let provision = |who: &str| -> Vec<String> { provision(who).to_vec() };
    let arguments = |who: &str, more: &[&str]| -> Vec<String> {
        provision(who).into_iter().chain(more.iter().map(ToString::to_string)).collect()
    };
    let run =
        |arguments: Vec<String>| house.rollcall(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let fail =
        |arguments: Vec<String>| refused(&house, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (text, error) = fail(arguments("ada", &[]));
    assert!(text.contains("Refused create  400") && text.contains("held: "), "{text}");
    assert!(error.contains("is not as it should be") && error.contains("400"), "{error}");
    app.get_well();
    let text = run(arguments("ada", &["--why", "ticket 4711"]));
    for part in
        ["Released  by ann  because ticket 4711", "Done create", "as it should be: the app's account is"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(app.account("ada").is_some());
    let told: Value = serde_json::from_str(&run(arguments(&ada, &["--json"]))).unwrap();
    assert_eq!((&told["outcome"], &told["events"]), (&json!("settled"), &json!([])), "nothing is left to do");

    // A guard rail holds it as it holds everybody, and a pause does.
    corp.post("/Users", &user("bob")).expect(201);
    eventually("bob waits", || shown(&house, "wiki")["tripped"]["create"]["waiting"].as_u64());
    let (text, _) = fail(arguments("bob", &[]));
    assert!(text.contains("waits: a guard rail holds create"), "{text}");
    assert!(app.account("bob").is_none());
    house.rollcall(&["app", "pause", "wiki", "--by", "eve"]);
    let (text, _) = fail(arguments("bob", &[]));
    assert!(text.contains("waits: the app is paused by eve"), "{text}");
    house.rollcall(&["app", "resume", "wiki", "--by", "eve"]);
    house.rollcall(&["app", "release", "wiki", "--by", "eve"]);
    eventually("bob's account", || app.account("bob"));
    let (_, error) = fail(arguments("nobody", &[]));
    assert!(error.contains("no User has this userName"), "{error}");
    let (_, error) =
        fail(vec!["app", "provision", "wiki", "ada", "--by", " "].into_iter().map(str::to_string).collect());
    assert!(error.contains("say who you are"), "{error}");
}

#[test]
fn what_an_app_holds_becomes_proposals_and_requests() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "read_only = true\nusers = 'userName ne \"guest\"'\n")]);
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    corp.post("/Users", &user("guest")).expect(201);
    let account = |value: Value| value.as_object().unwrap().clone();
    let schemas = json!(["urn:ietf:params:scim:schemas:core:2.0:User"]);
    let names = std::iter::once("ada").chain(std::iter::once("guest")).map(str::to_string);
    for name in names.chain((0..250).map(|number| format!("theirs{number}"))) {
        app.add(
            "/Users",
            account(json!({"schemas": schemas, "userName": name, "displayName": "X", "active": true})),
        );
    }
    app.forget_calls();

    let lines = house.rollcall(&["app", "import", "wiki", "--json", "--keep-ids"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts = &lines.last().unwrap()["counts"];
    assert_eq!(counts, &json!({"create": 250, "link": 1, "out_of_scope": 1}));
    let link = lines.iter().find(|line| line["proposal"] == "link").unwrap();
    assert_eq!((&link["id"], &link["by"]), (&json!(ada), &json!("userName")));
    let request = lines.iter().find(|line| line["proposal"] == "create").unwrap();
    assert_eq!(request["request"]["data"]["externalId"], request["remoteId"]);
    assert!(app.calls().iter().all(|call| call.method == "GET"), "nothing is changed");

    // The requests can be posted as they are, and then each has its owner.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("requests.jsonl");
    let arguments = ["app", "import", "wiki", "--out", out.to_str().unwrap()];
    let output = house.attempt(&arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("250 are nobody's (a request each)"), "{told}");
    assert!(output.stdout.is_empty());
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().count(), 250);
    for line in text.lines().take(20) {
        let request: Value = serde_json::from_str(line).unwrap();
        assert_eq!(request["method"], "POST");
        corp.post(request["path"].as_str().unwrap(), &request["data"]).expect(201);
    }
    let again = eventually("they are known", || {
        let lines = house.rollcall(&["app", "import", "wiki", "--json"]);
        let last: Value = serde_json::from_str(lines.lines().next_back()?).ok()?;
        (last["counts"]["link"] == 21).then_some(last)
    });
    assert_eq!(again["counts"]["create"], 230);
    let (_, error) = refused(&house, &arguments);
    assert!(error.contains("requests.jsonl") && error.contains("left alone"), "{error}");
    // A list that breaks off is told.
    app.answer_reads_with(403);
    let (_, error) = refused(&house, &["app", "import", "wiki"]);
    assert!(error.contains("not everything was listed"), "{error}");
    let admin = Client::new(house.env("ADMIN_URL"), "wrong");
    assert_eq!(admin.post("/api/v1/apps/wiki/import", &json!({})).status, 401);
}
