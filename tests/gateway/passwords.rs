//! Passwords: who is let in, what is asked for and when, and what is remembered.

use gateway::auth::LOGINS_MAX;
use gateway::gateway::{Answer, Decision, Entry, Outcome, Question, Ticket};
use serde_json::json;

use crate::support::{Fake, Gateway, SECRET, at};
use crate::{document, token};

const DOCUMENT: &str = r#"  - {name: logins, basic: {file: /htpasswd}}
  - {name: more, basic: {users: {carl: "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="}}}
  - {name: keys, api_key: {header: X-API-Key}}
consumers: [{name: ann, permissions: ["orders:read"]}, {name: gone, enabled: false}, {name: acme, api_key: ["$env://SECRET"]}]
limiters:
  - {name: ip, key: [ip], rate: 1/h, burst: 2}
  - {name: mine, key: [consumer], rate: 1/h, burst: 1}
routes:
  - {name: page, paths: ["/page"], auth: [logins]}
  - {name: two, paths: ["/two"], auth: [logins, more]}
  - {name: any, paths: ["/any"], auth: [logins, staff, keys]}
  - {name: reads, paths: ["/reads"], auth: [logins], permissions: {any: ["orders:read"]}}
  - {name: limited, paths: ["/limited"], auth: [logins], limits: [ip, mine]}
"#;

fn gateway() -> Gateway {
    Gateway::new(&document(DOCUMENT), 1)
}

fn asked(gateway: &mut Gateway, request: &Fake, ticket: &mut Ticket) -> (Decision, Option<Question>) {
    let decision = gateway.workers[0].access(request, Entry::First, at(0.0), ticket);
    (decision, gateway.workers[0].question())
}

#[test]
fn who_gets_in() {
    let mut gateway = gateway();
    let get = Fake::get;
    let bearer = token("anna", json!({}));
    for (request, expected, asks) in [
        (get("/page"), "auth.missing", 0),
        (get("/page").basic("ann", "secret"), "forward ann", 1),
        (get("/page").basic("ann", "secret"), "forward ann", 0),
        (get("/page").basic("ann", "Secret"), "auth.password", 1),
        (get("/page").basic("ann", "Secret"), "auth.password", 0),
        (get("/page").basic("bob", "secret"), "forward bob", 1),
        (get("/page").basic("nobody", "secret"), "auth.password", 1),
        (get("/page").basic("nobody", "secret"), "auth.password", 0),
        (get("/page").basic("", "secret"), "auth.password", 1),
        (get("/page").basic("gone", "secret"), "auth.consumer", 1),
        (get("/page").basic("ann", "sec\nret"), "auth.malformed", 0),
        (get("/page").header("authorization", "Basic x"), "auth.malformed", 0),
        (get("/page").basic("ann", "secret").basic("ann", "secret"), "auth.malformed", 0),
        (get("/page").bearer(&bearer), "auth.missing", 0),
        // Of two entries each may have to look.
        (get("/two").basic("carl", "secret"), "forward carl", 2),
        (get("/two").basic("carl", "secret"), "forward carl", 0),
        (get("/two").basic("carl", "wrong"), "auth.password", 2),
        (get("/two").basic("ann", "secret"), "forward ann", 0),
        // Who is known by something else need not be asked about.
        (get("/any").bearer(&bearer), "forward anna", 0),
        (get("/any").basic("bob", "other").header("x-api-key", SECRET), "forward acme", 0),
        (get("/any").basic("bob", "other").header("x-api-key", "wrong-key-wrong-key"), "auth.key_unknown", 1),
        (get("/reads").basic("ann", "secret"), "forward ann", 0),
        (get("/reads").basic("bob", "secret"), "permission.missing", 0),
    ] {
        let (decision, ticket) = gateway.access(0, &request, at(0.0));
        let found = match decision {
            Decision::Reply(reply) => reply.reason.code().to_owned(),
            _ => format!("forward {}", ticket.consumer()),
        };
        assert_eq!((found.as_str(), ticket.asks()), (expected, asks), "{:?} {:?}", request.target, request.headers);
    }
}

#[test]
fn a_401_asks_for_a_password() {
    let mut gateway = gateway();
    let Decision::Reply(reply) = gateway.access(0, &Fake::get("/page"), at(0.0)).0 else { panic!() };
    assert_eq!(reply.challenges.iter().collect::<Vec<_>>(), ["Basic realm=\"gateway\", charset=\"UTF-8\""]);
}

#[test]
fn what_is_remembered_ends_and_an_edit_ends_it_at_once() {
    let mut gateway = gateway();
    let (right, wrong) = (Fake::get("/page").basic("ann", "secret"), Fake::get("/page").basic("ann", "wrong"));
    for (request, time, asks) in [
        (&right, 0.0, 1),
        (&wrong, 0.0, 1),
        (&wrong, 9.9, 0),
        (&wrong, 10.0, 1),
        (&right, 299.9, 0),
        (&right, 300.0, 1),
    ] {
        assert_eq!(gateway.access(0, request, at(time)).1.asks(), asks, "{time}");
    }
    let edited = document(DOCUMENT).replace("file: /htpasswd", "users: {ann: \"{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\"}");
    gateway.load(&edited, at(301.0));
    assert_eq!(gateway.verdict(0, &right, at(301.0)), "auth.password");
    assert_eq!(gateway.verdict(0, &Fake::get("/page").basic("ann", "password"), at(301.0)), "forward");
    // The hash is there again, and so is what was known of it.
    gateway.load(&document(DOCUMENT), at(302.0));
    assert_eq!(gateway.access(0, &right, at(302.0)).1.asks(), 0);
}

