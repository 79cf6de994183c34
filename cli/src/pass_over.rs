//! `rollcall events pass-over`: a message that nobody can read is to stop nobody any more.

use std::time::Duration;

use eventlog::passed_over::{self, Pass};
use eventlog::{Append, Broker, Error, Guard, Keyring, Log, Message, clock, nats};
use proto::codec::Error as Unread;
use proto::control::{self, Kind};
use proto::sealing::DataKey;
use proto::stand_in::Stream;
use proto::{KeyRef, Tenant, codec, provisioning, subject};
use serde_json::json;
use tokio::time::Instant;

use crate::Failure;
use crate::args::PassOver;
use crate::backup::{Folder, broker, stop};
use crate::failure::causes;
use crate::output::print;
use crate::settings::Settings;

/// How long writing it down may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the reason; it is kept in the event that stands for the message.
const WHY_MAX: usize = 1_000;

pub(crate) async fn run(settings: &Settings, asked: PassOver) -> Result<(), Failure> {
    let PassOver { stream: name, why, .. } = &asked;
    if why.trim().is_empty() || why.len() > WHY_MAX {
        return Err(Failure::new(format!("--why: must have 1 to {WHY_MAX} bytes")));
    }
    let stream = Stream::named(name)
        .ok_or_else(|| Failure::new("--stream: must be IDENTITY, PROVISIONING or CONTROL"))?;
    let master = settings.present_master_key()?;
    let (config, server) = broker(settings, Folder::Filled, "pass over").await?;
    let done = async {
        let broker = nats::connect(&config).await.map_err(|error| Failure::new(error.to_string()))?;
        let keyring = Keyring::new(broker.keys.clone(), master);
        pass_over(&broker, &keyring, stream, &asked).await
    };
    let done = done.await;
    stop(server).await;
    done
}

async fn pass_over(
    broker: &Broker,
    keyring: &Keyring,
    stream: Stream,
    asked: &PassOver,
) -> Result<(), Failure> {
    let PassOver { sequence, stream: name, why, .. } = asked;
    let log: &dyn Log = match stream {
        Stream::Identity => &*broker.identity,
        Stream::Provisioning => &*broker.provisioning,
        Stream::Control => &*broker.control,
    };
    let place = format!("the message at {sequence} of {name}");
    let doing = format!("reading {place}");
    let found = log.read(*sequence).await.map_err(|error| Failure::of(&doing, &error))?;
    let message = found.ok_or_else(|| Failure::new(format!("{name} holds nothing at {sequence}")))?;
    let reason = match looked_at(stream, keyring, &message)
        .await
        .map_err(|error| Failure::of(&doing, &error))?
    {
        Seen::PassedOver => {
            print(&format!("{place} is passed over already."));
            return Ok(());
        }
        Seen::Readable => {
            return Err(Failure::new(format!(
                "{place} can be read, so it is not passed over: what happened counts"
            )));
        }
        Seen::Unreadable(Unread::UnknownKind) => {
            return Err(Failure::new(format!(
                "{place} was written by a newer version of rollcall: upgrade this one. It is not passed over"
            )));
        }
        Seen::Unreadable(error) => error,
    };
    let pass = Pass::of(&message, why);
    write_down(broker, stream, &message, &pass, asked)
        .await
        .map_err(|error| Failure::of("writing it down in CONTROL; nothing is passed over", &error))?;
    match passed_over::note(&*broker.rollcall, name, *sequence, &pass).await {
        Ok(()) => {}
        Err(Error::Conflict { .. }) => {
            return Err(Failure::new(format!("{place}: another message was passed over there before")));
        }
        Err(error) => return Err(Failure::of("noting it; try again", &error)),
    }
    print(&format!(
        "{place} (subject {}, {} bytes, of {}) cannot be read: {}.",
        message.subject,
        message.payload.len(),
        message.time,
        causes(&reason)
    ));
    print(
        "Every process that starts from now on passes it over: it changes nothing. The message stays in the log.",
    );
    Ok(())
}

/// What a message is.
enum Seen {
    PassedOver,
    Readable,
    Unreadable(Unread),
}

