//! The access phase decides, the log phase completes.

use gateway::gateway::{Decision, Entry, Outcome, Reply, Respond};
use gateway::types::{Header, Reason, Request, Terms};
use nginx_sys::{
    NGX_HTTP_SATISFY_ANY, ngx_array_t, ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_finalize_request,
    ngx_http_request_t, ngx_http_upstream_state_t, ngx_int_t, ngx_uint_t,
};

use crate::answer::Kept;
use crate::conf::{LocConf, mode};
use crate::context::{self, Context};
use crate::process::{now, recent, with_worker};
use crate::raw::{self, Level, bytes, fence, rc};
use crate::view::View;
use crate::{answer, ask, body, conf, forward, log, process, reply, variable};

pub unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("access", 500, || {
        // SAFETY: nginx calls phase handlers with a live request.
        unsafe {
            match conf::loc_conf(r) {
                Some(conf) if conf.mode != mode::OFF => access(r, conf),
                _ => rc::DECLINED,
            }
        }
    })
}

/// # Safety
///
/// `r` is a live main request.
unsafe fn access(r: *mut ngx_http_request_t, conf: &LocConf) -> ngx_int_t {
    // SAFETY: the caller's promise; `r` outlives the view, and nothing changes it while the library reads it.
    unsafe {
        let Some(context) = context::obtain(r) else { return 500 };
        if context.waiting != 0 {
            return rc::AGAIN;
        }
        match body::verdict(context) {
            None => {}
            Some(Ok(rc)) => return rc,
            Some(Err(reason)) => return refuse(r, context, Reply::new(reason)),
        }
        if !forward::has_list(r) {
            return 500;
        }
        let terms = conf.terms();
        // try_files, error_page and named locations come here again: what was left of a URI has been decided, another
        // is routed anew, and in no case is a limit taken twice.
        if is_decided(r, context) && holds(context, terms) {
            // Another location's content is not the route's answer.
            if answer::is_kept(context) {
                answer::at_content(r);
            }
            match context.weighed {
                Some(reason) => return refuse(r, context, Reply::new(reason)),
                None if !context.ticket.was_refused() => return rc::DECLINED,
                None => {}
            }
        }
        if !forward::undo(r, context) {
            return 500;
        }
        let again = context.ticket.is_counted();
        // Before the client's own is stripped with the other headers that only we set.
        variable::request_id(r, context);
        let view = View::new(r);
        let entry = if again { Entry::Again } else { Entry::First };
        let answer = context.answer.take();
        if std::mem::take(&mut context.gave_up) {
            if terms.shadow {
                context.decided = (*r).uri;
                return rc::DECLINED;
            }
            return refuse(r, context, Reply::later(Reason::AuthBusy, 1));
        }
        let mut question = None;
        let now = now();
        context.began = now.mono;
        let decision = with_worker(|worker| {
            let decision = match answer {
                Some(answer) => worker.resume(answer, &view, now, &mut context.ticket),
                None => worker.access(&view, entry, now, &mut context.ticket),
            };
            variable::keep_claims(r, context, worker);
            if process::logs().is_some() {
                context.user = raw::copy((*r).pool, worker.user(&context.ticket).as_bytes()).unwrap_or(raw::text(b""));
            }
            if let Decision::Ask(_) = decision {
                // Nothing is decided: what the client sent is looked at once more.
                question = worker.question();
                return decision;
            }
            if terms.shadow || passes_by(conf, &decision) {
                return decision;
            }
            // With `satisfy any` another module may let in whom we refuse; then the request goes the same way.
            let goes_on = match &decision {
                Decision::Reply(answer) => satisfies_any(r) && is_about_caller(answer.reason),
                _ => true,
            };
            let responds = goes_on && worker.response().0 != 0;
            context.weighed = match &decision {
                Decision::Reply(answer) if goes_on => Some(answer.reason),
                _ => None,
            };
            forward::trace(r, context, worker);
            let ready = forward::strip(r, context, worker)
                && (responds || !goes_on || forward::apply(r, context, worker))
                && forward::describe(r, context)
                && answer::keep(r, context, worker, responds);
            if ready { decision } else { Decision::Reply(Reply::new(Reason::Internal)) }
        });
        if process::is_timed() {
            context.spent += process::now().mono.saturating_sub(now.mono);
        }
        if let Some(Decision::Ask(ask)) = decision {
            return match ask::wait(r, ask, question) {
                Some(id) => {
                    context.waiting = id;
                    rc::AGAIN
                }
                None if terms.shadow => rc::DECLINED,
                None => refuse(r, context, Reply::new(Reason::Internal)),
            };
        }
        // What is stripped or rewritten is not to be routed by what is left of it.
        (context.decided, context.route) = ((*r).uri, terms.route.map_or(raw::text(b""), |_| conf.route));
        if terms.shadow {
            (context.kept, context.weighed) = (Kept::NOTHING, None);
            return rc::DECLINED;
        }
        if let Some(decision) = &decision
            && passes_by(conf, decision)
        {
            with_worker(|worker| worker.pass_by(&mut context.ticket, entry));
            (context.kept, context.weighed) = (Kept::NOTHING, None);
            // A named location may want a decision of its own.
            context.decided = raw::text(b"");
            return rc::DECLINED;
        }
        if answer::is_kept(context) {
            answer::at_content(r);
        }
        match decision {
            Some(Decision::Respond(Respond::Preflight)) => answer::preflight(r, context),
            Some(Decision::Forward | Decision::Respond(Respond::Route)) => {
                let rc = if satisfies_any(r) && context.ticket.is_authenticated() { rc::OK } else { rc::DECLINED };
                match context.ticket.body_digest() {
                    Some(digest) if !context.body.is_right() => body::read(r, context, digest, rc),
                    _ => rc,
                }
            }
            Some(Decision::Reply(answer)) => {
                if answer.reason == Reason::RouteGone {
                    let name = conf::shown(conf.route);
                    let text =
                        format!("\"gateway_route\" names \"{name}\", which is no route of the document any more");
                    raw::log(Level::Error, (*(*r).connection).log, &text);
                }
                refuse(r, context, answer)
            }
            // Dealt with above.
            Some(Decision::Ask(_)) => rc::AGAIN,
            None => refuse(r, context, Reply::new(Reason::PolicyNone)),
        }
    }
}

