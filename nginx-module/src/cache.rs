//! nginx's cache under the gateway's rules: `proxy_cache $gateway_cache; proxy_cache_key $gateway_cache_key;`.
//!
//! nginx asks for the zone before it looks anything up, and its settings are read after that: so the copy of the
//! location's settings that the request's route wants ([`prepare`]) is made when the zone is asked for. What becomes of
//! an answer is decided in the header filter ([`answered`]), which nginx runs before it decides whether to keep it.

use std::ptr;

use gateway::cache::control::{Answer, Verdict, Why};
use gateway::gateway::{CacheRules, Ticket};
use nginx_sys::{
    NGX_HTTP_CACHE_VERSION, NGX_HTTP_UPSTREAM_FT_ERROR, NGX_HTTP_UPSTREAM_FT_HTTP_500, NGX_HTTP_UPSTREAM_FT_HTTP_502,
    NGX_HTTP_UPSTREAM_FT_HTTP_503, NGX_HTTP_UPSTREAM_FT_HTTP_504, NGX_HTTP_UPSTREAM_FT_INVALID_HEADER,
    NGX_HTTP_UPSTREAM_FT_TIMEOUT, NGX_HTTP_UPSTREAM_IGN_CACHE_CONTROL, NGX_HTTP_UPSTREAM_IGN_EXPIRES,
    NGX_HTTP_UPSTREAM_IGN_VARY, NGX_HTTP_UPSTREAM_IGN_XA_EXPIRES, ngx_array_t, ngx_cached_time, ngx_http_cache_t,
    ngx_http_file_cache_header_t, ngx_http_file_cache_t, ngx_http_request_t, ngx_http_upstream_conf_t,
    ngx_http_upstream_t, ngx_str_t, ngx_uint_t, time_t,
};

use crate::context::{self, Context};
use crate::process::with_worker;
use crate::raw::{self, Level, bytes, headers, text};
use crate::{access, reply};

// As of `ngx_http_cache.h`.
const MISS: u32 = 1;
const BYPASS: u32 = 2;
const EXPIRED: u32 = 3;
const STALE: u32 = 4;
const UPDATING: u32 = 5;
const REVALIDATED: u32 = 6;
const HIT: u32 = 7;

/// What `proxy_cache` takes for "none".
const OFF: ngx_str_t = text(b"off");

/// The value of `$gateway_cache`: the zone of the request's route, or `off`.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn zone(r: *mut ngx_http_request_t) -> ngx_str_t {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(context) = found(r) else { return OFF };
        if !context.ticket.is_cached() {
            return OFF;
        }
        let pool = (*r).pool;
        let cache = with_worker(|worker| {
            worker.cache(&context.ticket, |zone, rules| raw::copy(pool, zone.as_bytes()).map(|zone| (zone, rules)))
        });
        let Some(Some(Some((zone, rules)))) = cache else { return OFF };
        match (*r).upstream.as_mut() {
            None => zone,
            Some(u) if !is_zone(u.caches, zone) => {
                let message = format!(
                    "cache zone \"{}\" of route \"{}\" is not one of nginx's: no cache for its requests",
                    reply::lossy(zone),
                    context.ticket.route_name()
                );
                raw::log(Level::Error, (*(*r).connection).log, &message);
                OFF
            }
            // Before the look-up alone: afterwards somebody merely wants to know.
            Some(u) => match (*r).cache.is_null() && !prepare(r, u, context, rules) {
                true => OFF,
                false => zone,
            },
        }
    }
}

/// The value of `$gateway_cache_key`.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn key(r: *mut ngx_http_request_t) -> Option<ngx_str_t> {
    // SAFETY: the caller's promise.
    unsafe { raw::copy((*r).pool, &found(r)?.ticket.cache_key()?) }
}

