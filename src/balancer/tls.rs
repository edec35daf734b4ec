//! TLS towards the nodes of an upstream: what a connection must be like, and which connections are the same.

use std::fmt;
use std::hash::{Hash, Hasher};

use rkyv::{Archive, Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use zeroize::Zeroize;

/// The oldest version of TLS that is spoken.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// How an upstream's nodes are spoken to over TLS, checked: certificates and key are PEM (RFC 7468) that can be read, and
/// the key is the certificate's.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Whether a node must show a certificate of a trusted authority and of the right name.
    pub verify: bool,
    /// The name that is asked for (SNI, RFC 6066, 3) and verified; `None` = the upstream's `host`, else the node's own.
    pub sni: Option<String>,
    /// The authorities that are trusted, one block or several; `None` = the system's.
    pub ca: Option<String>,
    /// Our certificate, followed by its intermediate ones, and its key.
    pub client: Option<ClientCertificate>,
    /// The oldest version.
    pub min_version: TlsVersion,
}

/// What we show to a node that asks who we are.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate and its intermediate ones.
    pub chain: String,
    /// Its key.
    pub key: PrivateKey,
}

/// A private key in PEM; it is never shown.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Hash)]
pub struct PrivateKey(pub String);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PrivateKey(…)")
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Tls {
    /// A number for these settings, never 0: connections and parsed keys of others are not used for them.
    #[must_use]
    pub fn identity(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        self.hash(&mut hasher);
        hasher.finish().max(1)
    }
}

/// A number for connections to the name `sni` under settings of the given [`Tls::identity`], never 0. A connection whose
/// handshake was about one name is never used for another, though both are at one address.
#[must_use]
pub fn connection(settings: u64, sni: Option<&str>) -> u64 {
    let mut hasher = SipHasher13::new();
    (settings, sni).hash(&mut hasher);
    hasher.finish().max(1)
}

/// The name that is asked for in a handshake and verified: what the settings say, else the upstream's `host`, else that of
/// the node; `None` where all that is known is an address.
#[must_use]
pub fn asked_name<'a>(sni: Option<&'a str>, host: Option<&'a str>, node: Option<&'a str>) -> Option<&'a str> {
    sni.or_else(|| host.and_then(server_name)).or_else(|| node.and_then(server_name))
}

/// `host` as a name to ask for: without a port, and not an address, which is no name (RFC 6066, 3).
#[must_use]
pub fn server_name(host: &str) -> Option<&str> {
    let is_address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    if host.starts_with('[') || is_address(host) {
        return None;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    (!name.is_empty() && !is_address(name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_to_ask_for() {
        for (host, expected) in [
            ("api.example.com", Some("api.example.com")),
            ("api.example.com:8443", Some("api.example.com")),
            ("10.0.0.1", None),
            ("10.0.0.1:443", None),
            ("[::1]:443", None),
            ("::1", None),
            ("", None),
        ] {
            assert_eq!(server_name(host), expected, "{host}");
        }
    }

    #[test]
    fn whatever_differs_is_another_connection() {
        let plain = Tls { verify: true, sni: None, ca: None, client: None, min_version: TlsVersion::V1_2 };
        let client = |chain: &str, key: &str| {
            Some(ClientCertificate { chain: chain.to_owned(), key: PrivateKey(key.to_owned()) })
        };
        let all = [
            plain.clone(),
            Tls { verify: false, ..plain.clone() },
            Tls { sni: Some("a".to_owned()), ..plain.clone() },
            Tls { ca: Some("a".to_owned()), ..plain.clone() },
            Tls { client: client("a", "b"), ..plain.clone() },
            Tls { client: client("a", "c"), ..plain.clone() },
            Tls { min_version: TlsVersion::V1_3, ..plain.clone() },
        ];
        let mut seen: Vec<u64> = all.iter().map(Tls::identity).collect();
        let one = plain.identity();
        seen.extend([connection(one, None), connection(one, Some("a")), connection(one, Some("b"))]);
        assert!(seen.iter().all(|number| *number != 0));
        for (index, number) in seen.iter().enumerate() {
            assert!(!seen.iter().skip(index + 1).any(|other| other == number), "{index}");
        }
        assert_eq!(connection(one, Some("a")), connection(plain.identity(), Some("a")));
        assert!(!format!("{:?}", client("a", "the key")).contains("the key"));
    }
}
