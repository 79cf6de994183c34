//! Mistakes at the start each end in one clear message; TLS is served when asked for.

#![cfg(test)]

use std::process::{Command, Stdio};

use street::house::{Options, eventually, program, user};
use street::{Client, House};

/// Starts `rollcall up` and returns what it said when it gave up.
fn gives_up(arguments: &[&str]) -> String {
    let output = Command::new(program()).arg("up").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    let last: Vec<&str> = text.lines().filter(|line| line.starts_with("rollcall: ")).collect();
    assert_eq!(last.len(), 1, "one message: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text[text.find("rollcall: ").unwrap()..].to_string()
}

fn free() -> [&'static str; 6] {
    ["--scim-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--nats-port", "0"]
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = address.rsplit_once(':').unwrap().1;
    let said = gives_up(&[
        "--data-dir",
        data,
        "--scim-listen",
        &address,
        "--admin-listen",
        "127.0.0.1:0",
        "--nats-port",
        "0",
    ]);
    assert!(said.contains(&address) && said.contains("--scim-listen"), "{said}");
    let said = gives_up(&[
        "--data-dir",
        data,
        "--scim-listen",
        "127.0.0.1:0",
        "--admin-listen",
        &address,
        "--nats-port",
        "0",
    ]);
    assert!(said.contains(&address) && said.contains("--admin-listen"), "{said}");
    let said = gives_up(&[
        "--data-dir",
        data,
        "--scim-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--nats-port",
        port,
    ]);
    assert!(said.contains(port) && said.contains("--nats-port"), "{said}");
}

/// A broker that was named does not lock the folder as its own would.
#[test]
fn a_second_process_leaves_the_first_one_what_it_has() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let data = house.data_dir();
    let before = std::fs::read(data.join("dev.env")).unwrap();
    let mut arguments = vec!["--data-dir", data.to_str().unwrap(), "--nats", house.env("NATS_URL")];
    arguments.extend(&free()[..4]);
    let said = gives_up(&arguments);
    assert!(said.contains("another process has it open"), "{said}");
    assert_eq!(std::fs::read(data.join("dev.env")).unwrap(), before);
    assert!(house.rollcall(&["token", "list"]).contains("corp"));
}

#[test]
fn a_broker_that_is_absent_or_too_old_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let arguments = |more: &[&'static str]| -> Vec<&str> {
        free().into_iter().chain(["--data-dir", data]).chain(more.iter().copied()).collect()
    };
    let said = gives_up(&arguments(&["--nats", "nats://user:hidden@127.0.0.1:9"]));
    assert!(said.contains("127.0.0.1:9") && said.contains("--nats") && !said.contains("hidden"), "{said}");

    let old = folder.path().join("nats-server");
    std::fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.10.4'\n").unwrap();
    std::fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let named: Vec<&str> =
        free().into_iter().chain(["--data-dir", data, "--nats-server", old.to_str().unwrap()]).collect();
    let said = gives_up(&named);
    assert!(said.contains("2.10") && said.contains("2.15"), "{said}");
}

/// The managed broker shares the machine with its gateway; whoever knows better says so in its own way.
#[test]
fn a_managed_broker_uses_half_of_the_processors_unless_it_is_told_otherwise() {
    let told = |house: &House| {
        let names = std::fs::read_dir(house.data_dir().join("nats")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let pid = |name: &str| Some(name.strip_prefix("nats-server_")?.strip_suffix(".ports")?.to_string());
        let pid = names.filter_map(|name| pid(&name)).next().unwrap();
        let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        let told = environment.split('\0').find_map(|entry| entry.strip_prefix("GOMAXPROCS="));
        told.unwrap().to_string()
    };
    let mut house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    assert!(house.stop());
    let mut command = house.command();
    command.env_remove("GOMAXPROCS");
    house.begin_as(command);
    house.ready();
    let all = std::thread::available_parallelism().unwrap().get();
    assert_eq!(told(&house), (all / 2).max(1).to_string());
    assert!(house.stop());
    let mut command = house.command();
    command.env("GOMAXPROCS", "7");
    house.begin_as(command);
    house.ready();
    assert_eq!(told(&house), "7");
}

/// A start may take long. Who watches the process must not take that for its end.
#[test]
fn a_process_that_starts_says_that_it_lives_and_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut child = Command::new(program())
        .args(["projector", "--admin-listen", &address, "--data-dir", folder.path().to_str().unwrap()])
        .args(["--nats", &format!("nats://{}", silent.local_addr().unwrap())])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let admin = Client::new(&format!("http://{address}"), "");
    let ask = |path: &str| admin.try_send("GET", path, &[], None).ok();
    let alive = eventually("it answers", || ask("/livez"));
    let answers = ["/readyz", "/metrics", "/api/v1/status"].map(|path| ask(path).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((alive.status, alive.text.as_str()), (200, "alive\n"));
    let [ready, metrics, status] = answers;
    assert_eq!((ready.status, ready.text.as_str()), (503, "not ready: starting\n"));
    assert_eq!((metrics.status, status.status), (200, 503));
    assert_eq!(status.body["error"], "starting");
}

#[test]
fn plain_http_is_for_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let said = gives_up(&[
        "--data-dir",
        folder.path().to_str().unwrap(),
        "--scim-listen",
        "0.0.0.0:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--nats-port",
        "0",
    ]);
    assert!(said.contains("--tls-certificate") && said.contains("--behind-proxy"), "{said}");
}

