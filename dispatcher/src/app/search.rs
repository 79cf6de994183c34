//! Looking for the account at an app that is somebody's: before it is made, when its name is taken, and when nobody knows
//! whether the last call was done.

use eventlog::clock;
use jiff::Timestamp;
use proto::ResourceId;
use proto::provisioning::Kind;
use scim::AttrPath;

use super::CONFLICT_DELAY;
use super::circle::FOR_A_MOMENT;
use super::look::Now;
use super::perform::{Ended, FOUND, Performer, has_members};
use super::record::gone;
use super::verify::Step;
use crate::Error;
use crate::connector::Found;
use crate::desired::at_creation;
use crate::link::Link;
use crate::matching::{OUR_ID, value};
use crate::plan::Call;

/// Why somebody is held of whom nobody can know whether the app has him.
const UNSEARCHABLE: &str = "it is not known whether the last call was done, and the app cannot be searched: look there, then release it";
/// Why somebody is held who may have been made, or be called as somebody who was there before.
const NAMESAKE: &str = "one of this name is there, and it is not known whether the last call made it: if so, take it away there, then try again";
/// A search that the app did not answer, as it is named when it fails.
pub(super) const SEARCH: &str = "search";
/// The intent of making an account ours that was there before.
const ADOPT: &str = "adopt";

/// What a search found, and by which key.
pub(super) struct Searched {
    pub(super) found: Found,
    pub(super) by: String,
}

/// What an app is searched for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Whoever has the name that it says is taken.
    Taken,
    /// What became of a call or an account: a name that several may have does not say whose it is.
    Lost,
}

impl Performer {
    /// Before an account is made or changed: is it there already, and what is decided when it is needed?
    pub(super) async fn meet(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        call: &Call,
    ) -> Result<Step, Error> {
        if matches!(call, Call::Create { .. } | Call::Update { .. }) {
            match self.decide(id, now, link).await? {
                Step::Plan => {}
                decided @ (Step::Again | Step::Ended(_)) => return Ok(decided),
            }
        }
        if !matches!(call, Call::Create { .. }) || !self.config.matching.looks_first(&now.kind.name) {
            return Ok(Step::Plan);
        }
        let (matching, mapping) = (&self.config.matching, &self.config.mapping);
        let keys = matching.keys(&self.shared.registry, &now.kind, mapping);
        let Searched { found, by } = self.look_for(id, now, link, &keys).await;
        let ended = match found {
            Found::None | Found::Unsearchable => return Ok(Step::Plan),
            Found::One(remote_id) => self.take(id, now, link, remote_id, &by).await?,
            Found::Many(count) => self.hold(id, now, link, call.name(), &ambiguous(count, &by)).await?,
            Found::Failed { status } => self.retry(id, now, link, SEARCH, status).await?,
            Found::NotYet(denied) => Some(Ended::NotYet(denied)),
            Found::Unavailable { after, error } => Some(Ended::Unavailable { after, error }),
        };
        Ok(ended.map_or(Step::Again, Step::Ended))
    }

    /// After a crash or a lost answer: what does the app hold?
    pub(super) async fn read_back(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
    ) -> Result<Option<Ended>, Error> {
        let Searched { found, by } = self.search(id, now, link, For::Lost).await;
        match found {
            Found::One(remote_id)
                if link.remote_id.as_ref() != Some(&remote_id) && self.may_be_a_namesake(now, &by) =>
            {
                self.hold(id, now, link, "create", NAMESAKE).await
            }
            // Where our id is not kept, the app was searched before the call: what is there now is what the call made.
            Found::One(remote_id)
                if link.remote_id.as_ref() == Some(&remote_id)
                    || !self.app.own(&now.kind).can_search(OUR_ID) =>
            {
                self.make_ours(id, now, link, remote_id, &by).await
            }
            Found::One(remote_id) => self.take(id, now, link, remote_id, &by).await,
            Found::None => {
                if let Some(due_at) = self.look_again(id, link) {
                    return Ok(Some(Ended::Later { due_at }));
                }
                if let Some(ended) = self.doubted(id, now, link, SEARCH).await? {
                    return Ok(Some(ended));
                }
                self.write(id, now, link, gone("read_back"), None, "the app has no such account").await?;
                Ok(None)
            }
            Found::Many(count) => self.hold(id, now, link, "create", &ambiguous(count, &by)).await,
            Found::Unsearchable => self.hold(id, now, link, "create", UNSEARCHABLE).await,
            Found::Failed { status } => self.retry(id, now, link, SEARCH, status).await,
            Found::NotYet(denied) => Ok(Some(Ended::NotYet(denied))),
            Found::Unavailable { after, error } => Ok(Some(Ended::Unavailable { after, error })),
        }
    }

