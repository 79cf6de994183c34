//! Random filters over every type of attribute: answered from indexes, by a look at each, and by a reader of the RFCs who
//! knows nothing of how the others do it, they find the same.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::sync::Arc;

use common::answers::parse;
use common::history::ENTERPRISE;
use common::reader::{As, Asked, INSTANTS, NUMBERS, PAINT, sorted, sorted_by};
use common::{Running, World, config, lens};
use eventlog::memory::Chance;
use projector::{Part, Projection, Query, Window};
use proto::{Kind, ResourceId, subject};
use scim::{Object, Registry, Sort};
use serde_json::{Value, json};

const CORE: &str = "urn:ietf:params:scim:schemas:core:2.0";
const THING: &str = "urn:example:scim:Thing";
const INDEXED: [&str; 12] = [
    "level",
    "weight",
    "flag",
    "tag",
    "tags",
    "nums",
    "title",
    "active",
    "urn:example:scim:Paint:coats",
    "urn:example:scim:Paint:label",
    "parts.value",
    "emails.primary",
];

/// What can be asked for: the type that has it, the path, how it compares.
const ATTRIBUTES: [(&str, &str, As); 42] = [
    ("User", "userName", As::Text),
    ("User", "title", As::Text),
    ("User", "nickName", As::Text),
    ("User", "active", As::Truth),
    ("User", "name.familyName", As::Text),
    ("User", "name", As::Whole),
    ("User", "emails", As::Text),
    ("User", "emails.value", As::Text),
    ("User", "emails.type", As::Text),
    ("User", "emails.primary", As::Truth),
    ("User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User", As::Whole),
    ("User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber", As::Text),
    ("User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", As::Exact),
    ("User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.displayName", As::Text),
    ("User", "groups", As::Exact),
    ("User", "groups.value", As::Exact),
    ("User", "groups.type", As::Text),
    ("User", "groups.display", As::Text),
    ("Group", "members", As::Exact),
    ("Group", "members.value", As::Exact),
    ("Group", "members.type", As::Text),
    ("Group", "members.display", As::Text),
    ("Thing", "code", As::Text),
    ("Thing", "level", As::Number),
    ("Thing", "weight", As::Number),
    ("Thing", "flag", As::Truth),
    ("Thing", "at", As::Instant),
    ("Thing", "tag", As::Exact),
    ("Thing", "tags", As::Text),
    ("", "displayName", As::Text),
    ("Thing", "nums", As::Number),
    ("Thing", "parts", As::Number),
    ("Thing", "parts.label", As::Text),
    ("Thing", PAINT, As::Whole),
    ("Thing", "urn:example:scim:Paint:coats", As::Number),
    ("Thing", "urn:example:scim:Paint:label", As::Exact),
    ("", "id", As::Exact),
    ("", "externalId", As::Exact),
    ("", "meta.resourceType", As::Exact),
    ("", "meta.created", As::Instant),
    ("", "meta.lastModified", As::Instant),
    ("", "shoeSize", As::Text),
];
/// How many come at once.
const PAGE: usize = 9;
const TEXTS: [&str; 12] =
    ["", "a", "ab", "Ab", "AB ", "b\"\\c", "é", "É", "x.test", "kelvin", "\u{212A}elvin", "a\nb"];
fn registry() -> Arc<Registry> {
    let mut registry = Registry::built_in().unwrap();
    let one = |name: &str, kind: &str| json!({"name": name, "type": kind});
    let many = |name: &str, kind: &str| json!({"name": name, "type": kind, "multiValued": true});
    let exact = |name: &str| json!({"name": name, "type": "string", "caseExact": true});
    let mut parts = many("parts", "complex");
    parts["subAttributes"] =
        json!([one("value", "integer"), one("label", "string"), one("spare", "boolean")]);
    let thing = json!({"id": THING, "name": "Thing", "attributes": [
        one("code", "string"), one("level", "integer"), one("weight", "decimal"), one("flag", "boolean"),
        one("at", "dateTime"), exact("tag"), many("displayName", "string"), many("tags", "string"), many("nums", "integer"), parts,
    ]});
    let paint =
        json!({"id": PAINT, "name": "Paint", "attributes": [one("coats", "decimal"), exact("label")]});
    for schema in [thing, paint] {
        registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
    }
    let kind = json!({"id": "Thing", "name": "Thing", "endpoint": "/Things", "schema": THING,
        "schemaExtensions": [{"schema": PAINT}]});
    registry.add_resource_type(serde_json::from_value(kind).unwrap()).unwrap();
    registry.into()
}

struct Asker(Chance);

