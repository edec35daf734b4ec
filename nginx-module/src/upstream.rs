//! `gateway_balancer`: one `upstream {}` block for every upstream of the document.
//!
//! No server stands in the block. Each try asks the library for a peer, so a change of the document acts on the very
//! next request; nginx's `keepalive`, which wraps this balancer, finds kept connections by comparing addresses.

use std::ffi::{c_char, c_void};
use std::ptr;

use gateway::balancer::RetryOn;
use gateway::gateway::{Peer, Reply, Ticket, TryEnd};
use nginx_sys::{
    NGX_HTTP_UPSTREAM_CREATE, NGX_HTTP_UPSTREAM_FT_ERROR, NGX_HTTP_UPSTREAM_FT_HTTP_403, NGX_HTTP_UPSTREAM_FT_HTTP_404,
    NGX_HTTP_UPSTREAM_FT_HTTP_429, NGX_HTTP_UPSTREAM_FT_HTTP_500, NGX_HTTP_UPSTREAM_FT_HTTP_502,
    NGX_HTTP_UPSTREAM_FT_HTTP_503, NGX_HTTP_UPSTREAM_FT_HTTP_504, NGX_HTTP_UPSTREAM_FT_INVALID_HEADER,
    NGX_HTTP_UPSTREAM_FT_NOLIVE, NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT, NGX_HTTP_UPSTREAM_FT_OFF,
    NGX_HTTP_UPSTREAM_FT_TIMEOUT, NGX_HTTP_UPSTREAM_INVALID_HEADER, NGX_PEER_FAILED, ngx_add_timer, ngx_array_create,
    ngx_array_push, ngx_command_t, ngx_conf_t, ngx_del_timer, ngx_event_t, ngx_http_request_t,
    ngx_http_upstream_server_t, ngx_http_upstream_srv_conf_t, ngx_http_upstream_t, ngx_int_t, ngx_msec_t,
    ngx_peer_connection_t, ngx_str_t, ngx_uint_t, sockaddr,
};

use crate::answer::{self, LastWord};
use crate::cache;
use crate::conf::{self, SrvConf};
use crate::context::{self, Context};
use crate::process::{recent, with_worker};
use crate::raw::{self, CONF_ERROR, CONF_OK, DUPLICATE, Level, bytes, conf_error, fence, rc};
use crate::{ngx_http_gateway_module, ngx_http_upstream_module};

/// The directive.
pub unsafe extern "C" fn set(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_balancer", CONF_ERROR, || {
        // SAFETY: inside `upstream {}` the upstream module's server configuration is the block's.
        let block = unsafe {
            let context: *mut nginx_sys::ngx_http_conf_ctx_t = (*cf).ctx.cast();
            raw::slot((*context).srv_conf, ngx_http_upstream_module.ctx_index)
                .cast::<ngx_http_upstream_srv_conf_t>()
                .as_mut()
        };
        let Some(block) = block else { return CONF_ERROR };
        let is_ours = |found: InitUpstream| std::ptr::fn_addr_eq(found, init_upstream as InitUpstream);
        if block.peer.init_upstream.is_some_and(is_ours) {
            return DUPLICATE;
        }
        let name = conf::argument(cf, 1);
        // SAFETY: nginx hands over this module's server configuration of the block.
        if let Some(own) = unsafe { conf.cast::<SrvConf>().as_mut() }.filter(|_| !name.data.is_null() && name.len != 0)
        {
            conf::need(cf, c"gateway_balancer");
            if let Err(error) = conf::remember(cf, name) {
                return error;
            }
            own.upstream = name;
        }
        if block.peer.init_upstream.is_some() {
            return conf_error(
                cf,
                "\"gateway_balancer\" must stand before \"keepalive\" and be the only balancer of its upstream block: \
                 behind it, no connection would be used again",
            );
        }
        block.peer.init_upstream = Some(init_upstream);
        block.flags = NGX_HTTP_UPSTREAM_CREATE as ngx_uint_t;
        // nginx refuses a block without servers; this one gets its peers from the document.
        // SAFETY: the array lives in the cycle's pool.
        unsafe {
            if block.servers.is_null() {
                block.servers = ngx_array_create((*cf).pool, 1, size_of::<ngx_http_upstream_server_t>());
            }
            if block.servers.is_null() {
                return CONF_ERROR;
            }
            if (*block.servers).nelts != 0 {
                return conf_error(
                    cf,
                    "\"server\" has no meaning beside \"gateway_balancer\": nodes stand in the document",
                );
            }
            let server = ngx_array_push(block.servers).cast::<ngx_http_upstream_server_t>();
            if server.is_null() {
                return CONF_ERROR;
            }
            ptr::write_bytes(server, 0, 1);
        }
        CONF_OK
    })
}

