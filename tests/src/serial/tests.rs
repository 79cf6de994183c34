//! Histories that some order explains, and histories that none does.

use super::*;

const ADA: &str = "000000000ada";
const BOB: &str = "000000000b0b";

fn seen(id: &str, name: &str, title: &str, sequence: u64) -> User {
    User {
        id: id.to_string(),
        name: name.to_string(),
        title: title.to_string(),
        active: true,
        tag: format!("W/\"{sequence}-00000000\""),
    }
}

fn create(name: &str) -> Command {
    Command::Create { name: name.to_string(), title: String::new() }
}

fn title(id: &str, title: &str) -> Command {
    let set = Set { title: Some(title.to_string()), ..Set::default() };
    Command::Change { id: id.to_string(), set, expected: None }
}

fn rename(id: &str, name: &str) -> Command {
    let set = Set { name: Some(name.to_string()), ..Set::default() };
    Command::Change { id: id.to_string(), set, expected: None }
}

fn guarded(command: Command, tag: &User) -> Command {
    match command {
        Command::Change { id, set, .. } => Command::Change { id, set, expected: Some(tag.tag.clone()) },
        other => other,
    }
}

fn delete(id: &str) -> Command {
    Command::Delete { id: id.to_string(), expected: None }
}

fn read(id: &str) -> Command {
    Command::Read { id: id.to_string() }
}

fn find(name: &str) -> Command {
    Command::Find { name: name.to_string() }
}

/// Steps as (begun, ended, command, answer).
#[track_caller]
fn check(before: &[User], steps: Vec<(u64, u64, Command, Answer)>, after: &[User], explained: bool) {
    let step = |(place, (begun, ended, command, answer))| Step {
        client: place,
        gateway: 0,
        begun,
        ended,
        command,
        answer,
    };
    let steps = steps.into_iter().enumerate().map(step).collect();
    let history = History { before: before.to_vec(), steps, after: after.to_vec() };
    let order = history.order();
    assert_eq!(order.is_some(), explained, "{order:?}\n{history}");
}

use Answer::{Deleted, Nobody, Refused, Shown, Unknown};

#[test]
fn one_name_is_given_once() {
    let (ada, other) = (seen(ADA, "ada", "", 1), seen(BOB, "ada", "", 2));
    let both =
        |second: Answer| vec![(0, 9, create("ada"), Shown(ada.clone())), (0, 9, create("ada"), second)];
    check(&[], both(Refused(409)), std::slice::from_ref(&ada), true);
    check(&[], both(Shown(other.clone())), &[ada.clone(), other.clone()], false);
    // Unless it was given back between.
    let mut steps = both(Shown(other.clone()));
    steps.push((0, 9, delete(ADA), Deleted));
    check(&[], steps.clone(), std::slice::from_ref(&other), true);
    // And that was not too late.
    steps[2].0 = 10;
    steps[2].1 = 11;
    check(&[], steps, std::slice::from_ref(&other), false);
    // Nobody has it, so nobody is in the way.
    check(&[], vec![(0, 9, create("ada"), Refused(409))], &[], false);
}

#[test]
fn no_change_is_lost() {
    let before = seen(ADA, "ada", "", 1);
    let (first, second) = (seen(ADA, "ada", "A", 2), seen(ADA, "ada", "B", 3));
    let steps = |tag: &User, answer: Answer| {
        vec![(0, 5, title(ADA, "A"), Shown(first.clone())), (0, 9, guarded(title(ADA, "B"), tag), answer)]
    };
    let all = std::slice::from_ref;
    check(all(&before), steps(&before, Refused(412)), all(&first), true);
    check(all(&before), steps(&before, Shown(second.clone())), all(&second), false);
    check(all(&before), steps(&first, Shown(second.clone())), all(&second), true);
    // The end shows what was overwritten.
    check(all(&before), steps(&first, Shown(second.clone())), all(&first), false);
    // Two changes of different things keep both.
    let renamed = seen(ADA, "eve", "", 3);
    let steps = vec![
        (0, 9, title(ADA, "A"), Shown(first.clone())),
        (0, 9, rename(ADA, "eve"), Shown(renamed.clone())),
    ];
    check(all(&before), steps, all(&renamed), false);
}

