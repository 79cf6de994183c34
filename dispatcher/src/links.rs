//! Links: what we know that each app holds. A projection of PROVISIONING, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use eventlog::{Keyring, Log, Message, Timeline};
use futures::StreamExt;
use jiff::Timestamp;
use proto::provisioning::{self, Details, Encoded, Event};
use proto::{ResourceId, Tenant};
use scim::AttrPath;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::book::Book;
use crate::decided::name;
use crate::link::{Held, Link};
use crate::mapping::Open;
use crate::rails::{Rails, Tally};

/// How long to wait before keys are asked for again.
const AGAIN_DELAY: Duration = Duration::from_millis(200);

/// Every link of every app. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Links {
    log: Arc<dyn Log>,
    keyring: Keyring,
    /// The restore that the log comes from.
    restored: Option<Timeline>,
    books: Arc<RwLock<BTreeMap<String, Arc<Mutex<Book>>>>>,
    applied: Arc<watch::Sender<u64>>,
}

impl Links {
    pub(crate) fn new(log: Arc<dyn Log>, keyring: Keyring, restored: Option<Timeline>) -> Self {
        Self { log, keyring, restored, books: Arc::default(), applied: Arc::new(watch::Sender::new(0)) }
    }

    /// Asks or tells the book of an app.
    fn book<T>(&self, app: &str, ask: impl FnOnce(&mut Book) -> T) -> T {
        let known = self.books.read().unwrap_or_else(PoisonError::into_inner).get(app).cloned();
        let book = known.unwrap_or_else(|| {
            let mut books = self.books.write().unwrap_or_else(PoisonError::into_inner);
            books.entry(app.to_string()).or_default().clone()
        });
        let mut book: MutexGuard<'_, Book> = book.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut book)
    }

    /// Counts what is done at an app from now on, and what was done before, once it is read. What is counted already stays.
    pub(crate) fn guard(&self, app: &str, rails: &Rails) {
        self.tally(app, |tally| tally.limit(rails.clone()));
    }

    /// Asks or tells an app's tally.
    pub(crate) fn tally<T>(&self, app: &str, tell: impl FnOnce(&mut Tally) -> T) -> T {
        self.book(app, |book| tell(book.tally()))
    }

    /// Who was released by a person since this was asked last.
    pub(crate) fn take_redriven(&self, app: &str) -> BTreeSet<ResourceId> {
        self.book(app, Book::take_redriven)
    }

    /// Who was given an account by a person since this was asked last.
    pub(crate) fn take_imported(&self, app: &str) -> BTreeSet<ResourceId> {
        self.book(app, Book::take_imported)
    }

    /// Whose people an app was given, whatever its configuration says now.
    pub(crate) fn tenant(&self, app: &str) -> Option<Tenant> {
        self.book(app, |book| book.tenant().cloned())
    }

