//! What windows see of calls that are made as fast as they can be.

use super::*;

fn budget(calls: Calls, per: Window, limit: u32, burst: Option<u32>) -> Budget {
    Budget { calls, kind: None, per, limit, burst }
}

fn call(calls: Calls, reduces: bool) -> Wanted<'static> {
    Wanted { calls, kind: "User", reduces, members: None }
}

/// Makes a call as soon as it can be afforded, for so long; says when each was made.
fn made(purse: &Purse, wanted: &Wanted<'_>, from: Instant, long: Duration) -> Vec<Duration> {
    let (mut now, mut made) = (from, Vec::new());
    while now < from + long {
        match purse.take(wanted, now) {
            Ok(()) => made.push(now - from),
            Err(denied) => now += denied.after,
        }
    }
    made
}

/// The most calls in any window of this length.
fn most(made: &[Duration], window: Duration) -> usize {
    let within = |from: &Duration| made.iter().filter(|at| *at >= from && **at < *from + window).count();
    made.iter().map(within).max().unwrap_or_default()
}

#[track_caller]
fn check(limit: u32, burst: Option<u32>, per: Window, windows: u32) {
    let purse = Purse::new(&[budget(Calls::All, per, limit, burst)]);
    let made = made(&purse, &call(Calls::Deletes, true), Instant::now(), per.length() * windows);
    let most = most(&made, per.length());
    assert!(most <= limit as usize, "{most} in a window of {limit}");
    assert!(made.len() * 10 >= (limit * windows * 8) as usize / 2, "{} of {}", made.len(), limit * windows);
}

#[test]
fn no_window_sees_more_than_the_limit_and_most_of_it_is_used() {
    check(10, None, Window::Second, 10);
    check(180, Some(12), Window::Minute, 5);
    check(1_000, Some(300), Window::Hour, 3);
    check(1, None, Window::Minute, 20);
    check(7, Some(7), Window::Day, 4);
}

#[test]
fn a_fifth_is_kept_for_reductions() {
    let now = Instant::now();
    let purse = Purse::new(&[budget(Calls::All, Window::Minute, 600, Some(100))]);
    let second = Duration::from_secs(1);
    let ordinary = made(&purse, &call(Calls::Creates, false), now, second * 60);
    assert!(ordinary.len() <= 480, "{}", ordinary.len());
    // Whoever loses access finds something left at once, and more than one of them.
    let later = now + second * 60;
    while purse.take(&call(Calls::Creates, false), later).is_ok() {}
    for _ in 0..20 {
        purse.take(&call(Calls::Deletes, true), later).unwrap();
    }
    purse.take(&call(Calls::Creates, false), later).unwrap_err();
}

#[test]
fn ten_calls_a_second_let_a_leaver_through_at_once() {
    let mut now = Instant::now();
    let purse = Purse::new(&[budget(Calls::All, Window::Second, 10, None)]);
    for _ in 0..200 {
        if let Err(denied) = purse.take(&call(Calls::Updates, false), now) {
            assert_eq!(denied.whom, Whom::Ordinary);
            let reduction = purse.inner().lack((None, &Party::default()), &call(Calls::Updates, true), now);
            let wait = reduction.map_or(Duration::ZERO, |denied| denied.after);
            assert!(wait <= Duration::from_millis(120), "{wait:?}");
            now += denied.after;
        }
    }
}

#[test]
fn each_budget_counts_what_it_names() {
    let users =
        Budget { kind: Some("User".to_string()), ..budget(Calls::Creates, Window::Minute, 2, Some(1)) };
    let purse = Purse::new(&[users, budget(Calls::Writes, Window::Minute, 100, Some(50))]);
    let now = Instant::now();
    purse.take(&call(Calls::Creates, false), now).unwrap();
    let denied = purse.take(&call(Calls::Creates, false), now).unwrap_err();
    assert!(denied.after > Duration::from_secs(29), "{denied:?}");
    assert_eq!(denied.whom, Whom::Alike);
    let who = |number: u8| Some(format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap());
    let wait = |number| purse.take_for(who(number), &call(Calls::Creates, false), now).unwrap_err().after;
    let (first, second) = (wait(1), wait(2));
    assert!(second > first + Duration::from_secs(29), "{second:?} comes after {first:?}");
    assert_eq!((wait(1), wait(2)), (first, second), "whoever asks again keeps his place");
    purse.take(&Wanted { kind: "Group", ..call(Calls::Creates, false) }, now).unwrap();
    purse.take(&call(Calls::Updates, false), now).unwrap();
    for _ in 0..200 {
        purse.take(&call(Calls::Reads, false), now).unwrap();
    }
}

