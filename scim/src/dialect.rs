//! How a client speaks, and what was heard that no RFC allows.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Quirk;

/// How a client speaks SCIM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// As the RFCs say.
    #[default]
    Rfc,
    /// Okta's provisioning agent.
    Okta,
    /// Microsoft Entra's provisioning service.
    Entra,
    /// A client whose ways nobody has written down: every shape is forgiven.
    Lenient,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 4] = [Self::Rfc, Self::Okta, Self::Entra, Self::Lenient];

    /// The name in configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rfc => "rfc",
            Self::Okta => "okta",
            Self::Entra => "entra",
            Self::Lenient => "lenient",
        }
    }

    /// Whether requests with this quirk are understood.
    pub fn allows(self, quirk: Quirk) -> bool {
        self == Self::Lenient || quirk.about().dialects.contains(&self)
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|dialect| dialect.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not a dialect; there are rfc, okta, entra and lenient"))
    }
}

/// The quirks that a request showed.
#[derive(Debug, Default)]
pub struct Seen(AtomicU32);

impl Seen {
    /// Remembers one.
    pub fn note(&self, quirk: Quirk) {
        self.0.fetch_or(1 << quirk as u32, Ordering::Relaxed);
    }

    /// All of them, each once.
    pub fn quirks(&self) -> impl Iterator<Item = Quirk> {
        let bits = self.0.load(Ordering::Relaxed);
        Quirk::ALL.into_iter().filter(move |quirk| bits & (1 << *quirk as u32) != 0)
    }
}

/// Where quirks go that nobody asks for.
static UNHEARD: Seen = Seen(AtomicU32::new(0));

/// A dialect, and where its quirks are remembered.
#[derive(Clone, Copy, Debug)]
pub struct Speech<'a> {
    dialect: Dialect,
    seen: &'a Seen,
}

impl<'a> Speech<'a> {
    /// A dialect whose quirks are remembered here.
    pub fn new(dialect: Dialect, seen: &'a Seen) -> Self {
        Self { dialect, seen }
    }

    /// The dialect.
    pub fn dialect(self) -> Dialect {
        self.dialect
    }

    pub(crate) fn with(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// The dialect of one PATCH operation. Only Entra writes `Replace` for `replace`, so an operation written that way is
    /// read as Entra's, whatever the credential says; the lower-case form stays strict.
    pub(crate) fn of_operation(self, op: &str) -> Self {
        if op.bytes().all(|letter| letter.is_ascii_lowercase()) {
            return self;
        }
        self.seen.note(Quirk::OperationCase);
        if self.dialect == Dialect::Rfc { self.with(Dialect::Entra) } else { self }
    }

    /// Remembers a quirk that every dialect may have.
    pub fn note(self, quirk: Quirk) {
        self.seen.note(quirk);
    }

    /// Whether a quirk that a request shows is understood; then it is remembered. To be asked where it shows only.
    pub(crate) fn forgives(self, quirk: Quirk) -> bool {
        let forgiven = self.dialect.allows(quirk);
        if forgiven {
            self.seen.note(quirk);
        }
        forgiven
    }
}

impl From<Dialect> for Speech<'static> {
    fn from(dialect: Dialect) -> Self {
        Self { dialect, seen: &UNHEARD }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgiven_is_remembered_once() {
        let seen = Seen::default();
        let speech = Speech::new(Dialect::Okta, &seen);
        assert!(speech.forgives(Quirk::ReadOnlyWritten) && speech.forgives(Quirk::ReadOnlyWritten));
        assert!(!speech.forgives(Quirk::BooleanAsText));
        assert_eq!(speech.of_operation("Replace").dialect(), Dialect::Okta);
        assert_eq!(seen.quirks().collect::<Vec<_>>(), [Quirk::OperationCase, Quirk::ReadOnlyWritten]);
        assert_eq!(Speech::from(Dialect::Rfc).of_operation("Add").dialect(), Dialect::Entra);
        assert_eq!(Speech::from(Dialect::Rfc).of_operation("add").dialect(), Dialect::Rfc);
    }

    #[test]
    fn names_lead_back() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.as_str().parse(), Ok(dialect));
        }
        assert!("klingon".parse::<Dialect>().unwrap_err().contains("lenient"));
    }
}