    /// Follows PROVISIONING until told to stop.
    pub(crate) async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut messages = self.log.follow(1);
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = shutdown.cancelled() => return Ok(()),
            };
            let Some(message) = message.transpose()? else { return Ok(()) };
            let sequence = message.sequence;
            let encoded =
                provisioning::decode(message.payload).map_err(|source| unreadable(sequence, source))?;
            if !self.knows(&encoded.event, sequence) {
                let details = loop {
                    match self.open(&encoded, sequence).await {
                        Err(Error::Log(error)) if error.is_retryable() => {
                            tracing::warn!(%error, sequence, "waiting for data keys");
                            tokio::select! {
                                () = tokio::time::sleep(AGAIN_DELAY) => {}
                                () = shutdown.cancelled() => return Ok(()),
                            }
                        }
                        opened => break opened?,
                    }
                };
                self.enter(&encoded.event, details.as_ref(), sequence);
            }
            self.applied.send_replace(sequence);
        }
    }

    /// Whether an event is in its link already, because we wrote it.
    fn knows(&self, event: &Event, sequence: u64) -> bool {
        self.book(&event.app, |book| book.get(event.resource_id).is_some_and(|link| link.last >= sequence))
    }

    /// Puts an event into its link. One of ours comes as soon as it is acknowledged: its guard says that nothing stands
    /// between it and what the link knows. The log tells it again a moment later.
    pub(crate) fn enter(&self, event: &Event, details: Option<&Details>, sequence: u64) {
        self.book(&event.app, |book| book.enter(event, details, sequence));
    }

    async fn open(&self, encoded: &Encoded, sequence: u64) -> Result<Option<Details>, Error> {
        let Some(at) = encoded.event.key_ref.filter(|_| encoded.is_sealed()) else { return Ok(None) };
        let Some(key) = self.keyring.key(&encoded.event.tenant, at).await? else { return Ok(None) };
        encoded.open(&key).map(Some).map_err(|source| unreadable(sequence, source))
    }

    /// Reads an event, and its details where they can be opened.
    pub(crate) async fn read(&self, message: Message) -> Result<(Event, Option<Details>), Error> {
        let sequence = message.sequence;
        let encoded = provisioning::decode(message.payload).map_err(|source| unreadable(sequence, source))?;
        let details = self.open(&encoded, sequence).await?;
        Ok((encoded.event, details))
    }

    /// Waits until a sequence is applied.
    pub(crate) async fn wait_until(&self, sequence: u64, deadline: Instant) -> bool {
        let mut applied = self.applied.subscribe();
        tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= sequence)).await.is_ok()
    }

    /// Waits until everything is known that stands in PROVISIONING now.
    pub(crate) async fn catch_up(&self, timeout: Duration) -> Result<bool, Error> {
        let last = self.log.last_sequence().await?;
        Ok(self.wait_until(last, Instant::now() + timeout).await)
    }

    pub(crate) fn get(&self, app: &str, id: ResourceId) -> Link {
        let mut link = self.known(app, id);
        // As after a crash: the app is read before anything is sent to it.
        link.intent_open |= self.is_doubted(id, &link);
        link
    }

    fn known(&self, app: &str, id: ResourceId) -> Link {
        self.book(app, |book| {
            let mut link = book.get(id).cloned().unwrap_or_default();
            let known_as = std::mem::take(&mut link.known_as);
            link.members.retain(|member| {
                let now = book.get(*member).and_then(|link| link.remote_id.as_ref());
                // Who has no account now is a member until the plan takes him out.
                now.is_none() || now == known_as.get(member)
            });
            link
        })
    }

    /// Whether a group that an app has lacks a member who has an account there, or has one who has none any more.
    pub(crate) fn lacks(&self, app: &str, group: ResourceId, member: ResourceId) -> bool {
        self.book(app, |book| {
            let account = book.get(member).and_then(|link| link.remote_id.as_ref());
            book.get(group).is_some_and(|link| {
                let known_as = link.members.contains(&member).then(|| link.known_as.get(&member));
                match (known_as, account) {
                    (Some(known_as), Some(account)) => known_as != Some(account),
                    (Some(_), None) | (None, Some(_)) => true,
                    (None, None) => false,
                }
            })
        })
    }

    /// Whether an account of a type, which has this id at an app and says that it has this one of ours, is another resource's.
    pub(crate) fn is_others(
        &self,
        app: &str,
        kind: &str,
        (remote_id, external_id): (&str, &str),
        id: ResourceId,
    ) -> bool {
        // One that was just made, or is about to be found again after a crash, is known by our id only.
        let owner = external_id.parse().ok().filter(|owner| *owner != id);
        self.book(app, |book| {
            let owner = owner.and_then(|owner| book.get(owner));
            owner.is_some_and(|link| link.remote_id.is_some() || link.intent_open)
                || book.owners(kind, remote_id).any(|(other, link)| other != id && !link.trust.stranger)
        })
    }

    /// Whether another resource may have been made with this value a moment ago, so that whoever has it there is that one's.
    pub(crate) fn is_attempted(
        &self,
        app: &str,
        kind: &str,
        (key, text): (&AttrPath, &str),
        id: ResourceId,
    ) -> bool {
        self.book(app, |book| book.is_attempted(kind, key, text, id))
    }

    /// The name that a resource would be given now.
    pub(crate) fn free_name(&self, app: &str, id: ResourceId, kind: &str, open: &Open) -> Option<String> {
        let attribute = open.name();
        self.book(app, |book| {
            let found =
                open.choose(&BTreeSet::new(), |value| book.is_named(name(kind, &attribute, value), id));
            found.map(|(value, _)| value)
        })
    }

    /// The same, which nobody else is given until it is written down; and the candidate that it is made of.
    pub(crate) fn set_aside(
        &self,
        app: &str,
        id: ResourceId,
        kind: &str,
        open: &Open,
        refused: &BTreeSet<String>,
    ) -> Option<(String, String)> {
        let attribute = open.name();
        self.book(app, |book| {
            let found = open.choose(refused, |value| book.is_named(name(kind, &attribute, value), id))?;
            book.set_aside(name(kind, &attribute, &found.0), id);
            Some(found)
        })
    }

    /// Nothing is set aside for a resource any more.
    pub(crate) fn give_back(&self, app: &str, id: ResourceId) {
        self.book(app, |book| book.give_back(id));
    }

    /// Claims an account of a type for a resource until the claim is dropped; nothing when somebody else is about to be
    /// given it.
    pub(crate) fn claim(&self, app: &str, kind: &str, remote_id: &str, id: ResourceId) -> Option<Claim> {
        let is_claimed = self.book(app, |book| book.claim(kind, remote_id, id));
        is_claimed.then(|| Claim { links: self.clone(), app: app.to_string(), id })
    }

    /// Whether a resource waits to be read back because of a restore.
    pub(crate) fn waits_for_reading(&self, app: &str, id: ResourceId) -> bool {
        let link = self.known(app, id);
        link.held.is_none() && self.is_doubted(id, &link)
    }

    /// After a restore from a backup the app may hold anything that it was told since the backup. What was written
    /// down about a resource after the restore is known again, and what was made after it was never told to anybody.
    fn is_doubted(&self, id: ResourceId, link: &Link) -> bool {
        let Some(restored) = &self.restored else { return false };
        let made_at = id.uuid().get_timestamp().map_or(0, |time| time.to_unix().0);
        let was_there =
            i64::try_from(made_at).is_ok_and(|made_at| made_at <= restored.restored_at.as_second());
        link.last <= restored.provisioning && (link.last > 0 || was_there)
    }

    pub(crate) fn remote_id(&self, app: &str, id: ResourceId) -> Option<String> {
        self.book(app, |book| book.get(id)?.remote_id.clone())
    }

    /// The event of PROVISIONING that last made the app's id of a resource another.
    pub(crate) fn renamed_by(&self, app: &str, id: ResourceId) -> u64 {
        self.book(app, |book| book.get(id).map_or(0, |link| link.renamed_by))
    }

    /// Whose account became another, was made or was lost at or after a sequence of IDENTITY. Looks at every link.
    pub(crate) fn renamed_since(&self, app: &str, sequence: u64) -> Vec<ResourceId> {
        let renamed = |link: &Link| link.renamed_at > 0 && link.renamed_at >= sequence;
        self.chosen(app, renamed)
    }

    /// Every resource that an app has, or may have, an account for. Looks at every link.
    pub(crate) fn of_app(&self, app: &str) -> Vec<ResourceId> {
        self.chosen(app, |link| link.remote_id.is_some() || link.intent_open)
    }

    /// Apps beside these at which there are accounts, or may be, and how many.
    pub(crate) fn beside(&self, is_known: impl Fn(&str) -> bool) -> Vec<(String, usize)> {
        let books = self.books.read().unwrap_or_else(PoisonError::into_inner);
        let others: Vec<String> = books.keys().filter(|name| !is_known(name)).cloned().collect();
        drop(books);
        let counted = others.into_iter().map(|name| (self.of_app(&name).len(), name));
        counted.filter(|(count, _)| *count > 0).map(|(count, name)| (name, count)).collect()
    }

    fn chosen(&self, app: &str, is_chosen: impl Fn(&Link) -> bool) -> Vec<ResourceId> {
        self.book(app, |book| book.iter().filter(|(_, link)| is_chosen(link)).map(|(id, _)| id).collect())
    }

    /// How many resources an app has an account for.
    pub(crate) fn linked(&self, app: &str) -> usize {
        self.book(app, |book| book.linked())
    }

    /// What an app's resources are held for.
    pub(crate) fn held_items(&self, app: &str) -> Vec<(ResourceId, Held)> {
        self.book(app, |book| book.held())
    }

    /// Whose account at an app is switched off, and since when.
    pub(crate) fn deactivated(&self, app: &str) -> Vec<(ResourceId, Timestamp)> {
        self.book(app, |book| book.deactivated())
    }

    /// The app's ids of all that it has of ours of a type. Looks at every link.
    pub(crate) fn remote_ids(&self, app: &str, kind: &str) -> Vec<(String, ResourceId)> {
        self.book(app, |book| {
            let is_ours = |link: &Link| *link.resource_type == *kind && !link.trust.stranger;
            let ours = book.iter().filter(|(_, link)| is_ours(link));
            ours.filter_map(|(id, link)| Some((link.remote_id.clone()?, id))).collect()
        })
    }

    /// Whose these accounts of a type are.
    pub(crate) fn owners(
        &self,
        app: &str,
        kind: &str,
        remote_ids: &BTreeSet<String>,
    ) -> BTreeMap<String, ResourceId> {
        self.book(app, |book| {
            let owner = |remote_id: &String| Some((remote_id.clone(), owner(book, kind, remote_id)?));
            remote_ids.iter().filter_map(owner).collect()
        })
    }

    /// Who the members of a group are, of which an app says its ids only. One that counts each type from one means
    /// somebody rather than another group.
    pub(crate) fn members(
        &self,
        app: &str,
        group_kind: &str,
        remote_ids: &BTreeSet<String>,
    ) -> BTreeMap<String, ResourceId> {
        self.book(app, |book| {
            let others = book.types().filter(|kind| *kind != group_kind);
            let kinds: Vec<&str> = others.chain([group_kind]).collect();
            let owner = |remote_id: &String| {
                let owner = kinds.iter().find_map(|kind| owner(book, kind, remote_id))?;
                Some((remote_id.clone(), owner))
            };
            remote_ids.iter().filter_map(owner).collect()
        })
    }

    /// The link of an account of a type that nobody of ours owns and that we took charge of.
    pub(crate) fn stranger(&self, app: &str, kind: &str, remote_id: &str) -> Option<ResourceId> {
        self.book(app, |book| {
            let mut strangers = book.owners(kind, remote_id).filter(|(_, link)| link.trust.stranger);
            strangers.next().map(|(id, _)| id)
        })
    }

    /// Those that no event makes due: access that nobody saw end, with the time when the app said so, or something else
    /// that was seen and not answered yet.
    pub(crate) fn unfinished(&self, app: &str) -> Vec<(ResourceId, Option<Timestamp>)> {
        self.book(app, |book| book.unfinished())
    }

    /// How many of an app's resources are held.
    pub(crate) fn held(&self, app: &str) -> usize {
        self.book(app, |book| book.held_count())
    }
}

/// An account that a resource is about to be given.
pub(crate) struct Claim {
    links: Links,
    app: String,
    id: ResourceId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.links.book(&self.app, |book| book.unclaim(self.id));
    }
}

/// Which resource of a type an account belongs to.
fn owner(book: &Book, kind: &str, remote_id: &str) -> Option<ResourceId> {
    let mut ours = book.owners(kind, remote_id).filter(|(_, link)| !link.trust.stranger);
    ours.next().map(|(id, _)| id)
}

fn unreadable(sequence: u64, source: proto::codec::Error) -> Error {
    Error::Event { stream: "PROVISIONING", sequence, source }
}

#[cfg(test)]
mod tests;
