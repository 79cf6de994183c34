//! What the standard leaves to the service, by tenant and by source: `[tenant.NAME]` and `[tenant.NAME.source.NAME]`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use scim::{AttrPath, Quirk, Registry, Resolved, ResourceType, Type};
use serde::Deserialize;

use crate::Caller;

/// How long the same POST again is the same request.
const RETRY_WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// How long a client of the large services may bring somebody back under the former id.
const TOMBSTONE_DAYS: u32 = 30;

/// `[tenant.NAME]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TenantPolicy {
    /// What happens to attributes that no schema knows.
    pub unknown_attributes: UnknownAttributes,
    /// By resource type: attributes that are unique besides those whose schema says so.
    pub unique: BTreeMap<String, Vec<String>>,
    /// By source.
    pub source: BTreeMap<String, SourcePolicy>,
}

/// What happens to attributes that no schema knows.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum UnknownAttributes {
    /// They are passed over; every large client sends some.
    #[default]
    Ignore,
    /// The request is 400 `invalidSyntax`.
    Refuse,
}

/// `[tenant.NAME.source.NAME]`. What is not set is as the source's dialect has it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SourcePolicy {
    /// The attributes that it may write. Without it, all that no other source of the tenant lists.
    pub owns: Option<Vec<String>>,
    /// Attributes by which a POST finds the same person that another source made, in this order.
    pub join: Vec<String>,
    /// Whether the same POST again (same `externalId`, within 24 hours) is answered 201.
    pub repeat: Option<bool>,
    /// Whether a POST for somebody of its own who is inactive brings the account back.
    pub reactivate: Option<bool>,
    /// For how many days after a DELETE a POST of the same `externalId` gets the former id.
    pub tombstone_days: Option<u32>,
}

/// Every tenant's policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// By tenant.
    pub tenants: BTreeMap<String, TenantPolicy>,
}

impl Policies {
    /// Everything in them that names something that is not there, in sentences.
    pub fn mistakes(&self, registry: &Registry) -> Vec<String> {
        let mut mistakes = Vec::new();
        let known = |text: &String| {
            let path = AttrPath::parse(text, registry).ok().filter(|path| path.sub.is_none());
            path.is_some_and(|path| {
                registry.resource_types().iter().any(|kind| registry.resolve(kind, &path).is_some())
            })
        };
        for (tenant, policy) in &self.tenants {
            for (name, paths) in &policy.unique {
                let Some(kind) = registry.by_name(name) else {
                    mistakes.push(format!("tenant.{tenant}.unique: there is no resource type {name:?}"));
                    continue;
                };
                for text in paths {
                    if claim(registry, kind, text).is_none() {
                        mistakes.push(format!(
                            "tenant.{tenant}.unique.{name}: {text:?} is no single attribute of {name} that can be unique"
                        ));
                    }
                }
            }
            for (source, policy) in &policy.source {
                let place = format!("tenant.{tenant}.source.{source}");
                for text in policy.owns.iter().flatten().filter(|text| !known(text)) {
                    mistakes.push(format!("{place}.owns: {text:?} is an attribute of no resource type"));
                }
                for text in &policy.join {
                    if !joins(registry, text) {
                        mistakes.push(format!("{place}.join: {text:?} is an attribute of no resource type"));
                    }
                }
            }
        }
        mistakes
    }

    /// Attributes that must be found quickly.
    pub fn indexed(&self) -> Vec<String> {
        let sources = self.tenants.values().flat_map(|policy| policy.source.values());
        sources.flat_map(|source| source.join.clone()).collect()
    }

    /// What holds for a caller and a resource type.
    pub(crate) fn rules(&self, caller: &Caller, registry: &Registry, kind: &ResourceType) -> Rules {
        let policy = self.tenants.get(caller.tenant.as_str());
        let source = policy.and_then(|policy| policy.source.get(&caller.source));
        let choice = |of: fn(&SourcePolicy) -> Option<bool>, default| source.and_then(of).unwrap_or(default);
        let days = source.and_then(|source| source.tombstone_days);
        let days =
            days.unwrap_or(if caller.dialect.allows(Quirk::CreateAfterDelete) { TOMBSTONE_DAYS } else { 0 });
        let canonical = |text: &String| {
            let path = AttrPath::parse(text, registry).ok()?;
            registry.canonical(kind, &path)
        };
        // Microsoft's validator posts twice and wants 409; its service asks first.
        let repeat = choice(|source| source.repeat, caller.dialect.allows(Quirk::CreateRepeated));
        let listed = policy.and_then(|policy| policy.unique.get(&kind.name)).into_iter().flatten();
        let mut claims: Vec<Claimable> =
            registry.further_unique(kind).filter_map(|path| claimable(registry, kind, path)).collect();
        for listed in listed.filter_map(|text| claim(registry, kind, text)) {
            // The schema may say so too. One that is claimed twice in a batch is claimed by nobody.
            if claims.iter().all(|known| known.path != listed.path) {
                claims.push(listed);
            }
        }
        Rules {
            owns: policy.map_or(Ownership::All, |policy| ownership(policy, &caller.source, &canonical)),
            join: source.map(|source| source.join.iter().filter_map(canonical).collect()).unwrap_or_default(),
            repeat: repeat.then_some(RETRY_WINDOW),
            called: called(registry, kind).filter(|_| repeat),
            reactivate: choice(|source| source.reactivate, caller.dialect.allows(Quirk::CreateReturns)),
            tombstone: (days > 0).then(|| SignedDuration::from_hours(24 * i64::from(days))),
            refuse_unknown: policy
                .is_some_and(|policy| policy.unknown_attributes == UnknownAttributes::Refuse),
            claims,
        }
    }
}

