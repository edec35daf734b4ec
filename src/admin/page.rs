//! The dashboard: one page over the calls of this API, and the headers that keep it to itself.
//!
//! The page is a file of the tree and asks for nothing but the API: style and script stand in it, and the policy that is
//! sent along names the SHA-256 of both, so that a browser runs these and nothing that found its way in. What differs
//! from one location to the next, where the API is, is text of a `<meta>`; the hashes hold for all of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::auth::revocation::token_digest;

/// The page as it lies in the tree.
const SOURCE: &str = include_str!("page/index.html");

/// What stands in it for the path of the API.
const PLACE: &str = "@api@";

/// The page for one location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTML.
    pub body: String,
    /// `Content-Security-Policy`.
    pub policy: String,
}

impl Page {
    /// The page over the API at the path `api`, such as `/v1/`.
    ///
    /// # Errors
    ///
    /// What the path must be.
    pub fn new(api: &str) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        // Two slashes would be another host's.
        if !(api.starts_with('/') && api.ends_with("/v1/") && !api.contains("//") && api.bytes().all(is_plain)) {
            return Err("it must be the path of the API, such as \"/v1/\" or \"/admin/v1/\"".to_owned());
        }
        let hashed = |tag| {
            let content = between(SOURCE, tag).unwrap_or_default();
            format!("'sha256-{}'", STANDARD.encode(token_digest(content.as_bytes())))
        };
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            hashed("script"),
            hashed("style"),
        );
        Ok(Self { body: SOURCE.replacen(PLACE, api, 1), policy })
    }
}

/// What the one element `tag` has in it, byte for byte.
fn between<'a>(page: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(content, _)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_one_of_this_host() {
        for api in ["/v1/", "/admin/v1/", "/a-b/~c/v1/"] {
            assert!(Page::new(api).unwrap().body.contains(&format!("name=\"api\" content=\"{api}\"")), "{api}");
        }
        for api in ["", "/", "v1/", "/v1", "//evil.example/v1/", "/a//v1/", "https://a/v1/", "/\"><b/v1/", "/a b/v1/"] {
            assert!(Page::new(api).is_err(), "{api}");
        }
    }

    #[test]
    fn the_page_keeps_to_itself() {
        let page = Page::new("/v1/").unwrap();
        assert!(page.body.len() < 60_000, "{} bytes", page.body.len());
        assert!(!page.body.contains(PLACE));
        for tag in ["script", "style"] {
            assert_eq!(page.body.matches(&format!("<{tag}")).count(), 1, "one <{tag}>");
            assert!(between(&page.body, tag).unwrap().len() > 100);
        }
        // Neither markup from text nor anything from elsewhere; attributes of style and events would be refused.
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http:",
            "https:",
            "localStorage",
            " style=",
            " onclick=",
            " src=",
            "cookie =",
        ] {
            assert!(!page.body.contains(word), "{word}");
        }
        assert_eq!(page.policy, Page::new("/b/v1/").unwrap().policy, "the same in every location");
        assert!(page.policy.starts_with("default-src 'none'; script-src 'sha256-") && !page.policy.contains("unsafe"));
    }
}
