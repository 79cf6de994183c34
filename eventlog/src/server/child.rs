//! The child process and the thread that watches over it.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::room::{self, Room};
use super::{Config, START_MAX, write_private};

/// How often the watcher looks whether the child lives.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How often it is said that the child does not listen yet.
const TOLD_INTERVAL: Duration = Duration::from_secs(5);
/// How long another process may take to let go of the data folder.
const LOCK_MAX: Duration = Duration::from_secs(5);
/// How long a child that let go of the folder may take until its port is free, too.
const PORT_MAX: Duration = Duration::from_secs(2);
/// How long a clean end may take before the child is killed.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How long to wait before a child that died is started again; doubled for one that died soon after its start.
const AGAIN_DELAY: Duration = Duration::from_millis(200);
const AGAIN_DELAY_MAX: Duration = Duration::from_secs(5);
/// How long a child lives that did not die because of what its start found.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// Watches over the child until it is dropped.
pub(super) struct Supervisor {
    port: u16,
    pid: Arc<AtomicU32>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the watcher needs to start a child again.
struct Watch {
    config: Config,
    lock: File,
    pid: Arc<AtomicU32>,
}

impl Supervisor {
    /// Starts the child and the watcher, and waits until the child listens.
    pub(super) fn start(config: &Config, settings: &dyn Fn(u16) -> String) -> Result<Self, String> {
        let lock = lock(&config.folder)?;
        // Only now: a child whose parent was killed has both, and lets go of them a moment later.
        free(config.port)?;
        let pid = Arc::new(AtomicU32::new(0));
        let watch = Watch { config: config.clone(), lock, pid: pid.clone() };
        write_private(&config.folder.join("nats-server.conf"), &settings(config.port))?;
        room::find(&config.folder).map_err(|error| {
            format!(
                "nothing can be written to {}: {error}. Make room on its disk, or give the right to write there",
                config.folder.display()
            )
        })?;
        let (report, reported) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        // The kernel kills the child when the *thread* that made it ends, so that thread must live as long as we do.
        let thread = std::thread::Builder::new()
            .name("nats-server".to_string())
            .spawn(move || watch.run(&report, &stopped))
            .map_err(|error| format!("no thread can be started: {error}"))?;
        let mut supervisor = Self { port: 0, pid, stop: Some(stop), thread: Some(thread) };
        supervisor.port = reported.recv().unwrap_or_else(|_| Err("its watcher ended".to_string()))?;
        // A restarted child must be found where the first one was.
        write_private(&config.folder.join("nats-server.conf"), &settings(supervisor.port))?;
        Ok(supervisor)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watch {
    fn run(&self, report: &Sender<Result<u16, String>>, stopped: &Receiver<()>) {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(reason) => return drop(report.send(Err(reason))),
        };
        match self.listening(&mut child) {
            Ok(port) => drop(report.send(Ok(port))),
            Err(reason) => {
                end(&mut child);
                return drop(report.send(Err(reason)));
            }
        }
        let mut room = Room::new(&self.config.folder, &self.log());
        let (mut started, mut delay) = (Instant::now(), AGAIN_DELAY);
        loop {
            match stopped.recv_timeout(LOOK_INTERVAL) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return end(&mut child),
            }
            if room.calls_for_a_start() {
                tracing::warn!(
                    "there is room again; starting the managed NATS server anew, so that it writes"
                );
                end(&mut child);
                room.started();
            }
            if let Ok(Some(status)) = child.try_wait() {
                if started.elapsed() > LIFE_MIN {
                    delay = AGAIN_DELAY;
                }
                tracing::error!(
                    %status,
                    last_words = self.last_words(),
                    again_ms = delay.as_millis(),
                    "the managed NATS server ended by itself; starting it again"
                );
                metrics::counter!("rollcall_broker_restarts_total").increment(1);
                if !matches!(stopped.recv_timeout(delay), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
                delay = (delay * 2).min(AGAIN_DELAY_MAX);
                started = Instant::now();
                match self.spawn() {
                    Ok(fresh) => child = fresh,
                    Err(reason) => tracing::error!(reason, "the managed NATS server does not start"),
                }
            }
        }
    }

    fn log(&self) -> PathBuf {
        self.config.folder.join("nats-server.log")
    }

    fn spawn(&self) -> Result<Child, String> {
        let log = self.log();
        let open = || std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let output = open().and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) =
            output.map_err(|error| format!("{} cannot be written: {error}", log.display()))?;
        let mut command = Command::new(&self.config.binary);
        command
            .arg("--config")
            .arg(self.config.folder.join("nats-server.conf"))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        if let Some(processors) = self.config.processors {
            command.env("GOMAXPROCS", processors.to_string());
        }
        let lock = self.lock.as_raw_fd();
        // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, setpgid and fcntl.
        #[expect(unsafe_code, reason = "the standard library cannot tie a child's life to its parent's")]
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // Ctrl-C at the terminal is for us; we then end the child in order.
                libc::setpgid(0, 0);
                // The child keeps the folder's lock, so nobody can start on its store before it is really gone.
                libc::fcntl(lock, libc::F_SETFD, 0);
                Ok(())
            });
        }
        let child = command
            .spawn()
            .map_err(|error| format!("{} does not run: {error}", self.config.binary.display()))?;
        self.pid.store(child.id(), Ordering::Relaxed);
        Ok(child)
    }

    /// Waits for the ports file and for an answer on the port.
    fn listening(&self, child: &mut Child) -> Result<u16, String> {
        let file = self.config.folder.join(format!("nats-server_{}.ports", child.id()));
        let (begun, mut told) = (Instant::now(), Instant::now());
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it ended at once with {status}: {}", self.last_words()));
            }
            if let Some(port) = read_port(&file)
                && TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
            {
                return Ok(port);
            }
            if begun.elapsed() > START_MAX {
                return Err(format!(
                    "it does not listen after {} s: {}",
                    START_MAX.as_secs(),
                    self.last_words()
                ));
            }
            if told.elapsed() > TOLD_INTERVAL {
                told = Instant::now();
                tracing::warn!(
                    seconds = begun.elapsed().as_secs(),
                    last_words = self.last_words(),
                    "the managed NATS server does not listen yet; it may be checking its store"
                );
            }
            pause();
        }
    }

    fn last_words(&self) -> String {
        let path = self.log();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let last =
            text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_string();
        format!("{last} (more in {})", path.display())
    }
}

