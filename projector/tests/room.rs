//! The disk of the rows is full: what is applied is answered all the same, and when room is made the rows are written, the
//! log is heard again, and nothing that was on disk is missing.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::{Running, World, config, deadline};
use eventlog::clock;
use projector::{Config, MemoryStore, Moment, Projection, Storage};
use proto::{Kind, ResourceId, subject};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// More than may wait in memory.
const MORE_THAN_WAITS: usize = 20_000;
const PEOPLE: usize = 400;
const ROUNDS: usize = 6;
/// Bytes of a document.
const LARGE: usize = 300 << 10;
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a write takes at the most to be on disk.
const MOMENT: Duration = Duration::from_millis(700);

/// What is said when nothing can be written, when a store was opened again in place, and when all that waited is written.
const FAILED: &str = "cannot be written";
const OPENED_ANEW: &str = "was opened anew";
const WRITTEN_AGAIN: &str = "is written again";

/// What was said of a folder.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// Listens to all that is said in this process.
    fn listen() -> Self {
        static SAID: OnceLock<Said> = OnceLock::new();
        let begin = || {
            let said = Self::default();
            let to = said.clone();
            tracing_subscriber::fmt().with_writer(move || to.clone()).with_ansi(false).init();
            said
        };
        SAID.get_or_init(begin).clone()
    }

    fn all(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn count(&self, what: &str, disk: &Disk) -> usize {
        let said = self.all();
        let folder = disk.path().to_str().unwrap();
        said.lines().filter(|line| line.contains(what) && line.contains(folder)).count()
    }

    /// Waits until it was said more than so often.
    async fn wait_for(&self, what: &str, times: usize, disk: &Disk) {
        let patience = Instant::now() + PATIENCE;
        while self.count(what, disk) <= times {
            assert!(Instant::now() < patience, "nobody says that it {what}: {}", self.all());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A small disk of its own, gone when this is dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Nothing where only root may mount and we are not root.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        let user = Command::new("id").arg("-u").output().unwrap().stdout;
        assert!(mounted || user != b"0\n", "root may mount, so this must not be passed over");
        mounted.then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).unwrap();
        for size in [1024 * 1024, 4096, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

async fn open(world: &World, config: Config) -> Projection {
    let (log, keyring, registry) = (world.log.clone(), world.keyring.clone(), world.registry.clone());
    Projection::open(config, log, keyring, registry).await.unwrap()
}

/// The sum of all answers of a directory, and of one that was built in memory from the log.
async fn sums(world: &World, projection: &Projection) -> [projector::Digest; 2] {
    let memory = Config { storage: Storage::Memory(MemoryStore::default()), ..config(Path::new(""), &[]) };
    let twin = Running::start(open(world, memory).await);
    twin.projection.catch_up(Instant::now() + PATIENCE).await.unwrap();
    let mut sums = Vec::new();
    for one in [projection, &twin.projection] {
        sums.push(one.digest(&world.tenant, Moment::NOW, |_, _| {}).await.unwrap().unwrap());
    }
    twin.stop().await;
    sums.try_into().unwrap()
}

async fn changes(world: &mut World, group: ResourceId, people: &[ResourceId], count: usize) {
    let key = subject::key_of_id(group);
    for number in 0..count {
        let (added, removed) = (vec![people[number % people.len()]], vec![people[number * 7 % people.len()]]);
        let kind = Kind::MembersChanged { added, removed };
        world.write("Group", group, &key, kind, json!({})).await;
    }
}

/// Asks for one after the other until it is told to end.
struct Reader {
    ends: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Reader {
    fn start(projection: Projection, world: &World, people: &[(ResourceId, String)]) -> Self {
        let (ends, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, counted, tenant, people) =
            (ends.clone(), asked.clone(), world.tenant.clone(), people.to_vec());
        let task = tokio::spawn(async move {
            for (id, name) in people.iter().cycle() {
                let found = projection.resource(&tenant, "User", *id).await.unwrap().unwrap();
                assert_eq!(found.document["userName"], name.as_str());
                counted.fetch_add(1, Ordering::Relaxed);
                if told.load(Ordering::Relaxed) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        Self { ends, asked, task }
    }

    async fn stop(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.asked.load(Ordering::Relaxed)
    }
}

async fn people(world: &mut World, count: usize, of: &str) -> Vec<(ResourceId, String)> {
    let mut people = Vec::new();
    for number in 0..count {
        let name = format!("{of}-{number}");
        people.push((world.user(&name).await, name));
    }
    people
}

/// Waits until all of the log is applied, or no more may be: between two attempts to write, more may come than may wait.
async fn heard_or_full(world: &World, projection: &Projection) {
    let (last, patience) = (world.log.last_sequence().await.unwrap(), Instant::now() + PATIENCE);
    while projection.applied() < last {
        assert!(Instant::now() < patience, "the log is not heard");
        if projection.stalled().is_some() {
            return sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_is_room_again_the_log_is_heard_again_and_all_of_it_is_written() {
    let Some(disk) = Disk::mount() else { return };
    let said = Said::listen();
    let mut world = World::new();
    let config = config(disk.path(), &[]);
    let mut known = people(&mut world, PEOPLE, "before").await;
    let ids: Vec<ResourceId> = known.iter().map(|(id, _)| *id).collect();
    let group = world.group("Team", &ids[..10]).await;
    let running = Running::start(open(&world, config.clone()).await);
    running.projection.catch_up(deadline()).await.unwrap();
    // All of it is on disk soon.
    sleep(MOMENT).await;
    let reader = Reader::start(running.projection.clone(), &world, &known);

    disk.fill();
    let later = people(&mut world, PEOPLE, "while").await;
    running.projection.catch_up(deadline()).await.unwrap();
    assert!(running.projection.readiness().await.is_ok(), "it hears the log until no more may wait");
    changes(&mut world, group, &ids, MORE_THAN_WAITS).await;
    let patience = Instant::now() + PATIENCE;
    while running.projection.stalled().is_none() {
        assert!(Instant::now() < patience, "it does not say that it stands still");
        sleep(Duration::from_millis(20)).await;
    }
    let error = running.projection.readiness().await.unwrap_err();
    assert!(matches!(error, projector::Error::Lagging(_)), "{error}");
    assert!(running.projection.applied() < world.log.last_sequence().await.unwrap());
    assert!(reader.stop().await > 0);
    known.extend(later);
    let reader = Reader::start(running.projection.clone(), &world, &known);

    disk.make_room();
    running.projection.catch_up(Instant::now() + PATIENCE).await.unwrap();
    let patience = Instant::now() + PATIENCE;
    while running.projection.readiness().await.is_err() {
        assert!(Instant::now() < patience, "it is not ready again");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(running.projection.stalled(), None);
    assert!(reader.stop().await > 0);
    assert_eq!(said.count(OPENED_ANEW, &disk), 1);
    let [ours, twins] = sums(&world, &running.projection).await;
    assert_eq!(ours, twins);
    running.stop().await;

    // What is there at once was not built again.
    let last = world.log.last_sequence().await.unwrap();
    let opened = open(&world, config).await;
    assert_eq!(opened.applied(), last, "the rows were not all there");
    let [ours, twins] = sums(&world, &opened).await;
    assert_eq!(ours, twins);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_the_disk_is_full_nothing_that_was_written_is_missing() {
    let Some(disk) = Disk::mount() else { return };
    let said = Said::listen();
    let mut world = World::new();
    let config = config(disk.path(), &[]);
    let ids: Vec<ResourceId> =
        people(&mut world, PEOPLE, "first").await.into_iter().map(|(id, _)| id).collect();
    let group = world.group("Team", &[]).await;
    let running = Running::start(open(&world, config.clone()).await);
    for round in 0..ROUNDS {
        // The disk is full in the middle of it, sometimes before all is written that waited the last time.
        changes(&mut world, group, &ids, 700 * round).await;
        let failed = said.count(FAILED, &disk);
        disk.fill();
        // Until also what sled had to spare is used up.
        let patience = Instant::now() + PATIENCE;
        while said.count(FAILED, &disk) == failed {
            assert!(Instant::now() < patience, "nobody says that it cannot be written: {}", said.all());
            people(&mut world, PEOPLE, &format!("round-{round}")).await;
            heard_or_full(&world, &running.projection).await;
        }
        let again = said.count(WRITTEN_AGAIN, &disk);
        disk.make_room();
        if round % 2 == 1 {
            said.wait_for(WRITTEN_AGAIN, again, &disk).await;
        }
    }
    people(&mut world, PEOPLE, "last").await;
    running.projection.catch_up(Instant::now() + PATIENCE).await.unwrap();
    let [ours, twins] = sums(&world, &running.projection).await;
    assert_eq!(ours, twins);
    running.stop().await;
    assert!(said.count(OPENED_ANEW, &disk) >= ROUNDS / 2);
    let opened = open(&world, config).await;
    assert_eq!(opened.applied(), world.log.last_sequence().await.unwrap(), "the rows were not all there");
    let running = Running::start(opened);
    running.projection.catch_up(deadline()).await.unwrap();
    let [ours, twins] = sums(&world, &running.projection).await;
    assert_eq!(ours, twins);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_finds_no_room_is_written_once_there_is_some() {
    let Some(disk) = Disk::mount() else { return };
    let said = Said::listen();
    let mut world = World::new();
    let config = config(disk.path(), &[]);
    let mut known = people(&mut world, 20, "before").await;
    let running = Running::start(open(&world, config.clone()).await);
    running.projection.catch_up(deadline()).await.unwrap();
    sleep(MOMENT).await;
    disk.fill();
    let (id, key) = (clock::new_resource_id(), world.key("large"));
    let document = json!({"userName": "large", "displayName": "x".repeat(LARGE)});
    world.write("User", id, &key, Kind::Created { members_added: vec![] }, document).await;
    known.push((id, "large".to_string()));
    running.projection.catch_up(deadline()).await.unwrap();
    said.wait_for("there is no room", 0, &disk).await;
    assert!(!running.task.is_finished(), "it ends while there is no room");
    let all_are_there = async |projection: &Projection| {
        for (id, name) in &known {
            let found = projection.resource(&world.tenant, "User", *id).await.unwrap().unwrap();
            assert_eq!(found.document["userName"], name.as_str());
        }
    };
    all_are_there(&running.projection).await;
    disk.make_room();
    said.wait_for(WRITTEN_AGAIN, 0, &disk).await;
    all_are_there(&running.projection).await;
    running.stop().await;
    let opened = open(&world, config).await;
    assert_eq!(opened.applied(), world.log.last_sequence().await.unwrap(), "the rows were not all there");
    all_are_there(&opened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_when_it_starts_is_kept_until_there_is_some() {
    let Some(disk) = Disk::mount() else { return };
    let said = Said::listen();
    let mut world = World::new();
    let config = config(disk.path(), &[]);
    people(&mut world, PEOPLE, "before").await;
    let running = Running::start(open(&world, config.clone()).await);
    running.projection.catch_up(deadline()).await.unwrap();
    running.stop().await;
    let last = world.log.last_sequence().await.unwrap();

    disk.fill();
    let (log, keyring, registry) = (world.log.clone(), world.keyring.clone(), world.registry.clone());
    let error = Projection::open(config.clone(), log, keyring, registry).await.err().unwrap();
    assert!(matches!(error, projector::Error::Folder { .. }), "{error}");
    assert!(error.to_string().contains("make room"), "{error}");

    disk.make_room();
    let opened = open(&world, config).await;
    assert_eq!(opened.applied(), last, "the rows were dropped");
    assert_eq!(said.count("cannot be trusted", &disk), 0);
    let [ours, twins] = sums(&world, &opened).await;
    assert_eq!(ours, twins);
}
