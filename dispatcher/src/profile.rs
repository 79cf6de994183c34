//! What an app really supports, as data. Five profiles are shipped; a sixth is a file. `docs/profiles.md` names every key.
//!
//! A profile says how an app wants to hear things, never what it should hold: that stays the plan's matter.

mod shape;

use std::collections::BTreeMap;

use scim::{AttrPath, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::short_hash;
pub use shape::Missing;

/// The profiles that are shipped.
const SHIPPED: [(&str, &str); 5] = [
    ("aws-identity-center", include_str!("../profiles/aws-identity-center.toml")),
    ("github-emu", include_str!("../profiles/github-emu.toml")),
    ("github-org", include_str!("../profiles/github-org.toml")),
    ("scim", include_str!("../profiles/scim.toml")),
    ("slack", include_str!("../profiles/slack.toml")),
];
/// The section that stands for every resource type that has none of its own.
const EVERY: &str = "every";

/// What an app supports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// One sentence for people.
    pub about: String,
    /// Whether two ids that differ in case are one.
    pub id_case: IdCase,
    /// Who draws from the same budgets.
    pub shared: Shared,
    /// How answers are to be understood.
    pub answers: Answers,
    /// What it allows.
    #[serde(rename = "budget")]
    pub budgets: Vec<Budget>,
    /// The resource types that it has.
    #[serde(rename = "type")]
    pub types: BTreeMap<String, Type>,
}

/// How ids are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IdCase {
    /// Every letter counts as it is.
    #[default]
    Exact,
    /// `A1` is `a1`.
    Any,
}

/// Who draws from the same budgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shared {
    /// The app alone.
    #[default]
    App,
    /// Every app of the same host and tenant.
    Host,
}

/// How an app's answers are to be understood where they are not as RFC 7644 has them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// The app did nothing because we were too fast.
    pub throttled: Vec<u16>,
    /// The same, if a header says so: `Retry-After`, or `x-ratelimit-remaining: 0`.
    pub throttled_with_header: Vec<u16>,
    /// Somebody has the unique value.
    pub taken: Vec<u16>,
}

/// Calls in a window of time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Which calls count.
    pub calls: Calls,
    /// Only those to this resource type.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The window.
    pub per: Window,
    /// So many of them.
    pub limit: u32,
    /// So many of them at once; a tenth of the limit when it is not said.
    #[serde(default)]
    pub burst: Option<u32>,
}

/// Which calls a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    /// Every one.
    All,
    /// GET.
    Reads,
    /// Everything else.
    Writes,
    /// POST.
    Creates,
    /// PUT and PATCH.
    Updates,
    /// DELETE.
    Deletes,
    /// Not calls but the members that they add, for each group by itself.
    MembersAdded,
}

/// A window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
}

/// What an app supports of one resource type.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Type {
    /// What can be asked for.
    pub operations: Vec<Operation>,
    /// How attributes are changed.
    pub change: Change,
    /// What is sent when an account shall be deleted.
    pub delete: Delete,
    /// What becomes of an account that is switched off.
    pub inactive: Inactive,
    /// The attributes that can be searched with `eq`.
    pub search: Vec<String>,
    /// Whether it keeps our id.
    pub external_id: bool,
    /// Attributes without which nothing is sent: `userName`, `name.givenName`.
    pub required: Vec<String>,
    /// The only attributes that it takes; empty means all. A complex one stands for all its parts.
    pub only: Vec<String>,
    /// Attributes that it does not take: `photos`, `emails.display`.
    pub dropped: Vec<String>,
    /// Multi-valued attributes that hold one value: the primary one, or else the first. It is sent as the primary one.
    pub single: Vec<String>,
    /// What is sent of attributes that a resource does not have.
    pub defaults: BTreeMap<String, Value>,
    /// Attributes that are sent in lower case.
    pub lower_case: Vec<String>,
    /// How many characters an attribute may have.
    pub longest: BTreeMap<String, usize>,
    /// How it is told that an attribute of `clears` has no value any more.
    pub cleared: Cleared,
    /// The attributes that must be cleared by name.
    pub clears: Vec<String>,
    /// Changes of members in one request.
    pub members_per_call: usize,
    /// How a member is taken out.
    pub members_removed_by: RemovedBy,
    /// Whether all members can be set at once.
    pub members_replaced: bool,
    /// Whether a group that is read shows its members.
    pub members_shown: bool,
    /// Resources that it lists in one answer.
    pub page_max: usize,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// POST.
    Create,
    /// GET of one.
    Read,
    /// GET of many.
    List,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// How attributes are changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The whole resource. A type with members is patched nevertheless, because a PUT would have to name them all.
    #[default]
    Put,
    /// Attributes by name.
    Patch,
}