/// Reports a mistake of `block` with the line where it begins.
fn complain(cf: *mut ngx_conf_t, block: &ngx_http_upstream_srv_conf_t, text: &str) {
    let name = ngx_str_t { len: 0, data: block.file_name };
    conf::conf_error_at(cf, name, block.line, text);
}

unsafe extern "C" fn init_upstream(cf: *mut ngx_conf_t, us: *mut ngx_http_upstream_srv_conf_t) -> ngx_int_t {
    fence("init upstream", rc::ERROR, || {
        // SAFETY: nginx initialises each block once, after the whole configuration is read.
        let Some(block) = (unsafe { us.as_mut() }) else { return rc::ERROR };
        let name = crate::conf::shown(block.host);
        if !block.shm_zone.is_null() {
            complain(
                cf,
                block,
                &format!(
                    "\"zone\" cannot be used in upstream \"{name}\" with \"gateway_balancer\": its peers already live in \
                     the gateway's region"
                ),
            );
            return rc::ERROR;
        }
        // SAFETY: as above.
        if unsafe { block.servers.as_ref() }.is_none_or(|servers| servers.nelts != 1) {
            complain(
                cf,
                block,
                &format!(
                    "\"server\" has no meaning in upstream \"{name}\" with \"gateway_balancer\": nodes stand in the document"
                ),
            );
            return rc::ERROR;
        }
        block.peer.init = Some(init);
        rc::OK
    })
}

type InitUpstream = unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_http_upstream_srv_conf_t) -> ngx_int_t;

/// What the callbacks of one request's tries share.
#[repr(C)]
struct Tries {
    request: *mut ngx_http_request_t,
    context: *mut Context,
    /// There is nobody to ask for a peer.
    is_closed: bool,
    /// The address of the current try; `sockaddr_in6` is the largest kind we make.
    address: libc::sockaddr_in6,
    name: ngx_str_t,
    /// The library's number for the connection of the current try; 0 = plain HTTP.
    connection: u64,
    /// Ends the current try where the route bounds it; nginx's debug log reads a descriptor behind `data`.
    timer: ngx_event_t,
    timer_data: [*mut c_void; 4],
}

unsafe extern "C" fn init(r: *mut ngx_http_request_t, us: *mut ngx_http_upstream_srv_conf_t) -> ngx_int_t {
    fence("init peer", rc::ERROR, || {
        // SAFETY: nginx calls this with a live request that has an upstream.
        unsafe {
            let Some(u) = (*r).upstream.as_mut() else { return rc::ERROR };
            let Some((context, is_closed)) = bound(r, us) else { return rc::ERROR };
            let tries: *mut Tries = raw::zeroed((*r).pool);
            let Some(state) = tries.as_mut() else { return rc::ERROR };
            state.request = r;
            state.context = context;
            state.is_closed = is_closed;
            // The cache has no answer, so the upstream is asked after all.
            let now = recent();
            let had_alternate = context.ticket.has_alternate();
            // Where it may not be asked, the ticket knows, and no peer is given.
            with_worker(|worker| worker.forward(&mut context.ticket, now).is_ok());
            if !adjust(r, u, context) || had_alternate && !context.ticket.has_alternate() && !write_request(r, u) {
                return rc::ERROR;
            }
            if context.ticket.has_last_word() && context.finalize.is_none() {
                context.finalize = u.finalize_request.replace(finalize);
            }
            if protocol(r) == HTTP && context.status_line.is_none() {
                context.status_line = u.process_header.replace(status_line);
                context.reinit = u.reinit_request.replace(reinit);
            }
            u.peer.data = tries.cast();
            u.peer.get = Some(get);
            u.peer.free = Some(free);
            u.peer.tries = context.ticket.attempts().into();
            // `keepalive` calls both without looking whether they are there.
            u.peer.set_session = Some(set_session);
            u.peer.save_session = Some(save_session);
            rc::OK
        }
    })
}

