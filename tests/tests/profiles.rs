//! Every profile, end to end: 200 people and 10 groups come, are renamed, leave and come back, and the app, which is as
//! strict as its original, ends with exactly what it should hold, was never asked what it refuses and never too fast.

#![cfg(test)]
#![expect(clippy::needless_range_loop, reason = "a number names somebody, and finds his id")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use street::apps::Kind;
use street::house::{group, pause};
use street::{App, Client, House, Options};

const PEOPLE: usize = 200;
const GROUPS: usize = 10;
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
/// Slack takes 180 new people a minute, and other tests are at work.
const LONG: Duration = Duration::from_secs(400);

type Object = Map<String, Value>;

/// What the directory should lead to.
#[derive(Default)]
struct Expected {
    people: BTreeMap<String, Value>,
    /// Those who were deleted, as they were.
    gone: BTreeMap<String, Value>,
    groups: BTreeMap<String, BTreeSet<String>>,
}

/// Somebody with more of everything than most apps take.
fn person(number: usize) -> Value {
    let name = format!("u{number:03}");
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE],
        "userName": name,
        "displayName": format!("Person {number}"),
        "name": {"givenName": "Person", "familyName": format!("No {number}"), "honorificPrefix": "Dr"},
        "title": "Engineer",
        "emails": [
            {"value": format!("{name}@home.test"), "type": "home", "display": "at home"},
            {"value": format!("{name}@corp.test"), "type": "work", "primary": true},
        ],
        "phoneNumbers": [{"value": "+1 555 0100", "type": "work", "display": "desk"}, {"value": "+1 555 0101", "type": "mobile"}],
        "photos": [{"value": "https://corp.test/photo", "type": "photo"}],
        "roles": [{"value": "member", "display": "a member"}],
        "active": true,
        ENTERPRISE: {"department": "Tools", "employeeNumber": format!("{number}")},
    })
}

fn without(object: &mut Object, names: &[&str]) {
    object.retain(|name, _| !names.contains(&name.as_str()));
}

fn only(object: &mut Object, names: &[&str]) {
    object.retain(|name, _| names.contains(&name.as_str()));
}

fn values_without_display(object: &mut Object) {
    for value in
        object.values_mut().filter_map(Value::as_array_mut).flatten().filter_map(Value::as_object_mut)
    {
        value.remove("display");
    }
}

fn primary_alone(object: &mut Object, name: &str) {
    let values = object.get_mut(name).and_then(Value::as_array_mut).expect("a list");
    let at = values.iter().position(|value| value["primary"] == true).unwrap_or(0);
    let mut one = values[at].clone();
    one["primary"] = json!(true);
    *values = vec![one];
}

/// What this app should show of a person; written down here a second time, without a look at the profile.
fn shown(kind: Kind, person: &Value) -> Object {
    let mut shown = person.as_object().expect("an object").clone();
    without(&mut shown, &["schemas", "externalId", "id", "meta", "groups"]);
    match kind {
        Kind::Scim => {}
        Kind::GithubOrg => {
            only(&mut shown, &["userName", "name", "emails", "active"]);
            only(shown["name"].as_object_mut().expect("an object"), &["givenName", "familyName"]);
            values_without_display(&mut shown);
        }
        Kind::GithubEmu => {
            only(&mut shown, &["userName", "displayName", "name", "emails", "roles", "active"]);
            only(
                shown["name"].as_object_mut().expect("an object"),
                &["givenName", "familyName", "formatted"],
            );
            let roles = shown["roles"].clone();
            values_without_display(&mut shown);
            shown.insert("roles".to_string(), roles);
        }
        Kind::AwsIdentityCenter => {
            without(&mut shown, &["photos", "roles"]);
            values_without_display(&mut shown);
            primary_alone(&mut shown, "emails");
            primary_alone(&mut shown, "phoneNumbers");
        }
        Kind::Slack => values_without_display(&mut shown),
        Kind::Odd => {
            only(&mut shown, &["userName", "displayName", "title", "emails", "active"]);
            values_without_display(&mut shown);
            primary_alone(&mut shown, "emails");
        }
    }
    shown
}

