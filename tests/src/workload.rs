//! Clients that want the same things at once, and write down what they asked and what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eventlog::clock;
use serde_json::{Value, json};

use crate::Client;
use crate::fold::Version;
use crate::history::{Answer, Asked, Operation};
use crate::house::pause;
use crate::random::Random;
use crate::site::GATEWAYS;

/// Names that everybody wants.
const WANTED_NAMES: u64 = 12;
/// People whom everybody changes.
const PEOPLE_MAX: usize = 60;
/// People of one client who come to groups and go.
const MEMBERS_MAX: usize = 3;
/// The longest rest after a burst.
const REST_MAX_MS: u64 = 400;
/// Requests in a burst.
const BURST_MAX: u64 = 10;

/// What the clients share.
pub struct Workload {
    random: Random,
    clients: [Client; GATEWAYS],
    people: Mutex<Vec<(String, Option<Version>)>>,
    groups: Vec<String>,
    stop: AtomicBool,
    history: Mutex<Vec<Operation>>,
    /// Done, refused, unknown, not sent.
    counts: [AtomicU64; 4],
}

/// How many writes and reads were answered how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// 200, 201, 204.
    pub acknowledged: u64,
    /// 400, 404, 409, 412.
    pub refused: u64,
    /// 503, no answer in time, a connection that ended.
    pub unknown: u64,
    /// Nobody listened.
    pub not_sent: u64,
}

/// One client's own things.
struct Worker<'a> {
    workload: &'a Workload,
    number: usize,
    random: Random,
    marks: u64,
    history: Vec<Operation>,
    /// Its people for groups: id, and where they are for certain.
    members: Vec<(String, BTreeMap<usize, bool>)>,
}

impl Workload {
    /// Makes the groups, through the first gateway, which must be ready.
    pub fn new(seed: u64, clients: [Client; GATEWAYS]) -> Self {
        let mut workload = Self {
            random: Random::new(seed).fork(1),
            clients,
            people: Mutex::default(),
            groups: Vec::new(),
            stop: AtomicBool::new(false),
            history: Mutex::default(),
            counts: Default::default(),
        };
        let groups: Vec<String> = {
            let mut worker = workload.worker(usize::MAX);
            let made: Vec<String> = (0..2).filter_map(|_| worker.create_group()).collect();
            workload.lock_history().append(&mut worker.history);
            made
        };
        assert_eq!(groups.len(), 2, "{:?}", workload.lock_history());
        workload.groups = groups;
        workload
    }

    /// Works as one client until told to stop.
    pub fn work(&self, number: usize) {
        let mut worker = self.worker(number);
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..=worker.random.below(BURST_MAX) {
                worker.step();
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            let rest = Duration::from_millis(worker.random.below(REST_MAX_MS));
            let begun = Instant::now();
            while begun.elapsed() < rest && !self.stop.load(Ordering::Relaxed) {
                pause();
            }
            self.lock_history().append(&mut worker.history);
        }
        self.lock_history().append(&mut worker.history);
    }

    /// Tells every client to end after its request.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What was answered so far.
    pub fn counts(&self) -> Counts {
        let [acknowledged, refused, unknown, not_sent] = [0, 1, 2, 3]
            .map(|at: usize| self.counts.get(at).map_or(0, |count| count.load(Ordering::Relaxed)));
        Counts { acknowledged, refused, unknown, not_sent }
    }

    /// Everything that was asked, once the clients have ended.
    pub fn history(&self) -> Vec<Operation> {
        self.lock_history().clone()
    }

    fn worker(&self, number: usize) -> Worker<'_> {
        let random = self.random.fork(number as u64);
        Worker { workload: self, number, random, marks: 0, history: Vec::new(), members: Vec::new() }
    }

    fn lock_history(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_people(&self) -> MutexGuard<'_, Vec<(String, Option<Version>)>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a person's version, or that they are gone.
    fn note(&self, id: &str, version: Option<Version>) {
        let mut people = self.lock_people();
        match (people.iter_mut().find(|(known, _)| known == id), version) {
            (Some(known), Some(version)) => known.1 = Some(version),
            (Some(_), None) => people.retain(|(known, _)| known != id),
            (None, _) => {}
        }
    }
}