/// Whether the location takes what has no route for its own.
fn passes_by(conf: &LocConf, decision: &Decision) -> bool {
    conf.mode == mode::OPTIONAL && matches!(decision, Decision::Reply(Reply { reason: Reason::RouteNone, .. }))
}

/// Whether what was decided elsewhere on the same URI counts where `terms` are: by the same route, and not in a shadow
/// where it is meant in earnest.
fn holds(context: &Context, terms: Terms<'_>) -> bool {
    // SAFETY: the name of a directive, which lives as long as the cycle.
    let named = unsafe { bytes(context.route) };
    named == terms.route.unwrap_or_default().as_bytes() && (terms.shadow || !context.ticket.is_shadow())
}

/// Subrequests skip the access phase; where their location passes to the gateway, this one decides.
pub unsafe extern "C" fn subrequest(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("subrequest", 500, || {
        // SAFETY: nginx calls phase handlers with a live request.
        unsafe {
            match conf::loc_conf(r) {
                Some(conf) if conf.passes == 1 && !std::ptr::eq(r, (*r).main) => decide_subrequest(r, false),
                _ => rc::DECLINED,
            }
        }
    })
}

/// Decides on a subrequest, once: routed like any other, and refused where its route needs more than the main request
/// passed. `late` where what is sent to a peer has been written: a route that changes it refuses.
///
/// # Safety
///
/// `r` is a live subrequest.
pub unsafe fn decide_subrequest(r: *mut ngx_http_request_t, late: bool) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        let main = context::find((*r).main).map(|context| context.ticket.passed());
        let Some(context) = context::obtain(r) else { return 500 };
        let view = View::new(r);
        if is_decided(r, context) && holds(context, view.terms()) && !context.ticket.was_refused() {
            return rc::DECLINED;
        }
        let entry = Entry::Subrequest(main.unwrap_or_default());
        let decision = with_worker(|worker| {
            let decision = worker.access(&view, entry, now(), &mut context.ticket);
            let ready = match decision {
                Decision::Forward if late => !forward::changes(r, worker),
                Decision::Forward => forward::own_headers(r, worker) && forward::apply(r, context, worker),
                Decision::Respond(_) => answer::keep(r, context, worker, true),
                _ => true,
            };
            if ready {
                return decision;
            }
            worker.refused(&mut context.ticket, Reason::Internal);
            Decision::Reply(Reply::new(Reason::Internal))
        });
        context.decided = (*r).uri;
        context.route =
            conf::loc_conf(r).filter(|_| view.terms().route.is_some()).map_or(raw::text(b""), |conf| conf.route);
        match decision {
            Some(Decision::Forward) => rc::DECLINED,
            Some(Decision::Respond(_)) => {
                answer::at_content(r);
                rc::DECLINED
            }
            Some(Decision::Reply(answer)) => {
                let log = (*(*r).connection).log;
                let uri = reply::lossy((*r).uri);
                let why = match answer.reason {
                    Reason::Internal if late => {
                        "its route changes path or headers, and its location lacks \"gateway_pass\""
                    }
                    reason => reason.code(),
                };
                raw::log(Level::Error, log, &format!("subrequest \"{uri}\" was refused: {why}"));
                answer.reason.status() as ngx_int_t
            }
            // A subrequest shows no credentials, so there is nothing to ask.
            Some(Decision::Ask(_)) | None => 503,
        }
    }
}

