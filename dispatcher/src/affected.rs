//! Which resources' plans an event can change. Pure; planning only these must equal planning everything.

use proto::{Body, Event, Kind, ResourceId};
use serde_json::Value;

/// A resource whose plan may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Affected {
    pub(crate) id: ResourceId,
    /// Whether access may be reduced, which overtakes everything else.
    pub(crate) urgent: bool,
}

/// The resources that an event affects. A resource whose *link* changes affects the groups it is in; that is the
/// worker's matter, because the log of identities does not tell it.
pub(crate) fn affected(event: &Event, body: Option<&Body>) -> Vec<Affected> {
    let itself = |urgent| vec![Affected { id: event.resource_id, urgent }];
    match &event.kind {
        Kind::Created { .. } => itself(false),
        Kind::Updated { members_removed, .. } => itself(!members_removed.is_empty() || deactivates(body)),
        Kind::MembersChanged { removed, .. } => itself(!removed.is_empty()),
        Kind::Deleted | Kind::TenantDropped => itself(true),
        Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased => Vec::new(),
    }
}

fn deactivates(body: Option<&Body>) -> bool {
    let changes = body.map(|body| body.changes.as_slice()).unwrap_or_default();
    changes.iter().any(|change| change.path == "active" && change.after == Some(Value::Bool(false)))
}
