//! Names that no other account of an app has are chosen, remembered and kept, whoever comes and goes.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use street::House;
use street::apps::{App, Document, Kind};
use street::house::{eventually, user};

const MAP: &str = r#"
[app.wiki.map]
userName = "unique(user.name.givenName.lowerAscii() + '.' + user.name.familyName.lowerAscii(), user.name.givenName.lowerAscii())"
displayName = "user.displayName"
title = "user.title"
"#;

fn person(name: &str, given: &str, family: &str) -> Value {
    let mut person = user(name);
    person["name"] = json!({"givenName": given, "familyName": family});
    person
}

fn stranger(name: &str) -> Document {
    user(name).as_object().expect("an object").clone()
}

fn set(house: &House, id: &str, path: &str, value: &str) {
    let operations = json!([{"op": "replace", "path": path, "value": value}]);
    house.corp().patch(&format!("/Users/{id}"), operations).expect(200);
}

/// The user names at the app, by our ids.
fn names(app: &App) -> BTreeMap<String, String> {
    let accounts = app.accounts().into_iter();
    accounts
        .filter_map(|(name, account)| Some((account.get("externalId")?.as_str()?.to_string(), name)))
        .collect()
}

/// Waits until somebody has a title, and says what he is called.
#[track_caller]
fn titled(app: &App, id: &str, title: &str) -> String {
    eventually("the title", || {
        let name = names(app).remove(id)?;
        (app.account(&name)?.get("title") == Some(&json!(title))).then_some(name)
    })
}

/// Waits until somebody is called so.
#[track_caller]
fn called(app: &App, id: &str, name: &str) {
    eventually(name, || (names(app).get(id).map(String::as_str) == Some(name)).then_some(()));
}

#[test]
fn two_people_of_one_name_have_two_and_keep_them() {
    let app = App::start(Kind::Scim);
    app.add("/Users", stranger("ada.lovelace"));
    let mut house = House::feeding(&[("wiki", &app, MAP)]);
    let corp = house.corp();
    let ids =
        ["one", "two"].map(|name| corp.post("/Users", &person(name, "Ada", "Lovelace")).expect(201).id());
    let expected: BTreeSet<String> = ["ada", "ada.lovelace2"].map(str::to_string).into();
    let chosen = eventually("both have an account", || {
        let names = names(&app);
        (names.len() == 2).then_some(names)
    });
    assert_eq!(chosen.values().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(!app.account("ada.lovelace").unwrap().contains_key("externalId"), "the stranger is left alone");
    let whose = |name: &str| chosen.iter().find(|(_, own)| *own == name).map(|(id, _)| id.clone()).unwrap();
    let (short, long) = (whose("ada"), whose("ada.lovelace2"));

    // Neither a restart nor a name that becomes free changes anybody's.
    house.kill();
    app.remove("/Users", "ada.lovelace");
    house.start_again();
    for id in &ids {
        set(&house, id, "title", "Dr");
        assert_eq!(titled(&app, id, "Dr"), chosen[id]);
    }
    // What it was made of is a candidate still.
    set(&house, &short, "name.familyName", "Byron");
    set(&house, &short, "title", "Prof");
    assert_eq!(titled(&app, &short, "Prof"), "ada");
    assert_eq!(app.calls_like("POST", "/Users", 201), 2);

    // It says so, with what it was before.
    let why = house.rollcall(&["why", &long, "wiki"]);
    assert!(why.contains("Decided") && why.contains("userName"), "{why}");
    assert!(why.contains("ada.lovelace2") && why.contains("409"), "{why}");
    assert!(!house.log().contains("lovelace2"), "the log tells a name");

    // Somebody leaves; the other keeps hers, and who is renamed takes what is free by then.
    house.corp().delete(&format!("/Users/{short}")).expect(204);
    eventually("she is gone", || app.account("ada").is_none().then_some(()));
    set(&house, &long, "title", "Lady");
    assert_eq!(titled(&app, &long, "Lady"), "ada.lovelace2");
    app.add("/Users", stranger("ada.king"));
    set(&house, &long, "name.familyName", "King");
    called(&app, &long, "ada");
    assert!(app.account("ada.king").is_some_and(|account| !account.contains_key("externalId")));
    set(&house, &long, "name.familyName", "Noel");
    set(&house, &long, "title", "Miss");
    assert_eq!(titled(&app, &long, "Miss"), "ada", "it is a candidate still");
    set(&house, &long, "name.givenName", "Annabella");
    called(&app, &long, "annabella.noel");
}

/// Each has the name of the next one there, so that none could be told his own.
#[test]
fn names_that_went_round_while_the_app_was_away_go_round_there_too() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "")]);
    let corp = house.corp();
    let rounds = [vec!["ada@corp.test", "eve@corp.test"], vec!["bob", "cyn", "dan"]];
    let all: Vec<&str> = rounds.iter().flatten().copied().collect();
    let ids: BTreeMap<&str, String> =
        all.iter().map(|name| (*name, corp.post("/Users", &user(name)).expect(201).id())).collect();
    eventually("everybody is made", || (app.accounts().len() == all.len()).then_some(()));
    app.answer_all_with(503);
    let mut expected = BTreeMap::new();
    for round in &rounds {
        set(&house, &ids[round[0]], "userName", "nobody");
        for place in (0..round.len()).rev() {
            let (one, next) = (round[place], round[(place + 1) % round.len()]);
            set(&house, &ids[one], "userName", next);
            expected.insert(ids[one].clone(), next.to_string());
        }
    }
    app.get_well();
    eventually("each has his name", || (names(&app) == expected).then_some(()));
}

#[test]
fn a_crowd_of_one_name_is_counted_without_asking_the_app() {
    const CROWD: usize = 12;
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[(
        "wiki",
        &app,
        "[app.wiki.map]\nuserName = \"unique(user.displayName)\"\nnickName = { value = \"unique(user.title)\", create_only = true }\n",
    )]);
    let corp = house.corp();
    let ids: Vec<String> = (0..CROWD)
        .map(|number| {
            let mut one = user(&format!("u{number}"));
            (one["displayName"], one["title"]) = (json!("ann@x.test"), json!("Boss"));
            corp.post("/Users", &one).expect(201).id()
        })
        .collect();
    let names = eventually("all have an account", || {
        let names = names(&app);
        (names.len() == CROWD).then_some(names)
    });
    let numbered = (2..=CROWD).map(|number| format!("ann{number}@x.test"));
    let expected: BTreeSet<String> = numbered.chain(["ann@x.test".to_string()]).collect();
    assert_eq!(names.values().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(app.calls_like("POST", "/Users", 409), 0, "{:?}", app.calls());
    let nicks = |app: &App| -> BTreeMap<String, Value> {
        app.accounts().into_iter().map(|(name, account)| (name, account["nickName"].clone())).collect()
    };
    let before = nicks(&app);
    assert_eq!(before.values().map(Value::to_string).collect::<BTreeSet<_>>().len(), CROWD);
    // What is said once is chosen once.
    set(&house, &ids[0], "title", "Chief");
    set(&house, &ids[0], "displayName", "eve@x.test");
    called(&app, &ids[0], "eve@x.test");
    let eve = &app.account("eve@x.test").unwrap()["nickName"];
    assert_eq!(*eve, before[&names[&ids[0]]]);
}
