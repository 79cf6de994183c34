//! What stops a dispatcher and lets it go on: guard rails, pauses, an app that is only read; and what an operator asks.

#![cfg(test)]

use proto::control;
use serde_json::{Value, json};
use street::House;
use street::apps::{App, Document, Kind};
use street::control::control as administration;
use street::house::{eventually, group, user};

/// How `rollcall app show` tells an app.
fn shown(house: &House, app: &str) -> Value {
    serde_json::from_str(&house.rollcall(&["app", "show", app, "--json"])).expect("one JSON object")
}

/// What a command says that must fail.
#[track_caller]
fn refused(house: &House, arguments: &[&str]) -> String {
    let output = house.attempt(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn people(house: &House, names: impl Iterator<Item = String>) -> Vec<String> {
    let corp = house.corp();
    names.map(|name| corp.post("/Users", &user(&name)).expect(201).id()).collect()
}

#[test]
fn a_source_that_deletes_most_of_its_people_waits_for_somebody_else() {
    let app = App::start(Kind::Scim);
    let mut house = House::feeding(&[("wiki", &app, "[app.wiki.guard]\ndelete = { percent = 20 }\n")]);
    let ids = people(&house, (0..99).map(|number| format!("u{number}")));
    let members: Vec<&str> = ids.iter().map(String::as_str).collect();
    house.corp().post("/Groups", &group("Everybody", &members)).expect(201);
    eventually("everybody is a member", || {
        (app.groups().get("Everybody").map(|members| members.len()) == Some(99)).then_some(())
    });

    let corp = house.corp();
    for id in ids.iter().take(60) {
        corp.delete(&format!("/Users/{id}")).expect(204);
    }
    let is_held = |house: &House| {
        let waiting = shown(house, "wiki")["tripped"]["delete"]["waiting"].as_u64()?;
        (waiting + 99 - app.accounts().len() as u64 == 60).then_some(())
    };
    eventually("the rest waits", || is_held(&house));
    let left = app.accounts().len();
    // The group has an account, too: a fifth of a hundred.
    assert!((79..=99).contains(&left), "{left} are left: more than a fifth went");
    assert_eq!(app.groups()["Everybody"].len(), left, "whoever has an account is a member");

    // Neither a kill nor anything else lets it through; what else there is to do goes on.
    house.kill();
    house.start_again();
    people(&house, std::iter::once("newcomer".to_string()));
    eventually("the newcomer's account", || app.account("newcomer"));
    eventually("the rest still waits", || {
        let waiting = shown(&house, "wiki")["tripped"]["delete"]["waiting"].as_u64()?;
        (waiting + 99 - left as u64 == 60).then_some(())
    });
    assert_eq!((app.accounts().len(), app.groups()["Everybody"].len()), (left + 1, left));
    let text = house.rollcall(&["app", "list"]);
    assert!(text.contains("stopped: delete"), "{text}");

    let text = refused(&house, &["app", "release", "wiki", "--by", "first-client"]);
    assert!(text.contains("first-client") && text.contains("somebody else"), "{text}");
    house.rollcall(&["app", "release", "wiki", "--by", "ann", "--why", "the department is gone"]);
    eventually("the rest goes", || (app.accounts().len() == 40).then_some(()));
    eventually("so do their memberships", || (app.groups()["Everybody"].len() == 39).then_some(()));
    let told = shown(&house, "wiki");
    assert_eq!(told["released"]["delete"]["by"], "ann");
    assert!(told["tripped"].as_object().unwrap().is_empty(), "{told}");

    // From now on it counts anew.
    let corp = house.corp();
    for id in ids.iter().skip(60).take(20) {
        corp.delete(&format!("/Users/{id}")).expect(204);
    }
    eventually("it trips once more", || shown(&house, "wiki")["tripped"]["delete"]["waiting"].as_u64());
    assert!(app.accounts().len() >= 32, "more than a fifth of 40 went");
}

#[test]
fn a_scope_that_matches_everybody_is_held_before_its_first_call() {
    let app = App::start(Kind::Scim);
    let guard = "[app.wiki.guard]\nunasked_create = { percent = 50 }\n";
    let staff = format!("users = 'title eq \"Staff\"'\n{guard}");
    let mut house = House::feeding(&[]);
    let join = |house: &House, numbers: std::ops::Range<u32>| {
        for number in numbers {
            let mut body = user(&format!("u{number}"));
            body["title"] = json!(if number < 6 { "Staff" } else { "Guest" });
            house.corp().post("/Users", &body).expect(201);
        }
    };
    // Some are there before the app, and it is filled with them; some come later.
    join(&house, 0..3);
    assert!(house.stop());
    house.configure(&app.configuration("wiki", &staff));
    house.start_again();
    join(&house, 3..26);
    eventually("the staff's accounts", || (app.accounts().len() == 6).then_some(()));
    eventually("they are written down", || {
        let told = shown(&house, "wiki");
        (told["linked"] == 6 && told["due"] == 0).then_some(())
    });
    assert!(house.stop());
    app.forget_calls();

    // The edit, and it is taken back: nothing was done, so there is nothing to undo.
    house.configure(&app.configuration("wiki", guard));
    house.start_again();
    let tripped = eventually("it is foreseen", || {
        let told = shown(&house, "wiki");
        told["tripped"]["unasked_create"].as_object().cloned()
    });
    assert_eq!(
        (&tripped["foreseen"], &tripped["counted"], &tripped["of"]),
        (&json!(true), &json!(20), &json!(6))
    );
    let text = house.rollcall(&["app", "show", "wiki"]);
    assert!(text.contains("the configuration would make 20 of 6 accounts"), "{text}");
    assert_eq!(app.calls_count(), 0);
    assert!(house.stop());
    house.configure(&app.configuration("wiki", &staff));
    house.start_again();
    eventually("nothing waits", || {
        let told = shown(&house, "wiki");
        (told["tripped"].as_object()?.is_empty() && told["due"] == 0).then_some(())
    });
    assert_eq!(app.calls_count(), 0);

    // Once more, through a kill, and released.
    house.kill();
    house.configure(&app.configuration("wiki", guard));
    house.start_again();
    eventually("it is foreseen again", || {
        shown(&house, "wiki")["tripped"]["unasked_create"]["waiting"].as_u64()
    });
    house.kill();
    house.start_again();
    eventually("it still waits", || (shown(&house, "wiki")["due"].as_u64()? >= 20).then_some(()));
    assert_eq!(app.calls_count(), 0);
    house.rollcall(&["app", "release", "wiki", "--by", "ann"]);
    eventually("everybody has an account", || (app.accounts().len() == 26).then_some(()));
}

/// Another instance answers there, and whoever has Ada's id in it is somebody else.
#[test]
fn an_app_at_another_address_is_asked_about_before_its_first_call() {
    let (app, other) = (App::start(Kind::Scim), App::start(Kind::Scim));
    let elsewhere = other.configuration("wiki", "").replace("127.0.0.1", "localhost");
    let mut house = House::feeding(&[("wiki", &app, "")]);
    let ids = people(&house, ["ada", "eve"].into_iter().map(str::to_string));
    eventually("their accounts", || (shown(&house, "wiki")["linked"] == 2).then_some(()));
    let goes_to = |house: &mut House, configuration: &str| {
        assert!(house.stop());
        house.configure(configuration);
        house.start_again();
    };
    let question = |house: &House| shown(house, "wiki")["paused"]["why"].as_str().map(str::to_string);

    goes_to(&mut house, &elsewhere);
    let why = eventually("a person is asked", || question(&house));
    assert!(why.contains(&app.url()) && why.contains("http://localhost:"), "{why}");
    house.corp().delete(&format!("/Users/{}", ids[0])).expect(204);
    house.rollcall(&["leave", &ids[0], "--now", "--by", "ann"]);
    house.kill();
    house.start_again();
    eventually("she waits", || shown(&house, "wiki")["due"].as_u64().filter(|due| *due > 0));
    assert_eq!((question(&house), other.calls_count()), (Some(why.clone()), 0));
    // What an import finds is not surely whose it seems to be, either.
    let import = house.attempt(&["app", "import", "wiki", "--apply", "--by", "ann", "--yes"]);
    let said = String::from_utf8_lossy(&import.stderr).into_owned();
    assert!(!import.status.success() && said.contains(&why), "{said}");
    people(&house, std::iter::once("fay".to_string()));
    eventually("both wait", || shown(&house, "wiki")["due"].as_u64().filter(|due| *due > 1));
    assert_eq!(other.calls_count(), 0);
    // At the former address there is nothing to ask about.
    goes_to(&mut house, &app.configuration("wiki", ""));
    let is_off = |account: Document| account.get("active") == Some(&json!(false));
    eventually("she leaves where she was", || app.account("ada").is_none_or(is_off).then_some(()));
    assert_eq!(question(&house), None);
    // Somebody says that they are there.
    goes_to(&mut house, &elsewhere);
    eventually("a person is asked again", || question(&house));
    house.rollcall(&["app", "resume", "wiki", "--by", "ann", "--why", "it moved"]);
    people(&house, std::iter::once("bob".to_string()));
    eventually("it goes on there", || other.account("bob"));
    goes_to(&mut house, &elsewhere);
    assert_eq!(question(&house), None);
    let told: Vec<(String, String)> = administration(&house)
        .into_iter()
        .filter_map(|event| match event.kind {
            control::Kind::Operated { operation, .. } if operation != "configuration" => {
                Some((event.actor, operation))
            }
            _ => None,
        })
        .collect();
    let by = |actor: &str, operation: &str| (actor.to_string(), operation.to_string());
    let (paused, resumed) = (by("rollcall", "pause"), by("rollcall", "resume"));
    assert_eq!(told, [paused.clone(), by("ann", "leave"), resumed, paused, by("ann", "resume")]);
}

/// The directory said so while nobody worked for the app, and the configuration that waits is another matter.
#[test]
fn a_leaver_waits_for_no_release_of_a_configuration() {
    let app = App::start(Kind::Scim);
    let guard = "[app.wiki.guard]\nunasked_create = { percent = 50 }\n";
    let staff = format!("users = 'title eq \"Staff\"'\n{guard}");
    let mut house = House::feeding(&[("wiki", &app, &staff)]);
    let join = |name: String, title: &str| {
        let mut body = user(&name);
        body["title"] = json!(title);
        house.corp().post("/Users", &body).expect(201).id()
    };
    let ids: Vec<String> = (0..4).map(|number| join(format!("s{number}"), "Staff")).collect();
    (0..10).for_each(|number| drop(join(format!("g{number}"), "Guest")));
    eventually("the staff's accounts", || {
        let told = shown(&house, "wiki");
        (told["linked"] == 4 && told["due"] == 0).then_some(())
    });
    assert!(house.stop());
    house.configure("");
    house.start_again();
    let corp = house.corp();
    corp.delete(&format!("/Users/{}", ids[0])).expect(204);
    let operations = json!([{"op": "replace", "path": "displayName", "value": "Guest 3"}]);
    let guest =
        corp.get("/Users?filter=userName%20eq%20%22g3%22").expect(200).body["Resources"][0]["id"].clone();
    corp.patch(&format!("/Users/{}", guest.as_str().unwrap()), operations).expect(200);
    assert!(house.stop());
    house.configure(&app.configuration("wiki", guard));
    house.start_again();
    eventually("the configuration is held", || {
        shown(&house, "wiki")["tripped"]["unasked_create"]["waiting"]
            .as_u64()
            .filter(|waiting| *waiting == 10)
    });
    eventually("the leaver is gone", || app.account("s0").is_none().then_some(()));
    let names: Vec<String> = app.accounts().into_keys().collect();
    assert_eq!(names, ["s1", "s2", "s3"], "nobody of those who wait came in");
}

#[test]
fn a_pause_outlasts_a_restart() {
    let app = App::start(Kind::Scim);
    let mut house = House::feeding(&[("wiki", &app, "")]);
    people(&house, std::iter::once("ada".to_string()));
    eventually("the account", || app.account("ada"));
    let text = house.rollcall(&["app", "pause", "wiki", "--by", "ann", "--why", "maintenance"]);
    assert!(text.contains("paused by ann") && text.contains("maintenance"), "{text}");
    let text = refused(&house, &["app", "pause", "wiki", "--by", "bob"]);
    assert!(text.contains("paused already, by ann"), "{text}");
    let text = refused(&house, &["app", "resume", "wiki", "--by", " "]);
    assert!(text.contains("say who you are"), "{text}");
    eventually("it obeys", || {
        shown(&house, "wiki")["waitingFor"]
            .as_str()
            .filter(|why| why.contains("maintenance"))
            .map(str::to_string)
    });
    app.forget_calls();
    people(&house, std::iter::once("bob".to_string()));
    house.kill();
    house.start_again();
    eventually("bob waits", || (shown(&house, "wiki")["due"] == 1).then_some(()));
    assert_eq!(app.calls_count(), 0);
    house.rollcall(&["app", "resume", "wiki", "--by", "bob"]);
    eventually("bob's account", || app.account("bob"));
    let text = refused(&house, &["app", "resume", "wiki", "--by", "bob"]);
    assert!(text.contains("not paused"), "{text}");
    let text = refused(&house, &["app", "show", "chat"]);
    assert!(text.contains("there is no app") && text.contains("wiki"), "{text}");
}

#[test]
fn an_app_that_is_only_read_gets_no_call() {
    let app = App::start(Kind::Scim);
    let mut house = House::feeding(&[("wiki", &app, "read_only = true\n")]);
    people(&house, ["ada", "bob"].map(str::to_string).into_iter());
    let would = |house: &House| {
        let why = shown(house, "wiki")["waitingFor"].as_str()?.to_string();
        why.contains("2 would change").then_some(why)
    };
    eventually("what would be done", || would(&house));
    let text = house.rollcall(&["app", "plan", "wiki"]);
    assert!(text.contains("2 create") && text.contains("create User"), "{text}");
    assert_eq!(app.calls_count(), 0);
    house.kill();
    house.start_again();
    eventually("what would be done after a restart", || would(&house));
    assert_eq!(app.calls_count(), 0);
    // Allowed to, it does what it showed.
    assert!(house.stop());
    house.configure(&app.configuration("wiki", ""));
    house.start_again();
    eventually("their accounts", || (app.accounts().len() == 2).then_some(()));
}

#[test]
fn what_is_held_is_tried_again_when_somebody_says_so() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "")]);
    app.answer_all_with(400);
    let id = people(&house, std::iter::once("ada".to_string())).remove(0);
    eventually("it is held", || (shown(&house, "wiki")["held"] == 1).then_some(()));
    let text = house.rollcall(&["app", "held", "wiki"]);
    assert!(text.contains(&id) && text.contains("400") && text.contains("1 of 1 held"), "{text}");
    app.get_well();
    let text = refused(&house, &["app", "redrive", "wiki", "--by", "ann", "--reason", "another account"]);
    assert!(text.contains("nothing"), "{text}");
    let text = refused(&house, &["app", "redrive", "wiki", "--by", "ann"]);
    assert!(text.contains("--all"), "{text}");
    assert!(app.account("ada").is_none());
    let text = house.rollcall(&["app", "redrive", "wiki", "--by", "ann", "--reason", "(400"]);
    assert!(text.contains("1 "), "{text}");
    eventually("the account", || app.account("ada"));
    eventually("nothing is held", || (shown(&house, "wiki")["held"] == 0).then_some(()));
    let text = house.rollcall(&["why", &id, "wiki"]);
    for part in ["Held create", "Released", "by ann", "Done create"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn an_operator_is_told_what_why_and_when() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "users = 'active eq true'\n")]);
    let corp = house.corp();
    let id = people(&house, std::iter::once("ada".to_string())).remove(0);
    let team = corp.post("/Groups", &group("Team", &[&id])).expect(201).id();
    eventually("a member", || app.groups().get("Team").filter(|members| members.len() == 1).cloned());
    let then = corp.get(&format!("/Groups/{team}")).expect(200).body["meta"]["lastModified"]
        .as_str()
        .unwrap()
        .to_string();
    corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "title", "value": "Dr"}]))
        .expect(200);
    eventually("the title", || {
        app.account("ada").filter(|account| account.get("title") == Some(&json!("Dr")))
    });

    let text = house.rollcall(&["why", "ada", "wiki"]);
    for part in
        ["in scope (active eq true)", "the app's account is", "next: nothing", "title: nothing -> \"Dr\""]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let text = house.rollcall(&["timeline", "ada"]);
    let places: Vec<usize> = ["Created", "Done create", "Updated", "Done update"]
        .iter()
        .map(|part| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}")))
        .collect();
    assert!(places.is_sorted(), "in the order of time: {text}");

    corp.delete(&format!("/Users/{id}")).expect(204);
    eventually("the account is gone", || app.account("ada").is_none().then_some(()));
    let text = eventually("nobody but the team", || {
        Some(house.rollcall(&["who", "wiki"])).filter(|text| text.contains("1 at"))
    });
    assert!(text.contains(&team) && !text.contains(&id), "{text}");
    let first: Value = serde_json::from_str(&house.rollcall(&["timeline", &id, "--json"])).unwrap();
    let made = first["items"].as_array().unwrap().iter().find(|item| item["kind"] == "Done").unwrap();
    let at = made["time"].as_str().unwrap();
    // The instant is told in milliseconds, the log counts finer.
    let at: String = at.replace('Z', "999Z");
    let text = house.rollcall(&["who", "wiki", "--at", &at]);
    assert!(text.contains(&id), "{text}");
    assert!(!house.rollcall(&["who", "wiki", "--at", "2020-01-01"]).contains(&id));
    assert!(!then.is_empty());
}

