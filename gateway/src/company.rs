//! Which operations of a request may be carried out at once: those that come to the same in any order. Everything else keeps its
//! place, because a client may rely on it.

use std::collections::BTreeSet;

use proto::ResourceId;
use proto::subject::{self, Key};
use scim::ResourceType;
use scim::validate::Parts;
use serde_json::Value;

use crate::Gateway;
use crate::command::{Caller, Command};

/// Operations that are carried out at once: all of one kind.
pub(crate) struct Company<'a> {
    gateway: &'a Gateway,
    caller: &'a Caller,
    method: Option<&'static str>,
    /// Of what is made: the keys.
    keys: BTreeSet<(String, Key)>,
    /// Of what is there: who.
    ids: BTreeSet<ResourceId>,
}

impl<'a> Company<'a> {
    pub(crate) fn new(gateway: &'a Gateway, caller: &'a Caller) -> Self {
        Self { gateway, caller, method: None, keys: BTreeSet::new(), ids: BTreeSet::new() }
    }

    /// Adds a command if it has nothing to do with those that are here already.
    pub(crate) fn admits(&mut self, kind: &ResourceType, command: &Command) -> bool {
        if *self.method.get_or_insert(command.name()) != command.name() {
            return false;
        }
        match command {
            Command::Create { parts, .. } => self.admits_new(kind, parts),
            // A group's version is also that of its members, who may be here.
            Command::Delete { id, expected } if expected.is_any() => self.ids.insert(*id),
            Command::Patch { id, expected, body }
                if expected.is_any() && self.changes_it_alone(kind, body) =>
            {
                self.ids.insert(*id)
            }
            Command::Delete { .. } | Command::Patch { .. } | Command::Replace { .. } => false,
        }
    }

    /// Whether somebody new meets none of the others: neither by the unique attribute nor as a member.
    fn admits_new(&mut self, kind: &ResourceType, parts: &Parts) -> bool {
        let inner = &self.gateway.inner;
        let rules = inner.policies.rules(self.caller, &inner.registry, kind);
        if !rules.join.is_empty()
            || !rules.claims.is_empty()
            || parts.members.as_ref().is_some_and(|all| !all.is_empty())
        {
            return false;
        }
        match inner.main_key(self.caller, kind, parts).map(|(_, key)| key) {
            Some(key) => self.keys.insert((kind.name.clone(), key)),
            None if rules.called.is_some() => {
                // The same once more is the same one.
                let text = serde_json::to_string(&*parts.document).unwrap_or_default();
                let key = subject::key_of_value(&inner.secret, &self.caller.tenant, &kind.name, &text);
                self.keys.insert((kind.name.clone(), key))
            }
            None => true,
        }
    }

    /// Whether a PATCH has to do with nobody else: it names neither members nor what is unique.
    fn changes_it_alone(&self, kind: &ResourceType, body: &Value) -> bool {
        let inner = &self.gateway.inner;
        let rules = inner.policies.rules(self.caller, &inner.registry, kind);
        let has_members = inner.registry.core(kind).iter().any(|attribute| attribute.name == "members");
        let unique =
            inner.registry.unique_attribute(kind).map(|attribute| attribute.name.to_ascii_lowercase());
        let text = body.to_string().to_ascii_lowercase();
        !has_members && rules.claims.is_empty() && unique.is_none_or(|name| !text.contains(&name))
    }
}
