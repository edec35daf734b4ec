//! Regular expressions as this process uses them: compiled forms cannot live in shared memory.

use std::collections::HashMap;

use crate::router::regex::Regex;

/// So many are kept. What was compiled for documents of yesterday is in the way some day, so beyond this all are
/// dropped; each takes some kilobytes, and some microseconds to make again.
const KEPT: usize = 1_024;

/// Expressions by their text, each compiled when it is first asked for.
#[derive(Default)]
pub(super) struct Expressions(HashMap<Box<str>, Option<Regex>>);

impl Expressions {
    /// Whether `text` is found in `value`. Time is linear in the length of `value`.
    pub(super) fn matches(&mut self, text: &str, value: &[u8]) -> bool {
        if !self.0.contains_key(text) {
            if self.0.len() >= KEPT {
                self.0.clear();
            }
            // The document's reader has compiled it before.
            self.0.insert(text.into(), Regex::new(text).ok());
        }
        self.0.get_mut(text).and_then(Option::as_mut).is_some_and(|regex| regex.matches(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_compiled_once_and_bounded() {
        let mut expressions = Expressions::default();
        assert!(expressions.matches("^/v\\d", b"/v1") && !expressions.matches("^/v\\d", b"/w1"));
        assert!(!expressions.matches("(", b"("));
        for number in 0..3 * KEPT {
            assert!(expressions.matches(&format!("x{number}$"), format!("ax{number}").as_bytes()));
            assert!(expressions.0.len() <= KEPT);
        }
    }
}