#[test]
fn a_group_gets_members_as_it_can_afford_them() {
    let purse = Purse::new(&[budget(Calls::MembersAdded, Window::Hour, 1_000, Some(500))]);
    let now = Instant::now();
    let add = |group, count| Wanted { members: Some((group, count)), ..call(Calls::Updates, false) };
    assert_eq!(purse.members("g", 800, now), Ok(500));
    purse.take(&add("g", 500), now).unwrap();
    assert!(purse.members("g", 300, now).is_err());
    assert_eq!(purse.members("h", 300, now), Ok(300), "another group has its own");
    assert_eq!(purse.members("g", 300, now + Duration::from_secs(3_600)), Ok(300));
}

#[test]
fn after_too_many_we_are_slower_and_then_recover() {
    let purse = Purse::new(&[]);
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    for tick in 0..1_000 {
        purse.take(&call(Calls::Creates, false), now + second / 100 * tick).unwrap();
    }
    let now = now + second * 10;
    purse.slow_down(now);
    let slow = purse.learned().unwrap();
    assert!((40.0..=60.0).contains(&slow), "half of 100 a second: {slow}");
    purse.slow_down(now + second);
    assert_eq!(purse.learned().unwrap(), slow, "the same, from a call that was under way");
    let now = now + second * 3;
    purse.slow_down(now);
    assert!(purse.learned().unwrap() < 30.0);
    let made = made(&purse, &call(Calls::Creates, false), now, second * 10);
    assert!(made.len() < 260, "{}", made.len());
    purse.take(&call(Calls::Creates, false), now + RECOVERY * (RECOVERIES + 1)).unwrap();
    assert_eq!(purse.learned(), None);
}

#[test]
fn who_shares_a_purse_shares_the_smaller_budget() {
    let purses = Purses::default();
    let one = purses.of("host", &[budget(Calls::All, Window::Minute, 100, Some(10))]);
    let other = purses.of("host", &[budget(Calls::All, Window::Minute, 2, Some(1))]);
    let now = Instant::now();
    one.take(&call(Calls::Creates, false), now).unwrap();
    other.take(&call(Calls::Creates, false), now).unwrap_err();
    purses.of("another", &[]).take(&call(Calls::Creates, false), now).unwrap();
}

/// Who of two gets the calls of a second, one of them with so many to do.
#[test]
fn a_backlog_of_one_tenant_leaves_a_call_for_another() {
    let purse = Purse::new(&[budget(Calls::All, Window::Second, 10, Some(1))]);
    let party = |tenant: &str| Party { tenant: tenant.to_string(), app: "wiki".to_string(), weight: 1 };
    let flights = Flights::default();
    let (busy, quiet) = (purse.drawn_by(party("corp"), &flights), purse.drawn_by(party("beta"), &flights));
    let wanted = call(Calls::Creates, false);
    let mut now = Instant::now();
    // Many workers of the one ask again and again; the other comes once, and asks a moment after them.
    for _ in 0..200 {
        if busy.take(&wanted, now).is_err() {
            now += Duration::from_millis(5);
        }
    }
    let mut asked = now;
    let mut busy_had = 0;
    while let Err(denied) = quiet.take(&wanted, asked) {
        let back = asked + denied.after;
        while now < back {
            busy_had += usize::from(busy.take(&wanted, now).is_ok());
            now += Duration::from_millis(5);
        }
        (asked, now) = (back, back);
        busy_had += usize::from(busy.take(&wanted, now).is_ok());
    }
    assert!(busy_had <= 1, "the other one had {busy_had} meanwhile");
}

#[test]
fn places_of_a_backlog_are_not_before_another_tenants() {
    let creates = Budget { calls: Calls::Creates, ..budget(Calls::Creates, Window::Second, 10, Some(1)) };
    let purse = Purse::new(&[creates]);
    let party = |tenant: &str| Party { tenant: tenant.to_string(), app: "wiki".to_string(), weight: 1 };
    let flights = Flights::default();
    let (busy, quiet) = (purse.drawn_by(party("corp"), &flights), purse.drawn_by(party("beta"), &flights));
    let wanted = call(Calls::Creates, false);
    let now = Instant::now();
    let id = |number: u32| format!("01890a5d-ac96-774b-bcce-b302{number:08x}").parse().unwrap();
    let mut last = Duration::ZERO;
    for number in 0..2_000 {
        last = busy.take_for(Some(id(number)), &wanted, now).err().map_or(last, |denied| denied.after);
    }
    assert!(last > Duration::from_secs(100), "each has a place of his own");
    let denied = quiet.take_for(Some(id(5_000)), &wanted, now).unwrap_err();
    assert!(denied.after < Duration::from_secs(1), "{denied:?}");
    let then = now + denied.after;
    assert!(busy.take_for(Some(id(1)), &wanted, then).is_err(), "one call is left over");
    assert_eq!(quiet.take_for(Some(id(5_000)), &wanted, then), Ok(()));
}
