//! Several tenants draw from one budget: the backlog of one does not hold up the other's few changes.

#![cfg(test)]

use serde_json::Value;
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
