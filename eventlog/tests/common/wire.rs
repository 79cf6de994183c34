//! A wire to the broker that understands the NATS text protocol, so that a test can say what happens to a publish:
//! to the message on its way there, and to the answer on its way back.
//!
//! A fault strikes the next publish to `identity.>` that asks for an answer (for a batch: the one that commits); each
//! waits for its turn in a queue. What no fault is meant for passes.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to one publish.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    Pass,
    /// It arrives, its answer does not.
    LoseAnswer,
    /// It arrives, and the connection ends instead of the answer.
    CutAfter,
    /// It arrives, and the answer comes this much later.
    DelayAnswer(Duration),
    /// It arrives, and the answer says that it failed with this code.
    WriteAndAnswer(u64),
    /// It does not arrive, and the answer says that it failed with this code.
    Answer(u64),
    /// It does not arrive; nobody is there who would answer.
    NoResponders,
    /// It does not arrive, and nobody says so.
    LosePublish,
    /// It does not arrive, and the connection ends.
    CutBefore,
    /// It arrives this much later.
    HoldPublish(Duration),
    /// It arrives twice.
    Repeat,
}

/// What happens to an answer.
#[derive(Clone, Debug)]
enum Back {
    Pass,
    Lose,
    Cut,
    Delay(Duration),
    Replace(u64),
}

#[derive(Default)]
struct Shared {
    faults: Mutex<VecDeque<Fault>>,
    struck: AtomicU32,
    /// What the broker answered to publishes, before any fault.
    answers: Mutex<Vec<String>>,
    /// Answers that are expected, by the inbox that they go to.
    expected: Mutex<BTreeMap<String, Back>>,
    away: AtomicBool,
    /// The broker's clock seems to be some years ahead.
    ahead: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// A wire on a free loopback port.
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Wire {
    pub(crate) fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepted = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepted.away.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(upstream) else { continue };
                join(&client, &server, &accepted);
            }
        });
        Self { address, shared }
    }

    /// The broker's URL as it is reached over this wire.
    pub(crate) fn url(&self, direct: &str) -> String {
        let (before, _) = direct.rsplit_once('@').unwrap();
        format!("{before}@{}", self.address)
    }

    /// Faults for the next publishes, in order.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// Forgets the faults that have not struck.
    pub(crate) fn calm(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// How many faults have struck.
    pub(crate) fn struck(&self) -> u32 {
        self.shared.struck.load(Ordering::SeqCst)
    }

    /// What the broker answered to publishes so far.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.shared.answers.lock().unwrap().clone()
    }

    /// Cuts every connection and takes no new one.
    pub(crate) fn go_away(&self) {
        self.shared.away.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn come_back(&self) {
        self.shared.away.store(false, Ordering::SeqCst);
    }

    /// From now on the broker's clock seems to be five years ahead.
    pub(crate) fn shift_the_clock(&self) {
        self.shared.ahead.store(true, Ordering::SeqCst);
    }
}

/// One frame: its first line and what follows it.
struct Frame {
    line: String,
    body: Vec<u8>,
}

impl Frame {
    fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let carries = ["PUB ", "HPUB ", "MSG ", "HMSG "].iter().any(|verb| line.starts_with(verb));
        let mut body = Vec::new();
        if carries {
            let length: usize = line.split_whitespace().next_back()?.parse().ok()?;
            body.resize(length + 2, 0);
            from.read_exact(&mut body).ok()?;
        }
        Some(Self { line, body })
    }

    fn words(&self) -> Vec<&str> {
        self.line.split_whitespace().collect()
    }

    fn bytes(&self) -> Vec<u8> {
        [self.line.as_bytes(), &self.body].concat()
    }
}

/// The two ends of a connection, each written by one at a time.
#[derive(Clone)]
struct Ends {
    client: Arc<Mutex<TcpStream>>,
    server: Arc<Mutex<TcpStream>>,
    /// The client's subscriptions to inboxes: prefix and id.
    inboxes: Arc<Mutex<Vec<(String, String)>>>,
}

impl Ends {
    fn to_client(&self, bytes: &[u8]) {
        let _ = self.client.lock().unwrap().write_all(bytes);
    }

    fn to_server(&self, bytes: &[u8]) {
        let _ = self.server.lock().unwrap().write_all(bytes);
    }

    fn cut(&self) {
        let _ = self.client.lock().unwrap().shutdown(Shutdown::Both);
        let _ = self.server.lock().unwrap().shutdown(Shutdown::Both);
    }

    fn subscription(&self, inbox: &str) -> String {
        let inboxes = self.inboxes.lock().unwrap();
        inboxes.iter().find(|(prefix, _)| inbox.starts_with(prefix)).unwrap().1.clone()
    }
}

