//! Calls whose answer nobody heard: the app may carry them out after everybody has stopped listening. Nobody keeps access by
//! them, and nobody is made twice.

#![cfg(test)]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use street::apps::{App, Kind};
use street::expected::Expected;
use street::house::{Options, eventually, group, user};
use street::{Client, House};

/// The app answers nobody in time.
const LATE: Duration = Duration::from_secs(3);
const IMPATIENT: &str = "timeout_ms = 1000\nlate_ms = 6000";

fn house(app: &App, more: &str) -> House {
    House::start_with(Options {
        configuration: Some(app.configuration("wiki", more)),
        flags: vec!["--no-demo".to_string()],
        ..Options::default()
    })
}

fn status(house: &House) -> Value {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    admin.get("/api/v1/status").expect(200).body["apps"]["wiki"].clone()
}

fn stops_listening(house: &House) {
    eventually("nobody listens any more", || {
        status(house)["waiting_for"].as_str()?.contains("no answer in time").then_some(())
    });
}

fn nothing_is_due(house: &House) {
    eventually("nothing is due", || (status(house)["due"] == 0).then_some(()));
}

fn active(value: bool) -> Value {
    json!([{"op": "replace", "path": "active", "value": value}])
}

#[test]
fn who_leaves_while_he_is_being_made_keeps_no_account() {
    let app = App::start(Kind::Scim);
    let house = house(&app, IMPATIENT);
    let corp = house.corp();
    app.do_late(LATE);
    let id = corp.post("/Users", &user("leaver")).expect(201).id();
    stops_listening(&house);
    corp.delete(&format!("/Users/{id}")).expect(204);
    app.do_late(Duration::ZERO);
    eventually("the app makes the account after all", || {
        (app.calls_like("POST", "/Users", 201) == 1).then_some(())
    });
    eventually("the account is gone", || app.accounts().is_empty().then_some(()));
    nothing_is_due(&house);
}

/// Nobody can know whether the app made him, so that a person must look, also when he is to have no account any more.
#[test]
fn who_leaves_while_nobody_knows_whether_he_was_made_is_not_forgotten() {
    let app = App::start(Kind::Scim);
    let more = "profile = \"blind.toml\"\nlate_ms = 0\nusers = 'userType ne \"Gone\"'";
    let blind = "about = \"It cannot be searched.\"\n[type.User]\nsearch = []\n";
    let house = House::start_with(Options {
        configuration: Some(app.configuration("wiki", more)),
        flags: vec!["--no-demo".to_string()],
        files: vec![("blind.toml".to_string(), blind.to_string())],
    });
    let corp = house.corp();
    app.without_answer(1);
    let id = corp.post("/Users", &user("leaver")).expect(201).id();
    eventually("a person must look", || (status(&house)["held"] == 1).then_some(()));
    let watermark = || status(&house)["watermark"].as_u64().unwrap_or_default();
    let before = watermark();
    let gone = json!([{"op": "replace", "path": "userType", "value": "Gone"}]);
    corp.patch(&format!("/Users/{id}"), gone).expect(200);
    corp.post("/Users", &user("next")).expect(201);
    eventually("the next has an account", || app.account("next"));
    eventually("both events are done or held", || (watermark() >= before + 2).then_some(()));
    assert!(status(&house)["held"] == 1 && app.account("leaver").is_some(), "{}", status(&house));
    house.rollcall(&["app", "redrive", "wiki", "--by", "ann", "--all"]);
    eventually("a person looked", || (status(&house)["held"] == 0).then_some(()));
}

/// An app that does not keep our id knows him by the name that he had when he was made.
const NAMELESS: &str =
    "about = \"It does not keep our id.\"\n[type.User]\nexternal_id = false\nsearch = [\"userName\"]\n";

/// Nor of groups, of which several may have one name.
const NAMELESS_GROUPS: &str = "[type.Group]\nexternal_id = false\nsearch = [\"displayName\"]\n";

fn of_an_app_with_nameless_groups(app: &App) -> House {
    let more = "profile = \"nameless.toml\"\ntimeout_ms = 1000\nlate_ms = 0";
    House::start_with(Options {
        configuration: Some(app.configuration("wiki", more)),
        flags: vec!["--no-demo".to_string()],
        files: vec![("nameless.toml".to_string(), format!("{NAMELESS}{NAMELESS_GROUPS}"))],
    })
}

#[test]
fn a_group_that_was_not_made_is_made_without_a_person() {
    let app = App::start(Kind::Scim);
    let house = of_an_app_with_nameless_groups(&app);
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    eventually("ada has an account", || app.account("ada"));
    app.answer_next_with(1, 503);
    corp.post("/Groups", &group("Team", &[&ada])).expect(201);
    eventually("the group is there", || {
        (app.groups().get("Team").map(BTreeSet::len) == Some(1)).then_some(())
    });
    nothing_is_due(&house);
    assert_eq!(status(&house)["held"], 0);
}

