//! `[app.NAME]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dispatcher::{AppConfig, BeforeStart, Leave, OnMatch, ReconcileConfig, Secret};
use proto::Tenant;
use scim::Registry;
use serde::Deserialize;
use toml::Value;
use url::Url;

use super::guard::{self, GuardSection};
use super::profiles::{BudgetSection, profile};
use super::rollout::RolloutSection;
use super::{auth, environment, plans};
use crate::file::{self, Mistakes};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppSection {
    tenant: Tenant,
    #[serde(default = "scim_kind")]
    kind: String,
    url: Url,
    profile: Option<String>,
    #[serde(default)]
    budget: BudgetSection,
    token: Option<Secret>,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    auth: Option<Value>,
    pub(super) users: Option<String>,
    /// Groups, by name or id, whose members belong, also through other groups.
    pub(super) users_in: Option<Vec<String>>,
    pub(super) groups: Option<String>,
    pub(super) provision_groups: Option<bool>,
    /// Further resource types, each with a filter; an empty one means all.
    #[serde(default)]
    pub(super) types: BTreeMap<String, String>,
    #[serde(default = "delete")]
    pub(super) on_delete: Leave,
    /// Days for which the account of somebody who was deleted stays switched off before it is deleted.
    pub(super) delete_after_days: Option<u32>,
    #[serde(default = "deactivate")]
    pub(super) on_leave: Leave,
    /// The same for somebody who left.
    pub(super) leave_grace_days: Option<u32>,
    /// Attributes that say from when until when there is an account.
    pub(super) start_date: Option<String>,
    pub(super) end_date: Option<String>,
    #[serde(default)]
    pub(super) before_start: BeforeStart,
    /// How the app calls what the directory knows of people, and of groups.
    #[serde(default)]
    pub(super) map: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) map_groups: BTreeMap<String, Value>,
    /// By which attributes accounts that are there already are looked for: of people, of groups, of further types.
    #[serde(rename = "match")]
    pub(super) match_people: Option<Vec<String>>,
    pub(super) match_groups: Option<Vec<String>>,
    #[serde(default)]
    pub(super) match_types: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) on_match: OnMatch,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    #[serde(default = "late_ms")]
    late_ms: u64,
    #[serde(default = "concurrency")]
    concurrency: usize,
    #[serde(default = "attempts_max")]
    attempts_max: u32,
    #[serde(default)]
    guard: GuardSection,
    rollout: Option<RolloutSection>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    reconcile: ReconcileConfig,
}

fn scim_kind() -> String {
    "scim".to_string()
}
fn delete() -> Leave {
    Leave::Delete
}
fn deactivate() -> Leave {
    Leave::Deactivate
}
fn timeout_ms() -> u64 {
    10_000
}
fn late_ms() -> u64 {
    10_000
}
fn concurrency() -> usize {
    4
}
fn attempts_max() -> u32 {
    8
}

