//! An app is held against what it should hold, and an app that says wrong things about itself harms nobody.

#![cfg(test)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use street::apps::{App, Document, Kind};
use street::house::{eventually, group, user};
use street::{Client, House};

const PEOPLE: usize = 25;

struct Scene {
    app: App,
    house: House,
    /// Our ids of the people, by number.
    ids: Vec<String>,
    team: String,
}

impl Scene {
    /// 25 people, and a group with the first five of them, all at the app.
    fn start(more: &str) -> Self {
        let app = App::start(Kind::Scim);
        let house = House::feeding(&[("wiki", &app, more)]);
        let corp = house.corp();
        let ids: Vec<String> = (0..PEOPLE)
            .map(|number| {
                let mut person = user(&format!("u{number}"));
                person["title"] = json!("Dr");
                corp.post("/Users", &person).expect(201).id()
            })
            .collect();
        let members: Vec<&str> = ids.iter().take(5).map(String::as_str).collect();
        let team = corp.post("/Groups", &group("Team", &members)).expect(201).id();
        let scene = Self { app, house, ids, team };
        scene.whole("the app is filled");
        scene
    }

    #[track_caller]
    fn whole(&self, what: &str) {
        let team: BTreeSet<String> = (0..5).map(|number| format!("u{number}")).collect();
        eventually(what, || {
            let accounts = self.app.accounts();
            let people = (0..PEOPLE).all(|number| {
                accounts.get(&format!("u{number}")).is_some_and(|account| {
                    account.get("title") == Some(&json!("Dr")) && account.get("active") == Some(&json!(true))
                })
            });
            (people && self.app.groups().get("Team") == Some(&team) && self.due() == 0).then_some(())
        });
    }

    fn admin(&self) -> Client {
        Client::new(self.house.env("ADMIN_URL"), self.house.env("ADMIN_TOKEN"))
    }

    fn due(&self) -> u64 {
        let status = self.admin().get("/api/v1/status").expect(200).body;
        status["apps"]["wiki"]["due"].as_u64().unwrap_or(u64::MAX)
    }

    /// Reconciles the app and waits for the end.
    fn reconcile(&self) -> Value {
        let printed = self.house.rollcall(&["app", "reconcile", "wiki", "--wait", "--json"]);
        serde_json::from_str(&printed).expect("one JSON object")
    }

    fn title(&self, name: &str, title: &str) {
        self.app.edit("/Users", name, |account| drop(account.insert("title".to_string(), json!(title))));
    }

    /// Calls that change something.
    fn writes(&self) -> Vec<String> {
        let calls = self.app.calls();
        let writes = calls.iter().filter(|call| call.method != "GET");
        writes.map(|call| format!("{} {} {}", call.method, call.path, call.status)).collect()
    }
}

#[track_caller]
fn counts(found: &Value, drifted: u64, missing: u64, too_many: u64, too_few: u64, strangers: u64) {
    let findings = &found["findings"];
    let counted = ["drifted", "missing", "membersTooMany", "membersTooFew", "strangers"]
        .map(|name| findings[name].as_u64());
    assert_eq!(counted, [drifted, missing, too_many, too_few, strangers].map(Some), "{found}");
}

fn document(value: Value) -> Document {
    value.as_object().unwrap().clone()
}

/// A title, a member too many (ours, and nobody's), one too few, a lost account, a stranger.
fn meddle(scene: &Scene) -> String {
    let app = &scene.app;
    scene.title("u7", "King");
    let theirs = |name: &str| app.account(name).unwrap()["id"].clone();
    let (joins, leaves) = (theirs("u9"), theirs("u1"));
    let stranger = app.add("/Users", document(user("stranger")));
    app.edit("/Groups", "Team", |team| {
        let members = team.get_mut("members").and_then(Value::as_array_mut).unwrap();
        members.retain(|member| member["value"] != leaves);
        members.extend([json!({"value": joins}), json!({"value": stranger})]);
    });
    app.remove("/Users", "u20");
    stranger
}

