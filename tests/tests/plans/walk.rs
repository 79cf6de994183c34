//! Planning only what was marked must come to the same as planning everything, whatever happened and whenever the
//! process was killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::mapping::mapped;
use super::virtually;
use dispatcher::{AppConfig, Leave, Matching, Profile, Scope};
use eventlog::memory::{Chance, Weather};
use http::Method;
use scim::Registry;
use serde_json::{Value, json};
use street::simulation::calm::Calm;
use street::simulation::process::app_config;

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
/// Seeds for each configuration.
const SEEDS: u64 = 12;
/// What happens in one.
const STEPS: usize = 80;

/// What happens by chance, and who is there.
struct Walk {
    house: Calm,
    chance: Chance,
    users: Vec<String>,
    groups: Vec<String>,
    made: usize,
}

impl Walk {
    async fn start(seed: u64, config: impl FnOnce(&Registry) -> AppConfig) -> Self {
        // Nothing fails, but some of it takes its time, so that a kill meets work that is half done.
        let weather = Weather {
            slow: 300,
            slow_max: Duration::from_millis(400),
            late_deliveries: 100,
            late_delivery_max: Duration::from_millis(800),
            ..Weather::default()
        };
        let house = Calm::start(seed, weather, config).await;
        let chance = Chance::new(seed);
        Self { house, chance, users: Vec::new(), groups: Vec::new(), made: 0 }
    }

    fn pick(&self, from: &[&str]) -> String {
        self.chance.pick(from).copied().unwrap_or_default().to_string()
    }

    /// Somebody, or now and then a group.
    fn anybody(&self) -> Option<String> {
        let from = if self.chance.strikes(400) { &self.groups } else { &self.users };
        self.chance.pick(from).cloned()
    }

    fn user(&mut self) -> Value {
        self.made += 1;
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE],
            "userName": format!("u{}", self.made),
            "displayName": self.pick(&["Ann", "Bob"]),
            "title": self.pick(&["Staff", "Guest"]),
            "active": true,
        });
        if let Some(manager) = self.chance.pick(&self.users) {
            body[ENTERPRISE] = json!({"manager": {"value": manager}});
        }
        body
    }

    fn group_name(&self) -> String {
        self.pick(&["VPN", "Admins", "Team"])
    }

    /// Some are there from the beginning.
    async fn begin(&mut self) {
        for _ in 0..5 {
            let body = self.user();
            let id = self.house.create("/Users", body).await;
            self.users.push(id);
        }
        for name in ["VPN", "Admins", "Team"] {
            let body =
                json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name});
            let id = self.house.create("/Groups", body).await;
            self.groups.push(id);
        }
    }

    async fn step(&mut self) {
        match self.chance.below(100) {
            0..20 => {
                let body = self.user();
                let id = self.house.create("/Users", body).await;
                self.users.push(id);
            }
            20..30 => {
                let members: Vec<Value> = (0..self.chance.below(4))
                    .filter_map(|_| self.anybody())
                    .map(|id| json!({"value": id}))
                    .collect();
                let body = json!({
                    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
                    "displayName": self.group_name(),
                    "members": members,
                });
                let id = self.house.create("/Groups", body).await;
                self.groups.push(id);
            }
            30..55 => {
                let (Some(group), Some(member)) = (self.chance.pick(&self.groups).cloned(), self.anybody())
                else {
                    return;
                };
                if member == group {
                    return;
                }
                let there = self.house.ask(Method::GET, &format!("/Groups/{group}"), Value::Null, 200).await;
                let there: Vec<&str> = values(&there).collect();
                let operation = match self.chance.pick(&there) {
                    Some(member) if self.chance.strikes(450) => {
                        json!({"op": "remove", "path": format!("members[value eq \"{member}\"]")})
                    }
                    Some(_) | None => json!({"op": "add", "path": "members", "value": [{"value": member}]}),
                };
                self.patched(&format!("/Groups/{group}"), operation).await;
            }
            55..65 => {
                let Some(group) = self.chance.pick(&self.groups).cloned() else { return };
                let name = self.group_name();
                let operation = json!({"op": "replace", "path": "displayName", "value": name});
                self.patched(&format!("/Groups/{group}"), operation).await;
            }
            65..80 => {
                let (Some(id), Some(manager)) = (self.chance.pick(&self.users).cloned(), self.anybody())
                else {
                    return;
                };
                let (path, value) = match self.chance.below(6) {
                    0..3 => ("displayName".to_string(), json!(self.pick(&["Ann", "Bob"]))),
                    3 => ("title".to_string(), json!(self.pick(&["Staff", "Guest"]))),
                    4 => (format!("{ENTERPRISE}:manager"), json!({"value": manager})),
                    _ => ("active".to_string(), json!(self.chance.strikes(700))),
                };
                let operation = json!({"op": "replace", "path": path, "value": value});
                self.patched(&format!("/Users/{id}"), operation).await;
            }
            80..87 => {
                if let Some(id) = self.chance.pick(&self.users).cloned() {
                    self.users.retain(|user| *user != id);
                    self.house.delete(&format!("/Users/{id}")).await;
                }
            }
            87..92 => {
                if let Some(id) = self.chance.pick(&self.groups).cloned() {
                    self.groups.retain(|group| *group != id);
                    self.house.delete(&format!("/Groups/{id}")).await;
                }
            }
            92..96 => {
                tokio::time::sleep(self.chance.up_to(Duration::from_millis(600))).await;
                self.house.restart().await;
            }
            _ => tokio::time::sleep(self.chance.up_to(Duration::from_secs(3))).await,
        }
    }

    async fn patched(&self, path: &str, operation: Value) {
        self.house.patch(path, json!([operation])).await;
    }

    /// Accounts that are switched on, by our ids.
    fn active(&self) -> Vec<String> {
        let users = self.house.world.app.accounts().remove("Users").unwrap_or_default();
        let on = users.values().filter(|account| account.get("active") != Some(&json!(false)));
        let mut ids: Vec<String> =
            on.filter_map(|account| account["externalId"].as_str().map(str::to_string)).collect();
        ids.sort();
        ids
    }

    /// Everybody in the directory who satisfies this, and is switched on.
    async fn expected(&self, belongs: fn(&Value) -> bool) -> Vec<String> {
        let mut ids = Vec::new();
        for id in &self.users {
            let user = self.house.ask(Method::GET, &format!("/Users/{id}"), Value::Null, 200).await;
            if user["active"] == true && belongs(&user) {
                ids.push(id.clone());
            }
        }
        ids.sort();
        ids
    }
}

