//! Whose plans an event can change. Pure; planning only these must equal planning everything.
//!
//! Where the log does not say who it is, the answer names a place in the directory, which the worker looks up once the
//! directory is as far as the event.

use std::collections::BTreeSet;

use proto::{Body, Event, Kind, ResourceId};
use serde_json::Value;

use crate::scope::Needs;

/// Somebody whose plan may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Affected {
    pub(crate) who: Who,
    /// Whether access may be reduced, which overtakes everything else.
    pub(crate) urgent: bool,
}

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// This one.
    One(ResourceId),
    /// These, and whom they hold.
    These(Vec<ResourceId>),
    /// Whom a group holds, by itself or through other groups.
    Below(ResourceId),
    /// Whom a group held until this event, and whom these hold.
    FormerMembers(ResourceId),
    /// The groups that held a resource until this event.
    FormerGroups(ResourceId),
    /// The groups that hold a resource.
    Groups(ResourceId),
    /// Those that name a resource: a manager's reports.
    Naming(ResourceId),
    /// Everybody that the app knows.
    Everybody,
}

/// Whom an event affects. A resource whose *link* changes affects the groups that hold it and those that name it; that is
/// the worker's matter, because the log of identities does not tell it.
pub(crate) fn affected(event: &Event, body: Option<&Body>, needs: Needs) -> Vec<Affected> {
    let id = event.resource_id;
    let mut found = Vec::new();
    let mut add = |who, urgent| found.push(Affected { who, urgent });
    match &event.kind {
        Kind::Created { members_added } => {
            add(Who::One(id), false);
            if needs.groups && !members_added.is_empty() {
                add(Who::These(members_added.clone()), false);
            }
            if needs.named {
                add(Who::Naming(id), false);
            }
        }
        Kind::Updated { members_added, members_removed } => {
            add(Who::One(id), !members_removed.is_empty() || deactivates(body));
            if needs.groups {
                moved(&mut add, members_added, members_removed);
            }
            if renames(body) {
                if needs.group_names {
                    // The name can be what gave access.
                    add(Who::Below(id), true);
                }
                if needs.member_names {
                    add(Who::Groups(id), false);
                }
                if needs.named {
                    add(Who::Naming(id), false);
                }
            }
        }
        Kind::MembersChanged { added, removed } => {
            add(Who::One(id), !removed.is_empty());
            if needs.groups {
                moved(&mut add, added, removed);
            }
        }
        Kind::Deleted => {
            add(Who::One(id), true);
            add(Who::FormerGroups(id), true);
            if needs.groups {
                add(Who::FormerMembers(id), true);
            }
            if needs.named {
                add(Who::Naming(id), false);
            }
        }
        Kind::TenantDropped => add(Who::Everybody, true),
        Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased
        | Kind::PassedOver => {}
    }
    found
}

fn moved(add: &mut impl FnMut(Who, bool), added: &[ResourceId], removed: &[ResourceId]) {
    for (ids, urgent) in [(added, false), (removed, true)] {
        if !ids.is_empty() {
            add(Who::These(ids.to_vec()), urgent);
        }
    }
}

impl Who {
    /// Whether the directory must be asked.
    pub(crate) fn is_looked_up(&self) -> bool {
        match self {
            Self::One(_) | Self::Everybody => false,
            Self::These(_)
            | Self::Below(_)
            | Self::FormerMembers(_)
            | Self::FormerGroups(_)
            | Self::Groups(_)
            | Self::Naming(_) => true,
        }
    }
}

/// Whether an event ends somebody's access: what the guard rails count before it is planned.
pub(crate) fn ends(kind: &Kind, body: Option<&Body>) -> bool {
    match kind {
        Kind::Deleted => true,
        Kind::Updated { .. } => deactivates(body),
        Kind::Created { .. }
        | Kind::MembersChanged { .. }
        | Kind::TenantDropped
        | Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased
        | Kind::PassedOver => false,
    }
}

/// Whether an update changes one of these attributes, or a part of one.
pub(crate) fn changes(body: Option<&Body>, roots: &BTreeSet<String>) -> bool {
    let is_within = |path: &str, root: &String| {
        path.strip_prefix(root.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ':']))
    };
    let changes = body.map(|body| body.changes.as_slice()).unwrap_or_default();
    changes.iter().any(|change| roots.iter().any(|root| is_within(&change.path, root)))
}

