//! `rollcall up` as a child process with a data folder of its own, spoken to over HTTP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::apps::App;

/// How long starting may take on a busy machine.
pub(crate) const START_MAX: Duration = Duration::from_secs(120);
/// How long a condition may take to become true.
pub const SOON: Duration = Duration::from_secs(60);

/// What a house is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More flags for `rollcall up`.
    pub flags: Vec<String>,
    /// The text of `rollcall.toml`.
    pub configuration: Option<String>,
    /// Files beside it, by name.
    pub files: Vec<(String, String)>,
}

/// A running `rollcall up`. Dropping it kills the process and what it started.
pub struct House {
    folder: tempfile::TempDir,
    options: Options,
    /// Where SCIM is served; port 0 unless a test wants the same one again.
    listen: String,
    child: Option<Child>,
    env: BTreeMap<String, String>,
}

/// The `rollcall` program that cargo built beside this test.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    // Tests stand in target/PROFILE/deps, benchmarks in target/PROFILE.
    let mut beside = test.ancestors().skip(1).take(2).map(|folder| folder.join("rollcall"));
    let program = beside.find(|program| program.is_file()).unwrap_or_else(|| test.with_file_name("rollcall"));
    assert!(program.exists(), "{} is not built: run `cargo build --bin rollcall`", program.display());
    program
}

impl House {
    /// Starts everything in a new folder and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts everything with these options and waits until it is ready.
    pub fn start_with(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut house =
            Self { folder, options, listen: "127.0.0.1:0".to_string(), child: None, env: BTreeMap::new() };
        house.start_again();
        house
    }

    /// Starts a house without the demo whose dispatcher keeps these apps in step, each with further lines of its section.
    pub fn feeding(apps: &[(&str, &App, &str)]) -> Self {
        let sections = apps.iter().map(|(name, app, more)| app.configuration(name, more));
        let configuration = Some(sections.collect::<String>());
        Self::start_with(Options { configuration, flags: vec!["--no-demo".to_string()], files: Vec::new() })
    }

    /// Starts the process again on the same data and waits until it is ready.
    pub fn start_again(&mut self) {
        self.begin();
        self.ready();
    }

    /// Starts the process again, and does not wait.
    pub fn begin(&mut self) {
        self.begin_as(self.command());
    }

    /// The same by this command, which begins as [`House::command`].
    pub fn begin_as(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "the house still runs");
        let _ = std::fs::remove_file(self.data_dir().join("dev.env"));
        self.child = Some(command.spawn().expect("rollcall can be started"));
    }

    /// Waits until what was begun is ready.
    pub fn ready(&mut self) {
        let begun = Instant::now();
        loop {
            let child = self.child.as_mut().expect("the house was begun");
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                panic!("rollcall ended at start with {status}:\n{}", self.log());
            }
            if let Some(env) = read_env(&self.data_dir().join("dev.env")) {
                self.env = env;
                break;
            }
            assert!(begun.elapsed() < START_MAX, "rollcall was not ready in time:\n{}", self.log());
            pause();
        }
    }

    /// The command that starts this house.
    pub fn command(&self) -> Command {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("the log can be opened");
        let mut command = Command::new(program());
        for (name, text) in &self.options.files {
            std::fs::write(self.folder.path().join(name), text).expect("a file can be written");
        }
        command
            .args(["up", "--scim-listen", &self.listen, "--admin-listen", "127.0.0.1:0", "--nats-port", "0"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.options.flags)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log);
        if let Some(text) = &self.options.configuration {
            let path = self.folder.path().join("rollcall.toml");
            std::fs::write(&path, text).expect("the configuration can be written");
            command.arg("--config").arg(path);
        }
        command
    }

    /// Has this configuration from the next start on, or when it is told to read it again.
    pub fn configure(&mut self, text: &str) {
        self.options.configuration = Some(text.to_string());
        std::fs::write(self.folder.path().join("rollcall.toml"), text)
            .expect("the configuration can be written");
    }

    /// Has this text in a file beside the configuration from the next start on.
    pub fn place(&mut self, file: &str, text: &str) {
        self.options.files.retain(|(name, _)| name != file);
        self.options.files.push((file.to_string(), text.to_string()));
    }

    /// Has the process read its configuration again (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Asks the process to end (SIGTERM) and does not wait.
    pub fn tell_to_stop(&self) {
        self.signal(libc::SIGTERM);
    }

    fn signal(&self, signal: libc::c_int) {
        let child = self.child.as_ref().expect("the house runs");
        let pid = libc::pid_t::try_from(child.id()).expect("a pid fits");
        // SAFETY: a signal to our own child, which has not been waited for yet.
        #[expect(unsafe_code, reason = "the standard library has no call for SIGHUP and SIGTERM")]
        unsafe {
            libc::kill(pid, signal);
        }
    }

    /// Serves SCIM on this address from the next start on.
    pub fn listen_on(&mut self, address: &str) {
        self.listen = address.to_string();
    }

    /// Kills the whole process with SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the child can be killed");
            child.wait().expect("the child can be waited for");
        }
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("the child can be asked").is_some())
    }

    /// Waits until the process has ended by itself; returns what it said last.
    pub fn ended(&mut self) -> String {
        let mut child = self.child.take().expect("the house was begun");
        let status = eventually("the house ends", || child.try_wait().expect("the child can be asked"));
        assert!(!status.success(), "{}", self.log());
        self.log().lines().last().unwrap_or_default().to_string()
    }

    /// Asks the process to end (SIGTERM) and waits; returns whether it ended with success.
    pub fn stop(&mut self) -> bool {
        if self.child.is_none() {
            return false;
        }
        self.tell_to_stop();
        let Some(mut child) = self.child.take() else { return false };
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                return status.success();
            }
            if begun.elapsed() > START_MAX {
                let _ = child.kill();
                let _ = child.wait();
                panic!("rollcall did not end on SIGTERM:\n{}", self.log());
            }
            pause();
        }
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("var")
    }

    /// What the process printed and logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A value of `dev.env`.
    pub fn env(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("dev.env has no {name}: {:?}", self.env.keys()))
    }

    /// The SCIM endpoint of tenant `corp`, with its token.
    pub fn corp(&self) -> Client {
        Client::new(self.env("SCIM_URL"), self.env("SCIM_TOKEN"))
    }

    /// The SCIM endpoint of the app's tenant, with its token.
    pub fn app(&self) -> Client {
        Client::new(self.env("APP_URL"), self.env("APP_TOKEN"))
    }

    /// Runs an operator's command against this house and returns what it printed.
    pub fn rollcall(&self, arguments: &[&str]) -> String {
        let output = self.attempt(arguments);
        assert!(
            output.status.success(),
            "rollcall {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("rollcall prints UTF-8")
    }

    /// Runs an operator's command against this house, whatever comes of it.
    pub fn attempt(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(program())
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .current_dir(self.folder.path())
            .output()
            .expect("rollcall can be started")
    }

    /// A token of tenant `corp` for a client of this dialect.
    pub fn token(&self, dialect: &str) -> String {
        self.token_of("corp", dialect, dialect)
    }

    /// A token of this tenant, source and dialect.
    pub fn token_of(&self, tenant: &str, source: &str, dialect: &str) -> String {
        self.rollcall(&["token", "create", "--tenant", tenant, "--source", source, "--dialect", dialect])
            .lines()
            .find(|line| line.starts_with("rc_"))
            .expect("the token stands on a line of its own")
            .to_string()
    }

    /// The identity log's events of one tenant, as `events tail` prints them.
    pub fn events(&self, tenant: &str) -> Vec<Value> {
        self.rollcall(&["events", "tail", "--from", "1", "--tenant", tenant, "--json", "--no-follow"])
            .lines()
            .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
            .collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- the house's log ----\n{}", self.log());
        }
    }
}

