//! What clients asked and were told, compared with the log: nothing acknowledged is missing, nothing stands twice, nothing
//! refused stands, no name has two holders, and every answer shows the resource as the log has it at the answer's version.
//!
//! Every write carries a mark that no other write has, so its event is known again. Start reading at [`check`].

mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::Reply;
use crate::fold::{Version, mark_of};

pub use check::check;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// A new user of this name, or a new group.
    Create {
        /// The user's name; none for a group.
        name: Option<String>,
        /// The write's mark.
        mark: String,
    },
    /// A PATCH or PUT that sets the mark and perhaps another name.
    Change {
        /// Whom.
        id: String,
        /// The write's mark.
        mark: String,
        /// The new name.
        name: Option<String>,
        /// The version in `If-Match`.
        expected: Option<Version>,
    },
    /// A DELETE.
    Delete {
        /// Whom.
        id: String,
    },
    /// A member that comes or goes, without a guard.
    Member {
        /// The group.
        group: String,
        /// The member, who only this client moves.
        member: String,
        /// Whether it comes.
        add: bool,
    },
    /// A GET.
    Read {
        /// Whom.
        id: String,
    },
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done.
    Done {
        /// 200, 201 or 204.
        status: u16,
        /// What the ETag says.
        version: Option<Version>,
        /// The resource in the body.
        seen: Option<Seen>,
    },
    /// It is not done: 400, 404, 409, 412.
    Refused {
        /// Which.
        status: u16,
    },
    /// Done or not: 503, no answer in time, a connection that ended.
    Unknown {
        /// The status, if there was an answer.
        status: Option<u16>,
    },
    /// Nobody listened: nothing was sent.
    NotSent,
    /// An answer that must not be.
    Unexpected {
        /// Which.
        status: u16,
        /// Its beginning.
        text: String,
    },
}

/// A resource as an answer shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// `userName`.
    pub name: Option<String>,
    /// The mark.
    pub mark: Option<String>,
    /// Its members.
    pub members: BTreeSet<String>,
}

impl Seen {
    /// Reads a resource's body.
    pub fn read(body: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_string);
        let members = body["members"].as_array().into_iter().flatten();
        Some(Self {
            id: text(&body["id"])?,
            name: text(&body["userName"]),
            mark: text(&body[mark_of(body["meta"]["resourceType"].as_str()?)]),
            members: members.filter_map(|member| text(&member["value"])).collect(),
        })
    }
}

impl Answer {
    /// Judges what came back.
    pub fn of(reply: Result<Reply, reqwest::Error>) -> Self {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) if error.is_connect() => return Self::NotSent,
            Err(_) => return Self::Unknown { status: None },
        };
        let unexpected =
            || Self::Unexpected { status: reply.status, text: reply.text.chars().take(300).collect() };
        match reply.status {
            200 | 201 | 204 => Self::Done {
                status: reply.status,
                version: reply.header("etag").and_then(Version::read),
                seen: Seen::read(&reply.body),
            },
            400 | 404 | 409 | 412 => Self::Refused { status: reply.status },
            // A client must be told when to come again.
            503 if reply.header("retry-after").is_some() => Self::Unknown { status: Some(503) },
            _ => unexpected(),
        }
    }
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Which client.
    pub client: usize,
    /// Through which gateway.
    pub gateway: usize,
    /// What it asked.
    pub asked: Asked,
    /// What it was told.
    pub answer: Answer,
    /// When it asked.
    pub begun: Timestamp,
    /// When it was told.
    pub ended: Timestamp,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise is broken.
    pub promise: Promise,
    /// What happened.
    pub text: String,
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What was acknowledged stands in the log.
    NothingLost,
    /// No write stands twice.
    NothingTwice,
    /// What was refused does not stand, and the reason was true at the time.
    NoLie,
    /// A name has one holder at every sequence.
    OneHolder,
    /// An answer shows the resource as the log has it at the answer's version.
    RightVersion,
    /// What began after another write was acknowledged stands after it.
    InOrder,
    /// Nothing stands that nobody wrote.
    NoStranger,
    /// Only answers that a client can act on.
    KnownAnswer,
}
