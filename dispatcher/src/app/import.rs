//! Making accounts ours that were there before, because a person asked for it. Nothing is called: an event under the guard of
//! the link says whose the account is, and whoever works for the app makes it equal.

use proto::ResourceId;
use proto::provisioning::Kind;
use scim::ResourceType;

use super::look::Now;
use super::perform::{Performer, has_members};
use crate::Error;
use crate::link::{IMPORT, IMPORT_NEW, Link};
use crate::plan::Leaving;

/// How often it is tried again because something else was written about the resource meanwhile.
const ATTEMPTS_MAX: u32 = 8;
/// Why the account is ours.
const WHY: &str = "imported: found at the app by a person's wish";

/// What came of giving somebody an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// It is that one's.
    Linked,
    /// That one has another account by now.
    Elsewhere,
    /// The account is another's by now.
    Anothers,
    /// That one should have no account.
    Out,
    /// It is worked on at this moment.
    Busy,
}

impl Performer {
    /// Says that an account is somebody's who has none, unless something else is about to happen to either.
    pub(crate) async fn give(
        &self,
        kind: &ResourceType,
        id: ResourceId,
        remote_id: &str,
    ) -> Result<Given, Error> {
        let links = &self.shared.links;
        for _ in 0..ATTEMPTS_MAX {
            let Some(foreseen) = self.foresee(id).await? else { return Ok(Given::Out) };
            let link = &foreseen.link;
            match &link.remote_id {
                Some(known) if known == remote_id => return Ok(Given::Linked),
                Some(_) => return Ok(Given::Elsewhere),
                None => {}
            }
            if link.intent_open {
                return Ok(Given::Busy);
            }
            match self.owner(kind, remote_id).filter(|owner| *owner != id) {
                Some(owner) if self.is_unborn(owner, &links.get(&self.name, owner)) => {
                    self.let_go_of(kind, owner).await?;
                }
                Some(_) => return Ok(Given::Anothers),
                None => {}
            }
            if foreseen.now.desired.is_err() {
                return Ok(Given::Out);
            }
            let found = self.found(IMPORT, kind, remote_id);
            match self.write(id, &foreseen.now, link, found, None, &foreseen.now.entering(WHY)).await {
                Ok(()) => return Ok(Given::Linked),
                Err(Error::Log(eventlog::Error::Conflict { .. })) => {
                    links.catch_up(super::perform::WRITE_TIMEOUT).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Given::Busy)
    }

    fn found(&self, operation: &str, kind: &ResourceType, remote_id: &str) -> Kind {
        Kind::Done {
            operation: operation.to_string(),
            linked: !remote_id.is_empty(),
            remote_id: remote_id.to_string(),
            members_added: Vec::new(),
            members_removed: Vec::new(),
            members_replaced: !has_members(&self.shared, kind),
            status: 200,
        }
    }

    /// Which resource of a type has an account.
    fn owner(&self, kind: &ResourceType, remote_id: &str) -> Option<ResourceId> {
        let ids = [remote_id.to_string()].into();
        self.shared.links.owners(&self.name, &kind.name, &ids).remove(remote_id)
    }

    /// Whether somebody with an account was to be made in the directory and never was.
    pub(crate) fn is_unborn(&self, id: ResourceId, link: &Link) -> bool {
        let known = || self.shared.projection.known_at(&self.config.tenant, id, projector::Moment::NOW);
        link.newborn && known().is_none()
    }

    /// Before somebody is made whose account is there already: whoever works for the app hears of both in this order, so
    /// that no second account is made. Whoever is interrupted after it goes on with the same id.
    pub(crate) async fn give_unborn(
        &self,
        kind: &ResourceType,
        id: ResourceId,
        remote_id: &str,
    ) -> Result<(), Error> {
        let link = self.shared.links.get(&self.name, id);
        if link.remote_id.as_deref() == Some(remote_id) {
            return Ok(());
        }
        let found = self.found(IMPORT_NEW, kind, remote_id);
        self.write(id, &nobody(kind), &link, found, None, WHY).await
    }

    /// Whoever was to be made is not.
    pub(crate) async fn let_go_of(&self, kind: &ResourceType, id: ResourceId) -> Result<(), Error> {
        let link = self.shared.links.get(&self.name, id);
        if !self.is_unborn(id, &link) {
            return Ok(());
        }
        match self.write(id, &nobody(kind), &link, self.found(IMPORT, kind, ""), None, WHY).await {
            Err(Error::Log(eventlog::Error::Conflict { .. })) => Ok(()),
            written => written,
        }
    }
}

/// Somebody whom the directory does not know yet.
fn nobody(kind: &ResourceType) -> Now {
    Now::of(kind.clone(), Err(Leaving::unclear("not in the directory yet")))
}
