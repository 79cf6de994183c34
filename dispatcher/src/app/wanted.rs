//! What somebody is about to do, as the guard rails count it.

use proto::ResourceId;

use crate::config::Leave;
use crate::link::{Link, is_off};
use crate::plan::Call;
use crate::rails::{Counted, Operation};

/// What somebody is about to do.
pub(crate) struct Wanted {
    pub(crate) operation: Operation,
    pub(crate) counted: Vec<Counted>,
}

/// Whose turn it is, and for which event.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) id: ResourceId,
    /// The last event that it answers.
    pub(crate) until: u64,
    /// Whether an event asks for it.
    pub(crate) asked: bool,
}

/// How an account ends.
pub(super) fn end(leave: Leave) -> Operation {
    match leave {
        Leave::Deactivate | Leave::Never => Operation::Deactivate,
        Leave::Delete => Operation::Delete,
    }
}

/// What a call does, as the guard rails count it.
pub(crate) fn wanted(turn: Turn, link: &Link, call: &Call) -> Option<Wanted> {
    let one = |operation| Some(Wanted { operation, counted: vec![(turn.id, None)] });
    match call {
        Call::Create { .. } if turn.asked => one(Operation::Create),
        Call::Create { .. } => one(Operation::UnaskedCreate),
        Call::Update { attributes, .. } if is_off(attributes) && !link.is_off => one(Operation::Deactivate),
        Call::Update { .. } => one(Operation::Update),
        Call::Deactivate { .. } => one(Operation::Deactivate),
        Call::Delete { .. } => one(Operation::Delete),
        // Whoever is taken out was asked for when it was planned.
        Call::ChangeMembers { added, .. } if added.is_empty() => None,
        Call::ChangeMembers { added, .. } => {
            let counted = added.iter().map(|member| (turn.id, Some(*member))).collect();
            Some(Wanted { operation: Operation::Grant, counted })
        }
    }
}
