//! Listening: plain HTTP on loopback or behind a proxy, TLS everywhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use futures::future::OptionFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::certificate::{Certificate, LOOK_INTERVAL};
use crate::connections::Connections;
use crate::http::unreadable;
use crate::{Gateway, Limits, Policies};

/// How the gateway is reached.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: Option<Tls>,
    /// The URL under which clients reach it.
    pub public_url: Option<String>,
    /// Whether a proxy in front ends TLS and tells the client's address.
    pub behind_proxy: bool,
    /// Whether ServiceProviderConfig announces RFC 9967; clients of a strict model refuse what they do not know.
    pub announce_security_events: bool,
    /// How much one request may ask for.
    pub limits: Limits,
    /// What tenants and sources may do.
    pub policies: Policies,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// The gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error(
        "listening for SCIM on {address}: {source}; choose another address with --scim-listen (port 0 picks a free one)"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Plain HTTP where others can listen.
    #[error(
        "{address} is not a loopback address, and plain HTTP would show tokens to the network: give --tls-certificate and --tls-key, or say --behind-proxy if a proxy in front ends TLS"
    )]
    Plain {
        /// Which.
        address: SocketAddr,
    },
    /// The certificate or the key.
    #[error(
        "reading the certificate {certificate} and the key {key}: {source}; both must be PEM files that belong together"
    )]
    Tls {
        /// The chain.
        certificate: String,
        /// The key.
        key: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A bound address; nothing is served yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<(Certificate, TlsAcceptor)>,
}

impl Bound {
    /// Binds the address and reads the certificate, so that every mistake shows at once.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        if config.tls.is_none() && !config.behind_proxy && !config.listen.ip().is_loopback() {
            return Err(Error::Plain { address: config.listen });
        }
        let tls = match &config.tls {
            None => None,
            Some(files) => Some(Certificate::read(files).map_err(|source| Error::Tls {
                certificate: files.certificate.display().to_string(),
                key: files.key.display().to_string(),
                source,
            })?),
        };
        let listen = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, tls })
    }

    /// Where it listens, with the port that was picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop, then lets requests that are under way finish.
    pub async fn serve(self, gateway: &Gateway, shutdown: CancellationToken) {
        let (shown, following) = match self.tls {
            None => (None, None),
            Some((certificate, acceptor)) => {
                let (sender, receiver) = watch::channel(acceptor);
                (Some(receiver), Some(certificate.follow(LOOK_INTERVAL, sender)))
            }
        };
        let connections = Connections::new("scim", &gateway.inner.limits, shown, unreadable);
        tokio::select! {
            () = connections.serve(self.listener, gateway.router(), shutdown) => {}
            Some(()) = OptionFuture::from(following) => {}
        }
    }
}