fn join(client: &TcpStream, server: &TcpStream, shared: &Arc<Shared>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    shared.open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
    let ends = Ends {
        client: Arc::new(Mutex::new(client.try_clone().unwrap())),
        server: Arc::new(Mutex::new(server.try_clone().unwrap())),
        inboxes: Arc::default(),
    };
    let (mut reader, there, faults) =
        (BufReader::new(client.try_clone().unwrap()), ends.clone(), shared.clone());
    thread::spawn(move || {
        while let Some(frame) = Frame::read(&mut reader) {
            go(&frame, &there, &faults);
        }
        there.cut();
    });
    let (mut reader, shared) = (BufReader::new(server.try_clone().unwrap()), shared.clone());
    thread::spawn(move || {
        while let Some(frame) = Frame::read(&mut reader) {
            come(frame, &ends, &shared);
        }
        ends.cut();
    });
}

/// A frame on its way to the broker.
fn go(frame: &Frame, ends: &Ends, shared: &Arc<Shared>) {
    let words = frame.words();
    let inbox = match words.as_slice() {
        ["SUB", subject, id] => {
            ends.inboxes.lock().unwrap().push((subject.trim_end_matches('*').to_string(), id.to_string()));
            None
        }
        ["PUB", subject, inbox, _] | ["HPUB", subject, inbox, _, _] if subject.starts_with("identity.") => {
            Some(inbox.to_string())
        }
        _ => None,
    };
    let Some(inbox) = inbox else { return ends.to_server(&frame.bytes()) };
    let fault = shared.faults.lock().unwrap().pop_front();
    if fault.as_ref().is_some_and(|fault| !matches!(fault, Fault::Pass)) {
        shared.struck.fetch_add(1, Ordering::SeqCst);
    }
    let fault = fault.unwrap_or(Fault::Pass);
    let back = match fault {
        Fault::LoseAnswer => Back::Lose,
        Fault::CutAfter => Back::Cut,
        Fault::DelayAnswer(delay) => Back::Delay(delay),
        Fault::WriteAndAnswer(code) => Back::Replace(code),
        _ => Back::Pass,
    };
    shared.expected.lock().unwrap().insert(inbox.clone(), back);
    match fault {
        Fault::Pass
        | Fault::LoseAnswer
        | Fault::CutAfter
        | Fault::DelayAnswer(_)
        | Fault::WriteAndAnswer(_) => ends.to_server(&frame.bytes()),
        Fault::Answer(code) => ends.to_client(&message(&inbox, &ends.subscription(&inbox), &refusal(code))),
        Fault::NoResponders => {
            let id = ends.subscription(&inbox);
            ends.to_client(format!("HMSG {inbox} {id} 16 16\r\nNATS/1.0 503\r\n\r\n\r\n").as_bytes());
        }
        Fault::LosePublish => {}
        Fault::CutBefore => ends.cut(),
        Fault::HoldPublish(delay) => {
            let (ends, bytes) = (ends.clone(), frame.bytes());
            later(delay, move || ends.to_server(&bytes));
        }
        Fault::Repeat => ends.to_server(&[frame.bytes(), frame.bytes()].concat()),
    }
}

/// A frame on its way to the client.
fn come(frame: Frame, ends: &Ends, shared: &Arc<Shared>) {
    let words = frame.words();
    let answer = match words.as_slice() {
        ["MSG", inbox, id, ..] | ["HMSG", inbox, id, ..] => {
            let back = shared.expected.lock().unwrap().remove(*inbox);
            back.map(|back| (back, inbox.to_string(), id.to_string()))
        }
        _ => None,
    };
    let Some((back, inbox, id)) = answer else {
        let mut bytes = frame.bytes();
        if shared.ahead.load(Ordering::SeqCst) {
            bytes = ahead(bytes);
        }
        return ends.to_client(&bytes);
    };
    shared.answers.lock().unwrap().push(String::from_utf8_lossy(&frame.body).trim_end().to_string());
    match back {
        Back::Pass => ends.to_client(&frame.bytes()),
        Back::Lose => {}
        Back::Cut => ends.cut(),
        Back::Delay(delay) => {
            let (ends, bytes) = (ends.clone(), frame.bytes());
            later(delay, move || ends.to_client(&bytes));
        }
        Back::Replace(code) => ends.to_client(&message(&inbox, &id, &refusal(code))),
    }
}

fn refusal(code: u64) -> String {
    format!(
        r#"{{"error":{{"code":503,"err_code":{code},"description":"said by the wire"}},"stream":"IDENTITY","seq":0}}"#
    )
}

fn message(inbox: &str, id: &str, text: &str) -> Vec<u8> {
    format!("MSG {inbox} {id} {}\r\n{text}\r\n", text.len()).into_bytes()
}

/// The same answer with its time five years later; the length stays.
fn ahead(mut bytes: Vec<u8>) -> Vec<u8> {
    let mark = b"\"ts\":\"";
    if let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) {
        let year = &mut bytes[at + mark.len()..][..4];
        let later = std::str::from_utf8(year).unwrap().parse::<u32>().unwrap() + 5;
        year.copy_from_slice(later.to_string().as_bytes());
    }
    bytes
}

#[expect(clippy::disallowed_methods, reason = "a delay is the fault itself")]
fn later(delay: Duration, act: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        thread::sleep(delay);
        act();
    });
}
