//! The messages of one command: mostly one, and several that stand in the log together or not at all.

use std::sync::Arc;

use eventlog::{Guard, clock};
use proto::subject::Key;
use proto::{Body, Event, Kind, ResourceId};

use crate::decide::{Claim, Write};

/// Members that one message holds: 360 KB, which fits the payload limit of every broker. More go in further messages.
const MEMBERS_PER_MESSAGE: usize = 20_000;

/// A message before it is sealed.
pub(crate) struct Unsent {
    pub(crate) event: Event,
    pub(crate) key: Key,
    pub(crate) guard: Guard,
    pub(crate) body: Option<Arc<Body>>,
}

/// The messages of a command whose main event is this one, in their order. All but the last say that more follow, so
/// readers show them together. The index is that of the last message that changes the resource: its version.
pub(crate) fn messages(event: Event, write: &Write, body: Arc<Body>) -> (Vec<Unsent>, usize) {
    let (kind, further) = split(write.kind.clone(), MEMBERS_PER_MESSAGE);
    let follower = |kind: Kind, key: &Key, guard: Guard| {
        let event = Event { id: clock::new_event_id(), key_ref: None, kind, ..event.clone() };
        Unsent { event, key: *key, guard, body: None }
    };
    // Those on the subject of the first, whose guard is theirs too.
    let mut followers: Vec<Unsent> =
        further.into_iter().map(|kind| follower(kind, &write.key, Guard::None)).collect();
    let version = followers.len();
    if let Some((old_key, last)) = &write.moved {
        followers.push(follower(Kind::Moved { to_key: write.key }, old_key, Guard::Last(*last)));
    }
    for Claim { attribute, key, last } in &write.claimed {
        followers.push(follower(Kind::Claimed { attribute: attribute.clone() }, key, Guard::Last(*last)));
    }
    for Claim { attribute, key, last } in &write.released {
        followers.push(follower(Kind::Released { attribute: attribute.clone() }, key, Guard::Last(*last)));
    }
    let event = Event { kind, ..event };
    let mut messages = vec![Unsent { event, key: write.key, guard: write.guard, body: Some(body) }];
    messages.extend(followers);
    let last = messages.len() - 1;
    for message in messages.iter_mut().take(last) {
        message.event.continued = true;
    }
    (messages, version)
}

/// A kind with the first of its members, and further ones with the others.
fn split(kind: Kind, members_max: usize) -> (Kind, Vec<Kind>) {
    let (added, removed) = kind.members();
    if added.is_empty() && removed.is_empty() {
        return (kind, Vec::new());
    }
    let (mut added, mut removed) = (added.to_vec(), removed.to_vec());
    let mut further = Vec::new();
    let (first_added, first_removed) = take(&mut added, &mut removed, members_max);
    while !added.is_empty() || !removed.is_empty() {
        let (added, removed) = take(&mut added, &mut removed, members_max);
        further.push(Kind::MembersChanged { added, removed });
    }
    let first = match kind {
        Kind::Created { .. } => Kind::Created { members_added: first_added },
        Kind::Updated { .. } => Kind::Updated { members_added: first_added, members_removed: first_removed },
        _ => Kind::MembersChanged { added: first_added, removed: first_removed },
    };
    (first, further)
}

/// Those who leave come first.
fn take(
    added: &mut Vec<ResourceId>,
    removed: &mut Vec<ResourceId>,
    members_max: usize,
) -> (Vec<ResourceId>, Vec<ResourceId>) {
    let leave: Vec<ResourceId> = removed.drain(..removed.len().min(members_max)).collect();
    let join = added.drain(..added.len().min(members_max - leave.len())).collect();
    (join, leave)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<ResourceId> {
        (0..count).map(|_| clock::new_resource_id()).collect()
    }

    #[test]
    fn few_members_stay_in_one_message() {
        let kind = Kind::Created { members_added: ids(3) };
        assert_eq!(split(kind.clone(), 3), (kind, vec![]));
        assert_eq!(split(Kind::Deleted, 3), (Kind::Deleted, vec![]));
    }

    #[test]
    fn many_are_split_and_none_is_lost() {
        let (join, leave) = (ids(7), ids(4));
        let kind = Kind::Updated { members_added: join.clone(), members_removed: leave.clone() };
        let (first, further) = split(kind, 3);
        let mut seen = (Vec::new(), Vec::new());
        let Kind::Updated { members_added, members_removed } = first else { panic!("{first:?}") };
        seen.0.extend(members_added);
        seen.1.extend(members_removed);
        assert_eq!(further.len(), 3);
        for kind in further {
            let Kind::MembersChanged { added, removed } = kind else { panic!("{kind:?}") };
            assert!(added.len() + removed.len() <= 3);
            seen.0.extend(added);
            seen.1.extend(removed);
        }
        assert_eq!(seen, (join, leave));
    }
}
