//! A changed configuration reaches a few first, then more, then all; and what stops it.

#![cfg(test)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::control::Kind as Said;
use serde_json::{Value, json};
use street::House;
use street::apps::{App, Kind};
use street::control::control;
use street::house::{eventually, pause, user};

const BEFORE: &str = "[app.wiki.map]\nuserName = 'user.userName'\ntitle = { constant = 'before' }\n";
const AFTER: &str = "[app.wiki.map]\nuserName = 'user.userName'\ntitle = { constant = 'after' }\n";

fn rollout(stages: &str, wait_minutes: u32) -> String {
    format!("[app.wiki.rollout]\nstages = {stages}\nwait_minutes = {wait_minutes}\n")
}

/// How `rollcall app show` tells the app.
fn shown(house: &House) -> Value {
    serde_json::from_str(&house.rollcall(&["app", "show", "wiki", "--json"])).expect("one JSON object")
}

fn join(house: &House, names: impl Iterator<Item = String>) -> Vec<String> {
    names.map(|name| house.corp().post("/Users", &user(&name)).expect(201).id()).collect()
}

/// How many accounts have each title.
fn titles(app: &App) -> BTreeMap<String, usize> {
    let mut titles = BTreeMap::new();
    for account in app.accounts().values() {
        let title = account.get("title").and_then(Value::as_str).unwrap_or_default();
        *titles.entry(title.to_string()).or_default() += 1;
    }
    titles
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(title, count)| (title.to_string(), *count)).collect()
}

/// An app that is filled with so many people.
fn filled(count: usize, stages: &str, wait_minutes: u32) -> (App, House, Vec<String>) {
    let app = App::start(Kind::Scim);
    let more = format!("{}{BEFORE}", rollout(stages, wait_minutes));
    let house = House::feeding(&[("wiki", &app, &more)]);
    let ids = join(&house, (0..count).map(|number| format!("u{number}")));
    eventually("the app is filled", || {
        let told = shown(&house);
        (told["linked"] == count && told["due"] == 0).then_some(())
    });
    assert_eq!(titles(&app), counts(&[("before", count)]));
    app.forget_calls();
    (app, house, ids)
}

fn change(house: &mut House, app: &App, stages: &str, wait_minutes: u32, map: &str) {
    house.configure(&app.configuration("wiki", &format!("{}{map}", rollout(stages, wait_minutes))));
    house.rollcall(&["config", "reload", "--by", "ann"]);
}

fn writes(app: &App) -> usize {
    app.calls().iter().filter(|call| call.method != "GET").count()
}

/// What CONTROL tells of rollouts: the operations, in their order.
fn written(house: &House) -> Vec<String> {
    let operated = control(house).into_iter().filter_map(|event| match event.kind {
        Said::Operated { operation, .. } => Some(operation),
        _ => None,
    });
    operated.filter(|operation| operation != "reconcile").collect()
}

#[test]
fn one_that_is_refused_stops_the_rollout_and_taking_it_back_touches_nobody_else() {
    let (app, mut house, ids) = filled(30, "[1, 5, \"all\"]", 0);
    app.answer_all_with(400);
    change(&mut house, &app, "[1, 5, \"all\"]", 0, AFTER);
    let stopped = eventually("it stops", || {
        let told = shown(&house)["rollout"].clone();
        told["stopped"].is_object().then_some(told)
    });
    assert_eq!((&stopped["stage"], &stopped["of"]), (&json!(1), &json!(30)), "{stopped}");
    assert!(stopped["stopped"]["why"].as_str().unwrap().contains("400"), "{stopped}");
    assert_eq!(writes(&app), 1, "{:?}", app.calls());
    let text = house.rollcall(&["app", "list"]);
    assert!(text.contains("stopped: rollout"), "{text}");
    let text = house.rollcall(&["app", "show", "wiki"]);
    assert!(text.contains("stage 1 of 3, 1 of 30 resources") && text.contains("release it"), "{text}");

    // Neither a kill nor a restart goes on; events do, under the new configuration, also those that came meanwhile.
    house.kill();
    app.get_well();
    house.start_again();
    join(&house, std::iter::once("newcomer".to_string()));
    house.corp().delete(&format!("/Users/{}", ids[0])).expect(204);
    house
        .corp()
        .patch(&format!("/Users/{}", ids[1]), json!([{"op": "replace", "path": "userName", "value": "u1x"}]))
        .expect(200);
    let asked = counts(&[("after", 2), ("before", 28)]);
    eventually("what events ask for", || {
        (titles(&app) == asked && app.account("u0").is_none()).then_some(())
    });
    assert!(shown(&house)["rollout"]["stopped"].is_object());

    // Taken back: nobody else was touched, and what was done is undone without any stage.
    app.forget_calls();
    change(&mut house, &app, "[1, 5, \"all\"]", 0, BEFORE);
    eventually("all as before", || {
        let told = shown(&house);
        (titles(&app) == counts(&[("before", 30)]) && told["rollout"].is_null() && told["due"] == 0)
            .then_some(())
    });
    assert!(writes(&app) <= 3, "{:?}", app.calls());

    // Once more, at an app that takes it: all stages, without a wait.
    change(&mut house, &app, "[1, 5, \"all\"]", 0, AFTER);
    eventually("everybody", || {
        (titles(&app) == counts(&[("after", 30)]) && shown(&house)["rollout"].is_null()).then_some(())
    });
    let expected = [
        "rollout",
        "rollout_stop",
        "rollout_take_back",
        "rollout",
        "rollout_stage",
        "rollout_stage",
        "rollout_finish",
    ];
    assert_eq!(written(&house), expected);
}