/// With none every write would be refused; with more than the broker remembers ids for, one could stand twice.
#[test]
fn a_limit_out_of_its_range_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollcall.toml");
    for timeout_ms in [0, 99, 100_001] {
        let text = format!(
            "[gateway.limits]\nrequest_timeout_ms = {timeout_ms}\n[nats]\nwrites_waiting_max = 0\nready_timeout_ms = 99\n\
             verify_interval_s = 0\n[projection]\ncache_mb = 7\nsnapshots_kept = 0\nsnapshot_events_min = 0\n"
        );
        std::fs::write(&file, text).unwrap();
        let data = folder.path().to_str().unwrap();
        let said = gives_up(&["--data-dir", data, "--config", file.to_str().unwrap()]);
        for words in [
            "7 mistakes",
            "nats.verify_interval_s: must be 1 to 86400",
            "projection.cache_mb: must be 8 to 1048576",
            "projection.snapshots_kept: must be 1 to 1000",
            "projection.snapshot_events_min: must be 1 to 1000000000000",
            "nats.ready_timeout_ms: must be 100 to 600000",
            "gateway.limits.request_timeout_ms: must be 100 to 100000",
            "nats.writes_waiting_max: must be 1 to 1000000",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}

#[test]
fn a_lost_or_foreign_secret_stops_the_start() {
    let mut house = House::start();
    house.corp().post("/Users", &user("ada")).expect(201);
    assert!(house.stop());
    let key = house.data_dir().join("master.key");
    let kept = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, "0".repeat(64)).unwrap();
    let data = house.data_dir();
    let arguments: Vec<&str> = free().into_iter().chain(["--data-dir", data.to_str().unwrap()]).collect();
    let said = gives_up(&arguments);
    assert!(said.contains("master key"), "{said}");
    // None is made where one is missing: it would look like the right one.
    std::fs::remove_file(&key).unwrap();
    let said = gives_up(&arguments);
    assert!(said.contains("master.key is missing") && said.contains("ROLLCALL_MASTER_KEY"), "{said}");
    assert!(!key.exists());
    std::fs::write(&key, kept).unwrap();
    house.start_again();
    // The bucket with the subject secret is gone, the events are not.
    let url = house.env("NATS_URL").to_string();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let config = eventlog::nats::Config {
            url,
            replicas: 1,
            connect_timeout: std::time::Duration::from_secs(10),
            ..Default::default()
        };
        eventlog::nats::connect(&config).await.unwrap().rollcall.purge("subject-secret").await.unwrap();
    });
    assert!(house.stop());
    let said = gives_up(&arguments);
    assert!(said.contains("secret") && said.contains("restore"), "{said}");
}

#[test]
fn tls_is_served_from_certificate_files() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_string();
    let flags =
        vec!["--tls-certificate".to_string(), text(&certificate), "--tls-key".to_string(), text(&key)];
    let house = House::start_with(Options {
        flags: [flags, vec!["--public-url".to_string(), "https://scim.corp.test".to_string()]].concat(),
        ..Options::default()
    });
    assert_eq!(house.env("SCIM_URL"), "https://scim.corp.test/t/corp/scim/v2");
    let log = house.log();
    let listening = log
        .split_whitespace()
        .find_map(|word| word.strip_prefix("address=127.0.0.1:"))
        .unwrap_or_else(|| panic!("{log}"));
    let url = format!("https://127.0.0.1:{listening}/t/corp/scim/v2");
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(&certificate).unwrap()).unwrap()])
        .build()
        .unwrap();
    let reply = client
        .post(format!("{url}/Users"))
        .bearer_auth(house.env("SCIM_TOKEN"))
        .header("Content-Type", "application/scim+json")
        .body(user("ada").to_string())
        .send()
        .unwrap();
    assert_eq!(reply.status().as_u16(), 201);
    assert!(
        reply.headers()["location"]
            .to_str()
            .unwrap()
            .starts_with("https://scim.corp.test/t/corp/scim/v2/Users/")
    );
    assert!(reqwest::blocking::get(url.replace("https", "http")).is_err(), "plain HTTP is answered");
}