/// The request's record, with an upstream in it: that of its route, or the one that the block names; and whether that one
/// takes nobody.
///
/// # Safety
///
/// `r` is a live request, and `us` the block that it is sent to.
unsafe fn bound<'a>(
    r: *mut ngx_http_request_t,
    us: *mut ngx_http_upstream_srv_conf_t,
) -> Option<(&'a mut Context, bool)> {
    // SAFETY: the caller's promise; a block has a slot for every HTTP module, the name of ours is checked to be text.
    unsafe {
        let own = raw::slot((*us).srv_conf, ngx_http_gateway_module.ctx_index).cast::<SrvConf>().as_ref();
        let Some(own) = own.filter(|own| own.upstream.len != 0) else {
            return decided(r).map(|context| (context, false));
        };
        let name = std::str::from_utf8(bytes(own.upstream)).ok()?;
        let context = context::obtain(r)?;
        let now = recent();
        let sent = with_worker(|worker| worker.send_to(&mut context.ticket, name, now));
        if let Some(Err(reply)) = sent {
            let text = format!("upstream \"{name}\" of \"gateway_balancer\" takes nobody: {}", reply.reason.code());
            raw::log(Level::Error, (*(*r).connection).log, &text);
            turn_away(context, reply);
        }
        Some((context, !matches!(sent, Some(Ok(())))))
    }
}

/// The request's record with a decision in it. A subrequest to a location without `gateway_pass` is decided on here.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn decided<'a>(r: *mut ngx_http_request_t) -> Option<&'a mut Context> {
    // SAFETY: the caller's promise.
    unsafe {
        let is_main = ptr::eq(r, (*r).main);
        // The main request may have been let in by `satisfy any` though we refused it; nobody lets in a subrequest.
        if let Some(context) = context::find(r)
            && context.ticket.is_routed()
            && !answer::is_kept(context)
            && (is_main || !context.ticket.was_refused() && crate::access::is_decided(r, context))
        {
            return Some(context);
        }
        let log = (*(*r).connection).log;
        if is_main {
            raw::log(
                Level::Error,
                log,
                "\"gateway_balancer\" was asked for a peer of a request without a decision: its location needs \"gateway on\"",
            );
            return None;
        }
        if crate::access::decide_subrequest(r, true) != rc::DECLINED {
            return None;
        }
        context::find(r).filter(|context| context.ticket.is_routed() && !answer::is_kept(context))
    }
}

/// Gives this request its route's timeouts and retry rules: a copy of the upstream's configuration, made only where
/// something differs.
///
/// # Safety
///
/// `r` is live and `u` is its upstream.
unsafe fn adjust(r: *mut ngx_http_request_t, u: &mut ngx_http_upstream_t, context: &mut Context) -> bool {
    let ticket = &context.ticket;
    // SAFETY: the configuration lives as long as the cycle.
    let Some(conf) = (unsafe { u.conf.as_ref() }) else { return false };
    let timeouts = ticket.timeouts();
    let wanted = |micros: u64, current: ngx_msec_t| match micros {
        0 => current,
        micros => (micros / 1_000).max(1) as ngx_msec_t,
    };
    let connect = wanted(timeouts.connect, conf.connect_timeout);
    let send = wanted(timeouts.send, conf.send_timeout);
    let read = wanted(timeouts.read, conf.read_timeout);
    let next = if ticket.has_server_retries() { conf.next_upstream } else { next_upstream(ticket) };
    let attempts = match ngx_uint_t::from(ticket.attempts()) {
        // nginx's own bound holds beside the number of peers.
        _ if ticket.has_server_retries() => conf.next_upstream_tries,
        attempts => attempts,
    };
    // SAFETY: the caller's promise.
    let rules = if ticket.is_cached() { unsafe { cache::stale_on(r) } } else { 0 };
    let stale = conf.cache_use_stale | rules | if ticket.takes_stale() { STALE as ngx_uint_t } else { 0 };
    if connect == conf.connect_timeout
        && send == conf.send_timeout
        && read == conf.read_timeout
        && next == conf.next_upstream
        && stale == conf.cache_use_stale
        && ticket.tls() == 0
        && (conf.next_upstream_tries == 0 || conf.next_upstream_tries == attempts)
    {
        return true;
    }
    // SAFETY: both are whole configurations; the copy lives as long as the request.
    unsafe {
        let Some(own) = cache::own_conf(r, u, context) else { return false };
        own.connect_timeout = connect;
        own.send_timeout = send;
        own.read_timeout = read;
        own.next_upstream = next;
        own.next_upstream_tries = attempts;
        own.cache_use_stale = stale;
        if context.ticket.tls() != 0 && !encrypt(r, u, own, &context.ticket) {
            return false;
        }
    }
    true
}

