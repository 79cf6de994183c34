//! Reading the files that an operator names: the configuration, secrets, certificates.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How long such a file may be: none of ours has a thousandth of it, and some (`/dev/zero`) have no end.
const BYTES_MAX: u64 = 16 << 20;

/// A whole file.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if length as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {} MB", BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

/// A whole file, as text.
pub fn text(path: &Path) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text");
    String::from_utf8(bytes(path)?).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        for error in [bytes(Path::new("/dev/zero")).unwrap_err(), text(Path::new("/dev/zero")).unwrap_err()] {
            assert_eq!(error.to_string(), "it is longer than 16 MB");
        }
    }

    #[test]
    fn what_is_no_text_is_said_to_be_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0xff, 0xfe]).unwrap();
        assert_eq!(text(file.path()).unwrap_err().to_string(), "it is no UTF-8 text");
        std::fs::write(file.path(), "secret\n").unwrap();
        assert_eq!(text(file.path()).unwrap(), "secret\n");
    }
}
