//! The population as it stands in a log: sealed events, one after another in a file, and how they are found again.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use eventlog::{Keyring, Message, clock};
use jiff::Timestamp;
use proto::sealing::DataKey;
use proto::subject::{self, Key, SubjectSecret};
use proto::{Body, Event, EventId, KeyRef, Kind, ResourceId, Tenant};
use scim::Object;

use super::population::{self, Population, SOURCE, TENANT};

/// Members of one message; more come in further messages of the same command.
const MEMBERS_PER_MESSAGE: usize = 20_000;
/// Events that are made at a time.
const CHUNK: usize = 8_192;
/// The place of every so manieth message is known.
const MARK_STEP: u64 = 256;

/// An event before it is sealed.
pub(crate) struct Unsealed {
    pub(crate) event: Event,
    pub(crate) key: Key,
    pub(crate) body: Option<Body>,
}

/// The event with this number about a resource.
pub(crate) fn event(
    population: &Population,
    number: usize,
    resource_type: &str,
    resource_id: ResourceId,
    kind: Kind,
) -> Event {
    Event {
        id: population.event_id(number),
        tenant: tenant(),
        resource_type: resource_type.to_string(),
        resource_id,
        source: SOURCE.to_string(),
        actor: "bench".to_string(),
        txn: format!("txn-{number}"),
        occurred_at: population::instant(number),
        reason: String::new(),
        key_ref: None,
        continued: false,
        kind,
    }
}

pub(crate) fn tenant() -> Tenant {
    TENANT.parse().expect("a tenant's name")
}

/// A body with this document.
pub(crate) fn body(document: Object, external_id: Option<String>) -> Body {
    let external_ids = external_id.into_iter().map(|id| (SOURCE.to_string(), id)).collect();
    Body { document: document.into(), external_ids, ..Body::default() }
}

/// A message as a log holds it.
pub(crate) fn message(sequence: u64, unsealed: &Unsealed, key: Option<&DataKey>) -> Message {
    let Unsealed { event, key: subject_key, body } = unsealed;
    let nonce = || clock::random().expect("randomness");
    let sealed = body.as_ref().zip(key).map(|(body, key)| (body, key, nonce()));
    Message {
        sequence,
        subject: subject::identity(&event.tenant, &event.resource_type, subject_key),
        id: Some(event.id),
        payload: proto::codec::encode(event, sealed),
        time: event.occurred_at,
    }
}

/// Writes everybody's events into the folder.
pub(crate) async fn write(folder: &Path, population: &Population, keyring: &Keyring, secret: &SubjectSecret) {
    let mut out = Out::create(folder);
    let mut from = 0;
    while from < population.users {
        let to = population.users.min(from + CHUNK);
        let keys = keys(keyring, to - from).await;
        let make = |user: usize, (key_ref, key): &(KeyRef, DataKey)| {
            let kind = Kind::Created { members_added: Vec::new() };
            let mut event = event(population, user, "User", population.user_id(user), kind);
            event.key_ref = Some(*key_ref);
            let name = population.user_name(user);
            let body = body(population.user(user), Some(population.external_id(user)));
            let unsealed = Unsealed {
                key: subject::key_of_value(secret, &event.tenant, "User", &name),
                event,
                body: Some(body),
            };
            message(user as u64 + 1, &unsealed, Some(key))
        };
        for message in on_all_cores(from, &keys, make) {
            out.push(&message);
        }
        from = to;
    }
    out.users = out.count;
    let keys = keys(keyring, population.groups()).await;
    for (group, (key_ref, key)) in keys.iter().enumerate() {
        for mut unsealed in of_group(population, group, usize::try_from(out.count).expect("a count")) {
            unsealed.event.key_ref = unsealed.body.is_some().then_some(*key_ref);
            out.push(&message(out.count + 1, &unsealed, Some(key)));
        }
    }
    out.finish();
}

async fn keys(keyring: &Keyring, count: usize) -> Vec<(KeyRef, DataKey)> {
    let tenant = tenant();
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        keys.push(keyring.issue(&tenant).await.expect("a key"));
    }
    keys
}

/// The events that make a group, the first of them with this number.
fn of_group(population: &Population, group: usize, number: usize) -> Vec<Unsealed> {
    let (id, members) = (population.group_id(group), population.members(group));
    let parts: Vec<Vec<ResourceId>> = members.chunks(MEMBERS_PER_MESSAGE).map(<[_]>::to_vec).collect();
    let last = parts.len().saturating_sub(1);
    let make = |(place, part): (usize, Vec<ResourceId>)| {
        let first = place == 0;
        let kind = if first {
            Kind::Created { members_added: part }
        } else {
            Kind::MembersChanged { added: part, removed: Vec::new() }
        };
        let mut event = event(population, number + place, "Group", id, kind);
        event.continued = place < last;
        let body = first.then(|| body(population.group(group), None));
        Unsealed { event, key: subject::key_of_id(id), body }
    };
    parts.into_iter().enumerate().map(make).collect()
}

