//! Requests that are refused before anybody sees them, because their head cannot be read: hyper answers them with a status
//! alone and ends the connection. Here such an answer gets a body, so that whoever reads it learns what to do.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::HEAD_BYTES_MAX;

/// A listener's answer to a request that cannot be read: its content type and its body.
pub type Refusal = fn(StatusCode, &str) -> (&'static str, String);

/// The longest URI that hyper reads.
const URI_BYTES_MAX: usize = 65_534;

/// A stream whose writer is hyper. What is written at once stays together, so its refusals are seen whole; one that is
/// written behind another answer goes out as it is.
#[derive(Debug)]
pub(super) struct Explaining<S> {
    stream: S,
    refusal: Refusal,
    /// What is written instead, and how much of it is.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Explaining<S> {
    pub(super) fn new(stream: S, refusal: Refusal) -> Self {
        Self { stream, refusal, instead: None }
    }

    /// Whether something else is written than this.
    fn explains(&mut self, text: &[u8]) -> bool {
        if self.instead.is_none() {
            self.instead = explained(text, self.refusal).map(|text| (text, 0));
        }
        self.instead.is_some()
    }
}

impl<S: AsyncWrite + Unpin> Explaining<S> {
    /// Writes all of it, as if it were these bytes.
    fn poll_instead(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some((text, written)) = &mut self.instead {
            let rest = text.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                self.instead = None;
                break;
            }
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        Poll::Ready(Ok(bytes))
    }
}

/// The same answer with a body, if it is a refusal of a head. Ours are never without one.
fn explained(text: &[u8], refusal: Refusal) -> Option<Vec<u8>> {
    // Most of what is written is none, and long.
    if !text.starts_with(b"HTTP/1.") || !text.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(text).ok()?.trim_end();
    let (line, headers) = head.split_once("\r\n")?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let detail = match status {
        StatusCode::BAD_REQUEST => {
            "the request is no HTTP that can be read; in a URI a quotation mark is written %22, a space %20, < %3C and > %3E"
                .to_string()
        }
        StatusCode::URI_TOO_LONG => {
            format!("a URI may have {URI_BYTES_MAX} bytes; what is longer can be asked with a POST to .search")
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            format!("the head of a request may have {HEAD_BYTES_MAX} bytes")
        }
        _ => return None,
    };
    let is_empty = |line: &&str| line.eq_ignore_ascii_case("content-length: 0");
    let kept: Vec<&str> = headers.split("\r\n").filter(|line| !is_empty(line)).collect();
    if kept.len() == headers.split("\r\n").count() || kept.contains(&"") {
        return None;
    }
    metrics::counter!("rollcall_requests_unreadable_total", "status" => status.as_str().to_string())
        .increment(1);
    let (content_type, body) = refusal(status, &detail);
    let further = format!("content-type: {content_type}\r\ncontent-length: {}", body.len());
    Some(format!("{line}\r\n{further}\r\n{}\r\n\r\n{body}", kept.join("\r\n")).into_bytes())
}

impl<S: AsyncRead + Unpin> AsyncRead for Explaining<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explaining<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.explains(bytes) {
            return self.poll_instead(bytes.len(), context);
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [alone] = bytes
            && self.explains(alone)
        {
            return self.poll_instead(alone.len(), context);
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
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

    fn refusal(status: StatusCode, detail: &str) -> (&'static str, String) {
        ("text/plain", format!("{} {}", status.as_u16(), detail.len()))
    }

    #[test]
    fn a_refusal_without_a_body_gets_one_and_nothing_else_is_touched() {
        let empty =
            "HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let text = String::from_utf8(explained(empty.as_bytes(), refusal).unwrap()).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 414 URI Too Long\r\ncontent-type: text/plain\r\ncontent-length: ")
        );
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("\r\nconnection: close\r\ndate: now") && body.starts_with("414 "), "{text}");
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{text}");
        for other in [
            "HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 20\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "content-length: 0\r\n\r\n",
            "",
        ] {
            assert_eq!(explained(other.as_bytes(), refusal), None, "{other}");
        }
    }

    #[tokio::test]
    async fn it_is_written_whole_to_a_peer_that_takes_little() {
        let (ours, mut theirs) = tokio::io::duplex(7);
        let mut stream = Explaining::new(ours, refusal);
        let reader = tokio::spawn(async move {
            let mut text = String::new();
            theirs.read_to_string(&mut text).await.unwrap();
            text
        });
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx: y\r\n\r\n").await.unwrap();
        drop(stream);
        let text = reader.await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxHTTP/1.1 400"), "{text}");
        let (head, body) = text.rsplit_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("x: y") && body.starts_with("400 "), "{text}");
    }
}
