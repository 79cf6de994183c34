//! What a refused request leaves unread. A server that closes on it can take its own answer back from the client, and
//! leaves the client a connection that is about to end; so the rest is read, within bounds, or the end is announced.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tower::ServiceExt;

/// How much is read for nothing.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// For how long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

/// A body that goes back when its reader lets go of it before the end.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.body.is_end_stream()
            && let Some(back) = self.back.take()
        {
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

/// Serves the request, then reads what it left, or says that the connection ends.
pub(super) async fn read_out(request: Request, router: Router) -> Response {
    if request.body().is_end_stream() {
        let Ok(response) = router.oneshot(request).await;
        return response;
    }
    let waits = request.headers().contains_key(header::EXPECT);
    let (back, mut left) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body, back: Some(back) }));
    let Ok(mut response) = router.oneshot(request).await;
    if let Ok(rest) = left.try_recv() {
        // A client that waits for "100 Continue" has sent nothing yet and shall not begin now.
        let read = !waits && tokio::time::timeout(DRAIN_TIME_MAX, drained(rest)).await.unwrap_or(false);
        if !read {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

async fn drained(mut rest: Body) -> bool {
    let mut read = 0;
    while let Some(frame) = rest.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > DRAIN_BYTES_MAX {
            return false;
        }
    }
    true
}