#[test]
fn what_was_changed_behind_our_back_is_found_and_set_right() {
    let scene = Scene::start("");
    scene.app.forget_calls();
    let found = scene.reconcile();
    counts(&found, 0, 0, 0, 0, 0);
    assert_eq!(found["findings"]["listed"], json!({"User": PEOPLE, "Group": 1}));
    assert_eq!(scene.writes(), Vec::<String>::new(), "nothing was otherwise, and something was written");

    let stranger = meddle(&scene);
    let found = scene.reconcile();
    counts(&found, 1, 1, 2, 1, 1);
    let findings = &found["findings"];
    assert_eq!(findings["firstStrangers"], json!([{"resourceType": "User", "remoteId": stranger}]));
    let named = |id: &str| {
        let drifted = findings["firstDrifted"].as_array().unwrap().iter();
        drifted.filter(|found| found["id"] == id).map(|found| found["paths"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(named(&scene.ids[7]), [json!(["title"])]);
    assert_eq!(named(&scene.team), [json!(["members"])]);
    assert_eq!(named(&scene.ids[20]), [json!(["missing"])]);
    assert!(!found.to_string().contains("King"), "a value: {found}");
    scene.whole("all is as it was");
    assert!(scene.app.account("stranger").is_some_and(|account| account["active"] == true));
    counts(&scene.reconcile(), 0, 0, 0, 0, 1);
}

#[test]
fn what_is_only_to_be_said_is_only_said() {
    let scene = Scene::start("[app.wiki.reconcile]\ndrifted = \"report\"\n");
    meddle(&scene);
    scene.app.forget_calls();
    counts(&scene.reconcile(), 1, 1, 2, 1, 1);
    assert_eq!(scene.writes(), Vec::<String>::new());
    assert_eq!(scene.app.account("u7").unwrap()["title"], "King");
    assert!(scene.app.account("u20").is_none());
}

#[test]
fn a_list_that_breaks_off_says_nothing_about_whom_it_does_not_show() {
    let scene = Scene::start("");
    scene.app.remove("/Users", "u20");
    scene.app.list_only(10);
    scene.app.forget_calls();
    let found = scene.reconcile();
    counts(&found, 0, 0, 0, 0, 0);
    assert!(found["broken"].as_str().is_some_and(|reason| reason.contains("10 of 24")), "{found}");
    assert_eq!(scene.writes(), Vec::<String>::new());
    // A list that shows nobody and says so: everybody is asked for by himself, and is there.
    scene.app.get_well();
    scene.app.answer_next_with(1, 403);
    let found = scene.reconcile();
    assert!(found["broken"].as_str().is_some_and(|reason| reason.contains("403")), "{found}");
    assert_eq!(scene.writes(), Vec::<String>::new());
    let found = scene.reconcile();
    counts(&found, 0, 1, 0, 0, 0);
    scene.whole("the lost one is there again");
}

/// Emptied, the app counts from one again: whoever comes next gets an id that we know as somebody else's.
#[test]
fn an_id_that_is_given_again_makes_nobody_somebody_else() {
    let scene = Scene::start("");
    scene.app.count_again();
    scene.house.corp().post("/Users", &user("newcomer")).expect(201);
    let given = eventually("the newcomer's account", || scene.app.account("newcomer"))["id"].clone();
    eventually("it is written down", || (scene.due() == 0).then_some(()));
    scene.app.forget_calls();
    scene.reconcile();
    scene.whole("everybody is there again");
    assert_eq!(scene.app.account("newcomer").unwrap()["id"], given);
    let touched = format!("/Users/{}", given.as_str().unwrap());
    let touched = |call: &street::apps::Call| call.method != "GET" && call.path.ends_with(&touched);
    assert!(!scene.app.calls().iter().any(touched), "the newcomer was taken for somebody else");
}

#[test]
fn an_app_that_lost_everything_is_filled_again() {
    let scene = Scene::start("");
    scene.app.forget_all();
    let found = scene.reconcile();
    // The group is noticed when its lost members are, or by its own absence.
    assert!(found["findings"]["missing"].as_u64() >= Some(PEOPLE as u64), "{found}");
    scene.whole("everybody is there again");
}

#[test]
fn what_an_app_does_not_keep_is_not_told_for_ever() {
    let scene = Scene::start("");
    scene.title("u3", "King");
    scene.app.forget("title");
    let found = scene.reconcile();
    counts(&found, 1, 0, 0, 0, 0);
    assert_eq!(found["findings"]["notKept"][0]["id"], scene.ids[3].as_str(), "{found}");
    scene.app.forget_calls();
    counts(&scene.reconcile(), 0, 0, 0, 0, 0);
    assert_eq!(scene.writes(), Vec::<String>::new());
    // Something else is intended, so it is tried again.
    scene.app.get_well();
    let operations = json!([{"op": "replace", "path": "title", "value": "Prof"}]);
    scene.house.corp().patch(&format!("/Users/{}", scene.ids[3]), operations).expect(200);
    eventually("the new title", || {
        scene.app.account("u3").filter(|account| account.get("title") == Some(&json!("Prof")))
    });
    scene.title("u3", "Queen");
    counts(&scene.reconcile(), 1, 0, 0, 0, 0);
    eventually("it is set right", || {
        scene.app.account("u3").filter(|account| account.get("title") == Some(&json!("Prof")))
    });
}

#[test]
fn a_stranger_is_switched_off_where_that_is_wished_and_becomes_whose_he_is() {
    let scene = Scene::start("[app.wiki.reconcile]\nstrangers = \"deactivate\"\n");
    let theirs = scene.app.add("/Users", document(user("late")));
    counts(&scene.reconcile(), 0, 0, 0, 0, 1);
    let off = || scene.app.account("late").filter(|account| account.get("active") == Some(&json!(false)));
    eventually("he is switched off", off);
    // Somebody switches him on again.
    scene.app.edit("/Users", "late", |account| drop(account.insert("active".to_string(), json!(true))));
    counts(&scene.reconcile(), 1, 0, 0, 0, 1);
    eventually("he is switched off again", off);
    // He is hired: the account that was nobody's is his.
    scene.house.corp().post("/Users", &user("late")).expect(201);
    let on = eventually("he is switched on", || {
        scene
            .app
            .account("late")
            .filter(|account| account["active"] == true && account.contains_key("externalId"))
    });
    assert_eq!(on["id"], theirs.as_str());
    counts(&scene.reconcile(), 0, 0, 0, 0, 0);
    assert_eq!(scene.app.account("late").unwrap()["active"], true);
}

#[test]
fn one_that_was_interrupted_begins_again() {
    let mut scene = Scene::start("");
    scene.title("u7", "King");
    scene.app.answer_reads_with(503);
    scene.app.forget_calls();
    scene.house.rollcall(&["app", "reconcile", "wiki"]);
    eventually("it began", || (scene.app.calls_like("GET", "/Users?", 503) > 0).then_some(()));
    scene.house.kill();
    scene.app.get_well();
    scene.house.start_again();
    scene.whole("what was otherwise is set right after the restart");
}

#[test]
fn what_an_app_changed_may_stay_until_the_directory_changes_it() {
    let mut scene = Scene::start("[app.wiki.reconcile.attributes]\ntitle = \"adopt\"\n");
    let title = |scene: &Scene, name: &str| scene.app.account(name).unwrap().get("title").cloned();
    let write = |scene: &Scene, path: &str, value: &str| {
        let operations = json!([{"op": "replace", "path": path, "value": value}]);
        scene.house.corp().patch(&format!("/Users/{}", scene.ids[1]), operations).expect(200);
    };
    let named = |scene: &Scene, path: &str, value: &str| {
        eventually(value, || {
            let account = scene.app.account("u1")?;
            (account.get(path) == Some(&json!(value)) && scene.due() == 0).then_some(())
        });
    };
    scene.title("u1", "Prof");
    scene.app.edit("/Users", "u2", |account| drop(account.insert("displayName".to_string(), json!("Z"))));
    scene.app.edit("/Users", "u3", |account| drop(account.remove("title")));
    scene.app.forget_calls();
    counts(&scene.reconcile(), 3, 0, 0, 0, 0);
    eventually("what is said of nothing is told again", || {
        let account = scene.app.account("u2")?;
        (account.get("displayName") == Some(&json!("Person u2")) && scene.due() == 0).then_some(())
    });
    assert_eq!(scene.writes().len(), 1, "{:?}", scene.writes());
    assert_eq!((title(&scene, "u1"), title(&scene, "u3")), (Some(json!("Prof")), None));
    counts(&scene.reconcile(), 0, 0, 0, 0, 0);
    let why = scene.house.rollcall(&["why", &scene.ids[1], "wiki"]);
    assert!(why.contains("Decided") && why.contains("title: \"Dr\" -> \"Prof\""), "{why}");
    assert!(why.contains("it is left there: title"), "{why}");
    // It is left there when something else is told, and after a restart.
    scene.house.kill();
    scene.house.start_again();
    write(&scene, "displayName", "Countess");
    named(&scene, "displayName", "Countess");
    assert_eq!(title(&scene, "u1"), Some(json!("Prof")));
    // What the directory changes is the directory's again, also when it changes it back.
    write(&scene, "title", "Lady");
    named(&scene, "title", "Lady");
    write(&scene, "title", "Dr");
    named(&scene, "title", "Dr");
}

#[test]
fn what_is_done_about_drift_can_be_said_of_one_attribute() {
    let scene = Scene::start("[app.wiki.reconcile.attributes]\ntitle = \"report\"\nmembers = \"report\"\n");
    scene.title("u1", "Prof");
    scene.app.edit("/Users", "u2", |account| drop(account.insert("displayName".to_string(), json!("Z"))));
    scene.app.edit("/Groups", "Team", |team| drop(team.insert("members".to_string(), json!([]))));
    let found = scene.reconcile()["findings"].clone();
    assert_eq!((&found["drifted"], &found["membersTooFew"]), (&json!(2), &json!(5)), "{found}");
    eventually("the name is told again", || {
        let account = scene.app.account("u2")?;
        (account.get("displayName") == Some(&json!("Person u2"))).then_some(())
    });
    let title = scene.app.account("u1").and_then(|account| account.get("title").cloned());
    assert_eq!(title, Some(json!("Prof")), "it is only said");
    assert_eq!(scene.app.groups().get("Team").map(BTreeSet::len), Some(0));
}

/// At an app that counts each type from one, a group has the id of somebody whom we know, and is nobody's all the same.
#[test]
fn a_group_is_not_taken_for_somebody_with_the_same_id() {
    let app = App::start(Kind::Scim);
    app.count_types();
    let house = House::feeding(&[("wiki", &app, "match_groups = [\"displayName\"]\n")]);
    let corp = house.corp();
    let ids: Vec<String> = ["ada", "bob", "eve"]
        .map(|name| {
            let id = corp.post("/Users", &user(name)).expect(201).id();
            eventually("the account", || app.account(name));
            id
        })
        .into();
    let by_hand = |name: &str| {
        let schemas = json!(["urn:ietf:params:scim:schemas:core:2.0:Group"]);
        let group = json!({"schemas": schemas, "displayName": name, "members": []});
        app.add("/Groups", group.as_object().unwrap().clone())
    };
    assert_eq!((by_hand("Team"), by_hand("Strangers")), ("1".to_string(), "2".to_string()));
    // The one is found by its name, although somebody has its id; the other is a stranger.
    let team = corp.post("/Groups", &group("Team", &[&ids[0], &ids[2]])).expect(201).id();
    let members = || app.groups().remove("Team").unwrap_or_default().len();
    eventually("the group is ours", || (members() == 2).then_some(()));
    assert_eq!(app.groups().len(), 2, "it was not made a second time");
    let scene = Scene { app, house, ids, team };
    let found = scene.reconcile();
    counts(&found, 0, 0, 0, 0, 1);
    assert_eq!(found["findings"]["firstStrangers"][0]["resourceType"], "Group", "{found}");
    // Bob is put into the group by hand: its only owner by that id is a user.
    let bob = scene.app.account("bob").unwrap()["id"].clone();
    let joins = |group: &mut Document| {
        group["members"].as_array_mut().unwrap().push(json!({"value": bob}));
    };
    scene.app.edit("/Groups", "Team", joins);
    assert_eq!(members_of(&scene, "Team"), 3);
    scene.reconcile();
    eventually("bob is out of it again", || (members_of(&scene, "Team") == 2).then_some(()));
}

fn members_of(scene: &Scene, group: &str) -> usize {
    scene.app.groups().remove(group).unwrap_or_default().len()
}