/// Whether the request's URI is what the decision left of it, and not another that reads the same: the path behind a
/// stripped prefix may be the name of a guarded place. A named location leaves the URI alone, a redirect brings its own.
///
/// # Safety
///
/// `r` is a live request, and `context` is its record.
pub unsafe fn is_decided(r: *mut ngx_http_request_t, context: &Context) -> bool {
    // SAFETY: the caller's promise.
    let uri = unsafe { (*r).uri };
    uri.len != 0 && uri.data == context.decided.data && uri.len == context.decided.len
}

/// # Safety
///
/// `r` is a live request.
unsafe fn refuse(r: *mut ngx_http_request_t, context: &mut Context, answer: Reply) -> ngx_int_t {
    let status = answer.reason.status() as ngx_int_t;
    with_worker(|worker| worker.refused(&mut context.ticket, answer.reason));
    // SAFETY: the caller's promise.
    unsafe {
        // Where the location has its own page for the status, or another module may still let the request in, nginx
        // decides what the client sees.
        if satisfies_any(r) {
            if is_about_caller(answer.reason) || !matches!(status, 401 | 403) {
                return status;
            }
            // What the document says of addresses and protocols holds whoever else lets the request in, and nginx would
            // go on.
            if has_error_page(r, status) {
                ngx_http_finalize_request(r, status);
                return rc::DONE;
            }
        } else if has_error_page(r, status) {
            return status;
        }
        context.replied = true;
        reply::refuse(r, &answer, context)
    }
}

/// Whether the refusal is about who the caller is: what `satisfy` weighs against other modules' opinion.
fn is_about_caller(reason: Reason) -> bool {
    matches!(reason.status(), 401 | 403)
        && !matches!(reason, Reason::AccessBanned | Reason::AccessDenied | Reason::ProtocolRefused)
}

fn core_conf<'a>(r: *mut ngx_http_request_t) -> Option<&'a ngx_http_core_loc_conf_t> {
    // SAFETY: a live request has the core module's location configuration.
    unsafe { raw::slot((*r).loc_conf, ngx_http_core_module.ctx_index).cast::<ngx_http_core_loc_conf_t>().as_ref() }
}

pub fn satisfies_any(r: *mut ngx_http_request_t) -> bool {
    core_conf(r).is_some_and(|conf| conf.satisfy == NGX_HTTP_SATISFY_ANY as ngx_uint_t)
}

