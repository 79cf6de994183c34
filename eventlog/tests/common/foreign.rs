//! A server that somebody else runs: `nats-server` with settings of a test's own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use eventlog::{nats, server};

/// How long it may take to listen.
const SOON: Duration = Duration::from_secs(60);

/// A server that somebody else runs, with settings of their own.
pub(crate) struct Foreign {
    child: Child,
    pub(crate) url: String,
}

impl Foreign {
    pub(crate) fn start(folder: &Path, port: u16, settings: &str) -> Self {
        let text =
            format!("listen: \"127.0.0.1:{port}\"\nports_file_dir: \"{}\"\n{settings}\n", folder.display());
        let path = folder.join("foreign.conf");
        std::fs::write(&path, text.replace(":0\"", ":-1\"")).unwrap();
        let child = Command::new(server::find(None, "").unwrap())
            .arg("--config")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = folder.join(format!("nats-server_{}.ports", child.id()));
        let begun = std::time::Instant::now();
        let url = loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(ports) = serde_json::from_str::<serde_json::Value>(&text) {
                break ports["nats"][0].as_str().unwrap().to_string();
            }
            assert!(begun.elapsed() < SOON, "it does not listen");
            pause();
        };
        Self { child, url }
    }

    pub(crate) fn config(&self) -> nats::Config {
        nats::Config { url: self.url.clone(), replicas: 1, connect_timeout: SOON, ..Default::default() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the only pause between two looks at a bounded condition")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