/// Ends of a try that brought no response.
const NO_ANSWER: u32 = NGX_HTTP_UPSTREAM_FT_ERROR | NGX_HTTP_UPSTREAM_FT_INVALID_HEADER | NGX_HTTP_UPSTREAM_FT_TIMEOUT;

/// Failures for which the cache's stale answer is a better one.
const STALE: u32 = NO_ANSWER
    | NGX_HTTP_UPSTREAM_FT_NOLIVE
    | NGX_HTTP_UPSTREAM_FT_HTTP_500
    | NGX_HTTP_UPSTREAM_FT_HTTP_502
    | NGX_HTTP_UPSTREAM_FT_HTTP_503
    | NGX_HTTP_UPSTREAM_FT_HTTP_504;

/// Comes before nginx ends its upstream with `status`. Where no server has answered, the gateway has the last word.
unsafe extern "C" fn finalize(r: *mut ngx_http_request_t, status: ngx_int_t) {
    let inner = fence("finalize", None, || {
        // SAFETY: nginx calls this with the live request whose upstream ends.
        unsafe {
            let context = context::find(r)?;
            let u = (*r).upstream.as_ref()?;
            let is_answer = u.headers_in.status_n as ngx_int_t == status;
            if matches!(status, 502..=504) && !is_answer && u.header_sent() == 0 {
                answer::prepare_last_word(r, context, status as u16);
            }
            context.finalize
        }
    });
    if let Some(inner) = inner {
        // SAFETY: nginx's own callback, with its own arguments.
        unsafe { inner(r, status) };
    }
}

/// Turns to another upstream: it may be spoken to in another way, and what it is sent is written anew, as it may want a
/// `Host` of its own. `tls` is what the ticket said of the one before.
///
/// # Safety
///
/// `r` is a live request that is between two tries.
unsafe fn turn(r: *mut ngx_http_request_t, context: &mut Context, tls: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(u) = (*r).upstream.as_mut() else { return false };
        if context.ticket.tls() != 0 {
            let Some(own) = cache::own_conf(r, u, context) else { return false };
            if !encrypt(r, u, own, &context.ticket) {
                return false;
            }
        } else if tls != 0 {
            #[cfg(ngx_feature = "http_ssl")]
            crate::tls::end(u);
        }
        write_request(r, u)
    }
}

/// Writes what is sent to a peer anew.
///
/// # Safety
///
/// `r` is a live request that is between two tries, or before the first, and `u` is its upstream.
unsafe fn write_request(r: *mut ngx_http_request_t, u: &mut ngx_http_upstream_t) -> bool {
    // SAFETY: the caller's promise; the same as nginx does before the first try.
    unsafe {
        u.request_bufs = (*r).request_body.as_ref().map_or(ptr::null_mut(), |body| body.bufs);
        u.create_request.is_some_and(|create| create(r) == rc::OK)
    }
}

