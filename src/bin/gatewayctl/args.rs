//! The command line.

use std::net::IpAddr;

/// The command line, taken apart.
#[derive(Default)]
pub struct Args {
    /// What is no option: the command and its arguments.
    pub words: Vec<String>,
    pub json: bool,
    pub secrets_missing_ok: bool,
    pub help: bool,
    pub version: bool,
    /// Name in lower case, value.
    pub headers: Vec<(String, String)>,
    pub client: Option<IpAddr>,
    pub host: Option<String>,
    /// A file of certificates.
    pub ca: Option<String>,
    /// Options of `token`: name without dashes, value.
    pub token: Vec<(String, String)>,
    pub keyid: Option<String>,
    pub alg: Option<String>,
    pub key_file: Option<String>,
    pub data: Option<String>,
    /// Where the admin API is, and the file of its token.
    pub url: Option<String>,
    pub token_file: Option<String>,
    pub dry_run: bool,
    pub once: bool,
    /// How long, why and for whom.
    pub lasts: Option<String>,
    pub reason: Option<String>,
    pub auth: Option<String>,
}

/// What `token` takes.
const TOKEN: [&str; 9] =
    ["--alg", "--secret-file", "--key-file", "--kid", "--claim", "--exp", "--issuer", "--audience", "--sub"];

impl Args {
    /// Options may stand anywhere; behind `--` there are none.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self::default();
        while let Some(word) = words.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (word, None),
            };
            let mut value = || inline.clone().or_else(|| words.next()).ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--json" => args.json = true,
                "--secrets-missing-ok" => args.secrets_missing_ok = true,
                "-h" | "--help" => args.help = true,
                "-V" | "--version" => args.version = true,
                "-H" | "--header" => {
                    let line = value()?;
                    let (name, value) =
                        line.split_once(':').ok_or_else(|| format!("`{line}` is no header: write `Name: value`"))?;
                    args.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                }
                "--client" => {
                    let text = value()?;
                    args.client = Some(text.parse().map_err(|_| format!("`{text}` is no address"))?);
                }
                "--dry-run" => args.dry_run = true,
                "--once" => args.once = true,
                "--url" => args.url = Some(value()?),
                "--token-file" => args.token_file = Some(value()?),
                "--for" => args.lasts = Some(value()?),
                "--reason" => args.reason = Some(value()?),
                "--auth" => args.auth = Some(value()?),
                "--ca" => args.ca = Some(value()?),
                "--host" => args.host = Some(value()?),
                "--keyid" => args.keyid = Some(value()?),
                "--data" => args.data = Some(value()?),
                option if TOKEN.contains(&option) => {
                    let value = value()?;
                    // `sign` has two of them, too.
                    match option {
                        "--alg" => args.alg = Some(value.clone()),
                        "--key-file" => args.key_file = Some(value.clone()),
                        _ => {}
                    }
                    args.token.push((option.trim_start_matches('-').to_owned(), value));
                }
                "--" => args.words.extend(words.by_ref()),
                _ if name.len() > 1 && name.starts_with('-') => {
                    return Err(format!("no option is called `{name}`; see `gatewayctl --help`"));
                }
                _ => args.words.push(name),
            }
        }
        Ok(args)
    }
}
