//! `[feed.NAME]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dispatcher::{AfterRestore, Begin, FeedConfig, Secret};
use proto::Tenant;
use scim::Registry;
use serde::Deserialize;
use toml::Value;
use url::Url;

use super::apps::{check_url, secret};
use crate::file::{self, Mistakes};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedSection {
    tenant: Tenant,
    url: Url,
    secret: Option<Secret>,
    secret_env: Option<String>,
    secret_file: Option<PathBuf>,
    previous_secret: Option<Secret>,
    previous_secret_env: Option<String>,
    previous_secret_file: Option<PathBuf>,
    #[serde(default)]
    attributes: Vec<String>,
    #[serde(default)]
    identify: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    users: Option<String>,
    groups: Option<String>,
    /// Filters for further resource types.
    #[serde(default)]
    filters: BTreeMap<String, String>,
    begin: Option<Begin>,
    /// What `begin` was called once.
    from_start: Option<bool>,
    #[serde(default)]
    after_restore: AfterRestore,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    #[serde(default = "concurrency")]
    concurrency: usize,
    #[serde(default = "attempts_max")]
    attempts_max: u32,
    #[serde(default = "held_max")]
    held_max: usize,
}

fn timeout_ms() -> u64 {
    10_000
}
fn concurrency() -> usize {
    8
}
fn attempts_max() -> u32 {
    8
}
fn held_max() -> usize {
    1_000
}

pub(super) fn feed(
    registry: &Registry,
    place: &str,
    value: Value,
    mistakes: &mut Mistakes,
) -> Option<FeedConfig> {
    let section: FeedSection = file::section(place, value, mistakes)?;
    check_url(place, &section.url, mistakes);
    let begin = match (section.begin, section.from_start) {
        (Some(begin), None) => begin,
        (None, Some(true)) => Begin::Start,
        (None, Some(false) | None) => Begin::Now,
        (Some(begin), Some(_)) => {
            mistakes.add(format!("{place}.from_start: begin says it already; leave from_start out"));
            begin
        }
    };
    let mut filters = section.filters;
    for (kind, filter) in [("User", section.users), ("Group", section.groups)] {
        if let Some(filter) = filter
            && filters.insert(kind.to_string(), filter).is_some()
        {
            mistakes.add(format!("{place}.filters: {kind} has a filter twice"));
        }
    }
    let (plain, variable, path) =
        (section.previous_secret, section.previous_secret_env, section.previous_secret_file);
    let has_previous = plain.is_some() || variable.is_some() || path.is_some();
    let previous_secret =
        has_previous.then(|| secret(place, "previous_secret", plain, variable, path, mistakes));
    let before = mistakes.count();
    let current = secret(place, "secret", section.secret, section.secret_env, section.secret_file, mistakes);
    // One that could not be read was reported.
    if mistakes.count() == before {
        for (name, secret) in std::iter::once(("secret", &current))
            .chain(previous_secret.as_ref().map(|secret| ("previous_secret", secret)))
        {
            if let Some(mistake) = secret.webhook_mistake() {
                mistakes.add(format!("{place}.{name}: {mistake}"));
            }
        }
    }
    for (name, value, range) in [
        ("timeout_ms", section.timeout_ms, 100..=25_000),
        ("concurrency", section.concurrency as u64, 1..=64),
        ("attempts_max", u64::from(section.attempts_max), 1..=100),
        ("held_max", section.held_max as u64, 1..=10_000),
    ] {
        mistakes.check_range(place, name, value, range);
    }
    let config = FeedConfig {
        tenant: section.tenant,
        url: section.url,
        secret: current,
        previous_secret,
        attributes: section.attributes,
        identify: section.identify,
        types: section.types,
        filters,
        begin,
        after_restore: section.after_restore,
        timeout_ms: section.timeout_ms,
        concurrency: section.concurrency,
        attempts_max: section.attempts_max,
        held_max: section.held_max,
    };
    for mistake in config.mistakes(registry) {
        mistakes.add(format!("{place}.{mistake}"));
    }
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        tenant = "corp"
        url = "https://hooks.example/scim"
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    "#;

    fn read(more: &str) -> (Option<FeedConfig>, String) {
        let table: toml::Table = format!("{GOOD}{more}").parse().unwrap();
        let mut mistakes = Mistakes::default();
        let feed = feed(&Registry::built_in().unwrap(), "feed.audit", table.into(), &mut mistakes);
        (feed, mistakes.into_result().err().map(|failure| failure.to_string()).unwrap_or_default())
    }

    #[track_caller]
    fn check(more: &str, expected: &str) {
        let (_, mistakes) = read(more);
        assert!(mistakes.contains(expected), "{more}: {mistakes}");
    }

    #[test]
    fn a_feed_says_little_and_means_much() {
        let (feed, mistakes) = read("");
        let feed = feed.unwrap();
        assert_eq!(mistakes, "");
        assert_eq!((feed.concurrency, feed.attempts_max, feed.held_max), (8, 8, 1_000));
        assert_eq!((feed.begin, feed.previous_secret), (Begin::Now, None));
        assert_eq!(read("from_start = true").0.unwrap().begin, Begin::Start);
        assert_eq!(read("begin = \"snapshot\"").0.unwrap().begin, Begin::Snapshot);
        let filtered = read("users = 'active eq true'\nfilters = { Group = 'displayName pr' }").0.unwrap();
        assert_eq!(filtered.filters.keys().collect::<Vec<_>>(), ["Group", "User"]);
    }

    #[test]
    fn what_cannot_work_is_refused_at_the_start() {
        check("begin = \"now\"\nfrom_start = true", "feed.audit.from_start: begin says it already");
        check("begin = \"sometime\"", "feed.audit.begin: unknown variant");
        check("users = 'active eq'", "feed.audit.filters: the filter for User");
        check("users = 'groups pr'", "groups is no part of the resource's own document");
        check(
            "groups = 'displayName pr'\nfilters = { Group = 'displayName pr' }",
            "Group has a filter twice",
        );
        check("attributes = [\"user_name\"]", "feed.audit.attributes: no schema has the attribute");
        check("types = [\"user.made\"]", "feed.audit.types: there is no type");
        check("previous_secret = \"whsec_-\"", "feed.audit.previous_secret: must be base64");
        check("previous_secret_env = \"ROLLCALL_NOT_SET\"", "feed.audit.previous_secret_env");
        check("concurrency = 0", "feed.audit.concurrency: must be 1 to 64");
        check("held_max = 20000", "feed.audit.held_max: must be 1 to 10000");
        check("timeout_ms = 10", "feed.audit.timeout_ms: must be 100 to 25000");
        check("attempts_max = 0", "feed.audit.attempts_max: must be 1 to 100");
    }
}
