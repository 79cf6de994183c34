//! Several tenants draw from one budget: the backlog of one does not hold up the other's few changes. All apps share the
//! calls of the process, and what a budget has spent is spent after a restart.

#![cfg(test)]

use std::time::Duration;

use serde_json::{Value, json};
use street::apps::{App, Kind};
use street::house::{Options, eventually, user};
use street::{Client, House};

/// Changes of the other tenant: a single one can find a call free by luck.
const SINGLES: usize = 10;
/// People of the tenant with the backlog, and how many are made at the apps in a second.
const BACKLOG: usize = 1_200;
const PER_SECOND: usize = 8;

/// What `rollcall app show` says of an app.
fn shown(house: &House, app: &str) -> Value {
    serde_json::from_str(&house.rollcall(&["app", "show", app, "--json"])).expect("one JSON object")
}

/// An app whose profile has this budget, shared with whoever else has it.
fn section(name: &str, tenant: &str, app: &App) -> String {
    let more = "profile = \"scarce.toml\"\n[app.NAME.budget]\nshared_as = \"host\"\n[app.NAME.guard]\ncreate = { more_than = 1_000_000 }\n";
    let text = app.configuration(name, &more.replace("NAME", name));
    text.replace("tenant = \"corp\"", &format!("tenant = \"{tenant}\""))
}

#[test]
fn a_few_changes_of_one_tenant_overtake_the_backlog_of_another() {
    let (busy, quiet) = (App::start(Kind::Scim), App::start(Kind::Scim));
    let profile = format!(
        "about = \"One that makes few accounts.\"\n[type.every]\n[[budget]]\ncalls = \"creates\"\nper = \"second\"\nlimit = {PER_SECOND}\n"
    );
    let house = House::start_with(Options {
        configuration: Some(section("busy", "corp", &busy) + &section("quiet", "beta", &quiet)),
        flags: vec!["--no-demo".to_string()],
        files: vec![("scarce.toml".to_string(), profile)],
    });
    let corp = house.corp();
    let url = house.env("SCIM_URL").replace("/t/corp/", "/t/beta/");
    let beta = Client::new(&url, &house.token_of("beta", "hr", "rfc"));
    std::thread::scope(|scope| {
        for part in 0..4 {
            let corp = corp.clone();
            scope.spawn(move || {
                for number in (0..BACKLOG).filter(|number| number % 4 == part) {
                    corp.post("/Users", &user(&format!("u{number}"))).expect(201);
                }
            });
        }
    });
    // Each of them was told when to come back, the last one in minutes.
    eventually("they wait", || {
        let due = shown(&house, "busy")["due"].as_u64()?;
        (due + busy.accounts().len() as u64 >= BACKLOG as u64).then_some(())
    });
    let before = busy.accounts().len();
    for number in 0..SINGLES {
        beta.post("/Users", &user(&format!("single{number}"))).expect(201);
    }
    eventually("the few changes of the other tenant", || (quiet.accounts().len() == SINGLES).then_some(()));
    let after = busy.accounts().len();
    assert!(after < BACKLOG * 3 / 4, "they came after the backlog: {before}, then {after} of {BACKLOG}");
    // Nor does it end the backlog's turns.
    eventually("the backlog goes on", || (busy.accounts().len() > after).then_some(()));
}

/// Calls at all apps together are bounded; one that answers late leaves room for the others, and whoever leaves passes.
#[test]
fn a_slow_app_leaves_calls_for_the_others() {
    let (slow, well) = (App::start(Kind::Scim), App::start(Kind::Scim));
    let sections = slow.configuration("slow", "concurrency = 64\n") + &well.configuration("well", "");
    let house = House::start_with(Options {
        configuration: Some(format!("[dispatcher]\ncalls_max = 10\n{sections}")),
        flags: vec!["--no-demo".to_string()],
        ..Options::default()
    });
    let corp = house.corp();
    let ids: Vec<String> =
        (0..40).map(|number| corp.post("/Users", &user(&format!("u{number}"))).expect(201).id()).collect();
    for app in [&slow, &well] {
        eventually("everybody is there", || (app.accounts().len() == 40).then_some(()));
    }
    // From now on it does what it is told, and answers much later.
    slow.delay(Duration::from_secs(5));
    for id in &ids {
        corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "title", "value": "Dr"}]))
            .expect(200);
    }
    let titled = |app: &App| {
        app.accounts().values().filter(|account| account.get("title") == Some(&json!("Dr"))).count()
    };
    eventually("the one that is well is in step", || (titled(&well) == 40).then_some(()));
    corp.delete(&format!("/Users/{}", ids[0])).expect(204);
    eventually("the leaver is gone", || well.account("u0").is_none().then_some(()));
    slow.get_well();
    eventually("both are in step", || {
        (titled(&slow) == 39 && slow.account("u0").is_none() && titled(&well) == 39).then_some(())
    });
    // Half of what ordinary work may have, and one for whoever leaves.
    assert!(slow.most_at_once() <= 5, "{} calls at once", slow.most_at_once());
    assert!(slow.most_at_once() + well.most_at_once() <= 10);
}

/// What a day has spent is spent after a restart, however often.
#[test]
fn a_budget_of_a_day_outlasts_a_restart() {
    let app = App::start(Kind::Scim);
    let mut house = House::feeding(&[("wiki", &app, "[app.wiki.budget]\nrate_per_day = 1000\n")]);
    let corp = house.corp();
    for number in 0..100 {
        corp.post("/Users", &user(&format!("u{number}"))).expect(201);
    }
    // A hundred at once, a fifth of them for reductions of access.
    let made = || app.calls_like("POST", "/Users", 201);
    eventually("what is there at once is spent", || (made() >= 60).then_some(()));
    assert!(house.stop(), "it ends in order");
    let before = made();
    assert!(before <= 82, "{before} were made");
    let mut leavers = app.accounts().into_keys().take(4);
    for _ in 0..2 {
        house.start_again();
        // Whoever leaves is afforded, so the worker is at work; everybody else was due before.
        let corp = house.corp();
        for name in leavers.by_ref().take(2) {
            let id = corp.find("/Users", "userName", &name).expect("somebody")["id"].clone();
            corp.delete(&format!("/Users/{}", id.as_str().expect("an id"))).expect(204);
            eventually("the leaver is gone", || app.account(&name).is_none().then_some(()));
        }
        assert!(made() <= before + 5, "{} after {before}", made());
        assert!(house.stop(), "it ends in order");
    }
}
