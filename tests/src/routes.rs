//! TCP proxies before the route ports of a cluster's brokers, which can cut one of them off from the others.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What brokers are called; a proxy knows who comes by this name in the first bytes.
pub fn server_name(number: usize) -> String {
    format!("rollcall-node-{number}")
}

/// One proxy for each broker. They end with the process.
pub struct Routes {
    addresses: Vec<SocketAddr>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    cut: BTreeSet<usize>,
    connections: Vec<Connection>,
}

struct Connection {
    number: u64,
    ends: [Option<usize>; 2],
    streams: [TcpStream; 2],
}

impl Shared {
    /// Closes what touches a broker that is cut off.
    fn close(&mut self) {
        let cut = &self.cut;
        self.connections.retain(|connection| {
            let kept = !connection.ends.iter().flatten().any(|end| cut.contains(end));
            if !kept {
                for stream in &connection.streams {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            kept
        });
    }
}

impl Routes {
    /// Forwards to these route ports, by the broker's number.
    pub fn start(ports: &[u16]) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let mut addresses = Vec::new();
        for (to, port) in ports.iter().copied().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            addresses.push(listener.local_addr().expect("a bound address"));
            let (shared, count) = (shared.clone(), ports.len());
            thread::spawn(move || {
                for (number, client) in listener.incoming().flatten().enumerate() {
                    if lock(&shared).cut.contains(&to) {
                        continue;
                    }
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                    forward(number as u64 * 10 + to as u64, to, count, client, server, &shared);
                }
            });
        }
        Self { addresses, shared }
    }

    /// Where a broker's routes are to be reached.
    pub fn address(&self, number: usize) -> SocketAddr {
        *self.addresses.get(number).expect("a broker of the cluster")
    }

    /// Cuts a broker off: its routes are closed, new ones are refused.
    pub fn cut(&self, number: usize) {
        let mut shared = lock(&self.shared);
        shared.cut.insert(number);
        shared.close();
    }

    /// Ends every cut.
    pub fn mend(&self) {
        lock(&self.shared).cut.clear();
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forward(
    number: u64,
    to: usize,
    count: usize,
    client: TcpStream,
    server: TcpStream,
    shared: &Arc<Mutex<Shared>>,
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    let streams = [copy(&client), copy(&server)];
    lock(shared).connections.push(Connection { number, ends: [Some(to), None], streams });
    let (mut from_client, mut to_server) = (copy(&client), copy(&server));
    let known = shared.clone();
    thread::spawn(move || {
        let (mut buffer, mut first, mut named) = (vec![0; 64 * 1024], Vec::new(), false);
        while let Ok(read) = from_client.read(&mut buffer)
            && read > 0
        {
            let bytes = &buffer[..read];
            if !named {
                first.extend_from_slice(bytes);
                let text = String::from_utf8_lossy(&first);
                // The broker that connects tells its own name first; the one that is connected to is not it.
                let place = |from: &usize| text.find(&server_name(*from));
                let others = (0..count).filter(|from| *from != to && place(from).is_some());
                let from = others.min_by_key(place);
                if let Some(from) = from {
                    named = true;
                    let mut shared = lock(&known);
                    if let Some(own) = shared.connections.iter_mut().find(|one| one.number == number) {
                        own.ends[1] = Some(from);
                    }
                    shared.close();
                }
            }
            if to_server.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = (to_server.shutdown(Shutdown::Both), from_client.shutdown(Shutdown::Both));
        lock(&known).connections.retain(|one| one.number != number);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = (to_client.shutdown(Shutdown::Both), from_server.shutdown(Shutdown::Both));
    });
}