/// Reads a message as far as any reader does. That its key cannot be had is no fault of the message.
async fn looked_at(stream: Stream, keyring: &Keyring, message: &Message) -> Result<Seen, Error> {
    let payload = &message.payload;
    if let Err(error) = stream.check(&message.subject, payload) {
        return Ok(Seen::Unreadable(error));
    }
    if stream.is_stand_in(payload) {
        return Ok(Seen::PassedOver);
    }
    let opened = match stream {
        Stream::Identity => match codec::decode(payload.clone()) {
            Ok(read) => {
                let at = read.event.key_ref.filter(|_| read.is_sealed());
                opened(keyring, &read.event.tenant, at, |key| read.open(key).map(drop)).await?
            }
            Err(error) => Err(error),
        },
        Stream::Provisioning => match provisioning::decode(payload.clone()) {
            Ok(read) => {
                let at = read.event.key_ref.filter(|_| read.is_sealed());
                opened(keyring, &read.event.tenant, at, |key| read.open(key).map(drop)).await?
            }
            Err(error) => Err(error),
        },
        Stream::Control => Ok(()),
    };
    Ok(opened.map_or_else(Seen::Unreadable, |()| Seen::Readable))
}

/// Opens what is sealed, if anything is and was not erased.
async fn opened(
    keyring: &Keyring,
    tenant: &Tenant,
    at: Option<KeyRef>,
    open: impl FnOnce(&DataKey) -> Result<(), Unread>,
) -> Result<Result<(), Unread>, Error> {
    let Some(at) = at else { return Ok(Ok(())) };
    Ok(keyring.key(tenant, at).await?.map_or(Ok(()), |key| open(&key)))
}

/// Writes down who has it passed over and why, once: whoever was killed before it was noted asks again.
async fn write_down(
    broker: &Broker,
    stream: Stream,
    message: &Message,
    pass: &Pass,
    asked: &PassOver,
) -> Result<(), Error> {
    let stands_in = stream.stand_in(&message.subject, &message.payload, message.time, &asked.why);
    let detail =
        json!({ "subject": message.subject, "bytes": message.payload.len(), "digest": pass.digest() });
    let event = control::Event {
        id: clock::new_event_id(),
        tenant: stands_in.tenant,
        actor: asked.by.clone(),
        txn: clock::new_uuid().to_string(),
        occurred_at: clock::now(),
        reason: asked.why.clone(),
        ticket: String::new(),
        kind: Kind::Operated {
            subject: format!("message/{}/{}", asked.stream, message.sequence),
            operation: "pass_over".to_string(),
            detail: detail.to_string(),
        },
    };
    let on = subject::control(&event.tenant, event.kind.name());
    if is_written(&*broker.control, &on, &event).await? {
        return Ok(());
    }
    let append = Append {
        subject: on,
        guard: Guard::None,
        id: event.id,
        payload: control::encode(&event),
        headers: eventlog::Headers::default(),
    };
    broker.control.append(append, Instant::now() + WRITE_TIMEOUT).await.map(drop)
}

/// Whether somebody said the same for the same reason.
async fn is_written(log: &dyn Log, on: &str, event: &control::Event) -> Result<bool, Error> {
    let is_same = |message: Message| {
        control::decode(message.payload).is_ok_and(|found| {
            found.kind == event.kind && found.actor == event.actor && found.reason == event.reason
        })
    };
    let mut from = 1;
    loop {
        let some = log.some_on(on, from).await?;
        let Some(last) = some.last() else { return Ok(false) };
        from = last.sequence + 1;
        if some.into_iter().any(is_same) {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use eventlog::memory::{self, Faults};

    use super::*;

    #[tokio::test]
    async fn what_was_written_down_before_a_kill_is_not_written_again() {
        let broker = memory::broker(Faults::default());
        let asked = |by: &str, sequence: u64| PassOver {
            sequence,
            stream: "IDENTITY".to_string(),
            by: by.to_string(),
            why: "a bad disk".to_string(),
        };
        let message = |sequence: u64, payload: &'static str| Message {
            sequence,
            subject: "identity.corp.User.x".to_string(),
            id: Some(clock::new_event_id()),
            payload: payload.into(),
            time: clock::now(),
        };
        let written = async |asked: PassOver, message: Message| {
            let pass = Pass::of(&message, &asked.why);
            write_down(&broker, Stream::Identity, &message, &pass, &asked).await.unwrap();
            broker.control.last_sequence().await.unwrap()
        };
        assert_eq!(written(asked("ann", 7), message(7, "hello")).await, 1);
        assert_eq!(written(asked("ann", 7), message(7, "hello")).await, 1, "once more");
        assert_eq!(written(asked("bob", 7), message(7, "hello")).await, 2, "somebody else says so, too");
        assert_eq!(
            written(asked("ann", 7), message(7, "other")).await,
            3,
            "another message, after a restore"
        );
        assert_eq!(written(asked("ann", 8), message(8, "hello")).await, 4, "another place");
        assert_eq!(written(asked("bob", 7), message(7, "hello")).await, 4);
    }
}
