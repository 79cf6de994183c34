//! The subject secret: made once for a broker, sealed under the master key, its fingerprint noted on the stream.

use bytes::Bytes;
use proto::sealing::{DataKey, NONCE_BYTES};
use proto::subject::SubjectSecret;

use crate::{Broker, Error, clock};

/// Where it stands in the bucket ROLLCALL.
pub(crate) const KEY: &str = "subject-secret";
/// The note on the stream IDENTITY.
pub(crate) const NOTE: &str = "rollcall-subject-secret";
/// Associated data of the sealed secret.
const ASSOCIATED: &[u8] = b"rollcall subject secret";

/// Reads the secret, or makes it when nothing was ever written. With another secret every name would be free again,
/// so a lost or foreign one stops us.
pub async fn subject_secret(broker: &Broker, master: &DataKey) -> Result<SubjectSecret, Error> {
    if let Some(secret) = read_subject_secret(broker, master).await? {
        return Ok(secret);
    }
    if broker.identity.last_sequence().await? > 0 {
        return Err(refused(
            "the stream IDENTITY holds events, but the secret that their subjects were made with is gone from the \
             bucket ROLLCALL; restore the bucket from the backup that belongs to the stream",
        ));
    }
    let secret: [u8; 32] = clock::random()?;
    let nonce: [u8; NONCE_BYTES] = clock::random()?;
    let sealed = master.seal(&nonce, &secret, ASSOCIATED);
    let value: Bytes = nonce.into_iter().chain(sealed).collect();
    match broker.rollcall.create(KEY, value).await {
        Ok(_) => {
            let secret = SubjectSecret::new(secret);
            broker.identity.set_note(NOTE, &secret.fingerprint()).await?;
            Ok(secret)
        }
        Err(Error::Conflict { .. }) => {
            let found = read_subject_secret(broker, master).await?;
            found.ok_or_else(|| refused("the secret was made by another process and vanished again"))
        }
        Err(error) => Err(error),
    }
}

/// Whether anything was ever written to this broker, or sealed for it.
pub async fn is_begun(broker: &Broker) -> Result<bool, Error> {
    Ok(broker.rollcall.get(KEY).await?.is_some() || broker.identity.last_sequence().await? > 0)
}

/// Reads the secret; nothing when it was never made.
pub async fn read_subject_secret(broker: &Broker, master: &DataKey) -> Result<Option<SubjectSecret>, Error> {
    let Some((value, _)) = broker.rollcall.get(KEY).await? else { return Ok(None) };
    let Some(secret) = unseal(&value, master) else {
        return Err(refused(
            "the subject secret in the bucket ROLLCALL does not open under this master key; start with the master key \
             that the stream was written with (the file master.key in the data folder)",
        ));
    };
    match broker.identity.note(NOTE).await? {
        // The note is made before the first key, and a key before the first event.
        None if !broker.keys.keys().await?.is_empty() => {
            return Err(refused(
                "the stream IDENTITY bears no mark of the secret in the bucket ROLLCALL, but the bucket KEYS holds keys of \
                 what was written to it: the stream was deleted and made anew. Restore it from the backup that belongs to \
                 the buckets; to begin with nothing, delete the broker's whole store",
            ));
        }
        None => broker.identity.set_note(NOTE, &secret.fingerprint()).await?,
        Some(noted) if noted == secret.fingerprint() => {}
        Some(_) => {
            return Err(refused(
                "the stream IDENTITY was written with another subject secret than the one in the bucket ROLLCALL; \
                 restore both from the same backup",
            ));
        }
    }
    Ok(Some(secret))
}

/// Opens the sealed secret; nothing when the master key is another.
pub(crate) fn unseal(value: &[u8], master: &DataKey) -> Option<SubjectSecret> {
    let (nonce, sealed) = value.split_at_checked(NONCE_BYTES)?;
    let bytes = master.open(nonce, sealed, ASSOCIATED).ok()?;
    Some(SubjectSecret::new(<[u8; 32]>::try_from(bytes).ok()?))
}

fn refused(reason: &str) -> Error {
    Error::Refused { doing: "reading the subject secret".to_string(), reason: reason.to_string() }
}
