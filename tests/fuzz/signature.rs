//! Signatures of requests: as they come, and made by the signer over any request, which is then changed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use gateway::auth::signature::{
    BodyDigest, Buffers, NONCE_MAX, Parameter, Signature, SignatureKey, SignatureVerifier, Signed, Signer,
    check_component,
};
use gateway::auth::{Algorithm, Key};
use gateway::types::{Header, Method, Protocol, Reason, Request, SECOND};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const MAX_AGE: u64 = 300;
const LEEWAY: u64 = 30;
/// The order of the bits that choose them.
const DERIVED: [&str; 7] = ["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"];

static PLAIN: LazyLock<SignatureVerifier> = LazyLock::new(|| verifier(&[], &[]));
static STRICT: LazyLock<SignatureVerifier> = LazyLock::new(|| {
    verifier(&["@method", "content-digest"], &[Parameter::Created, Parameter::KeyId, Parameter::Nonce])
});

fn verifier(components: &[&str], required: &[Parameter]) -> SignatureVerifier {
    let key = Key::from_secret(Some("k".into()), Algorithm::Hs256, SECRET).unwrap();
    let settings = Signature {
        keys: vec![SignatureKey { key, consumer: "c".into() }],
        components: components.iter().map(|&name| name.to_owned()).collect(),
        max_age: MAX_AGE,
        leeway: LEEWAY,
        required: required.to_vec(),
        fail_open: false,
    };
    SignatureVerifier::from_settings(&settings).unwrap()
}

/// A line each: bits that choose, target, host, nonce, and the header with `name: value`.
pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let bits = lines.next().unwrap_or_default();
    let [chosen, kind, change] = [0, 1, 2].map(|at| bits.get(at).copied().unwrap_or_default());
    let mut next = || lines.next().unwrap_or_default().to_vec();
    let (target, host) = (next(), next());
    // As the signer wants it.
    let is_letter = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\".contains(byte);
    let nonce: String = next().into_iter().filter(is_letter).map(char::from).collect();
    let headers = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = String::from_utf8(line[..colon].to_ascii_lowercase()).ok()?;
        Some((name, line[colon + 1..].to_vec()))
    });
    let request = Fake {
        method: Method::from_number(kind % 10),
        is_encrypted: kind & 16 != 0,
        host,
        target,
        headers: headers.take(40).collect(),
    };
    let _ = check_component(&String::from_utf8_lossy(data));
    if let Some(digest) = BodyDigest::parse(data) {
        assert_eq!(BodyDigest::parse(&[data, b", md5=:YQ==:"].concat()), Some(digest));
    }
    as_it_comes(&request);

    // As a signer would send it.
    let mut request = request;
    request.headers.retain(|(name, _)| !name.starts_with("signature"));
    let mut components: Vec<&str> =
        DERIVED.into_iter().enumerate().filter(|(bit, _)| chosen & 1 << bit != 0).map(|(_, name)| name).collect();
    let names: Vec<String> = request.headers.iter().map(|(name, _)| name.clone()).collect();
    for name in &names {
        if check_component(name).is_ok() && !name.starts_with('@') && !components.contains(&name.as_str()) {
            components.push(name);
        }
    }
    made(request, &components, &nonce, change);
}

/// Nonsense is an error, and the same one again; a nonce is there exactly where a signature with one holds.
fn as_it_comes(request: &Fake) {
    let mut buffers = Buffers::default();
    for verifier in [&*PLAIN, &*STRICT] {
        let first = verifier.verify(request, NOW * SECOND, &mut buffers);
        assert_eq!(verifier.verify(request, NOW * SECOND, &mut buffers), first);
        match first {
            Ok(None) => {
                let lines = [b"signature".as_slice(), b"signature-input"].map(|name| request.header(name));
                assert_eq!(lines, [Header::Absent; 2]);
            }
            Ok(Some(signed)) => {
                assert!(signed.key == 0 && signed.until >= NOW && buffers.nonce().len() <= 32 + NONCE_MAX)
            }
            Err(reason) => {
                assert_eq!((reason.status(), reason == Reason::AuthDigest || buffers.nonce().is_empty()), (401, true));
            }
        }
    }
}

