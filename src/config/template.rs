//! Texts with path parameters in them: `/orders/{id}`.

use super::problem::quote;
use crate::router::settings::{Part, Template};

/// The longest template, in bytes.
const LENGTH_MAX: usize = 4_096;

/// Splits `text` at its parameters.
///
/// # Errors
///
/// A brace that is not around a parameter's name.
pub(super) fn parse(text: &str) -> Result<Template, String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("must be at most {LENGTH_MAX} bytes long"));
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (literal, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let found = tail.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, after)) = found.filter(|(name, _)| is_parameter(name)) else {
            return Err("braces stand around the name of a path parameter, such as `{id}`".to_owned());
        };
        if !literal.is_empty() {
            parts.push(Part::Text(literal.to_owned()));
        }
        parts.push(Part::Param(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(Template(parts))
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The names of the parameters in `template`.
pub(super) fn params(template: &Template) -> impl Iterator<Item = &str> {
    template.0.iter().filter_map(|part| match part {
        Part::Param(name) => Some(name.as_str()),
        Part::Text(_) => None,
    })
}

/// Reads the path of a `rewrite`, decoded or percent-encoded; the template holds it decoded.
///
/// # Errors
///
/// What would be right.
pub(super) fn path(text: &str) -> Result<Template, String> {
    if !text.starts_with('/') {
        return Err("a path begins with a slash".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("a path has no query and no fragment: the client's query is kept".to_owned());
    }
    let template = parse(text)?;
    let mut parts = Vec::with_capacity(template.0.len());
    // What the path looks like with a harmless word for each parameter.
    let mut model = String::new();
    for part in template.0 {
        match part {
            Part::Text(text) => {
                let text = decode(&text)?;
                model.push_str(&text);
                parts.push(Part::Text(text));
            }
            Part::Param(name) => {
                model.push('p');
                parts.push(Part::Param(name));
            }
        }
    }
    if model.chars().any(char::is_control) {
        return Err("cannot hold control characters".to_owned());
    }
    if model.contains("//") {
        return Err("cannot hold `//`: write one slash".to_owned());
    }
    if let Some(dots) = model.split('/').find(|segment| matches!(*segment, "." | "..")) {
        return Err(format!(
            "the segment {} is resolved before requests are forwarded: write the path that it leads to",
            quote(dots)
        ));
    }
    Ok(Template(parts))
}

/// Percent-decodes a literal.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let value = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or_else(|| "two hexadecimal digits follow a `%`; write `%25` for a percent sign".to_owned())?;
        if value == b'/' {
            return Err("`%2F` would change the segments: write `/`".to_owned());
        }
        bytes.push(value);
        rest = tail.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "must be UTF-8 once it is decoded".to_owned())
}

/// Reads the value of a request header.
///
/// # Errors
///
/// What would be right.
pub(super) fn header(text: &str) -> Result<Template, String> {
    header_text(text)?;
    parse(text)
}

/// Checks the value of a header (RFC 9110, 5.5, without obs-text other than UTF-8).
pub(super) fn header_text(text: &str) -> Result<(), String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("must be at most {LENGTH_MAX} bytes long"));
    }
    if text.chars().any(|found| found.is_control() && found != '\t') {
        return Err("a header's value cannot hold control characters".to_owned());
    }
    if text.trim() != text {
        return Err("a header's value neither begins nor ends with a blank".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let text = |text: &str| Part::Text(text.to_owned());
        let param = |name: &str| Part::Param(name.to_owned());
        for (written, expected) in [
            ("/", Some(vec![text("/")])),
            ("/o/{id}", Some(vec![text("/o/"), param("id")])),
            ("/{a}-{b}/x", Some(vec![text("/"), param("a"), text("-"), param("b"), text("/x")])),
            ("/caf%C3%A9", Some(vec![text("/café")])),
            ("/..x", Some(vec![text("/..x")])),
            ("/..{a}", Some(vec![text("/.."), param("a")])),
            ("", None),
            ("x", None),
            ("/a?b", None),
            ("/a#b", None),
            ("/a//b", None),
            ("/a/../b", None),
            ("/a/%2e%2E", None),
            ("/a%2Fb", None),
            ("/a%2", None),
            ("/a%00", None),
            ("/%ff", None),
            ("/{", None),
            ("/}", None),
            ("/{}", None),
            ("/{a b}", None),
            ("/{{a}}", None),
            ("/{1}", None),
        ] {
            assert_eq!(path(written).ok().map(|template| template.0), expected, "for {written}");
        }
    }

    #[test]
    fn header_values() {
        for (text, right) in [("a {id}", true), ("", true), ("a\r\nb", false), (" a", false), ("{", false), ("é", true)]
        {
            assert_eq!(header(text).is_ok(), right, "for {text:?}");
        }
    }
}
