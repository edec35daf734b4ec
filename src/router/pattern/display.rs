use std::fmt;

use super::{Host, Path, Segment, Tail};

impl fmt::Display for Host {
    /// The document's form; `*` for any host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(name) => write!(f, "*.{}", String::from_utf8_lossy(name)),
            Self::Exact(name) => f.write_str(&String::from_utf8_lossy(name)),
        }
    }
}

impl fmt::Display for Path {
    /// The document's form: decoded, apart from what would mean something else there or could not be seen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => literal(path, f),
            Self::Prefix(path) => {
                literal(path, f)?;
                f.write_str("/*")
            }
            Self::Pattern { segments, tail } => {
                for segment in segments {
                    f.write_str("/")?;
                    match segment {
                        Segment::Literal(bytes) => literal(bytes, f)?,
                        Segment::Param(name) => write!(f, "{{{name}}}")?,
                    }
                }
                match tail {
                    Tail::None => Ok(()),
                    Tail::Any => f.write_str("/*"),
                    Tail::Captured(name) => write!(f, "/{{*{name}}}"),
                }
            }
            Self::Regex(text) => write!(f, "~{text}"),
        }
    }
}

fn literal(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for found in chunk.valid().chars() {
            match found {
                '%' | '{' | '}' | '*' | '?' | '#' => write!(f, "%{:02X}", found as u32)?,
                _ if found.is_ascii_control() || found == ' ' => write!(f, "%{:02X}", found as u32)?,
                _ if found.is_control() || found.is_whitespace() => {
                    let mut buf = [0; 4];
                    encoded(found.encode_utf8(&mut buf).as_bytes(), f)?;
                }
                _ => write!(f, "{found}")?,
            }
        }
        encoded(chunk.invalid(), f)?;
    }
    Ok(())
}

fn encoded(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))
}
