//! Real brokers of our own: one alone, or three as a JetStream cluster on loopback, each with its own folder. They can be
//! killed, frozen, cut off from one another, and started again on what they had written.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::Client;
use crate::house::pause;
use crate::process::{Process, free_port};
use crate::routes::{Routes, server_name};

/// How long brokers may take to agree again.
pub const HEALTHY_MAX: Duration = Duration::from_secs(180);
/// How long one question to a broker may take.
const ASKED_MAX: Duration = Duration::from_secs(2);
/// The folder of a broker's store.
const STORE: &str = "jetstream";
const USER: &str = "rollcall";

/// The brokers. Dropping them kills them.
pub struct Cluster {
    brokers: Vec<Broker>,
    routes: Option<Routes>,
    password: String,
    runtime: Runtime,
}

struct Broker {
    process: Process,
    store: PathBuf,
    port: u16,
    monitor: Client,
}

/// The program, found as the product finds it.
pub fn nats_server() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "a test looks where a shell would")]
    let path = std::env::var("PATH").unwrap_or_default();
    eventlog::server::find(None, &path).unwrap_or_else(|error| panic!("{error}"))
}

impl Cluster {
    /// Starts so many brokers (1 or 3) below `folder` and waits until they can serve.
    pub fn start(folder: &Path, count: usize) -> Self {
        let program = nats_server();
        let ports: Vec<[u16; 3]> = (0..count).map(|_| [free_port(), free_port(), free_port()]).collect();
        let password = format!("{:016x}", crate::random::Random::new(u64::from(std::process::id())).number());
        let route_ports: Vec<u16> = ports.iter().map(|[_, _, route]| *route).collect();
        let routes = (count > 1).then(|| Routes::start(&route_ports));
        let mut brokers = Vec::new();
        for (number, [port, monitor, route]) in ports.into_iter().enumerate() {
            let home = folder.join(server_name(number));
            std::fs::create_dir_all(&home).expect("a folder can be made");
            let mut text = settings(&home, number, port, monitor, &password);
            if let Some(routes) = &routes {
                text.push_str(&cluster_settings(routes, number, route, count, &password));
            }
            let file = home.join("nats-server.conf");
            std::fs::write(&file, text).expect("a file can be written");
            let arguments = ["--config", file.to_str().expect("a path of letters")];
            let mut process = Process::new(&server_name(number), &program, folder, &arguments);
            process.start();
            let monitor = Client::quick(&format!("http://127.0.0.1:{monitor}"), "", ASKED_MAX);
            brokers.push(Broker { process, store: home.join(STORE), port, monitor });
        }
        let runtime = Runtime::new().expect("a runtime can be made");
        let cluster = Self { brokers, routes, password, runtime };
        cluster.until_healthy("the brokers have just been started");
        cluster
    }

    /// How many brokers there are.
    pub fn count(&self) -> usize {
        self.brokers.len()
    }

    /// The URLs of all brokers, as `--nats` takes them.
    pub fn url(&self) -> String {
        (0..self.count()).map(|number| self.url_of(number)).collect::<Vec<_>>().join(",")
    }

    /// The URL of one broker.
    pub fn url_of(&self, number: usize) -> String {
        let broker = self.brokers.get(number).expect("a broker of the cluster");
        format!("nats://{USER}:{}@127.0.0.1:{}", self.password, broker.port)
    }

    fn process(&mut self, number: usize) -> &mut Process {
        &mut self.brokers.get_mut(number).expect("a broker of the cluster").process
    }

    /// Kills a broker with SIGKILL; returns whether it ran.
    pub fn kill(&mut self, number: usize) -> bool {
        self.process(number).kill()
    }