/// What is sent when an account shall be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Delete {
    /// DELETE.
    #[default]
    Delete,
    /// It is switched off, and DELETE is never sent.
    Deactivate,
}

/// What becomes of an account that is switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Inactive {
    /// The app keeps it.
    #[default]
    Kept,
    /// The app forgets it, id and all: switching off is deleting, and whoever comes back is made anew.
    Gone,
}

/// How an attribute is cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleared {
    /// It is not sent, and the app takes that as cleared.
    #[default]
    LeftOut,
    /// `null`.
    Null,
    /// An empty text or list.
    Empty,
    /// PATCH `remove`.
    Removed,
}

/// How a member is taken out of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RemovedBy {
    /// `members[value eq "…"]`, as RFC 7644 has it.
    #[default]
    Selector,
    /// `members` with the values that go.
    Value,
}

impl Default for Answers {
    fn default() -> Self {
        Self { throttled: vec![429], throttled_with_header: vec![403], taken: vec![409] }
    }
}

impl Default for Type {
    fn default() -> Self {
        use Operation::{Create, Delete as Remove, List, Patch, Put, Read};
        Self {
            operations: vec![Create, Read, List, Put, Patch, Remove],
            change: Change::Put,
            delete: Delete::Delete,
            inactive: Inactive::Kept,
            search: vec!["externalId".to_string(), "userName".to_string(), "displayName".to_string()],
            external_id: true,
            required: Vec::new(),
            only: Vec::new(),
            dropped: Vec::new(),
            single: Vec::new(),
            defaults: BTreeMap::new(),
            lower_case: Vec::new(),
            longest: BTreeMap::new(),
            cleared: Cleared::LeftOut,
            clears: Vec::new(),
            members_per_call: 100,
            members_removed_by: RemovedBy::Selector,
            members_replaced: true,
            members_shown: true,
            page_max: 100,
        }
    }
}

impl IdCase {
    /// An id as we keep it, so that two that are one are equal.
    pub(crate) fn of(self, id: &str) -> String {
        match self {
            Self::Exact => id.to_string(),
            Self::Any => id.to_lowercase(),
        }
    }
}

