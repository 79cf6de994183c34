//! What an app holds, with its names found by an index.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Document;

/// One account or group. A group's members stand beside its document.
#[derive(Clone, Default)]
pub(crate) struct Account {
    pub(crate) document: Document,
    pub(crate) members: BTreeSet<String>,
    pub(super) version: u64,
}

/// All of one type.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) accounts: BTreeMap<String, Account>,
    names: BTreeMap<String, String>,
    externals: BTreeMap<String, BTreeSet<String>>,
    unique: &'static str,
    /// How many were made, where each type counts for itself.
    made: u64,
}

/// Everything.
pub(crate) struct Held {
    pub(crate) users: Shelf,
    pub(crate) groups: Shelf,
    /// In which groups somebody is.
    groups_of: BTreeMap<String, BTreeSet<String>>,
    next: u64,
    /// Whether each type counts from one, so that somebody and a group can have the same id. Such an app has no groups
    /// within groups.
    pub(super) counts_types: bool,
    /// Whether the name of whoever is deleted is never free again.
    buries: bool,
    graves: BTreeSet<String>,
}

/// Somebody has the name.
#[derive(Debug)]
pub(super) struct Taken;

impl Account {
    /// As it is listed; without members, which only a group has.
    pub(super) fn shown(&self, id: &str) -> Document {
        let mut shown = self.document.clone();
        shown.insert("id".to_string(), id.into());
        shown.insert("meta".to_string(), json!({"version": self.version_tag()}));
        shown
    }

    /// With its members.
    pub(super) fn whole(&self, id: &str) -> Document {
        let mut shown = self.shown(id);
        if !self.members.is_empty() {
            let members: Vec<Value> = self.members.iter().map(|id| json!({"value": id})).collect();
            shown.insert("members".to_string(), members.into());
        }
        shown
    }

    pub(super) fn version_tag(&self) -> String {
        format!("W/\"{}\"", self.version)
    }
}

/// The members of a document, which loses them together with what only the app writes.
pub(super) fn take_members(document: &mut Document) -> BTreeSet<String> {
    document.remove("id");
    document.remove("meta");
    let members = document.remove("members").unwrap_or_default();
    let members = members.as_array().cloned().unwrap_or_default();
    members.iter().filter_map(|member| member["value"].as_str().map(str::to_string)).collect()
}

impl Shelf {
    fn name_of(&self, document: &Document) -> Option<String> {
        document.get(self.unique).and_then(Value::as_str).map(str::to_lowercase)
    }

    /// The id of whoever has this name, in whatever case.
    pub(super) fn named(&self, name: &str) -> Option<&str> {
        self.names.get(&name.to_lowercase()).map(String::as_str)
    }

    /// The ids of those with this `externalId`.
    pub(super) fn external(&self, external: &str) -> impl Iterator<Item = &String> {
        self.externals.get(external).into_iter().flatten()
    }

    fn index(&mut self, id: &str, document: &Document) {
        if let Some(name) = self.name_of(document) {
            self.names.insert(name, id.to_string());
        }
        if let Some(external) = document.get("externalId").and_then(Value::as_str) {
            self.externals.entry(external.to_string()).or_default().insert(id.to_string());
        }
    }

    fn unindex(&mut self, id: &str, document: &Document) {
        if let Some(name) = self.name_of(document)
            && self.named(&name) == Some(id)
        {
            self.names.remove(&name);
        }
        if let Some(external) = document.get("externalId").and_then(Value::as_str)
            && let Some(ids) = self.externals.get_mut(external)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.externals.remove(external);
            }
        }
    }
}

impl Held {
    /// As after a restart that lost everything but how far it had counted.
    pub(super) fn emptied(&self) -> Self {
        let mut emptied = Self { next: self.next, counts_types: self.counts_types, ..Self::new(self.buries) };
        (emptied.users.made, emptied.groups.made) = (self.users.made, self.groups.made);
        emptied
    }

    pub(super) fn new(buries: bool) -> Self {
        Self {
            users: Shelf { unique: "userName", ..Shelf::default() },
            groups: Shelf { unique: "displayName", ..Shelf::default() },
            groups_of: BTreeMap::new(),
            next: 0,
            counts_types: false,
            buries,
            graves: BTreeSet::new(),
        }
    }

    pub(super) fn shelf(&self, endpoint: &str) -> &Shelf {
        if endpoint == "/Users" { &self.users } else { &self.groups }
    }

    fn shelf_mut(&mut self, endpoint: &str) -> &mut Shelf {
        if endpoint == "/Users" { &mut self.users } else { &mut self.groups }
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.users.accounts.contains_key(id) || (!self.counts_types && self.groups.accounts.contains_key(id))
    }

    pub(super) fn insert(
        &mut self,
        endpoint: &str,
        document: Document,
        members: BTreeSet<String>,
    ) -> Result<String, Taken> {
        self.free(endpoint, "", &document)?;
        let id = self.next_id(endpoint);
        self.put(endpoint, &id, document, members);
        Ok(id)
    }

    fn next_id(&mut self, endpoint: &str) -> String {
        if self.counts_types {
            let shelf = self.shelf_mut(endpoint);
            shelf.made += 1;
            return shelf.made.to_string();
        }
        self.next += 1;
        let letter = if endpoint == "/Users" { 'u' } else { 'g' };
        format!("{letter}{:08}", self.next)
    }

    pub(super) fn replace(
        &mut self,
        endpoint: &str,
        id: &str,
        document: Document,
        members: BTreeSet<String>,
    ) -> Result<(), Taken> {
        self.free(endpoint, id, &document)?;
        self.put(endpoint, id, document, members);
        Ok(())
    }

    fn free(&self, endpoint: &str, id: &str, document: &Document) -> Result<(), Taken> {
        let shelf = self.shelf(endpoint);
        let Some(name) = shelf.name_of(document) else { return Ok(()) };
        let others = shelf.named(&name).is_some_and(|other| other != id);
        if others || (endpoint == "/Users" && self.graves.contains(&name)) { Err(Taken) } else { Ok(()) }
    }

    fn put(&mut self, endpoint: &str, id: &str, document: Document, members: BTreeSet<String>) {
        let old = self.shelf_mut(endpoint).accounts.remove(id).unwrap_or_default();
        self.shelf_mut(endpoint).unindex(id, &old.document);
        for gone in old.members.difference(&members) {
            if let Some(groups) = self.groups_of.get_mut(gone) {
                groups.remove(id);
            }
        }
        for new in members.difference(&old.members) {
            self.groups_of.entry(new.clone()).or_default().insert(id.to_string());
        }
        let shelf = self.shelf_mut(endpoint);
        shelf.index(id, &document);
        shelf.accounts.insert(id.to_string(), Account { document, members, version: old.version + 1 });
    }

    pub(super) fn remove(&mut self, endpoint: &str, id: &str) -> bool {
        let shelf = self.shelf_mut(endpoint);
        let Some(old) = shelf.accounts.remove(id) else { return false };
        shelf.unindex(id, &old.document);
        if self.buries && endpoint == "/Users" {
            self.graves.extend(self.users.name_of(&old.document));
        }
        for member in &old.members {
            if let Some(groups) = self.groups_of.get_mut(member) {
                groups.remove(id);
            }
        }
        if self.counts_types && endpoint != "/Users" {
            return true;
        }
        for group in self.groups_of.remove(id).unwrap_or_default() {
            if let Some(group) = self.groups.accounts.get_mut(&group) {
                group.members.remove(id);
                group.version += 1;
            }
        }
        true
    }
}
