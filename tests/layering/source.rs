//! As much of Rust's grammar as it takes to see which paths a file names.

/// A word or a sign; `::` is one sign. Comments are gone, literals with them.
#[derive(Debug, PartialEq)]
pub struct Token {
    pub text: String,
    /// From 1.
    pub line: usize,
}

/// A path that a file names.
#[derive(Debug)]
pub struct Named {
    /// The first word below the crate's root, or the name of another crate.
    pub first: String,
    /// Whether it begins at this crate's root.
    pub is_local: bool,
    pub line: usize,
}

/// The words and signs of a file.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let length = match skipped(rest) {
            Some(length) => length,
            None => {
                let is_word = |found: char| found.is_alphanumeric() || found == '_';
                let word = rest.find(|found| !is_word(found)).unwrap_or(rest.len());
                let length = match word {
                    0 if rest.starts_with("::") => 2,
                    0 => first.len_utf8(),
                    word => word,
                };
                if !first.is_whitespace() {
                    tokens.push(Token { text: rest[..length].to_owned(), line });
                }
                length
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment, literal or lifetime that `rest` begins with.
fn skipped(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(comment(rest));
    }
    let prefix = ["b", "c", "r", "br", "cr", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix);
        after.is_some_and(|after| match prefix.contains('r') {
            // `r#type` is a word.
            true => after.trim_start_matches('#').starts_with('"'),
            false => after.starts_with('"') || after.starts_with('\'') && *prefix != "c",
        })
    })?;
    let after = &rest[prefix.len()..];
    if prefix.contains('r') {
        let hashes = after.len() - after.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &after[hashes + 1..];
        return Some(body.find(&end).map_or(rest.len(), |at| prefix.len() + hashes + 1 + at + end.len()));
    }
    if after.starts_with('"') {
        return Some(prefix.len() + closing(after, '"').unwrap_or(after.len()));
    }
    // A quote is a character where one is closed right behind it, else a lifetime.
    let mut inner = after[1..].chars();
    let is_character = inner.next() == Some('\\') || inner.next() == Some('\'');
    Some(if is_character { prefix.len() + closing(after, '\'').unwrap_or(after.len()) } else { prefix.len() + 1 })
}

fn comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a literal from its opening quote to its closing one.
fn closing(literal: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    literal.char_indices().skip(1).find_map(|(at, found)| {
        let is_end = found == quote && !is_escaped;
        is_escaped = found == '\\' && !is_escaped;
        is_end.then_some(at + 1)
    })
}

/// The paths in a file whose module is `module`: those from `crate`, from `super` where it leads to the root, from this
/// crate's own name, and those that begin with another name.
pub fn paths_of(tokens: &[Token], module: &[String]) -> Vec<Named> {
    let mut named = Vec::new();
    // One entry for each open brace: whether it is a module's.
    let mut braces = Vec::new();
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => braces.push(index >= 2 && text(index - 2) == "mod"),
            "}" => drop(braces.pop()),
            _ => {}
        }
        let before = if index > 0 { text(index - 1) } else { "" };
        let is_global = before == "::" && (index < 2 || text(index - 2) == "use" || !is_end(text(index - 2)));
        if before == "::" && !is_global || before == "." || !is_word(&token.text) {
            continue;
        }
        let depth = module.len() + braces.iter().filter(|is_module| **is_module).count();
        let is_used = ["use", "crate"].contains(&before);
        match token.text.as_str() {
            "crate" if text(index + 1) == "::" => firsts(tokens, index + 2, true, &mut named),
            "gateway" if is_global && text(index + 1) == "::" => firsts(tokens, index + 2, true, &mut named),
            "super" => {
                let mut end = index;
                let mut supers = 0;
                while text(end) == "super" {
                    supers += 1;
                    end += 2;
                }
                if supers == depth {
                    firsts(tokens, end, true, &mut named);
                }
            }
            "self" | "Self" => {}
            _ if text(index + 1) == "::" || is_used => firsts(tokens, index, false, &mut named),
            _ => {}
        }
    }
    named
}

/// The word at `start`, or the first words of the group there.
fn firsts(tokens: &[Token], start: usize, is_local: bool, named: &mut Vec<Named>) {
    let mut depth = 0_usize;
    let mut is_first = true;
    for token in tokens.iter().skip(start) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "," if depth == 1 => is_first = true,
            first if is_first => {
                named.push(Named { first: first.to_owned(), is_local, line: token.line });
                is_first = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
}

/// Whether a path can go on behind this.
fn is_end(text: &str) -> bool {
    is_word(text) || text == ">"
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}
