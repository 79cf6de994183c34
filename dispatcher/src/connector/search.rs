//! Looking for an account at an app: by its id, or by an attribute.

use std::collections::BTreeSet;

use bytes::Bytes;
use eventlog::clock;
use http::{Method, Response};
use scim::{AttrPath, ResourceType};
use serde_json::Value;

use super::answer;
use super::read::{Account, Listed, Page, Place, listed};
use super::scim::path;
use super::{Found, Outcome, ScimApp, Unanswered};
use crate::drift::named;
use crate::matching::OUR_ID;
use crate::profile::Operation;

/// Accounts that a search asks for: two are one too many.
const ASKED: u64 = 2;
/// Accounts that it asks for when those were others'.
const ASKED_MORE: u64 = 50;

/// An error of an app that speaks SCIM.
const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";
/// What it says of itself.
const CONFIG: &str = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig";

impl ScimApp {
    /// Whether the app has an account of this id.
    pub(crate) async fn there(&self, kind: &ResourceType, remote_id: &str) -> Found {
        if !self.own(kind).can(Operation::Read) {
            return Found::Unsearchable;
        }
        let url = format!("{}{}", self.base, path(kind, remote_id));
        let response = match self.request(Method::GET, &url, None).await {
            Ok(response) => response,
            Err(unanswered) => return unanswered.into(),
        };
        match self.judged(&response, None) {
            Outcome::Done { .. } => Found::One(remote_id.to_string()),
            Outcome::Missing => Found::None,
            Outcome::Refused { status, .. }
            | Outcome::NoTarget { status, .. }
            | Outcome::TooLarge { status }
            | Outcome::Taken { status } => Found::Failed { status },
            other => {
                let after = answer::rest(&response, clock::now());
                Found::Unavailable { after, error: format!("reading answered {}", other.name()) }
            }
        }
    }

    /// After a 404: nobody is there, unless the app says the same of its own list. Then something else answers for it, which says
    /// nothing of whom the app has; or, where it is surely the app that answers, it may be one that has no word for an empty
    /// list, and a person must look. An app that has no list, or does not show it, is believed.
    pub(crate) async fn nobody(&self, kind: &ResourceType) -> Found {
        if !self.own(kind).can(Operation::List) {
            return Found::None;
        }
        let url = self.listing(kind, &[("startIndex", "1"), ("count", "1")]);
        let answer = self.request(Method::GET, &url, None).await;
        let speaks = answer.as_ref().is_ok_and(|response| is_of(response, ERROR));
        match listed(answer, &Place::Index(1), &self.profile) {
            Listed::Page(_) | Listed::TooLarge => Found::None,
            Listed::Refused { status: status @ (404 | 410) } if speaks && self.shows_itself().await => {
                Found::Failed { status }
            }
            Listed::Refused { status: status @ (404 | 410) } => {
                let error = format!("the app answers {status} to everything");
                Found::Unavailable { after: None, error }
            }
            Listed::Refused { .. } => Found::None,
            Listed::NotYet(denied) => Found::NotYet(denied),
            Listed::Unavailable { after, error } => Found::Unavailable { after, error },
        }
    }

    /// Whether what answers here says what it can do, as an app does (RFC 7644 §4).
    async fn shows_itself(&self) -> bool {
        let url = format!("{}/ServiceProviderConfig", self.base);
        let answer = self.request(Method::GET, &url, None).await;
        answer.is_ok_and(|response| response.status().is_success() && is_of(&response, CONFIG))
    }