#[test]
fn a_stage_waits_and_is_read_back_and_a_release_accepts_what_stopped_it() {
    let (app, mut house, ids) = filled(12, "[2, \"all\"]", 0);
    // The app says yes and keeps nothing of it.
    app.forget("title");
    change(&mut house, &app, "[2, \"all\"]", 10_000, AFTER);
    let why =
        eventually("it stops", || shown(&house)["rollout"]["stopped"]["why"].as_str().map(str::to_string));
    assert!(why.contains("does not keep title"), "{why}");
    assert!(writes(&app) <= 4, "told twice, at most two of them: {:?}", app.calls());
    app.get_well();
    let own = house.attempt(&["app", "release", "wiki", "--by", "ann"]);
    let told = String::from_utf8(own.stderr).unwrap();
    assert!(!own.status.success() && told.contains("ann caused it: somebody else must release it"), "{told}");
    let text = house.rollcall(&["app", "release", "wiki", "--by", "bob", "--why", "the app is well again"]);
    assert!(text.contains("let go on by bob"), "{text}");
    eventually("the stage is done, and the next one waits", || {
        let told = shown(&house)["rollout"].clone();
        (told["settledAt"].is_string() && told["done"] == 2).then_some(())
    });
    house.kill();
    house.start_again();
    eventually("it still waits", || {
        let told = shown(&house);
        (told["rollout"]["settledAt"].is_string() && told["due"].as_u64()? >= 10).then_some(())
    });
    assert_eq!(shown(&house)["rollout"]["stage"], 1);
    let after = titles(&app).get("after").copied().unwrap_or_default();
    assert!(after <= 2, "{:?}", titles(&app));
    // A leaver waits for nothing.
    house.corp().delete(&format!("/Users/{}", ids[3])).expect(204);
    eventually("the leaver is gone", || app.account("u3").is_none().then_some(()));
    // Without the section nobody waits any more.
    house.configure(&app.configuration("wiki", AFTER));
    house.rollcall(&["config", "reload", "--by", "ann"]);
    eventually("nobody waits", || {
        let told = shown(&house);
        (told["rollout"].is_null() && told["due"] == 0 && titles(&app).get("after") >= Some(&9)).then_some(())
    });
}

/// A minute is the shortest wait that can be configured, and it outlasts a kill.
#[test]
fn after_its_wait_a_rollout_goes_on_by_itself() {
    let (app, mut house, _) = filled(12, "[2, \"all\"]", 1);
    change(&mut house, &app, "[2, \"all\"]", 1, AFTER);
    let settled = eventually("the first stage is done", || {
        let told = shown(&house)["rollout"].clone();
        told["settledAt"].as_str().map(|at| (at.to_string(), told["author"].clone()))
    });
    assert_eq!(settled.1, "ann");
    assert_eq!(titles(&app), counts(&[("after", 2), ("before", 10)]));
    house.kill();
    house.start_again();
    let begun = Instant::now();
    while titles(&app) != counts(&[("after", 12)]) {
        assert!(begun.elapsed() < Duration::from_secs(240), "it does not go on: {}", shown(&house));
        pause();
    }
    eventually("it is finished", || shown(&house)["rollout"].is_null().then_some(()));
    // When, the house itself wrote down.
    let stage = control(&house).into_iter().find(
        |event| matches!(&event.kind, Said::Operated { operation, .. } if operation == "rollout_stage"),
    );
    let waited = stage.expect("a stage").occurred_at.duration_since(settled.0.parse().expect("a time"));
    assert!(waited.as_secs() >= 60, "it waited {waited} only");
}

#[test]
fn whoever_applied_a_configuration_that_is_too_much_cannot_release_it() {
    let app = App::start(Kind::Scim);
    let guard = "[app.wiki.guard]\nunasked_create = { more_than = 5 }\n";
    let mut house = House::feeding(&[("wiki", &app, &format!("users = 'userName eq \"u0\"'\n{guard}"))]);
    join(&house, (0..12).map(|number| format!("u{number}")));
    eventually("the app is filled", || {
        let told = shown(&house);
        (app.accounts().len() == 1 && told["due"] == 0 && told["filling"].is_null()).then_some(())
    });
    house.configure(&app.configuration("wiki", guard));
    house.rollcall(&["config", "reload", "--by", "ann"]);
    let tripped = eventually("it is held", || {
        let tripped = shown(&house)["tripped"]["unasked_create"].clone();
        tripped.is_object().then_some(tripped)
    });
    assert_eq!(tripped["authors"], json!(["ann"]), "{tripped}");
    let own = house.attempt(&["app", "release", "wiki", "--by", "ann"]);
    let told = String::from_utf8(own.stderr).unwrap();
    assert!(!own.status.success() && told.contains("ann caused it: somebody else must release it"), "{told}");
    assert_eq!(app.accounts().len(), 1);
    house.rollcall(&["app", "release", "wiki", "--by", "bob"]);
    eventually("everybody has an account", || (app.accounts().len() == 12).then_some(()));
}
