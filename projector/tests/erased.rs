//! Who was erased leaves nothing behind: not in what filters find, now or as of earlier, not in an image, and not after a
//! new start.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::sync::Arc;

use common::answers::{answers, found, same};
use common::history::{Draft, ENTERPRISE, History, tenants};
use common::{Running, World, body, config, deadline, key_of, lens, registry};
use eventlog::memory::{self, Faults};
use eventlog::{Bucket, Keyring};
use projector::{Projection, When};
use proto::sealing::DataKey;
use proto::subject;
use proto::{Kind, ResourceId, Tenant};
use serde_json::{Value, json};

/// A part of everything that is known of the person.
const SECRET: &str = "secretus";
/// What finds the person, in each way in which a person is found.
const QUESTIONS: [(&str, &str); 13] = [
    ("User", "userName sw \"secretus\""),
    ("User", "userName eq \"secretus.one\""),
    ("User", "displayName co \"Secretus\""),
    ("User", "title ge \"secretus\" and title le \"secretus~\""),
    ("User", "name.familyName ew \"secretus\""),
    ("User", "nickName eq \"secretus\""),
    ("User", "emails.value sw \"secretus\""),
    ("User", "emails[type eq \"work\" and value co \"secretus\"]"),
    ("User", "externalId sw \"secretus\""),
    ("User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber sw \"SECRETUS\""),
    (
        "User",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.displayName co \"secretus\"",
    ),
    ("Group", "members.display co \"secretus\""),
    ("Group", "members[display sw \"doctor secretus\"]"),
];

/// A history with a person of whom everything is known, a group and somebody whose manager that person is.
struct Case {
    history: History,
    bucket: Arc<dyn Bucket>,
    folder: tempfile::TempDir,
    tenant: Tenant,
    person: ResourceId,
    /// Moments at which the person was known.
    known: Vec<When>,
}

impl Case {
    /// `returns`: the person was deleted and came back under the former id.
    async fn new(seed: u64, returns: bool) -> Self {
        let bucket = memory::broker(Faults::default()).keys;
        let mut history = History::over(seed, 0, bucket.clone());
        let tenant = tenants()[0].clone();
        for _ in 0..700 {
            history.step(&tenant).await;
        }
        let [person, friend, group] = [0; 3].map(|_| eventlog::clock::new_resource_id());
        history.kept = [person, friend, group].into();
        let mut case =
            Self { history, bucket, folder: tempfile::tempdir().unwrap(), tenant, person, known: Vec::new() };
        case.tells("secretus.one", Kind::Created { members_added: vec![] }).await;
        let document = json!({"userName": "friend", ENTERPRISE: {"manager": {"value": person.to_string()}}});
        let key = key_of(&case.tenant, "friend");
        case.write("User", friend, key, Kind::Created { members_added: vec![] }, document, None).await;
        let members_added = vec![person, friend];
        let (key, kind) = (subject::key_of_id(group), Kind::Created { members_added });
        case.write("Group", group, key, kind, json!({"displayName": "They"}), None).await;
        case.known.push(When::Sequence(case.history.book.len()));
        case.goes_on(200).await;
        if returns {
            let key = key_of(&case.tenant, "secretus.one");
            case.write("User", person, key, Kind::Deleted, json!({}), None).await;
            case.tells("secretus.two", Kind::Created { members_added: vec![] }).await;
            let (key, kind) =
                (subject::key_of_id(group), Kind::MembersChanged { added: vec![person], removed: vec![] });
            case.write("Group", group, key, kind, json!({}), None).await;
        } else {
            case.tells("secretus.two", Kind::Updated { members_added: vec![], members_removed: vec![] })
                .await;
        }
        case.known.push(When::Sequence(case.history.book.len()));
        case.goes_on(200).await;
        case
    }

    async fn goes_on(&mut self, steps: usize) {
        for _ in 0..steps {
            self.history.step(&self.tenant).await;
        }
        self.history.book.tell(self.history.book.len());
    }