pub(super) fn app(
    registry: &Registry,
    folder: &Path,
    place: &str,
    value: Value,
    mistakes: &mut Mistakes,
) -> Option<AppConfig> {
    let mut section: AppSection = file::section(place, value, mistakes)?;
    if section.kind != "scim" {
        mistakes.add(format!("{place}.kind: {:?} is not known; there is scim", section.kind));
    }
    check_url(place, &section.url, mistakes);
    check_base(place, &section.url, mistakes);
    let profile = profile(place, section.profile.as_deref(), folder, mistakes);
    let budgets = section.budget.budgets(place, mistakes);
    let budget_weight = section.budget.weight(place, mistakes);
    // Whoever says nothing about groups has them where the app has them.
    let has_groups = profile.of("Group").is_some() || section.groups.is_some();
    section.provision_groups.get_or_insert(has_groups);
    let scope = plans::scope(registry, place, &section, mistakes);
    let groups = section.provision_groups.filter(|wanted| *wanted).map(|_| "Group");
    let kinds = ["User"].into_iter().chain(groups).chain(section.types.keys().map(String::as_str));
    for kind in kinds.filter(|kind| profile.of(kind).is_none()) {
        mistakes.add(format!(
            "{place}: its profile has no {kind}; leave it out, or write [type.{kind}] in a profile of your own"
        ));
    }
    let mapping = plans::mapping(registry, place, &section, mistakes);
    let matching = plans::matching(registry, place, &section, (profile.as_ref(), &mapping), mistakes);
    let timing = plans::timing(registry, place, &section, mistakes);
    let guard = guard::rails(&format!("{place}.guard"), section.guard, mistakes);
    let rollout = section.rollout.map(|section| section.config(&format!("{place}.rollout"), mistakes));
    for path in section.reconcile.unknown(registry) {
        mistakes.add(format!("{place}.reconcile.attributes: no resource type has {path:?}; write title, name.givenName, members"));
    }
    for mistake in section.reconcile.mistakes() {
        mistakes.add(format!("{place}.reconcile: {mistake}"));
    }
    for (name, value, range) in [
        ("timeout_ms", section.timeout_ms, 100..=25_000),
        ("late_ms", section.late_ms, 0..=600_000),
        ("concurrency", section.concurrency as u64, 1..=1_024),
        ("attempts_max", u64::from(section.attempts_max), 1..=100),
    ] {
        mistakes.check_range(place, name, value, range);
    }
    let token = (section.token, section.token_env, section.token_file);
    let auth = auth::auth(place, section.auth, token, mistakes);
    Some(AppConfig {
        tenant: section.tenant,
        url: section.url,
        auth,
        profile,
        budgets,
        budget_shared_as: section.budget.shared_as,
        budget_weight,
        scope,
        on_delete: section.on_delete,
        on_leave: section.on_leave,
        timing,
        mapping,
        matching,
        timeout_ms: section.timeout_ms,
        late_ms: section.late_ms,
        concurrency: section.concurrency,
        attempts_max: section.attempts_max,
        guard,
        rollout,
        read_only: section.read_only,
        reconcile: section.reconcile,
    })
}

pub(super) fn check_url(place: &str, url: &Url, mistakes: &mut Mistakes) {
    if !matches!(url.scheme(), "http" | "https") {
        mistakes.add(format!("{place}.url: must be http or https"));
    }
}

/// An address that paths are put behind, and that operators are shown.
fn check_base(place: &str, url: &Url, mistakes: &mut Mistakes) {
    if !url.username().is_empty() || url.password().is_some() {
        mistakes.add(format!(
            "{place}.url: must hold no credentials, because it is shown; [{place}.auth] has kind = \"basic\" for them"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        mistakes.add(format!("{place}.url: must end with its path, because more of it is put behind"));
    }
}

/// A secret that stands in the file, in a variable, or in a file of its own.
pub(super) fn secret(
    place: &str,
    name: &str,
    plain: Option<Secret>,
    variable: Option<String>,
    path: Option<PathBuf>,
    mistakes: &mut Mistakes,
) -> Secret {
    let found = match (plain, variable, path) {
        (Some(secret), None, None) => Ok(secret),
        (None, Some(variable), None) => environment(&variable)
            .filter(|text| !text.is_empty())
            .map(Secret::new)
            .ok_or_else(|| format!("{place}.{name}_env: the variable {variable} is not set")),
        (None, None, Some(path)) => eventlog::file::text(&path)
            .map(|text| Secret::new(text.trim()))
            .map_err(|error| format!("{place}.{name}_file: {} cannot be read: {error}", path.display())),
        (_, _, _) => Err(format!("{place}: needs one of {name}, {name}_env and {name}_file")),
    };
    found.unwrap_or_else(|mistake| {
        mistakes.add(mistake);
        Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let table: toml::Table =
            format!("tenant = \"corp\"\nurl = \"{url}\"\ntoken = \"t\"").parse().unwrap();
        let mut mistakes = Mistakes::default();
        app(&Registry::built_in().unwrap(), Path::new("/"), "app.wiki", table.into(), &mut mistakes);
        let found = mistakes.into_result().err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{url}: {found}");
    }

    #[test]
    fn an_address_holds_no_secret_and_ends_with_its_path() {
        check("https://wiki.test/scim/v2", "");
        check("https://wiki.test", "");
        check("ftp://wiki.test", "app.wiki.url: must be http or https");
        check("https://u:p@wiki.test/scim", "app.wiki.url: must hold no credentials");
        check("https://u@wiki.test/scim", "app.wiki.url: must hold no credentials");
        check("https://wiki.test/scim?key=1", "app.wiki.url: must end with its path");
        check("https://wiki.test/scim#1", "app.wiki.url: must end with its path");
    }
}