impl Expected {
    /// Everybody whom the app should show, and how.
    fn accounts(&self, kind: Kind) -> BTreeMap<String, Object> {
        let off_is_gone = kind == Kind::GithubOrg;
        let stays = matches!(kind, Kind::GithubEmu | Kind::Slack | Kind::Odd);
        let here = self.people.values().filter(|person| !off_is_gone || person["active"] == true);
        let mut accounts: BTreeMap<String, Object> = here
            .map(|person| (person["userName"].as_str().expect("a name").to_string(), shown(kind, person)))
            .collect();
        for (name, person) in self.gone.iter().filter(|_| stays) {
            let mut account = shown(kind, person);
            account.insert("active".to_string(), json!(false));
            accounts.insert(name.clone(), account);
        }
        accounts
    }

    /// The members of every group, by their names at the app.
    fn groups(&self, kind: Kind) -> BTreeMap<String, BTreeSet<String>> {
        if kind == Kind::GithubOrg { BTreeMap::new() } else { self.groups.clone() }
    }
}

/// What the app shows, without what is the app's own.
fn found(app: &App) -> BTreeMap<String, Object> {
    let mut accounts = app.accounts();
    for account in accounts.values_mut() {
        without(account, &["schemas", "externalId", "id", "meta"]);
    }
    accounts
}

/// Waits until the app holds what it should, and then says what is wrong.
#[track_caller]
fn holds(app: &App, kind: Kind, expected: &Expected) {
    let (accounts, groups) = (expected.accounts(kind), expected.groups(kind));
    let begun = Instant::now();
    while begun.elapsed() < LONG && (app.groups() != groups || found(app) != accounts) {
        pause();
    }
    let found = found(app);
    for (name, account) in &accounts {
        assert_eq!(found.get(name), Some(account), "{name}; refused: {:?}", refused(app));
    }
    let strangers: Vec<&String> = found.keys().filter(|name| !accounts.contains_key(*name)).collect();
    assert_eq!(strangers, [""; 0], "should not be there");
    assert_eq!(app.groups(), groups, "refused: {:?}", refused(app));
}

/// The calls that were not done, each shape once.
fn refused(app: &App) -> BTreeSet<String> {
    let calls = app.calls();
    let refused = calls.iter().filter(|call| call.status >= 400);
    refused.map(|call| format!("{} {} {} {}", call.method, call.path, call.status, call.body)).collect()
}

fn replace(corp: &Client, id: &str, path: &str, value: Value) {
    corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": path, "value": value}])).expect(200);
}

/// Everybody and everything is made.
fn come(corp: &Client, expected: &mut Expected) -> (Vec<String>, Vec<String>) {
    let mut ids = Vec::new();
    for number in 0..PEOPLE {
        let person = person(number);
        ids.push(corp.post("/Users", &person).expect(201).id());
        expected.people.insert(format!("u{number:03}"), person);
    }
    let mut groups = Vec::new();
    for number in 0..GROUPS {
        let members: Vec<usize> = (number * 15..number * 15 + 30).collect();
        let named: Vec<&str> = members.iter().map(|member| ids[*member].as_str()).collect();
        groups.push(corp.post("/Groups", &group(&format!("Team {number}"), &named)).expect(201).id());
        let names = members.iter().map(|member| format!("u{member:03}")).collect();
        expected.groups.insert(format!("Team {number}"), names);
    }
    (ids, groups)
}

