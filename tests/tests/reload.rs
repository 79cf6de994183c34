//! Another configuration for a house that runs: by signal and by command.

#![cfg(test)]

use proto::control::Kind;
use serde_json::{Value, json};
use street::apps::{self, App};
use street::control::control;
use street::house::{Options, eventually, user};
use street::subscriber::{Subscriber, Verdict};
use street::{Client, House};

const SECRET: &str = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=";
const SHOWN: &str = "attributes = [\"userName\"]\nbegin = \"start\"\n";

/// What was applied, as CONTROL tells it: to what, and by whom.
fn applied(house: &House) -> Vec<(String, String)> {
    let applied = control(house).into_iter().filter_map(|event| match event.kind {
        Kind::ConfigurationApplied { subject, .. } => Some((subject, event.actor)),
        _ => None,
    });
    applied.collect()
}

fn names(subscriber: &Subscriber) -> Vec<String> {
    let taken = subscriber.taken().into_iter();
    let name = |event: &Value| event["data"]["attributes"]["userName"].as_str().map(str::to_string);
    taken.filter_map(|delivery| name(&delivery.event)).collect()
}

#[test]
fn a_wrong_configuration_is_refused_as_a_whole_and_the_old_one_goes_on() {
    let (audit, other) = (Subscriber::new(&[SECRET]), Subscriber::new(&[SECRET]));
    let good = audit.configuration("audit", SECRET, SHOWN);
    let mut house = House::start_with(Options {
        configuration: Some(good.clone()),
        flags: vec!["--no-demo".to_string()],
        ..Options::default()
    });
    let corp = house.corp();
    corp.post("/Users", &user("ada")).expect(201);
    eventually("the first event", || (names(&audit) == ["ada"]).then_some(()));
    // One feed is right and one is wrong: neither is applied.
    let wrong = format!("{good}users = 'active eq'\n{}", other.configuration("other", SECRET, SHOWN));
    house.configure(&wrong);
    house.hang_up();
    eventually("the refusal is told in the log", || {
        house.log().contains("is refused as a whole").then_some(())
    });
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let refused = admin.post("/api/v1/config/reload", &Value::Null).expect(422);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("feed.audit.filters: the filter for User"), "{detail}");
    corp.post("/Users", &user("bob")).expect(201);
    eventually("the old one goes on", || (names(&audit) == ["ada", "bob"]).then_some(()));
    assert_eq!(other.deliveries().len(), 0);
    assert_eq!(applied(&house), []);

    // A signal is enough for a right one.
    house.configure(&format!("{good}{}", other.configuration("other", SECRET, SHOWN)));
    house.hang_up();
    eventually("the new feed hears all", || (names(&other).len() == 2).then_some(()));
    assert_eq!(applied(&house), [("feed/other".to_string(), "SIGHUP".to_string())]);
    assert_eq!(names(&audit), ["ada", "bob"]);
}

/// A service manager that reloads does not look whether the process is ready yet.
#[test]
fn a_signal_during_the_start_is_heard_after_it() {
    let mut house = House::start();
    assert!(house.stop());
    let starts = |house: &House| house.log().matches("starting the managed NATS server").count();
    let before = starts(&house);
    house.begin();
    eventually("the start has begun", || (starts(&house) > before).then_some(()));
    house.hang_up();
    house.ready();
    eventually("the file is read again", || {
        house.log().contains("the configuration is as it was").then_some(())
    });
}

