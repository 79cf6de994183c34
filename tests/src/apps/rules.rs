//! What each original supports, requires and refuses. What is not written down about an original is as RFC 7644 has it.

use std::time::Duration;

use serde_json::Value;

use super::limits::{Class, Limit};
use super::{Document, Kind};

/// What an attribute looks like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Text,
    Flag,
    One(Fields),
    Many(Fields),
    Members,
}

/// Attributes by name.
pub(super) type Fields = &'static [(&'static str, Shape)];

/// Everything that makes an app what it is.
pub(super) struct Rules {
    /// The path before `/Users`.
    pub(super) base: &'static str,
    pub(super) users: Type,
    pub(super) groups: Option<Type>,
    pub(super) members: Members,
    pub(super) limits: Vec<Limit>,
    /// Resources in one answer to a search.
    pub(super) page_max: usize,
    /// A call without `User-Agent` is malformed.
    pub(super) user_agent: bool,
    /// Whoever is deleted is gone for ever, and so is his name.
    pub(super) buries: bool,
    /// Whoever is switched off loses his id.
    pub(super) off_is_gone: bool,
    /// DELETE of a user switches him off.
    pub(super) delete_is_off: bool,
    /// `emails[type eq "work"]` and its like.
    pub(super) selectors: bool,
    /// Filters may be joined by `and`.
    pub(super) and: bool,
    /// A null is a value that is not one.
    pub(super) null: bool,
    /// DELETE of a user is there.
    pub(super) deletes: bool,
    /// What a name that somebody has is answered with.
    pub(super) taken: u16,
    /// What too many calls are answered with.
    pub(super) throttled: u16,
    /// What is peculiar to it.
    pub(super) peculiar: fn(&str, &Document) -> Result<(), String>,
}

/// One resource type.
pub(super) struct Type {
    pub(super) schema: &'static str,
    pub(super) fields: Fields,
    pub(super) extension: Option<(&'static str, Fields)>,
    /// `name.givenName`, `emails`.
    pub(super) required: &'static [&'static str],
    pub(super) filters: &'static [&'static str],
    /// Whether PUT is there.
    pub(super) put: bool,
    /// Multi-valued attributes of which one value is too many already at the second.
    pub(super) single: &'static [&'static str],
}

/// How members are changed.
pub(super) struct Members {
    /// Changes in one request.
    pub(super) most: usize,
    /// `members[value eq "…"]`.
    pub(super) by_selector: bool,
    /// `members` with a list of values.
    pub(super) by_value: bool,
    /// All of them at once.
    pub(super) replaced: bool,
    /// Whether a group that is read shows them.
    pub(super) shown: bool,
    /// Whether groups can be in groups.
    pub(super) nested: bool,
    /// Whether taking out somebody who is not in is refused.
    pub(super) no_target: bool,
}

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

use Shape::{Flag, Many, One, Text};

