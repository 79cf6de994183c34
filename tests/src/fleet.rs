//! Several gateways on one log: further `rollcall gateway` processes beside a house, and a balancer in front of them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::house::{Client, House, START_MAX, pause, program};

/// A running `rollcall gateway` on the broker of a house. Dropping it kills the process.
pub struct Gateway {
    folder: tempfile::TempDir,
    child: Option<Child>,
    address: SocketAddr,
    admin: SocketAddr,
    base: String,
    token: String,
}

impl Gateway {
    /// Starts a gateway on the house's broker and waits until it is ready.
    pub fn start(house: &House) -> Self {
        Self::start_on(house, house.env("NATS_URL"), None)
    }

    /// Starts a gateway that reaches the house's broker by this URL, with the text of a `rollcall.toml`.
    pub fn start_on(house: &House, nats: &str, configuration: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let log = std::fs::File::create(folder.path().join("log")).expect("the log can be made");
        // The same installation has the same master key.
        let key = std::fs::read_to_string(house.data_dir().join("master.key")).expect("the house has a key");
        let mut command = Command::new(program());
        command
            .args(["gateway", "--scim-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--nats", nats, "--master-key", key.trim()])
            .arg("--data-dir")
            .arg(folder.path().join("var"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log);
        if let Some(text) = configuration {
            let path = folder.path().join("rollcall.toml");
            std::fs::write(&path, text).expect("the configuration can be written");
            command.arg("--config").arg(path);
        }
        let mut child = command.spawn().expect("rollcall can be started");
        let text = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let begun = Instant::now();
        let (address, admin) = loop {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                panic!("a gateway ended at start with {status}:\n{}", text());
            }
            let log = text();
            if let (Some(address), Some(admin)) = (told(&log, "SCIM is served"), told(&log, "ready address"))
            {
                break (address, admin);
            }
            if begun.elapsed() > START_MAX {
                let _ = child.kill();
                let _ = child.wait();
                panic!("a gateway was not ready in time:\n{log}");
            }
            pause();
        };
        let base = at(house.env("SCIM_URL"), address);
        let token = house.env("SCIM_TOKEN").to_string();
        Self { folder, child: Some(child), address, admin, base, token }
    }

    /// The SCIM endpoint of tenant `corp` at this gateway.
    pub fn corp(&self) -> Client {
        Client::new(&self.base, &self.token)
    }

    /// Where it serves SCIM.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it measures: the text of `/metrics`.
    pub fn metrics(&self) -> String {
        Client::new(&format!("http://{}", self.admin), "").get("/metrics").expect(200).text
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Kills the process with SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the child can be killed");
            child.wait().expect("the child can be waited for");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("---- the log of the gateway at {} ----\n{}", self.address, self.log());
        }
    }
}

/// The address in the line of a log that says this.
fn told(log: &str, what: &str) -> Option<SocketAddr> {
    let (whole, _) = log.rsplit_once('\n')?;
    let line = whole.lines().find(|line| line.contains(what))?;
    line.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
}

/// A URL with another host.
fn at(url: &str, address: SocketAddr) -> String {
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    format!("http://{address}/{path}")
}

/// A balancer: each connection goes to the next gateway.
pub struct Balancer {
    address: SocketAddr,
}

impl Balancer {
    /// Starts forwarding to these in turn.
    pub fn start(upstreams: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let turn = AtomicUsize::new(0);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let upstream = upstreams[turn.fetch_add(1, Ordering::Relaxed) % upstreams.len()];
                let Ok(server) = TcpStream::connect(upstream) else { continue };
                forward(client, server);
            }
        });
        Self { address }
    }

    /// The same endpoint as the client's, behind the balancer. With [`ONCE`] each of its requests goes to another
    /// gateway than the one before.
    pub fn in_front_of(&self, house: &House) -> Client {
        Client::new(&at(house.env("SCIM_URL"), self.address), house.env("SCIM_TOKEN"))
    }
}

/// Ends the connection after the answer.
pub const ONCE: (&str, &str) = ("Connection", "close");

fn forward(client: TcpStream, server: TcpStream) {
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}