fn deactivates(body: Option<&Body>) -> bool {
    let changes = body.map(|body| body.changes.as_slice()).unwrap_or_default();
    changes.iter().any(|change| change.path == "active" && change.after != Some(Value::Bool(true)))
}

/// Whether the name changes that others see; what nobody can read any more may have said so.
fn renames(body: Option<&Body>) -> bool {
    body.is_none_or(|body| body.changes.iter().any(|change| change.path == "displayName"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use scim::Change;

    const NOTHING: Needs =
        Needs { groups: false, group_names: false, members: false, member_names: false, named: false };
    const ALL: Needs =
        Needs { groups: true, group_names: true, members: true, member_names: true, named: true };

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    #[track_caller]
    fn check(kind: Kind, path: &str, needs: Needs, expected: &[(Who, bool)]) {
        let event = crate::sample::identity(id(1), kind);
        let change = Change { path: path.to_string(), before: None, after: Some(Value::Bool(false)) };
        let body = Body { changes: vec![change], ..Body::default() };
        let found = affected(&event, Some(&body), needs);
        let found: Vec<(Who, bool)> = found.into_iter().map(|one| (one.who, one.urgent)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_nobody_needs_marks_nobody() {
        let updated = Kind::Updated { members_added: vec![id(2)], members_removed: Vec::new() };
        check(updated, "displayName", NOTHING, &[(Who::One(id(1)), false)]);
        let changed = Kind::MembersChanged { added: Vec::new(), removed: vec![id(3)] };
        check(changed, "", NOTHING, &[(Who::One(id(1)), true)]);
        check(Kind::Erased, "", ALL, &[]);
    }

    #[test]
    fn members_and_those_below_follow_their_group() {
        let changed = Kind::MembersChanged { added: vec![id(2)], removed: vec![id(3)] };
        let expected =
            [(Who::One(id(1)), true), (Who::These(vec![id(2)]), false), (Who::These(vec![id(3)]), true)];
        check(changed, "", Needs { groups: true, ..NOTHING }, &expected);
        let updated = || Kind::Updated { members_added: Vec::new(), members_removed: Vec::new() };
        check(updated(), "title", ALL, &[(Who::One(id(1)), false)]);
        check(updated(), "active", ALL, &[(Who::One(id(1)), true)]);
        for (after, is_end) in [(Some(true), false), (Some(false), true), (None, true)] {
            let after = after.map(Value::Bool);
            let change = Change { path: "active".to_string(), before: None, after };
            let body = Body { changes: vec![change], ..Body::default() };
            assert_eq!(ends(&updated(), Some(&body)), is_end, "{body:?}");
        }
        let expected = [
            (Who::One(id(1)), false),
            (Who::Below(id(1)), true),
            (Who::Groups(id(1)), false),
            (Who::Naming(id(1)), false),
        ];
        check(updated(), "displayName", ALL, &expected);
    }

    #[test]
    fn a_part_that_changes_changes_the_whole() {
        const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        let department = format!("{ENTERPRISE}:department");
        for (path, root, expected) in [
            ("title", "title", true),
            ("titles", "title", false),
            ("name.givenName", "name", true),
            (department.as_str(), ENTERPRISE, true),
            ("title", ENTERPRISE, false),
        ] {
            let change = Change { path: path.to_string(), before: None, after: None };
            let body = Body { changes: vec![change], ..Body::default() };
            assert_eq!(changes(Some(&body), &[root.to_string()].into()), expected, "{path} {root}");
        }
        assert!(!changes(None, &["title".to_string()].into()));
    }

    #[test]
    fn an_end_reaches_those_who_had_to_do_with_it() {
        let expected = [(Who::One(id(1)), true), (Who::FormerGroups(id(1)), true)];
        check(Kind::Deleted, "", NOTHING, &expected);
        let mut expected = expected.to_vec();
        expected.extend([(Who::FormerMembers(id(1)), true), (Who::Naming(id(1)), false)]);
        check(Kind::Deleted, "", ALL, &expected);
        check(Kind::TenantDropped, "", ALL, &[(Who::Everybody, true)]);
    }
}
