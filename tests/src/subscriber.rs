//! A feed's subscriber: a real HTTP server that checks every signature, answers as a test wants, and remembers everything.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::house::pause;

/// What a subscriber says to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This status.
    Status(u16),
    /// This status, and to come again after so many seconds.
    RetryAfter(u16, u64),
    /// Nothing until the subscriber is released; then 204.
    Wait,
}

/// One event that reached the subscriber.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The event.
    pub event: Value,
    /// What it was answered.
    pub status: u16,
    /// How many of the subscriber's secrets verify a signature of it.
    pub verified: usize,
}

impl Delivery {
    /// A text of the event.
    pub fn text(&self, name: &str) -> &str {
        self.event[name].as_str().unwrap_or_default()
    }

    /// Where it stands in the log.
    pub fn sequence(&self) -> u64 {
        self.text("sequence").parse().expect("a number")
    }
}

type Judge = Box<dyn Fn(&Value, usize) -> Verdict + Send + Sync>;

struct State {
    keys: Vec<Vec<u8>>,
    judge: Mutex<Arc<Judge>>,
    released: AtomicBool,
    deliveries: Mutex<Vec<Delivery>>,
    /// How often each event came.
    attempts: Mutex<BTreeMap<String, usize>>,
    /// Deliveries under way, by subject.
    flying: Mutex<BTreeMap<String, usize>>,
    /// The most that were under way at once, of all and of one subject.
    most: Mutex<(usize, usize)>,
}

/// A subscriber that listens until the process ends.
pub struct Subscriber {
    address: SocketAddr,
    state: Arc<State>,
}

impl Subscriber {
    /// Takes everything. The secrets are those that it knows.
    pub fn new(secrets: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let key = |secret: &&str| {
            STANDARD.decode(secret.strip_prefix("whsec_").expect("a prefix")).expect("base64")
        };
        let judge: Judge = Box::new(|_, _| Verdict::Status(204));
        let state = Arc::new(State {
            keys: secrets.iter().map(key).collect(),
            judge: Mutex::new(Arc::new(judge)),
            released: AtomicBool::new(false),
            deliveries: Mutex::default(),
            attempts: Mutex::default(),
            flying: Mutex::default(),
            most: Mutex::default(),
        });
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = served.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Answers like this from now on: told the event and how often it came before.
    pub fn answer(&self, judge: impl Fn(&Value, usize) -> Verdict + Send + Sync + 'static) -> &Self {
        *self.state.judge.lock().expect("no panic") = Arc::new(Box::new(judge));
        self
    }

    /// Answers what waits, and lets nothing wait any more.
    pub fn release(&self) {
        self.state.released.store(true, SeqCst);
    }

    /// `[feed.NAME]` of tenant `corp`, with this secret and further lines.
    pub fn configuration(&self, name: &str, secret: &str, more: &str) -> String {
        format!(
            "[feed.{name}]\ntenant = \"corp\"\nurl = \"http://{}/hook\"\nsecret = \"{secret}\"\n{more}\n",
            self.address
        )
    }

    /// Everything that came, in the order in which it was answered.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state.deliveries.lock().expect("no panic").clone()
    }

    /// What it took, each event once.
    pub fn taken(&self) -> Vec<Delivery> {
        let mut seen = std::collections::BTreeSet::new();
        let taken = self.deliveries().into_iter().filter(|delivery| (200..300).contains(&delivery.status));
        taken
            .filter(|delivery| {
                seen.insert((
                    delivery.text("id").to_string(),
                    delivery.event.get("replayid").cloned().unwrap_or_default().to_string(),
                ))
            })
            .collect()
    }

    /// The types of what it took.
    pub fn types(&self) -> Vec<String> {
        self.taken().iter().map(|delivery| delivery.text("type").to_string()).collect()
    }

    /// How many deliveries are under way.
    pub fn under_way(&self) -> usize {
        self.state.flying.lock().expect("no panic").values().sum()
    }

    /// The most deliveries that were under way at once: of all resources, and of one.
    pub fn most(&self) -> (usize, usize) {
        *self.state.most.lock().expect("no panic")
    }
}

fn serve(stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    while let Some((headers, body)) = request(&mut reader) {
        let event: Value = serde_json::from_slice(&body).expect("an event is JSON");
        let subject = event["subject"].as_str().unwrap_or_default().to_string();
        let id = event["id"].as_str().unwrap_or_default().to_string();
        begin(state, &subject);
        let before = {
            let mut attempts = state.attempts.lock().expect("no panic");
            let count = attempts.entry(id).or_default();
            *count += 1;
            *count - 1
        };
        let judge = state.judge.lock().expect("no panic").clone();
        let (status, retry_after) = match judge(&event, before) {
            Verdict::Status(status) => (status, None),
            Verdict::RetryAfter(status, seconds) => (status, Some(seconds)),
            Verdict::Wait => {
                while !state.released.load(SeqCst) {
                    pause();
                }
                (204, None)
            }
        };
        let verified = verified(state, &headers, &body);
        state.deliveries.lock().expect("no panic").push(Delivery { headers, event, status, verified });
        end(state, &subject);
        let more = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
        let answer = format!("HTTP/1.1 {status} As Wanted\r\n{more}content-length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
}

fn begin(state: &State, subject: &str) {
    let mut flying = state.flying.lock().expect("no panic");
    let of_one = flying.entry(subject.to_string()).or_default();
    *of_one += 1;
    let of_one = *of_one;
    let of_all = flying.values().sum();
    let mut most = state.most.lock().expect("no panic");
    *most = (most.0.max(of_all), most.1.max(of_one));
}

fn end(state: &State, subject: &str) {
    if let Some(count) = state.flying.lock().expect("no panic").get_mut(subject) {
        *count -= 1;
    }
}

/// How many of the known secrets verify one of the signatures.
fn verified(state: &State, headers: &BTreeMap<String, String>, body: &[u8]) -> usize {
    let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
    let signed = [header("webhook-id"), ".", header("webhook-timestamp"), "."].concat();
    let is_ours = |key: &&Vec<u8>| {
        let mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        let mac = mac.chain_update(signed.as_bytes()).chain_update(body).finalize().into_bytes();
        let ours = format!("v1,{}", STANDARD.encode(mac));
        header("webhook-signature").split(' ').any(|signature| signature == ours)
    };
    state.keys.iter().filter(is_ours).count()
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<(BTreeMap<String, String>, Vec<u8>)> {
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some((headers, body))
}
