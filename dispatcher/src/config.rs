//! What `[app.NAME]` and `[feed.NAME]` say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use proto::Tenant;
use scim::Registry;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use crate::auth::Auth;
use crate::budget::CALLS_MAX;
use crate::dates::Dates;
use crate::mapping::Mapping;
use crate::matching::Matching;
use crate::profile::{Budget, Calls, Profile, Shared};
use crate::rails::Rails;
use crate::rollout::RolloutConfig;
use crate::scope::Scope;

/// A secret; shows itself to nobody.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// What is wrong with it as the secret of a webhook, without telling it.
    pub fn webhook_mistake(&self) -> Option<&'static str> {
        crate::feed::secret_mistake(self)
    }

    /// The secret that this text is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Every app and feed by its name.
#[derive(Clone, Debug)]
pub struct Config {
    /// Calls that may be under way at all apps together. Counts from the start.
    pub calls_max: usize,
    /// Systems we keep accounts in.
    pub apps: BTreeMap<String, AppConfig>,
    /// What subscribers hear.
    pub feeds: BTreeMap<String, FeedConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self { calls_max: CALLS_MAX, apps: BTreeMap::new(), feeds: BTreeMap::new() }
    }
}

/// What happens at the app to a resource that it should not hold any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Leave {
    /// The account stays and is switched off.
    Deactivate,
    /// The account is deleted.
    Delete,
    /// The account stays for ever and is switched off; a group stays and is emptied.
    Never,
}

/// When accounts begin, end and are deleted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// How long the account of somebody who was deleted stays switched off before it is deleted.
    pub delete_after: Option<SignedDuration>,
    /// The same for somebody who left the scope, or whose end has come.
    pub leave_grace: Option<SignedDuration>,
    /// Which attributes say when an account begins and ends.
    pub dates: Dates,
}

/// Who has access, and whose an account is, no app decides by itself.
const OURS: [&str; 3] = ["active", MEMBERS, "externalId"];
/// The name of a group's members, beside the paths of attributes.
pub(crate) const MEMBERS: &str = "members";

/// What is done about an account that the app holds otherwise than it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDrift {
    /// It is told again.
    #[default]
    Revert,
    /// It is said.
    Report,
    /// What the app changed of an attribute stays, until the directory changes it.
    Adopt,
}

/// What is done about an account that nobody of ours owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStranger {
    /// It is said.
    #[default]
    Report,
    /// It is switched off.
    Deactivate,
}

/// How an app is held against what it should hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconcileConfig {
    /// Hours between two times that everything is listed; 0: only on demand.
    pub hours: u32,
    /// Accounts picked by chance that are read each time; 0: none.
    pub sample: usize,
    /// Minutes between two such times.
    pub sample_minutes: u64,
    /// What is done about accounts of ours.
    pub drifted: OnDrift,
    /// What is done instead about single attributes of theirs, by their paths, and about `members`.
    pub attributes: BTreeMap<String, OnDrift>,
    /// What is done about accounts of nobody.
    pub strangers: OnStranger,
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        let (drifted, strangers) = (OnDrift::default(), OnStranger::default());
        Self { hours: 24, sample: 20, sample_minutes: 60, drifted, attributes: BTreeMap::new(), strangers }
    }
}

impl ReconcileConfig {
    /// Longest time between two reconciliations: a year.
    pub const HOURS_MAX: u32 = 8_784;
    /// Most accounts of one sample.
    pub const SAMPLE_MAX: usize = 10_000;
    /// Longest time between two samples: a month.
    pub const SAMPLE_MINUTES_MAX: u64 = 44_640;