const VALUES: Fields = &[("value", Text), ("display", Text), ("type", Text), ("primary", Flag)];
const BARE_VALUES: Fields = &[("value", Text), ("type", Text), ("primary", Flag)];
const NAME: Fields = &[
    ("formatted", Text),
    ("familyName", Text),
    ("givenName", Text),
    ("middleName", Text),
    ("honorificPrefix", Text),
    ("honorificSuffix", Text),
];
const ADDRESS: Fields = &[
    ("formatted", Text),
    ("streetAddress", Text),
    ("locality", Text),
    ("region", Text),
    ("postalCode", Text),
    ("country", Text),
    ("type", Text),
    ("primary", Flag),
];
const MEMBER_GROUP: Fields = &[("externalId", Text), ("displayName", Text), ("members", Shape::Members)];
const EMPLOYEE: Fields = &[
    ("employeeNumber", Text),
    ("costCenter", Text),
    ("organization", Text),
    ("division", Text),
    ("department", Text),
    ("manager", One(&[("value", Text), ("$ref", Text), ("displayName", Text)])),
];
const PERSON: Fields = &[
    ("externalId", Text),
    ("userName", Text),
    ("name", One(NAME)),
    ("displayName", Text),
    ("nickName", Text),
    ("profileUrl", Text),
    ("title", Text),
    ("userType", Text),
    ("preferredLanguage", Text),
    ("locale", Text),
    ("timezone", Text),
    ("active", Flag),
    ("password", Text),
    ("emails", Many(VALUES)),
    ("phoneNumbers", Many(VALUES)),
    ("ims", Many(VALUES)),
    ("photos", Many(VALUES)),
    ("addresses", Many(ADDRESS)),
    ("entitlements", Many(VALUES)),
    ("roles", Many(VALUES)),
    ("x509Certificates", Many(VALUES)),
];
const AWS_PERSON: Fields = &[
    ("externalId", Text),
    ("userName", Text),
    ("name", One(NAME)),
    ("displayName", Text),
    ("nickName", Text),
    ("profileUrl", Text),
    ("title", Text),
    ("userType", Text),
    ("preferredLanguage", Text),
    ("locale", Text),
    ("timezone", Text),
    ("active", Flag),
    ("emails", Many(BARE_VALUES)),
    ("phoneNumbers", Many(BARE_VALUES)),
    ("addresses", Many(ADDRESS)),
];
const AWS_EMPLOYEE: Fields = &[
    ("employeeNumber", Text),
    ("costCenter", Text),
    ("organization", Text),
    ("division", Text),
    ("department", Text),
    ("manager", One(&[("value", Text), ("$ref", Text)])),
];
const ORG_PERSON: Fields = &[
    ("externalId", Text),
    ("userName", Text),
    ("name", One(&[("givenName", Text), ("familyName", Text)])),
    ("emails", Many(BARE_VALUES)),
    ("active", Flag),
];
const EMU_PERSON: Fields = &[
    ("externalId", Text),
    ("userName", Text),
    ("displayName", Text),
    ("name", One(&[("formatted", Text), ("givenName", Text), ("familyName", Text), ("middleName", Text)])),
    ("emails", Many(BARE_VALUES)),
    ("roles", Many(VALUES)),
    ("active", Flag),
];
const SLACK_PERSON: Fields = &[
    ("externalId", Text),
    ("userName", Text),
    ("name", One(NAME)),
    ("displayName", Text),
    ("nickName", Text),
    ("profileUrl", Text),
    ("title", Text),
    ("userType", Text),
    ("preferredLanguage", Text),
    ("locale", Text),
    ("timezone", Text),
    ("active", Flag),
    ("password", Text),
    ("emails", Many(BARE_VALUES)),
    ("phoneNumbers", Many(BARE_VALUES)),
    ("photos", Many(BARE_VALUES)),
    ("addresses", Many(ADDRESS)),
    ("roles", Many(BARE_VALUES)),
];

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

const fn limit(of: Class, per: Duration, most: u32, burst: Option<u32>) -> Limit {
    Limit { of, per, most, burst }
}

impl Rules {
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Scim => scim(),
            Kind::GithubOrg => github_org(),
            Kind::GithubEmu => github_emu(),
            Kind::AwsIdentityCenter => aws(),
            Kind::Slack => slack(),
            Kind::Odd => odd(),
        }
    }
}

fn scim() -> Rules {
    Rules {
        base: "/scim/v2",
        users: Type {
            schema: USER,
            fields: PERSON,
            extension: Some((ENTERPRISE, EMPLOYEE)),
            required: &["userName"],
            filters: &["id", "externalId", "userName", "displayName", "active"],
            put: true,
            single: &[],
        },
        groups: Some(Type {
            schema: GROUP,
            fields: MEMBER_GROUP,
            extension: None,
            required: &["displayName"],
            filters: &["id", "externalId", "displayName", "members", "members.value"],
            put: true,
            single: &[],
        }),
        members: Members {
            most: 1_000,
            by_selector: true,
            by_value: false,
            replaced: true,
            shown: true,
            nested: true,
            no_target: true,
        },
        limits: Vec::new(),
        page_max: 200,
        user_agent: false,
        buries: false,
        off_is_gone: false,
        delete_is_off: false,
        selectors: true,
        and: true,
        null: true,
        deletes: true,
        taken: 409,
        throttled: 429,
        peculiar: |_, _| Ok(()),
    }
}

fn github_org() -> Rules {
    Rules {
        base: "/scim/v2/organizations/corp",
        users: Type {
            schema: USER,
            fields: ORG_PERSON,
            extension: None,
            required: &["userName", "name.givenName", "name.familyName", "emails"],
            filters: &["id", "externalId", "userName"],
            put: true,
            single: &[],
        },
        groups: None,
        limits: Vec::new(),
        page_max: 100,
        user_agent: true,
        off_is_gone: true,
        selectors: false,
        and: false,
        null: false,
        peculiar: |endpoint, document| match document.get("active") {
            Some(Value::Bool(false)) if endpoint == "/Users" => Err("an invitation to nobody".to_string()),
            _ => Ok(()),
        },
        ..scim()
    }
}

