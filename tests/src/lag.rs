//! A gateway that is behind: a proxy in front of the broker that holds back what a log delivers, while questions,
//! writes and their answers pass.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A proxy on a free loopback port.
pub struct Lag {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Beginnings of subjects whose messages are held back.
    held: Vec<String>,
    clients: Vec<Client>,
}

/// One connection, and what it has not heard yet.
struct Client {
    socket: TcpStream,
    waiting: Vec<u8>,
}

impl Lag {
    /// Starts forwarding to the broker at this URL.
    pub fn start(nats: &str) -> Self {
        let upstream: SocketAddr = split(nats).1.parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let all = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(upstream) else { continue };
                forward(client, server, &all);
            }
        });
        Self { address, shared }
    }

    /// The broker's URL by way of this proxy.
    pub fn url(&self, nats: &str) -> String {
        format!("{}@{}", split(nats).0, self.address)
    }

    /// Holds back messages whose subject begins so. Nothing passes at all after an empty beginning.
    pub fn hold(&self, subject: &str) {
        lock(&self.shared).held.push(subject.to_string());
    }

    /// Lets everything through that was held back.
    pub fn release(&self) {
        let mut shared = lock(&self.shared);
        shared.held.clear();
        for client in &mut shared.clients {
            let _ = client.socket.write_all(&std::mem::take(&mut client.waiting));
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scheme with credentials, and address.
fn split(nats: &str) -> (&str, &str) {
    nats.rsplit_once('@').expect("the URL has credentials")
}

fn forward(client: TcpStream, server: TcpStream, shared: &Arc<Mutex<Shared>>) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (mut from_client, mut to_server) =
        (client.try_clone().expect("a second handle"), server.try_clone().expect("a second handle"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let number = {
        let mut shared = lock(shared);
        shared.clients.push(Client { socket: client, waiting: Vec::new() });
        shared.clients.len() - 1
    };
    let shared = shared.clone();
    thread::spawn(move || {
        let mut reader = BufReader::new(server);
        while let Some((subject, frame)) = next(&mut reader) {
            let mut shared = lock(&shared);
            let held = shared.held.iter().any(|beginning| subject.starts_with(beginning));
            let client = &mut shared.clients[number];
            if held {
                client.waiting.extend(frame);
            } else if client.socket.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = lock(&shared).clients[number].socket.shutdown(Shutdown::Both);
    });
}

/// The next thing that the broker says, and the subject if it is a message: `MSG subject sid [reply] bytes` or
/// `HMSG subject sid [reply] header-bytes bytes`, a line, then that many bytes and the end of a line.
fn next(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut frame = Vec::new();
    if reader.read_until(b'\n', &mut frame).ok()? == 0 {
        return None;
    }
    let line = String::from_utf8_lossy(&frame).to_string();
    let words: Vec<&str> = line.split_whitespace().collect();
    let [verb, subject, .., bytes] = words.as_slice() else { return Some((String::new(), frame)) };
    if !matches!(*verb, "MSG" | "HMSG") {
        return Some((String::new(), frame));
    }
    let mut payload = vec![0; bytes.parse::<usize>().ok()? + 2];
    reader.read_exact(&mut payload).ok()?;
    frame.extend(payload);
    Some(((*subject).to_string(), frame))
}
