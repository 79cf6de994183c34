//! A first password, made up when an account is made. The app alone ever sees it.

use scim::{AttrPath, Object};

use super::{Source, TypeMapping, set};
use crate::profile::Type;

/// How a mapping asks for one.
pub(super) const GENERATE: &str = "generate_password";
/// Letters of a password, six bits each.
const LENGTH: usize = 24;
/// One of each is in every password. 64 letters together, none that is easily taken for another.
const LETTERS: [&str; 4] = ["ABCDEFGHJKLMNPQRSTUV", "abcdefghijkmnpqrstuv", "23456789", "!#$%&*+-.:=?@^_~"];
/// Draws until one has letters of each sort; one of two does.
const DRAWS_MAX: usize = 256;

/// Whether an expression is this and nothing else.
pub(super) fn is_asked_for(text: &str) -> bool {
    let rest = text.trim().strip_prefix(GENERATE).map(str::trim_start);
    rest.and_then(|rest| rest.strip_prefix('(')?.trim_start().strip_prefix(')')) == Some("")
}

impl TypeMapping {
    /// Says at an account's creation whatever password the app takes, made of these random bytes.
    pub(crate) fn add_passwords<E>(
        &self,
        own: &Type,
        said: &mut Object,
        random: impl Fn() -> Result<[u8; LENGTH], E>,
    ) -> Result<(), E> {
        for path in self.passwords().filter(|path| own.is_told(path)) {
            for _ in 0..DRAWS_MAX {
                if let Some(password) = password(random()?) {
                    set(said, path, password.into());
                    break;
                }
            }
        }
        Ok(())
    }

    fn passwords(&self) -> impl Iterator<Item = &AttrPath> {
        let asks = |source: &Source| matches!(source, Source::Password);
        self.targets.iter().filter(move |target| asks(&target.source)).map(|target| &target.path)
    }
}

/// A password of random bytes, if it has letters of each sort.
fn password(bytes: [u8; LENGTH]) -> Option<String> {
    let letters = || LETTERS.iter().flat_map(|letters| letters.chars());
    let password: String = bytes.iter().filter_map(|byte| letters().nth(usize::from(byte & 63))).collect();
    LETTERS.iter().all(|sort| password.contains(|letter| sort.contains(letter))).then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_password_has_letters_of_each_sort_and_none_more_often_than_others() {
        let all: BTreeSet<char> = LETTERS.iter().flat_map(|letters| letters.chars()).collect();
        assert_eq!(all.len(), 64);
        assert_eq!(password([0; LENGTH]), None);
        let mut bytes = [0; LENGTH];
        for (place, byte) in [20, 40, 48].into_iter().enumerate() {
            bytes[place] = byte;
        }
        assert_eq!(password(bytes).as_deref(), Some("a2!AAAAAAAAAAAAAAAAAAAAA"));
        bytes[3] = 255;
        assert_eq!(password(bytes).as_deref(), Some("a2!~AAAAAAAAAAAAAAAAAAAA"));
        let drawn: BTreeSet<String> =
            (0..200).filter_map(|_| password(eventlog::clock::random().unwrap())).collect();
        assert!(drawn.len() > 50, "{}", drawn.len());
    }

    #[test]
    fn it_is_the_whole_expression() {
        assert!(is_asked_for("generate_password()") && is_asked_for(" generate_password ( ) "));
        assert!(!is_asked_for("generate_password() + 'x'") && !is_asked_for("generate_passwords()"));
    }
}
