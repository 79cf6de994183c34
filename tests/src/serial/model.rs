//! The tiny directory: users with a unique name, a title and a switch, and what each command does to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Somebody, as a client sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: String,
    /// `userName`.
    pub name: String,
    /// `title`; empty when there is none.
    pub title: String,
    /// `active`.
    pub active: bool,
    /// The ETag.
    pub tag: String,
}

/// What a change sets; one that sets everything is a PUT, others are a PATCH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// `userName`.
    pub name: Option<String>,
    /// `title`.
    pub title: Option<String>,
    /// `active`.
    pub active: Option<bool>,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// POST of an active user.
    Create {
        /// `userName`.
        name: String,
        /// `title`.
        title: String,
    },
    /// PUT or PATCH.
    Change {
        /// Of whom.
        id: String,
        /// To what.
        set: Set,
        /// If-Match.
        expected: Option<String>,
    },
    /// DELETE.
    Delete {
        /// Of whom.
        id: String,
        /// If-Match.
        expected: Option<String>,
    },
    /// GET of the latest state.
    Read {
        /// Of whom.
        id: String,
    },
    /// A list of the latest state, of whom has a name.
    Find {
        /// `userName`.
        name: String,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 or 201 with somebody.
    Shown(User),
    /// 204.
    Deleted,
    /// A list without anybody.
    Nobody,
    /// A status that says no.
    Refused(u16),
    /// None, or one that leaves open whether it happened.
    Unknown,
}

impl Answer {
    pub(super) fn user(&self) -> Option<&User> {
        match self {
            Self::Shown(user) => Some(user),
            Self::Deleted | Self::Nobody | Self::Refused(_) | Self::Unknown => None,
        }
    }
}

/// One user in the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    name: String,
    title: String,
    active: bool,
    /// Not known after a change whose answer was lost, until somebody sees it.
    tag: Option<String>,
}

impl Held {
    fn of(user: &User) -> Self {
        let User { name, title, active, tag, .. } = user.clone();
        Self { name, title, active, tag: Some(tag) }
    }

    /// Whether somebody sees this one.
    fn looks_like(&self, user: &User) -> bool {
        self.name == user.name && self.title == user.title && self.active == user.active
    }

    fn tagged(&self, user: &User) -> bool {
        self.tag.as_ref().is_none_or(|tag| *tag == user.tag)
    }
}

/// The whole directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    users: BTreeMap<String, Held>,
    /// The sequence in the last tag that was given: the order is that of the log.
    last: u64,
}

/// What a command does.
enum Effect {
    Refuse(u16),
    See(Option<String>),
    /// This one is, or becomes, this.
    Keep(String, Held),
    Make(Held),
    Remove(String),
}

impl State {
    pub(super) fn of(users: &[User]) -> Self {
        let held = users.iter().map(|user| (user.id.clone(), Held::of(user))).collect();
        let last = users.iter().filter_map(|user| sequence(&user.tag)).max().unwrap_or(0);
        Self { users: held, last }
    }

    /// Whether these are everybody.
    pub(super) fn is(&self, users: &[User]) -> bool {
        let found = |user: &User| {
            self.users.get(&user.id).is_some_and(|held| held.looks_like(user) && held.tagged(user))
        };
        users.len() == self.users.len() && users.iter().all(found)
    }

    /// The states that a command may lead to when it is answered so; none when it cannot be answered so.
    pub(super) fn after(&self, command: &Command, answer: &Answer, strays: &BTreeSet<String>) -> Vec<Self> {
        let mut states = Vec::new();
        for effect in self.effects(command) {
            match (effect, answer) {
                (Effect::Refuse(status), Answer::Refused(answered)) if status == *answered => {
                    states.push(self.clone());
                }
                (Effect::See(None), Answer::Nobody | Answer::Refused(404)) => states.push(self.clone()),
                (Effect::See(Some(id)), Answer::Shown(user)) if id == user.id => {
                    states.extend(self.seen(user));
                }
                (Effect::Keep(id, held), Answer::Shown(user)) if id == user.id => {
                    if self.users.get(&id) == Some(&held) {
                        states.extend(self.seen(user));
                    } else if self.users.get(&id).is_none_or(|old| old.tag.as_ref() != Some(&user.tag)) {
                        states.extend(self.changed(held, user));
                    }
                }
                (Effect::Make(held), Answer::Shown(user)) if !self.users.contains_key(&user.id) => {
                    states.extend(self.changed(held, user));
                }
                (Effect::Remove(id), Answer::Deleted | Answer::Unknown) => {
                    let mut state = self.clone();
                    state.users.remove(&id);
                    states.push(state);
                }
                (Effect::Keep(id, held), Answer::Unknown) if self.users.get(&id) != Some(&held) => {
                    states.push(self.with(id, Held { tag: None, ..held }));
                }
                (Effect::Make(held), Answer::Unknown) => {
                    let free = strays.iter().filter(|id| !self.users.contains_key(*id));
                    states.extend(free.map(|id| self.with(id.clone(), held.clone())));
                }
                (
                    Effect::Refuse(_)
                    | Effect::See(_)
                    | Effect::Keep(..)
                    | Effect::Make(_)
                    | Effect::Remove(_),
                    _,
                ) => {}
            }
        }
        states
    }