    /// Starts a broker again on its folder.
    pub fn start_again(&mut self, number: usize) {
        let broker = self.brokers.get_mut(number).expect("a broker of the cluster");
        if broker.process.runs() {
            return;
        }
        // Killed while it tried whether its store can be written, a broker leaves a folder `_test_NUMBER` there; later ones
        // take it for an account, and /healthz never says that all is well again.
        for entry in std::fs::read_dir(&broker.store).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("_test_") {
                let path = entry.path();
                let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
            }
        }
        broker.process.start();
    }

    /// Whether a broker's process runs.
    pub fn runs(&mut self, number: usize) -> bool {
        self.process(number).runs()
    }

    /// Freezes a broker: its connections stay open and nobody answers.
    pub fn freeze(&mut self, number: usize) {
        self.process(number).freeze();
    }

    /// Lets a frozen broker go on.
    pub fn thaw(&mut self, number: usize) {
        self.process(number).thaw();
    }

    /// Cuts a broker off from the others; clients still reach it.
    pub fn cut_off(&self, number: usize) {
        self.routes.as_ref().expect("a cluster of several").cut(number);
    }

    /// Ends every cut.
    pub fn mend(&self) {
        if let Some(routes) = &self.routes {
            routes.mend();
        }
    }

    /// The brokers that ended though nobody killed them, with their last words.
    pub fn ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for broker in &mut self.brokers {
            if let Some(status) = broker.process.ended() {
                let words = broker.process.last_words();
                ended.push(format!("{} ended by itself with {status}:\n{words}", broker.process.name));
            }
        }
        ended
    }

    /// Whether a broker takes connections.
    pub fn listens(&self, number: usize) -> bool {
        let port = self.brokers.get(number).expect("a broker of the cluster").port;
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), ASKED_MAX).is_ok()
    }

    /// Why the brokers cannot all serve and hold the same; nothing when they can.
    fn ailment(&self) -> Option<String> {
        self.brokers.iter().find_map(|broker| {
            let name = &broker.process.name;
            match broker.monitor.try_send("GET", "/healthz", &[], None) {
                Ok(reply) if reply.status == 200 => None,
                Ok(reply) => Some(format!("{name}: {}", reply.text)),
                Err(error) => Some(format!("{name}: {error}")),
            }
        })
    }

    /// Waits until every broker says that it holds everything and can serve.
    #[track_caller]
    pub fn until_healthy(&self, after: &str) {
        let begun = Instant::now();
        while let Some(ailment) = self.ailment() {
            assert!(
                begun.elapsed() < HEALTHY_MAX,
                "not healthy within {HEALTHY_MAX:?} after {after}: {ailment}"
            );
            pause();
        }
    }

    /// What a broker answers to a request of the JetStream API, or nothing when it does not answer in time.
    pub fn ask(&self, number: usize, subject: &str) -> Option<Value> {
        let port = self.brokers.get(number).expect("a broker of the cluster").port;
        self.runtime.block_on(async {
            let asking = async {
                let client = self.options().connect(format!("127.0.0.1:{port}")).await.ok()?;
                let reply = client.request(subject.to_string(), "".into()).await.ok()?;
                serde_json::from_slice(&reply.payload).ok()
            };
            tokio::time::timeout(ASKED_MAX, asking).await.ok()?
        })
    }

    /// The number of the broker that leads a stream, if the others know one.
    pub fn leader(&self, stream: &str) -> Option<usize> {
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        let info = (0..self.count()).find_map(|number| self.ask(number, &subject))?;
        let leader = info["cluster"]["leader"].as_str()?.to_string();
        (0..self.count()).find(|number| server_name(*number) == leader)
    }

    /// What a broker's process said.
    pub fn log(&self, number: usize) -> String {
        self.brokers.get(number).expect("a broker of the cluster").process.log()
    }

    fn options(&self) -> async_nats::ConnectOptions {
        async_nats::ConnectOptions::with_user_and_password(USER.to_string(), self.password.clone())
    }
}

fn settings(home: &Path, number: usize, port: u16, monitor: u16, password: &str) -> String {
    let name = server_name(number);
    format!(
        "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\nmax_payload: 8MB\n\
         jetstream {{\n  store_dir: \"{}\"\n  sync_interval: always\n}}\n\
         authorization {{\n  user: {USER}\n  password: \"{password}\"\n}}\n",
        home.display()
    )
}

/// Others are reached through the proxies only: those are what is written here and what brokers tell one another.
fn cluster_settings(routes: &Routes, number: usize, port: u16, count: usize, password: &str) -> String {
    let others: Vec<String> = (0..count)
        .filter(|other| *other != number)
        .map(|other| format!("\"nats://{USER}:{password}@{}\"", routes.address(other)))
        .collect();
    format!(
        "cluster {{\n  name: rollcall\n  listen: \"127.0.0.1:{port}\"\n  advertise: \"{}\"\n  no_advertise: true\n  \
         authorization {{\n    user: {USER}\n    password: \"{password}\"\n  }}\n  routes: [{}]\n}}\n",
        routes.address(number),
        others.join(", ")
    )
}