/// Whether the route's rules have the try that failed last tried again at the same upstream.
///
/// # Safety
///
/// `r` is a live request with the state of a new try behind that of the failed one.
unsafe fn is_tried_again(r: *mut ngx_http_request_t, ticket: &Ticket) -> bool {
    let (on, _) = ticket.retry_on();
    // SAFETY: the states are null or the request's.
    let last = unsafe {
        (*r).upstream_states.as_ref().and_then(|states| {
            let all =
                std::slice::from_raw_parts(states.elts.cast::<nginx_sys::ngx_http_upstream_state_t>(), states.nelts);
            all.iter().rev().nth(1)
        })
    };
    match last.map_or(0, |state| state.status) {
        0 => true,
        504 => on.timeout || on.has(504),
        502 => on.error || on.has(502),
        _ => true,
    }
}

#[cfg(ngx_feature = "http_ssl")]
use crate::tls::apply as encrypt;

/// # Safety
///
/// `r` is live.
#[cfg(not(ngx_feature = "http_ssl"))]
unsafe fn encrypt(
    r: *mut ngx_http_request_t,
    _: &mut ngx_http_upstream_t,
    _: &mut nginx_sys::ngx_http_upstream_conf_t,
    ticket: &Ticket,
) -> bool {
    // SAFETY: the caller's promise.
    let log = unsafe { (*(*r).connection).log };
    let why = format!("TLS to upstream \"{}\": this nginx is built without SSL", ticket.upstream_name());
    raw::log(Level::Error, log, &why);
    false
}

/// The route's retry rules as nginx's mask.
fn next_upstream(ticket: &Ticket) -> ngx_uint_t {
    let (on, idempotent_only) = ticket.retry_on();
    let mut mask = 0;
    if on.error {
        mask |= NGX_HTTP_UPSTREAM_FT_ERROR | NGX_HTTP_UPSTREAM_FT_INVALID_HEADER;
    }
    if on.timeout {
        mask |= NGX_HTTP_UPSTREAM_FT_TIMEOUT;
    }
    const MASKS: [u32; RetryOn::STATUSES.len()] = [
        NGX_HTTP_UPSTREAM_FT_HTTP_500,
        NGX_HTTP_UPSTREAM_FT_HTTP_502,
        NGX_HTTP_UPSTREAM_FT_HTTP_503,
        NGX_HTTP_UPSTREAM_FT_HTTP_504,
        NGX_HTTP_UPSTREAM_FT_HTTP_403,
        NGX_HTTP_UPSTREAM_FT_HTTP_404,
        NGX_HTTP_UPSTREAM_FT_HTTP_429,
    ];
    for (bit, status) in MASKS.into_iter().enumerate() {
        if on.statuses & 1 << bit != 0 {
            mask |= status;
        }
    }
    if ticket.has_alternate() {
        // What is no reason to try again is one to turn to the other upstream; `get` tells them apart.
        mask |= NO_ANSWER;
    }
    if mask == 0 {
        mask = NGX_HTTP_UPSTREAM_FT_OFF;
    } else if !idempotent_only {
        mask |= NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT;
    }
    mask as ngx_uint_t
}

