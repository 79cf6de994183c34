//! A private authority, a certificate for a server at this machine, and one for us.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;

/// Papers in a folder: `ca.pem`, `client.pem`, `client.key`.
pub struct Papers {
    folder: tempfile::TempDir,
    authority: Issuer<'static, KeyPair>,
    root: rcgen::Certificate,
}

impl Papers {
    /// A new authority, and our certificate by it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), root.pem()).expect("a file");
        let papers = Self { folder, authority: Issuer::new(params, key), root };
        papers.issue(&papers);
        papers
    }

    /// Writes a certificate by this authority in place of ours.
    pub fn issue(&self, to: &Self) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["rollcall.test".to_string()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        std::fs::write(to.path("client.pem"), certificate.pem()).expect("a file");
        std::fs::write(to.path("client.key"), key.serialize_pem()).expect("a file");
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    /// A server that shows a certificate for `localhost` and demands one of this authority.
    pub(super) fn server(&self) -> RustlsConfig {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_string()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
        let mut config = rustls::ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a server's configuration");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        RustlsConfig::from_config(Arc::new(config))
    }
}

impl Default for Papers {
    fn default() -> Self {
        Self::new()
    }
}
