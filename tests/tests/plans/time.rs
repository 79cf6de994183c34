//! What time changes: deletions after a grace, beginnings and ends, while the process runs and while it is away.

use std::time::Duration;

use super::virtually;
use dispatcher::{AppConfig, BeforeStart, Dates, Leave, Scope, Timing};
use eventlog::memory::Weather;
use jiff::SignedDuration;
use scim::Registry;
use serde_json::{Value, json};
use street::house::{group, user};
use street::simulation::calm::Calm;
use street::simulation::process::app_config;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn house(config: impl FnOnce(&Registry) -> AppConfig) -> Calm {
    Calm::start(1, Weather::default(), config).await
}

/// Accounts are switched off and, after so many days, deleted.
fn keeping(registry: &Registry, leave: Leave, days: Option<i64>) -> AppConfig {
    let mut scope = Scope::all(["Group"]);
    let kind = registry.by_name("User").expect("a type");
    scope.choose(registry, kind, Some(r#"title ne "Alumni""#), None).expect("a scope");
    let grace = days.map(|days| SignedDuration::from_hours(24 * days));
    let timing = Timing { delete_after: grace, leave_grace: grace, ..Timing::default() };
    AppConfig { scope, on_delete: leave, on_leave: leave, timing, ..app_config(registry, None) }
}

/// `nickName` is when somebody begins, `title` when he ends.
fn dated(registry: &Registry, before_start: BeforeStart) -> AppConfig {
    let dates = Dates::new(registry, Some("nickName"), Some("title"), before_start).expect("dates");
    let timing = Timing { dates, ..Timing::default() };
    AppConfig { on_leave: Leave::Deactivate, timing, ..app_config(registry, None) }
}

/// Whether the account is there, and switched on.
fn account(house: &Calm, name: &str) -> Option<bool> {
    let account = house.account("Users", "userName", name)?;
    Some(account.get("active") != Some(&json!(false)))
}

fn calls(house: &Calm, method: &str) -> usize {
    house.world.app.calls().iter().filter(|call| call.starts_with(method)).count()
}

async fn set(house: &Calm, id: &str, path: &str, value: Value) {
    house.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": path, "value": value}])).await;
}

fn with(name: &str, attributes: Value) -> Value {
    let mut body = user(name);
    for (name, value) in attributes.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn an_account_is_deleted_thirty_days_after_its_person() {
    virtually(async {
        let mut house = house(|registry| keeping(registry, Leave::Delete, Some(30))).await;
        let ada = house.create("/Users", user("ada")).await;
        let bob = house.create("/Users", user("bob")).await;
        let team = house.create("/Groups", group("Team", &[&ada, &bob])).await;
        house.until("accounts", |house| account(house, "bob") == Some(true)).await;
        for path in [format!("/Users/{ada}"), format!("/Groups/{team}")] {
            house.delete(&path).await;
        }
        house.until("it is switched off", |house| account(house, "ada") == Some(false)).await;
        let members =
            |house: &Calm| house.account("Groups", "displayName", "Team").map(|it| it["members"].clone());
        assert_eq!(members(&house), Some(json!([])), "a group without its members has nothing to give");
        house.away(29 * DAY).await;
        house.settle().await;
        assert_eq!((account(&house, "ada"), calls(&house, "DELETE")), (Some(false), 0));
        // The time comes while the process runs.
        house.away(DAY - 5 * MINUTE).await;
        house.settle().await;
        assert_eq!(calls(&house, "DELETE"), 0);
        tokio::time::sleep(6 * MINUTE).await;
        house
            .until("both are gone", |house| account(house, "ada").is_none() && members(house).is_none())
            .await;
        assert_eq!(account(&house, "bob"), Some(true));

        // And while it is away.
        house.delete(&format!("/Users/{bob}")).await;
        house.until("he is switched off", |house| account(house, "bob") == Some(false)).await;
        house.away(31 * DAY).await;
        house.until("he is gone", |house| account(house, "bob").is_none()).await;
        assert_eq!(calls(&house, "DELETE"), 3);
    });
}

#[test]
fn whoever_returns_within_the_grace_has_the_same_account() {
    virtually(async {
        let mut house = house(|registry| keeping(registry, Leave::Deactivate, Some(30))).await;
        let ada = house.create("/Users", user("ada")).await;
        house.until("an account", |house| account(house, "ada") == Some(true)).await;
        let id = house.account("Users", "userName", "ada").expect("an account")["id"].clone();
        set(&house, &ada, "title", json!("Alumni")).await;
        house.until("it is switched off", |house| account(house, "ada") == Some(false)).await;
        house.away(20 * DAY).await;
        set(&house, &ada, "title", json!("Staff")).await;
        house.until("it is back", |house| account(house, "ada") == Some(true)).await;
        house.away(100 * DAY).await;
        house.settle().await;
        assert_eq!(house.account("Users", "userName", "ada").expect("an account")["id"], id);
        assert_eq!((calls(&house, "POST"), calls(&house, "DELETE")), (1, 0));

        // Another leave has another grace.
        set(&house, &ada, "title", json!("Alumni")).await;
        house.until("it is switched off", |house| account(house, "ada") == Some(false)).await;
        house.away(29 * DAY).await;
        house.settle().await;
        assert_eq!(account(&house, "ada"), Some(false));
        house.away(2 * DAY).await;
        house.until("it is gone", |house| account(house, "ada").is_none()).await;
    });
}

#[test]
fn what_is_never_deleted_stays_for_ever() {
    virtually(async {
        let mut house = house(|registry| keeping(registry, Leave::Never, None)).await;
        let ada = house.create("/Users", user("ada")).await;
        let team = house.create("/Groups", group("Team", &[&ada])).await;
        house.until("an account", |house| account(house, "ada") == Some(true)).await;
        for path in [format!("/Users/{ada}"), format!("/Groups/{team}")] {
            house.delete(&path).await;
        }
        house.until("it is switched off", |house| account(house, "ada") == Some(false)).await;
        house.away(1000 * DAY).await;
        house.settle().await;
        house.plan_everything().await;
        house.settle().await;
        assert_eq!((account(&house, "ada"), calls(&house, "DELETE")), (Some(false), 0));
        assert_eq!(
            house.account("Groups", "displayName", "Team").map(|it| it["members"].clone()),
            Some(json!([]))
        );
    });
}

/// The first day is 2026-01-01.
#[test]
fn an_end_comes_while_the_process_runs_and_while_it_is_away() {
    virtually(async {
        let mut house = house(|registry| dated(registry, BeforeStart::Absent)).await;
        let last_day = json!({"title": "2026-01-10"});
        house.create("/Users", with("ada", last_day.clone())).await;
        let bob = house.create("/Users", with("bob", last_day.clone())).await;
        house.create("/Users", with("cleo", json!({"title": "2026-01-20T12:00:00+01:00"}))).await;
        house.create("/Users", user("dan")).await;
        house.create("/Users", with("eve", json!({"title": "2025-12-31"}))).await;
        house.until("accounts", |house| account(house, "dan") == Some(true)).await;
        assert_eq!(account(&house, "eve"), None, "over before it began");
        house.away(10 * DAY - 10 * MINUTE).await;
        house.settle().await;
        assert_eq!(account(&house, "ada"), Some(true), "the last day counts");
        set(&house, &bob, "title", json!("2026-03-01")).await;
        tokio::time::sleep(12 * MINUTE).await;
        house.until("her end has come", |house| account(house, "ada") == Some(false)).await;
        assert_eq!([account(&house, "bob"), account(&house, "cleo")], [Some(true); 2]);
        house.away(10 * DAY).await;
        house.until("hers too", |house| account(house, "cleo") == Some(false)).await;
        assert_eq!([account(&house, "bob"), account(&house, "dan")], [Some(true); 2]);
    });
}

#[test]
fn a_beginning_comes_while_the_process_runs_and_while_it_is_away() {
    virtually(async {
        let mut house = house(|registry| dated(registry, BeforeStart::Absent)).await;
        house.create("/Users", with("ada", json!({"nickName": "2026-01-05"}))).await;
        house.create("/Users", with("bob", json!({"nickName": "2026-02-01", "title": "2026-02-10"}))).await;
        house.settle().await;
        assert_eq!(house.world.app.calls(), Vec::<String>::new());
        house.away(4 * DAY - 10 * MINUTE).await;
        house.settle().await;
        assert_eq!(house.world.app.calls(), Vec::<String>::new());
        tokio::time::sleep(12 * MINUTE).await;
        house.until("she has begun", |house| account(house, "ada") == Some(true)).await;
        assert_eq!(account(&house, "bob"), None);
        house.away(30 * DAY).await;
        house.until("he has begun", |house| account(house, "bob") == Some(true)).await;
        house.away(10 * DAY).await;
        house.until("he has ended", |house| account(house, "bob") == Some(false)).await;
        assert_eq!(account(&house, "ada"), Some(true));
    });
}

#[test]
fn an_account_can_wait_switched_off_for_its_beginning() {
    virtually(async {
        let mut house = house(|registry| dated(registry, BeforeStart::Inactive)).await;
        house.create("/Users", with("ada", json!({"nickName": "2026-01-05"}))).await;
        house.until("an account", |house| account(house, "ada") == Some(false)).await;
        house.away(4 * DAY).await;
        house.until("she has begun", |house| account(house, "ada") == Some(true)).await;
        assert_eq!((calls(&house, "POST"), calls(&house, "PUT")), (1, 1));
    });
}

#[test]
fn a_date_that_nobody_can_read_is_a_persons_matter() {
    virtually(async {
        let mut house = house(|registry| dated(registry, BeforeStart::Absent)).await;
        let ada = house.create("/Users", with("ada", json!({"title": "soon"}))).await;
        house.until("she is held", |house| house.status().held == 1).await;
        assert_eq!(house.world.app.calls(), Vec::<String>::new());
        house.restart().await;
        house.until("she is still held", |house| house.status().held == 1).await;
        set(&house, &ada, "title", json!("2026-12-31")).await;
        house
            .until("an account", |house| account(house, "ada") == Some(true) && house.status().held == 0)
            .await;
    });
}