/// # Safety
///
/// `r` is a live request.
unsafe fn has_error_page(r: *mut ngx_http_request_t, status: ngx_int_t) -> bool {
    // SAFETY: the array holds error pages and lives as long as the cycle.
    unsafe {
        let Some(pages) = core_conf(r).and_then(|conf| conf.error_pages.as_ref()) else { return false };
        if (*r).error_page() != 0 {
            return false;
        }
        std::slice::from_raw_parts(pages.elts.cast::<nginx_sys::ngx_http_err_page_t>(), pages.nelts)
            .iter()
            .any(|page| page.status == status)
    }
}

pub unsafe extern "C" fn log_handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("log", rc::OK, || {
        // SAFETY: nginx calls phase handlers with a live request.
        unsafe {
            let mut context = context::find(r);
            if let Some(context) = context.as_mut().filter(|context| !context.completed) {
                context.completed = true;
                let outcome = outcome(r, context);
                let now = recent();
                let header = |name: &[u8]| answer_header(r, name);
                with_worker(|worker| worker.complete_with(&mut context.ticket, &outcome, &header, now));
            }
            if let Some(main) = process::logs() {
                log::request(r, context, main);
            }
        }
        rc::OK
    })
}

/// Tells the library how a request that nobody logs has ended.
///
/// # Safety
///
/// The request of `context` is live, or its pool is about to go.
pub unsafe fn complete(context: &mut Context) {
    // SAFETY: the caller's promise.
    let outcome = unsafe { outcome(context.request, context) };
    let now = recent();
    with_worker(|worker| worker.complete(&mut context.ticket, &outcome, now));
}

/// What the client was answered; 0 = nothing.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn status(r: *mut ngx_http_request_t) -> u16 {
    // SAFETY: the caller's promise.
    let status = unsafe { if (*r).err_status != 0 { (*r).err_status } else { (*r).headers_out.status } };
    u16::try_from(status).unwrap_or(0)
}

/// # Safety
///
/// `r` is a live request.
unsafe fn outcome(r: *mut ngx_http_request_t, context: &Context) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe {
        let status = status(r);
        Outcome {
            status,
            // Half an answer is none, whatever it began with.
            upstream_status: match last_state((*r).upstream_states) {
                Some(_) if context.cut => 502,
                state => state.map_or(0, |state| u16::try_from(state.status).unwrap_or(0)),
            },
            // nginx marks the connection when the client is gone; what the upstream would have said is not known.
            aborted: status == 499 || (status == 0 && (*r).connection.as_ref().is_some_and(|c| c.error() != 0)),
        }
    }
}

/// A header of the answer, `name` in lower case: as the upstream sent it, also where the client is not shown it; else as
/// the client was.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn answer_header<'a>(r: *mut ngx_http_request_t, name: &[u8]) -> Header<'a> {
    // SAFETY: the lists and their strings belong to the live request.
    unsafe {
        let list = match (*r).upstream.as_ref() {
            Some(upstream) if !upstream.headers_in.headers.last.is_null() => &raw const upstream.headers_in.headers,
            _ => &raw const (*r).headers_out.headers,
        };
        let mut found = Header::Absent;
        // A header that was taken out again has no hash.
        for element in raw::headers(&*list).filter(|element| element.hash != 0) {
            if raw::bytes(element.key).eq_ignore_ascii_case(name) {
                if found != Header::Absent {
                    return Header::Many;
                }
                found = Header::One(raw::bytes(element.value));
            }
        }
        found
    }
}

/// # Safety
///
/// `states` is null or a request's array of upstream states.
unsafe fn last_state<'a>(states: *mut ngx_array_t) -> Option<&'a ngx_http_upstream_state_t> {
    // SAFETY: the caller's promise.
    unsafe {
        let states = states.as_ref()?;
        std::slice::from_raw_parts(states.elts.cast::<ngx_http_upstream_state_t>(), states.nelts).last()
    }
}