unsafe extern "C" fn get(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    fence("get peer", rc::BUSY, || {
        // SAFETY: nginx passes its peer connection and the data that `init` set.
        let (Some(pc), Some(tries)) = (unsafe { (pc.as_mut(), data.cast::<Tries>().as_mut()) }) else {
            return rc::ERROR;
        };
        if tries.is_closed {
            return rc::BUSY;
        }
        // SAFETY: the record lives in the request's pool.
        let Some(context) = (unsafe { tries.context.as_mut() }) else { return rc::ERROR };
        let now = recent();
        let (had_alternate, tls) = (context.ticket.has_alternate(), context.ticket.tls());
        // SAFETY: the request is live.
        if had_alternate && unsafe { !is_tried_again(tries.request, &context.ticket) } {
            context.ticket.give_up();
        }
        let chosen = with_worker(|worker| {
            worker.pick(&mut context.ticket, now, |peer| {
                // SAFETY: the request is live.
                let copy = |text: &str| unsafe { raw::copy((*tries.request).pool, text.as_bytes()) };
                let name = copy(peer.name)?;
                let server_name = peer.server_name.map_or(Some(raw::text(b"")), copy)?;
                tries.connection = peer.connection;
                let identity = peer.connection & !PROTOCOLS | protocol(tries.request);
                Some((name, server_name, fill(&mut tries.address, peer, identity)))
            })
        });
        // SAFETY: as above; nothing of it has been sent to the new peer.
        if had_alternate && !context.ticket.has_alternate() && unsafe { !turn(tries.request, context, tls) } {
            return rc::ERROR;
        }
        match chosen {
            Some(Ok(Some((name, server_name, length)))) => {
                tries.name = name;
                set_server_name(tries, server_name);
                pc.sockaddr = (&raw mut tries.address).cast::<sockaddr>();
                pc.socklen = length;
                pc.name = &raw mut tries.name;
                pc.connection = ptr::null_mut();
                pc.set_cached(0);
                limit_try(tries, context.ticket.per_try_timeout());
                rc::OK
            }
            Some(Ok(None)) => rc::ERROR,
            Some(Err(refusal)) => {
                turn_away(context, refusal);
                rc::BUSY
            }
            None => rc::BUSY,
        }
    })
}

/// Nobody is asked: nginx's page for it, which blames a server, gives way to the reason. Once one was, the try that
/// failed last is the answer.
#[cold]
fn turn_away(context: &mut Context, mut refusal: Reply) {
    if context.ticket.has_tried() || context.ticket.has_last_word() {
        return;
    }
    if refusal.reason.status() == 503 {
        refusal.retry_after = refusal.retry_after.max(1);
    }
    context.last_word = Some(LastWord::Refusal(refusal));
}

/// Ends the try that begins now after `micros` microseconds, 0 = never, unless its response header is there by then.
fn limit_try(tries: &mut Tries, micros: u64) {
    if micros == 0 {
        return;
    }
    let record = ptr::from_mut(tries);
    tries.timer_data = [record.cast(), ptr::null_mut(), ptr::null_mut(), ptr::without_provenance_mut(usize::MAX)];
    tries.timer.data = (&raw mut tries.timer_data).cast();
    tries.timer.handler = Some(too_long);
    // SAFETY: the request and its connection are live; the event is taken back before the record goes, by `free`.
    unsafe {
        tries.timer.log = (*(*tries.request).connection).log;
        ngx_add_timer(&raw mut tries.timer, (micros / 1_000).max(1) as ngx_msec_t);
    }
}

/// The try takes too long: it ends as one ends that nginx itself gave up waiting for.
unsafe extern "C" fn too_long(event: *mut ngx_event_t) {
    fence("try timer", (), || {
        // SAFETY: the event is that of a try which `free` has not ended, so its request and record are live.
        unsafe {
            let [record, ..] = *(*event).data.cast::<[*mut c_void; 4]>();
            let Some(tries) = record.cast::<Tries>().as_ref() else { return };
            if !tries.context.as_ref().is_some_and(|context| context.ticket.is_trying()) {
                return;
            }
            let Some(connection) = (*tries.request).upstream.as_ref().and_then(|u| u.peer.connection.as_mut()) else {
                return;
            };
            let Some(read) = connection.read.as_mut() else { return };
            read.set_timedout(1);
            if let Some(write) = connection.write.as_mut() {
                write.set_timedout(1);
            }
            if let Some(handler) = read.handler {
                handler(connection.read);
            }
        }
    });
}

/// HTTP/0.9, as nginx counts versions: what it takes an answer for that does not begin as one of HTTP does.
const VERSION_9: ngx_uint_t = 9;

/// Reads a try's answer from its first line on. nginx would hand anything that is not HTTP to the client as it is, without
/// status and headers, which nobody but a client of HTTP/0.9 takes for an answer; here the peer has failed.
unsafe extern "C" fn status_line(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("status line", rc::ERROR, || {
        // SAFETY: nginx calls this with a live request that `init` has seen.
        unsafe {
            let Some(context) = context::find(r) else { return rc::ERROR };
            let Some(inner) = context.status_line else { return rc::ERROR };
            // The client's version, which nginx puts the peer's in the place of.
            let version = std::mem::take(&mut (*r).http_version);
            let rc = inner(r);
            let is_garbage = std::mem::replace(&mut (*r).http_version, version) == VERSION_9;
            if !is_garbage {
                return rc;
            }
            context.garbage = true;
            NGX_HTTP_UPSTREAM_INVALID_HEADER as ngx_int_t
        }
    })
}

