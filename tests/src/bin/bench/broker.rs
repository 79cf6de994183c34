//! A broker with the settings that it has by itself, on half of the processors as a managed one: it acknowledges before its
//! disk has the message.

use std::process::{Child, Command, Stdio};

use street::house::eventually;

pub(crate) struct Lazy {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Lazy {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().display();
        let settings = format!(
            "listen: \"127.0.0.1:-1\"\nports_file_dir: \"{path}\"\nmax_payload: 8388608\njetstream {{ store_dir: \"{path}/store\" }}\n"
        );
        let file = folder.path().join("nats.conf");
        std::fs::write(&file, settings).expect("settings can be written");
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        let binary =
            eventlog::server::find(None, &search_path.to_string_lossy()).expect("there is a nats-server");
        let child = Command::new(binary)
            .arg("--config")
            .arg(&file)
            .env("GOMAXPROCS", eventlog::server::processors().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        let ports = folder.path().join(format!("nats-server_{}.ports", child.id()));
        let url = eventually("the broker listens", || {
            let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&ports).ok()?).ok()?;
            Some(ports.get("nats")?.get(0)?.as_str()?.to_string())
        });
        Self { child, url, _folder: folder }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
