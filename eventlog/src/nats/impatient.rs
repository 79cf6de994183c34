//! Reading that does not wait for ever. Of what is removed while it is read nothing comes any more, and the broker does not
//! say so.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// A reader that fails once it was silent for too long.
pub(super) struct Impatient<R> {
    inner: R,
    limit: Duration,
    /// Ends when it was; nothing while something comes.
    end: Option<Pin<Box<Sleep>>>,
}

impl<R> Impatient<R> {
    pub(super) fn new(inner: R, limit: Duration) -> Self {
        Self { inner, limit, end: None }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Impatient<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(context, buffer) {
            this.end = None;
            return Poll::Ready(read);
        }
        let end = this.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.limit)));
        ready!(end.as_mut().poll(context));
        let seconds = this.limit.as_secs();
        let reason = format!(
            "nothing more of it came within {seconds} s: it was removed meanwhile, or is not whole there"
        );
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_is_slow_is_waited_for_and_whoever_is_silent_is_not() {
        let (mut writing, reading) = tokio::io::duplex(64);
        let mut reading = Impatient::new(reading, Duration::from_secs(20));
        let slow = tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(15)).await;
                writing.write_all(b"more").await.unwrap();
            }
            writing
        });
        let mut bytes = [0; 12];
        reading.read_exact(&mut bytes).await.unwrap();
        // It holds the other end still, and says nothing.
        let _writing = slow.await.unwrap();
        let error = reading.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