    async fn write(
        &mut self,
        resource_type: &str,
        id: ResourceId,
        key: subject::Key,
        kind: Kind,
        document: serde_json::Value,
        external_id: Option<String>,
    ) {
        let (tenant, body) = (&self.tenant, body(&document, external_id));
        let draft = Draft { tenant, resource_type, id, key, kind, body, continued: false };
        self.history.write(draft).await;
        self.history.book.tell(self.history.book.len());
    }

    /// Everything that is known of the person from now on.
    async fn tells(&mut self, name: &str, kind: Kind) {
        let document = json!({
            "userName": name, "displayName": format!("Doctor {name}"), "title": format!("{name} the great"),
            "name": {"familyName": format!("von {SECRET}")}, "nickName": SECRET, "active": true,
            "emails": [{"type": "work", "value": format!("{name}@x.test")}, {"value": format!("{SECRET}@home.test")}],
            ENTERPRISE: {"employeeNumber": format!("{}-7", SECRET.to_uppercase())},
        });
        let key = key_of(&self.tenant, name);
        self.write("User", self.person, key, kind, document, Some(format!("{SECRET}-ext"))).await;
    }

    async fn open(&self) -> Running {
        let config = config(self.folder.path(), &["title"]);
        Running::open(config, Arc::new(self.history.book.clone()), &self.history.keyring, &registry()).await
    }

    fn image(&self) -> std::path::PathBuf {
        self.folder.path().join("projection/images/corp")
    }

    /// How many questions find somebody, now and at every moment.
    async fn finds(&self, projection: &Projection) -> usize {
        let mut count = 0;
        for when in [When::Now].iter().chain(&self.known) {
            let moment = projection.moment(&self.tenant, *when).unwrap().unwrap();
            for question in QUESTIONS {
                let found = found(projection, &self.tenant, &registry(), question, moment).await;
                count += usize::from(!found.is_empty());
            }
        }
        count
    }

    async fn all(&self, projection: &Projection) -> String {
        answers(projection, &self.tenant, &registry(), &self.known).await
    }

    /// Nobody is told anything of the person, and all that is told is what one is told who never knew.
    async fn knows_nothing(&self, projection: &Projection, what: &str) {
        assert_eq!(self.finds(projection).await, 0, "{what}");
        let all = self.all(projection).await;
        assert!(!all.to_lowercase().contains(SECRET), "{what}");
        for when in [When::Now].iter().chain(&self.known) {
            let moment = projection.moment(&self.tenant, *when).unwrap().unwrap();
            let stored = projection.resource_at(&self.tenant, "User", self.person, moment).await.unwrap();
            let told = stored.map(|stored| (stored.document.is_empty(), stored.external_ids.is_empty()));
            assert!(matches!(told, None | Some((true, true))), "{what} {when:?}");
        }
        let begun = projection.beginning(&self.tenant, self.person).await.unwrap();
        assert!(begun.is_none_or(|(_, body)| body.document.is_empty()), "{what}");
        for name in ["secretus.one", "secretus.two"] {
            let former = projection.former(&self.tenant, "User", &key_of(&self.tenant, name)).await.unwrap();
            assert!(former.is_none_or(|former| former.external_ids.is_empty()), "{what}");
        }
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(self.bucket.clone(), DataKey::new([1; 32]));
        let log = Arc::new(self.history.book.clone());
        let fresh = Running::open(config(folder.path(), &["title"]), log, &keyring, &registry()).await;
        same(&all, &self.all(&fresh.projection).await, what);
        fresh.stop().await;
    }

    async fn erase(&mut self) {
        self.history.destroy_key(&*self.bucket, self.person).await;
        let sequence = self.history.erase(&self.tenant, self.person).await;
        self.history.book.tell(sequence);
    }

    async fn delete(&mut self) {
        let key = key_of(&self.tenant, "secretus.two");
        self.write("User", self.person, key, Kind::Deleted, json!({}), None).await;
    }
}

