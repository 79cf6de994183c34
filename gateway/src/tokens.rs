//! Bearer tokens: a projection of CONTROL in memory. Only hashes are kept; whoever was revoked is refused at once.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use eventlog::{Append, Error, Guard, LastSequence, Log, Message, clock};
use futures::StreamExt;
use jiff::Timestamp;
use proto::control::{self, Kind};
use proto::{ResourceId, Tenant, subject};
use scim::Dialect;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What every token begins with, so that scanners for leaked secrets know it.
const PREFIX: &str = "rc_";
/// Random bytes of the public id.
const CREDENTIAL_BYTES: usize = 10;
/// Random bytes of the secret.
const SECRET_BYTES: usize = 32;
/// How long an unknown token may wait for the latest news.
const NEWS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a token may take to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A token without its secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The public id inside it.
    pub credential: String,
    /// The tenant it opens.
    pub tenant: Tenant,
    /// The source that writes with it.
    pub source: String,
    /// How the source speaks SCIM.
    pub dialect: Dialect,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// A note.
    pub description: String,
    /// Whom it stands for; nothing for a service.
    pub user: Option<ResourceId>,
    hash: [u8; 32],
}

/// A token that was just made. Its secret is shown once.
pub struct Minted {
    /// The public id.
    pub credential: String,
    /// What the client presents.
    pub secret: String,
}

/// Every token, kept current by [`Tokens::run`]. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    log: Arc<dyn Log>,
    /// Strangers ask as well, as often as they like.
    last: Arc<LastSequence>,
    tokens: Arc<RwLock<BTreeMap<String, Token>>>,
    applied: Arc<watch::Sender<u64>>,
}

impl Tokens {
    /// No tokens yet.
    pub fn new(log: Arc<dyn Log>) -> Self {
        let last = Arc::new(LastSequence::of(log.clone()));
        Self { log, last, tokens: Arc::default(), applied: Arc::new(watch::Sender::new(0)) }
    }

    /// Follows CONTROL until told to stop.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut messages = self.log.follow(1);
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = shutdown.cancelled() => return Ok(()),
            };
            let Some(message) = message.transpose()? else { return Ok(()) };
            let sequence = message.sequence;
            apply(&mut self.tokens.write().unwrap_or_else(PoisonError::into_inner), message)?;
            self.applied.send_replace(sequence);
        }
    }

    /// Waits until everything is known that stands in CONTROL now.
    pub async fn catch_up(&self, deadline: Instant) -> Result<(), Error> {
        let unavailable = || Error::Unavailable { doing: "reading the tokens".to_string(), source: None };
        let waiting = async {
            let last = self.last.ask().await?;
            let mut applied = self.applied.subscribe();
            let waited = applied.wait_for(|applied| *applied >= last).await;
            waited.map(drop).map_err(|_| unavailable())
        };
        tokio::time::timeout_at(deadline, waiting).await.map_err(|_| unavailable())?
    }

    /// The token that a client presents; nothing when it is unknown, wrong, revoked or expired. One that is not known
    /// yet may have been made a moment ago elsewhere, so the news are awaited first. Without them nobody is called
    /// unknown: a client that hears that may give up for good.
    pub(crate) async fn authenticate(&self, presented: &str, now: Timestamp) -> Result<Option<Token>, Error> {
        let parts = presented.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let Some((credential, secret)) = parts else { return Ok(None) };
        if credential.len() > 64 || secret.len() > 128 {
            return Ok(None);
        }
        let mut found = self.get(credential);
        if found.is_none() {
            self.catch_up(Instant::now() + NEWS_TIMEOUT).await?;
            found = self.get(credential);
        }
        let Some(token) = found else { return Ok(None) };
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let valid = bool::from(hash.ct_eq(&token.hash))
            && !token.revoked
            && token.expires_at.is_none_or(|end| end > now);
        Ok(valid.then_some(token))
    }

    fn get(&self, credential: &str) -> Option<Token> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).get(credential).cloned()
    }
}