impl Asker {
    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap()
    }

    fn of<T: Copy>(&self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn number(&self, whole: bool) -> Value {
        loop {
            let number: Value = serde_json::from_str(self.of(self.of(&NUMBERS[..]))).unwrap();
            if !whole || number.is_i64() || number.is_u64() {
                return number;
            }
        }
    }

    fn id(&self) -> ResourceId {
        let [high, low] = [self.0.next().to_be_bytes(), self.0.next().to_be_bytes()];
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low[..2]);
        ResourceId::new(uuid::Builder::from_unix_timestamp_millis(self.0.below(1 << 40), &bytes).into_uuid())
    }

    /// JSON of a constant.
    fn constant(&self, path: &str, how: As, ids: &[ResourceId]) -> String {
        let id = || self.of(ids).to_string();
        let text =
            match how {
                As::Number => return self.of(self.of(&NUMBERS[..])).to_string(),
                As::Truth => return self.0.strikes(500).to_string(),
                As::Instant => self.of(self.of(&INSTANTS[..])).to_string(),
                _ if path == "externalId" => format!("ext-{}", id()),
                _ if path == "meta.resourceType" || path.ends_with(".type") => self
                    .of(&["User", "Group", "Thing", "user", "work", "home", "direct", "indirect"])
                    .to_string(),
                _ if path == "id" || path.ends_with("manager") => id(),
                _ if path.starts_with("members") || path.starts_with("groups") => {
                    if path.ends_with("display") { self.of(&TEXTS).to_string() } else { id() }
                }
                _ => self.of(&TEXTS).to_string(),
            };
        let text = if self.0.strikes(100) { text.to_uppercase() } else { text };
        Value::from(text).to_string()
    }

    fn filter(&self, depth: usize, ids: &[ResourceId]) -> Asked {
        match self.below(10) {
            kind @ 0..3 if depth > 0 => {
                let terms = (0..2 + self.below(2)).map(|_| self.filter(depth - 1, ids)).collect();
                if kind == 0 { Asked::Or(terms) } else { Asked::And(terms) }
            }
            3 if depth > 0 => Asked::Not(self.filter(depth - 1, ids).into()),
            4 => {
                let (kind, path, parts): (_, _, &[(&str, As)]) = self.of(&[
                    ("User", "emails", &[("value", As::Text), ("type", As::Text), ("primary", As::Truth)]),
                    ("User", "groups", &[("value", As::Exact), ("display", As::Text), ("type", As::Text)]),
                    ("Group", "members", &[("value", As::Exact), ("display", As::Text), ("type", As::Text)]),
                    ("Thing", "parts", &[("value", As::Number), ("label", As::Text), ("spare", As::Truth)]),
                ]);
                Asked::Within(kind, path, self.within(kind, path, parts, 2, ids).into())
            }
            _ => {
                let (kind, path, sort) = self.of(&ATTRIBUTES);
                self.leaf(kind, path, sort, path, ids)
            }
        }
    }

    fn within(
        &self,
        kind: &'static str,
        path: &str,
        parts: &[(&'static str, As)],
        depth: usize,
        ids: &[ResourceId],
    ) -> Asked {
        let inner = || self.within(kind, path, parts, depth - 1, ids);
        match self.below(6) {
            0 | 1 if depth > 0 => Asked::And((0..2).map(|_| inner()).collect()),
            2 if depth > 0 => Asked::Or((0..2).map(|_| inner()).collect()),
            3 if depth > 0 => Asked::Not(inner().into()),
            _ => {
                let (part, sort) = self.of(parts);
                self.leaf(kind, part, sort, &format!("{path}.{part}"), ids)
            }
        }
    }

    fn leaf(
        &self,
        kind: &'static str,
        path: &'static str,
        how: As,
        whole: &str,
        ids: &[ResourceId],
    ) -> Asked {
        if how == As::Whole || self.0.strikes(100) {
            return Asked::Present(kind, path);
        }
        let ops: &[&str] = match how {
            _ if self.0.strikes(80) => {
                return Asked::Compared(kind, path, how, self.of(&["eq", "ne"]), None);
            }
            As::Truth => &["eq", "ne"],
            As::Number | As::Instant => &["eq", "ne", "gt", "ge", "lt", "le"],
            As::Text | As::Exact | As::Whole => &["eq", "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"],
        };
        Asked::Compared(kind, path, how, self.of(ops), Some(self.constant(whole, how, ids)))
    }

    /// The filter in some hand: names in any case, the base schema's URN or not.
    fn text(&self, asked: &Asked) -> String {
        let join = |all: &[Asked], word: &str| {
            all.iter().map(|one| format!("({})", self.text(one))).collect::<Vec<_>>().join(word)
        };
        match asked {
            Asked::And(all) => join(all, self.of(&[" and ", " AND "])),
            Asked::Or(all) => join(all, self.of(&[" or ", " Or "])),
            Asked::Not(one) => format!("not ({})", self.text(one)),
            Asked::Present(kind, path) => format!("{} pr", self.path(kind, path)),
            Asked::Compared(kind, path, _, op, constant) => {
                format!("{} {op} {}", self.path(kind, path), constant.as_deref().unwrap_or("null"))
            }
            Asked::Within(_, path, inner) => format!("{path}[{}]", self.bare(inner)),
        }
    }

    /// Inside brackets there are no URNs.
    fn bare(&self, asked: &Asked) -> String {
        let join = |all: &[Asked], word: &str| {
            all.iter().map(|one| format!("({})", self.bare(one))).collect::<Vec<_>>().join(word)
        };
        match asked {
            Asked::And(all) => join(all, " and "),
            Asked::Or(all) => join(all, " or "),
            Asked::Not(one) => format!("not ({})", self.bare(one)),
            Asked::Present(_, part) => format!("{part} pr"),
            Asked::Compared(_, part, _, op, constant) => {
                format!("{part} {op} {}", constant.as_deref().unwrap_or("null"))
            }
            Asked::Within(..) => unreachable!(),
        }
    }

    fn path(&self, kind: &str, path: &str) -> String {
        let path = match kind {
            "User" | "Group" if !path.starts_with("urn:") && self.0.strikes(100) => {
                format!("{CORE}:{kind}:{path}")
            }
            _ => path.to_string(),
        };
        if self.0.strikes(100) { path.to_uppercase() } else { path }
    }

    fn user(&self, number: usize, ids: &[ResourceId]) -> Value {
        let mut user =
            json!({"userName": format!("{}{number}", self.of(&TEXTS[1..])), "active": self.0.strikes(600)});
        for name in ["title", "nickName", "displayName"] {
            if self.0.strikes(600) {
                user[name] = self.of(&TEXTS).into();
            }
        }
        if self.0.strikes(500) {
            user["name"] = json!({"familyName": self.of(&TEXTS)});
        }
        let email = |_| {
            let mut email = json!({});
            for (name, value) in [
                ("value", Value::from(self.of(&TEXTS))),
                ("type", (self.of(&["work", "Home"])).into()),
                ("primary", self.0.strikes(500).into()),
            ] {
                if self.0.strikes(700) {
                    email[name] = value;
                }
            }
            email
        };
        let emails: Vec<Value> = (0..self.below(4)).map(email).filter(|email| *email != json!({})).collect();
        if !emails.is_empty() {
            user["emails"] = emails.into();
        }
        if self.0.strikes(500) {
            user[ENTERPRISE] = json!({"employeeNumber": self.of(&TEXTS)});
            if self.0.strikes(500) && !ids.is_empty() {
                user[ENTERPRISE]["manager"] = json!({"value": self.of(ids).to_string()});
            }
        }
        user
    }

    fn thing(&self, number: usize) -> Value {
        let mut thing = json!({"code": format!("c{number}")});
        let some =
            |one: &dyn Fn() -> Value| -> Vec<Value> { (0..1 + self.below(3)).map(|_| one()).collect() };
        let part =
            || json!({"value": self.number(true), "label": self.of(&TEXTS), "spare": self.0.strikes(500)});
        for (name, value) in [
            ("level", self.number(true)),
            ("weight", self.number(false)),
            ("flag", self.0.strikes(500).into()),
            ("at", (self.of(self.of(&INSTANTS[..]))).into()),
            ("tag", self.of(&TEXTS).into()),
            ("displayName", some(&|| self.of(&TEXTS).into()).into()),
            ("tags", some(&|| self.of(&TEXTS).into()).into()),
            ("nums", some(&|| self.number(true)).into()),
            ("parts", some(&part).into()),
            (PAINT, json!({"coats": self.number(false), "label": self.of(&TEXTS)})),
        ] {
            if self.0.strikes(650) {
                thing[name] = value;
            }
        }
        thing
    }
}

/// Whom a question to these types finds, page by page.
async fn ids(
    projection: &Projection,
    world: &World,
    kinds: &[&str],
    text: Option<&str>,
    by: Option<(&str, bool)>,
) -> Vec<String> {
    let registry = &world.registry;
    let read = |name: &&str| {
        let kind = registry.by_name(name).unwrap();
        let filter = text.map(|text| parse(text, registry, kind));
        let sort = by.map(|(path, descending)| Sort::parse(path, descending, registry, kind).unwrap());
        (kind, filter, sort)
    };
    let readings: Vec<_> = kinds.iter().map(read).collect();
    let part =
        |(kind, filter, sort)| Part { kind, filter: Option::as_ref(filter), sort: Option::as_ref(sort) };
    let parts: Vec<Part<'_>> =
        readings.iter().map(|(kind, filter, sort)| part((*kind, filter, sort))).collect();
    let (lens, mut found, mut window) = (lens("hr"), Vec::new(), Window::After(None));
    loop {
        let query =
            Query { parts: &parts, lens: &lens, window: &window, count: PAGE, scan_rows_max: usize::MAX };
        let page = projection.query(&world.tenant, query).await.unwrap();
        found.extend(page.resources.iter().map(|stored| stored.id.to_string()));
        match page.next {
            Some(next) => window = Window::After(Some(next)),
            None => {
                assert_eq!(page.total, found.len());
                return found;
            }
        }
        assert!(found.len() < page.total, "{text:?} {by:?}");
    }
}

async fn agree(seed: u64, filters: usize) {
    let asker = Asker(Chance::new(seed));
    let mut world = World { registry: registry(), ..World::new() };
    let (mut ids_of, mut all) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let id = asker.id();
        let (kind, document) = match number % 5 {
            0 => ("Group", json!({"displayName": asker.of(&TEXTS[1..])})),
            1 | 2 => ("Thing", asker.thing(number)),
            _ => ("User", asker.user(number, &ids_of)),
        };
        let members = if kind == "Group" {
            ids_of.iter().copied().filter(|_| asker.0.strikes(200)).collect()
        } else {
            vec![]
        };
        world
            .write(kind, id, &subject::key_of_id(id), Kind::Created { members_added: members }, document)
            .await;
        ids_of.push(id);
        all.push((kind, id));
    }
    let folder = tempfile::tempdir().unwrap();
    let running =
        Running::open(config(folder.path(), &INDEXED), world.log.clone(), &world.keyring, &world.registry)
            .await;
    let projection = &running.projection;
    let mut shown = Vec::new();
    for (kind, id) in &all {
        let stored = projection.resource(&world.tenant, kind, *id).await.unwrap().unwrap();
        let kind_of = world.registry.by_name(kind).unwrap();
        shown.push((
            *kind,
            id.to_string(),
            projection.represent(&world.tenant, &stored, kind_of, &lens("hr")),
        ));
    }
    for _ in 0..filters {
        let asked = asker.filter(3, &ids_of);
        let text = asker.text(&asked);
        let kinds: &[&str] = asker.of(&[&["User"][..], &["Group"], &["Thing"], &["User", "Group", "Thing"]]);
        let wanted = shown.iter().filter(|(kind, _, json)| kinds.contains(kind) && asked.holds(kind, json));
        let wanted: Vec<String> = wanted.map(|(_, id, _)| id.clone()).collect();
        let what = format!("seed {seed} {kinds:?} {text}");
        assert_eq!(ids(projection, &world, kinds, Some(&text), None).await, wanted, "{what}");
        // No index helps with this.
        let looked = format!("({text}) or externalId co \"nobody has this\"");
        assert_eq!(ids(projection, &world, kinds, Some(&looked), None).await, wanted, "looked at: {what}");
        let (owner, path, how) = asker.of(&ATTRIBUTES);
        if how == As::Whole || path.starts_with("meta.") {
            continue;
        }
        let descending = asker.0.strikes(500);
        let value = |(kind, _, json)| {
            let (kind, json): (&&str, &Object) = (kind, json);
            let has = owner.is_empty() || owner == *kind;
            has.then(|| sorted_by(json, path)).flatten()
        };
        let text = asker.0.strikes(500).then_some(text);
        let is_wanted = |(kind, _, json): &&(&str, String, Object)| {
            kinds.contains(kind) && (text.is_none() || asked.holds(kind, json))
        };
        let mut wanted: Vec<_> =
            shown.iter().filter(is_wanted).map(|(kind, id, json)| (kind, id, json)).collect();
        wanted.sort_by(|left, right| {
            let order = sorted(how, value(*left), value(*right));
            if descending { order.reverse() } else { order }
        });
        let wanted: Vec<String> = wanted.into_iter().map(|(_, id, _)| id.clone()).collect();
        let found = ids(projection, &world, kinds, text.as_deref(), Some((path, descending))).await;
        assert_eq!(found, wanted, "by {path} {descending}: {text:?} {what}");
    }
    running.stop().await;
}

#[tokio::test]
async fn filters_find_what_the_rfcs_say() {
    for seed in 1..=8 {
        agree(seed, 400).await;
    }
}
