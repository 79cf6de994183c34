//! Reading what an app holds: one account, or all of them page by page.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use eventlog::clock;
use http::{Method, Response};
use scim::{Object, ResourceType};
use serde_json::Value;

use super::scim::path;
use super::transport::ANSWER_BYTES_MAX;
use super::{ScimApp, Unanswered, answer};
use crate::budget::Denied;
use crate::drift::named;
use crate::profile::{IdCase, Operation, Profile};

/// One account or group as an app shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Account {
    /// The app's id.
    pub(crate) remote_id: String,
    /// All of it.
    pub(crate) attributes: Object,
    /// The app's ids of its members. An empty group need not say so (RFC 7643 §2.5).
    pub(crate) members: BTreeSet<String>,
}

/// What reading one account found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Read {
    /// It is there.
    Account(Account),
    /// The app says that it is not.
    Missing,
    /// The app does not show it, and asking again changes nothing.
    Refused { status: u16 },
    /// The app failed at this one.
    Failed { status: u16 },
    /// The budget does not allow it yet.
    NotYet(Denied),
    /// The app did not answer, or not now.
    Unavailable { after: Option<Duration>, error: String },
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this account, counted from 1.
    Index(u64),
    /// Where the app says (RFC 9865).
    Cursor(String),
}

/// A part of all accounts of one type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    /// Those that could be read; one without an id cannot be held against anything.
    pub(crate) accounts: Vec<Account>,
    /// How many there were with those that could not.
    pub(crate) shown: u64,
    /// How many accounts the app says that there are.
    pub(crate) total: Option<u64>,
    /// Where the next page begins; nothing after the last.
    pub(crate) next: Option<Place>,
}

/// What asking for a page found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Listed {
    /// A page.
    Page(Page),
    /// The page is larger than we read: ask for less.
    TooLarge,
    /// The app does not list them.
    Refused { status: u16 },
    /// The budget does not allow it yet.
    NotYet(Denied),
    /// The app did not answer, or not now.
    Unavailable { after: Option<Duration>, error: String },
}

impl Account {
    /// A resource as it is shown; ids as we keep them.
    pub(crate) fn of(value: &Value, case: IdCase) -> Option<Self> {
        let attributes = value.as_object()?.clone();
        let remote_id = answer::id(&attributes)?;
        let members = named(&attributes, "members").and_then(Value::as_array);
        let id = |member: &Value| match member {
            Value::Object(member) => Some(case.of(named(member, "value")?.as_str()?)),
            Value::String(id) => Some(case.of(id)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
        };
        let members = members.into_iter().flatten().filter_map(id).collect();
        Some(Self { remote_id: case.of(&remote_id), attributes, members })
    }

    /// Whose it says that it is.
    pub(crate) fn external_id(&self) -> Option<&str> {
        named(&self.attributes, "externalId")?.as_str()
    }
}

impl ScimApp {
    /// Reads one account by the app's id, or searches it where it cannot be asked for.
    pub(crate) async fn read(&self, kind: &ResourceType, remote_id: &str) -> Read {
        if self.own(kind).can(Operation::Read) {
            let url = format!("{}{}", self.base, path(kind, remote_id));
            let read = read(self.request(Method::GET, &url, None).await, remote_id, &self.profile);
            if !matches!(read, Read::Refused { .. }) {
                return read;
            }
        }
        self.look_up(kind, remote_id).await
    }

    /// Searches one account by the app's id, at an app that cannot be asked for it.
    async fn look_up(&self, kind: &ResourceType, remote_id: &str) -> Read {
        if !self.own(kind).can(Operation::List) {
            return Read::Refused { status: 405 };
        }
        let filter = format!("id eq {}", Value::String(remote_id.to_string()));
        let url = self.listing(kind, &[("filter", &filter), ("count", "2")]);
        let answer = self.request(Method::GET, &url, None).await;
        match listed(answer, &Place::Index(1), &self.profile) {
            Listed::Page(page) => {
                let total = page.total.unwrap_or_default();
                let mut found = page.accounts.into_iter();
                match found.find(|account| account.remote_id.eq_ignore_ascii_case(remote_id)) {
                    Some(account) => Read::Account(account),
                    None if total == 0 && found.next().is_none() => Read::Missing,
                    // It does not know the filter, and shows others.
                    None => Read::Refused { status: 200 },
                }
            }
            Listed::TooLarge => Read::Refused { status: 200 },
            Listed::Refused { status } => Read::Refused { status },
            Listed::NotYet(denied) => Read::NotYet(denied),
            Listed::Unavailable { after, error } => Read::Unavailable { after, error },
        }
    }