/// What it was before, nobody knows: it could be another's whose members get what they should not have.
#[test]
fn a_group_of_the_same_name_is_not_taken_for_what_a_call_made() {
    let app = App::start(Kind::Scim);
    let house = of_an_app_with_nameless_groups(&app);
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    eventually("ada has an account", || app.account("ada"));
    app.without_answer(1);
    corp.post("/Groups", &group("Team", &[&ada])).expect(201);
    eventually("a person must look", || (status(&house)["held"] == 1).then_some(()));
    let told = house.rollcall(&["app", "held", "wiki"]);
    assert!(told.contains("one of this name is there"), "{told}");
    assert_eq!(app.groups().get("Team").map(BTreeSet::len), Some(0));
    house.rollcall(&["app", "redrive", "wiki", "--by", "ann", "--all"]);
    eventually("the app says that the name is taken, and it is ours", || {
        (app.groups().get("Team").map(BTreeSet::len) == Some(1)).then_some(())
    });
    nothing_is_due(&house);
    assert_eq!((app.groups().len(), &status(&house)["held"]), (1, &json!(0)));
}

fn of_a_nameless_app(app: &App) -> House {
    House::start_with(Options {
        configuration: Some(app.configuration("wiki", &format!("profile = \"nameless.toml\"\n{IMPATIENT}"))),
        flags: vec!["--no-demo".to_string()],
        files: vec![("nameless.toml".to_string(), NAMELESS.to_string())],
    })
}

#[test]
fn who_is_renamed_while_he_is_being_made_is_not_made_twice() {
    let app = App::start(Kind::Scim);
    let house = of_a_nameless_app(&app);
    let corp = house.corp();
    app.do_late(LATE);
    let id = corp.post("/Users", &user("before")).expect(201).id();
    stops_listening(&house);
    let renamed = json!([{"op": "replace", "path": "userName", "value": "after"}]);
    corp.patch(&format!("/Users/{id}"), renamed).expect(200);
    app.do_late(Duration::ZERO);
    eventually("he is known by his new name", || app.account("after"));
    nothing_is_due(&house);
    assert_eq!(app.accounts().keys().collect::<Vec<_>>(), ["after"]);
    corp.delete(&format!("/Users/{id}")).expect(204);
    eventually("the account is gone", || app.accounts().is_empty().then_some(()));
}

#[test]
fn who_leaves_while_he_is_being_made_is_found_by_the_name_that_he_had() {
    let app = App::start(Kind::Scim);
    let house = of_a_nameless_app(&app);
    let corp = house.corp();
    app.do_late(LATE);
    let id = corp.post("/Users", &user("leaver")).expect(201).id();
    stops_listening(&house);
    corp.delete(&format!("/Users/{id}")).expect(204);
    app.do_late(Duration::ZERO);
    eventually("the app makes the account after all", || {
        (app.calls_like("POST", "/Users", 201) == 1).then_some(())
    });
    eventually("the account is gone", || app.accounts().is_empty().then_some(()));
    nothing_is_due(&house);
    assert_eq!(status(&house)["held"], 0);
}

/// Nothing says whose the account is, but that somebody else was about to be made under this name.
#[test]
fn who_comes_under_the_name_of_one_who_left_while_he_was_being_made_has_an_account_of_his_own() {
    let app = App::start(Kind::Scim);
    let house = of_a_nameless_app(&app);
    let corp = house.corp();
    app.delay(LATE);
    let leaver = corp.post("/Users", &user("ada")).expect(201).id();
    let former = eventually("the account is made", || app.account("ada"));
    app.delay(Duration::ZERO);
    corp.delete(&format!("/Users/{leaver}")).expect(204);
    let mut next = user("ada");
    next["title"] = json!("Dr");
    corp.post("/Users", &next).expect(201);
    let made = eventually("the next has an account", || {
        app.account("ada").filter(|account| account.get("title") == Some(&json!("Dr")))
    });
    nothing_is_due(&house);
    assert_ne!(made.get("id"), former.get("id"));
}

#[test]
fn what_is_made_late_is_not_made_again() {
    let app = App::start(Kind::Scim);
    let house = house(&app, IMPATIENT);
    app.do_late(LATE);
    house.corp().post("/Groups", &group("Team", &[])).expect(201);
    stops_listening(&house);
    app.do_late(Duration::ZERO);
    Expected::of(&house.corp()).converges("wiki", &app);
    nothing_is_due(&house);
    let made = app.calls().into_iter().filter(|call| call.method == "POST");
    assert_eq!(made.map(|call| call.status).collect::<Vec<_>>(), [201]);
}

/// The app switches the account on after it was told to switch it off.
#[test]
fn what_comes_late_undoes_nothing() {
    let app = App::start(Kind::Scim);
    let house = house(&app, IMPATIENT);
    let corp = house.corp();
    let mut ada = user("ada");
    ada["active"] = json!(false);
    let id = corp.post("/Users", &ada).expect(201).id();
    eventually("the account", || app.account("ada"));
    nothing_is_due(&house);
    app.forget_calls();
    app.do_late(LATE);
    corp.patch(&format!("/Users/{id}"), active(true)).expect(200);
    stops_listening(&house);
    app.do_late(Duration::ZERO);
    corp.patch(&format!("/Users/{id}"), active(false)).expect(200);
    eventually("the late call is done", || {
        let is_late = |call: &street::apps::Call| {
            call.method != "GET" && call.status < 300 && call.body.contains("\"active\":true")
        };
        app.calls().iter().any(is_late).then_some(())
    });
    eventually("the account is off", || (app.account("ada")?["active"] == false).then_some(()));
    nothing_is_due(&house);
    assert_eq!(app.account("ada").unwrap()["active"], false);
}

