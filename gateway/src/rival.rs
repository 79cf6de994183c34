//! Who may already be the one that a POST asks for.

use std::collections::BTreeSet;

use eventlog::clock;
use projector::{Lens, Part, Query, Stored, Window};
use proto::ResourceId;
use proto::subject::{self, Key};
use scim::validate::Parts;
use scim::{AttrPath, Dialect, Filter, ResourceType};

use crate::Inner;
use crate::command::Caller;
use crate::decide::{Holding, Rival, Terms, is_as_begun, is_met, unique_value};
use crate::execute::Failure;
use crate::policy::Rules;

/// So many of one name are looked at, the newest first: whoever sends a request again does so soon.
const ALIKE_MAX: usize = 8;

/// As [`Rival`], with what it holds.
#[derive(Default)]
pub(crate) enum Found {
    #[default]
    Nobody,
    Holder {
        stored: Box<Stored>,
        attribute: String,
        holding: Holding,
    },
    Joined(Box<Stored>),
    Ambiguous,
    Former(ResourceId),
}

impl Found {
    pub(crate) fn rival(&self) -> Rival<'_> {
        match self {
            Self::Nobody => Rival::None,
            Self::Holder { stored, attribute, holding } => {
                Rival::Holder { stored, attribute, holding: *holding }
            }
            Self::Joined(stored) => Rival::Joined(stored),
            Self::Ambiguous => Rival::Ambiguous,
            Self::Former(id) => Rival::Former(*id),
        }
    }

    /// The resource that exists.
    pub(crate) fn stored(&self) -> Option<&Stored> {
        match self {
            Self::Holder { stored, .. } | Self::Joined(stored) => Some(stored),
            Self::Nobody | Self::Ambiguous | Self::Former(_) => None,
        }
    }
}

impl Inner {
    /// Looks for somebody who may be meant, as far as the rules let a POST mean somebody who exists.
    pub(crate) async fn rival(&self, terms: Terms<'_>, parts: &Parts) -> Result<Found, Failure> {
        let Terms { caller, rules, context, .. } = terms;
        let (projection, tenant, kind) = (&self.projection, &caller.tenant, context.kind);
        if !rules.join.is_empty() {
            match Box::pin(self.joined(terms, parts)).await? {
                Found::Nobody => {}
                found => return Ok(found),
            }
        }
        let Some((attribute, key)) = self.main_key(caller, kind, parts) else {
            return Box::pin(self.alike(terms, parts)).await;
        };
        let holder = projection.key(tenant, &kind.name, &key).holder;
        match holder {
            Some(id) if rules.repeat.is_some() || rules.reactivate => {
                match projection.resource(tenant, &kind.name, id).await? {
                    None => Ok(Found::Nobody),
                    Some(stored) => Box::pin(self.holder(terms, parts, stored, attribute)).await,
                }
            }
            Some(_) => Ok(Found::Nobody),
            None if rules.tombstone.is_none() => Ok(Found::Nobody),
            None => Box::pin(self.former(caller, kind, rules, parts, &key)).await,
        }
    }

    async fn holder(
        &self,
        terms: Terms<'_>,
        parts: &Parts,
        stored: Stored,
        attribute: String,
    ) -> Result<Found, Failure> {
        let holding = if self.repeated(terms, parts, &stored).await? {
            Holding::Repeated
        } else if self.is_own(terms, parts, &stored).await? {
            Holding::Own
        } else {
            Holding::Other
        };
        Ok(Found::Holder { stored: Box::new(stored), attribute, holding })
    }

    async fn is_own(&self, terms: Terms<'_>, parts: &Parts, stored: &Stored) -> Result<bool, Failure> {
        match stored.external_ids.get(&terms.caller.source) {
            Some(known) => Ok(parts.external_id.as_ref() == Some(known)),
            None => Ok(stored.external_ids.is_empty() && self.made_by(terms.caller, stored).await?),
        }
    }

    /// Of a type that has no unique attribute: what this very request made, if it was sent again because its answer was lost.
    async fn alike(&self, terms: Terms<'_>, parts: &Parts) -> Result<Found, Failure> {
        let Terms { caller, rules, context, .. } = terms;
        let (tenant, kind) = (&caller.tenant, context.kind);
        let Some(path) = &rules.called else { return Ok(Found::Nobody) };
        let Some(name) = path.values(&parts.document).into_iter().next() else { return Ok(Found::Nobody) };
        let text = format!("{path} eq {name}");
        let filter = Filter::parse(&text, &self.limits.filter(), Dialect::Rfc, &self.registry, kind);
        // Where an index does not tell, nobody is looked for: a POST must not cost a scan.
        let found = filter.ok().and_then(|filter| self.projection.indexed_ids(tenant, kind, &filter));
        for id in found.into_iter().flatten().rev().take(ALIKE_MAX) {
            if let Some(stored) = self.projection.resource(tenant, &kind.name, id).await?
                && self.repeated(terms, parts, &stored).await?
            {
                return Ok(Found::Holder {
                    stored: Box::new(stored),
                    attribute: path.to_string(),
                    holding: Holding::Repeated,
                });
            }
        }
        Ok(Found::Nobody)
    }