    /// The account whose attribute has this value, unless its id and its `externalId` say that it is another's.
    pub(crate) async fn find(
        &self,
        kind: &ResourceType,
        attribute: &AttrPath,
        value: &str,
        is_others: impl Fn(&str, &str) -> bool,
    ) -> Found {
        if !self.own(kind).can_search(&attribute.to_string()) {
            return Found::Unsearchable;
        }
        let filter = format!("{attribute} eq {}", Value::String(value.to_string()));
        let mut asked = ASKED;
        loop {
            let url = self.listing(kind, &[("filter", &filter), ("count", &asked.to_string())]);
            let answer = self.request(Method::GET, &url, None).await;
            return match listed(answer, &Place::Index(1), &self.profile) {
                Listed::Page(page) => {
                    let found = judged(&page, asked, attribute, value, &is_others);
                    // Those that are others' can stand before whoever is meant.
                    if asked == ASKED && page.next.is_some() && matches!(found, Found::Many(_)) {
                        asked = ASKED_MORE;
                        continue;
                    }
                    found
                }
                Listed::Refused { status: 404 } => Found::None,
                Listed::Refused { status } => Found::Failed { status },
                Listed::TooLarge => Found::Failed { status: 200 },
                Listed::NotYet(denied) => Found::NotYet(denied),
                Listed::Unavailable { after, error } => Found::Unavailable { after, error },
            };
        }
    }
}

/// Whether an answer says that it is of a schema.
fn is_of(response: &Response<Bytes>, urn: &str) -> bool {
    let body = answer::json_body(response);
    let schemas = body.as_ref().and_then(|body| body.get("schemas")).and_then(Value::as_array);
    schemas.is_some_and(|schemas| schemas.iter().any(|schema| schema.as_str() == Some(urn)))
}

impl From<Unanswered> for Found {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotYet(denied) => Self::NotYet(denied),
            Unanswered::Lost(error) => Self::Unavailable { after: None, error: error.to_string() },
        }
    }
}

/// Who is meant of those that were shown.
pub(super) fn judged(
    page: &Page,
    asked: u64,
    attribute: &AttrPath,
    value: &str,
    is_others: impl Fn(&str, &str) -> bool,
) -> Found {
    let asked_for = page.accounts.iter().filter(|account| is_asked_for(account, attribute, value));
    let asked_for: Vec<&Account> = asked_for.collect();
    if asked_for.is_empty() && page.shown > 0 {
        // Without an id it cannot be held against anything; whom nobody asked for is shown by an app that does not know
        // the filter.
        return if page.accounts.is_empty() { Found::Failed { status: 200 } } else { Found::Unsearchable };
    }
    let is_others =
        |account: &&&Account| is_others(&account.remote_id, account.external_id().unwrap_or_default());
    let left = asked_for.iter().filter(|account| !is_others(account));
    let left: BTreeSet<&String> = left.map(|account| &account.remote_id).collect();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let others = count(asked_for.len()).saturating_sub(count(left.len()));
    // A page that is not full is all there is, whatever is said of a total; nor does a total count that counts those whom
    // nobody asked for.
    let is_exact = page.shown >= asked && count(asked_for.len()) == page.shown;
    let total = page.total.filter(|_| is_exact).unwrap_or_default();
    match (total.saturating_sub(others).max(count(left.len())), left.first()) {
        (1, Some(only)) => Found::One((*only).clone()),
        (_, None) if total <= others => Found::None,
        (many, _) => Found::Many(many),
    }
}

/// Whether an account that was shown can be one that has this value. Not every app shows in a list what it searches by; our
/// id says whose the account is, so that it must be seen.
fn is_asked_for(account: &Account, attribute: &AttrPath, value: &str) -> bool {
    let shown = texts(&account.attributes, attribute);
    let is_same = |text: &&str| scim::fold(text.trim()) == scim::fold(value.trim());
    if shown.is_empty() { !attribute.is(OUR_ID) } else { shown.iter().any(is_same) }
}

/// The texts that stand at a path, its names in any case.
fn texts<'a>(attributes: &'a scim::Object, path: &AttrPath) -> Vec<&'a str> {
    let mut found: Vec<&Value> = Vec::new();
    let names = [&path.schema, &path.name, &path.sub];
    for (step, name) in names.into_iter().flatten().enumerate() {
        let inside: Vec<&Value> = if step == 0 {
            named(attributes, name).into_iter().collect()
        } else {
            found.iter().filter_map(|value| named(value.as_object()?, name)).collect()
        };
        found = inside.into_iter().flat_map(each).collect();
    }
    found.into_iter().filter_map(Value::as_str).collect()
}

/// The values of a list, or the only one.
fn each(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            std::slice::from_ref(value)
        }
    }
}