/// The request's record; that of a request of nginx's own which fetches a new answer in the background is made here, as
/// nothing else was asked on its behalf.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn found<'a>(r: *mut ngx_http_request_t) -> Option<&'a mut Context> {
    // SAFETY: the caller's promise; a parent lives as long as its subrequests.
    unsafe {
        if let Some(context) = context::find(r) {
            return Some(context);
        }
        if (*r).background() == 0 || (*r).parent.is_null() {
            return None;
        }
        let parent = context::find((*r).parent)?;
        // The very request once more; a mirror, say, has a URI of its own.
        if !parent.ticket.is_cached() || !access::is_decided(r, parent) {
            return None;
        }
        let ticket = parent.ticket.refresh();
        let context = context::obtain(r)?;
        context.ticket = ticket;
        context.decided = (*r).uri;
        context.refreshes = true;
        Some(context)
    }
}

/// Whether `zone` is one that nginx will find.
///
/// # Safety
///
/// `caches` is null or the array of the module that passes the request on.
unsafe fn is_zone(caches: *mut ngx_array_t, zone: ngx_str_t) -> bool {
    // SAFETY: the caller's promise; caches and zones live as long as the cycle.
    unsafe {
        let Some(caches) = caches.as_ref() else { return false };
        let caches = std::slice::from_raw_parts(caches.elts.cast::<*mut ngx_http_file_cache_t>(), caches.nelts);
        caches.iter().any(|cache| {
            let known = cache.as_ref().and_then(|cache| cache.shm_zone.as_ref());
            known.is_some_and(|known| bytes(known.shm.name) == bytes(zone))
        })
    }
}

/// The request's own copy of its location's settings; made once, `None` when there is no memory.
///
/// # Safety
///
/// `r` is live, and `u` is its upstream.
pub unsafe fn own_conf<'a>(
    r: *mut ngx_http_request_t,
    u: &mut ngx_http_upstream_t,
    context: &mut Context,
) -> Option<&'a mut ngx_http_upstream_conf_t> {
    // SAFETY: both are whole settings; the copy lives as long as the request, the original as long as the cycle.
    unsafe {
        if context.own_conf.is_null() || !ptr::eq(context.own_conf, u.conf) {
            let copy: *mut ngx_http_upstream_conf_t = raw::zeroed((*r).pool);
            let (Some(conf), false) = (u.conf.as_ref(), copy.is_null()) else { return None };
            ptr::copy_nonoverlapping(conf, copy, 1);
            u.conf = copy;
            context.own_conf = copy;
        }
        context.own_conf.as_mut()
    }
}

/// Gives the request the cache settings of its route. False when there was no memory.
///
/// # Safety
///
/// `r` is live, and `u` is its upstream.
unsafe fn prepare(
    r: *mut ngx_http_request_t,
    u: &mut ngx_http_upstream_t,
    context: &mut Context,
    rules: CacheRules,
) -> bool {
    // SAFETY: the caller's promise.
    let Some(conf) = (unsafe { own_conf(r, u, context) }) else { return false };
    conf.cache_lock = isize::from(rules.lock > 0);
    conf.cache_lock_timeout = rules.lock as _;
    conf.cache_lock_age = rules.lock as _;
    conf.cache_background_update = 1;
    conf.cache_revalidate = 1;
    // GET and HEAD have one key.
    conf.cache_convert_head = 1;
    true
}

/// What an old answer may stand in for, once the time that it may do so is known not to be over.
const FAILURES: u32 = NGX_HTTP_UPSTREAM_FT_ERROR
    | NGX_HTTP_UPSTREAM_FT_TIMEOUT
    | NGX_HTTP_UPSTREAM_FT_INVALID_HEADER
    | NGX_HTTP_UPSTREAM_FT_HTTP_500
    | NGX_HTTP_UPSTREAM_FT_HTTP_502
    | NGX_HTTP_UPSTREAM_FT_HTTP_503
    | NGX_HTTP_UPSTREAM_FT_HTTP_504;

