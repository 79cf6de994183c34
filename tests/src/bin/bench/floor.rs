//! The floor of a write: the same HTTP server, and one plain guarded publish that it awaits. No rule, no seal, no
//! directory. It runs as a process of its own, as a gateway does.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::ServerAddr;
use async_nats::jetstream::{self, stream};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use street::house::eventually;

use crate::load::Target;

/// The word that makes this program a floor.
pub(crate) const ROLE: &str = "serve-floor";

#[derive(Clone)]
struct Floor {
    context: jetstream::Context,
    next: Arc<AtomicU64>,
    run: String,
}

/// Serves until it is killed; tells its address in a file.
pub(crate) fn serve(nats: &str, file: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let addresses: Vec<ServerAddr> =
            nats.split(',').map(|url| url.parse().expect("a NATS URL")).collect();
        let mut options = async_nats::ConnectOptions::new();
        let first = addresses.first().expect("a broker");
        if let (Some(user), Some(password)) = (first.username(), first.password()) {
            options = options.user_and_password(user.to_string(), password.to_string());
        }
        let client = options.connect(addresses).await.expect("the broker listens");
        let context = jetstream::new(client);
        // As often as the log that is measured beside it.
        let log = context.get_stream("IDENTITY").await.expect("the log is there");
        let num_replicas = log.cached_info().config.num_replicas;
        let config = stream::Config {
            name: "FLOOR".to_string(),
            subjects: vec!["floor.>".to_string()],
            allow_atomic_publish: true,
            num_replicas,
            ..Default::default()
        };
        context.get_or_create_stream(config).await.expect("a stream");
        let floor = Floor { context, next: Arc::default(), run: uuid::Uuid::new_v4().simple().to_string() };
        let router = Router::new().route("/floor", post(write)).with_state(floor);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        std::fs::write(file, listener.local_addr().expect("an address").to_string()).expect("a file");
        axum::serve(listener, router).await.expect("the floor serves");
    });
}

async fn write(State(floor): State<Floor>, body: Bytes) -> (StatusCode, Bytes) {
    let number = floor.next.fetch_add(1, Ordering::Relaxed);
    let id = format!("{}-{number}", floor.run);
    let publish = jetstream::message::PublishMessage::build()
        .payload(body.clone())
        .message_id(&id)
        .expected_last_subject_sequence(0);
    let sent = floor.context.send_publish(format!("floor.{id}"), publish).await;
    match sent.expect("the broker takes it").await {
        Ok(_) => (StatusCode::CREATED, body),
        Err(error) => panic!("the floor fails: {error}"),
    }
}

/// A floor that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) target: Target,
}

impl Running {
    pub(crate) fn start(nats: &str) -> Self {
        Self::of(ROLE, nats.as_ref())
    }

    /// This program in a role that takes an argument and a file for its address.
    pub(crate) fn of(role: &str, argument: &OsStr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("address");
        let program = std::env::current_exe().expect("this program has a path");
        let child = Command::new(program)
            .arg(role)
            .arg(argument)
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("the floor starts");
        let address = eventually("the floor listens", || {
            std::fs::read_to_string(&file).ok().filter(|address| address.contains(':'))
        });
        Self { child, target: Target::new(&format!("http://{address}"), "") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