    /// A page of all accounts of a type. An app may answer fewer than it is asked for.
    pub(crate) async fn list(&self, kind: &ResourceType, place: &Place, count: u64) -> Listed {
        if !self.own(kind).can(Operation::List) {
            return Listed::Refused { status: 405 };
        }
        let count = count.to_string();
        let url = match place {
            Place::Index(index) => {
                self.listing(kind, &[("startIndex", &index.to_string()), ("count", &count)])
            }
            Place::Cursor(cursor) => self.listing(kind, &[("cursor", cursor), ("count", &count)]),
        };
        listed(self.request(Method::GET, &url, None).await, place, &self.profile)
    }

    /// The address of a list with these parameters.
    pub(super) fn listing(&self, kind: &ResourceType, parameters: &[(&str, &str)]) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        format!("{}{}?{query}", self.base, kind.endpoint)
    }
}

fn read(answer: Result<Response<Bytes>, Unanswered>, remote_id: &str, profile: &Profile) -> Read {
    let response = match answer {
        Ok(response) => response,
        Err(Unanswered::NotYet(denied)) => return Read::NotYet(denied),
        Err(Unanswered::Lost(error)) => return Read::Unavailable { after: None, error: error.to_string() },
    };
    let after = answer::rest(&response, clock::now());
    let status = response.status().as_u16();
    match status {
        200..=299 if answer::is_page(&response) => {
            return Read::Unavailable { after, error: format!("reading answered {status} with a page") };
        }
        200..=299 => {}
        _ if answer::is_throttle(&profile.answers, &response) => {
            return Read::Unavailable { after, error: format!("reading answered {status}") };
        }
        404 | 410 => return Read::Missing,
        500 => return Read::Failed { status },
        300..=399 | 401 | 408 | 425 | 429 | 502.. => {
            return Read::Unavailable { after, error: format!("reading answered {status}") };
        }
        _ => return Read::Refused { status },
    }
    let body = Some(response.body()).filter(|body| body.len() <= ANSWER_BYTES_MAX);
    let body: Option<Value> = body.and_then(|body| serde_json::from_slice(body).ok());
    match body.as_ref().and_then(|body| Account::of(body, profile.id_case)) {
        // Ids that differ only in case are one at many apps.
        Some(account) if account.remote_id.eq_ignore_ascii_case(remote_id) => Read::Account(account),
        // An error page with 200, or another's account: it says nothing.
        Some(_) | None => Read::Refused { status },
    }
}