/// The next try is answered from the first line on.
unsafe extern "C" fn reinit(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("next try", rc::ERROR, || {
        // SAFETY: as above.
        unsafe {
            let Some(inner) = context::find(r).and_then(|context| context.reinit) else { return rc::ERROR };
            let rc = inner(r);
            if let Some(u) = (*r).upstream.as_mut() {
                u.process_header = Some(status_line);
            }
            rc
        }
    })
}

/// The name that the handshake of this try asks for.
fn set_server_name(tries: &Tries, name: ngx_str_t) {
    #[cfg(ngx_feature = "http_ssl")]
    if tries.connection != 0 {
        // SAFETY: the request is live and has an upstream.
        if let Some(u) = unsafe { (*tries.request).upstream.as_mut() } {
            u.ssl_name = name;
        }
    }
    #[cfg(not(ngx_feature = "http_ssl"))]
    let _ = (tries, name);
}

/// The bits of a connection's number that say what is spoken.
const PROTOCOLS: u64 = 3;
/// HTTP/1.1, as `proxy_pass` speaks it.
const HTTP: u64 = 1;

/// A number for what is spoken to the peer. Kept connections are found by comparing addresses; without it, a gRPC
/// location would be handed a connection that speaks HTTP/1.1 (NGINX.md k3).
fn protocol(r: *mut ngx_http_request_t) -> u64 {
    // SAFETY: a live request with an upstream.
    unsafe {
        let module = (*r).upstream.as_ref().and_then(|u| u.conf.as_ref()).map(|conf| bytes(conf.module));
        match module {
            Some(b"proxy") => HTTP,
            Some(b"grpc") => 2,
            _ => 3,
        }
    }
}