#[test]
fn what_changes_is_shown_applied_and_written_down_and_all_else_keeps_running() {
    let [same, changed, gone, new] = [(); 4].map(|()| Subscriber::new(&[SECRET]));
    let limits = "[gateway.limits]\nmembers_max = 5000\n";
    let same_section = same.configuration("same", SECRET, &format!("{SHOWN}timeout_ms = 25000\n"));
    let configuration = [
        same_section.clone(),
        changed.configuration("changed", SECRET, SHOWN),
        gone.configuration("gone", SECRET, SHOWN),
    ]
    .concat();
    let mut house = House::start_with(Options {
        configuration: Some(configuration),
        flags: vec!["--no-demo".to_string()],
        ..Options::default()
    });
    same.answer(|_, _| Verdict::Wait);
    let corp = house.corp();
    corp.post("/Users", &user("ada")).expect(201);
    eventually("all have it, or are about to", || {
        (same.under_way() == 1 && names(&changed).len() == 1 && names(&gone).len() == 1).then_some(())
    });
    let (url, token) = (house.env("APP_URL").to_string(), house.env("APP_TOKEN").to_string());
    let app = format!("[app.wiki]\ntenant = \"corp\"\nurl = \"{url}\"\ntoken = \"{token}\"\n");
    let more = "attributes = [\"userName\", \"title\"]\nbegin = \"start\"\n";
    house.configure(
        &[
            same_section,
            changed.configuration("changed", SECRET, more),
            new.configuration("new", SECRET, SHOWN),
            app,
            limits.to_string(),
        ]
        .concat(),
    );
    // Shown first: nothing happens.
    let shown = house.rollcall(&["config", "reload", "--dry-run", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let changes: Vec<(&str, &str)> = shown["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["subject"].as_str().unwrap(), change["became"].as_str().unwrap()))
        .collect();
    let expected =
        [("app/wiki", "added"), ("feed/changed", "changed"), ("feed/gone", "removed"), ("feed/new", "added")];
    assert_eq!(changes, expected);
    assert_eq!((&shown["applied"], &shown["needRestart"]), (&json!(false), &json!(["gateway"])));
    assert_eq!((new.deliveries().len(), applied(&house)), (0, Vec::new()));

    let said = house.rollcall(&["config", "reload", "--by", "grace"]);
    assert!(said.contains("next start: gateway") && said.ends_with("Applied.\n"), "{said}");
    let by_grace = expected.map(|(subject, _)| (subject.to_string(), "grace".to_string()));
    assert_eq!(applied(&house), by_grace);
    eventually("the new feed hears all", || (names(&new) == ["ada"]).then_some(()));
    let accounts = Client::new(&url, &token);
    eventually("the new app holds all", || accounts.find("/Users", "userName", "ada"));
    let mut bob = user("bob");
    bob["title"] = json!("Dr");
    corp.post("/Users", &bob).expect(201);
    eventually("the changed feed goes on where it was, and shows more", || {
        let last = changed.taken().last()?.event["data"]["attributes"].clone();
        (last == json!({"userName": "bob", "title": "Dr"})).then_some(())
    });
    assert_eq!(names(&changed), ["ada", "bob"]);
    // The unchanged one was not even interrupted.
    same.release();
    eventually("the one under way, and the next", || (names(&same).len() == 2).then_some(()));
    assert_eq!(same.deliveries().len(), 2, "nothing came twice");
    assert_eq!(names(&gone), ["ada"], "whoever is removed hears no more");
    assert!(house.rollcall(&["config", "reload"]).contains("No app and no feed changes."));

    // After a start on the same file all is as it is.
    assert!(house.stop());
    house.start_again();
    house.corp().post("/Users", &user("carol")).expect(201);
    eventually("everybody hears it", || {
        [&same, &changed, &new].iter().all(|one| names(one).contains(&"carol".to_string())).then_some(())
    });
    assert_eq!(names(&gone), ["ada"]);
}

/// What was written about an app's accounts is one tenant's.
#[test]
fn an_app_does_not_move_to_another_tenant() {
    let app = App::start(apps::Kind::Scim);
    let mut house = House::feeding(&[("wiki", &app, "")]);
    house.corp().post("/Users", &user("ada")).expect(201);
    eventually("she has an account", || app.account("ada"));
    let token = house.token_of("other", "hr", "rfc");
    let other = Client::new(&house.env("SCIM_URL").replace("/corp/", "/other/"), &token);
    other.post("/Users", &user("bob")).expect(201);
    let ours = app.configuration("wiki", "");
    house.configure(&ours.replace("\"corp\"", "\"other\""));
    house.hang_up();
    let waits = || {
        let told = house.rollcall(&["app", "list"]);
        told.contains("its accounts belong to tenant corp").then_some(())
    };
    eventually("nothing is done, and it is told why", waits);
    house.corp().post("/Users", &user("eve")).expect(201);
    house.configure(&ours);
    house.hang_up();
    eventually("it goes on as before", || app.account("eve"));
    assert_eq!(app.accounts().keys().collect::<Vec<_>>(), ["ada", "eve"]);
}
