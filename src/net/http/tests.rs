use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use super::*;

/// Answers each connection with the next of `answers`; what it was asked.
fn serve(answers: Vec<String>) -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            asked.push(String::from_utf8(head).unwrap().to_ascii_lowercase());
            // The client may hang up before the end.
            let _ = socket.write_all(answer.as_bytes());
        }
        asked
    });
    (address, server)
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn get(url: String) -> Get {
    Get { url, ca: None, etag: None }
}

#[test]
fn an_answer_and_its_headers() {
    let head = "200 OK\r\nETag: \"a\"\r\nCache-Control: public, max-age=90";
    let (address, server) = serve(vec![answer(head, "{}"), answer("304 Not Modified", ""), answer("500 Oh", "no")]);
    let url = format!("http://{address}/jwks?a=b");
    let found = fetch(&get(url.clone())).unwrap();
    assert_eq!(found, Answer { status: 200, body: b"{}".to_vec(), etag: Some("\"a\"".into()), max_age: Some(90) });
    assert_eq!(fetch(&Get { etag: Some("\"a\"".into()), ..get(url.clone()) }).unwrap().status, 304);
    assert_eq!(begin(get(url)).unwrap().recv().unwrap().unwrap(), Answer { status: 500, ..Answer::default() });
    let asked = server.join().unwrap();
    assert!(
        asked[0].starts_with("get /jwks?a=b http/1.1\r\n") && asked[0].contains("user-agent: ngx-gateway/"),
        "{asked:?}"
    );
    assert!(!asked[0].contains("if-none-match") && asked[1].contains("if-none-match: \"a\"\r\n"), "{asked:?}");
}

#[test]
fn redirects_stay_on_the_host() {
    let (address, server) = serve(vec![answer("302 Found\r\nLocation: /b", ""), answer("200 OK", "x")]);
    assert_eq!(fetch(&get(format!("http://{address}/a"))).unwrap().body, b"x");
    assert!(server.join().unwrap()[1].starts_with("get /b "));

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("302 Found\r\nLocation: http://{}/", other.local_addr().unwrap());
    let (address, server) = serve(vec![answer(&location, "")]);
    assert_eq!(
        fetch(&get(format!("http://{address}/a"))).unwrap_err(),
        "a redirect that is not followed: it leads to another host"
    );
    server.join().unwrap();
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nobody came");

    let (address, server) = serve(vec![answer("307 Again\r\nLocation: /a", ""); 4]);
    assert_eq!(fetch(&get(format!("http://{address}/a"))).unwrap_err(), "more than 3 redirects");
    server.join().unwrap();
}

#[test]
fn what_is_too_much_or_nothing() {
    for body in [
        answer("200 OK", &"x".repeat(SET_MAX + 1)),
        // Of no length that is told.
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(5 << 20)),
    ] {
        let (address, server) = serve(vec![body]);
        assert_eq!(fetch(&get(format!("http://{address}/"))).unwrap_err(), "larger than 1048576 bytes");
        server.join().unwrap();
    }
    let (address, server) = serve(vec![answer("200 OK", &"x".repeat(SET_MAX))]);
    assert_eq!(fetch(&get(format!("http://{address}/"))).unwrap().body.len(), SET_MAX);
    server.join().unwrap();

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(fetch(&get(format!("http://{closed}/"))).is_err());
    assert_eq!(
        fetch(&get("file:///etc/passwd".into())).unwrap_err(),
        "must be a URL that begins with `https://` or `http://`"
    );
    let ca = Some("/nowhere/ca.pem".to_owned());
    assert!(
        fetch(&Get { ca, ..get("https://127.0.0.1/".into()) }).unwrap_err().starts_with("`/nowhere/ca.pem` cannot")
    );
    let ca = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned());
    assert!(fetch(&Get { ca, ..get("https://127.0.0.1/".into()) }).unwrap_err().ends_with("holds no certificate"));
}

#[test]
fn who_speaks_no_tls_is_not_believed() {
    let (address, server) = serve(vec![answer("200 OK", "{}")]);
    let begun = Instant::now();
    assert!(fetch(&get(format!("https://{address}/"))).is_err());
    assert!(begun.elapsed() < WHOLE);
    drop(server);
}
