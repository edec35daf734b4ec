//! `token`: a signed token, for trying things out.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};

use super::args::Args;
use super::{Outcome, print, print_json};

pub fn run(args: &Args) -> Outcome {
    let option = |name: &str| args.token.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    let name = option("alg").ok_or("token needs --alg, such as `--alg HS256`")?;
    let algorithm = Algorithm::from_str(name).map_err(|_| format!("no algorithm is called `{name}`"))?;
    let key = key(algorithm, option("secret-file"), option("key-file"))?;
    let mut header = Header::new(algorithm);
    header.kid = option("kid").map(str::to_owned);

    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).cast_signed();
    let mut claims = Map::new();
    for (name, option_name) in [("iss", "issuer"), ("aud", "audience"), ("sub", "sub")] {
        if let Some(value) = option(option_name) {
            claims.insert(name.to_owned(), value.into());
        }
    }
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), now.saturating_add(seconds(option("exp").unwrap_or("1h"))?).into());
    // Last, so that what is written out wins.
    for (_, claim) in args.token.iter().filter(|(name, _)| name == "claim") {
        let (name, value) =
            claim.split_once('=').ok_or_else(|| format!("`{claim}` is no claim: write `name=value`"))?;
        let value = serde_json::from_str::<Value>(value).unwrap_or_else(|_| value.into());
        claims.insert(name.to_owned(), value);
    }
    let token = encode(&header, &Value::Object(claims), &key).map_err(|error| format!("cannot sign: {error}"))?;
    match args.json {
        true => print_json(&serde_json::json!({"token": token})),
        false => print(&format!("{token}\n")),
    }
    Ok(0)
}

fn key(algorithm: Algorithm, secret: Option<&str>, key: Option<&str>) -> Result<EncodingKey, String> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
    let is_secret = matches!(algorithm, HS256 | HS384 | HS512);
    let (path, other) = if is_secret { (secret, key) } else { (key, secret) };
    let wanted = if is_secret { "--secret-file" } else { "--key-file" };
    let Some(path) = path.filter(|_| other.is_none()) else {
        return Err(format!("{algorithm:?} takes {wanted}, and that alone"));
    };
    let content = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    if is_secret {
        // As the document's `$file://` reads it.
        let secret = content.strip_suffix(b"\n").unwrap_or(&content);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.len() < 32 {
            return Err(format!("{path} has {} bytes; a secret needs at least 32", secret.len()));
        }
        return Ok(EncodingKey::from_secret(secret));
    }
    let key = match algorithm {
        ES256 | ES384 => EncodingKey::from_ec_pem(&content),
        EdDSA => EncodingKey::from_ed_pem(&content),
        _ => EncodingKey::from_rsa_pem(&content),
    };
    key.map_err(|_| {
        format!("{path} is no private key for {algorithm:?} in PEM (PKCS #8, as `openssl genpkey` writes it)")
    })
}

/// `90s`, `5m`, `1h`, `2d`, or with a minus for what has passed.
fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no duration: write `90s`, `5m`, `1h`, `2d`");
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (digits, unit) = rest.split_at_checked(rest.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let count: u32 = digits.parse().map_err(|_| wrong())?;
    Ok(sign * unit * i64::from(count))
}
