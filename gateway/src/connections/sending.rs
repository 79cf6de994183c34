//! A stream whose peer must take what it is sent. Whoever asks for much and reads nothing would keep the answer in our
//! memory.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::activity::Activity;

/// A stream, and since when its peer takes nothing.
#[derive(Debug)]
pub(super) struct Sending<S> {
    stream: S,
    activity: Arc<Activity>,
    timeout: Duration,
    /// As long as the peer takes nothing.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Sending<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, timeout: Duration) -> Self {
        Self { stream, activity, timeout, end: None }
    }

    /// What came of sending, unless the peer has taken nothing for too long.
    fn sent<T>(&mut self, sent: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.activity.set_sending(sent.is_pending());
        if sent.is_ready() {
            self.end = None;
            return sent;
        }
        let end = self.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.timeout)));
        end.as_mut().poll(context).map(|()| {
            let reason = "the client takes nothing of what it asked for";
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sending<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sending<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(sent, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.sent(sent, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let activity = Arc::new(Activity::new());
        let mut stream = Sending::new(ours, activity.clone(), TIMEOUT);
        let slow = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(TIMEOUT / 2).await;
                theirs.read_exact(&mut [0; 4]).await.unwrap();
            }
            theirs
        });
        stream.write_all(&[7; 40]).await.unwrap();
        let _theirs = slow.await.unwrap();
        stream.write_all(&[7; 4]).await.unwrap();
        assert!(!activity.is_busy());
        let begun = Instant::now();
        let error = stream.write_all(&[7; 4]).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, TIMEOUT));
    }
}
