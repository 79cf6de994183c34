//! An installation of several processes, as it stands in production: brokers, two gateways, a projector, each of which can
//! be killed by itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Client;
use crate::cluster::Cluster;
use crate::fold::LogEvent;
use crate::house::{pause, program};
use crate::process::{Process, free_port};

/// The tenant that is written to.
pub const TENANT: &str = "corp";
/// How many gateways there are.
pub const GATEWAYS: usize = 2;
/// How long a process may take until it is ready, with everything it needs running.
const READY_MAX: Duration = Duration::from_secs(180);
/// How long a look at a process may take.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// The key of these tests; nobody's data is under it.
const MASTER_KEY: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";

/// All processes. Dropping it kills them.
pub struct Site {
    /// The brokers.
    pub cluster: Cluster,
    folder: PathBuf,
    nodes: Vec<Node>,
    token: String,
    replicas: usize,
}

/// A process of ours and where it answers.
struct Node {
    process: Process,
    scim: u16,
    admin: Client,
    /// Whether it has been ready since it was started.
    ready: bool,
}

/// A process that ended though nobody killed it.
#[derive(Debug)]
pub struct Ended {
    /// Whether it had been ready before: then it must not end.
    pub after_ready: bool,
    /// Which, how, and its last words.
    pub text: String,
}

impl Site {
    /// Starts so many brokers, two gateways and a projector below `folder`, and waits until all are ready.
    pub fn start(folder: &Path, brokers: usize, request_timeout: Duration) -> Self {
        let cluster = Cluster::start(&folder.join("brokers"), brokers);
        let configuration = format!(
            "[gateway]\npublic_url = \"http://scim.corp.test\"\n[gateway.limits]\nrequest_timeout_ms = {}\n",
            request_timeout.as_millis()
        );
        std::fs::write(folder.join("rollcall.toml"), configuration)
            .expect("the configuration can be written");
        let mut site = Self {
            cluster,
            folder: folder.to_path_buf(),
            nodes: Vec::new(),
            token: String::new(),
            replicas: brokers,
        };
        for number in 0..GATEWAYS {
            let node = site.node(&format!("gateway-{number}"), "gateway");
            site.nodes.push(node);
        }
        let projector = site.node("projector", "projector");
        site.nodes.push(projector);
        for number in 0..site.nodes.len() {
            site.start_again(number);
        }
        site.until_ready("everything has just been started");
        let made = site.rollcall(&["token", "create", "--tenant", TENANT, "--source", "torture"]);
        site.token = made.lines().find(|line| line.starts_with("rc_")).expect("a token").to_string();
        site
    }

    fn node(&self, name: &str, role: &str) -> Node {
        let (scim, admin) = (free_port(), free_port());
        let data = self.folder.join(name);
        let (scim_address, admin_address) = (format!("127.0.0.1:{scim}"), format!("127.0.0.1:{admin}"));
        let mut arguments = vec![role, "--admin-listen", &admin_address];
        if role == "gateway" {
            arguments.extend(["--scim-listen", &scim_address]);
        }
        let process = Process::new(name, &program(), &self.folder, &arguments)
            .with("ROLLCALL_DATA_DIR", data.to_str().expect("a path of letters"));
        let process =
            self.environment().into_iter().fold(process, |process, (name, value)| process.with(name, &value));
        let admin = Client::quick(&format!("http://{admin_address}"), "", LOOK_MAX);
        Node { process, scim, admin, ready: false }
    }

    fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("ROLLCALL_CONFIG", self.folder.join("rollcall.toml").display().to_string()),
            ("ROLLCALL_NATS", self.cluster.url()),
            ("ROLLCALL_NATS_REPLICAS", self.replicas.to_string()),
            ("ROLLCALL_MASTER_KEY", MASTER_KEY.to_string()),
        ]
    }

    /// How many processes of ours there are: the gateways first, then the projector.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    fn at(&mut self, number: usize) -> &mut Node {
        self.nodes.get_mut(number).expect("a process of the site")
    }

    /// Starts a process again on its folder.
    pub fn start_again(&mut self, number: usize) {
        let node = self.at(number);
        if !node.process.runs() {
            node.ready = false;
            node.process.start();
        }
    }

    /// Kills a process with SIGKILL; returns whether it ran.
    pub fn kill(&mut self, number: usize) -> bool {
        self.at(number).process.kill()
    }

    /// What a process said.
    pub fn log(&self, number: usize) -> String {
        self.nodes.get(number).expect("a process of the site").process.log()
    }

    /// Processes of ours that ended by themselves. They are started again, as a service manager would.
    pub fn ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        for node in &mut self.nodes {
            if !node.ready && node.process.runs() {
                node.ready = ready(node).is_ok();
            }
            if let Some(status) = node.process.ended() {
                let words = node.process.last_words();
                let text = format!("{} ended by itself with {status}:\n{words}", node.process.name);
                ended.push(Ended { after_ready: node.ready, text });
                node.ready = false;
                node.process.start();
            }
        }
        ended
    }

    /// Waits until every process of ours is ready; starts those again that give up meanwhile.
    pub fn until_ready(&mut self, after: &str) -> Vec<Ended> {
        let (begun, mut all) = (Instant::now(), Vec::new());
        loop {
            all.extend(self.ended());
            let waiting: Option<String> = self.nodes.iter_mut().find_map(|node| {
                let name = node.process.name.clone();
                let result = ready(node);
                node.ready |= result.is_ok();
                result.err().map(|reason| format!("{name}: {reason}\n{}", node.process.last_words()))
            });
            let Some(waiting) = waiting else { return all };
            assert!(begun.elapsed() < READY_MAX, "not ready within {READY_MAX:?} after {after}: {waiting}");
            pause();
        }
    }

    /// A client of one gateway.
    pub fn client(&self, gateway: usize) -> Client {
        let port = self.nodes.get(gateway).expect("a gateway of the site").scim;
        Client::new(&format!("http://127.0.0.1:{port}/t/{TENANT}/scim/v2"), &self.token)
    }

    /// Runs an operator's command against the brokers and returns what it printed.
    pub fn rollcall(&self, arguments: &[&str]) -> String {
        let output = Command::new(program())
            .args(arguments)
            .envs(self.environment())
            .env("ROLLCALL_DATA_DIR", self.folder.join("operator"))
            .output()
            .expect("rollcall can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rollcall {arguments:?} failed: {said}");
        String::from_utf8(output.stdout).expect("rollcall prints UTF-8")
    }

    /// The log, read independently of all that runs.
    pub fn events(&self) -> Vec<LogEvent> {
        let text =
            self.rollcall(&["events", "tail", "--from", "1", "--tenant", TENANT, "--json", "--no-follow"]);
        text.lines().map(|line| LogEvent::read(line).unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    /// One more gateway, whose projection is built from nothing; it runs from now on.
    pub fn rebuilt(&mut self) -> usize {
        let number = self.nodes.len();
        let node = self.node(&format!("rebuilt-{number}"), "gateway");
        self.nodes.push(node);
        self.start_again(number);
        self.until_ready("a gateway without a projection was started");
        number
    }
}

fn ready(node: &Node) -> Result<(), String> {
    match node.admin.try_send("GET", "/readyz", &[], None) {
        Ok(reply) if reply.status == 200 => Ok(()),
        Ok(reply) => Err(reply.text),
        Err(error) => Err(error.to_string()),
    }
}
