//! What a feed sends when, and what it holds.

use super::*;

fn id(number: u8) -> ResourceId {
    format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// How long an event is.
const BYTES: usize = 10;

fn parcel(resource: u8, sequence: u64, events: usize) -> Parcel {
    let told = |index| {
        let id = format!("{sequence}.{index}");
        Arc::new(Told { id, kind: "user.updated".to_string(), text: "x".repeat(BYTES) })
    };
    Parcel {
        origin: Origin::Event { sequence, replay: None },
        resource_type: "User".to_string(),
        resource_id: id(resource),
        told: (0..events).map(told).collect(),
        next: 0,
    }
}

fn queue(parcels: &[(u8, u64, usize)]) -> Queue {
    let mut queue = Queue::new(Vec::new(), 2, 4);
    for (resource, sequence, events) in parcels {
        queue.add(*sequence, parcel(*resource, *sequence, *events)).unwrap();
    }
    queue
}

/// What may go now, as `resource: event`.
fn all(queue: &mut Queue) -> Vec<String> {
    std::iter::from_fn(|| queue.take(at(100))).map(|(_, told)| told.id.clone()).collect()
}

/// Tries again what is held of a resource, which is told from these.
fn redrive(queue: &mut Queue, resource: ResourceId, parcels: Vec<Parcel>) {
    queue.redrive(resource);
    for parcel in parcels {
        assert_eq!(queue.unfilled().unwrap().0.resource_id, resource);
        queue.fill(resource, Some(parcel));
    }
}

/// Refuses until the resource is held.
fn refuse(queue: &mut Queue, resource: u8) {
    for _ in 0..2 {
        let (taken, _) = queue.take(at(100)).unwrap();
        assert_eq!(taken, id(resource));
        queue.refused(taken, "the subscriber answers 422", at(100), at(100)).unwrap();
    }
}

#[test]
fn resources_go_on_at_the_same_time_and_each_in_its_order() {
    let mut queue = queue(&[(1, 10, 2), (2, 11, 1), (1, 12, 1), (3, 13, 0)]);
    assert_eq!(all(&mut queue), ["10.0", "11.0"]);
    assert_eq!(queue.done(), 9);
    queue.taken(id(2));
    assert_eq!((all(&mut queue), queue.done()), (Vec::<String>::new(), 9));
    queue.taken(id(1));
    assert_eq!((all(&mut queue), queue.done()), (vec!["10.1".to_string()], 9));
    queue.taken(id(1));
    assert_eq!((all(&mut queue), queue.done()), (vec!["12.0".to_string()], 11));
    queue.taken(id(1));
    assert!(queue.is_idle());
    assert_eq!(queue.done(), 13);
}

#[test]
fn a_refused_event_waits_and_then_its_resource_is_held_and_the_cursor_goes_on() {
    let mut queue = queue(&[(1, 10, 1), (2, 11, 1)]);
    let (first, _) = queue.take(at(0)).unwrap();
    assert_eq!(queue.refused(first, "no", at(0), at(5)), Ok(Refused::Again));
    assert_eq!(queue.take(at(4)).unwrap().0, id(2), "the other resource does not wait");
    queue.taken(id(2));
    assert_eq!((queue.take(at(4)), queue.next_time(at(4)), queue.done()), (None, Some(at(5)), 9));
    queue.take(at(5)).unwrap();
    assert_eq!(queue.refused(first, "no", at(5), at(9)), Ok(Refused::Held));
    assert_eq!((queue.done(), queue.held_count(), queue.is_idle()), (11, 1, true));
    queue.add(12, parcel(1, 12, 1)).unwrap();
    queue.add(13, parcel(2, 13, 1)).unwrap();
    assert_eq!(all(&mut queue), ["13.0"], "what comes behind it waits, others go on");
    let held = queue.find_held("10.0").unwrap();
    assert_eq!((held.waiting.len(), held.attempts, held.since), (2, 2, at(5)));
}

#[test]
fn what_is_redriven_is_told_in_order_and_stays_held_until_it_is_taken() {
    let mut queue = queue(&[(1, 10, 2), (1, 11, 1)]);
    queue.take(at(0)).unwrap();
    queue.taken(id(1));
    refuse(&mut queue, 1);
    let saved: Vec<Held> = queue.held().cloned().collect();
    assert_eq!(saved[0].waiting[0].next, 1, "its first event was taken");
    // Another process: it knows only what was saved.
    let mut queue = Queue::new(saved, 2, 4);
    queue.begin(11);
    let again = |next, sequence, events| Parcel { next, ..parcel(1, sequence, events) };
    redrive(&mut queue, id(1), vec![again(1, 10, 2), again(0, 11, 1)]);
    queue.add(12, parcel(1, 12, 1)).unwrap();
    assert_eq!((all(&mut queue), queue.done(), queue.held_count()), (vec!["10.1".to_string()], 12, 3));
    queue.taken(id(1));
    assert_eq!((all(&mut queue), queue.held_count()), (vec!["11.0".to_string()], 2));
    queue.taken(id(1));
    assert_eq!(all(&mut queue), ["12.0"]);
    queue.taken(id(1));
    assert_eq!((queue.held_count(), queue.is_idle()), (0, true));
    queue.add(13, parcel(1, 13, 1)).unwrap();
    assert_eq!(queue.done(), 12, "the cursor counts again");
}

/// Its pieces join the lane one by one, so that never more of them is in memory than there is room for.
#[test]
fn what_is_redriven_and_does_not_stand_in_its_lane_yet_keeps_its_place() {
    let mut queue = queue(&[(1, 10, 1), (1, 11, 1), (1, 12, 1)]);
    refuse(&mut queue, 1);
    let waiting = |queue: &Queue| -> Vec<u64> {
        let origin = |waiting: &Waiting| match waiting.origin {
            Origin::Event { sequence, .. } => sequence,
            _ => 0,
        };
        queue.held().flat_map(|held| held.waiting.iter().map(origin)).collect()
    };
    queue.redrive(id(1));
    assert_eq!((queue.bytes(), queue.is_idle()), (0, false));
    queue.fill(id(1), Some(parcel(1, 10, 1)));
    queue.add(13, parcel(1, 13, 1)).unwrap();
    assert_eq!((all(&mut queue), queue.bytes()), (vec!["10.0".to_string()], BYTES));
    queue.taken(id(1));
    assert_eq!((waiting(&queue), queue.is_idle()), (vec![11, 12, 13], false));
    // Nothing can be told of one of them any more.
    queue.fill(id(1), None);
    queue.fill(id(1), Some(parcel(1, 12, 1)));
    refuse(&mut queue, 1);
    assert_eq!((waiting(&queue), queue.is_idle()), (vec![12, 13], true));
    redrive(&mut queue, id(1), vec![parcel(1, 12, 1), parcel(1, 13, 1)]);
    queue.add(14, parcel(1, 14, 1)).unwrap();
    for event in ["12.0", "13.0", "14.0"] {
        assert_eq!(all(&mut queue), [event]);
        queue.taken(id(1));
    }
    assert_eq!((queue.held_count(), queue.is_idle()), (0, true));
}

#[test]
fn refused_again_it_is_held_as_it_was() {
    let mut queue = queue(&[(1, 10, 1)]);
    refuse(&mut queue, 1);
    redrive(&mut queue, id(1), vec![parcel(1, 10, 1)]);
    queue.add(11, parcel(1, 11, 1)).unwrap();
    refuse(&mut queue, 1);
    let held = queue.find_held(&id(1).to_string()).unwrap();
    assert_eq!((held.waiting.len(), held.attempts, held.redriving), (2, 4, false));
    assert!(queue.is_idle());
}

#[test]
fn a_skipped_event_is_given_up_and_nothing_else() {
    let mut queue = queue(&[(1, 10, 1), (1, 11, 1)]);
    refuse(&mut queue, 1);
    queue.skip(id(1));
    let next = queue.find_held("10.0").unwrap().waiting[0].next;
    redrive(&mut queue, id(1), vec![Parcel { next, ..parcel(1, 10, 1) }, parcel(1, 11, 1)]);
    assert_eq!(all(&mut queue), ["11.0"]);
    queue.taken(id(1));
    assert_eq!(queue.held_count(), 0);
}

#[test]
fn only_so_much_is_held() {
    let mut queue = queue(&[(1, 10, 1)]);
    refuse(&mut queue, 1);
    for sequence in 11..14 {
        queue.add(sequence, parcel(1, sequence, 1)).unwrap();
    }
    assert_eq!(queue.add(14, parcel(1, 14, 1)), Err(Full));
    assert_eq!(queue.done(), 13, "what could not be held is not passed");
    queue.add(14, parcel(2, 14, 1)).unwrap();
    queue.take(at(100)).unwrap();
    queue.refused(id(2), "no", at(0), at(0)).unwrap();
    queue.take(at(100)).unwrap();
    assert_eq!(queue.refused(id(2), "no", at(0), at(0)), Err(Full));
    assert_eq!((queue.done(), queue.held_count()), (13, 4));
}

/// Fails with the event of a resource, which is the next to go.
fn fail(queue: &mut Queue, resource: u8) -> Option<Refused> {
    let (taken, _) = queue.take_another(at(100)).unwrap();
    assert_eq!(taken, id(resource));
    queue.failed(taken, "the subscriber answers 500", at(100), at(100)).unwrap()
}

#[test]
fn a_failure_is_a_refusal_where_others_are_taken() {
    let mut queue = queue(&[(1, 10, 1), (2, 11, 1), (3, 12, 1)]);
    assert_eq!(fail(&mut queue, 1), None);
    assert_eq!(queue.take_another(at(100)).unwrap().0, id(2), "another one is tried first");
    queue.taken(id(2));
    assert_eq!(queue.take(at(100)).unwrap().0, id(1));
    assert_eq!(queue.failed(id(1), "500", at(100), at(100)), Ok(Some(Refused::Again)));
    queue.take_another(at(100)).unwrap();
    queue.taken(id(3));
    assert_eq!(fail(&mut queue, 1), Some(Refused::Held));
    assert_eq!((queue.held_count(), queue.done()), (1, 12));
}

#[test]
fn a_failure_is_no_refusal_while_nothing_is_taken() {
    let mut queue = queue(&[(1, 10, 1), (2, 11, 1)]);
    for resource in [1, 2, 1, 1, 1] {
        assert_eq!(fail(&mut queue, resource), None);
    }
    assert_eq!((queue.held_count(), queue.done(), queue.tries(id(1))), (0, 9, 4));
    // What was on its way before says nothing of what came after.
    let mut queue = self::queue(&[(1, 10, 1), (2, 11, 1)]);
    queue.take(at(100)).unwrap();
    queue.take(at(100)).unwrap();
    assert_eq!(queue.failed(id(1), "500", at(100), at(100)), Ok(None));
    queue.taken(id(2));
    assert_eq!(fail(&mut queue, 1), None);
}

#[test]
fn when_all_rests_nothing_loses_its_place() {
    let mut queue = queue(&[(1, 10, 1), (2, 11, 1)]);
    let (first, _) = queue.take(at(0)).unwrap();
    let (second, _) = queue.take(at(0)).unwrap();
    queue.put_back(second);
    queue.put_back(first);
    assert_eq!(all(&mut queue), ["10.0", "11.0"]);
}

#[test]
fn the_bytes_of_what_waits_are_counted() {
    let mut queue = queue(&[(1, 10, 2), (2, 11, 1), (2, 12, 1), (3, 13, 0)]);
    assert_eq!(queue.bytes(), 4 * BYTES);
    all(&mut queue);
    queue.taken(id(1));
    assert_eq!(queue.bytes(), 4 * BYTES, "a parcel is kept until all of it was taken");
    all(&mut queue);
    queue.taken(id(1));
    assert_eq!(queue.bytes(), 2 * BYTES);
    queue.put_back(id(2));
    refuse(&mut queue, 2);
    assert_eq!(queue.bytes(), 0, "what is held is derived again");
    redrive(&mut queue, id(2), vec![parcel(2, 11, 1), parcel(2, 12, 1)]);
    assert_eq!(queue.bytes(), 2 * BYTES);
}