    /// The app says that the name is somebody's.
    pub(super) async fn taken(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        name: &str,
        status: u16,
        why: &str,
    ) -> Result<Option<Ended>, Error> {
        let Searched { found, by } = self.search(id, now, link, For::Taken).await;
        match found {
            Found::One(remote_id) if link.remote_id.as_ref() != Some(&remote_id) => {
                if self.must_be_looked_at(&by) {
                    let link = self.not_done(id, now, link, name, status, "taken", why).await?;
                    return self.take(id, now, &link, remote_id, &by).await;
                }
                self.take(id, now, link, remote_id, &by).await
            }
            Found::Unavailable { after, error } => Ok(Some(Ended::Unavailable { after, error })),
            Found::NotYet(denied) => Ok(Some(Ended::NotYet(denied))),
            // Whoever has the name may be about to lose it: another resource of ours, or one that is gone by now.
            Found::One(_) | Found::None | Found::Unsearchable | Found::Failed { .. } => {
                let link = self.not_done(id, now, link, name, status, "taken", why).await?;
                match self.choose_again(id, now, &link).await? {
                    Step::Plan => {}
                    Step::Again => return Ok(None),
                    Step::Ended(ended) => return Ok(Some(ended)),
                }
                if why != FOR_A_MOMENT
                    && let Some(call) = self.makes_way(id, now, &link).await?
                {
                    return Box::pin(self.perform(id, now, &link, call, FOR_A_MOMENT)).await;
                }
                self.retry(id, now, &link, name, 409).await
            }
            Found::Many(count) => {
                let link = self.not_done(id, now, link, name, status, "taken", why).await?;
                self.hold(id, now, &link, name, &ambiguous(count, &by)).await
            }
        }
    }

    /// Whether what is found may have been there before a call, where the app was not searched before it.
    fn may_be_a_namesake(&self, now: &Now, by: &str) -> bool {
        let matching = &self.config.matching;
        !matching.looks_first(&now.kind.name) && matching.is_mere_name(&self.shared.registry, &now.kind, by)
    }

    /// Whether a person must look before an account becomes ours that this key found.
    fn must_be_looked_at(&self, by: &str) -> bool {
        self.config.matching.holds() && by != OUR_ID
    }

    /// An account that was there before becomes ours, unless a person must look at it first.
    pub(super) async fn take(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        remote_id: String,
        by: &str,
    ) -> Result<Option<Ended>, Error> {
        if self.must_be_looked_at(by) {
            let reason = format!(
                "an account that was there before is found by {by}, and on_match = \"hold\": look there, then adopt it or make it another's"
            );
            return self.hold(id, now, link, "create", &reason).await;
        }
        self.make_ours(id, now, link, remote_id, by).await
    }

