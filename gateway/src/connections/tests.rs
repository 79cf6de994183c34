//! Clients on real sockets that are slow, silent or many.

use super::*;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A wait that a test sees the end of.
const SHORT_MS: u64 = 50;
/// One that it does not.
const LONG_MS: u64 = 600_000;

fn limits() -> Limits {
    Limits {
        head_timeout_ms: LONG_MS,
        body_timeout_ms: LONG_MS,
        idle_timeout_ms: LONG_MS,
        send_timeout_ms: LONG_MS,
        ..Limits::default()
    }
}

/// A listener that serves until it is told to stop.
struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn serve(limits: &Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let read = async |body: Body| match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => format!("{} bytes", bytes.len()),
        Err(error) => error.to_string(),
    };
    let router = Router::new()
        .route("/", get(async || "here"))
        .route("/much", get(async || "x".repeat(64 * 1024 * 1024)))
        .route("/never", get(std::future::pending::<&str>))
        .route("/read", post(read));
    let serving = Connections::new("test", limits, None, crate::http::unreadable).serve(
        listener,
        router,
        shutdown.clone(),
    );
    Served { address, shutdown, task: tokio::spawn(serving) }
}

impl Served {
    async fn connect(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

/// Reads until an answer's last words.
async fn answer(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await.expect("the answer goes on");
        text.push(byte);
    }
    String::from_utf8(text).unwrap()
}

/// Everything until the connection ends.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut text = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut text).await;
    text
}

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let served = serve(&Limits { head_timeout_ms: SHORT_MS, ..limits() }).await;
    for text in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: te"] {
        assert_eq!(rest(served.connect(text).await).await, b"", "{text:?}");
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_ends_and_one_that_is_answered_does_not() {
    let served = serve(&Limits { idle_timeout_ms: SHORT_MS, ..limits() }).await;
    let mut idle = served.connect(GET).await;
    let mut waiting = served.connect("GET /never HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(answer(&mut idle, "here").await.starts_with("HTTP/1.1 200"));
    // Half of the next request keeps nobody.
    idle.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(rest(idle).await, b"");
    let time = Duration::from_millis(10 * SHORT_MS);
    assert!(tokio::time::timeout(time, waiting.read_u8()).await.is_err(), "it is not answered yet");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_in_vain() {
    let served = serve(&Limits { body_timeout_ms: SHORT_MS, ..limits() }).await;
    let whole = "POST /read HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}";
    assert!(answer(&mut served.connect(whole).await, "2 bytes").await.starts_with("HTTP/1.1 200"));
    let half = "POST /read HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n{}";
    answer(&mut served.connect(half).await, "the body did not arrive in time").await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_the_connection() {
    let served = serve(&Limits { connections_max: 1, send_timeout_ms: SHORT_MS, ..limits() }).await;
    let greedy = served.connect("GET /much HTTP/1.1\r\nHost: test\r\n\r\n").await;
    // Its place is free again.
    answer(&mut served.connect(GET).await, "here").await;
    assert!(rest(greedy).await.len() < 64 * 1024 * 1024);
}

#[tokio::test]
async fn whoever_finds_no_place_waits_for_one() {
    let served = serve(&Limits { connections_max: 2, ..limits() }).await;
    let mut first = served.connect(GET).await;
    let mut second = served.connect(GET).await;
    answer(&mut first, "here").await;
    answer(&mut second, "here").await;
    let mut third = served.connect(GET).await;
    let time = Duration::from_millis(SHORT_MS);
    assert!(tokio::time::timeout(time, third.read_u8()).await.is_err(), "there is no place");
    drop(first);
    assert!(answer(&mut third, "here").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn half_a_request_does_not_hold_up_the_end() {
    let served = serve(&limits()).await;
    let mut idle = served.connect(GET).await;
    answer(&mut idle, "here").await;
    let silent = served.connect("").await;
    let half = served.connect("GET / HTTP/1.1\r\nHost: te").await;
    // They are accepted in the order in which they came.
    answer(&mut served.connect(GET).await, "here").await;
    served.shutdown.cancel();
    tokio::time::timeout(GRACE / 2, served.task)
        .await
        .expect("it ends before what is under way must")
        .unwrap();
    for stream in [idle, silent, half] {
        assert_eq!(rest(stream).await, b"");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let served = serve(&limits()).await;
    let long = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Long: {}", "x".repeat(HEAD_BYTES_MAX as usize));
    let refused = rest(served.connect(&long).await).await;
    explains(&refused, "431");
    let long = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(66_000));
    let refused = rest(served.connect(&long).await).await;
    explains(&refused, "414");
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused_with_words() {
    let served = serve(&limits()).await;
    for line in
        ["GET /?filter=a%20eq%20\"b\" HTTP/1.1", "GET /?filter=a eq b HTTP/1.1", "GET / HTTP/3.0", "{}"]
    {
        let mut stream = served.connect(GET).await;
        answer(&mut stream, "here").await;
        stream.write_all(format!("{line}\r\nHost: test\r\n\r\n").as_bytes()).await.unwrap();
        explains(&rest(stream).await, "400");
    }
}

/// A SCIM error with this status, whole.
#[track_caller]
fn explains(refused: &[u8], status: &str) {
    let text = String::from_utf8_lossy(refused);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
    assert!(
        head.contains("content-type: application/scim+json") && head.contains("connection: close"),
        "{text}"
    );
    let body: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
    assert_eq!(body["status"], status);
    assert_eq!(body["schemas"][0], "urn:ietf:params:scim:api:messages:2.0:Error");
}