/// Writes the peer's address, with the connection's identity in the bytes that `connect` ignores.
fn fill(address: &mut libc::sockaddr_in6, peer: &Peer<'_>, identity: u64) -> libc::socklen_t {
    // SAFETY: all-zero bytes are a valid address of no family.
    *address = unsafe { std::mem::zeroed() };
    match peer.address {
        std::net::IpAddr::V4(ip) => {
            // SAFETY: a sockaddr_in is smaller and needs no stricter alignment.
            let v4 = unsafe { &mut *ptr::from_mut(address).cast::<libc::sockaddr_in>() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_port = peer.port.to_be();
            v4.sin_addr.s_addr = u32::from(ip).to_be();
            for (byte, value) in v4.sin_zero.iter_mut().zip(identity.to_ne_bytes()) {
                *byte = value;
            }
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        std::net::IpAddr::V6(ip) => {
            address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            address.sin6_port = peer.port.to_be();
            address.sin6_addr.s6_addr = ip.octets();
            // Both are ignored but for link-local addresses, which need a scope that no document can name.
            address.sin6_flowinfo = ((identity >> 32) as u32).to_be();
            address.sin6_scope_id = identity as u32;
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

unsafe extern "C" fn free(pc: *mut ngx_peer_connection_t, data: *mut c_void, state: ngx_uint_t) {
    fence("free peer", (), || {
        // SAFETY: as in `get`.
        let (Some(pc), Some(tries)) = (unsafe { (pc.as_mut(), data.cast::<Tries>().as_mut()) }) else { return };
        // SAFETY: the record lives in the request's pool, the request is live.
        let (context, status) = unsafe {
            let status = (*tries.request).upstream.as_ref().map_or(0, |u| u.headers_in.status_n);
            (tries.context.as_mut(), u16::try_from(status).unwrap_or(0))
        };
        if tries.timer.timer_set() != 0 {
            // SAFETY: the timer was added by `limit_try` and has not run.
            unsafe { ngx_del_timer(&raw mut tries.timer) };
        }
        let failed = state & NGX_PEER_FAILED as ngx_uint_t != 0;
        // SAFETY: the connection is null or live, and so are its events.
        let timed_out = unsafe {
            pc.connection.as_ref().is_some_and(|c| {
                c.read.as_ref().is_some_and(|event| event.timedout() != 0)
                    || c.write.as_ref().is_some_and(|event| event.timedout() != 0)
            })
        };
        let (mut garbage, mut context) = (false, context);
        if let Some(context) = &mut context {
            garbage = std::mem::take(&mut context.garbage);
        }
        // SAFETY: the request is live.
        let cut = status != 0 && unsafe { is_cut(tries.request) };
        let end = match (failed || garbage || cut, pc.cached() != 0 && !timed_out && !garbage) {
            // The peer closed a kept connection while we were about to use it: nothing is wrong with the peer. One that
            // takes the request and does not answer is another matter.
            (true, true) if status == 0 => TryEnd::Stale,
            (true, _) => TryEnd::Failed,
            (false, _) => TryEnd::Answered(status),
        };
        pc.tries = pc.tries.saturating_sub(1);
        if let Some(context) = context {
            context.cut = cut;
            let now = recent();
            with_worker(|worker| worker.tried(&mut context.ticket, end, now));
            // One more, at the other upstream, where no server has answered.
            if pc.tries == 0 && end == TryEnd::Failed && status == 0 && context.ticket.has_alternate() {
                pc.tries = 1;
            }
        }
    });
}

/// Whether the peer's answer, which the client has begun to get, ends before it is whole. nginx itself blames nobody for
/// that, and a client that goes away is no reason.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn is_cut(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller's promise; what hangs on a live upstream is null or live.
    unsafe {
        let Some(u) = (*r).upstream.as_ref() else { return false };
        if u.header_sent() == 0 || u.upgrade() != 0 {
            return false;
        }
        if u.buffering() != 0 {
            // Where neither side has ended it, nginx has: it could not make sense of what came.
            let client = &*(*r).connection;
            let goes_on = || (*r).header_only() == 0 && client.error() == 0 && client.timedout() == 0;
            return u.pipe.as_ref().is_some_and(|pipe| {
                pipe.upstream_done() == 0
                    && pipe.length != 0
                    && match pipe.upstream_eof() != 0 {
                        true => pipe.length != -1 || pipe.upstream_error() != 0,
                        false => pipe.upstream_error() != 0 || pipe.downstream_error() == 0 && goes_on(),
                    }
            });
        }
        let read = u.peer.connection.as_ref().and_then(|connection| connection.read.as_ref());
        (*r).header_only() == 0
            && u.length != 0
            && read.is_some_and(|read| read.error() != 0 || read.timedout() != 0 || read.eof() != 0 && u.length != -1)
    }
}

unsafe extern "C" fn set_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    #[cfg(ngx_feature = "http_ssl")]
    // SAFETY: as in `get`, within the TLS handshake.
    unsafe {
        if let (Some(pc), Some(tries)) = (pc.as_mut(), data.cast::<Tries>().as_ref()) {
            crate::tls::resume(pc, tries.connection, address_bytes(tries));
        }
    }
    #[cfg(not(ngx_feature = "http_ssl"))]
    let _ = (pc, data);
    rc::OK
}

unsafe extern "C" fn save_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    #[cfg(ngx_feature = "http_ssl")]
    // SAFETY: as in `get`, after the TLS handshake.
    unsafe {
        if let (Some(pc), Some(tries)) = (pc.as_mut(), data.cast::<Tries>().as_ref()) {
            crate::tls::keep(pc, tries.connection, address_bytes(tries));
        }
    }
    #[cfg(not(ngx_feature = "http_ssl"))]
    let _ = (pc, data);
}

#[cfg(ngx_feature = "http_ssl")]
fn address_bytes(tries: &Tries) -> &[u8; size_of::<libc::sockaddr_in6>()] {
    // SAFETY: `fill` has set every byte, and any byte is a valid u8.
    unsafe { &*(&raw const tries.address).cast() }
}