#[test]
fn no_limit_is_taken_twice_by_a_request_that_asks() {
    let mut gateway = gateway();
    let request = Fake::get("/limited").basic("ann", "secret");
    let (decision, ticket) = gateway.access(0, &request, at(0.0));
    assert_eq!((decision, ticket.asks()), (Decision::Forward, 1));
    assert_eq!(gateway.verdict(0, &request, at(0.0)), "limit.exceeded", "one of its own");
    // The address had two, and both refused and admitted requests have spent one.
    assert_eq!(gateway.verdict(0, &Fake::get("/limited").basic("bob", "secret"), at(0.0)), "limit.exceeded");
}

#[test]
fn requests_with_one_password_share_one_answer() {
    let mut gateway = gateway();
    let request = Fake::get("/page").basic("ann", "secret");
    let mut tickets: Vec<Ticket> = (0..3).map(|_| Ticket::new()).collect();
    let mut questions = Vec::new();
    for ticket in &mut tickets {
        let (decision, question) = asked(&mut gateway, &request, ticket);
        assert!(matches!(decision, Decision::Ask(_)));
        assert_eq!((ticket.decision(), ticket.consumer()), ("ask", ""));
        questions.extend(question);
    }
    assert_eq!(questions.len(), 1);
    let answer = questions.remove(0).answer();
    gateway.workers[0].learn(answer, at(0.0));
    for ticket in &mut tickets {
        assert_eq!(gateway.workers[0].resume(answer, &request, at(0.0), ticket), Decision::Forward);
        assert_eq!(ticket.consumer(), "ann");
    }
}

#[test]
fn beyond_a_bound_a_login_has_to_come_back_later() {
    let mut gateway = gateway();
    let mut open = Vec::new();
    for guess in 0..LOGINS_MAX {
        let (decision, question) =
            asked(&mut gateway, &Fake::get("/page").basic("ann", &guess.to_string()), &mut Ticket::new());
        assert!(matches!(decision, Decision::Ask(_)), "{guess}");
        open.extend(question);
    }
    let one_more = Fake::get("/page").basic("bob", "secret");
    let (decision, question) = asked(&mut gateway, &one_more, &mut Ticket::new());
    let Decision::Reply(reply) = decision else { panic!("{decision:?}") };
    assert_eq!((reply.reason.code(), reply.reason.status(), reply.retry_after), ("auth.busy", 503, 1));
    assert!(question.is_none());
    // Without a password nothing is asked, and one that failed makes room.
    assert_eq!(gateway.verdict(0, &Fake::get("/page"), at(0.0)), "auth.missing");
    let failed = Answer::failed(open[0].ask());
    gateway.workers[0].learn(failed, at(0.0));
    assert_eq!(gateway.verdict(0, &one_more, at(0.0)), "forward");
    assert_eq!(open.len(), LOGINS_MAX);
}

#[test]
fn what_could_not_be_found_out_is_an_error_and_no_loop() {
    let mut gateway = gateway();
    let request = Fake::get("/page").basic("ann", "secret");
    let mut ticket = Ticket::new();
    let (_, question) = asked(&mut gateway, &request, &mut ticket);
    let failed = Answer::failed(question.unwrap().ask());
    gateway.workers[0].learn(failed, at(0.0));
    let decision = gateway.workers[0].resume(failed, &request, at(0.0), &mut ticket);
    assert!(matches!(decision, Decision::Reply(reply) if reply.reason.code() == "internal"), "{decision:?}");
    assert_eq!(gateway.verdict(0, &request, at(0.0)), "forward", "the next one asks again");
}

#[test]
fn who_goes_away_while_waiting_leaves_nothing_behind() {
    let mut gateway = gateway();
    let request = Fake::get("/page").basic("ann", "secret");
    let mut ticket = Ticket::new();
    let (_, question) = asked(&mut gateway, &request, &mut ticket);
    let outcome = Outcome { status: 499, aborted: true, ..Outcome::default() };
    gateway.workers[0].complete(&mut ticket, &outcome, at(1.0));
    let text = gateway.workers[0].metrics(at(1.0));
    assert!(text.contains("gateway_active_connections 0"), "{text}");
    assert!(text.contains(r#"gateway_requests_total{route="page",method="GET",status="499"} 1"#), "{text}");
    gateway.workers[0].learn(question.unwrap().answer(), at(1.0));
    assert_eq!(gateway.access(0, &request, at(1.0)).1.asks(), 0, "what it asked for is known all the same");
}