    /// What is done when this path is otherwise at the app: what is said of it, or of what it is a part of.
    pub(crate) fn on_drift(&self, path: &str) -> OnDrift {
        let is_within = |whole: &str| {
            let rest = path
                .get(whole.len()..)
                .filter(|_| path.get(..whole.len()).is_some_and(|own| own.eq_ignore_ascii_case(whole)));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ':']))
        };
        let said = self.attributes.iter().filter(|(whole, _)| is_within(whole));
        said.max_by_key(|(whole, _)| whole.len()).map_or(self.drifted, |(_, on_drift)| *on_drift)
    }

    /// Paths of which single attributes are spoken that no resource type has.
    pub fn unknown(&self, registry: &Registry) -> Vec<String> {
        let is_known = |path: &str| {
            let head = path.split('.').next().unwrap_or(path);
            let core = |name: &str| {
                let kinds = registry.resource_types().iter();
                kinds.flat_map(|kind| registry.core(kind)).any(|one| one.name.eq_ignore_ascii_case(name))
            };
            let mut extensions = registry.resource_types().iter().flat_map(|kind| registry.extensions(kind));
            core(head)
                || extensions.any(|schema| {
                    let own =
                        path.get(..schema.id.len()).is_some_and(|own| own.eq_ignore_ascii_case(&schema.id));
                    let name = path.get(schema.id.len()..).unwrap_or_default();
                    let name = name.strip_prefix(':').unwrap_or(name).split('.').next().unwrap_or_default();
                    own && (name.is_empty()
                        || schema.attributes.iter().any(|one| one.name.eq_ignore_ascii_case(name)))
                })
        };
        self.attributes.keys().filter(|path| !is_known(path)).cloned().collect()
    }

    /// What of it cannot be, for a person to read.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.drifted == OnDrift::Adopt {
            mistakes.push(
                "drifted = \"adopt\" is said of single attributes: write them under attributes".to_string(),
            );
        }
        let adopted = self.attributes.iter().filter(|(_, on_drift)| **on_drift == OnDrift::Adopt);
        let is_ours = |path: &&String| OURS.iter().any(|ours| path.eq_ignore_ascii_case(ours));
        for path in adopted.map(|(path, _)| path).filter(is_ours) {
            mistakes.push(format!(
                "attributes: {path} is the directory's to say: write \"revert\" or \"report\", not \"adopt\""
            ));
        }
        if self.hours > Self::HOURS_MAX {
            mistakes.push(format!("hours is {}, at most {}; 0 switches it off", self.hours, Self::HOURS_MAX));
        }
        if self.sample > Self::SAMPLE_MAX {
            mistakes.push(format!(
                "sample is {}, at most {}; 0 switches it off",
                self.sample,
                Self::SAMPLE_MAX
            ));
        }
        if self.sample_minutes == 0 || self.sample_minutes > Self::SAMPLE_MINUTES_MAX {
            let (found, most) = (self.sample_minutes, Self::SAMPLE_MINUTES_MAX);
            mistakes.push(format!("sample_minutes is {found}, from 1 to {most}; sample = 0 switches it off"));
        }
        mistakes
    }
}

/// One app that speaks SCIM 2.0.
#[derive(Clone, Debug, PartialEq)]
pub struct AppConfig {
    /// Whose people.
    pub tenant: Tenant,
    /// The SCIM base URL, without a slash at the end.
    pub url: Url,
    /// How we show who we are.
    pub auth: Auth,
    /// What it supports.
    pub profile: Arc<Profile>,
    /// Calls that this app is allowed, whatever its profile says.
    pub budgets: Vec<Budget>,
    /// The name of who draws from the same budgets, if it is not the profile that says so.
    pub budget_shared_as: Option<String>,
    /// So many turns at shared budgets while others have one.
    pub budget_weight: u32,
    /// Who belongs there.
    pub scope: Scope,
    /// What happens to an account whose resource was deleted.
    pub on_delete: Leave,
    /// What happens to an account whose resource left the filter.
    pub on_leave: Leave,
    /// When accounts begin, end and are deleted.
    pub timing: Timing,
    /// How it calls what the directory knows.
    pub mapping: Mapping,
    /// How an account that is there already is recognized.
    pub matching: Matching,
    /// How long one call may take.
    pub timeout_ms: u64,
    /// How much longer than that an app may take to carry out a call that nobody heard the answer of. Until then "there is no
    /// such account" is not believed.
    pub late_ms: u64,
    /// Calls at the same time.
    pub concurrency: usize,
    /// Failures of one resource before it is held.
    pub attempts_max: u32,
    /// How many operations it takes before a person is asked.
    pub guard: Rails,
    /// By which stages a changed configuration is carried out; nothing: at once.
    pub rollout: Option<RolloutConfig>,
    /// Everything is planned, nothing is called.
    pub read_only: bool,
    /// How it is held against what it should hold.
    pub reconcile: ReconcileConfig,
}