/// Another configuration, and the end, wait for the answers of what is under way.
/// To most, `ada` and `Ada` are one name; but one of them is what the directory says.
#[test]
fn what_comes_late_undoes_no_letter() {
    let app = App::start(Kind::Scim);
    let house = house(&app, IMPATIENT);
    let corp = house.corp();
    let path = format!("/Users/{}", corp.post("/Users", &user("ada")).expect(201).id());
    eventually("she has an account", || app.account("ada"));
    nothing_is_due(&house);
    let renamed = |name: &str| json!([{"op": "replace", "path": "userName", "value": name}]);
    app.forget_calls();
    app.do_late(LATE);
    corp.patch(&path, renamed("ADA")).expect(200);
    stops_listening(&house);
    app.do_late(Duration::ZERO);
    corp.patch(&path, renamed("Ada")).expect(200);
    eventually("the late call is done", || {
        let is_late = |call: &street::apps::Call| {
            call.method != "GET" && call.status < 300 && call.body.contains("\"ADA\"")
        };
        app.calls().iter().any(is_late).then_some(())
    });
    let name = || app.accounts().into_keys().next();
    eventually("she is called as the directory says", || (name()? == "Ada").then_some(()));
    nothing_is_due(&house);
    assert_eq!(name().as_deref(), Some("Ada"));
}

#[test]
fn answers_are_heard_although_the_work_ends() {
    let app = App::start(Kind::Scim);
    let mut house = house(&app, "");
    let corp = house.corp();
    app.do_late(LATE);
    corp.post("/Groups", &group("One", &[])).expect(201);
    eventually("the call is under way", || (app.at_once() > 0).then_some(()));
    house.configure(&app.configuration("wiki", "concurrency = 3"));
    house.hang_up();
    eventually("it is made", || (app.calls_like("POST", "/Groups", 201) == 1).then_some(()));
    nothing_is_due(&house);
    corp.post("/Groups", &group("Two", &[])).expect(201);
    eventually("the next call is under way", || (app.at_once() > 0).then_some(()));
    assert!(house.stop());
    house.start_again();
    app.do_late(Duration::ZERO);
    Expected::of(&house.corp()).converges("wiki", &app);
    nothing_is_due(&house);
    assert_eq!(app.calls_like("POST", "/Groups", 201), 2);
    // What was heard need not be asked for.
    assert_eq!(app.calls_like("GET", "/Groups?", 200), 0, "{:?}", app.calls());
}

/// A person's command about somebody who is being worked on costs nobody his answer.
#[test]
fn a_command_meanwhile_makes_nobody_twice() {
    let app = App::start(Kind::Scim);
    let house = house(&app, "");
    let corp = house.corp();
    app.do_late(LATE);
    let one = corp.post("/Groups", &group("One", &[])).expect(201).id();
    corp.post("/Groups", &group("Two", &[])).expect(201);
    eventually("both calls are under way", || (app.at_once() == 2).then_some(()));
    house.rollcall(&["app", "provision", "wiki", &one, "--by", "op"]);
    app.do_late(Duration::ZERO);
    Expected::of(&corp).converges("wiki", &app);
    nothing_is_due(&house);
    assert_eq!(app.calls_like("POST", "/Groups", 201), 2);
    assert_eq!(app.calls_like("GET", "/Groups?", 200), 0, "{:?}", app.calls());
}

#[test]
fn an_app_that_makes_nobody_is_not_asked_for_ever() {
    let app = App::start(Kind::Scim);
    app.do_not_know("POST", "/Users");
    let house = house(&app, "attempts_max = 3");
    house.corp().post("/Users", &user("ada")).expect(201);
    eventually("a person must look at it", || (status(&house)["held"] == 1).then_some(()));
    assert_eq!(app.calls_like("POST", "/Users", 404), 3);
}

#[test]
fn a_group_that_is_there_and_cannot_be_changed_is_not_made_again() {
    let app = App::start(Kind::Scim);
    app.do_not_know("PATCH", "/Groups");
    let house = house(&app, "attempts_max = 3\nlate_ms = 0");
    let corp = house.corp();
    let id = corp.post("/Users", &user("ada")).expect(201).id();
    corp.post("/Groups", &group("Team", &[&id])).expect(201);
    eventually("a person must look at it", || (status(&house)["held"] == 1).then_some(()));
    assert_eq!(app.calls_like("POST", "/Groups", 201), 1);
    assert_eq!(app.calls_like("PATCH", "/Groups", 404), 3);
}
