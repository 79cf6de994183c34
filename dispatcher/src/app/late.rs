//! Waiting for what an app may still carry out, although whoever called it listens no more, and what is done when it says that
//! it has no such account.

use std::time::Duration;

use eventlog::clock;
use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;

use super::look::Now;
use super::perform::{Ended, Performer};
use super::record::gone;
use super::search::{For, Searched};
use crate::Error;
use crate::connector::Found;
use crate::link::{LOST, Link};
use crate::plan::Call;

/// The shortest time until an app is asked again whether a call was carried out meanwhile.
const LOOK_MIN: SignedDuration = SignedDuration::from_millis(500);
/// Why somebody is held whose account the app makes and does not know.
const MADE_IN_VAIN: &str =
    "the app made the account anew and does not know it either (404): look at its address and its profile";

impl Performer {
    /// The call that is open was answered, if it was.
    pub(super) fn heard(&self, id: ResourceId, link: &Link, unheard: bool) {
        if let Some(call) = link.unheard.open()
            && !unheard
        {
            self.checks.answered(id, call);
        }
    }

    /// The last call that nobody heard of and that may still be carried out, and until when.
    pub(super) fn awaited(&self, id: ResourceId, link: &Link) -> Option<(Timestamp, Timestamp)> {
        let (call, until) = self.last_unheard(id, link)?;
        (until > clock::now()).then_some((call, until))
    }

    /// The same, however long ago it was.
    fn last_unheard(&self, id: ResourceId, link: &Link) -> Option<(Timestamp, Timestamp)> {
        let call = link.unheard.times().filter(|call| !self.checks.is_answered(id, *call)).max()?;
        let patience = Duration::from_millis(self.config.timeout_ms + self.config.late_ms);
        let patience = SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
        Some((call, call.checked_add(patience).unwrap_or(Timestamp::MAX)))
    }

    /// When to look again for an account that is not there yet; nothing once it is not coming any more. The longer it takes,
    /// the more rarely.
    pub(super) fn look_again(&self, id: ResourceId, link: &Link) -> Option<Timestamp> {
        let (call, until) = self.awaited(id, link)?;
        let now = clock::now();
        let rest = LOOK_MIN.max(now.duration_since(call) / 2);
        Some(now.checked_add(rest).unwrap_or(until).min(until))
    }

    /// An account that is as it should be may be changed by what comes late: until when it is left alone, and then it is
    /// read once more.
    pub(super) fn await_the_late(&self, id: ResourceId, link: &Link) -> Option<Timestamp> {
        let (call, until) = self.last_unheard(id, link)?;
        if until > clock::now() {
            return Some(until);
        }
        self.checks.read_again(id, call);
        None
    }

    /// When to look again for an account that the app made a moment ago and does not know everywhere yet. Nothing once it has
    /// had the time, or something else was done to it.
    pub(super) fn appears_until(&self, link: &Link) -> Option<Timestamp> {
        let made_at = link.made_at?;
        let patience = SignedDuration::try_from(Duration::from_millis(self.config.late_ms)).ok()?;
        let (now, until) = (clock::now(), made_at.checked_add(patience).ok()?);
        let rest = LOOK_MIN.max(now.duration_since(made_at) / 2);
        (until > now).then(|| now.checked_add(rest).unwrap_or(until).min(until))
    }

    /// The app answered 404. One answer makes nobody anew: the app is searched first, and whom it makes and loses a second
    /// time a person must look at.
    pub(super) async fn missing(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        call: &Call,
    ) -> Result<Option<Ended>, Error> {
        let (name, why) = (call.name(), "the app has no such account");
        let link = self.not_done(id, now, link, name, 404, "404", why).await?;
        if let Some(due_at) = self.appears_until(&link) {
            return Ok(Some(Ended::Later { due_at }));
        }
        if let Some(ended) = self.doubted(id, now, &link, name).await? {
            return Ok(Some(ended));
        }
        if matches!(call, Call::Create { .. }) {
            return self.retry(id, now, &link, name, 404).await;
        }
        if link.was_lost {
            return self.hold(id, now, &link, name, MADE_IN_VAIN).await;
        }
        let Searched { found, by } = self.search(id, now, &link, For::Lost).await;
        match found {
            Found::None | Found::Unsearchable => {
                self.write(id, now, &link, gone(LOST), None, why).await?;
                Ok(None)
            }
            Found::One(remote_id) if link.remote_id.as_ref() != Some(&remote_id) => {
                self.take(id, now, &link, remote_id, &by).await
            }
            // It is there, and cannot be changed; or nobody knows.
            Found::One(_) | Found::Failed { .. } => self.retry(id, now, &link, name, 404).await,
            Found::Many(count) => {
                self.hold(id, now, &link, name, &super::search::ambiguous(count, &by)).await
            }
            Found::NotYet(denied) => Ok(Some(Ended::NotYet(denied))),
            Found::Unavailable { after, error } => Ok(Some(Ended::Unavailable { after, error })),
        }
    }

    /// Why an app is not believed that says that an account is not there: it does not know its own list either.
    pub(super) async fn doubted(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        name: &str,
    ) -> Result<Option<Ended>, Error> {
        match self.app.nobody(&now.kind).await {
            Found::NotYet(denied) => Ok(Some(Ended::NotYet(denied))),
            Found::Unavailable { after, error } => Ok(Some(Ended::Unavailable { after, error })),
            Found::Failed { status } => self.retry(id, now, link, name, status).await,
            Found::One(_) | Found::None | Found::Many(_) | Found::Unsearchable => Ok(None),
        }
    }
}