impl AppConfig {
    /// What the plan depends on: another hash means that everything is planned again. Secrets and limits do not
    /// count.
    pub fn hash(&self) -> String {
        let Timing { delete_after, leave_grace, dates } = &self.timing;
        let parts = format!(
            "{}|{}|{}|{:?} {delete_after:?}|{:?} {leave_grace:?}|{dates}|{}",
            self.tenant, self.url, self.scope, self.on_delete, self.on_leave, self.mapping
        );
        short_hash(format!("{parts}|{}{}", self.profile.hash(), self.matching).as_bytes())
    }

    /// Its budgets: the profile's, and its own for every call instead of those of the same window.
    pub(crate) fn all_budgets(&self) -> Vec<Budget> {
        let own = |budget: &&Budget| {
            let replaced = |other: &Budget| budget.calls == Calls::All && other.per == budget.per;
            !self.budgets.iter().any(replaced)
        };
        self.profile.budgets.iter().filter(own).chain(&self.budgets).cloned().collect()
    }

    /// The name of the purse that it draws from.
    pub(crate) fn purse(&self, name: &str) -> String {
        match (&self.budget_shared_as, self.profile.shared) {
            (Some(shared), _) => format!("shared.{shared}"),
            (None, Shared::Host) => {
                format!("host.{}.{}", self.tenant, self.url.host_str().unwrap_or_default())
            }
            (None, Shared::App) => format!("app.{name}"),
        }
    }
}

#[cfg(test)]
impl AppConfig {
    pub(crate) fn example() -> Self {
        Self {
            tenant: "corp".parse().unwrap(),
            url: "http://wiki.test/scim/v2".parse().unwrap(),
            auth: Auth::bearer(Secret::new("secret")),
            profile: Arc::default(),
            budgets: Vec::new(),
            budget_shared_as: None,
            budget_weight: 1,
            scope: Scope::all(["User", "Group"]),
            on_delete: Leave::Delete,
            on_leave: Leave::Deactivate,
            timing: Timing::default(),
            mapping: Mapping::default(),
            matching: Matching::default(),
            timeout_ms: 1_000,
            late_ms: 0,
            concurrency: 8,
            attempts_max: 8,
            guard: Rails::default(),
            rollout: None,
            read_only: false,
            reconcile: ReconcileConfig::default(),
        }
    }
}

/// What a feed does when the log was restored: its subscriber may have heard what never happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterRestore {
    /// It stops until a person says how it goes on.
    #[default]
    Stop,
    /// It goes on where it was at the backup.
    GoOn,
}

/// Where a feed begins that has no cursor yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// With the next event.
    #[default]
    Now,
    /// With the first event of the log.
    Start,
    /// With everything that there is, and then with the next event.
    Snapshot,
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedConfig {
    /// Whose people.
    pub tenant: Tenant,
    /// Where events are posted.
    pub url: Url,
    /// Signs them, after Standard Webhooks.
    pub secret: Secret,
    /// Signs them too, while the subscriber learns the new one.
    pub previous_secret: Option<Secret>,
    /// Which attributes they may show.
    pub attributes: Vec<String>,
    /// Which attributes show who is gone.
    pub identify: Vec<String>,
    /// Which types are told; none means all.
    pub types: Vec<String>,
    /// A SCIM filter for each resource type of which not all resources are told.
    pub filters: BTreeMap<String, String>,
    /// Where a new feed begins.
    pub begin: Begin,
    /// What becomes of it when the log was restored from a backup.
    pub after_restore: AfterRestore,
    /// How long one delivery may take.
    pub timeout_ms: u64,
    /// Deliveries at the same time, never two of one resource.
    pub concurrency: usize,
    /// Refusals of one event before its resource is held.
    pub attempts_max: u32,
    /// How much may be held before the feed stops.
    pub held_max: usize,
}