fn apply(tokens: &mut BTreeMap<String, Token>, message: Message) -> Result<(), Error> {
    let sequence = message.sequence;
    let event = control::decode(message.payload).map_err(|error| Error::Damaged {
        doing: format!("reading CONTROL at {sequence}"),
        reason: error.to_string(),
    })?;
    match event.kind {
        Kind::TokenCreated { credential, hash, source, dialect, expires_at, description, user } => {
            let dialect = dialect.parse().unwrap_or_default();
            let token = Token {
                credential: credential.clone(),
                tenant: event.tenant,
                source,
                dialect,
                created_at: event.occurred_at,
                expires_at,
                revoked: false,
                description,
                user,
                hash,
            };
            tokens.insert(credential, token);
        }
        Kind::TokenRevoked { credential } => {
            if let Some(token) = tokens.get_mut(&credential) {
                token.revoked = true;
            }
        }
        Kind::ConfigurationApplied { .. } | Kind::Operated { .. } => {}
    }
    Ok(())
}

/// Every token that stands in CONTROL now, by its public id.
pub async fn read_tokens(log: &dyn Log) -> Result<Vec<Token>, Error> {
    let mut tokens = BTreeMap::new();
    let last = log.last_sequence().await?;
    let mut messages = log.follow(1);
    let mut read = 0;
    while read < last
        && let Some(message) = messages.next().await.transpose()?
    {
        read = message.sequence;
        apply(&mut tokens, message)?;
    }
    Ok(tokens.into_values().collect())
}

/// Makes a token and writes its hash. With a user it stands for that person, who is `/Me` then.
pub async fn mint(
    log: &dyn Log,
    tenant: &Tenant,
    source: &str,
    dialect: Dialect,
    expires_at: Option<Timestamp>,
    description: &str,
    user: Option<ResourceId>,
) -> Result<Minted, Error> {
    let text = |bytes: &[u8]| BASE32_NOPAD.encode(bytes).to_ascii_lowercase();
    let credential = text(&clock::random::<CREDENTIAL_BYTES>()?);
    let secret = text(&clock::random::<SECRET_BYTES>()?);
    let kind = Kind::TokenCreated {
        credential: credential.clone(),
        hash: Sha256::digest(secret.as_bytes()).into(),
        source: source.to_string(),
        dialect: dialect.as_str().to_string(),
        expires_at,
        description: description.to_string(),
        user,
    };
    write(log, tenant, "", kind).await?;
    Ok(Minted { secret: format!("{PREFIX}{credential}_{secret}"), credential })
}

/// Revokes a token.
pub async fn revoke(log: &dyn Log, token: &Token, reason: &str) -> Result<(), Error> {
    write(log, &token.tenant, reason, Kind::TokenRevoked { credential: token.credential.clone() }).await
}