impl Worker<'_> {
    fn step(&mut self) {
        match self.random.below(100) {
            0..16 => self.create_person(false),
            16..28 => self.create_person(true),
            28..48 => self.change(false, false),
            48..58 => self.change(true, false),
            58..70 => self.change(false, true),
            70..78 => self.delete(),
            78..90 => self.move_member(),
            90..92 => self.rename_group(),
            _ => self.read(),
        }
    }

    fn mark(&mut self) -> String {
        self.marks += 1;
        format!(
            "{}-{}",
            if self.number == usize::MAX { "setup".to_string() } else { self.number.to_string() },
            self.marks
        )
    }

    fn name(&mut self, wanted: bool, mark: &str) -> String {
        let name = if wanted {
            format!("Wanted.{}", self.random.below(WANTED_NAMES))
        } else {
            format!("person-{mark}")
        };
        if self.random.percent(20) { name.to_uppercase() } else { name }
    }

    /// Somebody of all, as somebody last saw them.
    fn anybody(&mut self) -> Option<(String, Option<Version>)> {
        let people = self.workload.lock_people();
        people.get(self.random.index(people.len())).cloned()
    }

    fn create_person(&mut self, wanted: bool) {
        let mark = self.mark();
        let name = self.name(wanted, &mark);
        let body = person(&name, &mark);
        let asked = Asked::Create { name: Some(name), mark };
        if let Answer::Done { version, seen: Some(seen), .. } =
            self.send("POST", "/Users", &[], Some(body), asked)
        {
            let mut people = self.workload.lock_people();
            if people.len() < PEOPLE_MAX {
                people.push((seen.id, version));
            } else {
                let at = self.random.index(people.len());
                if let Some(place) = people.get_mut(at) {
                    *place = (seen.id, version);
                }
            }
        }
    }

    fn create_group(&mut self) -> Option<String> {
        let mark = self.mark();
        let body = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": mark});
        match self.send("POST", "/Groups", &[], Some(body), Asked::Create { name: None, mark }) {
            Answer::Done { seen: Some(seen), .. } => Some(seen.id),
            _ => None,
        }
    }

    fn change(&mut self, whole: bool, rename: bool) {
        let Some((id, known)) = self.anybody() else { return self.create_person(false) };
        let mark = self.mark();
        let wanted = self.random.percent(70);
        let name = (whole || rename).then(|| self.name(wanted, &mark));
        let expected = known.filter(|_| self.random.percent(40));
        let tag = expected.as_ref().map(Version::tag);
        let headers: Vec<(&str, &str)> = tag.iter().map(|tag| ("If-Match", tag.as_str())).collect();
        let (method, body) = match (&name, whole) {
            (Some(name), true) => ("PUT", person(name, &mark)),
            (name, _) => {
                let mut operations = vec![json!({"op": "replace", "path": "title", "value": mark})];
                if let Some(name) = name {
                    operations.push(json!({"op": "replace", "path": "userName", "value": name}));
                }
                ("PATCH", patch(operations))
            }
        };
        let asked = Asked::Change { id: id.clone(), mark, name, expected };
        match self.send(method, &format!("/Users/{id}"), &headers, Some(body), asked) {
            Answer::Done { version, .. } => self.workload.note(&id, version),
            Answer::Refused { status: 404 } => self.workload.note(&id, None),
            _ => {}
        }
    }

    fn delete(&mut self) {
        let Some((id, _)) = self.anybody() else { return };
        let asked = Asked::Delete { id: id.clone() };
        match self.send("DELETE", &format!("/Users/{id}"), &[], None, asked) {
            Answer::Done { .. } | Answer::Refused { .. } => self.workload.note(&id, None),
            _ => {}
        }
    }

    /// Moves one of this client's own people, whose place it knows for certain.
    fn move_member(&mut self) {
        if self.members.len() < MEMBERS_MAX {
            let mark = self.mark();
            let name = format!("member-{mark}");
            let body = person(&name, &mark);
            let asked = Asked::Create { name: Some(name), mark };
            if let Answer::Done { seen: Some(seen), .. } = self.send("POST", "/Users", &[], Some(body), asked)
            {
                self.members.push((seen.id, BTreeMap::new()));
            }
            return;
        }
        let (at, group_at) =
            (self.random.index(self.members.len()), self.random.index(self.workload.groups.len()));
        let (Some((member, places)), Some(group)) =
            (self.members.get(at).cloned(), self.workload.groups.get(group_at))
        else {
            return;
        };
        if self.random.percent(5) {
            self.members.remove(at);
            self.send("DELETE", &format!("/Users/{member}"), &[], None, Asked::Delete { id: member });
            return;
        }
        let add = !places.get(&group_at).copied().unwrap_or(false);
        let operation = if add {
            json!({"op": "add", "path": "members", "value": [{"value": member}]})
        } else {
            json!({"op": "remove", "path": format!("members[value eq \"{member}\"]")})
        };
        let asked = Asked::Member { group: group.clone(), member, add };
        let answer =
            self.send("PATCH", &format!("/Groups/{group}"), &[], Some(patch(vec![operation])), asked);
        match (answer, self.members.get_mut(at)) {
            (Answer::Done { .. }, Some((_, places))) => drop(places.insert(group_at, add)),
            (Answer::NotSent, _) => {}
            // What is unknown may come true later: nobody asks anything about this person again.
            _ => drop(self.members.remove(at)),
        }
    }

    fn rename_group(&mut self) {
        let at = self.random.index(self.workload.groups.len());
        let Some(group) = self.workload.groups.get(at) else { return };
        let mark = self.mark();
        let body = patch(vec![json!({"op": "replace", "path": "displayName", "value": mark})]);
        let asked = Asked::Change { id: group.clone(), mark, name: None, expected: None };
        self.send("PATCH", &format!("/Groups/{group}"), &[], Some(body), asked);
    }

    fn read(&mut self) {
        let at = self.random.index(self.workload.groups.len());
        let group = self.workload.groups.get(at).filter(|_| self.random.percent(20)).cloned();
        let (path, id) = match group {
            Some(id) => (format!("/Groups/{id}"), id),
            None => {
                let Some((id, _)) = self.anybody() else { return };
                (format!("/Users/{id}"), id)
            }
        };
        self.send("GET", &path, &[], None, Asked::Read { id });
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
        asked: Asked,
    ) -> Answer {
        let gateway = self.random.index(GATEWAYS);
        let client = self.workload.clients.get(gateway).expect("a gateway of the site");
        let body = body.map(|body| body.to_string().into_bytes());
        let begun = clock::now();
        let answer = Answer::of(client.try_send(method, path, headers, body));
        let ended = clock::now();
        let count = match &answer {
            Answer::Done { .. } => 0,
            Answer::Refused { .. } => 1,
            Answer::Unknown { .. } | Answer::Unexpected { .. } => 2,
            Answer::NotSent => 3,
        };
        if let Some(count) = self.workload.counts.get(count) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(answer, Answer::NotSent) {
            pause();
        }
        let client = self.number;
        self.history.push(Operation { client, gateway, asked, answer: answer.clone(), begun, ended });
        answer
    }
}

fn person(name: &str, mark: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": name,
        "title": mark,
        "name": {"givenName": "Person", "familyName": name},
        "active": true,
    })
}

fn patch(operations: Vec<Value>) -> Value {
    json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations})
}
