//! What somebody wants.

use std::sync::Arc;

use proto::{ResourceId, Tenant, Version};
use scim::validate::Parts;
use scim::{Dialect, Seen, Speech};
use serde_json::Value;

/// Who asks; known once the token is.
#[derive(Clone, Debug)]
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
    /// What the locations in its answers begin with; ends without a slash.
    pub base_url: String,
    /// Why it is asked for, where that is known.
    pub reason: String,
    /// What it said that no RFC allows.
    pub heard: Arc<Heard>,
}

impl Caller {
    /// One of our own house, who speaks as the RFCs say.
    pub fn own(tenant: &Tenant, source: &str, actor: &str, reason: &str) -> Self {
        Self {
            tenant: tenant.clone(),
            source: source.to_string(),
            dialect: Dialect::Rfc,
            actor: actor.to_string(),
            address: String::new(),
            base_url: String::new(),
            reason: reason.to_string(),
            heard: Arc::new(Heard::of(tenant, source)),
        }
    }

    pub(crate) fn speech(&self) -> Speech<'_> {
        Speech::new(self.dialect, &self.heard.seen)
    }
}

/// The quirks of one request; they are counted when it is over.
#[derive(Debug, Default)]
pub struct Heard {
    seen: Seen,
    tenant: String,
    source: String,
}

impl Heard {
    pub(crate) fn of(tenant: &Tenant, source: &str) -> Self {
        Self { seen: Seen::default(), tenant: tenant.to_string(), source: source.to_string() }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        for quirk in self.seen.quirks() {
            metrics::counter!(
                "rollcall_quirks_total",
                "quirk" => quirk.about().name,
                "tenant" => self.tenant.clone(),
                "source" => self.source.clone()
            )
            .increment(1);
        }
    }
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
    Replace { id: ResourceId, expected: Expected, body: Value },
    /// PATCH.
    Patch { id: ResourceId, expected: Expected, body: Value },
    /// DELETE.
    Delete { id: ResourceId, expected: Expected },
}

/// Which version a resource must have so that it is changed: RFC 9110 §13.1. The tags are as the client wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// If-Match: one of these.
    pub(crate) one_of: Option<String>,
    /// If-None-Match: none of these.
    pub(crate) none_of: Option<String>,
}

impl Expected {
    /// Whether any version will do.
    pub(crate) fn is_any(&self) -> bool {
        self.one_of.is_none() && self.none_of.is_none()
    }

    pub(crate) fn holds(&self, version: Version) -> bool {
        self.one_of.as_deref().is_none_or(|tags| is_named(tags, version))
            && !self.none_of.as_deref().is_some_and(|tags| is_named(tags, version))
    }
}

/// Whether a list of tags names the version of a resource that exists.
pub(crate) fn is_named(tags: &str, version: Version) -> bool {
    tags.trim() == "*" || tags.split(',').any(|tag| version.is(tag))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_of_these_and_none_of_those() {
        let version: Version = "W/\"42-1f3a57cc\"".parse().unwrap();
        let (is, other, all) = (Some("\"x\", W/\"42-1f3a57cc\""), Some("W/\"0-0\""), Some("*"));
        for (one_of, none_of, holds) in [
            (None, None, true),
            (is, None, true),
            (all, None, true),
            (other, None, false),
            (None, is, false),
            (None, all, false),
            (None, other, true),
            (is, other, true),
            (is, is, false),
            (all, all, false),
        ] {
            let [one_of, none_of] = [one_of, none_of].map(|tags| tags.map(str::to_string));
            let expected = Expected { one_of, none_of };
            assert_eq!(expected.holds(version), holds, "{expected:?}");
        }
    }
}