async fn write(log: &dyn Log, tenant: &Tenant, reason: &str, kind: Kind) -> Result<(), Error> {
    let event = control::Event {
        id: clock::new_event_id(),
        tenant: tenant.clone(),
        actor: "operator".to_string(),
        txn: clock::new_uuid().to_string(),
        occurred_at: clock::now(),
        reason: reason.to_string(),
        ticket: String::new(),
        kind,
    };
    let append = Append {
        subject: subject::control(tenant, event.kind.name()),
        guard: Guard::None,
        id: event.id,
        payload: control::encode(&event),
        headers: eventlog::Headers::default(),
    };
    log.append(append, Instant::now() + WRITE_TIMEOUT).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventlog::memory::{self, Faults};
    use futures::stream::BoxStream;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    /// A log that answers how far it is only when it may, and counts who asks.
    struct Slow {
        log: Arc<dyn Log>,
        asked: AtomicUsize,
        answers: Semaphore,
    }

    #[async_trait::async_trait]
    impl Log for Slow {
        fn name(&self) -> &str {
            self.log.name()
        }

        async fn append(&self, append: Append, deadline: Instant) -> Result<u64, Error> {
            self.log.append(append, deadline).await
        }

        async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error> {
            self.log.append_atomic(appends, deadline).await
        }

        async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
            self.log.read(sequence).await
        }

        async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
            self.log.last_on(subject).await
        }

        async fn last_sequence(&self) -> Result<u64, Error> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let _answer = self.answers.acquire().await.unwrap();
            self.log.last_sequence().await
        }

        fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
            self.log.follow(from)
        }

        async fn note(&self, name: &str) -> Result<Option<String>, Error> {
            self.log.note(name).await
        }

        async fn set_note(&self, name: &str, value: &str) -> Result<(), Error> {
            self.log.set_note(name, value).await
        }
    }

    #[tokio::test]
    async fn many_strangers_are_one_question() {
        let log = memory::broker(Faults::default()).control;
        let slow = Arc::new(Slow { log, asked: AtomicUsize::new(0), answers: Semaphore::new(0) });
        let tokens = Tokens::new(slow.clone());
        let strangers = (0..64).map(|number| {
            let tokens = tokens.clone();
            async move { tokens.authenticate(&format!("rc_stranger{number}_x"), clock::now()).await }
        });
        let all = tokio::spawn(futures::future::join_all(strangers));
        while slow.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        slow.answers.add_permits(1);
        assert!(all.await.unwrap().into_iter().all(|found| found.unwrap().is_none()));
        let asked = slow.asked.load(Ordering::SeqCst);
        assert!(asked <= 2, "the log was asked {asked} times");
        // A log that says nothing holds nobody beyond the deadline, however many wait.
        slow.answers.forget_permits(1);
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(50);
        let waiting = (0..64).map(|_| tokens.catch_up(deadline));
        assert!(futures::future::join_all(waiting).await.iter().all(Result::is_err));
        assert!(begun.elapsed() < NEWS_TIMEOUT);
    }

    #[tokio::test]
    async fn only_the_whole_living_token_opens() {
        let broker = memory::broker(Faults::default());
        let tokens = Tokens::new(broker.control.clone());
        let (running, shutdown) = (tokens.clone(), CancellationToken::new());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { running.run(stop).await });
        let tenant = "corp".parse().unwrap();
        let control = &*broker.control;
        let minted = mint(control, &tenant, "okta", Dialect::Okta, None, "", None).await.unwrap();
        let now = clock::now();
        let token = tokens.authenticate(&minted.secret, now).await.unwrap().unwrap();
        assert_eq!(
            (token.tenant.clone(), token.source.as_str(), token.dialect),
            (tenant.clone(), "okta", Dialect::Okta)
        );
        let mut wrong = minted.secret.clone();
        wrong.pop();
        for text in [wrong.as_str(), "", "rc_", "rc_a_b", &minted.secret[3..]] {
            assert!(tokens.authenticate(text, now).await.unwrap().is_none(), "{text}");
        }
        let past = mint(control, &tenant, "okta", Dialect::Okta, Some(now), "", None).await.unwrap();
        assert!(tokens.authenticate(&past.secret, now).await.unwrap().is_none());
        revoke(control, &token, "leaked").await.unwrap();
        tokens.catch_up(Instant::now() + WRITE_TIMEOUT).await.unwrap();
        assert!(tokens.authenticate(&minted.secret, now).await.unwrap().is_none());
        assert_eq!(read_tokens(control).await.unwrap().iter().filter(|token| token.revoked).count(), 1);
        let stored = broker.control.read(1).await.unwrap().unwrap().payload;
        let secret = minted.secret.rsplit_once('_').unwrap().1.as_bytes();
        assert!(!stored.windows(secret.len()).any(|window| window == secret));
        shutdown.cancel();
        task.await.unwrap().unwrap();
    }
}
