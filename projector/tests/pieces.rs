//! Questions that look at many, or ask much of each, are answered in pieces: others have their turn in between, and what they
//! change meanwhile changes nothing of the answer.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use common::answers::parse;
use common::{Running, World, deadline, lens};
use projector::{Lens, Moment, Page, Part, Projection, Query, Window};
use proto::{Kind, ResourceId};
use scim::{Filter, Sort};
use serde_json::json;

/// More than one piece holds.
const PEOPLE: usize = 5_000;
/// Tests of each, so that even few make a piece.
const TERMS: usize = 150;

struct House {
    world: World,
    running: Running,
    people: Vec<ResourceId>,
    group: ResourceId,
}

impl House {
    /// Every third person is in a group that is in a group.
    async fn new() -> Self {
        let mut world = World::new();
        let mut people = Vec::with_capacity(PEOPLE);
        for number in 0..PEOPLE {
            people.push(world.user(&format!("User-{number:05}")).await);
        }
        let some: Vec<ResourceId> = people.iter().copied().step_by(3).collect();
        let inner = world.group("inner", &some).await;
        let group = world.group("outer", &[inner]).await;
        let running = world.open().await;
        Self { world, running, people, group }
    }

    /// Names of those whom a question to all people finds, and how often it let others have their turn. `meanwhile` happens
    /// after its first piece.
    async fn asked(&mut self, text: &str, by: Option<&str>, meanwhile: bool) -> (Vec<String>, usize) {
        let (registry, projection) = (self.world.registry.clone(), self.running.projection.clone());
        let (tenant, kind) = (self.world.tenant.clone(), registry.by_name("User").unwrap());
        let filter = parse(text, &registry, kind);
        let sort = by.map(|by| Sort::parse(by, true, &registry, kind).unwrap());
        let mut asked = pin!(page(&projection, &tenant, kind, &filter, sort.as_ref()));
        let mut turns = 0;
        let page = loop {
            let polled = poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await;
            if let Poll::Ready(page) = polled {
                break page;
            }
            turns += 1;
            if meanwhile && turns == 1 {
                self.changes().await;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(page.total, page.resources.len(), "{text:.60}");
        let name = |stored: &projector::Stored| stored.document["userName"].as_str().unwrap().to_string();
        (page.resources.iter().map(name).collect(), turns)
    }

    /// Somebody comes and somebody goes.
    async fn changes(&mut self) {
        self.world.user("User-late").await;
        let (number, kind) = (PEOPLE - 1, Kind::Deleted);
        let key = self.world.key(&format!("User-{number:05}"));
        self.world.write("User", self.people[number], &key, kind, json!({})).await;
        self.running.projection.catch_up(deadline()).await.unwrap();
    }
}

async fn page(
    projection: &Projection,
    tenant: &proto::Tenant,
    kind: &scim::ResourceType,
    filter: &Filter,
    sort: Option<&Sort>,
) -> Page {
    let lens = Lens { moment: Moment::NOW, ..lens("hr") };
    let parts = [Part { kind, filter: Some(filter), sort }];
    let (window, count) = (Window::From(1), PEOPLE);
    let query = Query { parts: &parts, lens: &lens, window: &window, count, scan_rows_max: 0 };
    projection.query(tenant, query).await.unwrap()
}

fn names(wanted: impl Fn(&usize) -> bool) -> Vec<String> {
    (0..PEOPLE).filter(wanted).map(|number| format!("User-{number:05}")).collect()
}

fn many(word: &str, term: impl Fn(usize) -> String) -> String {
    (0..TERMS).map(term).collect::<Vec<_>>().join(word)
}

#[tokio::test]
async fn nobody_waits_for_a_question_that_asks_much_of_many() {
    let mut house = House::new().await;
    let group = house.group;
    let everybody = names(|_| true);
    for (text, expected) in [
        (
            many(" and ", |number| format!("userName ne \"user-{number:05}\"")),
            names(|number| *number >= TERMS),
        ),
        (many(" or ", |number| format!("userName ne \"user-{number:05}\"")), everybody.clone()),
        (many(" or ", |_| "userName pr".to_string()), everybody.clone()),
        (many(" and ", |_| format!("not (groups.value eq \"{group}\")")), names(|number| number % 3 > 0)),
        (many(" or ", |_| format!("groups.value eq \"{group}\"")), names(|number| number % 3 == 0)),
        ("userName gt \"user-00100\"".to_string(), names(|number| *number > 100)),
    ] {
        let (found, turns) = house.asked(&text, None, false).await;
        assert!(turns > 0, "{text:.60}");
        assert_eq!(found, expected, "{text:.60}");
        let mut expected = expected;
        expected.reverse();
        // What they are sorted by is taken in pieces too.
        let (found, sorted) = house.asked(&text, Some("userName"), false).await;
        assert!(sorted >= turns, "{text:.60}");
        assert_eq!(found, expected, "{text:.60}");
    }
    // What names few is found at once.
    let few = many(" or ", |number| format!("userName eq \"user-{number:05}\""));
    assert_eq!(house.asked(&few, None, false).await, (names(|number| *number < TERMS), 0));
    house.running.stop().await;
}

#[tokio::test]
async fn an_answer_is_as_of_one_moment_whatever_happens_between_its_pieces() {
    let mut house = House::new().await;
    let text = many(" and ", |number| format!("userName ne \"user-{number:05}\""));
    let (found, turns) = house.asked(&text, None, true).await;
    assert!(turns > 1);
    // Who went is still in it, who came is not.
    assert_eq!(found, names(|number| *number >= TERMS));
    let (mut found, _) = house.asked(&text, None, false).await;
    assert_eq!(found.pop().as_deref(), Some("User-late"));
    assert_eq!(found, names(|number| *number >= TERMS && *number < PEOPLE - 1));
    house.running.stop().await;
}

/// People whose documents are large, each as much as one piece may be.
const LARGE: usize = 10;

#[tokio::test]
async fn whoever_asks_little_does_not_wait_for_those_who_read_much() {
    let mut world = World::new();
    let (registry, tenant) = (world.registry.clone(), world.tenant.clone());
    for number in 0..LARGE {
        let (name, id) = (format!("large-{number}"), eventlog::clock::new_resource_id());
        let document = json!({"userName": name, "title": "x".repeat(60_000)});
        let key = world.key(&name);
        world.write("User", id, &key, Kind::Created { members_added: vec![] }, document).await;
    }
    let group = world.group("small", &[]).await;
    let running = world.open().await;
    let projection = &running.projection;
    let (user, small) = (registry.by_name("User").unwrap(), registry.by_name("Group").unwrap());
    let much = parse(&many(" or ", |number| format!("title co \"y{number}\"")), &registry, user);
    let little = parse("displayName co \"mall\"", &registry, small);
    let finished = std::cell::RefCell::new(Vec::new());
    let ask = async |kind, filter: &Filter, what: &'static str| {
        let parts = [Part { kind, filter: Some(filter), sort: None }];
        let (lens, window) = (lens("hr"), Window::From(1));
        let query =
            Query { parts: &parts, lens: &lens, window: &window, count: 9, scan_rows_max: usize::MAX };
        let page = projection.query(&tenant, query).await.unwrap();
        finished.borrow_mut().push(what);
        page.resources.iter().map(|stored| stored.id).collect::<Vec<_>>()
    };
    // As many as may look at resources at once.
    let much =
        async || tokio::join!(ask(user, &much, "much"), ask(user, &much, "much"), ask(user, &much, "much"));
    let little = async || {
        tokio::task::yield_now().await;
        ask(small, &little, "little").await
    };
    let ((first, second, third), found) = tokio::join!(much(), little());
    assert_eq!((first.len() + second.len() + third.len(), found), (0, vec![group]));
    assert_eq!(finished.into_inner(), ["little", "much", "much", "much"]);
    running.stop().await;
}
