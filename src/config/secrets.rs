//! Where secrets come from. The library reads neither the environment nor files by itself: whoever calls it hands in
//! something that does.

use std::fmt;

use zeroize::Zeroizing;

/// Fetches what `$env://NAME` and `$file:///path` refer to.
pub trait Secrets {
    /// The environment variable `name`; `None` where it is not set.
    fn env(&self, name: &str) -> Option<String>;

    /// The content of the file at `path`.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, in words that do not show its content.
    fn file(&self, path: &str) -> Result<Vec<u8>, String>;

    /// The content of the file of a list at `path`, which may be larger than a secret.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        self.file(path)
    }

    /// The content of the htpasswd file at `path`.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    fn htpasswd(&self, path: &str) -> Result<Vec<u8>, String> {
        self.list(path)
    }
}

/// The process's own environment and files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemSecrets;

/// The largest file that holds a secret, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The largest file of a list, in bytes: a million blocks and their comments.
const LIST_FILE_MAX: u64 = 64 << 20;

impl Secrets for SystemSecrets {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        read(path, FILE_MAX)
    }

    fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        read(path, LIST_FILE_MAX)
    }
}

fn read(path: &str, most: u64) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    // Of its size at once: a buffer that grew would leave pieces of a secret behind.
    let size = file.metadata().map_or(0, |metadata| metadata.len().min(most));
    let mut content = Vec::with_capacity(size as usize + 1);
    file.take(most + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() as u64 > most {
        return Err(format!("larger than {most} bytes"));
    }
    Ok(content)
}

/// A secret's value, wherever it came from.
pub(super) struct Secret {
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether it stands in the document itself.
    pub in_clear: bool,
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

/// Follows `text` where it is a reference. The error never shows a value.
pub(super) fn fetch(text: &str, secrets: &dyn Secrets) -> Result<Secret, String> {
    if let Some(name) = text.strip_prefix("$env://") {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err("`$env://` is followed by the name of an environment variable: letters, digits, `_`".to_owned());
        }
        return match secrets.env(name) {
            Some(value) => Ok(Secret { bytes: value.into_bytes().into(), in_clear: false }),
            None => Err(format!("the environment variable `{name}` is not set")),
        };
    }
    if let Some(path) = text.strip_prefix("$file://") {
        if !path.starts_with('/') {
            return Err("`$file://` is followed by an absolute path: `$file:///path`".to_owned());
        }
        let mut bytes = Zeroizing::new(secrets.file(path).map_err(|error| format!("cannot read `{path}`: {error}"))?);
        // Editors and `echo` end a file with a newline that nobody means.
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        return Ok(Secret { bytes, in_clear: false });
    }
    // Not a secret that happens to begin so, but a reference with a slip in it.
    if text.starts_with("$env") || text.starts_with("$file") || text.starts_with("${") {
        return Err("a reference is written `$env://NAME` or `$file:///path`".to_owned());
    }
    Ok(Secret { bytes: text.as_bytes().to_vec().into(), in_clear: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Secrets for Fixed {
        fn env(&self, name: &str) -> Option<String> {
            (name == "SET").then(|| "value".to_owned())
        }

        fn file(&self, path: &str) -> Result<Vec<u8>, String> {
            match path {
                "/unix" => Ok(b"value\n".to_vec()),
                "/dos" => Ok(b"value\r\n".to_vec()),
                "/two" => Ok(b"value\n\n".to_vec()),
                _ => Err("no such file".to_owned()),
            }
        }
    }

    #[test]
    fn references() {
        for (text, expected) in [
            ("$env://SET", Ok("value")),
            ("$env://UNSET", Err("the environment variable `UNSET` is not set")),
            ("$env://", Err("`$env://` is followed by the name of an environment variable: letters, digits, `_`")),
            ("$env:SET", Err("a reference is written `$env://NAME` or `$file:///path`")),
            ("${SET}", Err("a reference is written `$env://NAME` or `$file:///path`")),
            ("$file:///unix", Ok("value")),
            ("$file:///dos", Ok("value")),
            ("$file:///two", Ok("value\n")),
            ("$file:///none", Err("cannot read `/none`: no such file")),
            ("$file://none", Err("`$file://` is followed by an absolute path: `$file:///path`")),
            ("in clear", Ok("in clear")),
        ] {
            let found = fetch(text, &Fixed).map(|secret| String::from_utf8(secret.bytes.to_vec()).unwrap());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "for {text}");
        }
        assert!(fetch("in clear", &Fixed).unwrap().in_clear);
        assert_eq!(format!("{:?}", fetch("in clear", &Fixed).unwrap()), "Secret(…)");
    }
}