/// People and groups get other names, and lose a title.
fn rename(corp: &Client, expected: &mut Expected, ids: &[String], groups: &[String]) {
    for number in 0..20 {
        replace(corp, &ids[number], "displayName", json!(format!("Renamed {number}")));
        expected.people.get_mut(&format!("u{number:03}")).unwrap()["displayName"] =
            json!(format!("Renamed {number}"));
    }
    for number in 20..25 {
        let (old, new) = (format!("u{number:03}"), format!("new{number:03}"));
        replace(corp, &ids[number], "userName", json!(new));
        let mut person = expected.people.remove(&old).unwrap();
        person["userName"] = json!(new);
        expected.people.insert(new.clone(), person);
        for members in expected.groups.values_mut().filter(|members| members.contains(&old)) {
            members.remove(&old);
            members.insert(new.clone());
        }
    }
    for number in 25..30 {
        corp.patch(&format!("/Users/{}", ids[number]), json!([{"op": "remove", "path": "title"}]))
            .expect(200);
        expected.people.get_mut(&format!("u{number:03}")).unwrap().as_object_mut().unwrap().remove("title");
    }
    let other = json!([{"op": "replace", "path": "displayName", "value": "Team zero"}]);
    corp.patch(&format!("/Groups/{}", groups[0]), other).expect(200);
    let members = expected.groups.remove("Team 0").unwrap();
    expected.groups.insert("Team zero".to_string(), members);
}

/// Some are deleted, some switched off, and some leave a group.
fn leave(corp: &Client, expected: &mut Expected, ids: &[String], groups: &[String]) {
    for number in 100..110 {
        corp.delete(&format!("/Users/{}", ids[number])).expect(204);
        let name = format!("u{number:03}");
        let person = expected.people.remove(&name).unwrap();
        expected.gone.insert(name.clone(), person);
        for members in expected.groups.values_mut() {
            members.remove(&name);
        }
    }
    for number in 110..120 {
        replace(corp, &ids[number], "active", json!(false));
        expected.people.get_mut(&format!("u{number:03}")).unwrap()["active"] = json!(false);
    }
    let gone: Vec<Value> = (30..35)
        .map(|number| json!({"op": "remove", "path": format!("members[value eq \"{}\"]", ids[number])}))
        .collect();
    corp.patch(&format!("/Groups/{}", groups[1]), gone.into()).expect(200);
    let team = expected.groups.get_mut("Team 1").unwrap();
    for number in 30..35 {
        team.remove(&format!("u{number:03}"));
    }
    corp.delete(&format!("/Groups/{}", groups[9])).expect(204);
    expected.groups.remove("Team 9");
}

/// Some of those who were switched off are back.
fn come_back(corp: &Client, expected: &mut Expected, ids: &[String]) {
    for number in 110..115 {
        replace(corp, &ids[number], "active", json!(true));
        expected.people.get_mut(&format!("u{number:03}")).unwrap()["active"] = json!(true);
    }
}

/// Groups of a GitHub organization are not there, and elsewhere nobody loses his groups by being switched off.
fn lives(app: &App, kind: Kind, house: &House) {
    let corp = house.corp();
    let mut expected = Expected::default();
    let (ids, groups) = come(&corp, &mut expected);
    holds(app, kind, &expected);
    rename(&corp, &mut expected, &ids, &groups);
    holds(app, kind, &expected);
    leave(&corp, &mut expected, &ids, &groups);
    holds(app, kind, &expected);
    come_back(&corp, &mut expected, &ids);
    holds(app, kind, &expected);
    // Whoever is deleted leaves his groups at once, and may be gone before he is taken out of them.
    let raced =
        |call: &str| call.starts_with("PATCH /Groups") && call.contains(" 400 ") && call.contains("remove");
    // Whoever was deleted is read back, and a 404 is what is hoped for.
    let read_back = |call: &str| call.starts_with("GET ") && call.contains(" 404 ");
    let refused: Vec<String> =
        refused(app).into_iter().filter(|call| !raced(call) && !read_back(call)).collect();
    assert!(refused.is_empty(), "it was asked what it refuses: {refused:?}");
}

#[track_caller]
fn check(kind: Kind) -> App {
    let app = App::start(kind);
    let house = House::feeding(&[("app", &app, "")]);
    lives(&app, kind, &house);
    app
}

#[test]
fn scim() {
    check(Kind::Scim);
}

#[test]
fn github_org() {
    check(Kind::GithubOrg);
}

#[test]
fn github_emu() {
    let app = check(Kind::GithubEmu);
    let deleted =
        app.calls().into_iter().find(|call| call.method == "DELETE" && call.path.starts_with("/Users"));
    assert!(deleted.is_none(), "that cannot be undone: {deleted:?}");
}