/// The end of a walk by chance.
async fn walked(seed: u64, config: fn(&Registry) -> AppConfig) -> Walk {
    let mut walk = Walk::start(seed, config).await;
    walk.begin().await;
    for _ in 0..STEPS {
        walk.step().await;
    }
    walk.house.settle().await;
    walk
}

/// Walks by chance, many times: in the end the app holds what it should, and planning everything finds nothing to do.
fn check(first: u64, config: fn(&Registry) -> AppConfig, belongs: fn(&Value) -> bool) {
    for seed in first..first + SEEDS {
        virtually(async {
            let mut walk = walked(seed, config).await;
            assert_eq!(walk.active(), walk.expected(belongs).await, "seed {seed}");
            groups_hold_whom_they_should(&walk, seed).await;
            let count = walk.house.world.app.calls().len();
            walk.house.plan_everything().await;
            walk.house.settle().await;
            // Whoever is read by chance now and then was not planned.
            let is_sample = |call: &String| call.starts_with("GET ") && !call.contains('?');
            let mut calls = walk.house.calls_since(count);
            calls.retain(|call| !is_sample(call));
            assert!(calls.is_empty(), "seed {seed}: what was not marked was to be done: {calls:#?}");
        });
    }
}

/// Each group at the app has the members that the directory says, as far as they have accounts there.
async fn groups_hold_whom_they_should(walk: &Walk, seed: u64) {
    let accounts = walk.house.world.app.accounts();
    let ours: BTreeMap<String, String> = accounts
        .values()
        .flatten()
        .map(|(theirs, account)| {
            (theirs.clone(), account["externalId"].as_str().unwrap_or_default().to_string())
        })
        .collect();
    let groups = accounts.get("Groups").cloned().unwrap_or_default();
    for account in groups.values() {
        let id = account["externalId"].as_str().unwrap_or_default();
        let group = walk.house.ask(Method::GET, &format!("/Groups/{id}"), Value::Null, 200).await;
        let mut wanted: Vec<&str> =
            values(&group).filter(|id| ours.values().any(|known| known == id)).collect();
        let theirs = account.get("members").cloned().unwrap_or_default();
        let theirs = json!({"members": theirs});
        let mut found: Vec<&str> =
            values(&theirs).map(|id| ours.get(id).map_or("gone", String::as_str)).collect();
        wanted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, wanted, "seed {seed}: members of {account:?}");
    }
}

