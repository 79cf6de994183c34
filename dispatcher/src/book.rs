//! Everything that is known of one app: its links, and in which lists they stand. Asking how many there are, who is held or
//! whose an account is costs the same however many links there are.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use proto::provisioning::{Details, Event, Kind};
use proto::{ResourceId, Tenant};
use scim::{AttrPath, Object, fold};

use crate::link::{Held, IMPORT, Link, RELEASED_BY};
use crate::matching::value;
use crate::rails::{self, Rails, Tally};

/// The links of one app.
pub(crate) struct Book {
    /// Whose people they are.
    tenant: Option<Tenant>,
    links: BTreeMap<ResourceId, Link>,
    /// The resource types that links are of.
    types: BTreeSet<Arc<str>>,
    /// Who has an account, by a hash of the type and the app's id.
    owners: BTreeSet<(u64, ResourceId)>,
    /// Who was given a name that must be the only one, by a hash of it.
    names: BTreeSet<(u64, ResourceId)>,
    /// Names that are about to be given, and are not written down yet.
    set_aside: BTreeMap<ResourceId, BTreeSet<u64>>,
    /// Who is about to be given which account, by a hash of it; it is not written down yet.
    claims: BTreeMap<ResourceId, u64>,
    held: BTreeSet<ResourceId>,
    deactivated: BTreeSet<ResourceId>,
    unfinished: BTreeSet<ResourceId>,
    /// Who may have been made, under what is known.
    attempted: BTreeSet<ResourceId>,
    /// Who was released by a person and not looked at since.
    redriven: BTreeSet<ResourceId>,
    /// Who was given an account by a person and not looked at since.
    imported: BTreeSet<ResourceId>,
    /// What was done lately.
    tally: Tally,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            tenant: None,
            links: BTreeMap::new(),
            types: BTreeSet::new(),
            owners: BTreeSet::new(),
            names: BTreeSet::new(),
            set_aside: BTreeMap::new(),
            claims: BTreeMap::new(),
            held: BTreeSet::new(),
            deactivated: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            attempted: BTreeSet::new(),
            redriven: BTreeSet::new(),
            imported: BTreeSet::new(),
            tally: Tally::new(Rails::default()),
        }
    }
}

/// Some apps count each type from one: an id says whose it is within its type only.
fn hash(kind: &str, remote_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, remote_id).hash(&mut hasher);
    hasher.finish()
}

/// Access that nobody saw end, or something else that was seen and not answered yet.
fn is_unfinished(link: &Link) -> bool {
    link.trust.observed || link.trust.unverified.is_some()
}

impl Book {
    pub(crate) fn get(&self, id: ResourceId) -> Option<&Link> {
        self.links.get(&id)
    }

    /// Applies an event that its link does not know yet.
    pub(crate) fn enter(&mut self, event: &Event, details: Option<&Details>, sequence: u64) {
        let id = event.resource_id;
        if self.get(id).is_some_and(|link| link.last >= sequence) {
            return;
        }
        if event.kind != Kind::PassedOver {
            self.tenant.get_or_insert_with(|| event.tenant.clone());
        }
        let mut link = self.take(id);
        self.notice(event, details, link.is_off);
        let account = link.remote_id.clone();
        link.apply(event, details, |id| self.get(id)?.remote_id.clone());
        if link.remote_id != account {
            (link.renamed_at, link.renamed_by) = (event.caused_by, sequence);
        }
        link.last = sequence;
        link.resource_type = self.type_named(&event.resource_type);
        self.put(id, link);
        if matches!(event.kind, Kind::Decided { .. }) {
            self.give_back(id);
        }
    }

    /// Whose people were first written about.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// A type's name, kept once for all links.
    fn type_named(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.types.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.types.insert(name.clone());
        name
    }

    /// The resource types that links are of.
    pub(crate) fn types(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(|name| &**name)
    }

    /// Takes a link out of every list.
    fn take(&mut self, id: ResourceId) -> Link {
        let Some(link) = self.links.remove(&id) else { return Link::default() };
        if let Some(remote_id) = &link.remote_id {
            self.owners.remove(&(hash(&link.resource_type, remote_id), id));
        }
        for name in link.decisions.names() {
            self.names.remove(&(name, id));
        }
        for list in [&mut self.held, &mut self.deactivated, &mut self.unfinished, &mut self.attempted] {
            list.remove(&id);
        }
        link
    }

    pub(crate) fn put(&mut self, id: ResourceId, link: Link) {
        if let Some(remote_id) = &link.remote_id {
            self.owners.insert((hash(&link.resource_type, remote_id), id));
        }
        self.names.extend(link.decisions.names().map(|name| (name, id)));
        let lists = [
            (&mut self.held, link.held.is_some()),
            (&mut self.deactivated, link.deactivated_at.is_some()),
            (&mut self.unfinished, is_unfinished(&link)),
            (&mut self.attempted, link.attempted.is_some()),
        ];
        for (list, stands) in lists {
            if stands {
                list.insert(id);
            }
        }
        self.links.insert(id, link);
    }

