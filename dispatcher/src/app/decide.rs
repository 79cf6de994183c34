//! Choosing names that no other account of the app has, and remembering them: an event says which, before the app is told.
//!
//! Whether a name is somebody's is known from what was chosen for others, from the app where it can be searched, and from its
//! answer when it is told. Two that are planned at the same time never choose the same, because a name is set aside
//! in the book before it is written down.

use std::collections::BTreeSet;

use proto::ResourceId;
use proto::provisioning::{Details, Kind};
use scim::Object;

use super::look::Now;
use super::perform::{Ended, Performer};
use super::search::SEARCH;
use super::verify::Step;
use crate::Error;
use crate::connector::Found;
use crate::decided::{CHOOSE, Choice, FORGET};
use crate::link::Link;
use crate::mapping::Open;
use crate::matching::OUR_ID;

/// Names of one attribute that the app says are somebody else's before a person must look at it.
const REFUSED_MAX: usize = 50;
/// Why a name is chosen for the first time, or because the candidates are others.
const FIRST: &str = "no other account of the app has it";
/// Why another name is chosen.
const TAKEN: &str = "the app says that another account has this name (409)";
/// Why somebody is held for whom there is no name.
const NONE_LEFT: &str = "every name that it could have is another account's";

/// What the app says of a name.
enum Says {
    Free,
    Taken,
    /// It cannot be asked now.
    Ended(Ended),
}

impl Performer {
    /// Before anything else is done, or once nothing is left to do: what is not decided yet is, and what was decided for
    /// somebody who has no account and shall have none is forgotten.
    pub(super) async fn decide(&self, id: ResourceId, now: &Now, link: &Link) -> Result<Step, Error> {
        if self.railing.is_read_only() {
            return Ok(Step::Plan);
        }
        if now.desired.is_err() {
            if link.remote_id.is_some() || link.decisions.is_empty() {
                return Ok(Step::Plan);
            }
            let forgotten =
                Kind::Decided { operation: FORGET.to_string(), attributes: link.decisions.attributes() };
            self.write(id, now, link, forgotten, None, "it has no account and shall have none").await?;
            return Ok(Step::Again);
        }
        let undecided = now.open.iter().filter(|open| open.standing(&link.decisions).is_none());
        let undecided: Vec<(&Open, BTreeSet<String>)> =
            undecided.map(|open| (open, BTreeSet::new())).collect();
        if undecided.is_empty() {
            return Ok(Step::Plan);
        }
        self.choose(id, now, link, undecided, FIRST).await
    }

    /// The app says that a name is somebody's: another is chosen, unless it said so too often.
    pub(super) async fn choose_again(&self, id: ResourceId, now: &Now, link: &Link) -> Result<Step, Error> {
        let unique = self.shared.registry.unique_attribute(&now.kind).map(|attribute| attribute.name.clone());
        let is_unique = |open: &Open| unique.as_ref().is_some_and(|name| open.path.is(name));
        // The answer does not say which name it is; where the type has one that must be the only one, it is that.
        let has_unique = now.open.iter().any(is_unique);
        let refused = now.open.iter().filter(|open| !has_unique || is_unique(open)).filter_map(|open| {
            let choice = open.standing(&link.decisions)?;
            let mut refused = choice.refused.clone();
            refused.insert(choice.after.clone());
            (refused.len() <= REFUSED_MAX).then_some((open, refused))
        });
        let refused: Vec<(&Open, BTreeSet<String>)> = refused.collect();
        if refused.is_empty() {
            return Ok(Step::Plan);
        }
        self.choose(id, now, link, refused, TAKEN).await
    }

    async fn choose(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        open: Vec<(&Open, BTreeSet<String>)>,
        why: &str,
    ) -> Result<Step, Error> {
        let (links, mut decided) = (&self.shared.links, Object::new());
        for (open, mut refused) in open {
            let (after, base) = loop {
                let found = links.set_aside(&self.name, id, &now.kind.name, open, &refused);
                let Some((value, base)) = found.filter(|_| refused.len() <= REFUSED_MAX) else {
                    links.give_back(&self.name, id);
                    let ended = self.hold(id, now, link, CHOOSE, NONE_LEFT).await?;
                    return Ok(ended.map_or(Step::Again, Step::Ended));
                };
                match self.ask(id, now, link, open, &value).await? {
                    Says::Free => break (value, base),
                    Says::Taken => drop(refused.insert(value)),
                    Says::Ended(ended) => {
                        links.give_back(&self.name, id);
                        return Ok(Step::Ended(ended));
                    }
                }
            };
            let before = link.decisions.chosen(&open.name()).map(|choice| choice.after.clone());
            let choice = Choice::new(before, after, base, refused);
            decided.insert(open.name(), serde_json::to_value(choice).unwrap_or_default());
        }
        let attributes = decided.keys().cloned().collect();
        let chosen = Kind::Decided { operation: CHOOSE.to_string(), attributes };
        let details = Details { decided, ..Details::default() };
        self.write_details(id, now, link, chosen, Some(details), why).await?;
        Ok(Step::Again)
    }

    /// Whether the app has an account with this name that is not this resource's. One that would refuse the name by itself
    /// and keeps our id need not be asked.
    async fn ask(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        open: &Open,
        value: &str,
    ) -> Result<Says, Error> {
        let unique = self.shared.registry.unique_attribute(&now.kind);
        let refuses = unique.is_some_and(|attribute| open.path.is(&attribute.name));
        if refuses && self.app.own(&now.kind).can_search(OUR_ID) {
            return Ok(Says::Free);
        }
        let ours = id.to_string();
        let is_this = |remote_id: &str, external_id: &str| {
            link.remote_id.as_deref() == Some(remote_id) || external_id == ours
        };
        Ok(match self.app.find(&now.kind, &open.path, value, is_this).await {
            Found::None | Found::Unsearchable => Says::Free,
            Found::One(_) | Found::Many(_) => Says::Taken,
            Found::Failed { status } => match self.retry(id, now, link, SEARCH, status).await? {
                Some(ended) => Says::Ended(ended),
                None => Says::Free,
            },
            Found::NotYet(denied) => Says::Ended(Ended::NotYet(denied)),
            Found::Unavailable { after, error } => Says::Ended(Ended::Unavailable { after, error }),
        })
    }
}
