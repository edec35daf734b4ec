//! `mtls`.

use super::At;
use crate::auth::{CertificateRule, Mark, Mtls, SanKind};

/// Reads an entry that the tables have checked; `None` where something was reported.
pub(super) fn read(at: &At<'_>) -> Option<Mtls> {
    let Some(list) = at.get("consumers") else {
        at.error(
            "needs `consumers`: a list of `{subject, consumer}`, or with `san` or `fingerprint` instead of `subject`",
        );
        return None;
    };
    let mut rules: Vec<CertificateRule> = Vec::new();
    for at in list.items().filter(At::is_object) {
        let marks = [
            at.text("subject").map(|name| Ok(Mark::Subject(name.to_owned()))),
            at.text("san").map(|text| san(text).map(|(kind, name)| Mark::San(kind, name))),
            at.text("fingerprint").map(|text| fingerprint(text).map(Mark::Fingerprint)),
        ];
        let mut marks = marks.into_iter().flatten();
        let (Some(mark), None) = (marks.next(), marks.next()) else {
            at.error("needs exactly one of `subject`, `san` and `fingerprint`");
            continue;
        };
        // The tables have reported what is wrong.
        let (Ok(mark), Some(consumer)) = (mark, at.text("consumer")) else { continue };
        if rules.iter().any(|rule| rule.mark == mark) {
            at.error("asks for the same as an entry before it");
        }
        rules.push(CertificateRule { mark, consumer: consumer.to_owned() });
    }
    Some(Mtls { rules }).filter(|settings| !settings.rules.is_empty())
}

/// Checks an alternative name.
pub(in crate::config) fn check_san(text: &str) -> Result<(), String> {
    san(text).map(drop)
}

/// A host name is meant where no kind is written.
fn san(text: &str) -> Result<(SanKind, String), String> {
    const FORM: &str = "must be a host name, `URI:…` or `email:…`";
    let (kind, name) = match text.split_once(':') {
        None => (SanKind::Dns, text),
        Some((kind, name)) if kind.eq_ignore_ascii_case("dns") => (SanKind::Dns, name),
        Some((kind, name)) if kind.eq_ignore_ascii_case("uri") => (SanKind::Uri, name),
        Some((kind, name)) if kind.eq_ignore_ascii_case("email") => (SanKind::Email, name),
        Some(_) => return Err(FORM.to_owned()),
    };
    if name.is_empty() || name.len() > 1_024 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(FORM.to_owned());
    }
    let name = if kind == SanKind::Dns { name.to_ascii_lowercase() } else { name.to_owned() };
    Ok((kind, name))
}

/// Checks a fingerprint.
pub(in crate::config) fn check_fingerprint(text: &str) -> Result<(), String> {
    fingerprint(text).map(drop)
}

/// `sha256:` and 64 hexadecimal digits, with the colons that openssl puts between them or without.
fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    const FORM: &str = "must be `sha256:` and 64 hexadecimal digits: `openssl x509 -noout -fingerprint -sha256`";
    let digits: Vec<u8> = text.strip_prefix("sha256:").ok_or(FORM)?.bytes().filter(|byte| *byte != b':').collect();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return Err(FORM.to_owned());
    }
    for (byte, pair) in digest.iter_mut().zip(digits.as_chunks::<2>().0) {
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(FORM);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).map_err(|_| FORM)?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternative_names() {
        for (text, expected) in [
            ("Acme.example", Ok((SanKind::Dns, "acme.example"))),
            ("DNS:a.example", Ok((SanKind::Dns, "a.example"))),
            ("URI:spiffe://td/Acme", Ok((SanKind::Uri, "spiffe://td/Acme"))),
            ("email:a@b", Ok((SanKind::Email, "a@b"))),
            ("spiffe://td/acme", Err(())),
            ("IP:192.0.2.1", Err(())),
            ("URI:", Err(())),
            ("", Err(())),
            ("a b", Err(())),
        ] {
            let found = san(text).map_err(|_| ());
            assert_eq!(found, expected.map(|(kind, name)| (kind, name.to_owned())), "for {text}");
        }
    }

    #[test]
    fn fingerprints() {
        let digits = "0aef3ae9bdb91ee7b9aa37cf2ecbf58deea875b8fb87e6ae6efe4eabcacdf5ef";
        let plain = fingerprint(&format!("sha256:{digits}")).unwrap();
        assert_eq!((plain[0], plain[31]), (0x0a, 0xef));
        let pairs: Vec<String> =
            digits.to_uppercase().as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect();
        assert_eq!(fingerprint(&format!("sha256:{}", pairs.join(":"))), Ok(plain));
        for text in
            ["", digits, "sha256:", "sha1:00", &format!("sha256:{digits}0"), &format!("sha256:g{}", &digits[1..])]
        {
            assert!(fingerprint(text).is_err(), "for {text}");
        }
    }
}