    fn with(&self, id: String, held: Held) -> Self {
        let mut state = self.clone();
        state.users.insert(id, held);
        state
    }

    /// The same state, if somebody looks so in it.
    fn seen(&self, user: &User) -> Option<Self> {
        let held = self.users.get(&user.id).filter(|held| held.looks_like(user) && held.tagged(user))?;
        Some(self.with(user.id.clone(), Held { tag: Some(user.tag.clone()), ..held.clone() }))
    }

    /// The state after a change, if somebody looks so afterwards. Later changes have later tags.
    fn changed(&self, held: Held, user: &User) -> Option<Self> {
        let sequence = sequence(&user.tag).filter(|sequence| *sequence > self.last)?;
        let state = self.with(user.id.clone(), Held { tag: Some(user.tag.clone()), ..held.clone() });
        held.looks_like(user).then_some(Self { last: sequence, ..state })
    }

    /// What a command does here. Two things come into question only where a tag is not known.
    fn effects(&self, command: &Command) -> Vec<Effect> {
        let taken = |name: &String, by_other_than: &str| {
            self.users.iter().any(|(id, held)| held.name == *name && id != by_other_than)
        };
        match command {
            Command::Create { name, .. } if taken(name, "") => vec![Effect::Refuse(409)],
            Command::Create { name, title } => {
                vec![Effect::Make(Held { name: name.clone(), title: title.clone(), active: true, tag: None })]
            }
            Command::Read { id } => {
                vec![Effect::See(Some(id.clone()).filter(|id| self.users.contains_key(id)))]
            }
            Command::Find { name } => {
                let found = self.users.iter().find(|(_, held)| held.name == *name);
                vec![Effect::See(found.map(|(id, _)| id.clone()))]
            }
            Command::Delete { id, expected } => self.guarded(id, expected, |_| Effect::Remove(id.clone())),
            Command::Change { id, set, expected } => self.guarded(id, expected, |held| {
                let mut new = held.clone();
                if let Some(name) = &set.name {
                    new.name.clone_from(name);
                }
                if let Some(title) = &set.title {
                    new.title.clone_from(title);
                }
                new.active = set.active.unwrap_or(new.active);
                if taken(&new.name, id) { Effect::Refuse(409) } else { Effect::Keep(id.clone(), new) }
            }),
        }
    }

    fn guarded(&self, id: &str, expected: &Option<String>, effect: impl Fn(&Held) -> Effect) -> Vec<Effect> {
        let Some(held) = self.users.get(id) else { return vec![Effect::Refuse(404)] };
        match (expected, &held.tag) {
            (Some(expected), Some(tag)) if expected != tag => vec![Effect::Refuse(412)],
            (Some(_), None) => vec![Effect::Refuse(412), effect(held)],
            (None, _) | (Some(_), Some(_)) => vec![effect(held)],
        }
    }
}

/// The sequence in `W/"42-1f3a57cc"`.
fn sequence(tag: &str) -> Option<u64> {
    tag.trim_start_matches("W/").trim_matches('"').split('-').next()?.parse().ok()
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, title, active, tag } = self;
        let tail = &id[id.len().saturating_sub(6)..];
        write!(f, "{tail}: {name:?} {title:?} {} {tag}", if *active { "on" } else { "off" })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = |id: &str| id[id.len().saturating_sub(6)..].to_string();
        let when = |expected: &Option<String>| match expected {
            Some(tag) => format!(" if {tag}"),
            None => String::new(),
        };
        match self {
            Self::Create { name, title } => write!(f, "create {name:?} {title:?}"),
            Self::Change { id, set: Set { name, title, active }, expected } => {
                write!(f, "change {}", tail(id))?;
                for text in [name, title].into_iter().flatten() {
                    write!(f, " {text:?}")?;
                }
                if let Some(active) = active {
                    write!(f, " {}", if *active { "on" } else { "off" })?;
                }
                write!(f, "{}", when(expected))
            }
            Self::Delete { id, expected } => write!(f, "delete {}{}", tail(id), when(expected)),
            Self::Read { id } => write!(f, "read {}", tail(id)),
            Self::Find { name } => write!(f, "find {name:?}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shown(user) => write!(f, "{user}"),
            Self::Deleted => write!(f, "deleted"),
            Self::Nobody => write!(f, "nobody"),
            Self::Refused(status) => write!(f, "{status}"),
            Self::Unknown => write!(f, "?"),
        }
    }
}