#[test]
fn aws_identity_center() {
    check(Kind::AwsIdentityCenter);
}

#[test]
fn slack() {
    check(Kind::Slack);
}

/// Written from docs/profiles.md alone.
const ODD: &str = r#"
about = "An app that none of the shipped profiles fits."
id_case = "exact"

[answers]
throttled = [420]
taken = [400]

[[budget]]
calls = "writes"
per = "second"
limit = 200

[type.User]
operations = ["create", "read", "list", "patch"]
change = "patch"
delete = "deactivate"
external_id = false
search = ["userName"]
only = ["userName", "displayName", "title", "emails", "active"]
dropped = ["emails.display"]
single = ["emails"]
required = ["userName", "emails"]
cleared = "null"
clears = ["title"]
page_max = 20

[type.Group]
operations = ["create", "read", "list", "patch", "delete"]
change = "patch"
external_id = false
search = ["displayName"]
only = ["displayName"]
members_per_call = 7
members_removed_by = "value"
members_replaced = false
"#;

#[test]
fn a_sixth_is_a_file() {
    let app = App::start(Kind::Odd);
    let section = app.configuration("odd", "profile = \"odd.toml\"\n");
    let house = House::start_with(Options {
        configuration: Some(section),
        flags: vec!["--no-demo".to_string()],
        files: vec![("odd.toml".to_string(), ODD.to_string())],
    });
    lives(&app, Kind::Odd, &house);
}

#[test]
fn whoever_lacks_what_the_app_needs_is_held_before_any_call() {
    let app = App::start(Kind::AwsIdentityCenter);
    let house = House::feeding(&[("app", &app, "")]);
    let corp = house.corp();
    let mut person = person(1);
    person.as_object_mut().unwrap().remove("displayName");
    person["name"] = json!({"familyName": "Alone"});
    let id = corp.post("/Users", &person).expect(201).id();
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    street::house::eventually("it is held", || {
        let status = admin.get("/api/v1/status").expect(200).body;
        (status["apps"]["app"]["held"] == 1).then_some(())
    });
    assert_eq!(app.calls_count(), 0, "{:?}", app.calls());
    assert!(house.log().contains("it needs displayName, name.givenName"), "the log says what is missing");
    corp.patch(
        &format!("/Users/{id}"),
        json!([{"op": "add", "value": {"displayName": "Some One", "name": {"givenName": "Some"}}}]),
    )
    .expect(200);
    street::house::eventually("it is there", || app.account("u001"));
}

#[test]
fn a_leaver_overtakes_a_backlog_that_waits_for_its_budget() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("app", &app, "[app.app.budget]\nrate_per_second = 10\n")]);
    let corp = house.corp();
    let leaver = corp.post("/Users", &street::house::user("leaver")).expect(201).id();
    street::house::eventually("the account", || app.account("leaver"));
    for number in 0..300 {
        corp.post("/Users", &street::house::user(&format!("u{number}"))).expect(201);
    }
    corp.delete(&format!("/Users/{leaver}")).expect(204);
    street::house::eventually("he is gone", || app.account("leaver").is_none().then_some(()));
    let there = app.accounts().len();
    assert!(there < 290, "{there} came before him");
    assert_eq!(app.calls_like("POST", "/Users", 429), 0);
}

#[test]
fn an_app_that_is_too_slow_for_us_is_asked_less() {
    let app = App::start(Kind::Scim);
    app.allow(40, Duration::from_secs(4));
    let house = House::feeding(&[("app", &app, "")]);
    let corp = house.corp();
    for number in 0..160 {
        corp.post("/Users", &street::house::user(&format!("u{number}"))).expect(201);
    }
    let begun = Instant::now();
    while app.accounts().len() < 160 {
        assert!(begun.elapsed() < LONG, "{} of 160", app.accounts().len());
        pause();
    }
    let refused = app.calls().iter().filter(|call| call.status == 429).count();
    assert!(refused < 40, "{refused} calls in vain");
}