impl FeedConfig {
    /// What is told, and where: another hash means that a subscriber hears something else. Secrets and limits do not
    /// count.
    pub fn hash(&self) -> String {
        let Self { tenant, url, attributes, identify, types, filters, .. } = self;
        short_hash(format!("{tenant}|{url}|{attributes:?}|{identify:?}|{types:?}|{filters:?}").as_bytes())
    }

    /// What is wrong with the settings, each with the setting's name; never tells a secret.
    pub fn mistakes(&self, registry: &Registry) -> Vec<String> {
        crate::feed::mistakes(self, registry)
    }
}

#[cfg(test)]
impl FeedConfig {
    pub(crate) fn example() -> Self {
        Self {
            tenant: "corp".parse().unwrap(),
            url: "http://localhost/hook".parse().unwrap(),
            secret: Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            previous_secret: None,
            attributes: Vec::new(),
            identify: Vec::new(),
            types: Vec::new(),
            filters: BTreeMap::new(),
            begin: Begin::Now,
            after_restore: AfterRestore::Stop,
            timeout_ms: 1_000,
            concurrency: 8,
            attempts_max: 8,
            held_max: 1_000,
        }
    }
}

/// 16 hexadecimal digits.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

    fn config(attributes: &[(&str, OnDrift)]) -> ReconcileConfig {
        let attributes = attributes.iter().map(|(path, on_drift)| (path.to_string(), *on_drift)).collect();
        ReconcileConfig { attributes, ..ReconcileConfig::default() }
    }

    #[test]
    fn what_is_said_of_a_part_counts_before_the_whole() {
        use OnDrift::{Report, Revert};
        let config =
            config(&[("name", Report), ("name.familyName", Revert), ("TITLE", Report), (ENTERPRISE, Report)]);
        let of_extension = format!("{ENTERPRISE}:department");
        for (path, expected) in [
            ("title", Report),
            ("titles", Revert),
            ("name.givenName", Report),
            ("name.familyName", Revert),
            ("members", Revert),
            (of_extension.as_str(), Report),
        ] {
            assert_eq!(config.on_drift(path), expected, "{path}");
        }
    }

    #[test]
    fn access_is_never_the_apps_to_say() {
        let mistakes = |attributes: &[(&str, OnDrift)]| config(attributes).mistakes();
        assert_eq!(mistakes(&[("title", OnDrift::Adopt), ("active", OnDrift::Report)]), Vec::<String>::new());
        for path in ["active", "MEMBERS", "externalId"] {
            assert!(mistakes(&[(path, OnDrift::Adopt)])[0].contains("the directory's to say"), "{path}");
        }
        let all = ReconcileConfig { drifted: OnDrift::Adopt, ..config(&[]) };
        assert!(all.mistakes()[0].contains("single attributes"));
    }

    #[test]
    fn an_attribute_that_nobody_has_is_a_mistake() {
        let registry = Registry::built_in().unwrap();
        let department = format!("{ENTERPRISE}:department");
        let wrong = format!("{ENTERPRISE}:colour");
        let known = ["title", "name.givenName", "members", ENTERPRISE, department.as_str()];
        let all: Vec<(&str, OnDrift)> =
            known.into_iter().chain(["colour", wrong.as_str()]).map(|path| (path, OnDrift::Report)).collect();
        assert_eq!(config(&all).unknown(&registry), ["colour".to_string(), wrong]);
    }
}