    /// The unique attribute and the key of its value; nothing where the type has none.
    pub(crate) fn main_key(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        parts: &Parts,
    ) -> Option<(String, Key)> {
        let (attribute, value) = unique_value(&self.registry, kind, &parts.document)?;
        Some((attribute, subject::key_of_value(&self.secret, &caller.tenant, &kind.name, value)))
    }

    /// Whether this very request was carried out not long ago: by the same source for the same `externalId`, and it made the
    /// resource, or all that it asks for is so since it brought the resource back or joined it. Of a type that has no unique
    /// attribute it may be without an `externalId`, as Okta's groups are; then what it made must not have got members since.
    async fn repeated(&self, terms: Terms<'_>, parts: &Parts, stored: &Stored) -> Result<bool, Failure> {
        let Terms { caller, rules, .. } = terms;
        let Some(window) = rules.repeat else { return Ok(false) };
        let external_id = stored.external_ids.get(&caller.source);
        let is_known = external_id.is_some();
        if external_id != parts.external_id.as_ref() || !is_known && rules.called.is_none() {
            return Ok(false);
        }
        let Some((source, body)) = self.projection.beginning(&caller.tenant, stored.id).await? else {
            return Ok(false);
        };
        let is_own = source == caller.source;
        // Of what it may not write, nothing was done.
        let members = parts.members.as_ref().filter(|_| rules.owns.holds(&AttrPath::of("members")));
        if !is_known && members.is_none() && !self.projection.members(&caller.tenant, stored.id).is_empty() {
            return Ok(false);
        }
        if let Some(named) = members {
            let held: BTreeSet<ResourceId> =
                self.projection.members(&caller.tenant, stored.id).into_iter().collect();
            let named: Option<BTreeSet<ResourceId>> = named.iter().map(|id| id.parse().ok()).collect();
            // What was joined has the members of both.
            let is_so = |named: BTreeSet<_>| if is_own { named == held } else { named.is_subset(&held) };
            if !named.is_some_and(is_so) {
                return Ok(false);
            }
        }
        let is_recent = |time| clock::now().duration_since(time) <= window;
        Ok(is_known && is_recent(stored.last_modified) && is_met(terms, stored, parts)
            || is_own && is_recent(stored.created) && is_as_begun(terms, stored, &body.document, parts))
    }

    /// The same person under the former id: a deletion that is taken back.
    async fn former(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        rules: &Rules,
        parts: &Parts,
        key: &Key,
    ) -> Result<Found, Failure> {
        let (Some(period), Some(external_id)) = (rules.tombstone, &parts.external_id) else {
            return Ok(Found::Nobody);
        };
        let former = self.projection.former(&caller.tenant, &kind.name, key).await?;
        let same = former.filter(|former| {
            former.external_ids.get(&caller.source) == Some(external_id)
                && clock::now().duration_since(former.deleted) <= period
        });
        Ok(same.map_or(Found::Nobody, |former| Found::Former(former.id)))
    }

    /// Somebody whom another source made, by the first join key that finds anybody.
    async fn joined(&self, terms: Terms<'_>, parts: &Parts) -> Result<Found, Failure> {
        let Terms { caller, rules, context, .. } = terms;
        let kind = context.kind;
        for path in &rules.join {
            // An empty text says nothing, and whoever has one too is somebody else.
            let values = path.values(&parts.document).into_iter();
            let values = values.filter(|value| value.as_str().is_some_and(|text| !text.trim().is_empty()));
            let texts: Vec<String> = values.map(|value| format!("{path} eq {value}")).collect();
            if texts.is_empty() {
                continue;
            }
            let text = texts.join(" or ");
            let filter = Filter::parse(&text, &self.limits.filter(), Dialect::Rfc, &self.registry, kind);
            let Ok(filter) = filter else { continue };
            let part = [Part { kind, filter: Some(&filter), sort: None }];
            let lens = Lens { source: caller.source.clone(), ..Lens::default() };
            let query = Query {
                parts: &part,
                lens: &lens,
                window: &Window::From(1),
                count: 3,
                scan_rows_max: self.limits.scan_rows_max,
            };
            let found = self.projection.query(&caller.tenant, query).await?.resources;
            match found.as_slice() {
                [] => {}
                [one] => {
                    return match one.external_ids.get(&caller.source) {
                        None if !self.made_by(caller, one).await? => Ok(Found::Joined(Box::new(one.clone()))),
                        // The same person, whatever name another source keeps for it.
                        Some(known) if parts.external_id.as_ref() == Some(known) => {
                            self.holder(terms, parts, one.clone(), path.to_string()).await
                        }
                        // Whom this source made or joined itself is its own matter.
                        Some(_) | None => Ok(Found::Nobody),
                    };
                }
                _ => return Ok(Found::Ambiguous),
            }
        }
        Ok(Found::Nobody)
    }

    async fn made_by(&self, caller: &Caller, stored: &Stored) -> Result<bool, Failure> {
        let beginning = self.projection.beginning(&caller.tenant, stored.id).await?;
        Ok(beginning.is_some_and(|(source, _)| source == caller.source))
    }
}
