//! Our certificate, and whose certificates we trust beside those of the machine.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use eventlog::file;
use reqwest::{Certificate, ClientBuilder, Identity};

/// Files of certificates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// PEM files with our chain and with its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A PEM file with certificates that are trusted beside those of the machine.
    pub ca: Option<PathBuf>,
}

/// By this a file that was replaced is noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<(SystemTime, u64)>>);

impl Tls {
    pub(super) fn has_certificate(&self) -> bool {
        self.identity.is_some()
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        identity.chain(&self.ca).map(PathBuf::as_path)
    }

    /// Whether there is any file.
    pub(crate) fn is_used(&self) -> bool {
        self.files().next().is_some()
    }

    pub(crate) fn stamp(&self) -> Stamp {
        let of = |path: &Path| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        Stamp(self.files().map(of).collect())
    }

    pub(super) fn mistakes(&self) -> Vec<String> {
        if !self.is_used() {
            return Vec::new();
        }
        // Another one that was installed before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder();
        match self.apply(builder).map(|builder| builder.build().is_ok()) {
            Ok(true) => Vec::new(),
            Ok(false) => vec!["client_key: is not the key of client_certificate".to_string()],
            Err(mistake) => vec![mistake],
        }
    }

    /// A client that uses them; the error names the setting and the file, and nothing of what it holds.
    pub(crate) fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, String> {
        let read = |name: &str, path: &Path| {
            file::bytes(path).map_err(|error| format!("{name}: {} cannot be read: {error}", path.display()))
        };
        if let Some((chain, key)) = &self.identity {
            let mut pem = read("client_certificate", chain)?;
            pem.push(b'\n');
            pem.extend(read("client_key", key)?);
            let identity = Identity::from_pem(&pem).map_err(|_| {
                let (chain, key) = (chain.display(), key.display());
                format!("client_certificate, client_key: {chain} and {key} hold no certificate with its key in PEM")
            })?;
            builder = builder.identity(identity);
        }
        if let Some(path) = &self.ca {
            let trusted = Certificate::from_pem_bundle(&read("ca", path)?).unwrap_or_default();
            if trusted.is_empty() {
                return Err(format!("ca: {} holds no certificate in PEM", path.display()));
            }
            builder = builder.tls_certs_merge(trusted);
        }
        Ok(builder)
    }
}
