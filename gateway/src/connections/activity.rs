//! What happens on one connection, as far as it decides whether the connection is of use.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

/// Requests and answers of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    /// Milliseconds from the beginning to the last moment at which it was of use.
    used_ms: AtomicU64,
    /// Whether a request came.
    has_asked: AtomicBool,
    /// Answers that are being made.
    under_way: AtomicUsize,
    /// Whether the client does not take what is sent as fast as it could be.
    is_sending: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            used_ms: AtomicU64::new(0),
            has_asked: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            is_sending: AtomicBool::new(false),
        }
    }

    /// A request came; its answer is being made until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.has_asked.store(true, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Something was sent, or the client does not take it yet.
    pub(super) fn set_sending(&self, is_sending: bool) {
        self.is_sending.store(is_sending, Ordering::Relaxed);
        if !is_sending {
            self.used();
        }
    }

    /// Whether an answer is being made, or cannot be sent as fast as it could be.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0 || self.is_sending.load(Ordering::Relaxed)
    }

    fn used(&self) {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.fetch_max(elapsed, Ordering::Relaxed);
    }

    /// Returns once no request came for so long, and why that is too long.
    pub(super) async fn unused(&self, head: Duration, idle: Duration) -> &'static str {
        loop {
            let used = self.begun + Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
            let (end, why) = match (self.has_asked.load(Ordering::Relaxed), self.is_busy()) {
                (false, _) => (self.begun + head, "head"),
                (true, true) => (Instant::now() + idle, "idle"),
                (true, false) => (used + idle, "idle"),
            };
            if end <= Instant::now() {
                return why;
            }
            // The first request may come meanwhile, and then the other time counts.
            tokio::time::sleep_until(end.min(Instant::now() + idle)).await;
        }
    }
}

/// An answer that is being made.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.used();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer. It is being made as long as the next piece of it is waited for, and not while nobody asks for
/// that.
pub(super) struct Answering {
    body: Body,
    activity: Arc<Activity>,
    waiting: Option<UnderWay>,
}

impl Answering {
    pub(super) fn new(body: Body, activity: Arc<Activity>) -> Self {
        Self { body, activity, waiting: None }
    }
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.body).poll_frame(context);
        match &frame {
            Poll::Pending if this.waiting.is_none() => this.waiting = Some(this.activity.begin()),
            Poll::Pending => {}
            Poll::Ready(_) => this.waiting = None,
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use http_body_util::BodyExt;
    use std::convert::Infallible;

    const HEAD: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_nothing_has_less_time_than_who_asked() {
        let activity = Arc::new(Activity::new());
        assert_eq!(activity.unused(HEAD, IDLE).await, "head");
        assert_eq!(activity.begun.elapsed(), HEAD);
        drop(activity.begin());
        assert_eq!(activity.unused(HEAD, IDLE).await, "idle");
        assert_eq!(activity.begun.elapsed(), HEAD + IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_or_sent_is_of_use_however_long_it_takes() {
        let activity = Arc::new(Activity::new());
        let request = activity.begin();
        assert!(tokio::time::timeout(10 * IDLE, activity.unused(HEAD, IDLE)).await.is_err());
        activity.set_sending(true);
        drop(request);
        assert!(activity.is_busy());
        assert!(tokio::time::timeout(10 * IDLE, activity.unused(HEAD, IDLE)).await.is_err());
        activity.set_sending(false);
        let begun = Instant::now();
        assert_eq!(activity.unused(HEAD, IDLE).await, "idle");
        assert_eq!(begun.elapsed(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_asks_for_is_of_no_use() {
        let activity = Arc::new(Activity::new());
        drop(activity.begin());
        let (sender, lines) = tokio::sync::mpsc::channel::<Bytes>(1);
        let lines = futures::stream::unfold(lines, async |mut lines| {
            let line = lines.recv().await?;
            Some((Ok::<_, Infallible>(line), lines))
        });
        let mut answer = Answering::new(Body::from_stream(lines), activity.clone());
        assert!(!activity.is_busy());
        assert!(answer.frame().now_or_never().is_none());
        assert!(activity.is_busy(), "the next line is waited for");
        sender.send(Bytes::from("line")).await.unwrap();
        answer.frame().await.unwrap().unwrap();
        assert!(!activity.is_busy());
        assert_eq!(activity.unused(HEAD, IDLE).await, "idle");
    }
}
