//! A managed broker in a folder of its own.

use std::time::Duration;

use eventlog::server::{self, Server};
use eventlog::{Broker, nats};

/// A broker that is gone when this is dropped.
pub(crate) struct House {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Server,
}

impl House {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Self::server(folder.path());
        Self { folder, server }
    }

    pub(crate) fn server(folder: &std::path::Path) -> Server {
        let binary = server::find(None, "").expect("`make test` fetches the broker: run `make broker`");
        Server::start(&server::Config { binary, folder: folder.join("nats"), port: 0, processors: None })
            .unwrap()
    }

    pub(crate) fn config(&self) -> nats::Config {
        nats::Config {
            url: self.server.url().to_string(),
            replicas: 1,
            connect_timeout: Duration::from_secs(10),
            ..Default::default()
        }
    }

    pub(crate) async fn broker(&self) -> Broker {
        nats::connect(&self.config()).await.unwrap()
    }
}