    /// Whether another resource has a name, or is about to have it.
    pub(crate) fn is_named(&self, name: u64, id: ResourceId) -> bool {
        let first = (name, ResourceId::new(uuid::Uuid::nil()));
        let last = (name, ResourceId::new(uuid::Uuid::max()));
        self.names.range(first..=last).any(|(_, other)| *other != id)
            || self.set_aside.iter().any(|(other, names)| *other != id && names.contains(&name))
    }

    /// Sets a name aside for a resource until it is written down.
    pub(crate) fn set_aside(&mut self, name: u64, id: ResourceId) {
        self.set_aside.entry(id).or_default().insert(name);
    }

    pub(crate) fn give_back(&mut self, id: ResourceId) {
        self.set_aside.remove(&id);
    }

    /// Claims an account of a type for a resource, unless somebody else is about to be given it.
    pub(crate) fn claim(&mut self, kind: &str, remote_id: &str, id: ResourceId) -> bool {
        let account = hash(kind, remote_id);
        let is_free = self.claims.iter().all(|(other, claimed)| *other == id || *claimed != account);
        if is_free {
            self.claims.insert(id, account);
        }
        is_free
    }

    /// What was claimed is written down, or will not be.
    pub(crate) fn unclaim(&mut self, id: ResourceId) {
        self.claims.remove(&id);
    }

    /// What an event tells beside the link.
    fn notice(&mut self, event: &Event, details: Option<&Details>, was_off: bool) {
        for (operation, counted) in rails::counted(event, details, was_off) {
            self.tally.add(operation, counted, event.occurred_at);
        }
        match &event.kind {
            Kind::Done { operation, linked: true, .. } if operation == IMPORT => {
                self.imported.insert(event.resource_id);
            }
            Kind::Released { actor } if actor != RELEASED_BY => {
                self.redriven.insert(event.resource_id);
            }
            Kind::Released { .. }
            | Kind::Intended { .. }
            | Kind::Done { .. }
            | Kind::Retrying { .. }
            | Kind::Refused { .. }
            | Kind::Held { .. }
            | Kind::ScopeEntered
            | Kind::ScopeLeft
            | Kind::Verified
            | Kind::Decided { .. } => {
                self.redriven.remove(&event.resource_id);
                self.imported.remove(&event.resource_id);
            }
            Kind::PassedOver => {}
        }
    }

    pub(crate) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    pub(crate) fn take_redriven(&mut self) -> BTreeSet<ResourceId> {
        std::mem::take(&mut self.redriven)
    }

    pub(crate) fn take_imported(&mut self) -> BTreeSet<ResourceId> {
        std::mem::take(&mut self.imported)
    }

    /// How many have an account.
    pub(crate) fn linked(&self) -> usize {
        self.owners.len()
    }

    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn held(&self) -> Vec<(ResourceId, Held)> {
        self.held.iter().filter_map(|id| Some((*id, self.get(*id)?.held.clone()?))).collect()
    }

    /// Whose account is switched off, and since when.
    pub(crate) fn deactivated(&self) -> Vec<(ResourceId, Timestamp)> {
        self.deactivated.iter().filter_map(|id| Some((*id, self.get(*id)?.deactivated_at?))).collect()
    }

    /// Those that no event makes due, and since when the app says that their access has ended.
    pub(crate) fn unfinished(&self) -> Vec<(ResourceId, Option<Timestamp>)> {
        let since = |link: &Link| link.trust.unverified.as_ref().map(|unverified| unverified.since);
        self.unfinished.iter().filter_map(|id| Some((*id, since(self.get(*id)?)))).collect()
    }

    /// Whether another resource of a type may have been made with this value, before this one was about to be.
    pub(crate) fn is_attempted(&self, kind: &str, key: &AttrPath, text: &str, id: ResourceId) -> bool {
        let own = self.get(id).and_then(|link| link.attempted.as_ref()).map(|own| (own.at, id));
        self.attempted.iter().filter(|other| **other != id).any(|other| {
            let Some(link) = self.get(*other).filter(|link| *link.resource_type == *kind) else {
                return false;
            };
            let is_so = |told: &Object| value(key, told).is_some_and(|told| fold(&told) == fold(text));
            let is_earlier = |at| own.is_none_or(|own| (at, *other) < own);
            link.attempted.as_ref().is_some_and(|attempt| is_earlier(attempt.at) && is_so(&attempt.told))
        })
    }

