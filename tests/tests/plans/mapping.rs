//! An app that calls things by other names.

use super::virtually;
use dispatcher::{AppConfig, MapRule, Mapping};
use eventlog::memory::Weather;
use scim::Registry;
use serde_json::{Value, json};
use street::house::user;
use street::simulation::calm::Calm;
use street::simulation::process::app_config;

/// The app of the simulation, which calls its users like this.
pub(super) fn mapped(registry: &Registry, rules: Value, config: AppConfig) -> AppConfig {
    let rule = |value: &Value| match value.as_str() {
        Some(text) => MapRule { value: Some(text.to_string()), ..MapRule::default() },
        None => serde_json::from_value(value.clone()).expect("a rule"),
    };
    let rules = rules.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), rule(value)));
    let mut mapping = Mapping::default();
    let kind = registry.by_name("User").expect("a type");
    mapping.choose(registry, kind, &rules.collect()).expect("a mapping");
    AppConfig { mapping, ..config }
}

async fn house(rules: Value) -> Calm {
    Calm::start(1, Weather::default(), |registry| mapped(registry, rules, app_config(registry, None))).await
}

async fn set(house: &Calm, id: &str, path: &str, value: Value) {
    house.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": path, "value": value}])).await;
}

#[test]
fn an_app_is_told_what_its_mapping_says_and_nothing_else() {
    virtually(async {
        let house = house(json!({
            "userName": "user.userName + '@x.test'",
            "nickName": {"value": "user.title", "default": "none"},
            "locale": {"constant": "en"},
        }))
        .await;
        let mut ada = user("ada");
        ada["displayName"] = json!("Ada");
        let id = house.create("/Users", ada).await;
        house.until("an account", |house| house.account("Users", "userName", "ada@x.test").is_some()).await;
        let account = house.account("Users", "userName", "ada@x.test").expect("an account");
        assert_eq!((&account["nickName"], &account["locale"]), (&json!("none"), &json!("en")));
        assert_eq!((&account["active"], account.get("displayName")), (&json!(true), None));
        set(&house, &id, "title", json!("Dr")).await;
        house.until("its title", |house| house.account("Users", "nickName", "Dr").is_some()).await;
        let count = house.world.app.calls().len();
        set(&house, &id, "displayName", json!("Countess")).await;
        house.settle().await;
        assert_eq!(house.calls_since(count), Vec::<String>::new(), "what is not mapped changes nothing");
        house.delete(&format!("/Users/{id}")).await;
        house.until("it is gone", |house| house.account("Users", "nickName", "Dr").is_none()).await;
    });
}

#[test]
fn what_is_said_once_is_not_said_again_and_does_not_get_lost() {
    virtually(async {
        let house = house(json!({
            "userName": "user.userName",
            "nickName": {"value": "user.title", "create_only": true},
            "displayName": "user.displayName",
        }))
        .await;
        let mut ada = user("ada");
        (ada["title"], ada["displayName"]) = (json!("Dr"), json!("Ada"));
        let id = house.create("/Users", ada).await;
        house.until("an account", |house| house.account("Users", "nickName", "Dr").is_some()).await;
        let count = house.world.app.calls().len();
        set(&house, &id, "title", json!("Prof")).await;
        house.settle().await;
        assert_eq!(house.calls_since(count), Vec::<String>::new());
        house.patch(&format!("/Users/{id}"), json!([{"op": "remove", "path": "displayName"}])).await;
        house
            .until("no name", |house| {
                house
                    .account("Users", "nickName", "Dr")
                    .is_some_and(|it| it.get("displayName") == Some(&Value::Null))
            })
            .await;
        assert!(!house.calls_since(count).iter().any(|call| call.contains("nickName")));
    });
}

#[test]
fn whom_a_mapping_fails_is_held_alone_and_no_value_is_told() {
    virtually(async {
        let house = house(json!({
            "userName": "user.userName",
            "nickName": {"value": "user.title", "on_null": "hold"},
        }))
        .await;
        let ada = house.create("/Users", user("ada")).await;
        let mut bob = user("bob");
        bob["title"] = json!("Dr");
        house.create("/Users", bob).await;
        house.until("she is held", |house| house.status().held == 1).await;
        assert!(house.account("Users", "userName", "bob").is_some());
        assert!(house.account("Users", "userName", "ada").is_none());
        set(&house, &ada, "title", json!("Prof")).await;
        house
            .until("an account", |house| {
                house.account("Users", "nickName", "Prof").is_some() && house.status().held == 0
            })
            .await;
    });
}
