//! What an app should hold when everything that is in the directory belongs to it, and how it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::apps::App;
use crate::house::{Client, pause};

/// Resources on one page.
const PAGE: usize = 200;
/// Attributes of a person that an app must have the same.
const COMPARED: [&str; 3] = ["active", "displayName", "title"];
/// How long a sick app may need after it is well again: its rest may have grown to a minute.
const CONVERGED_MAX: Duration = Duration::from_secs(240);

/// The directory as apps should have it.
#[derive(Debug, Default)]
pub struct Expected {
    /// By user name: our id, and what is compared.
    people: BTreeMap<String, (String, Vec<Value>)>,
    /// User names of members, by the group's name.
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Expected {
    /// Reads it of the directory.
    pub fn of(directory: &Client) -> Self {
        let mut expected = Self::default();
        let mut names = BTreeMap::new();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        for user in all(directory, "/Users") {
            let (id, name) = (text(&user["id"]), text(&user["userName"]));
            names.insert(id.clone(), name.clone());
            expected.people.insert(name, (id, compared(&user)));
        }
        for group in all(directory, "/Groups") {
            let members = group["members"].as_array().cloned().unwrap_or_default();
            let named = members.iter().filter_map(|member| names.get(member["value"].as_str()?).cloned());
            expected.groups.insert(text(&group["displayName"]), named.collect());
        }
        expected
    }

    /// How many people and groups there are.
    pub fn count(&self) -> usize {
        self.people.len() + self.groups.len()
    }

    /// How an app differs; nothing when it holds exactly this. Nobody has two accounts.
    pub fn difference(&self, app: &App) -> Option<String> {
        let accounts = app.accounts();
        let mut owners = BTreeMap::new();
        for (name, account) in &accounts {
            let account = Value::Object(account.clone());
            let Some((id, wanted)) = self.people.get(name) else {
                return Some(format!("{name} is too much"));
            };
            if account["externalId"] != id.as_str() {
                return Some(format!("{name} belongs to {}", account["externalId"]));
            }
            if let Some(other) = owners.insert(id, name) {
                return Some(format!("{name} and {other} are the same person"));
            }
            if compared(&account) != *wanted {
                return Some(format!("{name} is {account}, should have {wanted:?}"));
            }
        }
        if let Some(name) = self.people.keys().find(|name| !accounts.contains_key(*name)) {
            return Some(format!("{name} has no account"));
        }
        let groups = app.groups();
        (groups != self.groups).then(|| format!("groups are {groups:?}, should be {:?}", self.groups))
    }

    /// Waits until an app holds exactly this.
    #[track_caller]
    pub fn converges(&self, name: &str, app: &App) {
        let begun = Instant::now();
        while let Some(difference) = self.difference(app) {
            assert!(begun.elapsed() < CONVERGED_MAX, "{name}: {difference}");
            pause();
        }
    }
}

fn compared(resource: &Value) -> Vec<Value> {
    COMPARED.iter().map(|name| resource[name].clone()).collect()
}

fn all(directory: &Client, endpoint: &str) -> Vec<Value> {
    let mut found = Vec::new();
    loop {
        let start = found.len() + 1;
        let page = directory.get(&format!("{endpoint}?startIndex={start}&count={PAGE}")).expect(200).body;
        let resources = page["Resources"].as_array().cloned().unwrap_or_default();
        let total = page["totalResults"].as_u64().unwrap_or_default();
        found.extend(resources.iter().cloned());
        if resources.is_empty() || found.len() as u64 >= total {
            return found;
        }
    }
}
