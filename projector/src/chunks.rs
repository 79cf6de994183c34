//! Messages of a log in chunks: what is there together, bounded by its number and by its bytes, since a message about a large
//! group is hundreds of times as large as one about a person.

use eventlog::{Error, Message};
use futures::stream::{self, Stream};
use futures::{FutureExt, StreamExt};

/// Messages in a chunk, and their bytes, about.
pub(crate) const CHUNK_MESSAGES_MAX: usize = 256;
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// What came of a log together.
pub(crate) type Chunk = Vec<Result<Message, Error>>;

/// What is there together, as much as a chunk may hold.
pub(crate) fn chunks(messages: impl Stream<Item = Result<Message, Error>>) -> impl Stream<Item = Chunk> {
    let bytes = |message: &Result<Message, _>| message.as_ref().map_or(0, |message| message.payload.len());
    stream::unfold(Box::pin(messages.fuse()), move |mut messages| async move {
        let first = messages.next().await?;
        let mut held = bytes(&first);
        let mut chunk = vec![first];
        while chunk.len() < CHUNK_MESSAGES_MAX
            && held < CHUNK_BYTES_MAX
            && let Some(Some(next)) = messages.next().now_or_never()
        {
            held += bytes(&next);
            chunk.push(next);
        }
        Some((chunk, messages))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, bytes: usize) -> Result<Message, Error> {
        let (subject, time) = (String::new(), jiff::Timestamp::UNIX_EPOCH);
        Ok(Message { sequence, subject, id: None, payload: vec![0; bytes].into(), time })
    }

    #[tokio::test]
    async fn they_hold_so_many_messages_and_bytes_at_most() {
        let small = (1..=600).map(|sequence| message(sequence, 10));
        let large = (601..=607).map(|sequence| message(sequence, CHUNK_BYTES_MAX / 2));
        let pause = stream::once(async {
            tokio::task::yield_now().await;
            message(608, 1)
        });
        let all = stream::iter(small.chain(large)).chain(pause);
        let chunks: Vec<Chunk> = chunks(all).collect().await;
        let sizes: Vec<usize> = chunks.iter().map(Vec::len).collect();
        // The third chunk is full of bytes with the second large one.
        assert_eq!(sizes, [256, 256, 90, 2, 2, 1, 1]);
        let sequences = chunks.into_iter().flatten().map(|message| message.unwrap().sequence);
        assert!(sequences.eq(1..=608));
    }
}