fn read_env(path: &Path) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_string(), value.trim_matches('\'').to_string()))
            .collect(),
    )
}

/// A moment between two looks at a condition.
#[expect(clippy::disallowed_methods, reason = "the only pause between two looks at a bounded condition")]
pub fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Looks again and again until `look` finds what it wants; fails with `what` when it takes too long.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        pause();
    }
}

/// A SCIM client of one base URL and one token.
#[derive(Clone)]
pub struct Client {
    http: reqwest::blocking::Client,
    base: String,
    token: String,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub text: String,
    /// The body as JSON, or null.
    pub body: Value,
}

impl Reply {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The resource's id.
    #[track_caller]
    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}")).to_string()
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Client {
    /// A client of this base URL that presents this token.
    pub fn new(base: &str, token: &str) -> Self {
        Self::quick(base, token, Duration::from_secs(60))
    }

    /// A client that does not wait longer than this for an answer.
    pub fn quick(base: &str, token: &str, timeout: Duration) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::blocking::Client::builder()
            .no_proxy()
            .user_agent("street")
            .timeout(timeout)
            .pool_max_idle_per_host(64)
            .build()
            .expect("an HTTP client can be made");
        Self { http, base: base.trim_end_matches('/').to_string(), token: token.to_string() }
    }

    /// The same endpoint with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_string(), ..self.clone() }
    }

    /// One request with these headers and this body.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Vec<u8>>) -> Reply {
        self.try_send(method, path, headers, body).expect("the house answers")
    }

    /// Like [`Client::send`], for a house that may be dead.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Reply, reqwest::Error> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if body.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("Content-Type", "application/scim+json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send()?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_string()))
            .collect();
        let text = response.text()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, headers, text, body })
    }

    /// One GET.
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None)
    }

    /// One POST.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], Some(body.to_string().into_bytes()))
    }

    /// One PUT.
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, &[], Some(body.to_string().into_bytes()))
    }

    /// A PATCH with these operations.
    pub fn patch(&self, path: &str, operations: Value) -> Reply {
        let body =
            json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
        self.send("PATCH", path, &[], Some(body.to_string().into_bytes()))
    }

    /// One DELETE.
    pub fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], None)
    }

    /// The one resource whose attribute equals the value, or nothing.
    pub fn find(&self, endpoint: &str, attribute: &str, value: &str) -> Option<Value> {
        let filter = format!("{attribute} eq \"{value}\"").replace(' ', "%20").replace('"', "%22");
        let reply = self.get(&format!("{endpoint}?filter={filter}")).expect(200);
        assert!(reply.body["totalResults"].as_u64() <= Some(1), "more than one: {}", reply.text);
        reply.body["Resources"].get(0).cloned()
    }
}

/// A user's body with this name.
pub fn user(name: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": name,
        "displayName": format!("Person {name}"),
        "name": {"givenName": "Person", "familyName": name},
        "emails": [{"value": format!("{name}@corp.test"), "type": "work", "primary": true}],
        "active": true,
    })
}

/// A group's body with this name and these members.
pub fn group(name: &str, members: &[&str]) -> Value {
    let members: Vec<Value> = members.iter().map(|id| json!({"value": id})).collect();
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
        "displayName": name,
        "members": members,
    })
}