/// All that finds the person: every question at the moments, and now unless the person is gone.
const FOUND: [usize; 2] = [37, 25];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_erased_leaves_nothing_while_it_runs_nor_afterwards() {
    for (seed, deleted, returns) in [(1, false, false), (2, true, false), (4, false, true)] {
        let mut case = Case::new(seed, returns).await;
        let running = case.open().await;
        running.stop().await;
        assert!(case.image().is_file());
        let former_image = std::fs::read(case.image()).unwrap();
        let running = case.open().await;
        if deleted {
            case.delete().await;
        }
        running.projection.catch_up(deadline()).await.unwrap();
        assert_eq!(case.finds(&running.projection).await, FOUND[usize::from(deleted)]);
        assert!(case.all(&running.projection).await.contains(SECRET));
        case.erase().await;
        running.projection.catch_up(deadline()).await.unwrap();
        case.knows_nothing(&running.projection, "at once").await;
        assert!(!case.image().exists(), "an image that knows the person is removed at once");
        case.goes_on(100).await;
        running.projection.catch_up(deadline()).await.unwrap();
        case.knows_nothing(&running.projection, "a little later").await;
        running.stop().await;
        assert!(case.image().is_file(), "there is a new image");
        let running = case.open().await;
        case.knows_nothing(&running.projection, "after a new start").await;
        running.stop().await;
        // Whoever was killed before the image was removed.
        std::fs::write(case.image(), &former_image).unwrap();
        let config = config(case.folder.path(), &["title"]);
        let log = Arc::new(case.history.book.clone());
        let projection =
            Projection::open(config, log, case.history.keyring.clone(), registry()).await.unwrap();
        assert!(!case.image().exists(), "a former image is removed at the start");
        case.knows_nothing(&projection, "from a former image").await;
        drop(projection);
        let running = case.open().await;
        case.knows_nothing(&running.projection, "from rows").await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_erased_while_nobody_listened_is_forgotten_at_the_next_start() {
    let mut case = Case::new(3, false).await;
    case.open().await.stop().await;
    assert!(case.image().is_file());
    case.erase().await;
    // The process starts anew, and so does what it knows of keys.
    case.history.keyring = Keyring::new(case.bucket.clone(), DataKey::new([1; 32]));
    let running = case.open().await;
    assert!(!case.image().exists());
    case.knows_nothing(&running.projection, "after a new start").await;
    running.stop().await;
}

/// How links to it read is kept for whoever reads them next.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_renamed_or_erased_is_not_shown_as_it_was_by_its_members() {
    let mut world = World::new();
    let member = world.user("ada").await;
    let group = world.group("Secretus", &[member]).await;
    let running = world.open().await;
    let (key, kind) = (subject::key_of_id(group), world.registry.by_name("User").unwrap().clone());
    let tenant = world.tenant.clone();
    let shown = async || {
        running.projection.catch_up(deadline()).await.unwrap();
        let stored = running.projection.resource(&tenant, "User", member).await.unwrap().unwrap();
        let mut text = Vec::new();
        running.projection.write_json(&tenant, &stored, &kind, &lens("hr"), &mut text);
        let groups = serde_json::from_slice::<Value>(&text).unwrap()["groups"].clone();
        (groups[0]["value"].as_str() == Some(&group.to_string())).then(|| groups[0]["display"].clone())
    };
    assert_eq!(shown().await, Some(json!("Secretus")));
    assert_eq!(shown().await, Some(json!("Secretus")));
    let renamed = Kind::Updated { members_added: vec![], members_removed: vec![] };
    world.write("Group", group, &key, renamed, json!({"displayName": "They"})).await;
    assert_eq!(shown().await, Some(json!("They")));
    world.write("Group", group, &key, Kind::Erased, json!({})).await;
    assert_eq!(shown().await, Some(Value::Null));
}
