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
            Ok(found) if found >= SERVER_VERSION_MIN => return Ok(candidate),
            Ok((major, minor)) => tried.push(format!("{} is {major}.{minor}", candidate.display())),
            Err(why) => tried.push(format!("{} does not run ({why})", candidate.display())),
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

/// Major and minor version, from `nats-server: v2.15.1`; or why it does not say them, as where there is too little memory.
fn version(program: &Path) -> Result<(u32, u32), String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.trim().rsplit_once('v').map(|(_, numbers)| numbers).unwrap_or_default();
    let mut numbers = numbers.split('.').map(|part| part.parse().ok());
    if let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) {
        return Ok((major, minor));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says no version");
    Err(format!("{said}, {}", output.status))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_does_not_run_is_told_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nats-server");
        assert!(version(&program).unwrap_err().contains("No such file"));
        let script = |text: &str| {
            std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
            version(&program)
        };
        assert_eq!(script("echo 'nats-server: v2.15.1'"), Ok((2, 15)));
        let failed = script("echo 'fatal error: failed to reserve page summary memory' >&2; exit 2");
        assert!(
            failed.as_ref().is_err_and(|why| why.contains("failed to reserve") && why.contains('2')),
            "{failed:?}"
        );
        assert!(script("echo hello").unwrap_err().contains("no version"));
    }
}
