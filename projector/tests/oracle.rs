//! Random histories, and questions about any of their moments: the directory answers as the naive one does, before and
//! after it is opened again from its image and its rows, and with other indexes.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::cmp::Ordering;
use std::sync::Arc;

use common::answers::{LIMITS, same};
use common::history::{ENTERPRISE, History, SOURCES, tenants};
use common::model::{Model, Resource, Snapshot};
use common::past::Past;
use common::{Running, config, deadline, lens};
use jiff::{SignedDuration, Timestamp};
use projector::{Lens, Moment, Part, Projection, Query, When, Window};
use proto::Tenant;
use scim::{Dialect, Filter, Object, Registry, ResourceType, Sort, SortKey};
use serde_json::Value;

const TEXTUAL: [&str; 16] = [
    "userName",
    "displayName",
    "title",
    "nickName",
    "name.familyName",
    "emails",
    "emails.value",
    "emails.type",
    "externalId",
    "id",
    "members",
    "members.value",
    "members.display",
    "groups",
    "groups.value",
    "groups.display",
];
const OPERATORS: [&str; 9] = ["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"];
const SORTS: [&str; 14] = [
    "userName",
    "displayName",
    "title",
    "meta.lastModified",
    "meta.created",
    "name.familyName",
    "nickName",
    "emails",
    "emails.value",
    "externalId",
    "active",
    "groups.display",
    "members.display",
    "members.value",
];

/// Asks one projection about one tenant.
struct Asked<'a> {
    projection: &'a Projection,
    history: &'a History,
    registry: &'a Arc<Registry>,
    tenant: &'a Tenant,
    seed: u64,
}