/// The failures for which the request may be given an old answer (RFC 5861, 4): nginx by itself looks at the entry's own
/// time only where nobody answered at all.
///
/// # Safety
///
/// `r` is a live request whose cache was looked at.
pub unsafe fn stale_on(r: *mut ngx_http_request_t) -> ngx_uint_t {
    // SAFETY: the caller's promise.
    match unsafe { (*r).cache.as_ref() } {
        Some(cache) if cache.stale_error() != 0 => FAILURES as ngx_uint_t,
        _ => 0,
    }
}

/// An answer to a request for the cache is about to be sent, or kept: decides what becomes of it, and says where it
/// comes from.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet, and `context` is its record.
pub unsafe fn answered(r: *mut ngx_http_request_t, context: &mut Context) {
    // SAFETY: the caller's promise; both are the request's own.
    unsafe {
        let (Some(cache), Some(u)) = ((*r).cache.as_mut(), (*r).upstream.as_mut()) else { return };
        let status = u.cache_status();
        let fetched = (*r).cached() == 0 && u.headers_in.status_n != 0;
        let mut left = None;
        if fetched && u.cacheable() != 0 || status == REVALIDATED {
            left = judge(cache, u, &context.ticket);
            if left.is_some() {
                u.set_cacheable(0);
            }
        }
        if !ptr::eq(r, (*r).main) {
            return;
        }
        let is_kept = fetched && u.cacheable() != 0 && u.conf.as_ref().is_some_and(|conf| conf.no_cache.is_null());
        tell(r, cache, status, if fetched { u.headers_in.status_n } else { 0 }, is_kept, left);
    }
}

/// Decides about an answer, and writes down until when it is good for what.
///
/// # Safety
///
/// `u` is the upstream of a live request with a whole header in it.
unsafe fn judge(cache: &mut ngx_http_cache_t, u: &ngx_http_upstream_t, ticket: &Ticket) -> Option<Why> {
    // SAFETY: the caller's promise; names are lower-cased into memory of the same length.
    let answer = unsafe {
        let ignored = u.conf.as_ref().map_or(0, |conf| conf.ignore_headers);
        let is_ignored = |name: &[u8]| {
            let bit = match name {
                b"cache-control" => NGX_HTTP_UPSTREAM_IGN_CACHE_CONTROL,
                b"expires" => NGX_HTTP_UPSTREAM_IGN_EXPIRES,
                b"x-accel-expires" => NGX_HTTP_UPSTREAM_IGN_XA_EXPIRES,
                b"vary" => NGX_HTTP_UPSTREAM_IGN_VARY,
                _ => 0,
            };
            ignored & bit as ngx_uint_t != 0
        };
        let mut answer = Answer { status: u16::try_from(u.headers_in.status_n).unwrap_or(0), ..Answer::default() };
        for element in headers(&u.headers_in.headers) {
            let name = std::slice::from_raw_parts(element.lowcase_key, element.key.len);
            if !is_ignored(name) {
                answer.line(name, bytes(element.value));
            }
        }
        answer
    };
    let now = now();
    match with_worker(|worker| worker.storable(ticket, &answer)).unwrap_or(Verdict::Leave(Why::Told)) {
        Verdict::Leave(why) => return Some(why),
        Verdict::Keep { fresh, updating, error } => {
            cache.valid_sec = match fresh {
                Some(seconds) => now + time_t::from(seconds),
                None => cache.valid_sec - time_t::from(answer.age),
            };
            cache.updating_sec = updating.into();
            cache.error_sec = error.into();
        }
    }
    (cache.valid_sec <= now).then_some(Why::NotFresh)
}

fn now() -> time_t {
    // SAFETY: nginx sets the pointer before it handles requests, and to valid times alone.
    unsafe { (*ngx_cached_time).sec }
}

/// What nginx calls it; empty where the cache was not asked.
const fn name(status: u32) -> &'static [u8] {
    match status {
        MISS => b"MISS",
        BYPASS => b"BYPASS",
        EXPIRED => b"EXPIRED",
        STALE => b"STALE",
        UPDATING => b"UPDATING",
        REVALIDATED => b"REVALIDATED",
        HIT => b"HIT",
        _ => b"",
    }
}

