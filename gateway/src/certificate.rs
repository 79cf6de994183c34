//! The certificate that clients are shown: read at the start, and again whenever its files change, because certificates
//! live for weeks and processes for longer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use eventlog::file;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::Tls;

/// How often the files are looked at.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// What the two files said.
#[derive(Clone, Debug, PartialEq)]
struct Texts {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate chain and its key, and how its files were when they were looked at last.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: Tls,
    /// What is shown was made of these.
    shown: Texts,
    /// How often in a row the same could not be used. Once is not worth a word: two files are not replaced at once.
    unusable: Option<(Unusable, u32)>,
}

/// Files as they cannot be used.
#[derive(Debug, PartialEq)]
enum Unusable {
    Unreadable(io::ErrorKind),
    Unfit(Texts),
}

impl Certificate {
    /// Reads both files.
    pub(crate) fn read(files: &Tls) -> io::Result<(Self, TlsAcceptor)> {
        let shown = texts(files)?;
        let acceptor = acceptor(&shown)?;
        Ok((Self { files: files.clone(), shown, unusable: None }, acceptor))
    }

    /// What connections that begin from now on are to be shown, when the files have changed. Files that cannot be used
    /// change nothing.
    fn look(&mut self) -> Option<TlsAcceptor> {
        let (error, unusable) = match texts(&self.files) {
            Ok(texts) if texts == self.shown => {
                self.unusable = None;
                return None;
            }
            Ok(texts) => match acceptor(&texts) {
                Ok(acceptor) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "the certificate changed and is shown from now on");
                    (self.shown, self.unusable) = (texts, None);
                    return Some(acceptor);
                }
                Err(error) => (error, Unusable::Unfit(texts)),
            },
            Err(error) => {
                let kind = error.kind();
                (error, Unusable::Unreadable(kind))
            }
        };
        let before = self.unusable.take().filter(|(before, _)| *before == unusable);
        let times = before.map_or(1, |(_, times)| times.saturating_add(1));
        self.unusable = Some((unusable, times));
        if times == 2 {
            let (certificate, key) = (self.files.certificate.display(), self.files.key.display());
            tracing::warn!(
                %certificate, %key, %error,
                "the certificate changed and cannot be used: both must be PEM files that belong together; the one before goes on being shown"
            );
        }
        None
    }

    /// Looks again and again, and never returns.
    pub(crate) async fn follow(mut self, interval: Duration, shown: watch::Sender<TlsAcceptor>) {
        loop {
            tokio::time::sleep(interval).await;
            let looked = tokio::task::spawn_blocking(move || {
                let changed = self.look();
                (self, changed)
            });
            let Ok((certificate, changed)) = looked.await else { return std::future::pending().await };
            self = certificate;
            if let Some(acceptor) = changed {
                shown.send_replace(acceptor);
            }
        }
    }
}

fn texts(files: &Tls) -> io::Result<Texts> {
    Ok(Texts { chain: file::bytes(&files.certificate)?, key: file::bytes(&files.key)? })
}

/// Refuses a chain and a key that do not belong together.
fn acceptor(texts: &Texts) -> io::Result<TlsAcceptor> {
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let chain = CertificateDer::pem_slice_iter(&texts.chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&texts.key).map_err(|error| invalid(&error))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| invalid(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{Connections, Limits};

    fn issued() -> CertifiedKey<KeyPair> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        generate_simple_self_signed(vec!["localhost".to_string()]).unwrap()
    }

    fn files(folder: &Path) -> Tls {
        Tls { certificate: folder.join("cert.pem"), key: folder.join("key.pem") }
    }

    fn put(files: &Tls, issued: &CertifiedKey<KeyPair>) {
        std::fs::write(&files.certificate, issued.cert.pem()).unwrap();
        std::fs::write(&files.key, issued.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn only_files_that_changed_and_can_be_used_change_what_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (files, [first, second]) = (files(folder.path()), [issued(), issued()]);
        assert!(Certificate::read(&files).is_err(), "there are no files");
        put(&files, &first);
        let (mut certificate, _) = Certificate::read(&files).unwrap();
        assert!(certificate.look().is_none(), "nothing changed");
        std::fs::write(&files.certificate, second.cert.pem()).unwrap();
        for _ in 0..3 {
            assert!(certificate.look().is_none(), "the key is not this certificate's");
        }
        std::fs::remove_file(&files.key).unwrap();
        assert!(certificate.look().is_none(), "there is no key");
        put(&files, &second);
        assert!(certificate.look().is_some() && certificate.look().is_none());
        std::fs::write(&files.certificate, "").unwrap();
        assert!(certificate.look().is_none(), "there is no certificate");
        put(&files, &first);
        assert!(certificate.look().is_some());
    }

    /// The certificate that a new connection is shown.
    async fn shown(
        address: std::net::SocketAddr,
        trusted: &[CertificateDer<'static>],
    ) -> CertificateDer<'static> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        stream.shutdown().await.unwrap();
        shown
    }

    #[tokio::test]
    async fn a_new_certificate_is_shown_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (files, [first, second]) = (files(folder.path()), [issued(), issued()]);
        put(&files, &first);
        let (certificate, acceptor) = Certificate::read(&files).unwrap();
        let (sender, receiver) = watch::channel(acceptor);
        tokio::spawn(certificate.follow(Duration::from_millis(1), sender));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let connections =
            Connections::new("test", &Limits::default(), Some(receiver), crate::http::unreadable);
        tokio::spawn(connections.serve(listener, axum::Router::new(), shutdown));
        let trusted = [first.cert.der().clone(), second.cert.der().clone()];
        assert_eq!(shown(address, &trusted).await, trusted[0]);
        put(&files, &second);
        while shown(address, &trusted).await != trusted[1] {
            tokio::task::yield_now().await;
        }
    }
}
