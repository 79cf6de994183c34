//! Leaving at the app what it changed by itself, where the configuration says so of an attribute: an event says what was
//! intended before and what is from now on. The plan does not fight against it, until the directory says something else.

use std::collections::BTreeSet;

use proto::ResourceId;
use proto::provisioning::{Details, Kind};
use scim::{AttrPath, Object};

use super::look::Now;
use super::perform::Performer;
use crate::Error;
use crate::config::OnDrift;
use crate::connector::Account;
use crate::decided::{ADOPT, Adopted, REVERT, at, put};
use crate::drift::drift;
use crate::link::Link;

impl Performer {
    /// Leaves there what may stay of what an account is otherwise in. Says whether anything is.
    pub(super) async fn leave_there(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        account: &Account,
        paths: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        let Ok(desired) = &now.desired else { return Ok(false) };
        let (mut intended, mut decided) = (desired.attributes.clone(), Object::new());
        for path in paths.iter().filter(|path| self.config.reconcile.on_drift(path) == OnDrift::Adopt) {
            let Ok(AttrPath { schema, name, sub }) = AttrPath::parse(path, &self.shared.registry) else {
                continue;
            };
            let names: Vec<String> = [schema, name, sub].into_iter().flatten().collect();
            let told = at(&desired.attributes, &names);
            // Changed once more: what would be told if nothing had been decided is what counts.
            let known = link.decisions.adopted().find(|(known, own)| *known == path && own.after == *told);
            let before = known.map_or(told, |(_, own)| &own.before).clone();
            let after = at(&account.attributes, &names).clone();
            let mut left = intended.clone();
            put(&mut left, &names, after.clone(), desired.partial);
            if drift(&self.shared.registry, &now.kind, &left, &account.attributes).contains(path) {
                continue;
            }
            intended = left;
            let own = Adopted { before, after, at: names };
            decided.insert(path.clone(), serde_json::to_value(own).unwrap_or_default());
        }
        if decided.is_empty() {
            return Ok(false);
        }
        let attributes: Vec<String> = decided.keys().cloned().collect();
        let why = format!("the app changed it, and it is left there: {}", attributes.join(", "));
        tracing::info!(app = self.name, resource.id = %id, ?attributes, "what the app changed is left there");
        let adopted = Kind::Decided { operation: ADOPT.to_string(), attributes };
        let details = Details { intended, decided, ..Details::default() };
        self.write_details(id, now, link, adopted, Some(details), &why).await?;
        Ok(true)
    }

    /// What was left there and may not stay any more: the configuration says otherwise by now.
    pub(super) fn left_too_long(&self, link: &Link) -> Vec<String> {
        let is_over = |path: &&String| self.config.reconcile.on_drift(path) != OnDrift::Adopt;
        link.decisions.adopted().map(|(path, _)| path).filter(is_over).cloned().collect()
    }

    /// The app's own values are the directory's again.
    pub(super) async fn take_back(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        attributes: Vec<String>,
    ) -> Result<(), Error> {
        let reverted = Kind::Decided { operation: REVERT.to_string(), attributes };
        self.write(id, now, link, reverted, None, "the configuration leaves it there no more").await
    }
}