fn made(request: Fake, components: &[&str], nonce: &str, change: u8) {
    let signer = Signer::new(Algorithm::Hs256, "k", SECRET).unwrap();
    let Ok((input, signature)) = signer.sign(&request, components, NOW, nonce) else { return };
    let is_nonce = (1..=NONCE_MAX).contains(&nonce.len());
    let held = |request: &Fake, at: u64| {
        let mut request = request.clone();
        request.headers.push(("signature-input".to_owned(), input.clone().into_bytes()));
        request.headers.push(("signature".to_owned(), signature.clone().into_bytes()));
        PLAIN.verify(&request, at * SECOND, &mut Buffers::default())
    };
    let found = held(&request, NOW);
    let digest = components.contains(&"content-digest").then(|| BodyDigest::parse(&request.joined("content-digest")));
    match digest {
        _ if !is_nonce => return assert_eq!(found, Err(Reason::AuthMalformed), "{nonce:?}"),
        Some(None) => assert_eq!(found, Err(Reason::AuthDigest)),
        _ => {
            let until = NOW + MAX_AGE + LEEWAY;
            let signed = Signed { key: 0, digest: digest.flatten(), created: Some(NOW), until };
            assert_eq!(found, Ok(Some(signed)), "{input}");
            assert_eq!(held(&request, until), found);
            assert_eq!(held(&request, until + 1), Err(Reason::AuthExpired));
            assert_eq!(held(&request, NOW - LEEWAY - 1), Err(Reason::AuthNotYet));
        }
    }

    // One covered component is another one, or not there.
    let Some(&component) = components.get(usize::from(change) % components.len().max(1)) else { return };
    let mut other = request.clone();
    match component {
        "@method" => {
            other.method = if request.method == Method::Get { Method::Post } else { Method::Get };
        }
        "@scheme" => other.is_encrypted ^= true,
        "@authority" => match other.headers.iter().position(|(name, _)| name == "host") {
            Some(at) => other.headers[at].1.insert(0, b'x'),
            None => other.host.insert(0, b'x'),
        },
        "@path" => other.target.insert(1, b'x'),
        "@query" if !other.target.contains(&b'?') => other.target.extend_from_slice(b"?x"),
        "@query" | "@target-uri" | "@request-target" => other.target.push(b'x'),
        name => {
            let at = other.headers.iter().position(|(other, _)| other == name).unwrap();
            let mut without = request.clone();
            without.headers.retain(|(other, _)| other != name);
            assert!(held(&without, NOW).is_err(), "without {name}: {input}");
            other.headers[at].1.push(b'x');
        }
    }
    let found = held(&other, NOW);
    assert!(found.is_err(), "another {component}: {input} {found:?}");
}

#[derive(Clone, Debug)]
struct Fake {
    method: Method,
    is_encrypted: bool,
    host: Vec<u8>,
    target: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Fake {
    fn joined(&self, name: &str) -> Vec<u8> {
        let lines: Vec<&[u8]> =
            self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &value[..]).collect();
        lines.join(&b", "[..])
    }
}

impl Request for Fake {
    fn method(&self) -> Method {
        self.method
    }

    fn host(&self) -> &[u8] {
        &self.host
    }

    fn path(&self) -> &[u8] {
        b"/"
    }

    fn target(&self) -> &[u8] {
        &self.target
    }

    fn query(&self) -> &[u8] {
        b""
    }

    fn client(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }

    fn scheme(&self) -> &[u8] {
        if self.is_encrypted { b"https" } else { b"http" }
    }

    fn protocol(&self) -> Protocol {
        Protocol::Http
    }

    fn header(&self, name: &[u8]) -> Header<'_> {
        let mut lines = self.headers.iter().filter(|(other, _)| other.as_bytes() == name);
        match (lines.next(), lines.next()) {
            (None, _) => Header::Absent,
            (Some((_, value)), None) => Header::One(value),
            _ => Header::Many,
        }
    }

    fn header_lines(&self, name: &[u8], take: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(other, _)| other.as_bytes() == name).for_each(|(_, value)| take(value));
    }
}