/// A snapshot as clients of a source see it.
struct Seen<'a> {
    snapshot: &'a Snapshot,
    source: &'a str,
    moment: Moment,
    users: Vec<(&'a Resource, Object)>,
    groups: Vec<(&'a Resource, Object)>,
}

impl<'a> Seen<'a> {
    fn of_kind(&self, kind: &ResourceType) -> &[(&'a Resource, Object)] {
        if kind.name == "User" { &self.users } else { &self.groups }
    }
}

impl Asked<'_> {
    fn model(&self) -> &Model {
        &self.history.models[self.tenant]
    }

    /// Some moments, and now.
    fn whens(&self, count: usize) -> Vec<When> {
        let (history, model) = (self.history, self.model());
        let mut whens = vec![When::Now];
        for _ in 0..count {
            let any = 1 + history.chance.below(history.book.told());
            let any_time = model.snapshots[history.below(model.snapshots.len())].time;
            let off = SignedDuration::from_nanos(i64::try_from(history.chance.below(3_000_000)).unwrap());
            whens.push(match history.below(3) {
                0 => When::Sequence(any),
                1 => When::Instant(any_time),
                _ => When::Instant(any_time + off - SignedDuration::from_nanos(1_500_000)),
            });
        }
        whens
    }

    /// Everything about some moments.
    async fn agrees(&self, moments: usize, questions: usize) {
        let model = self.model();
        for when in self.whens(moments) {
            let moment = self.projection.moment(self.tenant, when).unwrap();
            let snapshot = model.at(when);
            assert_eq!(moment.is_some(), snapshot.is_some(), "seed {} {when:?}", self.seed);
            let (Some(moment), Some(snapshot)) = (moment, snapshot) else { continue };
            let stands = self.projection.stands_at(self.tenant, moment).unwrap();
            assert_eq!(stands, (snapshot.sequence, snapshot.time), "seed {} {when:?}", self.seed);
            let source = self.history.pick(&SOURCES);
            let represented = |kind: &'static str| {
                let all = snapshot.of_kind(kind);
                all.map(|one| (one, snapshot.represent(self.registry, one, source))).collect()
            };
            let (users, groups) = (represented("User"), represented("Group"));
            let seen = Seen { snapshot, source, moment, users, groups };
            self.everybody(&seen, when).await;
            for _ in 0..questions {
                self.question(&seen, when).await;
            }
            self.past(&seen, when).await;
        }
        for ((kind, key), expected) in &model.keys {
            let state = self.projection.key(self.tenant, kind, key);
            assert_eq!((state.last, state.holder), *expected, "seed {}", self.seed);
        }
    }

    /// Each by its id, with its links, and nobody else.
    async fn everybody(&self, seen: &Seen<'_>, when: When) {
        let projection = self.projection;
        let lens = Lens { moment: seen.moment, ..lens(seen.source) };
        let what = format!("seed {} {when:?} {}", self.seed, self.tenant);
        for id in &self.model().ids {
            let expected = seen.users.iter().chain(&seen.groups).find(|(one, _)| one.id == *id);
            for kind in self.registry.resource_types() {
                let found = projection.resource_at(self.tenant, &kind.name, *id, seen.moment).await.unwrap();
                let expected = expected.filter(|(one, _)| one.kind == kind.name);
                assert_eq!(found.is_some(), expected.is_some(), "{what} {id}");
                let (Some(stored), Some((one, object))) = (found, expected) else { continue };
                assert_eq!(*stored.external_ids, one.external_ids, "{what} {id}");
                assert_eq!((stored.version, stored.created), (one.version, one.created), "{what} {id}");
                let shown = projection.represent_now(self.tenant, &stored, kind, &lens);
                let text = |object: &Object| Value::Object(object.clone()).to_string();
                same(&text(&shown.object), &text(object), &format!("{what} {id}"));
                assert_eq!((shown.version, shown.is_current), (one.version, true), "{what} {id}");
                let mut json = Vec::new();
                let written = projection.write_json(self.tenant, &stored, kind, &lens, &mut json);
                let parsed: Value = serde_json::from_slice(&json).unwrap();
                same(&parsed.to_string(), &text(object), &format!("{what} {id} as text"));
                assert_eq!((written.version, written.is_current), (one.version, true), "{what} {id}");
            }
            let members = projection.members_at(self.tenant, *id, seen.moment);
            assert_eq!(members, seen.snapshot.members(*id), "{what} {id}");
            let groups = projection.groups_at(self.tenant, *id, seen.moment);
            assert_eq!(groups, seen.snapshot.groups(*id), "{what} {id}");
            if when == When::Now {
                assert_eq!(projection.member_count(self.tenant, *id), members.len(), "{what} {id}");
            }
        }
        if when == When::Now {
            for (kind, all) in [("User", &seen.users), ("Group", &seen.groups)] {
                let ids: Vec<_> = all.iter().map(|(one, _)| one.id).collect();
                assert_eq!(projection.ids(self.tenant, kind), ids, "{what}");
            }
        }
    }

    /// What happened until a moment, and since an earlier one.
    async fn past(&self, seen: &Seen<'_>, when: When) {
        let (projection, tenant, model) = (self.projection, self.tenant, self.model());
        let what = format!("seed {} {when:?} {tenant}", self.seed);
        let past = Past { projection, tenant, model, moment: seen.moment, snapshot: seen.snapshot, what };
        let page = 1 + self.history.below(40);
        past.agrees(page).await;
        let earlier: Vec<&Snapshot> =
            model.snapshots.iter().take_while(|one| one.sequence <= seen.snapshot.sequence).collect();
        let from = earlier[self.history.below(earlier.len())];
        let moment = projection.moment(tenant, When::Sequence(from.sequence)).unwrap().unwrap();
        past.differs(Some((from, moment)), page).await;
        past.differs(None, page).await;
    }

    /// One random question to a type or to the root, in pages of a random size. Places are written and read in between.
    async fn question(&self, seen: &Seen<'_>, when: When) {
        let history = self.history;
        let kinds: Vec<&ResourceType> = match history.below(8) {
            0..2 => self.registry.resource_types().iter().collect(),
            2..4 => self.registry.by_name("Group").into_iter().collect(),
            _ => self.registry.by_name("User").into_iter().collect(),
        };
        let text = (!history.chance.strikes(200)).then(|| self.filter(seen, 2));
        let by = history.chance.strikes(600).then(|| history.pick(&SORTS));
        let descending = history.chance.strikes(500);
        let read = |kind| {
            let filter = text.as_ref();
            let filter = filter.map(|text| Filter::parse(text, &LIMITS, Dialect::Rfc, self.registry, kind));
            let sort = by.map(|by| Sort::parse(by, descending, self.registry, kind).unwrap());
            Ok((kind, filter.transpose()?, sort))
        };
        let readings: Result<Vec<_>, scim::Error> = kinds.into_iter().map(read).collect();
        // Brackets need an attribute of the type.
        let Ok(readings) = readings else { return };
        let names: Vec<&str> = readings.iter().map(|(kind, _, _)| kind.name.as_str()).collect();
        let what =
            format!("seed {} {when:?} {} {names:?} {text:?} by {by:?} {descending}", self.seed, self.tenant);
        let mut expected: Vec<(SortKey, &Resource)> = Vec::new();
        for one in &seen.snapshot.living {
            let Some((kind, filter, sort)) = readings.iter().find(|(kind, _, _)| kind.name == one.kind)
            else {
                continue;
            };
            let Some((_, object)) = seen.of_kind(kind).iter().find(|(other, _)| other.id == one.id) else {
                continue;
            };
            if filter.as_ref().is_none_or(|filter| filter.matches(object)) {
                let key = sort.as_ref().map_or(SortKey::of_text(None), |sort| sort.key(object));
                expected.push((key, one));
            }
        }
        let sort = readings.iter().find_map(|(_, _, sort)| sort.as_ref());
        expected
            .sort_by(|(left, _), (right, _)| sort.map_or(Ordering::Equal, |sort| sort.compare(left, right)));
        let expected: Vec<String> = expected.into_iter().map(|(_, one)| one.id.to_string()).collect();
        let moment = if when == When::Now { Moment::NOW } else { seen.moment };
        let lens = Lens { moment, ..lens(seen.source) };
        let part =
            |(kind, filter, sort)| Part { kind, filter: Option::as_ref(filter), sort: Option::as_ref(sort) };
        let parts: Vec<Part<'_>> =
            readings.iter().map(|(kind, filter, sort)| part((*kind, filter, sort))).collect();
        let ask = async |window: Window, count: usize| {
            let query =
                Query { parts: &parts, lens: &lens, window: &window, count, scan_rows_max: usize::MAX };
            let page = self.projection.query(self.tenant, query).await.unwrap();
            assert_eq!(page.total, expected.len(), "{what}");
            let ids: Vec<String> = page.resources.iter().map(|stored| stored.id.to_string()).collect();
            (ids, page.next)
        };
        let (all, _) = ask(Window::From(1), 1_000).await;
        same(&all.join(" "), &expected.join(" "), &what);
        // Some tens of pages at most.
        let count = 1 + history.below(9) + expected.len() / 32;
        let from = 1 + history.below(expected.len() + 2);
        let (some, _) = ask(Window::From(from), count).await;
        let wanted: Vec<String> = expected.iter().skip(from - 1).take(count).cloned().collect();
        assert_eq!(some, wanted, "{what} from {from}, {count}");
        let (mut paged, mut next) = ask(Window::After(None), count).await;
        while let Some(place) = next {
            let place = serde_json::to_vec(&place).unwrap();
            let place = serde_json::from_slice(&place).unwrap();
            let (ids, after) = ask(Window::After(Some(place)), count).await;
            assert!(!ids.is_empty(), "{what}, {count}");
            (next, paged) = (after, [paged, ids].concat());
            assert!(paged.len() <= expected.len(), "{what}, {count}");
        }
        assert_eq!(paged, expected, "{what} by cursor, {count}");
    }

    fn filter(&self, seen: &Seen<'_>, depth: usize) -> String {
        let history = self.history;
        match history.below(10) {
            0..2 if depth > 0 => {
                let word = history.pick(&[" and ", " or "]);
                let terms: Vec<String> =
                    (0..2 + history.below(2)).map(|_| self.filter(seen, depth - 1)).collect();
                format!("({})", terms.join(word))
            }
            2 if depth > 0 => format!("not ({})", self.filter(seen, depth - 1)),
            3 => format!("{} {}", self.path(), history.pick(&["pr", "pr", "eq null", "ne null"])),
            4 => format!("active {} {}", history.pick(&["eq", "ne"]), history.chance.strikes(500)),
            5 => format!(
                "meta.{} {} \"{}\"",
                history.pick(&["created", "lastModified"]),
                history.pick(&["eq", "ne", "gt", "ge", "lt", "le"]),
                self.instant(seen)
            ),
            6 => {
                let value =
                    |path: &str| format!("value {} {}", history.pick(&OPERATORS), self.constant(path, seen));
                match history.below(6) {
                    0 => format!("emails[{}]", value("emails")),
                    1 => format!("emails[type eq \"work\" and {}]", value("emails")),
                    2 => format!("emails[not ({})]", value("emails")),
                    3 => format!("emails[type eq \"home\"].{}", value("emails")),
                    4 => format!("members[{} and type eq \"User\"]", value("members")),
                    _ => format!(
                        "{}[value eq {}]",
                        history.pick(&["members", "groups"]),
                        self.constant("id", seen)
                    ),
                }
            }
            _ => {
                let path = self.path();
                format!("{path} {} {}", history.pick(&OPERATORS), self.constant(&path, seen))
            }
        }
    }

    fn path(&self) -> String {
        let history = self.history;
        match history.below(12) {
            0 => "shoeSize".to_string(),
            1 => format!("{ENTERPRISE}:employeeNumber"),
            2 => format!("{ENTERPRISE}:manager.{}", history.pick(&["value", "displayName"])),
            _ => history.pick(&TEXTUAL).to_string(),
        }
    }

    /// A text that some resource may have there, or nearly.
    fn constant(&self, path: &str, seen: &Seen<'_>) -> String {
        let history = self.history;
        let living = &seen.snapshot.living;
        let mut text = match path {
            _ if history.chance.strikes(60) => history.long_text(),
            "userName" | "nickName" => history.name(),
            "title" => history.title(),
            "name.familyName" => history.family(),
            "externalId" => format!("E{}", history.below(30)),
            _ if path.ends_with("employeeNumber") => format!("n{}", history.below(20)),
            _ if path.starts_with("emails") => history.email(),
            _ if path.to_lowercase().ends_with("display") || path.ends_with("displayName") => {
                format!("the {}", history.name())
            }
            _ if history.chance.strikes(200) || living.is_empty() => {
                self.model().ids.first().map(ToString::to_string).unwrap_or_default()
            }
            _ => living[history.below(living.len())].id.to_string(),
        };
        match history.below(6) {
            0 => text = text.to_uppercase(),
            1 => text = text.chars().take(1 + history.below(4)).collect(),
            2 => text = text.chars().skip(history.below(3)).collect(),
            _ => {}
        }
        Value::from(text).to_string()
    }

    /// An instant near which something was created or changed, often between two milliseconds.
    fn instant(&self, seen: &Seen<'_>) -> Timestamp {
        let living = &seen.snapshot.living;
        if living.is_empty() {
            return Timestamp::UNIX_EPOCH;
        }
        let one = &living[self.history.below(living.len())];
        let time = if self.history.chance.strikes(500) { one.created } else { one.modified };
        match self.history.below(4) {
            0 => time + SignedDuration::from_micros(500),
            1 => time - SignedDuration::from_nanos(1),
            2 => time + SignedDuration::from_millis(1),
            _ => time,
        }
    }
}

