//! One child process with a fixed command line: started, killed, frozen, started again; its words go to a file.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

/// A process that can be started again. Dropping it kills it.
pub struct Process {
    /// What it is called in messages.
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A process that does not run yet. Its words go to `FOLDER/NAME.log`.
    pub fn new(name: &str, program: &Path, folder: &Path, arguments: &[&str]) -> Self {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        Self {
            name: name.to_string(),
            program: program.to_path_buf(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: Vec::new(),
            log: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    /// The same with a variable of the environment.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// Starts it; does nothing when it runs. The thread that calls this must outlive the process.
    pub fn start(&mut self) {
        if self.runs() {
            return;
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.expect("the log can be opened");
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        #[expect(unsafe_code, reason = "the standard library cannot tie a child's life to its parent's")]
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name)));
    }

    /// Whether it runs (or is frozen).
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// How it ended, when it ended by itself; told once.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("the child can be asked")?;
        self.child = None;
        Some(status)
    }

    /// Kills it with SIGKILL and waits for its end; returns whether it ran.
    pub fn kill(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        let ran = matches!(child.try_wait(), Ok(None));
        let _ = child.kill();
        let _ = child.wait();
        ran
    }

    /// Freezes it (SIGSTOP): its connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on after [`Process::freeze`].
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let Some(child) = &self.child else { return };
        let pid = libc::pid_t::try_from(child.id()).expect("a pid fits");
        // SAFETY: a signal to our own child, which has not been waited for yet.
        #[expect(unsafe_code, reason = "the standard library has no call for other signals than SIGKILL")]
        unsafe {
            libc::kill(pid, signal);
        }
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of what it said.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(15)).map(|line| format!("    {line}\n")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port on loopback for as long as this process runs, below those that the kernel gives to connections: whoever is killed
/// must find it free again. UDP's port of that number is held meanwhile, so that nobody else is given the same.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let mut random = crate::random::Random::new(crate::random::fresh_seed());
    loop {
        let port = 12_000 + u16::try_from(random.below(18_000)).expect("a small number");
        let Ok(held) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            GIVEN.lock().unwrap_or_else(PoisonError::into_inner).push(held);
            return port;
        }
    }
}