pub(super) fn listed(
    answer: Result<Response<Bytes>, Unanswered>,
    place: &Place,
    profile: &Profile,
) -> Listed {
    let response = match answer {
        Ok(response) => response,
        Err(Unanswered::NotYet(denied)) => return Listed::NotYet(denied),
        Err(Unanswered::Lost(error)) => return Listed::Unavailable { after: None, error: error.to_string() },
    };
    let after = answer::rest(&response, clock::now());
    let status = response.status().as_u16();
    match status {
        200..=299 if answer::is_page(&response) => {
            return Listed::Unavailable { after, error: format!("listing answered {status} with a page") };
        }
        200..=299 => {}
        _ if answer::is_throttle(&profile.answers, &response) => {
            return Listed::Unavailable { after, error: format!("listing answered {status}") };
        }
        300..=399 | 401 | 408 | 425 | 429 | 500 | 502.. => {
            return Listed::Unavailable { after, error: format!("listing answered {status}") };
        }
        _ => return Listed::Refused { status },
    }
    if response.body().len() > ANSWER_BYTES_MAX {
        return Listed::TooLarge;
    }
    // Without `Resources` or a total it is no list: an empty one would say that everything is gone.
    let body: Option<Value> = serde_json::from_slice(response.body()).ok();
    let body = body.as_ref().and_then(Value::as_object);
    let total = body.and_then(|body| named(body, "totalResults")).and_then(Value::as_u64);
    let resources = body.and_then(|body| named(body, "Resources")).and_then(Value::as_array);
    let (Some(body), true) = (body, total == Some(0) || resources.is_some()) else {
        return Listed::Refused { status };
    };
    let resources = resources.map(Vec::as_slice).unwrap_or_default();
    let cursor = named(body, "nextCursor").and_then(Value::as_str).filter(|cursor| !cursor.is_empty());
    let shown = u64::try_from(resources.len()).unwrap_or(u64::MAX);
    let next = match (cursor, place) {
        (Some(cursor), _) => Some(Place::Cursor(cursor.to_string())),
        (None, Place::Cursor(_)) => None,
        (None, Place::Index(_)) if shown == 0 => None,
        (None, Place::Index(index)) => {
            let next = index.saturating_add(shown);
            total.is_none_or(|total| next <= total).then_some(Place::Index(next))
        }
    };
    Listed::Page(Page {
        accounts: resources.iter().filter_map(|shown| Account::of(shown, profile.id_case)).collect(),
        shown,
        total,
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::NoAnswer;
    use serde_json::json;

    fn listed(answer: Result<Response<Bytes>, Unanswered>, place: &Place) -> Listed {
        super::listed(answer, place, &Profile::default())
    }

    fn read(answer: Result<Response<Bytes>, Unanswered>, remote_id: &str) -> Read {
        super::read(answer, remote_id, &Profile::default())
    }

    fn answer(status: u16, body: &Value) -> Result<Response<Bytes>, Unanswered> {
        let body = Bytes::from(body.to_string());
        Ok(Response::builder().status(status).body(body).unwrap())
    }

    fn page(place: &Place, body: &Value) -> (usize, Option<Place>) {
        match listed(answer(200, body), place) {
            Listed::Page(page) => (page.accounts.len(), page.next),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_goes_on_after_what_was_shown() {
        let first = Place::Index(1);
        let two = json!([{"id": "a"}, {"id": "b"}]);
        // Fewer than asked for are no end.
        assert_eq!(page(&first, &json!({"totalResults": 5, "Resources": two})), (2, Some(Place::Index(3))));
        assert_eq!(page(&first, &json!({"totalResults": 2, "Resources": two})), (2, None));
        assert_eq!(page(&first, &json!({"totalResults": 0})), (0, None));
        // Nothing is said of a total: until there is no more.
        assert_eq!(page(&first, &json!({"resources": two})), (2, Some(Place::Index(3))));
        assert_eq!(page(&first, &json!({"totalResults": 5, "Resources": []})), (0, None));
        let cursor = Place::Cursor("x".to_string());
        assert_eq!(page(&first, &json!({"Resources": two, "nextCursor": "x"})), (2, Some(cursor.clone())));
        assert_eq!(page(&cursor, &json!({"totalResults": 9, "Resources": two})), (2, None));
    }

    #[test]
    fn what_is_no_list_is_not_taken_for_an_empty_one() {
        let place = Place::Index(1);
        for body in [json!({}), json!([]), json!("x"), json!({"totalResults": 3}), json!({"Resources": null})]
        {
            assert_eq!(listed(answer(200, &body), &place), Listed::Refused { status: 200 }, "{body}");
        }
        assert_eq!(listed(answer(404, &json!({})), &place), Listed::Refused { status: 404 });
        for status in [302, 408, 425, 429] {
            assert!(matches!(listed(answer(status, &json!({})), &place), Listed::Unavailable { .. }));
        }
        assert!(matches!(listed(answer(503, &json!({})), &place), Listed::Unavailable { .. }));
    }

    #[test]
    fn only_the_app_itself_says_that_an_account_is_missing() {
        assert_eq!(read(answer(404, &json!({})), "a"), Read::Missing);
        assert_eq!(read(answer(403, &json!({})), "a"), Read::Refused { status: 403 });
        assert_eq!(read(answer(200, &json!({"hello": 1})), "a"), Read::Refused { status: 200 });
        assert_eq!(read(answer(200, &json!({"id": "b"})), "a"), Read::Refused { status: 200 });
        assert_eq!(read(answer(500, &json!({})), "a"), Read::Failed { status: 500 });
        assert!(matches!(read(Err(NoAnswer::Timeout.into()), "a"), Read::Unavailable { .. }));
        assert!(matches!(read(answer(200, &json!({"id": "A"})), "a"), Read::Account(_)));
    }

    #[test]
    fn a_page_for_people_says_nothing_of_an_account() {
        let page = || Ok(Response::new(Bytes::from_static(b"<html>Please sign in</html>")));
        assert!(matches!(read(page(), "a"), Read::Unavailable { .. }));
        assert!(matches!(listed(page(), &Place::Index(1)), Listed::Unavailable { .. }));
        assert!(matches!(read(answer(302, &json!({})), "a"), Read::Unavailable { .. }));
    }

    #[test]
    fn members_are_read_in_either_form() {
        let members =
            |value: Value| Account::of(&value, IdCase::Any).unwrap().members.into_iter().collect::<Vec<_>>();
        assert_eq!(members(json!({"id": "g"})), Vec::<String>::new());
        assert_eq!(members(json!({"id": "g", "Members": []})), Vec::<String>::new());
        let shown = json!({"id": "g", "members": [{"value": "A", "display": "x"}, "b"]});
        assert_eq!(members(shown), ["a", "b"]);
    }
}
