//! Finding a `nats-server` that is new enough.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::nats::SERVER_VERSION_MIN;

/// The first program that is new enough: the one that was named, then those of the search path (the variable PATH),
/// then `tools/nats-server` beside the build. The error says what was found and what to do.
pub fn find(named: Option<&Path>, search_path: &str) -> Result<PathBuf, Error> {
    let mut tried = Vec::new();
    for candidate in candidates(named, search_path) {
        match version(&candidate) {
            Some(found) if found >= SERVER_VERSION_MIN => return Ok(candidate),
            Some((major, minor)) => tried.push(format!("{} is {major}.{minor}", candidate.display())),
            None if named.is_some() => tried.push(format!("{} does not run", candidate.display())),
            None => {}
        }
    }
    let (major, minor) = SERVER_VERSION_MIN;
    let found = if tried.is_empty() { "there is none on PATH".to_string() } else { tried.join(", ") };
    Err(Error::Refused {
        doing: "looking for nats-server".to_string(),
        reason: format!(
            "rollcall needs {major}.{minor} or newer, and {found}. Install it, name it with --nats-server, run `make \
             broker` to fetch it, or use a running one with --nats"
        ),
    })
}

fn candidates(named: Option<&Path>, search_path: &str) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_path_buf()];
    }
    let on_path = search_path
        .split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join("nats-server"));
    let program = std::env::current_exe().ok();
    // `target/release/rollcall` and `target/debug/deps/some_test` both stand below `target`.
    let beside = program
        .iter()
        .flat_map(|program| program.ancestors().skip(1).take(3))
        .flat_map(|folder| [folder.join("nats-server"), folder.join("tools/nats-server")]);
    on_path.chain(beside).filter(|path| path.is_file()).collect()
}

/// Major and minor version, from `nats-server: v2.15.1`.
fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.trim().rsplit_once('v')?.1.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