#[test]
fn a_configuration_is_planned_before_it_is_active() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "users = 'title eq \"Staff\"'\n")]);
    people(&house, (0..3).map(|number| format!("u{number}")));
    let mut ada = user("ada");
    ada["title"] = json!("Staff");
    house.corp().post("/Users", &ada).expect(201);
    eventually("the staff's account", || app.account("ada"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.toml");
    let guard = "[app.wiki.guard]\nunasked_create = { percent = 50 }\n";
    std::fs::write(&file, app.configuration("wiki", guard)).unwrap();
    let with = ["app", "plan", "wiki", "--with", file.to_str().unwrap()];
    let text = house.rollcall(&with);
    for part in ["3 create", "1 nothing", "a guard rail would hold it: unasked_create, 3 of 1"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let text = house.rollcall(&[&with[..], &["--who", "u1"]].concat());
    assert!(text.contains("create User") && text.contains("userName: \"u1\""), "{text}");
    let text = house.rollcall(&["app", "plan", "wiki", "--who", "u1"]);
    assert!(text.contains("nothing User"), "{text}");
    std::fs::write(&file, app.configuration("wiki", "users = 'title eqq'\n")).unwrap();
    let text = refused(&house, &with);
    assert!(text.contains("app.wiki"), "{text}");
    assert_eq!(app.accounts().len(), 1, "nothing was done");
}

#[test]
fn whoever_must_leave_now_passes_what_is_stopped() {
    let app = App::start(Kind::Scim);
    let house = House::feeding(&[("wiki", &app, "")]);
    let ids = people(&house, ["ada", "bob"].map(str::to_string).into_iter());
    eventually("their accounts", || (app.accounts().len() == 2).then_some(()));
    house.rollcall(&["app", "pause", "wiki", "--by", "ann"]);
    eventually("it obeys", || shown(&house, "wiki")["waitingFor"].as_str().map(str::to_string));
    let text = house.rollcall(&["leave", "bob", "--now", "--by", "ann", "--why", "badge withdrawn"]);
    assert!(text.contains("the directory still wants"), "{text}");
    for id in &ids {
        house.corp().delete(&format!("/Users/{id}")).expect(204);
    }
    house.rollcall(&["leave", &ids[0], "--now", "--by", "ann", "--why", "badge withdrawn"]);
    eventually("both that must go are gone", || app.accounts().is_empty().then_some(()));
    people(&house, std::iter::once("eve".to_string()));
    eventually("eve waits", || (shown(&house, "wiki")["due"] == 1).then_some(()));
    assert!(app.account("eve").is_none());
}

#[test]
fn an_operator_is_told_when_somebody_was_in_scope_and_by_what() {
    let app = App::start(Kind::Scim);
    let lines = "users = 'active eq true'\nusers_in = [\"Staff\"]\non_leave = \"deactivate\"\n";
    let house = House::feeding(&[("wiki", &app, lines)]);
    let corp = house.corp();
    let id = people(&house, std::iter::once("ada".to_string())).remove(0);
    let staff = corp.post("/Groups", &group("Staff", &[&id])).expect(201).id();
    let is_on = |on: bool| app.account("ada").filter(|ada| ada.get("active") == Some(&json!(on)));
    let settled = || shown(&house, "wiki")["due"] == 0;
    eventually("the account", || is_on(true).filter(|_| settled()));
    let text = house.rollcall(&["why", "ada", "wiki"]);
    assert!(text.contains(&format!("in scope by the group {staff} \"Staff\"")), "{text}");
    let members = |operation: &str| {
        let change = json!([{"op": operation, "path": "members", "value": [{"value": id}]}]);
        corp.patch(&format!("/Groups/{staff}"), change).expect(200);
    };
    members("remove");
    eventually("it is switched off", || is_on(false).filter(|_| settled()));
    members("add");
    eventually("it is switched on", || is_on(true).filter(|_| settled()));
    corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "active", "value": false}]))
        .expect(200);
    eventually("it is switched off", || is_on(false).filter(|_| settled()));

    let told: Value = serde_json::from_str(&house.rollcall(&["timeline", &id, "--json"])).unwrap();
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_string();
    let scopes: Vec<[String; 3]> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item.get("scope").is_some())
        .map(|item| [text(item, "operation"), text(item, "scope"), text(item, "why")])
        .collect();
    let by = format!("in scope by the filter and the group {staff}");
    let expected = [
        ["create", "entered", &by],
        ["deactivate", "left", "not in the app's scope: in none of its groups"],
        ["update", "entered", &by],
        ["deactivate", "left", "not in the app's scope: its filter does not hold"],
    ];
    assert_eq!(scopes.len(), expected.len(), "{scopes:?}");
    for (found, [operation, scope, why]) in scopes.iter().zip(expected) {
        assert!(found[0] == operation && found[1] == scope && found[2].ends_with(why), "{found:?}");
    }
    let text = house.rollcall(&["timeline", &id]);
    assert!(text.contains("scope entered") && text.contains("scope left"), "{text}");
}