impl Profile {
    /// The names of the profiles that are shipped.
    pub fn shipped_names() -> Vec<&'static str> {
        SHIPPED.iter().map(|(name, _)| *name).collect()
    }

    /// A profile that is shipped.
    pub fn shipped(name: &str) -> Option<Result<Self, String>> {
        SHIPPED.iter().find(|(own, _)| *own == name).map(|(_, text)| Self::parse(text))
    }

    /// The profile of an app that does what the RFCs say.
    pub fn scim() -> Self {
        // A test reads every shipped profile.
        Self::shipped("scim").and_then(Result::ok).unwrap_or_default()
    }

    /// A profile from its text; what is wrong with it otherwise, everything at once.
    pub fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let mistakes = profile.mistakes();
        if mistakes.is_empty() { Ok(profile) } else { Err(mistakes.join("; ")) }
    }

    /// What the app supports of a resource type; nothing when it does not have it.
    pub fn of(&self, kind: &str) -> Option<&Type> {
        self.types.get(kind).or_else(|| self.types.get(EVERY))
    }

    /// What the plan depends on. Budgets and pages do not count.
    pub(crate) fn hash(&self) -> String {
        let mut types = self.types.clone();
        types.values_mut().for_each(|own| own.page_max = 0);
        short_hash(format!("{:?} {:?} {types:?}", self.id_case, self.answers).as_bytes())
    }

    /// The attributes as the app takes them, or what it would miss.
    pub fn shape(&self, kind: &str, attributes: Object) -> Result<Object, Missing> {
        match self.of(kind) {
            Some(own) => own.shape(attributes),
            None => Ok(attributes),
        }
    }

    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.types.is_empty() {
            mistakes.push(format!("it has no resource type: write [type.User], or [type.{EVERY}] for all"));
        }
        for budget in &self.budgets {
            let most = (budget.limit / 2).max(1);
            if budget.limit == 0 || budget.burst.is_some_and(|burst| !(1..=most).contains(&burst)) {
                let Budget { limit, per, .. } = budget;
                mistakes.push(format!(
                    "a budget of {limit} per {per:?}: limit must be 1 or more, burst at least 1 and at most half of it"
                ));
            }
        }
        for (name, own) in &self.types {
            mistakes.extend(own.mistakes().into_iter().map(|mistake| format!("type.{name}.{mistake}")));
        }
        mistakes
    }
}

impl Type {
    pub(crate) fn can(&self, operation: Operation) -> bool {
        self.operations.contains(&operation)
    }

    pub(crate) fn can_search(&self, attribute: &str) -> bool {
        self.can(Operation::List) && self.search.iter().any(|own| own == attribute)
    }

    /// What it can be searched by, for a person to read.
    pub(crate) fn searched(&self) -> String {
        let nothing = !self.can(Operation::List) || self.search.is_empty();
        if nothing { "nothing".to_string() } else { self.search.join(", ") }
    }

    /// Whether it is told of an attribute at all.
    pub(crate) fn is_told(&self, path: &AttrPath) -> bool {
        let whole = AttrPath { sub: None, ..path.clone() };
        let names = [path.to_string(), whole.to_string(), path.schema.clone().unwrap_or_default()];
        let any = |known: &dyn Fn(&str) -> bool| names.iter().any(|name| !name.is_empty() && known(name));
        any(&|name| self.takes(name)) && !any(&|name| self.dropped.iter().any(|own| own == name))
    }

    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !self.can(Operation::Create) {
            mistakes.push("operations: without create nothing can be provisioned".to_string());
        }
        let needed = match self.change {
            Change::Put => Operation::Put,
            Change::Patch => Operation::Patch,
        };
        if !self.can(needed) {
            mistakes.push(format!("change: {needed:?} is not among its operations").to_lowercase());
        }
        if self.delete == Delete::Delete && !self.can(Operation::Delete) {
            mistakes.push(
                "delete: delete is not among its operations; write delete = \"deactivate\"".to_string(),
            );
        }
        if self.cleared == Cleared::Removed && !self.can(Operation::Patch) {
            mistakes.push(
                "cleared: attributes can be removed only where patch is among its operations".to_string(),
            );
        }
        if !self.clears.is_empty() && self.cleared == Cleared::LeftOut {
            mistakes.push("clears: say how, with cleared = \"null\", \"empty\" or \"removed\"".to_string());
        }
        if !self.external_id && self.search.iter().any(|name| name == "externalId") {
            mistakes.push("search: externalId cannot be searched where external_id = false".to_string());
        }
        if self.members_per_call == 0 || self.page_max == 0 {
            mistakes.push("members_per_call and page_max must be 1 or more".to_string());
        }
        let dropped = |name: &&String| !self.takes(name) || self.dropped.contains(name);
        for name in self.required.iter().filter(dropped) {
            mistakes.push(format!("required: {name} is required and dropped"));
        }
        mistakes
    }
}

#[cfg(test)]
mod tests;