#[test]
fn time_does_not_go_back() {
    let (before, after) = (seen(ADA, "ada", "", 1), seen(ADA, "ada", "A", 2));
    let all = std::slice::from_ref;
    let steps = |begun: u64, answer: Answer| {
        vec![(0, 5, title(ADA, "A"), Shown(after.clone())), (begun, begun + 9, read(ADA), answer)]
    };
    check(all(&before), steps(3, Shown(before.clone())), all(&after), true);
    check(all(&before), steps(3, Shown(after.clone())), all(&after), true);
    check(all(&before), steps(6, Shown(before.clone())), all(&after), false);
    check(all(&before), steps(6, Refused(404)), all(&after), false);
    // Two readers of the same moment, one of which saw it first.
    let mut two = steps(3, Shown(after.clone()));
    two.push((13, 20, read(ADA), Shown(before.clone())));
    two[0].1 = 30;
    check(all(&before), two, all(&after), false);
}

#[test]
fn a_rename_shows_one_name() {
    let (before, after) = (seen(ADA, "ada", "", 1), seen(ADA, "eve", "", 2));
    let all = std::slice::from_ref;
    let steps = |old: Answer, new: Answer| {
        vec![
            (0, 9, rename(ADA, "eve"), Shown(after.clone())),
            (1, 2, find("ada"), old),
            (3, 4, find("eve"), new),
        ]
    };
    check(all(&before), steps(Shown(before.clone()), Nobody), all(&after), true);
    check(all(&before), steps(Shown(before.clone()), Shown(after.clone())), all(&after), true);
    check(all(&before), steps(Nobody, Shown(after.clone())), all(&after), true);
    check(all(&before), steps(Nobody, Nobody), all(&after), false);
}

#[test]
fn what_was_lost_may_have_happened() {
    let (before, after) = (seen(ADA, "ada", "", 1), seen(ADA, "ada", "A", 2));
    let all = std::slice::from_ref;
    let lost = |command: Command| vec![(0, 1, command, Unknown)];
    check(all(&before), lost(title(ADA, "A")), all(&before), true);
    check(all(&before), lost(title(ADA, "A")), all(&after), true);
    check(all(&before), lost(title(ADA, "B")), all(&after), false);
    check(all(&before), lost(delete(ADA)), &[], true);
    check(&[], lost(create("ada")), all(&before), true);
    check(&[], lost(create("ada")), &[], true);
    // Later than it was given up.
    let mut late = lost(title(ADA, "A"));
    late.push((5, 6, read(ADA), Shown(before.clone())));
    late.push((7, 8, read(ADA), Shown(after.clone())));
    check(all(&before), late.clone(), all(&after), true);
    late.push((9, 10, read(ADA), Shown(before.clone())));
    check(all(&before), late, all(&after), false);
    // Once only.
    let bob = seen(BOB, "bob", "", 3);
    let twice = vec![(0, 1, create("ada"), Unknown), (2, 3, create("bob"), Shown(bob.clone()))];
    check(&[], twice.clone(), &[before.clone(), bob.clone()], true);
    check(&[], twice, &[before, seen("0000000other", "ada", "", 4), bob], false);
}

#[test]
fn versions_tell_the_order_and_change_with_what_they_stand_for() {
    let before = seen(ADA, "ada", "A", 5);
    let all = std::slice::from_ref;
    let same = |sequence| vec![(0, 1, title(ADA, "A"), Shown(seen(ADA, "ada", "A", sequence)))];
    check(all(&before), same(5), all(&before), true);
    check(all(&before), same(6), &[seen(ADA, "ada", "A", 6)], false);
    let changed = |sequence| vec![(0, 1, title(ADA, "B"), Shown(seen(ADA, "ada", "B", sequence)))];
    check(all(&before), changed(5), &[seen(ADA, "ada", "B", 5)], false);
    check(all(&before), changed(6), &[seen(ADA, "ada", "B", 6)], true);
    let (ada, bob) = (seen(ADA, "ada", "", 9), seen(BOB, "bob", "", 8));
    let steps = vec![(0, 1, create("ada"), Shown(ada.clone())), (2, 3, create("bob"), Shown(bob.clone()))];
    check(&[], steps, &[ada, bob], false);
}
