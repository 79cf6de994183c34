//! The floor of a read: the same HTTP server, and the same answers by their paths, held in memory. No token, no filter,
//! no directory. It runs as a process of its own, as a gateway does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use bytes::Bytes;

/// The word that makes this program such a floor.
pub(crate) const ROLE: &str = "serve-answers";

type Answers = Arc<BTreeMap<String, Bytes>>;

/// Writes answers by their paths, for [`serve`].
pub(crate) fn write(file: &Path, answers: &[(String, Bytes)]) {
    let mut out = BufWriter::new(File::create(file).expect("a file"));
    for (path, answer) in answers {
        for part in [path.as_bytes(), answer] {
            let length = u32::try_from(part.len()).expect("a small answer");
            out.write_all(&length.to_le_bytes()).expect("a disk with room");
            out.write_all(part).expect("a disk with room");
        }
    }
    out.flush().expect("a disk with room");
}

fn read(file: &str) -> BTreeMap<String, Bytes> {
    let mut reader = BufReader::new(File::open(file).expect("the answers are written"));
    let mut answers = BTreeMap::new();
    while let Some(path) = part(&mut reader) {
        let answer = part(&mut reader).expect("an answer for each path");
        answers.insert(String::from_utf8(path).expect("ASCII"), answer.into());
    }
    answers
}

/// Nothing at the end.
fn part(reader: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length)).expect("a length")];
    reader.read_exact(&mut bytes).expect("a whole answer");
    Some(bytes)
}

/// Serves until it is killed; tells its address in a file.
pub(crate) fn serve(answers: &str, file: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let router = Router::new().fallback(answer).with_state(Arc::new(read(answers)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        std::fs::write(file, listener.local_addr().expect("an address").to_string()).expect("a file");
        axum::serve(listener, router).await.expect("the floor serves");
    });
}

async fn answer(State(answers): State<Answers>, uri: Uri) -> impl IntoResponse {
    let path = uri.path_and_query().map(|path| path.as_str()).unwrap_or_default();
    let (status, body) = match answers.get(path) {
        Some(answer) => (StatusCode::OK, answer.clone()),
        None => (StatusCode::NOT_FOUND, Bytes::new()),
    };
    (status, [(header::CONTENT_TYPE, "application/scim+json")], body)
}
