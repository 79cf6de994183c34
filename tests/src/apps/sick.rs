//! How a test makes an app sick.

use std::time::Duration;

use super::App;

/// What it has.
#[derive(Default)]
pub(super) struct Sick {
    /// Everything is answered with this status and these headers, and nothing is done.
    pub(super) answer: Option<(u16, Vec<(String, String)>)>,
    /// Answers come this much later than what they tell of.
    pub(super) delay: Duration,
    /// Writes are done, and answered, so much later, even when whoever called has gone.
    pub(super) late: Duration,
    /// Calls with this method, of what begins so, are answered with 404.
    pub(super) unknown: Option<(String, String)>,
    /// So many writes are done whose answer is never sent.
    pub(super) without_answer: usize,
    /// So many further calls are answered with this status, then all is well.
    pub(super) next: Option<(usize, u16)>,
    /// So many further writes are answered as if they were done.
    pub(super) pretended: usize,
    /// Whoever reads is answered with this status.
    pub(super) reads: Option<u16>,
    /// A list shows so many, and says nothing wrong about how many there are.
    pub(super) listed: Option<usize>,
    /// Calls that say this are answered with this status, and not done: `GET /Groups/`, or a word of their body.
    pub(super) refused: Option<(String, u16)>,
    /// What it does not keep.
    pub(super) forgotten: Option<String>,
}

impl App {
    /// It answers every call with this status and does nothing, until it is well.
    pub fn answer_all_with(&self, status: u16) {
        self.state().sick.answer = Some((status, Vec::new()));
    }

    /// The same, with headers such as `Retry-After`.
    pub fn answer_all_with_headers(&self, status: u16, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        self.state().sick.answer = Some((status, headers.collect()));
    }

    /// It answers the next calls with this status and does nothing.
    pub fn answer_next_with(&self, count: usize, status: u16) {
        self.state().sick.next = Some((count, status));
    }

    /// It answers this much later than it does the work.
    pub fn delay(&self, delay: Duration) {
        self.state().sick.delay = delay;
    }

    /// It does every write so much later, even when whoever called has gone.
    pub fn do_late(&self, late: Duration) {
        self.state().sick.late = late;
    }

    /// It answers 404 to calls with this method of what begins so, such as `PATCH` and `/Groups`.
    pub fn do_not_know(&self, method: &str, path: &str) {
        self.state().sick.unknown = Some((method.to_string(), path.to_string()));
    }

    /// The next so many writes are done, and their connection breaks before the answer.
    pub fn without_answer(&self, writes: usize) {
        self.state().sick.without_answer = writes;
    }

    /// It says of the next writes that they are done, and does nothing.
    pub fn pretend(&self, writes: usize) {
        self.state().sick.pretended = writes;
    }

    /// It answers every GET with this status.
    pub fn answer_reads_with(&self, status: u16) {
        self.state().sick.reads = Some(status);
    }

    /// Its lists end after so many, although it knows that there are more.
    pub fn list_only(&self, accounts: usize) {
        self.state().sick.listed = Some(accounts);
    }

    /// It answers every call that says this (`GET /Groups/`, or a word of its query or body) with this status, and does
    /// nothing.
    pub fn refuse(&self, text: &str, status: u16) {
        self.state().sick.refused = Some((text.to_string(), status));
    }

    /// It takes this attribute and does not keep it.
    pub fn forget(&self, attribute: &str) {
        self.state().sick.forgotten = Some(attribute.to_string());
    }

    /// Nothing of this any more.
    pub fn get_well(&self) {
        self.state().sick = Sick::default();
    }

    /// At most this many calls in this time; 429 with `Retry-After` for the others.
    pub fn allow(&self, calls: u32, per: Duration) {
        self.state().limits.allow(calls, per);
    }
}
