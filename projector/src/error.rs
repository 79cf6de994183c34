//! How the directory fails.

/// The world says no.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Log(#[from] eventlog::Error),
    /// An event that this version cannot read. Going on without it would be data loss.
    #[error("reading the event at sequence {sequence} (see `rollcall events pass-over --help`)")]
    Event {
        /// Where it stands.
        sequence: u64,
        /// Why.
        #[source]
        source: proto::codec::Error,
    },
    /// A message in the stream that nobody of ours wrote.
    #[error(
        "the message at sequence {sequence} is not an event of rollcall: {reason} (see `rollcall events pass-over --help`)"
    )]
    Stranger {
        /// Where it stands.
        sequence: u64,
        /// Why.
        reason: String,
    },
    /// The folder cannot be used at all.
    #[error("using the projection's folder {folder}: {reason}")]
    Folder {
        /// Which.
        folder: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The projection has not reached a sequence in time.
    #[error(transparent)]
    Lagging(#[from] Lagging),
    /// A row that must exist is neither here nor in the log.
    #[error("the row at sequence {sequence} is gone")]
    Gone {
        /// Where it stood.
        sequence: u64,
    },
    /// The log does not hold the event whose acknowledgement we were given.
    #[error(
        "IDENTITY does not hold at sequence {sequence} what it had acknowledged: it was restored from a backup or replaced \
         underneath; start this process again: the directory is then built from what the log holds"
    )]
    Replaced {
        /// Where.
        sequence: u64,
    },
    /// A moment of which not everything is kept.
    #[error(
        "sequence {sequence} is below {floor}, up to which history was thinned; the log still holds it: build a projection to that sequence"
    )]
    NotKept {
        /// Which was asked for.
        sequence: u64,
        /// What is kept.
        floor: u64,
    },
    /// A snapshot cannot be made or used.
    #[error("a snapshot of the projection: {reason}")]
    Snapshot {
        /// Why.
        reason: String,
    },
    /// A moment that the log has not reached.
    #[error("{asked} is not reached yet; the projection stands at sequence {applied}")]
    NotYet {
        /// Which.
        asked: String,
        /// Where the projection stands.
        applied: u64,
    },
    /// The configuration asks for an index that cannot be.
    #[error("projection.indexed: {0}")]
    Index(String),
    /// The query would look at more rows than it may.
    #[error(
        "the query would look at more than {rows_max} resources; ask for less, or by id, userName, externalId or displayName"
    )]
    TooMany {
        /// The limit.
        rows_max: usize,
    },
}

impl Error {
    /// Whether a damaged row could be the reason, so that the log may know better.
    pub(crate) fn may_be_the_rows(&self) -> bool {
        match self {
            Self::Event { .. } => true,
            Self::Log(error) => !error.is_retryable(),
            Self::Stranger { .. }
            | Self::Folder { .. }
            | Self::Lagging(_)
            | Self::Gone { .. }
            | Self::Replaced { .. }
            | Self::NotYet { .. }
            | Self::NotKept { .. }
            | Self::Snapshot { .. }
            | Self::Index(_)
            | Self::TooMany { .. } => false,
        }
    }
}

/// The deadline passed before the sequence was applied.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the projection stands at {applied} and has not reached {wanted} in time")]
pub struct Lagging {
    /// Where it stands.
    pub applied: u64,
    /// Where it should stand.
    pub wanted: u64,
}
