//! One HTTP request at a time: small answers from places that the document names.
//!
//! Whoever asks waits on a thread of the answer's own ([`begin`]), so that a slow server delays nobody. There is no pool,
//! no proxy and no cookie; redirects stay on the host (see [`Url::redirect`]); certificates are checked, always.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{fs, io, thread};

use ureq::Agent;
use ureq::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::auth::Url;
use crate::auth::jwks::{Answer, SET_MAX, max_age};
use crate::state::without_signals;

const CONNECT: Duration = Duration::from_secs(5);
/// For everything together: resolving, connecting, redirects, the last byte of the body.
const WHOLE: Duration = Duration::from_secs(10);
/// The same for a [`Call`].
const CALL: Duration = Duration::from_secs(30);
/// The largest answer to one, bytes.
const CALL_MAX: u64 = 64 << 20;
const REDIRECTS: usize = 3;
const HEADERS_MAX: usize = 32 << 10;

/// Where systems keep the certificates of authorities: Debian and Alpine; Fedora; SUSE.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Get {
    /// As [`Url::parse`] takes it.
    pub url: String,
    /// The authorities that the server's certificate is held against, a file in PEM; `None` = the system's.
    pub ca: Option<String>,
    /// For `If-None-Match`.
    pub etag: Option<String>,
}

/// Asks on a thread of its own, which ends with the answer or after 10 s. What comes stands in the channel.
///
/// # Errors
/// No thread could be started.
pub fn begin(get: Get) -> io::Result<Receiver<Result<Answer, String>>> {
    let (sender, receiver) = channel();
    // The host's signals are for its own thread: a worker that is told to quit must hear it there.
    without_signals(|| {
        thread::Builder::new().name("gateway fetch".to_owned()).stack_size(512 << 10).spawn(move || {
            // Whoever asked may be gone.
            let _ = sender.send(fetch(&get));
        })
    })?;
    Ok(receiver)
}

/// A request of any method, to a place that its user names.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its method.
    pub method: &'a str,
    /// As [`Url::parse`] takes it.
    pub url: &'a str,
    /// As in [`Get`].
    pub ca: Option<&'a str>,
    /// Its header lines.
    pub headers: &'a [(&'a str, &'a str)],
    /// Its body.
    pub body: &'a [u8],
}

/// Sends `call` and waits 30 s at most; status and body of the answer, of 64 MiB at most. Redirects are answers.
///
/// # Errors
/// Why there is no answer, in words.
pub fn send(call: &Call<'_>) -> Result<(u16, Vec<u8>), String> {
    let is_secure = Url::parse(call.url).map_err(|what| format!("must be {what}"))?.secure;
    let agent = agent(call.ca, is_secure, "application/json")?;
    let mut request = ureq::http::Request::builder().method(call.method).uri(call.url);
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(call.body).map_err(|error| error.to_string())?;
    let request = agent.configure_request(request).timeout_global(Some(CALL)).allow_non_standard_methods(true).build();
    let mut response = agent.run(request).map_err(|error| told(&error))?;
    let body = response.body_mut().with_config().limit(CALL_MAX).read_to_vec().map_err(|error| told(&error))?;
    Ok((response.status().as_u16(), body))
}

/// Asks and waits, 10 s at most.
///
/// # Errors
/// Why there is no answer, in words; an answer of whatever status is none of these.
pub fn fetch(get: &Get) -> Result<Answer, String> {
    let is_secure = Url::parse(&get.url).map_err(|what| format!("must be {what}"))?.secure;
    let agent = agent(get.ca.as_deref(), is_secure, "application/jwk-set+json, application/json")?;
    let begun = std::time::Instant::now();
    let mut url = get.url.clone();
    for _ in 0..=REDIRECTS {
        // The deadline is for all of them.
        let rest = WHOLE.checked_sub(begun.elapsed()).ok_or("no answer within 10 s")?;
        let mut request = agent.get(&url).config().timeout_global(Some(rest)).build();
        if let Some(etag) = &get.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let mut response = request.call().map_err(|error| told(&error))?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            let location = header(LOCATION).ok_or("a redirect without `Location`")?;
            let next = Url::parse(&url).and_then(|url| url.redirect(location));
            url = next.map_err(|why| format!("a redirect that is not followed: {why}"))?;
            continue;
        }
        let answer = Answer {
            status: response.status().as_u16(),
            etag: header(ETAG).map(str::to_owned),
            max_age: header(CACHE_CONTROL).and_then(max_age),
            body: Vec::new(),
        };
        if answer.status != 200 {
            return Ok(answer);
        }
        let body = response.body_mut().with_config().limit(SET_MAX as u64).read_to_vec();
        return Ok(Answer { body: body.map_err(|error| told(&error))?, ..answer });
    }
    Err(format!("more than {REDIRECTS} redirects"))
}

/// Who asks once.
fn agent(ca: Option<&str>, is_secure: bool, accept: &str) -> Result<Agent, String> {
    let mut builder = Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(HEADERS_MAX)
        .max_idle_connections(0)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .user_agent(concat!("ngx-gateway/", env!("CARGO_PKG_VERSION")))
        .accept(accept);
    // From `http` to `https` is a redirect that may be followed.
    let roots = match (ca, is_secure) {
        (Some(path), _) => Some(roots(path)?),
        (None, true) => Some(system_roots()?),
        (None, false) => system_roots().ok(),
    };
    if let Some(roots) = roots {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
        builder = builder.tls_config(tls);
    }
    Ok(builder.build().new_agent())
}

/// In our words where the library's say little.
fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "no answer in time (5 s to connect, 10 s for all)".to_owned(),
        ureq::Error::BodyExceedsLimit(_) => format!("larger than {SET_MAX} bytes"),
        ureq::Error::HostNotFound => "the host's name cannot be resolved".to_owned(),
        error => error.to_string(),
    }
}

fn system_roots() -> Result<RootCerts, String> {
    let path = SYSTEM_ROOTS.into_iter().find(|path| fs::exists(path).unwrap_or(false));
    roots(path.ok_or("the system has no certificates of authorities (package `ca-certificates`); name them in `ca`")?)
}

fn roots(path: &str) -> Result<RootCerts, String> {
    let pem = fs::read(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(format!("`{path}` holds no certificate")),
        false => Ok(RootCerts::from(certificates)),
    }
}

#[cfg(test)]
mod tests;
