//! What is wrong with a document, told so that the person who wrote it can put it right.

use std::cell::{Cell, RefCell};
use std::fmt;

/// More problems than this are not kept: a hostile document must not cost memory by being wrong.
const PROBLEMS_MAX: usize = 1_000;

/// How many names may be compared for "did you mean", over the whole document.
const COMPARISONS_MAX: usize = 200_000;

/// One thing that is wrong, and where.
///
/// Displays as `gateway.yaml:31: routes[3].limits[0].rate: must be above 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The document's name as the caller gave it.
    pub file: String,
    /// Line, from 1; 0 where the problem has no place in the text.
    pub line: u32,
    /// Column in characters, from 1; 0 where the problem has no place in the text.
    pub column: u32,
    /// The field, such as `routes[3].limits[0].rate`; empty for the whole document.
    pub path: String,
    /// What is wrong and what would be right. Never holds the value of a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.file)?;
        if self.line > 0 {
            write!(out, "{}:", self.line)?;
        }
        if !self.path.is_empty() {
            write!(out, " {}:", self.path)?;
        }
        write!(out, " {}", self.message)
    }
}

/// All that is wrong with a document, in the order of its lines; never empty.
///
/// Displays as one line a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(Vec<Problem>);

impl Errors {
    /// The problems, at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }

    /// For what cannot be, so that it is an error and no panic.
    pub(super) fn internal(file: &str) -> Self {
        let message = "could not be read".to_owned();
        Self(vec![Problem { file: file.to_owned(), line: 0, column: 0, path: String::new(), message }])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            problem.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Where something stands in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// Collects problems while a document is read, so that all of them are told at once.
pub(super) struct Sink {
    file: String,
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    comparisons: Cell<usize>,
}

impl Sink {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
            comparisons: Cell::new(0),
        }
    }

    pub(super) fn error(&self, place: Place, path: String, message: String) {
        if self.is_full() {
            return;
        }
        self.errors.borrow_mut().push(self.problem(place, path, message));
    }

    pub(super) fn warn(&self, place: Place, path: String, message: String) {
        if self.warnings.borrow().len() < PROBLEMS_MAX {
            self.warnings.borrow_mut().push(self.problem(place, path, message));
        }
    }

    /// Whether so much is wrong that looking further tells nobody anything.
    pub(super) fn is_full(&self) -> bool {
        self.errors.borrow().len() >= PROBLEMS_MAX
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    /// `, did you mean …?` with the candidate nearest to `word`, empty when none is near.
    pub(super) fn suggestion<'n>(&self, word: &str, names: impl Iterator<Item = &'n str>) -> String {
        let mut best: Option<(usize, &str)> = None;
        // A long word costs the square of its length, and nobody mistypes one.
        for name in names.filter(|_| word.len() <= 64) {
            if self.comparisons.get() >= COMPARISONS_MAX {
                break;
            }
            self.comparisons.set(self.comparisons.get() + 1);
            let distance = strsim::damerau_levenshtein(word, name);
            // Half a word wrong is another word.
            let near = distance <= word.len().max(name.len()).div_ceil(3).min(3);
            if near && best.is_none_or(|(shortest, _)| distance < shortest) {
                best = Some((distance, name));
            }
        }
        best.map(|(_, name)| format!(", did you mean `{name}`?")).unwrap_or_default()
    }

    /// The errors, where there are any, and else the warnings.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Errors> {
        let mut errors = self.errors.into_inner();
        let mut warnings = self.warnings.into_inner();
        errors.sort_by_key(|problem| (problem.line, problem.column));
        warnings.sort_by_key(|problem| (problem.line, problem.column));
        if errors.is_empty() {
            return Ok(warnings);
        }
        if errors.len() >= PROBLEMS_MAX {
            errors.push(Problem {
                file: self.file,
                line: 0,
                column: 0,
                path: String::new(),
                message: format!("only the first {PROBLEMS_MAX} problems are listed"),
            });
        }
        Err(Errors(errors))
    }

    fn problem(&self, place: Place, path: String, message: String) -> Problem {
        let (path, message) = (printable(path), printable(message));
        Problem { file: self.file.clone(), line: place.line, column: place.column, path, message }
    }
}

/// A line for terminals and logs, whatever of the document it repeats.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for found in text.chars() {
        match found.is_control() {
            true => out.extend(found.escape_debug()),
            false => out.push(found),
        }
    }
    out
}

/// `text` for use in a message: in backquotes, cut when long, control characters escaped. Never for secrets.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        quoted.push('…');
    }
    // Quotes are not escaped in our messages, which quote with backquotes.
    format!("`{}`", quoted.replace("\\\"", "\"").replace("\\'", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_file_line_path_and_message() {
        let sink = Sink::new("gateway.yaml");
        sink.error(Place { line: 31, column: 9 }, "routes[3].limits[0].rate".into(), "must be above 0".into());
        sink.error(Place { line: 2, column: 1 }, String::new(), "earlier".into());
        let errors = sink.finish().unwrap_err();
        assert_eq!(
            errors.to_string(),
            "gateway.yaml:2: earlier\ngateway.yaml:31: routes[3].limits[0].rate: must be above 0"
        );
    }

    #[test]
    fn keeps_a_bounded_number() {
        let sink = Sink::new("f");
        for _ in 0..PROBLEMS_MAX + 5 {
            sink.error(Place::default(), String::new(), "wrong".into());
        }
        assert_eq!(sink.finish().unwrap_err().problems().len(), PROBLEMS_MAX + 1);
    }

    #[test]
    fn suggests_what_is_near() {
        let sink = Sink::new("f");
        let names = ["hosts", "paths", "methods"];
        for (word, expected) in [
            ("host", ", did you mean `hosts`?"),
            ("hsots", ", did you mean `hosts`?"),
            ("path", ", did you mean `paths`?"),
            ("zebra", ""),
            ("", ""),
        ] {
            assert_eq!(sink.suggestion(word, names.into_iter()), expected, "for {word}");
        }
    }

    #[test]
    fn what_is_repeated_of_a_document_stays_on_its_line() {
        let sink = Sink::new("f");
        sink.error(Place { line: 1, column: 1 }, "a.\u{7}".into(), "cannot read `/x\n\u{1b}[2J`".into());
        assert_eq!(sink.finish().unwrap_err().to_string(), "f:1: a.\\u{7}: cannot read `/x\\n\\u{1b}[2J`");
    }

    #[test]
    fn quotes_without_control_characters() {
        for (text, expected) in [("a", "`a`"), ("a\nb", "`a\\nb`"), ("\u{1b}[0m", "`\\u{1b}[0m`"), ("\"", "`\"`")] {
            assert_eq!(quote(text), expected);
        }
        assert!(quote(&"x".repeat(1000)).len() < 80);
    }
}