    async fn make_ours(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        remote_id: String,
        by: &str,
    ) -> Result<Option<Ended>, Error> {
        // Two who look for it at the same time both find it.
        let kind = &now.kind.name;
        let claim = self.shared.links.claim(&self.name, kind, &remote_id, id);
        let is_surely_ours = by == OUR_ID || link.remote_id.as_ref() == Some(&remote_id);
        let is_others =
            !is_surely_ours && self.shared.links.is_others(&self.name, kind, (&remote_id, ""), id);
        if claim.is_none() || is_others {
            let due_at = clock::now().checked_add(CONFLICT_DELAY).unwrap_or(Timestamp::MAX);
            return Ok(Some(Ended::Later { due_at }));
        }
        if !has_members(&self.shared, &now.kind) {
            return self.adopt(id, now, link, remote_id).await;
        }
        // Its members are about to be changed.
        let intended = Kind::Intended { operation: ADOPT.to_string() };
        self.write(id, now, link, intended, None, &now.entering(FOUND)).await?;
        let link = self.shared.links.get(&self.name, id);
        self.adopt(id, now, &link, remote_id).await
    }

    /// The account at the app that is this resource's, whatever happened: by our id before all else, because it is surely ours.
    pub(super) async fn search(&self, id: ResourceId, now: &Now, link: &Link, what: For) -> Searched {
        let keeps_our_id = self.app.own(&now.kind).can_search(OUR_ID);
        // Where our id is not kept, or not yet, a name that is about to change would find nobody, or somebody else.
        if let Some(remote_id) = &link.remote_id
            && (link.imported || !keeps_our_id)
        {
            let found = self.app.there(&now.kind, remote_id).await;
            return Searched { found, by: "id".to_string() };
        }
        let (matching, registry) = (&self.config.matching, &self.shared.registry);
        // Where our id is not kept, a name was asked for before it was chosen: who has it was made by the call.
        let mut keys = if what == For::Lost && !keeps_our_id {
            matching.all_keys(registry, &now.kind)
        } else {
            matching.keys(registry, &now.kind, &self.config.mapping)
        };
        if what == For::Lost && keeps_our_id {
            keys.retain(|key| !matching.is_mere_name(registry, &now.kind, &key.to_string()));
        }
        keys.retain(|key| !key.is(OUR_ID));
        keys.insert(0, AttrPath::of(OUR_ID));
        self.look_for(id, now, link, &keys).await
    }

    /// The account that the first key finds which finds any. One that is linked to another resource of ours is that one's: it
    /// has the name only until what happened to that resource arrives there too.
    async fn look_for(&self, id: ResourceId, now: &Now, link: &Link, keys: &[AttrPath]) -> Searched {
        // What a call did is found by what it said, whatever is wished by now.
        let attempted = link.attempted.as_ref().map(|attempt| Ok(attempt.told.clone()));
        let wished = || now.desired.as_ref().map(|desired| at_creation(&desired.attributes, &desired.once));
        let told = attempted.unwrap_or_else(wished).unwrap_or_default();
        let mut searched = Found::Unsearchable;
        for key in keys {
            let is_ours = key.is(OUR_ID);
            let Some(value) = (if is_ours { Some(id.to_string()) } else { value(key, &told) }) else {
                continue;
            };
            let (links, kind) = (&self.shared.links, &now.kind.name);
            let is_awaited = !is_ours && links.is_attempted(&self.name, kind, (key, &value), id);
            let is_others = |remote_id: &str, external_id: &str| {
                let account = (remote_id, external_id);
                is_awaited || !is_ours && links.is_others(&self.name, kind, account, id)
            };
            match self.app.find(&now.kind, key, &value, is_others).await {
                Found::Unsearchable => {}
                // Whom one key finds need not be looked for by others; that nobody is there, all must say.
                failed @ Found::Failed { .. } => searched = failed,
                Found::None if matches!(searched, Found::Failed { .. }) => {}
                Found::None => searched = Found::None,
                found => return Searched { found, by: key.to_string() },
            }
        }
        Searched { found: searched, by: String::new() }
    }
}

/// Why somebody is held for whom several accounts are there.
pub(super) fn ambiguous(count: u64, by: &str) -> String {
    format!("{count} accounts at the app match by {by}: one may be left, or it must be told by another key")
}