/// What a resource of a type without a unique attribute is called.
fn called(registry: &Registry, kind: &ResourceType) -> Option<AttrPath> {
    let name = registry.called(kind)?;
    registry.unique_attribute(kind).is_none().then(|| AttrPath::of(&name.name))
}

fn ownership(
    policy: &TenantPolicy,
    source: &str,
    canonical: &impl Fn(&String) -> Option<AttrPath>,
) -> Ownership {
    let own = policy.source.get(source).and_then(|source| source.owns.as_ref());
    if let Some(own) = own {
        return Ownership::Only(own.iter().filter_map(canonical).collect());
    }
    let others = policy.source.values().filter_map(|other| other.owns.as_ref());
    let taken: BTreeSet<AttrPath> = others.flatten().filter_map(canonical).collect();
    if taken.is_empty() { Ownership::All } else { Ownership::Except(taken) }
}

fn joins(registry: &Registry, text: &str) -> bool {
    let Ok(path) = AttrPath::parse(text, registry) else { return false };
    registry
        .resource_types()
        .iter()
        .any(|kind| matches!(registry.resolve(kind, &path), Some(Resolved::Attribute { .. })))
}

fn claim(registry: &Registry, kind: &ResourceType, text: &str) -> Option<Claimable> {
    let path = registry.canonical(kind, &AttrPath::parse(text, registry).ok()?)?;
    claimable(registry, kind, path)
}

fn claimable(registry: &Registry, kind: &ResourceType, path: AttrPath) -> Option<Claimable> {
    match registry.resolve(kind, &path)? {
        // As in a schema: equal values of other types can be written in several ways.
        Resolved::Attribute { attribute, sub: None, .. } if !attribute.multi_valued => {
            matches!(attribute.kind, Type::String | Type::Reference | Type::Integer)
                .then_some(Claimable { path, case_exact: attribute.case_exact })
        }
        Resolved::Attribute { .. } | Resolved::Extension(_) => None,
    }
}

/// What holds for one caller and one resource type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) owns: Ownership,
    pub(crate) join: Vec<AttrPath>,
    /// How long the same POST again is the same request.
    pub(crate) repeat: Option<SignedDuration>,
    /// By what a resource is found that the same POST made before, of a type that has no unique attribute.
    pub(crate) called: Option<AttrPath>,
    pub(crate) reactivate: bool,
    pub(crate) tombstone: Option<SignedDuration>,
    pub(crate) refuse_unknown: bool,
    /// Further attributes that are unique.
    pub(crate) claims: Vec<Claimable>,
}

/// An attribute whose value only one resource may have.
#[derive(Clone, Debug)]
pub(crate) struct Claimable {
    pub(crate) path: AttrPath,
    pub(crate) case_exact: bool,
}

/// Which attributes a source may write.
#[derive(Clone, Debug, Default)]
pub(crate) enum Ownership {
    #[default]
    All,
    Only(BTreeSet<AttrPath>),
    Except(BTreeSet<AttrPath>),
}

impl Ownership {
    /// Whether it may write an attribute. A whole extension stands for each of its attributes.
    pub(crate) fn holds(&self, path: &AttrPath) -> bool {
        let named = |paths: &BTreeSet<AttrPath>| {
            paths.contains(path)
                || paths.contains(&AttrPath { name: None, ..path.clone() }) && path.schema.is_some()
        };
        match self {
            Self::All => true,
            Self::Only(paths) => named(paths),
            Self::Except(paths) => !named(paths),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unique(kind: &str, listed: &[&str]) -> Policies {
        let listed = listed.iter().map(ToString::to_string).collect();
        let unique = BTreeMap::from([(kind.to_string(), listed)]);
        let policy = TenantPolicy { unique, ..TenantPolicy::default() };
        Policies { tenants: BTreeMap::from([("corp".to_string(), policy)]) }
    }

    #[test]
    fn what_is_written_in_several_ways_cannot_be_unique() {
        let good = [("code", "string"), ("chip", "integer"), ("home", "reference")];
        let bad = [("weight", "decimal"), ("at", "dateTime"), ("is", "boolean")];
        let attributes = good.iter().chain(&bad).map(|(name, kind)| json!({"name": name, "type": kind}));
        let attributes: Vec<_> = attributes.collect();
        let schema = json!({"id": "urn:example:scim:Thing", "name": "Thing", "attributes": attributes});
        let kind = json!({"id": "Thing", "name": "Thing", "endpoint": "/Things", "schema": "urn:example:scim:Thing"});
        let mut registry = Registry::built_in().unwrap();
        registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        registry.add_resource_type(serde_json::from_value(kind).unwrap()).unwrap();
        for ((good, _), (bad, _)) in good.iter().zip(&bad) {
            assert_eq!(unique("Thing", &[good]).mistakes(&registry), Vec::<String>::new());
            assert_eq!(unique("Thing", &[good, bad]).mistakes(&registry).len(), 1, "{bad}");
        }
    }

    #[test]
    fn what_is_said_to_be_unique_twice_is_claimed_once() {
        let registry = Registry::built_in().unwrap();
        let policies = unique("User", &["nickName", "NICKNAME", "title"]);
        let caller = Caller::own(&"corp".parse().unwrap(), "hr", "a", "");
        let rules = policies.rules(&caller, &registry, registry.by_name("User").unwrap());
        let paths: Vec<String> = rules.claims.iter().map(|claim| claim.path.to_string()).collect();
        assert_eq!(paths, ["nickName", "title"]);
    }
}
