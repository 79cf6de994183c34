//! The managed broker: a `nats-server` child with generated credentials, its own data folder and `sync_interval:
//! always`, started again when it dies, gone when we are gone.

mod child;
mod find;
mod room;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;
use child::Supervisor;

pub use find::find;
pub use room::free_bytes;

/// The largest message; a group of a quarter million members fits.
const PAYLOAD_MAX_BYTES: usize = crate::nats::PAYLOAD_MIN_BYTES;
/// How long the server may take to listen: a store of millions of events is checked first after a power failure.
pub(crate) const START_MAX: Duration = Duration::from_secs(30 * 60);
/// The user that is generated.
const USER: &str = "rollcall";
/// Random bytes of the user's password.
const PASSWORD_BYTES: usize = 24;

/// How the managed broker is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The program.
    pub binary: PathBuf,
    /// Its data, credentials and log.
    pub folder: PathBuf,
    /// The port on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// How many processors its Go code may use at once (`GOMAXPROCS`); `None` leaves it to the environment.
    pub processors: Option<usize>,
}

/// How many processors a managed broker should use: half of those that there are. It shares them with its gateway, and a
/// stream is written by one goroutine; what more threads of it do is mostly to look for work.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1))
}

/// A running managed broker. Dropping it stops the child.
pub struct Server {
    url: String,
    supervisor: Supervisor,
}

impl Server {
    /// Starts the broker and waits until it listens. Blocks; call it from a thread that may.
    pub fn start(config: &Config) -> Result<Self, Error> {
        let refused =
            |reason: String| Error::Refused { doing: "starting the managed NATS server".to_string(), reason };
        if !is_plain(&config.folder) {
            return Err(refused(format!(
                "its folder {:?} has a quotation mark, a backslash, a control character or what is not UTF-8 in its name, \
                 which nats-server's configuration cannot say. Choose another with --data-dir",
                config.folder
            )));
        }
        std::fs::create_dir_all(&config.folder)
            .map_err(|error| refused(format!("{} cannot be made: {error}", config.folder.display())))?;
        let password = password(&config.folder).map_err(&refused)?;
        let supervisor =
            Supervisor::start(config, &|port| settings(config, port, &password)).map_err(refused)?;
        let url = format!("nats://{USER}:{password}@127.0.0.1:{}", supervisor.port());
        Ok(Self { url, supervisor })
    }

    /// Where it listens, with user and password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The child's process id at the moment.
    pub fn pid(&self) -> u32 {
        self.supervisor.pid()
    }

    /// Stops the child cleanly and waits for its end.
    pub fn stop(self) {
        drop(self);
    }
}

/// Whether a URL is one that [`Server::url`] gives, of a broker that runs or ran.
pub fn is_managed(url: &str) -> bool {
    let rest = url.strip_prefix(&format!("nats://{USER}:")).unwrap_or_default();
    let Some((password, address)) = rest.split_once('@') else { return false };
    let bytes = data_encoding::HEXLOWER.decode(password.as_bytes());
    let address = address.parse::<SocketAddrV4>();
    bytes.is_ok_and(|bytes| bytes.len() == PASSWORD_BYTES)
        && address.is_ok_and(|address| *address.ip() == Ipv4Addr::LOCALHOST)
}

/// Whether the server's settings can name this folder.
fn is_plain(folder: &Path) -> bool {
    let special = |letter: char| letter.is_control() || ['"', '\\'].contains(&letter);
    folder.to_str().is_some_and(|name| !name.contains(special))
}

/// The server's settings as its own file format.
fn settings(config: &Config, port: u16, password: &str) -> String {
    let listen = if port == 0 { -1 } else { i32::from(port) };
    let folder = config.folder.display();
    format!(
        "# Written by rollcall at every start.\n\
         server_name: rollcall\n\
         listen: \"127.0.0.1:{listen}\"\n\
         ports_file_dir: \"{folder}\"\n\
         max_payload: {PAYLOAD_MAX_BYTES}\n\
         jetstream {{\n  store_dir: \"{folder}/jetstream\"\n  sync_interval: always\n}}\n\
         authorization {{\n  user: {USER}\n  password: \"{password}\"\n}}\n"
    )
}

/// The password of this data folder, made once.
fn password(folder: &Path) -> Result<String, String> {
    let path = folder.join("password");
    if let Ok(text) = std::fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_string());
    }
    let bytes: [u8; PASSWORD_BYTES] = crate::clock::random().map_err(|error| error.to_string())?;
    let text = data_encoding::HEXLOWER.encode(&bytes);
    write_private(&path, &text)?;
    Ok(text)
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<(), String> {
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}
