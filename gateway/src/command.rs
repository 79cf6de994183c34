//! What somebody wants.

use proto::{ResourceId, Tenant};
use scim::Dialect;
use scim::validate::Parts;
use serde_json::Value;

/// Who asks; known once the token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant.
    pub tenant: Tenant,
    /// The source that writes.
    pub source: String,
    /// How it speaks SCIM.
    pub dialect: Dialect,
    /// The credential's id.
    pub actor: String,
    /// Where the request came from.
    pub address: String,
}

/// A change that is asked for. The bodies of resources that exist are still JSON: existence is tested before they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// POST.
    Create {
        /// The new resource's id, if it comes to be.
        id: ResourceId,
        parts: Box<Parts>,
    },
    /// PUT.
    Replace { id: ResourceId, expected: Option<String>, body: Value },
    /// PATCH.
    Patch { id: ResourceId, expected: Option<String>, body: Value },
    /// DELETE.
    Delete { id: ResourceId, expected: Option<String> },
}

impl Command {
    pub(crate) fn id(&self) -> ResourceId {
        match self {
            Self::Create { id, .. }
            | Self::Replace { id, .. }
            | Self::Patch { id, .. }
            | Self::Delete { id, .. } => *id,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Replace { .. } => "replace",
            Self::Patch { .. } => "patch",
            Self::Delete { .. } => "delete",
        }
    }
}
