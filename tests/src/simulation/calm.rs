//! A house in virtual time: one process over one log, with an app that answers at once and a broker that loses nothing.
//! For what takes days, and for what must hold after every restart.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::AppConfig;
use eventlog::Keyring;
use eventlog::clock::Simulated;
use eventlog::memory::{Chance, Cluster, Line, Weather};
use http::Method;
use proto::sealing::DataKey;
use scim::Registry;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::app::{Account, App};
use super::client::{self, Asked, Told, Wish};
use super::process::{Place, World};

/// How long the app may take to hold what it should.
const SETTLED_MAX: Duration = Duration::from_secs(3600);

/// The house. The runtime must be single-threaded and its time paused.
pub struct Calm {
    /// What outlives the process.
    pub world: World,
    place: Place,
    token: String,
    chance: Chance,
    lives: u64,
    /// Its clock is ours.
    _simulated: Simulated,
}

impl Calm {
    /// A house that serves, with this app.
    pub async fn start(seed: u64, weather: Weather, config: impl FnOnce(&Registry) -> AppConfig) -> Self {
        let simulated = Simulated::begin(seed).expect("one simulation at a time");
        let chance = Chance::new(seed ^ 0xca1a);
        let cluster = Cluster::default();
        let broker = cluster.connect(&Arc::new(Line::new(0, Weather::default())));
        let keyring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
        let registry = Arc::new(Registry::built_in().expect("the schemas"));
        let app = App::new(chance.next());
        app.calm();
        let world = World {
            cluster,
            calm: (broker, keyring),
            config: config(&registry),
            registry,
            app,
            scope: None,
            weather,
            failures: Arc::default(),
        };
        let token = super::prepare(&world).await;
        let place = Place::new("calm");
        let mut house = Self { world, place, token, chance, lives: 0, _simulated: simulated };
        house.restart().await;
        house
    }

    /// Kills the process.
    pub fn kill(&self) {
        self.place.kill(&self.chance);
    }

    /// Starts the process again.
    pub async fn restart(&mut self) {
        self.kill();
        self.lives += 1;
        self.place.start(&self.world, self.lives, true).await;
    }

    /// The process is dead for so long, then it starts again.
    pub async fn away(&mut self, time: Duration) {
        self.kill();
        tokio::time::sleep(time).await;
        self.restart().await;
    }

    /// Starts the process again, without any watermark: everything is planned.
    pub async fn plan_everything(&mut self) {
        self.kill();
        let leases = self.world.calm.0.leases.clone();
        if let Some((_, revision)) = leases.get("watermark.app").await.expect("a bucket") {
            leases.update("watermark.app", "gone".into(), revision).await.expect("a bucket");
        }
        self.restart().await;
    }

    /// A request, and its answer's body.
    pub async fn ask(&self, method: Method, path: &str, body: Value, expected: u16) -> Value {
        let asked = Asked { method, path: path.to_string(), body, expected: None, wish: Wish::default() };
        let running = self.place.running().expect("a process");
        match client::ask(running.router.clone(), &self.token, &asked).await {
            Told::Answer(status, _, body) => {
                assert_eq!(status, expected, "{asked:?}: {body}");
                body
            }
            Told::Nothing => unreachable!("nobody gives up here"),
        }
    }

    /// Makes a resource; its id.
    pub async fn create(&self, path: &str, body: Value) -> String {
        self.ask(Method::POST, path, body, 201).await["id"].as_str().expect("an id").to_string()
    }

    /// Changes a resource.
    pub async fn patch(&self, path: &str, operations: Value) {
        let body =
            json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
        self.ask(Method::PATCH, path, body, 200).await;
    }

    /// Ends a resource.
    pub async fn delete(&self, path: &str) {
        self.ask(Method::DELETE, path, Value::Null, 204).await;
    }

    /// Waits until nothing is due at the app.
    pub async fn settle(&self) {
        let deadline = Instant::now() + SETTLED_MAX;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let last = self.world.cluster.identity.last_sequence();
            let status = self.place.running().and_then(|running| (running.statuses)().remove("app"));
            if status.as_ref().is_some_and(|status| status.due == 0 && status.watermark >= last) {
                break;
            }
            assert!(Instant::now() < deadline, "it does not settle: {status:?} {:?}", self.world.app.calls());
        }
        let failures = self.world.failures.lock().expect("no panic").clone();
        assert!(failures.is_empty(), "{failures:?}");
    }

    /// Waits until this is true.
    pub async fn until(&self, what: &str, is_true: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SETTLED_MAX;
        while !is_true(self) {
            assert!(Instant::now() < deadline, "{what}: never; {:#?}", self.world.app.calls());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.settle().await;
        assert!(is_true(self), "{what}: not for long");
    }

    /// How the app is.
    pub fn status(&self) -> dispatcher::Status {
        let status = self.place.running().and_then(|running| (running.statuses)().remove("app"));
        status.unwrap_or_default()
    }

    /// The account at the app with this attribute.
    pub fn account(&self, endpoint: &str, attribute: &str, value: &str) -> Option<Account> {
        let mut accounts = self.world.app.accounts().remove(endpoint)?.into_values();
        accounts.find(|account| account.get(attribute).and_then(Value::as_str) == Some(value))
    }

    /// What was asked of the app since there were so many calls.
    pub fn calls_since(&self, count: usize) -> Vec<String> {
        self.world.app.calls().split_off(count)
    }
}