/// A history, told in bursts of any size, with questions in between.
async fn told(history: &mut History, running: &Running, registry: &Arc<Registry>, seed: u64, steps: usize) {
    let tenants = tenants();
    for _ in 0..steps {
        let tenant = match history.below(20) {
            0 => &tenants[2],
            1..4 => &tenants[1],
            _ => &tenants[0],
        };
        history.step(tenant).await;
        if history.chance.strikes(4) {
            history.drop_tenant(&tenants[2]).await;
        }
        if history.chance.strikes(20) {
            history.book.tell(history.book.len());
            running.projection.catch_up(deadline()).await.unwrap();
            if history.chance.strikes(300) {
                everything(history, &running.projection, registry, seed, (0, 3)).await;
            }
        }
    }
    history.book.tell(history.book.len());
    running.projection.catch_up(deadline()).await.unwrap();
}

async fn everything(
    history: &History,
    projection: &Projection,
    registry: &Arc<Registry>,
    seed: u64,
    (moments, questions): (usize, usize),
) {
    for tenant in &tenants() {
        if history.models.get(tenant).is_some_and(|model| !model.snapshots.is_empty()) {
            Asked { projection, history, registry, tenant, seed }.agrees(moments, questions).await;
        }
    }
}

/// One seed from its beginning, through new starts, to its end.
async fn agree(seed: u64, indexed: &[&str], others: &[&str], long: u64) {
    let (mut history, registry) = (History::new(seed, long), common::registry());
    let folder = tempfile::tempdir().unwrap();
    let open = async |history: &History, indexed: &[&str]| {
        let config = config(folder.path(), indexed);
        Running::open(config, Arc::new(history.book.clone()), &history.keyring, &registry).await
    };
    let running = open(&history, indexed).await;
    // Young directories are walked in the order of an index, old ones hold too many former values for that.
    for _ in 0..3 {
        told(&mut history, &running, &registry, seed, 60).await;
        everything(&history, &running.projection, &registry, seed, (1, 60)).await;
    }
    told(&mut history, &running, &registry, seed, 1_350).await;
    everything(&history, &running.projection, &registry, seed, (5, 40)).await;
    running.stop().await;
    let image = folder.path().join("projection/images/corp");
    assert!(image.is_file(), "a directory of a thousand rows has an image");
    let running = open(&history, indexed).await;
    everything(&history, &running.projection, &registry, seed, (3, 30)).await;
    told(&mut history, &running, &registry, seed, 150).await;
    running.stop().await;
    for indexed in [indexed, others] {
        let running = open(&history, indexed).await;
        everything(&history, &running.projection, &registry, seed, (4, 40)).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_moment_of_any_history_is_as_it_was() {
    for seed in 1..=2 {
        agree(seed, &["title", "active"], &[], 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_are_longer_than_an_index_keeps_are_found() {
    for seed in 101..=102 {
        agree(seed, &["title"], &["title", "active", "nickName"], 60).await;
    }
}
