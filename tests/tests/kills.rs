//! The whole process is killed again and again while it keeps three apps in step: one quick, one slow, one that often does
//! what it is asked and never says so. Each must end exactly as the directory says, and nobody is made twice.
//!
//! `KILLS=100 CHANGES=5000 cargo test -p street --test kills` is the long run; `SEED` repeats one.

#![cfg(test)]

use std::time::Duration;

use serde_json::json;
use street::apps::{App, Kind};
use street::expected::Expected;
use street::house::{group, user};
use street::random::{Random, fresh_seed};
use street::{Client, House};

const KILLS: u64 = 10;
const CHANGES: u64 = 200;
/// People beyond whom nobody new comes.
const PEOPLE_MAX: usize = 300;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var_os(variable).map_or(usual, |text| text.to_str().unwrap().parse().unwrap())
}

/// A directory that changes.
struct Crowd {
    chance: Random,
    people: Vec<String>,
    groups: Vec<String>,
    /// Who ever was, for names that nobody had.
    made: usize,
}

impl Crowd {
    fn change(&mut self, corp: &Client) {
        let what = self.chance.below(100);
        if self.people.len() < 3 || what < 25 && self.people.len() < PEOPLE_MAX {
            self.made += 1;
            let id = corp.post("/Users", &user(&format!("u{}", self.made))).expect(201).id();
            return self.people.push(id);
        }
        let person = self.people[self.chance.index(self.people.len())].clone();
        let path = format!("/Users/{person}");
        let set = |path: &str, name: &str, value: serde_json::Value| {
            corp.patch(path, json!([{"op": "replace", "path": name, "value": value}])).expect(200);
        };
        let number = self.chance.below(1_000);
        match what {
            0..50 => set(&path, "title", json!(format!("Title {number}"))),
            50..58 => set(&path, "active", json!(self.chance.percent(50))),
            58..64 => {
                self.made += 1;
                set(&path, "userName", json!(format!("u{}", self.made)));
            }
            64..72 => {
                corp.delete(&path).expect(204);
                self.people.retain(|id| *id != person);
            }
            72..76 if self.groups.len() < 10 => {
                let name = format!("Team {}", self.groups.len());
                self.groups.push(corp.post("/Groups", &group(&name, &[&person])).expect(201).id());
            }
            _ => self.regroup(corp, &person),
        }
    }

    fn regroup(&mut self, corp: &Client, person: &str) {
        if self.groups.is_empty() {
            return;
        }
        let path = format!("/Groups/{}", self.groups[self.chance.index(self.groups.len())]);
        let operation = if self.chance.percent(60) {
            json!([{"op": "add", "path": "members", "value": [{"value": person}]}])
        } else {
            json!([{"op": "remove", "path": format!("members[value eq \"{person}\"]")}])
        };
        corp.patch(&path, operation).expect(200);
    }
}

#[test]
fn after_any_kill_every_app_ends_as_the_directory_says() {
    let (kills, changes) = (number("KILLS", KILLS), number("CHANGES", CHANGES));
    let seed = number("SEED", fresh_seed());
    println!("KILLS={kills} CHANGES={changes} SEED={seed}");
    let (quick, slow, mute) = (App::start(Kind::Scim), App::start(Kind::Scim), App::start(Kind::Scim));
    slow.delay(Duration::from_millis(150));
    let apps = [("quick", &quick), ("slow", &slow), ("mute", &mute)];
    // Here nobody is there to release what so many departures would have held.
    let more = "guard = { deactivate = \"off\", delete = \"off\", unasked_create = \"off\" }";
    let mut house = House::feeding(&apps.map(|(name, app)| (name, app, more)));
    let mut corp = house.corp();
    let (people, groups) = (Vec::new(), Vec::new());
    let mut crowd = Crowd { chance: Random::new(seed), people, groups, made: 0 };
    let (mut killed, mut due_kill) = (0, changes / kills / 2);
    for change in 0..changes {
        if crowd.chance.percent(20) {
            let silent = crowd.chance.index(3);
            mute.without_answer(silent);
        }
        crowd.change(&corp);
        if change >= due_kill && killed < kills {
            house.kill();
            house.start_again();
            corp = house.corp();
            killed += 1;
            due_kill = killed * changes / kills + crowd.chance.below(changes / kills);
        }
    }
    for _ in killed..kills {
        house.kill();
        house.start_again();
    }
    mute.get_well();
    slow.get_well();
    let expected = Expected::of(&house.corp());
    assert!(expected.count() > 3, "{expected:?}");
    for (name, app) in apps {
        expected.converges(name, app);
        // A person is one account for good, however often it was not heard that it was made.
        let made = app.calls_like("POST", "/Users", 201);
        let had = crowd.made;
        assert!(made <= had, "{name}: {made} accounts were made for at most {had} people");
        assert!(
            app.calls_like("POST", "/Groups", 201) <= crowd.groups.len(),
            "{name}: a group was made twice"
        );
    }
}