fn on_all_cores<K: Sync>(
    from: usize,
    keys: &[K],
    make: impl Fn(usize, &K) -> Message + Sync,
) -> Vec<Message> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = keys.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let part = |(place, keys)| {
            let (make, first) = (&make, from + place * share);
            let keys: &[K] = keys;
            scope.spawn(move || {
                let made = keys.iter().enumerate().map(|(index, key)| make(first + index, key));
                made.collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = keys.chunks(share).enumerate().map(part).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("events can be made")).collect()
    })
}

fn files(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("messages"), folder.join("messages.marks"))
}

/// The files while they are written.
struct Out {
    messages: BufWriter<File>,
    marks: PathBuf,
    places: Vec<u64>,
    place: u64,
    count: u64,
    users: u64,
}

impl Out {
    fn create(folder: &Path) -> Self {
        let (messages, marks) = files(folder);
        let messages = BufWriter::with_capacity(1 << 20, File::create(messages).expect("a file"));
        Self { messages, marks, places: Vec::new(), place: 0, count: 0, users: 0 }
    }

    fn push(&mut self, message: &Message) {
        if self.count.is_multiple_of(MARK_STEP) {
            self.places.push(self.place);
        }
        let mut bytes = Vec::with_capacity(32 + message.subject.len() + message.payload.len());
        bytes.extend_from_slice(&message.time.as_millisecond().to_le_bytes());
        bytes.extend_from_slice(message.id.expect("an event's id").as_bytes());
        bytes.push(u8::try_from(message.subject.len()).expect("a short subject"));
        bytes.extend_from_slice(message.subject.as_bytes());
        bytes.extend_from_slice(&message.payload);
        let length = u32::try_from(bytes.len()).expect("a small message");
        self.messages.write_all(&length.to_le_bytes()).expect("a disk with room");
        self.messages.write_all(&bytes).expect("a disk with room");
        self.place += 4 + bytes.len() as u64;
        self.count += 1;
    }

    fn finish(mut self) {
        self.messages.flush().expect("a disk with room");
        let numbers = [self.count, self.users].into_iter().chain(self.places);
        let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        std::fs::write(self.marks, bytes).expect("a disk with room");
    }
}

/// Messages that stand in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    messages: PathBuf,
    places: Vec<u64>,
    pub(crate) count: u64,
    /// How many of them are about people; they come first.
    pub(crate) users: u64,
}

impl Sealed {
    pub(crate) fn open(folder: &Path) -> Self {
        let (messages, marks) = files(folder);
        let bytes = std::fs::read(marks).expect("the population is written");
        let mut numbers =
            bytes.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
        let (count, users) = (numbers.next().expect("a count"), numbers.next().expect("a count"));
        Self { messages, places: numbers.collect(), count, users }
    }

    /// Every message from a sequence on.
    pub(crate) fn from(&self, sequence: u64) -> impl Iterator<Item = Message> + Send + use<> {
        let before = sequence.max(1) - 1;
        let mark = before / MARK_STEP;
        let mut file = File::open(&self.messages).expect("the population is written");
        let place = usize::try_from(mark).ok().and_then(|mark| self.places.get(mark));
        let end = match place {
            Some(place) => {
                file.seek(SeekFrom::Start(*place)).expect("a place within the file");
                self.count
            }
            None => 0,
        };
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let first = mark * MARK_STEP + 1;
        let all = (first..=end).map(move |sequence| read(&mut reader, sequence));
        all.skip(usize::try_from(before % MARK_STEP).expect("less than a step"))
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Message> {
        if sequence == 0 { None } else { self.from(sequence).next() }
    }
}

fn read(reader: &mut impl Read, sequence: u64) -> Message {
    let mut length = [0; 4];
    reader.read_exact(&mut length).expect("a whole message");
    let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length)).expect("a length")];
    reader.read_exact(&mut bytes).expect("a whole message");
    let bytes = Bytes::from(bytes);
    let time = i64::from_le_bytes(bytes.get(..8).and_then(|time| time.try_into().ok()).expect("a time"));
    let id = EventId::from_bytes(bytes.get(8..24).expect("an id")).expect("an id");
    let end = 25 + usize::from(*bytes.get(24).expect("a length"));
    let subject = std::str::from_utf8(bytes.get(25..end).expect("a subject")).expect("ASCII").to_string();
    Message {
        sequence,
        subject,
        id: Some(id),
        payload: bytes.slice(end..),
        time: Timestamp::from_millisecond(time).expect("a time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_members_come_in_several_messages_of_one_command() {
        let population = Population::new(300_000);
        let group = population.large_group();
        let made = of_group(&population, group, 5);
        let continued: Vec<bool> = made.iter().map(|unsealed| unsealed.event.continued).collect();
        assert_eq!(continued, [true, false]);
        let members = made.iter().flat_map(|unsealed| match &unsealed.event.kind {
            Kind::Created { members_added } => members_added.clone(),
            Kind::MembersChanged { added, .. } => added.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(members.collect::<Vec<_>>(), population.members(group));
    }
}
