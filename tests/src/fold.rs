//! The log as an independent reader tells it, and what follows from it: who exists, who holds which name, in which groups,
//! at which version. Deliberately nothing of the product's own fold: a few lines that can be checked by reading.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

/// One event of the log, as `rollcall events tail --json` prints it.
#[derive(Clone, Debug)]
pub struct LogEvent {
    /// Its place in the log.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// The broker's time.
    pub time: Timestamp,
    /// What happened.
    pub kind: String,
    /// `User` or `Group`.
    pub resource_type: String,
    /// To whom.
    pub resource_id: String,
    /// The new `userName`.
    pub name: Option<String>,
    /// The new mark: a user's `title`, a group's `displayName`.
    pub mark: Option<String>,
    /// Members that came.
    pub added: Vec<String>,
    /// Members that went.
    pub removed: Vec<String>,
}

/// The attribute that carries a write's mark.
pub fn mark_of(resource_type: &str) -> &'static str {
    if resource_type == "Group" { "displayName" } else { "title" }
}

impl LogEvent {
    /// Reads one line; the error says what is wrong with it.
    pub fn read(line: &str) -> Result<Self, String> {
        let event: Value = serde_json::from_str(line).map_err(|error| format!("{error} in {line:?}"))?;
        let text = |name: &str| {
            event[name].as_str().map(str::to_string).ok_or_else(|| format!("no {name} in {line:?}"))
        };
        let ids = |name: &str| -> Vec<String> {
            let ids = event[name].as_array().into_iter().flatten();
            ids.filter_map(|id| id.as_str().map(str::to_string)).collect()
        };
        let resource_type = text("resourceType")?;
        let after = |path: &str| {
            let mut changes = event["changes"].as_array().into_iter().flatten();
            changes.find(|change| change["path"] == path)?["after"].as_str().map(str::to_string)
        };
        Ok(Self {
            sequence: event["sequence"].as_u64().ok_or_else(|| format!("no sequence in {line:?}"))?,
            id: text("id")?,
            time: text("time")?.parse().map_err(|error| format!("{error} in {line:?}"))?,
            kind: text("kind")?,
            resource_id: text("resourceId")?,
            name: after("userName"),
            mark: after(mark_of(&resource_type)),
            added: ids("membersAdded"),
            removed: ids("membersRemoved"),
            resource_type,
        })
    }

    /// The version that a resource has after this event.
    pub fn version(&self) -> Version {
        let letters: String = self.id.chars().filter(char::is_ascii_hexdigit).collect();
        let event = letters.chars().skip(letters.len().saturating_sub(8)).collect();
        Version { sequence: self.sequence, event }
    }
}

/// What an ETag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The sequence of the event that made it.
    pub sequence: u64,
    /// The last letters of that event's id.
    pub event: String,
}

impl Version {
    /// Reads `W/"12-abcdef01"`.
    pub fn read(tag: &str) -> Option<Self> {
        let (sequence, event) = tag.trim().strip_prefix("W/\"")?.strip_suffix('"')?.split_once('-')?;
        Some(Self { sequence: sequence.parse().ok()?, event: event.to_string() })
    }

    /// As a client writes it.
    pub fn tag(&self) -> String {
        format!("W/\"{}-{}\"", self.sequence, self.event)
    }
}

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// `User` or `Group`.
    pub resource_type: String,
    /// `userName`, as it was written.
    pub name: Option<String>,
    /// The last mark.
    pub mark: Option<String>,
    /// Ids of its members.
    pub members: BTreeSet<String>,
    /// Its version.
    pub version: Version,
}

/// Two at once had one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// From which sequence on.
    pub sequence: u64,
    /// The name.
    pub name: String,
    /// Who had it and who took it.
    pub holders: [String; 2],
}

/// The state after some events.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    /// Who exists.
    pub resources: BTreeMap<String, Resource>,
    /// Who holds a name, as it is compared.
    pub names: BTreeMap<String, String>,
    /// Whose versions the last event changed.
    pub changed: Vec<String>,
}

/// A name as it is compared. Names of these tests are ASCII.
pub fn compared(name: &str) -> String {
    name.to_ascii_lowercase()
}

impl Fold {
    /// Applies one event.
    pub fn apply(&mut self, event: &LogEvent) -> Option<Clash> {
        self.changed.clear();
        let id = &event.resource_id;
        match event.kind.as_str() {
            "Created" => {
                let resource = Resource {
                    resource_type: event.resource_type.clone(),
                    name: None,
                    mark: event.mark.clone(),
                    members: BTreeSet::new(),
                    version: event.version(),
                };
                self.resources.insert(id.clone(), resource);
                self.change(event);
                event.name.as_ref().and_then(|name| self.take_name(event, name))
            }
            "Updated" if self.resources.contains_key(id) => {
                self.change(event);
                event.name.as_ref().and_then(|name| self.take_name(event, name))
            }
            "MembersChanged" => {
                let before = self.resources.get(id).map(|group| group.members.clone());
                let version = self.resources.get(id).map(|group| group.version.clone());
                self.change(event);
                // Who is no member cannot go, and who is gone cannot come: then nothing has changed.
                if let (Some(before), Some(version), Some(group)) =
                    (before, version, self.resources.get_mut(id))
                    && before == group.members
                {
                    group.version = version;
                    self.changed.clear();
                }
                None
            }
            "Deleted" => {
                self.delete(event);
                None
            }
            _ => None,
        }
    }

    fn change(&mut self, event: &LogEvent) {
        let alive: Vec<String> =
            event.added.iter().filter(|member| self.resources.contains_key(*member)).cloned().collect();
        let Some(resource) = self.resources.get_mut(&event.resource_id) else { return };
        if event.mark.is_some() {
            resource.mark.clone_from(&event.mark);
        }
        for member in &event.removed {
            resource.members.remove(member);
        }
        resource.members.extend(alive);
        resource.version = event.version();
        self.changed.push(event.resource_id.clone());
    }

    fn take_name(&mut self, event: &LogEvent, name: &str) -> Option<Clash> {
        let (id, key) = (&event.resource_id, compared(name));
        let resource = self.resources.get_mut(id)?;
        let old = resource.name.replace(name.to_string());
        if let Some(old) = old.map(|old| compared(&old))
            && self.names.get(&old) == Some(id)
        {
            self.names.remove(&old);
        }
        let holder = self.names.insert(key, id.clone())?;
        (holder != *id).then(|| Clash {
            sequence: event.sequence,
            name: name.to_string(),
            holders: [holder, id.clone()],
        })
    }

    fn delete(&mut self, event: &LogEvent) {
        let id = &event.resource_id;
        let Some(resource) = self.resources.remove(id) else { return };
        if let Some(key) = resource.name.as_deref().map(compared)
            && self.names.get(&key) == Some(id)
        {
            self.names.remove(&key);
        }
        self.changed.push(id.clone());
        for (group, resource) in &mut self.resources {
            if resource.members.remove(id) {
                resource.version = event.version();
                self.changed.push(group.clone());
            }
        }
    }
}
