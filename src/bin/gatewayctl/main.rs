//! `gatewayctl`: looks at documents without an nginx, and talks to a gateway that runs.

mod args;
mod complete;
mod document;
mod explain;
mod jwks;
mod key;
mod live;
mod remote;
mod replay;
mod sign;
mod token;

use std::process::ExitCode;

use args::Args;

/// The commands and what they say. Those that are behind [`LIVE`] ask a gateway that runs.
const COMMANDS: [(&str, &str); 38] = [
    ("check FILE", "all errors and warnings"),
    ("schema", "the document's form as JSON Schema (2020-12)"),
    ("diff A B", "what differs, resource by resource"),
    ("size FILE", "the smallest gateway_zone that holds the document"),
    ("explain FILE METHOD URL", "what is decided on a request, and why"),
    ("replay ACCESS_LOG A B", "which requests of a log document B decides otherwise than A"),
    ("jwks check URL|FILE", "the keys of a set, and which of them verify"),
    ("hash-key [KEY|-]", "the hash of an API key for the document; without one, a new key and its hash"),
    ("token --alg ALG ...", "a signed token, for trying things out"),
    ("sign METHOD URL", "a curl command for a signed request (RFC 9421)"),
    ("completion bash|zsh", "completion for a shell: `source <(gatewayctl completion bash)`"),
    ("status", "generation, revision, how full the zone is"),
    ("top", "every node, its share, rate, latency and errors, again each second"),
    ("get [KIND [NAME]]", "the document, the resources of a kind, one of them"),
    ("apply FILE [KIND NAME]", "takes a document, or one resource (JSON)"),
    ("delete KIND NAME", "removes one resource"),
    ("diff FILE", "what the document would change"),
    ("revisions [N]", "who changed what and when; the document of one"),
    ("revisions diff A B", "what differs between two"),
    ("rollback N", "makes a revision live again"),
    ("nodes UPSTREAM", "the nodes of an upstream as they stand"),
    ("drain UPSTREAM NODE", "sends a node nothing new"),
    ("undrain UPSTREAM NODE", "ends that"),
    ("weight UPSTREAM NODE N|auto", "gives a node another weight; `auto`: the document's"),
    ("breakers", "the breakers as they stand"),
    ("breaker UPSTREAM open|closed|auto", "holds a breaker open or closed; `auto` ends that"),
    ("canary ROUTE", "how a canary stands"),
    ("canary ROUTE set PERCENT", "its share"),
    ("canary ROUTE pause|resume|promote|rollback", "what becomes of it"),
    ("ban CIDR", "refuses addresses for a while"),
    ("revoke jti|sub|sha256|token VALUE|-", "refuses tokens; `-`: the value stands on standard input"),
    ("purge all", "forgets what was kept of answers"),
    ("purge route NAME", "of a route"),
    ("purge tag TAG", "with a tag"),
    ("purge path HOST PATH", "of one address"),
    ("overlays", "what is laid over the document by hand"),
    ("overlays end ID", "ends one of them"),
    ("help", "this"),
];

/// The first of [`COMMANDS`] that asks a gateway.
const LIVE: &str = "status";

/// The options and what they say.
const OPTIONS: [(&str, &str); 27] = [
    ("--json", "output for programs"),
    ("--secrets-missing-ok", "a secret that is not there is replaced by a random one"),
    ("-H 'Name: value'", "explain, sign: a header of the request, as often as you like; sign covers each"),
    ("--client ADDRESS", "explain: the client's address (127.0.0.1)"),
    ("--ca FILE", "the certificates that an https server is held against (the system's)"),
    ("--host HOST", "replay: the host of lines that name none"),
    (
        "--alg ALG",
        "token: HS256, RS256, PS256, ES256, EdDSA or their like; sign: hmac-sha256, ed25519, ecdsa-p256-sha256, ecdsa-p384-sha384 or rsa-pss-sha512",
    ),
    ("--secret-file PATH", "token: the secret of HS256, HS384, HS512"),
    ("--key-file PATH", "token: the private key of the others, PEM; sign: the secret, or the private key (PKCS #8)"),
    ("--kid K", "token: the key's name"),
    ("--issuer I", "token: who made it"),
    ("--audience A", "token: whom it is for"),
    ("--sub S", "token: whom it is about"),
    ("--claim name=value", "token: another claim, as often as you like; a value that is JSON is taken as such"),
    ("--exp DURATION", "token: until when it is good (1h); -1h makes one that has expired"),
    ("--keyid ID", "sign: the name of the key"),
    ("--data TEXT|@FILE", "sign: the request's body"),
    ("--url URL", "where the gateway's admin API is ($GATEWAY_URL, else http://127.0.0.1:9180)"),
    ("--token-file PATH", "its token; else $GATEWAY_TOKEN"),
    ("--dry-run", "apply, delete, rollback: says what would change, and changes nothing"),
    ("--for DURATION", "ban, revoke: how long"),
    ("--reason TEXT", "ban: why"),
    ("--auth NAME", "revoke: for one `auth` entry alone"),
    ("--once", "top: one look, for programs"),
    ("--help", "this"),
    ("-h", "this"),
    ("--version", "the program's version"),
];

const TAIL: &str = "
Exit codes: 0 right, or no difference; 1 errors in the document, a refused request, no usable key, differences, or a call
that the gateway refused; 2 could not be done.
Documents are YAML or JSON; an ACCESS_LOG is ours (JSON lines) or nginx's combined format, `-` is standard input.
";

fn help() -> String {
    let mut text = "gatewayctl looks at documents of ngx-gateway, and talks to one that runs.\n\n".to_owned();
    let mut line = |form: &str, says: &str| {
        let gap = if form.len() > 42 { format!("\n{:46}", "") } else { format!("{:1$}", "", 44 - form.len()) };
        text += &format!("  {form}{gap}{says}\n");
    };
    for (form, says) in COMMANDS {
        if form == LIVE {
            line("", "");
            line("Of a gateway that runs, by its admin API:", "");
        }
        line(&format!("gatewayctl {form}"), says);
    }
    line("", "");
    line("Options", "");
    OPTIONS.iter().for_each(|(form, says)| line(form, says));
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>() + TAIL
}

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
        print(&help());
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
        ["completion", shell] => complete::run(shell),
        ["help"] => {
            print(&help());
            Ok(0)
        }
        [] => Err("no command; `gatewayctl --help` lists them".to_owned()),
        words => remote::run(words, args).unwrap_or_else(|| {
            let command = words.first().copied().unwrap_or_default();
            let is_known = COMMANDS.iter().any(|(form, _)| form.split(' ').next() == Some(command));
            Err(match is_known {
                true => format!("`{command}` takes other arguments; see `gatewayctl --help`"),
                false => format!("no command is called `{command}`; `gatewayctl --help` lists them"),
            })
        }),
    }
}

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
