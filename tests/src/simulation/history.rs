//! What the log says, read by nobody's code but `proto::evolve`: the directory at every sequence.

use std::collections::BTreeMap;
use std::rc::Rc;

use eventlog::Keyring;
use eventlog::memory::Stream;
use proto::{At, Body, Event, Kind, Position, Resource, ResourceId, Version, evolve};
use serde_json::Value;

/// One message.
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// What it says.
    pub event: Event,
    /// What is sealed in it.
    pub body: Option<Body>,
}

/// The directory at one moment.
pub type State = BTreeMap<ResourceId, Rc<Resource>>;

/// The log from its beginning.
pub struct History {
    /// Every message, the first at 0.
    pub entries: Vec<Entry>,
    /// The directory after so many messages.
    pub states: Vec<State>,
}

impl History {
    /// Reads a stream.
    pub async fn read(stream: &Stream, keyring: &Keyring) -> Self {
        let (mut entries, mut states) = (Vec::new(), vec![State::new()]);
        for message in stream.messages() {
            let encoded = proto::codec::decode(message.payload).expect("an event");
            let event = encoded.event.clone();
            let body = match event.key_ref.filter(|_| encoded.is_sealed()) {
                None => None,
                Some(at) => {
                    let key = keyring.key(&event.tenant, at).await.expect("the keys").expect("a key");
                    Some(encoded.open(&key).expect("a body"))
                }
            };
            let position = Position { sequence: message.sequence, event: event.id };
            let at = At { position, time: message.time };
            let entry = Entry { position, event, body };
            let next = after(states.last().expect("a state"), &entry, at);
            states.push(next);
            entries.push(entry);
        }
        Self { entries, states }
    }

    /// The directory after a sequence.
    pub fn at(&self, sequence: u64) -> &State {
        let last = self.states.len() - 1;
        &self.states[usize::try_from(sequence).unwrap_or(last).min(last)]
    }

    /// The directory at the end.
    pub fn end(&self) -> &State {
        self.states.last().expect("a state")
    }

    /// A message.
    pub fn entry(&self, sequence: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(sequence).ok()?.checked_sub(1)?)
    }

    /// Sequences at which a text became the value of an attribute of some resource.
    pub fn beginnings(&self, attribute: &str, text: &str) -> Vec<u64> {
        let has = |state: &State, id: &ResourceId| {
            state
                .get(id)
                .is_some_and(|found| found.document.get(attribute).and_then(Value::as_str) == Some(text))
        };
        (1..self.states.len() as u64)
            .filter(|sequence| {
                let id = self.entry(*sequence).expect("an entry").event.resource_id;
                has(self.at(*sequence), &id) && !has(self.at(sequence - 1), &id)
            })
            .collect()
    }
}

/// The directory after a message. Members that are not alive do not count, so a deletion changes groups too.
fn after(state: &State, entry: &Entry, at: At) -> State {
    let mut next = state.clone();
    let id = entry.event.resource_id;
    let mut event = entry.event.clone();
    if let Kind::Created { members_added: added }
    | Kind::Updated { members_added: added, .. }
    | Kind::MembersChanged { added, .. } = &mut event.kind
    {
        added.retain(|member| state.contains_key(member) && *member != id);
    }
    let current = next.remove(&id).map(Rc::unwrap_or_clone);
    match evolve(current, &event, entry.body.as_ref(), at) {
        Some(resource) => drop(next.insert(id, Rc::new(resource))),
        None => {
            for group in next.values_mut() {
                if group.members.contains(&id) {
                    let group = Rc::make_mut(group);
                    group.members.remove(&id);
                    group.modified = at;
                }
            }
        }
    }
    next
}

/// `meta.version` of a resource.
pub fn version(resource: &Resource) -> Version {
    Version::new(resource.modified.position)
}

/// An attribute of a resource as a text.
pub fn text<'a>(resource: &'a Resource, attribute: &str) -> Option<&'a str> {
    resource.document.get(attribute)?.as_str()
}
