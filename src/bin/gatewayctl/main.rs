//! `gatewayctl`: looks at documents without an nginx.

mod args;
mod document;
mod explain;
mod jwks;
mod key;
mod live;
mod replay;
mod sign;
mod token;

use std::process::ExitCode;

use args::Args;

const HELP: &str = "\
gatewayctl looks at documents of ngx-gateway without an nginx.

  gatewayctl check FILE                     all errors and warnings
  gatewayctl schema                         the document's form as JSON Schema (2020-12)
  gatewayctl diff A B                       what differs, resource by resource
  gatewayctl size FILE                      the smallest gateway_zone that holds the document
  gatewayctl explain FILE METHOD URL        what is decided on a request, and why
  gatewayctl replay ACCESS_LOG A B          which requests of a log document B decides otherwise than A
  gatewayctl jwks check URL|FILE            the keys of a set, and which of them verify
  gatewayctl hash-key [KEY|-]               the hash of an API key for the document; without one, a new key and its hash
  gatewayctl token --alg ALG ...            a signed token, for trying things out
  gatewayctl sign METHOD URL                a curl command for a signed request (RFC 9421)

Options
  --json                  output for programs
  --secrets-missing-ok    a secret that is not there is replaced by a random one
  -H 'Name: value'        explain, sign: a header of the request, as often as you like; sign covers each
  --client ADDRESS        explain: the client's address (127.0.0.1)
  --ca FILE               jwks check: the certificates that the URL's server is held against (the system's)
  --host HOST             replay: the host of lines that name none
  --alg ALG               token: HS256, RS256, PS256, ES256, EdDSA or their like; sign: hmac-sha256, ed25519,
                          ecdsa-p256-sha256, ecdsa-p384-sha384 or rsa-pss-sha512
  --secret-file PATH      token: the secret of HS256, HS384, HS512
  --key-file PATH         token: the private key of the others, PEM; sign: the secret, or the private key (PKCS #8)
  --kid K, --issuer I, --audience A, --sub S
                          token: what it says of itself
  --claim name=value      token: another claim, as often as you like; a value that is JSON is taken as such
  --exp DURATION          token: until when it is good (1h); -1h makes one that has expired
  --keyid ID              sign: the name of the key
  --data TEXT|@FILE       sign: the request's body
  --help, --version

Exit codes: 0 right, or no difference; 1 errors in the document, a refused request, no usable key, or differences; 2 could
not be done.
Documents are YAML or JSON; an ACCESS_LOG is ours (JSON lines) or nginx's combined format, `-` is standard input.
";

/// What a command comes to: an exit code, or why it could not be done.
type Outcome = Result<u8, String>;

fn main() -> ExitCode {
    let code = Args::parse(std::env::args().skip(1)).and_then(|args| run(&args)).unwrap_or_else(|message| {
        eprintln!("gatewayctl: {message}");
        2
    });
    ExitCode::from(code)
}

fn run(args: &Args) -> Outcome {
    if args.help {
        print(HELP);
        return Ok(0);
    }
    if args.version {
        print(concat!("gatewayctl ", env!("CARGO_PKG_VERSION"), "\n"));
        return Ok(0);
    }
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["check", file] => document::check(file, args),
        ["schema"] => {
            print(&gateway::config::schema());
            Ok(0)
        }
        ["diff", old, new] => document::diff(old, new, args),
        ["size", file] => document::size(file, args),
        ["explain", file, method, url] => explain::run(file, method, url, args),
        ["replay", log, old, new] => replay::run(log, old, new, args),
        ["jwks", "check", source] => jwks::check(source, args),
        ["hash-key"] => key::make(args),
        ["hash-key", key] => key::hash(key, args),
        ["token"] => token::run(args),
        ["sign", method, url] => sign::run(method, url, args),
        [] => Err("no command; `gatewayctl --help` lists them".to_owned()),
        [command, ..] if COMMANDS.contains(command) => {
            Err(format!("`{command}` takes other arguments; see `gatewayctl --help`"))
        }
        [command, ..] => Err(format!("no command is called `{command}`; `gatewayctl --help` lists them")),
    }
}

const COMMANDS: [&str; 10] =
    ["check", "schema", "diff", "size", "explain", "replay", "jwks", "hash-key", "token", "sign"];

/// Prints `text`; a reader that has gone away, as `head` does, is no failure.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints one JSON value.
fn print_json(value: &serde_json::Value) {
    print(&format!("{value:#}\n"));
}
