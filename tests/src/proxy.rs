//! A TCP proxy in front of the broker that can lose an acknowledgement on its way back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// A proxy on a free loopback port.
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// The next publish to the identity stream loses its answer, and its connection with it.
    armed: AtomicBool,
    lost: AtomicU32,
}

impl Proxy {
    /// Starts forwarding to `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let faults = Arc::new(Faults::default());
        let shared = faults.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(upstream) else { continue };
                forward(client, server, shared.clone());
            }
        });
        Self { address, faults }
    }

    /// Where to connect instead of the broker.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses the acknowledgement of the next identity event that is published.
    pub fn lose_next_acknowledgement(&self) {
        self.faults.armed.store(true, Ordering::SeqCst);
    }

    /// How many acknowledgements were lost.
    pub fn lost(&self) -> u32 {
        self.faults.lost.load(Ordering::SeqCst)
    }
}

fn forward(client: TcpStream, server: TcpStream, faults: Arc<Faults>) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    // Set once a publish whose answer must be lost has been forwarded on this connection.
    let losing = Arc::new(AtomicBool::new(false));
    let (mut from_client, mut to_server) =
        (client.try_clone().expect("a second handle"), server.try_clone().expect("a second handle"));
    let (mut from_server, mut to_client) = (server, client);
    let marks = losing.clone();
    let armed = faults.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from_client.read(&mut buffer)
            && count > 0
        {
            let bytes = &buffer[..count];
            if contains(bytes, b"PUB identity.") && armed.armed.swap(false, Ordering::SeqCst) {
                marks.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from_server.read(&mut buffer)
            && count > 0
        {
            let bytes = &buffer[..count];
            if losing.load(Ordering::SeqCst) && contains(bytes, b"\"stream\":\"IDENTITY\"") {
                faults.lost.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if to_client.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