/// Takes the folder's lock, which a child that outlives its parent for a moment still holds.
fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(format!("{} cannot be locked: {error}", path.display()));
            }
            Err(TryLockError::WouldBlock) if begun.elapsed() > LOCK_MAX => {
                return Err(format!(
                    "another rollcall uses {}. Stop it, or choose another folder with --data-dir",
                    folder.display()
                ));
            }
            Err(TryLockError::WouldBlock) => pause(),
        }
    }
}

/// Waits until a port can be listened on; 0 always can.
fn free(port: u16) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < PORT_MAX => pause(),
            Err(error) => {
                return Err(format!(
                    "port {port} on 127.0.0.1 cannot be used: {error}. Choose another with --nats-port (0 picks a free one), \
                     or use the server that runs there with --nats"
                ));
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a bounded condition, on a thread of its own"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

fn read_port(file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports.get("nats")?.get(0)?.as_str()?.rsplit_once(':')?.1.parse().ok()
}

/// Asks the child to end, and kills it when it does not.
fn end(child: &mut Child) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: a signal to our own child, which has not been waited for yet.
        #[expect(unsafe_code, reason = "the standard library has no call for SIGTERM")]
        unsafe {
            libc::kill(pid, libc::SIGTERM);
        }
    }
    let begun = Instant::now();
    while begun.elapsed() < STOP_MAX {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        pause();
    }
    let _ = child.kill();
    let _ = child.wait();
}
