//! The house in simulation: two processes over one log in memory, in virtual time, with faults that a seed decides; and
//! what must be true afterwards.
//!
//! Everything that the processes do to the world goes through a [`eventlog::memory::Line`], a store's twin or the app's
//! wire, so killing one means to cut these. Start reading at [`run`].

pub mod app;
pub mod calm;
pub mod check;
pub mod client;
pub mod ending;
pub mod history;
pub mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventlog::Keyring;
use eventlog::clock::Simulated;
use eventlog::memory::{Chance, Cluster, Line, Weather};
use proto::sealing::DataKey;
use scim::{Dialect, Registry};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use app::App;
use client::Common;
use history::History;
use process::{Place, TENANT, World, app_config};

/// Clients at work at the same time.
const CLIENTS: usize = 4;
/// What each of them asks for.
const REQUESTS: usize = 14;
/// How long a process lives, and how long it is away, at most.
const LIFE_MAX: Duration = Duration::from_secs(12);
const AWAY_MAX: Duration = Duration::from_secs(4);
/// After this nobody can still be at work, unless somebody waits for what never comes.
const WORK_MAX: Duration = Duration::from_secs(3600);

/// What a seed came to.
pub struct Report {
    /// What is wrong, in sentences.
    pub wrong: Vec<String>,
    /// Of the whole log.
    pub digest: String,
    /// How much happened.
    pub events: usize,
    /// Requests, and those that were answered with a success.
    pub requests: (usize, usize),
    /// How often a process was killed.
    pub kills: u64,
    /// Calls to the app.
    pub calls: usize,
}

/// Runs a seed. The runtime must be single-threaded and its time paused.
pub async fn run(seed: u64, weather: Weather) -> Report {
    let _simulated = Simulated::begin(seed).expect("one simulation at a time");
    let chance = Chance::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed);
    let cluster = Cluster::default();
    let broker = cluster.connect(&Arc::new(Line::new(0, Weather::default())));
    let keyring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
    let registry = Arc::new(Registry::built_in().expect("the schemas"));
    let app = App::new(chance.next());
    let scope = chance.strikes(400).then(|| "active eq true".to_string());
    let world = World {
        cluster,
        calm: (broker, keyring),
        config: app_config(&registry, scope.as_deref()),
        registry,
        app,
        scope,
        weather,
        failures: Arc::default(),
    };
    let token = prepare(&world).await;
    let places: Arc<Vec<(Place, AtomicU64)>> =
        Arc::new((0..2).map(|number| (Place::new(&format!("p{number}")), AtomicU64::new(0))).collect());
    let common = Common::default();
    let mut keepers = JoinSet::new();
    let kills = Arc::new(AtomicU64::new(0));
    for number in 0..places.len() {
        keepers.spawn(keep(world.clone(), places.clone(), number, chance.fork(), kills.clone()));
    }
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (world, places, common) = (world.clone(), places.clone(), common.clone());
        clients.spawn(client::work(world, places, common, (token.clone(), number), chance.fork(), REQUESTS));
    }
    let working = async {
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client")
        }
    };
    if tokio::time::timeout(WORK_MAX, working).await.is_err() {
        world.fail("clients wait for ever".to_string());
    }
    keepers.shutdown().await;
    let mut wrong = ending::converge(&world, &places, chance.next()).await;
    let history = History::read(&world.cluster.identity, &world.calm.1).await;
    let dialogues = common.dialogues();
    wrong.extend(check::uniqueness(&history));
    wrong.extend(check::dialogues(&history, &dialogues));
    wrong.extend(world.failures.lock().expect("no panic").clone());
    let answered =
        |dialogue: &&client::Dialogue| matches!(dialogue.told, client::Told::Answer(200..=299, ..));
    Report {
        wrong,
        digest: digest(&world),
        events: history.entries.len(),
        requests: (dialogues.len(), dialogues.iter().filter(answered).count()),
        kills: kills.load(Ordering::SeqCst),
        calls: world.app.calls().len(),
    }
}

async fn prepare(world: &World) -> String {
    let (broker, _) = &world.calm;
    eventlog::subject_secret(broker, &DataKey::new([1; 32])).await.expect("a secret");
    let tenant = TENANT.parse().expect("a tenant");
    let minted = gateway::mint(&*broker.control, &tenant, "hr", Dialect::Rfc, None, "", None).await;
    minted.expect("a token").secret
}

/// Keeps a process alive, and kills it now and then.
async fn keep(
    world: World,
    places: Arc<Vec<(Place, AtomicU64)>>,
    number: usize,
    chance: Chance,
    kills: Arc<AtomicU64>,
) {
    let (place, life) = &places[number];
    loop {
        // Some die before they serve.
        let start = place.start(&world, chance.next(), true);
        let impatience = if chance.strikes(150) { Duration::from_millis(300) } else { WORK_MAX };
        if tokio::time::timeout(chance.up_to(impatience), start).await.is_ok() {
            life.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(chance.up_to(LIFE_MAX)).await;
        }
        place.kill(&chance);
        kills.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(chance.up_to(AWAY_MAX)).await;
    }
}

fn digest(world: &World) -> String {
    let mut digest = Sha256::new();
    for stream in [&world.cluster.identity, &world.cluster.provisioning] {
        for message in stream.messages() {
            digest.update(message.subject.as_bytes());
            digest.update(&message.payload);
            digest.update(message.time.as_nanosecond().to_le_bytes());
        }
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