fn values(group: &Value) -> impl Iterator<Item = &str> {
    let members = group["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    members.iter().filter_map(|member| member["value"].as_str())
}

fn in_group(user: &Value, name: &str) -> bool {
    let groups = user["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    groups.iter().any(|group| group["display"] == name)
}

/// The app of the simulation, with this scope; accounts of those who are gone or left stay there, switched off.
fn keeping(registry: &Registry, users: (Option<&str>, Option<&str>), groups: Option<&str>) -> AppConfig {
    let mut scope = Scope::default();
    let within = users.1.map(|name| vec![name.to_string()]);
    let kind = |name| registry.by_name(name).expect("a type");
    scope.choose(registry, kind("User"), users.0, within.as_deref()).expect("a scope");
    scope.choose(registry, kind("Group"), groups, None).expect("a scope");
    AppConfig {
        scope,
        on_delete: Leave::Deactivate,
        on_leave: Leave::Deactivate,
        ..app_config(registry, None)
    }
}

/// The same as an app that is told single attributes.
fn told_what_changed(registry: &Registry) -> AppConfig {
    let profile = "[type.every]\nchange = \"patch\"\ncleared = \"null\"\nclears = [\"title\"]";
    AppConfig { profile: Arc::new(Profile::parse(profile).expect("a profile")), ..app_config(registry, None) }
}

#[test]
fn an_app_that_is_told_what_changed_holds_everything() {
    check(900, told_what_changed, |_| true);
    for seed in 900..900 + SEEDS {
        virtually(async {
            let walk = walked(seed, told_what_changed).await;
            for id in &walk.users {
                let user = walk.house.ask(Method::GET, &format!("/Users/{id}"), Value::Null, 200).await;
                let account = walk.house.account("Users", "externalId", id).expect("an account");
                for name in ["userName", "displayName", "title", "active"] {
                    assert_eq!(account[name], user[name], "seed {seed}: {name} of {id}");
                }
            }
        });
    }
}

/// The same as an app that is searched before anybody is made there.
fn searched_first(registry: &Registry) -> AppConfig {
    let config = app_config(registry, None);
    let mut matching = Matching::default();
    for (name, key) in [("User", "userName"), ("Group", "externalId")] {
        let kind = registry.by_name(name).expect("a type");
        let own = config.profile.of(name).expect("the app has it");
        matching.choose(registry, kind, own, &config.mapping, &[key.to_string()]).expect("a key");
    }
    AppConfig { matching, ..config }
}

#[test]
fn an_app_that_is_searched_first() {
    check(950, searched_first, |_| true);
}

#[test]
fn everybody() {
    check(100, |registry| app_config(registry, None), |_| true);
    check(200, |registry| keeping(registry, (None, None), None), |_| true);
}

#[test]
fn members_of_a_group_and_of_those_in_it() {
    let belongs = |user: &Value| in_group(user, "VPN");
    check(300, |registry| keeping(registry, (None, Some("vpn")), None), belongs);
    let belongs = |user: &Value| in_group(user, "VPN") && user["title"] == "Staff";
    check(400, |registry| keeping(registry, (Some(r#"title eq "Staff""#), Some("VPN")), None), belongs);
}

#[test]
fn a_filter_that_asks_for_groups() {
    let belongs = |user: &Value| in_group(user, "VPN") && !in_group(user, "Admins");
    let config = |registry: &Registry| {
        app_config(registry, Some(r#"groups.display eq "VPN" and not (groups[display eq "admins"])"#))
    };
    check(500, config, belongs);
}

#[test]
fn a_filter_that_asks_for_the_names_of_others() {
    let belongs = |user: &Value| user[ENTERPRISE]["manager"]["displayName"] == "Ann";
    let config = |registry: &Registry| {
        let filter = format!(r#"{ENTERPRISE}:manager.displayName eq "Ann""#);
        keeping(registry, (Some(&filter), None), Some(r#"members.display eq "Ann""#))
    };
    check(600, config, belongs);
}

#[test]
fn a_mapping_that_asks_for_groups_and_for_the_names_of_others() {
    let config = |registry: &Registry| {
        let rules = json!({
            "userName": "user.userName",
            "displayName": "'VPN' in groups ? 'in' : 'out'",
            "nickName": format!("user['{ENTERPRISE}'].manager.displayName"),
            "title": {"value": "user.title", "create_only": true},
            format!("{ENTERPRISE}:manager.value"): format!("user['{ENTERPRISE}'].manager.value"),
        });
        mapped(registry, rules, keeping(registry, (None, None), None))
    };
    check(700, config, |_| true);
}

/// Names that are chosen depend on who came first, and stay as they were chosen.
#[test]
fn a_mapping_that_chooses_names() {
    let config = |registry: &Registry| {
        let rules = json!({
            "userName": "unique(user.displayName.lowerAscii(), user.title.lowerAscii())",
            "nickName": "unique(user.title)",
            "title": "user.title",
        });
        mapped(registry, rules, keeping(registry, (None, Some("vpn")), None))
    };
    check(1000, config, |user| in_group(user, "VPN"));
}