/// What nginx's cache said of the request, as its `$upstream_cache_status` does.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn status(r: *mut ngx_http_request_t) -> &'static [u8] {
    // SAFETY: the caller's promise.
    name(unsafe { (*r).upstream.as_ref() }.map_or(0, |u| u.cache_status()))
}

/// Adds `Cache-Status` (RFC 9211), `X-Cache-Status`, and `Age` to what comes from the cache.
///
/// # Safety
///
/// `r` is a live main request whose header was not sent yet.
unsafe fn tell(
    r: *mut ngx_http_request_t,
    cache: &ngx_http_cache_t,
    status: u32,
    answer: ngx_uint_t,
    is_kept: bool,
    left: Option<Why>,
) {
    let by_nginx = name(status);
    if by_nginx.is_empty() {
        return;
    }
    let hit = matches!(status, HIT | UPDATING) || status == STALE && cache.background() != 0;
    let mut value = String::with_capacity(64);
    value.push_str("gateway; ");
    // SAFETY: the caller's promise.
    unsafe {
        if hit {
            value.push_str("hit");
        } else {
            value.push_str(match status {
                MISS => "fwd=uri-miss",
                BYPASS => "fwd=bypass",
                _ => "fwd=stale",
            });
            match (answer, status) {
                (_, REVALIDATED) => value.push_str("; fwd-status=304"),
                (0, _) => {}
                (answer, _) => value.push_str(&format!("; fwd-status={answer}")),
            }
        }
        if is_kept {
            value.push_str("; stored");
        }
        if let Some(why) = left {
            value.push_str("; detail=");
            value.push_str(why.name());
        }
        if matches!(status, HIT | STALE | UPDATING)
            && let Some(times) = kept(cache)
        {
            value.push_str(&format!("; ttl={}", times.valid_sec - now()));
            age(r, now() - times.date);
        }
        drop_lines(r, b"x-cache-status");
        reply::set(r, b"Cache-Status", value.as_bytes());
        reply::set(r, b"X-Cache-Status", by_nginx);
    }
}

/// The times of an entry as they stand in its file: nginx reads the header of the answer once more, and its copies with
/// it.
fn kept(cache: &ngx_http_cache_t) -> Option<ngx_http_file_cache_header_t> {
    // SAFETY: the buffer of an entry that was found begins with this structure, which may stand anywhere.
    unsafe {
        let buffer = cache.buf.as_ref()?;
        let length = buffer.last.offset_from(buffer.start);
        if length < size_of::<ngx_http_file_cache_header_t>() as isize {
            return None;
        }
        let header = buffer.start.cast::<ngx_http_file_cache_header_t>().read_unaligned();
        (header.version == NGX_HTTP_CACHE_VERSION as ngx_uint_t).then_some(header)
    }
}

/// Says how old an answer is: what it was when it came, and for how long it has been here.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet.
unsafe fn age(r: *mut ngx_http_request_t, here: time_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut before = Answer::default();
        for element in headers(&(*r).headers_out.headers) {
            if bytes(element.key).eq_ignore_ascii_case(b"age") && element.hash != 0 {
                before.line(b"age", bytes(element.value));
            }
        }
        drop_lines(r, b"age");
        let age = time_t::from(before.age).saturating_add(here.max(0));
        reply::set(r, b"Age", age.to_string().as_bytes());
    }
}

/// Takes the header lines called `name`, in lower case, off an answer.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet.
unsafe fn drop_lines(r: *mut ngx_http_request_t, name: &[u8]) {
    // SAFETY: the caller's promise; an element with a hash of 0 is not sent.
    unsafe {
        for element in headers(&(*r).headers_out.headers) {
            if bytes(element.key).eq_ignore_ascii_case(name) {
                (*ptr::from_ref(element).cast_mut()).hash = 0;
            }
        }
    }
}