fn github_emu() -> Rules {
    Rules {
        base: "/scim/v2/enterprises/corp",
        users: Type {
            schema: USER,
            fields: EMU_PERSON,
            extension: None,
            required: &["userName", "displayName", "externalId", "emails", "active"],
            filters: &["id", "externalId", "userName"],
            put: true,
            single: &[],
        },
        groups: Some(Type {
            schema: GROUP,
            fields: MEMBER_GROUP,
            extension: None,
            required: &["displayName", "externalId"],
            filters: &["id", "externalId", "displayName"],
            put: true,
            single: &[],
        }),
        members: Members {
            most: 1_000,
            by_selector: false,
            by_value: true,
            replaced: true,
            shown: true,
            nested: false,
            no_target: false,
        },
        limits: vec![
            limit(Class::UserCreates, HOUR, 1_000, None),
            limit(Class::MembersAdded, HOUR, 1_000, None),
        ],
        page_max: 100,
        user_agent: true,
        buries: true,
        selectors: false,
        and: false,
        null: false,
        ..scim()
    }
}

fn aws() -> Rules {
    Rules {
        base: "/tenant-0123/scim/v2",
        users: Type {
            schema: USER,
            fields: AWS_PERSON,
            extension: Some((ENTERPRISE, AWS_EMPLOYEE)),
            required: &["userName", "displayName", "name.givenName", "name.familyName"],
            filters: &["id", "externalId", "userName"],
            put: true,
            single: &["emails", "phoneNumbers", "addresses"],
        },
        groups: Some(Type {
            schema: GROUP,
            fields: MEMBER_GROUP,
            extension: None,
            required: &["displayName"],
            filters: &["id", "externalId", "displayName", "members"],
            put: false,
            single: &[],
        }),
        members: Members {
            most: 100,
            by_selector: false,
            by_value: true,
            replaced: false,
            shown: false,
            nested: false,
            no_target: false,
        },
        page_max: 50,
        selectors: true,
        and: true,
        null: false,
        peculiar: aws_emails,
        ..scim()
    }
}

fn aws_emails(_: &str, document: &Document) -> Result<(), String> {
    let emails = document.get("emails").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match emails.iter().all(|email| email["primary"] == true) {
        true => Ok(()),
        false => Err("emails: the value must be primary".to_string()),
    }
}

fn slack() -> Rules {
    Rules {
        base: "/scim/v2",
        users: Type {
            schema: USER,
            fields: SLACK_PERSON,
            extension: Some((ENTERPRISE, EMPLOYEE)),
            required: &["userName", "emails"],
            filters: &["id", "externalId", "userName"],
            put: true,
            single: &[],
        },
        groups: Some(Type {
            schema: GROUP,
            fields: MEMBER_GROUP,
            extension: None,
            required: &["displayName"],
            filters: &["id", "externalId", "displayName"],
            put: true,
            single: &[],
        }),
        members: Members {
            most: 15_000,
            by_selector: true,
            by_value: false,
            replaced: true,
            shown: true,
            nested: false,
            no_target: false,
        },
        limits: vec![
            limit(Class::Writes, MINUTE, 600, Some(180)),
            limit(Class::Reads, MINUTE, 1_000, None),
            limit(Class::UserReads, MINUTE, 300, None),
            limit(Class::UserCreates, MINUTE, 180, Some(20)),
            limit(Class::UserUpdates, MINUTE, 180, Some(20)),
            limit(Class::UserDeletes, MINUTE, 180, Some(20)),
        ],
        page_max: 1_000,
        delete_is_off: true,
        and: false,
        null: false,
        peculiar: slack_name,
        ..scim()
    }
}

fn odd() -> Rules {
    Rules {
        base: "/odd/scim",
        users: Type {
            schema: USER,
            fields: &[
                ("userName", Text),
                ("displayName", Text),
                ("title", Text),
                ("emails", Many(BARE_VALUES)),
                ("active", Flag),
            ],
            extension: None,
            required: &["userName", "emails"],
            filters: &["userName"],
            put: false,
            single: &["emails"],
        },
        groups: Some(Type {
            schema: GROUP,
            fields: &[("displayName", Text), ("members", Shape::Members)],
            extension: None,
            required: &["displayName"],
            filters: &["displayName"],
            put: false,
            single: &[],
        }),
        members: Members {
            most: 7,
            by_selector: false,
            by_value: true,
            replaced: false,
            shown: false,
            nested: false,
            no_target: false,
        },
        limits: vec![limit(Class::Writes, Duration::from_secs(1), 250, None)],
        page_max: 20,
        selectors: false,
        and: false,
        deletes: false,
        taken: 400,
        throttled: 420,
        ..scim()
    }
}

fn slack_name(endpoint: &str, document: &Document) -> Result<(), String> {
    let name = document.get("userName").and_then(Value::as_str).unwrap_or_default();
    if endpoint == "/Users" && (name.chars().count() > 21 || name != name.to_lowercase()) {
        return Err("userName: at most 21 characters, none of them upper-case".to_string());
    }
    Ok(())
}
