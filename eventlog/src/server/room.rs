//! Room on the disk. A NATS server that could not write a message fails every write from then on, and one that reached
//! its limit measures the disk only when it starts: neither goes on by itself when room is made.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the server's log and the disk are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What must be free before the server is started again: two of the largest messages.
const ROOM_MIN_BYTES: u64 = 16 * 1024 * 1024;
/// How long a server runs at least before it is started again for this; doubled each time.
const AGAIN_DELAY: Duration = Duration::from_secs(5);
const AGAIN_DELAY_MAX: Duration = Duration::from_secs(300);
/// What the server says when it stops writing.
const COMPLAINTS: [&str; 3] = ["ritical write error", "no space left on device", "resource limits exceeded"];
/// How much of the log is read at once.
const READ_MAX_BYTES: u64 = 256 * 1024;

/// What a server writes before it says where it listens.
const FIRST_BYTES: usize = 16 * 1024;

/// Whether a server can begin to write. Asked by writing: nothing else is sure.
pub(super) fn find(folder: &Path) -> std::io::Result<()> {
    let path = folder.join("room");
    let written = std::fs::write(&path, [0x5a; FIRST_BYTES]);
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// What is known of the room that a server has.
pub(super) struct Room {
    folder: PathBuf,
    log: PathBuf,
    /// How far the log was read.
    read: u64,
    complained: bool,
    looked: Instant,
    started: Instant,
    delay: Duration,
}

impl Room {
    /// Looks at what is said in the log from now on.
    pub(super) fn new(folder: &Path, log: &Path) -> Self {
        let read = std::fs::metadata(log).map_or(0, |log| log.len());
        let now = Instant::now();
        Self {
            folder: folder.to_path_buf(),
            log: log.to_path_buf(),
            read,
            complained: false,
            looked: now,
            started: now,
            delay: AGAIN_DELAY,
        }
    }

    /// Whether the server gave up writing for want of room and there is room now. Says the first itself.
    pub(super) fn calls_for_a_start(&mut self) -> bool {
        if self.looked.elapsed() < LOOK_INTERVAL {
            return false;
        }
        self.looked = Instant::now();
        let free = free_bytes(&self.folder);
        if let Some(complaint) = self.complaint()
            && !self.complained
        {
            self.complained = true;
            metrics::counter!("rollcall_broker_out_of_room_total").increment(1);
            tracing::error!(
                folder = %self.folder.display(),
                free_bytes = free,
                complaint,
                "the managed NATS server cannot write, so requests that change something get 503. Make room on its disk; it \
                 is started again when {} MB are free",
                ROOM_MIN_BYTES / 1024 / 1024
            );
        }
        self.complained && free >= ROOM_MIN_BYTES && self.started.elapsed() >= self.delay
    }

    /// The server was started again.
    pub(super) fn started(&mut self) {
        self.complained = false;
        self.started = Instant::now();
        self.delay = (self.delay * 2).min(AGAIN_DELAY_MAX);
    }

    /// A line of the log that was not read before and says that there is no room.
    fn complaint(&mut self) -> Option<String> {
        let mut file = File::open(&self.log).ok()?;
        file.seek(SeekFrom::Start(self.read)).ok()?;
        let mut bytes = Vec::new();
        file.take(READ_MAX_BYTES).read_to_end(&mut bytes).ok()?;
        // Half a line is read again, unless it fills everything.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read +=
            if whole == 0 && bytes.len() as u64 == READ_MAX_BYTES { READ_MAX_BYTES } else { whole as u64 };
        let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default()).into_owned();
        text.lines()
            .find(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
            .map(ToString::to_string)
    }
}

/// What an ordinary user may still write on the disk of a folder.
pub fn free_bytes(folder: &Path) -> u64 {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return 0 };
    // SAFETY: the path ends with a zero byte, and the struct is plain numbers that the call fills in.
    #[expect(unsafe_code, reason = "the standard library does not tell how much room there is")]
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &raw mut stat) != 0 {
            return 0;
        }
        stat
    };
    stat.f_bavail.saturating_mul(stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_complaint_is_read_once_and_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = File::create(&path).unwrap();
        writeln!(log, "[ERR] no space left on device, before").unwrap();
        let mut room = Room::new(folder.path(), &path);
        assert_eq!(room.complaint(), None);
        write!(log, "[INF] fine\n[ERR] Filestore [S] Critical wri").unwrap();
        assert_eq!(room.complaint(), None);
        writeln!(log, "te error: something").unwrap();
        assert_eq!(room.complaint().unwrap(), "[ERR] Filestore [S] Critical write error: something");
        assert_eq!(room.complaint(), None);
        assert!(free_bytes(folder.path()) > 0);
    }
}
