//! `dev.env`: where everything is and how to get in, for scripts and for `source`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Failure;

/// The file's name in the data folder.
pub(crate) const NAME: &str = "dev.env";

/// A quotation mark inside of quotation marks, for a shell.
const QUOTE: &str = r"'\''";

/// Writes the file as a whole, readable by its owner only. Its presence says that everything is ready.
pub(crate) fn write(data_dir: &Path, values: &[(&str, &str)]) -> Result<PathBuf, Failure> {
    let path = data_dir.join(NAME);
    let fresh = data_dir.join("dev.env.new");
    let text: String = values.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
    let failed = |error: std::io::Error| Failure::of(format_args!("writing {}", path.display()), &error);
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    std::fs::rename(&fresh, &path).map_err(failed)?;
    Ok(path)
}

/// One value of the file, if a house runs (or ran) on this data folder.
pub(crate) fn read(data_dir: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join(NAME)).ok()?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| plain(value))
}

/// What a shell reads as this text: a password may hold what means something there.
fn quoted(value: &str) -> String {
    let means_nothing = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/@%+,=[]".contains(letter);
    if value.chars().all(means_nothing) {
        return value.to_string();
    }
    format!("'{}'", value.replace('\'', QUOTE))
}

/// What was quoted.
fn plain(text: &str) -> String {
    let inner = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    inner.map_or_else(|| text.to_string(), |inner| inner.replace(QUOTE, "'"))
}

/// Takes the file away: nothing runs here any more, or not yet.
pub(crate) fn remove(data_dir: &Path) {
    let _ = std::fs::remove_file(data_dir.join(NAME));
}

/// A text that is kept in this data folder; nothing when there is no such file. One that cannot be read is no reason to
/// make another in its place.
pub(crate) fn kept(data_dir: &Path, name: &str) -> Result<Option<String>, Failure> {
    let path = data_dir.join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().to_string(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::of(format_args!("reading {}", path.display()), &error)),
    };
    if text.is_empty() {
        let path = path.display();
        return Err(Failure::new(format!("{path} is empty: put the right file back, or remove this one")));
    }
    Ok(Some(text))
}

/// Keeps a text in this data folder for good, readable by its owner only.
pub(crate) fn keep(data_dir: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let (path, fresh) = (data_dir.join(name), data_dir.join(format!("{name}.new")));
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&fresh, &path))
        .and_then(|()| std::fs::File::open(data_dir)?.sync_all())
        .map_err(|error| Failure::of(format_args!("writing {}", path.display()), &error))
}

/// Reads a secret of this data folder, or makes it: `bytes` random bytes as hexadecimal digits.
pub(crate) fn secret(data_dir: &Path, name: &str, bytes: usize) -> Result<String, Failure> {
    if let Some(kept) = kept(data_dir, name)? {
        return Ok(kept);
    }
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::new(format!("making {name}: no randomness: {error}")))?;
    let text = data_encoding::HEXLOWER.encode(&random);
    keep(data_dir, name, &text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("SCIM_URL", "http://127.0.0.1:1/scim/v2"), ("SCIM_TOKEN", "rc_a=b")])
            .unwrap();
        assert_eq!(read(folder.path(), "SCIM_TOKEN").as_deref(), Some("rc_a=b"));
        assert_eq!(read(folder.path(), "APP_URL"), None);
        remove(folder.path());
        assert_eq!(read(folder.path(), "SCIM_URL"), None);
    }

    #[test]
    fn a_shell_reads_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for value in
            ["nats://u:a;b&c$HOME`id`'\"(d)@127.0.0.1:1", "http://[::1]:1/x?a=b", "two words", "'", ""]
        {
            let path = write(folder.path(), &[("VALUE", value)]).unwrap();
            let script = format!(". {}; printf %s \"$VALUE\"", path.display());
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
            assert_eq!(read(folder.path(), "VALUE").as_deref(), Some(value));
        }
    }

    #[test]
    fn a_secret_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = secret(folder.path(), "master.key", 32).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(secret(folder.path(), "master.key", 32).unwrap(), first);
    }

    /// A disk that does not answer, a file of another user: the key in it is the only one.
    #[test]
    fn a_secret_that_cannot_be_read_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        for bytes in [b"\xff\xfe".as_slice(), b"", b"\n"] {
            std::fs::write(&path, bytes).unwrap();
            let error = secret(folder.path(), "master.key", 32).expect_err("it is made anew").to_string();
            assert!(error.contains("master.key"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "what was there is there");
        }
    }
}
