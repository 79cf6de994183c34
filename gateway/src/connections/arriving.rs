//! The body of a request, which must have arrived in time: whoever sends a byte now and then shall not keep what came
//! before in our memory.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

/// A body did not arrive in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body did not arrive in time")]
pub(crate) struct Slow;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A body, and since when we wait for it.
pub(super) struct Arriving {
    body: Incoming,
    timeout: Duration,
    /// Since somebody had to wait for it.
    end: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, timeout: Duration) -> Self {
        Self { body, timeout, end: None }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let end = this.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.timeout)));
        end.as_mut().poll(context).map(|()| Some(Err(Slow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
