//! A load generator that costs little beside what it measures: HTTP/1.1 written by hand over kept connections, all on
//! one thread.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) address: String,
    /// Before each path.
    pub(crate) prefix: String,
    pub(crate) token: String,
}

impl Target {
    /// From a base URL such as `http://127.0.0.1:7643/scim/v2`.
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let rest = url.trim_start_matches("http://");
        let (address, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Self { address: address.to_string(), prefix, token: token.to_string() }
    }

    /// The bytes of a request.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: \
             application/scim+json\r\nContent-Length: {}\r\n\r\n{body}",
            self.prefix,
            self.address,
            self.token,
            body.len()
        )
        .into_bytes()
    }
}

/// One kept connection.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> Self {
        let stream = TcpStream::connect(&target.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket's option");
        Self { stream, answer: Vec::with_capacity(8 * 1024) }
    }

    /// Sends a request and reads the whole answer: its status and its body.
    pub(crate) async fn send(&mut self, request: &[u8]) -> (u16, &[u8]) {
        self.stream.write_all(request).await.expect("the server reads");
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            let Some(head) = self.answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(self.answer.get(..head).unwrap_or_default()).expect("ASCII");
            let status = text.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
            let length = text
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, length)| length.trim().parse().expect("a length"));
            while self.answer.len() < head + 4 + length {
                let read = self.stream.read_buf(&mut self.answer).await.expect("the server answers");
                assert!(read > 0, "the server closed the connection");
            }
            return (status, self.answer.get(head + 4..).unwrap_or_default());
        }
    }
}

/// What a cell came to.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Figures {
    pub(crate) fn show(&self, title: &str) {
        let Self { rate, p50, p99 } = self;
        println!("  {title:<38} {rate:>8.0}/s  p50 {p50:>7.2} ms  p99 {p99:>7.2} ms");
    }
}

/// Which request comes next, by its number, and what its answer means.
pub(crate) trait Work: Send + Sync + 'static {
    fn request(&self, number: usize) -> Vec<u8>;
    fn answered(&self, number: usize, status: u16, body: &[u8]);
}

/// How requests come.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// Each connection sends its next request when the last was answered.
    Closed,
    /// So many a second, whether or not the earlier ones were answered; latency counts from when one was due.
    Open(f64),
}

/// Runs work on so many connections for a while.
pub(crate) fn run(
    target: &Target,
    connections: usize,
    pace: Pace,
    lasts: Duration,
    work: Arc<dyn Work>,
) -> Figures {
    on_one_thread(async {
        let next = Arc::new(AtomicUsize::new(0));
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::open(target).await);
        }
        let begun = Instant::now();
        let clients = open.into_iter().map(|mut connection| {
            let (next, work) = (next.clone(), work.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = match pace {
                        Pace::Closed => Instant::now(),
                        Pace::Open(rate) => begun + Duration::from_secs_f64(number as f64 / rate),
                    };
                    if due >= begun + lasts {
                        return latencies;
                    }
                    // The timer's step is a millisecond, so it is asked only when there is something to wait for.
                    if due > Instant::now() {
                        tokio::time::sleep_until(due).await;
                    }
                    let (status, body) = connection.send(&work.request(number)).await;
                    work.answered(number, status, body);
                    latencies.push(due.elapsed());
                }
            })
        });
        let mut latencies = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            latencies.extend(client.await.expect("a client goes well"));
        }
        figures(latencies, begun.elapsed())
    })
}

pub(crate) fn figures(mut latencies: Vec<Duration>, took: Duration) -> Figures {
    latencies.sort_unstable();
    let at = |part: usize| {
        let found = latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
        found.as_secs_f64() * 1e3
    };
    Figures { rate: latencies.len() as f64 / took.as_secs_f64(), p50: at(50), p99: at(99) }
}

/// The middle one of each figure.
pub(crate) fn median(mut cells: Vec<Figures>) -> Figures {
    let mut middle = |of: fn(&Figures) -> f64| {
        cells.sort_by(|one, other| of(one).total_cmp(&of(other)));
        cells.get(cells.len() / 2).map(of).unwrap_or_default()
    };
    Figures { rate: middle(|cell| cell.rate), p50: middle(|cell| cell.p50), p99: middle(|cell| cell.p99) }
}

/// On this thread, and no other.
pub(crate) fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(work)
}