    /// Whose an account of a type is. One of another type may have the same id at the app.
    pub(crate) fn owners(&self, kind: &str, remote_id: &str) -> impl Iterator<Item = (ResourceId, &Link)> {
        let hash = hash(kind, remote_id);
        let first = (hash, ResourceId::new(uuid::Uuid::nil()));
        let last = (hash, ResourceId::new(uuid::Uuid::max()));
        self.owners.range(first..=last).filter_map(move |(_, id)| Some((*id, self.get(*id)?))).filter({
            let (kind, remote_id) = (kind.to_string(), remote_id.to_string());
            move |(_, link)| *link.resource_type == *kind && link.remote_id.as_ref() == Some(&remote_id)
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ResourceId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    fn event(number: u8, kind: Kind) -> Event {
        Event { resource_id: id(number), ..crate::sample::event(kind) }
    }

    fn done(operation: &str, remote_id: &str) -> Kind {
        Kind::Done {
            operation: operation.to_string(),
            linked: !remote_id.is_empty(),
            remote_id: remote_id.to_string(),
            members_added: Vec::new(),
            members_removed: Vec::new(),
            members_replaced: false,
            status: 200,
        }
    }

    fn whose(book: &Book, remote_id: &str) -> Vec<ResourceId> {
        book.owners("User", remote_id).map(|(id, _)| id).collect()
    }

    #[test]
    fn lists_follow_the_links() {
        let mut book = Book::default();
        book.enter(&event(1, done("create", "a")), None, 1);
        book.enter(&event(2, done("create", "b")), None, 2);
        assert_eq!((book.linked(), whose(&book, "a"), whose(&book, "c")), (2, vec![id(1)], vec![]));
        // Renamed at the app, and the id given to somebody else.
        book.enter(&event(1, done("adopt", "c")), None, 3);
        book.enter(&event(2, done("adopt", "a")), None, 4);
        assert_eq!(
            (whose(&book, "a"), whose(&book, "b"), whose(&book, "c")),
            (vec![id(2)], vec![], vec![id(1)])
        );
        book.enter(&event(1, done("deactivate", "c")), None, 5);
        assert_eq!(book.deactivated(), [(id(1), Timestamp::UNIX_EPOCH)]);
        assert_eq!(book.unfinished(), [(id(1), Some(Timestamp::UNIX_EPOCH))]);
        book.enter(&event(1, Kind::Verified), None, 6);
        assert_eq!(book.unfinished(), []);
        let held = Kind::Held { operation: "delete".to_string(), reason: "refused".to_string() };
        book.enter(&event(1, held), None, 7);
        assert_eq!((book.held_count(), book.held().len()), (1, 1));
        let released = Kind::Released { actor: "ann".to_string() };
        book.enter(&event(1, released), None, 8);
        assert_eq!(
            (book.held_count(), book.take_redriven(), book.take_redriven()),
            (0, [id(1)].into(), BTreeSet::new())
        );
        book.enter(&event(1, done("delete", "")), None, 9);
        assert_eq!((book.linked(), book.deactivated().len(), whose(&book, "c")), (1, 0, vec![]));
        // What is known already changes nothing.
        book.enter(&event(1, done("create", "z")), None, 9);
        assert_eq!(book.linked(), 1);
    }

    #[test]
    fn an_account_is_claimed_by_one_at_a_time() {
        let mut book = Book::default();
        assert!(book.claim("User", "a", id(1)) && book.claim("User", "a", id(1)));
        assert!(!book.claim("User", "a", id(2)) && book.claim("Group", "a", id(3)));
        book.unclaim(id(1));
        assert!(book.claim("User", "a", id(2)));
    }

    #[test]
    fn of_two_who_may_have_been_made_under_one_name_the_first_was() {
        let mut book = Book::default();
        let key = AttrPath::of("userName");
        let mut intend = |number, second, name: &str| {
            let intended = serde_json::json!({"userName": name}).as_object().unwrap().clone();
            let details = Details { intended, ..Details::default() };
            let event = event(number, Kind::Intended { operation: "create".to_string() });
            let occurred_at = Timestamp::from_second(second).unwrap();
            book.enter(&Event { occurred_at, ..event }, Some(&details), second.unsigned_abs());
        };
        intend(1, 7, "Ada");
        intend(2, 5, "ada");
        let is = |kind, name, number| book.is_attempted(kind, &key, name, id(number));
        assert!(is("User", "ADA", 1) && !is("User", "ada", 2) && is("User", "ada", 3));
        assert!(!is("User", "eve", 3) && !is("Group", "ada", 3));
        book.enter(&event(2, done("read_back", "")), None, 8);
        assert!(
            !book.is_attempted("User", &key, "ada", id(1)) && book.is_attempted("User", &key, "ada", id(2))
        );
    }

    #[test]
    fn an_id_says_whose_it_is_within_its_type_only() {
        let mut book = Book::default();
        let group = |number, kind| Event { resource_type: "Group".to_string(), ..event(number, kind) };
        book.enter(&event(1, done("create", "1")), None, 1);
        book.enter(&group(2, done("create", "1")), None, 2);
        let whose = |book: &Book, kind: &str| book.owners(kind, "1").map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!((whose(&book, "User"), whose(&book, "Group")), (vec![id(1)], vec![id(2)]));
        assert_eq!((whose(&book, "Room"), book.linked()), (vec![], 2));
        book.enter(&event(1, done("delete", "")), None, 3);
        assert_eq!((whose(&book, "User"), whose(&book, "Group")), (vec![], vec![id(2)]));
        assert_eq!(book.types().collect::<Vec<_>>(), ["Group", "User"]);
    }
}
