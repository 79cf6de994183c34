//! How one configuration of apps and feeds differs from another. Pure.

use std::collections::BTreeMap;

use proto::Tenant;
use serde::Serialize;

use crate::config::{AppConfig, Config, FeedConfig};

/// What becomes of an app or a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It was not there.
    Added,
    /// It is not there any more. What it holds stays as it is.
    Removed,
    /// It is another: what is planned or told changes.
    Changed,
    /// What is planned or told stays; a limit, a secret or a way to reach it changes.
    Adjusted,
}

/// An app or a feed that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `app/NAME` or `feed/NAME`.
    pub subject: String,
    /// Whose people.
    pub tenant: Tenant,
    /// What becomes of it.
    pub became: Became,
    /// The hash of what it was planned with.
    pub before: Option<String>,
    /// The hash of what it is planned with from now on.
    pub after: Option<String>,
}

/// What is compared of an app or a feed.
trait Configured: PartialEq {
    fn tenant(&self) -> &Tenant;
    fn hash(&self) -> String;
}

impl Configured for AppConfig {
    fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    fn hash(&self) -> String {
        Self::hash(self)
    }
}

impl Configured for FeedConfig {
    fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    fn hash(&self) -> String {
        Self::hash(self)
    }
}

/// What changes from one configuration to the other: apps, then feeds, each by name.
pub(crate) fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = compare("app", &old.apps, &new.apps);
    changes.extend(compare("feed", &old.feeds, &new.feeds));
    changes
}

fn compare<T: Configured>(kind: &str, old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Vec<Change> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| {
        let (old, new) = (old.get(name), new.get(name));
        let (before, after) = (old.map(T::hash), new.map(T::hash));
        let became = match (old, new) {
            (None, Some(_)) => Became::Added,
            (Some(_), None) => Became::Removed,
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) if before == after => Became::Adjusted,
            (Some(_), Some(_)) => Became::Changed,
            (None, None) => return None,
        };
        let tenant = new.or(old)?.tenant().clone();
        Some(Change { subject: format!("{kind}/{name}"), tenant, became, before, after })
    };
    names.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(feeds: &[(&str, FeedConfig)]) -> Config {
        let feeds = feeds.iter().map(|(name, feed)| (name.to_string(), feed.clone())).collect();
        Config { feeds, ..Config::default() }
    }

    #[test]
    fn what_changes_is_named_with_what_becomes_of_it() {
        let feed = FeedConfig::example;
        let old = config(&[("gone", feed()), ("same", feed()), ("secret", feed()), ("wider", feed())]);
        let wider = FeedConfig { attributes: vec!["userName".to_string()], ..feed() };
        let secret = FeedConfig { secret: Secret::new("another"), ..feed() };
        let new = config(&[("new", feed()), ("same", feed()), ("secret", secret), ("wider", wider)]);
        let found: Vec<(String, Became)> =
            changes(&old, &new).into_iter().map(|change| (change.subject, change.became)).collect();
        let expected = [
            ("feed/gone", Became::Removed),
            ("feed/new", Became::Added),
            ("feed/secret", Became::Adjusted),
            ("feed/wider", Became::Changed),
        ];
        assert_eq!(found, expected.map(|(subject, became)| (subject.to_string(), became)));
        assert_eq!(changes(&old, &old), []);
    }
}
