//! Variables. All are computed when asked for and never cached by nginx, since subrequests share its cache.

use gateway::gateway::Worker;
use nginx_sys::{
    NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_PREFIX, ngx_conf_t, ngx_http_add_variable, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_str_t, ngx_uint_t,
};

use crate::cache;
use crate::conf::{self, Claim};
use crate::context::{self, Context};
use crate::process::{self, now, recent, secret, with_worker};
use crate::raw::{self, bytes, fence, rc, text};
use crate::view::View;
use gateway::types::{Header, Protocol, Request};

/// What a variable is made of.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Variable {
    Route,
    Upstream,
    Peer,
    Host,
    Connection,
    Consumer,
    Decision,
    Reason,
    LimitStatus,
    BreakerState,
    Variant,
    RequestId,
    Asks,
    Time,
    Cache,
    CacheKey,
}

const VARIABLES: [(&[u8], Variable); 16] = [
    (b"gateway_route", Variable::Route),
    (b"gateway_upstream", Variable::Upstream),
    (b"gateway_peer", Variable::Peer),
    (b"gateway_host", Variable::Host),
    (b"gateway_connection", Variable::Connection),
    (b"gateway_consumer", Variable::Consumer),
    (b"gateway_decision", Variable::Decision),
    (b"gateway_reason", Variable::Reason),
    (b"gateway_limit_status", Variable::LimitStatus),
    (b"gateway_breaker_state", Variable::BreakerState),
    (b"gateway_variant", Variable::Variant),
    (b"gateway_request_id", Variable::RequestId),
    (b"gateway_asks", Variable::Asks),
    (b"gateway_time", Variable::Time),
    (b"gateway_cache", Variable::Cache),
    (b"gateway_cache_key", Variable::CacheKey),
];

/// Declares the variables before the configuration is read.
///
/// # Safety
///
/// `cf` is the configuration being read.
pub unsafe fn add(cf: *mut ngx_conf_t) -> bool {
    let mut prefix = text(CLAIM);
    let flags = (NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_PREFIX) as ngx_uint_t;
    // SAFETY: the caller's promise; the name is static.
    let Some(entry) = (unsafe { ngx_http_add_variable(cf, &raw mut prefix, flags).as_mut() }) else { return false };
    entry.get_handler = Some(claim);
    VARIABLES.into_iter().all(|(name, variable)| {
        let mut name = text(name);
        // SAFETY: the caller's promise; the name is static.
        match unsafe { ngx_http_add_variable(cf, &raw mut name, NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t).as_mut() } {
            Some(entry) => {
                entry.get_handler = Some(get);
                entry.data = variable as usize;
                true
            }
            None => false,
        }
    })
}

/// The beginning of `$gateway_claim_NAME`.
const CLAIM: &[u8] = b"gateway_claim_";

/// Notes which variables nginx.conf uses whose value has to be kept while a request is decided on: nobody pays for the
/// others. False when there was no memory.
///
/// # Safety
///
/// `cf` is the configuration, read to its end.
pub unsafe fn note_used(cf: *mut ngx_conf_t) -> bool {
    let Some(main) = conf::main_conf(cf) else { return false };
    // SAFETY: the core module's list of the variables that have an index, which live as long as the cycle.
    unsafe {
        let context: *mut nginx_sys::ngx_http_conf_ctx_t = (*cf).ctx.cast();
        let core = raw::slot((*context).main_conf, nginx_sys::ngx_http_core_module.ctx_index);
        let Some(core) = core.cast::<nginx_sys::ngx_http_core_main_conf_t>().as_ref() else { return false };
        let all = &core.variables;
        main.is_timed = main.log.is_on();
        if all.elts.is_null() {
            return true;
        }
        let used = std::slice::from_raw_parts(all.elts.cast::<nginx_sys::ngx_http_variable_t>(), all.nelts);
        main.is_timed |= used.iter().any(|variable| bytes(variable.name).eq_ignore_ascii_case(b"gateway_time"));
        for variable in used {
            let Some(name) = bytes(variable.name).strip_prefix(CLAIM) else { continue };
            let path = String::from_utf8_lossy(name).replace("__", ".");
            let claim: *mut Claim = raw::zeroed((*cf).pool);
            let (Some(claim), Some(path)) = (claim.as_mut(), raw::copy((*cf).pool, path.as_bytes())) else {
                return false;
            };
            *claim = Claim { next: main.claims, variable: variable.name, path };
            main.claims = claim;
        }
    }
    true
}

/// Keeps the claims that variables name of who sent the request that `worker` has just looked at.
///
/// # Safety
///
/// `r` is a live request, and `context` is its record.
pub unsafe fn keep_claims(r: *mut ngx_http_request_t, context: &mut Context, worker: &Worker) {
    context.claims = std::ptr::null();
    let count = process::claims().count();
    if count == 0 || !context.ticket.is_authenticated() {
        return;
    }
    // SAFETY: the caller's promise; the array has room for each that is written.
    unsafe {
        let kept: *mut ngx_str_t = nginx_sys::ngx_palloc((*r).pool, count * size_of::<ngx_str_t>()).cast();
        if kept.is_null() {
            return;
        }
        for (index, claim) in process::claims().enumerate().take(count) {
            let path = std::str::from_utf8(bytes(claim.path)).unwrap_or_default();
            let value = worker.claim(&context.ticket, path).and_then(|value| raw::copy((*r).pool, value.as_bytes()));
            kept.add(index).write(value.unwrap_or(text(b"")));
        }
        context.claims = kept;
    }
}

unsafe extern "C" fn claim(r: *mut ngx_http_request_t, v: *mut ngx_http_variable_value_t, data: usize) -> ngx_int_t {
    fence("variable", rc::ERROR, || {
        // SAFETY: nginx passes a live request, the value to fill, and the variable's name for what begins with a prefix.
        let (Some(slot), Some(name)) = (unsafe { (v.as_mut(), (data as *const ngx_str_t).as_ref()) }) else {
            return rc::ERROR;
        };
        // SAFETY: `keep_claims` wrote one value for each of the claims.
        let value = unsafe {
            let index = process::claims().position(|claim| bytes(claim.variable).eq_ignore_ascii_case(bytes(*name)));
            let kept = context::find(r).map_or(std::ptr::null(), |context| context.claims);
            index.filter(|_| !kept.is_null()).map(|index| *kept.add(index))
        };
        match value.filter(|value| value.len != 0) {
            Some(value) => {
                slot.data = value.data;
                set_flags(slot, value.len as u32 & LENGTH | VALID | NO_CACHEABLE);
            }
            None => set_flags(slot, NOT_FOUND),
        }
        rc::OK
    })
}

/// Microseconds as nginx writes times: seconds, with all six digits.
pub fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

unsafe extern "C" fn get(r: *mut ngx_http_request_t, v: *mut ngx_http_variable_value_t, data: usize) -> ngx_int_t {
    fence("variable", rc::ERROR, || {
        // SAFETY: nginx passes a live request and the value to fill.
        let Some(slot) = (unsafe { v.as_mut() }) else { return rc::ERROR };
        let Some(variable) = VARIABLES.get(data).map(|(_, variable)| *variable) else { return rc::ERROR };
        // SAFETY: as above.
        match unsafe { value(r, variable) } {
            Some(value) => {
                slot.data = value.data;
                set_flags(slot, value.len as u32 & LENGTH | VALID | NO_CACHEABLE);
            }
            None => set_flags(slot, NOT_FOUND),
        }
        rc::OK
    })
}

// `unsigned len:28, valid:1, no_cacheable:1, not_found:1, escape:1`, from the low end on.
const LENGTH: u32 = (1 << 28) - 1;
const VALID: u32 = 1 << 28;
const NO_CACHEABLE: u32 = 1 << 29;
const NOT_FOUND: u32 = 1 << 30;

/// Sets length and flags at once: the accessors of the bindings go bit by bit, 28 times for the length.
fn set_flags(slot: &mut ngx_http_variable_value_t, flags: u32) {
    const { assert!(cfg!(target_endian = "little") && std::mem::offset_of!(ngx_http_variable_value_t, data) == 8) }
    // SAFETY: the bit-field is the structure's first word, which no other field shares.
    unsafe { std::ptr::from_mut(slot).cast::<u32>().write(flags) };
}

/// # Safety
///
/// `r` is a live request.
unsafe fn value(r: *mut ngx_http_request_t, variable: Variable) -> Option<ngx_str_t> {
    // SAFETY: the caller's promise.
    unsafe {
        match variable {
            Variable::Connection => return Some(connection(r)),
            Variable::Cache => return Some(cache::zone(r)),
            Variable::CacheKey => return cache::key(r),
            Variable::RequestId => {
                let context = context::obtain(r)?;
                request_id(r, context);
                return Some(context.request_id);
            }
            _ => {}
        }
        let context = context::find(r);
        let ticket = context.as_ref().map(|context| &context.ticket);
        let pool = (*r).pool;
        let copied = |value: &str| if value.is_empty() { None } else { raw::copy(pool, value.as_bytes()) };
        match variable {
            Variable::Route => copied(ticket?.route_name()),
            Variable::Upstream => copied(ticket?.upstream_name()),
            Variable::Peer => peer(r),
            // What the client asked for, unless the upstream wants a name of its own.
            Variable::Host => {
                let own = ticket.and_then(|ticket| {
                    with_worker(|worker| worker.host(ticket, |host| raw::copy(pool, host.as_bytes())))
                        .flatten()
                        .flatten()
                });
                own.or_else(|| host(r))
            }
            Variable::Consumer => copied(ticket?.consumer()),
            Variable::Decision => copied(ticket?.decision()),
            Variable::Reason => copied(ticket?.reason()),
            Variable::LimitStatus => copied(ticket?.limit_status()),
            Variable::Variant => copied(ticket?.variant()),
            Variable::Asks => copied(&ticket?.asks().to_string()),
            Variable::Time if context.as_ref()?.began == 0 => None,
            Variable::Time => copied(&seconds(context.as_ref()?.spent)),
            Variable::BreakerState => {
                let ticket = ticket?;
                copied(with_worker(|worker: &mut Worker| worker.breaker_state(ticket, now()))?)
            }
            Variable::Connection | Variable::RequestId | Variable::Cache | Variable::CacheKey => None,
        }
    }
}

/// The `Host` header as it came, with its port; the server's own name for HTTP/1.0 without one.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn host(r: *mut ngx_http_request_t) -> Option<ngx_str_t> {
    // SAFETY: the caller's promise.
    unsafe {
        match (*r).headers_in.host.as_ref() {
            Some(host) => Some(host.value),
            None => Some((*r).headers_in.server),
        }
    }
}

/// `upgrade` where the client asks for it, else empty, so that connections to peers are kept.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn connection(r: *mut ngx_http_request_t) -> ngx_str_t {
    // SAFETY: the caller's promise.
    let upgrade = unsafe { View::new(r) }.protocol() == Protocol::WebSocket;
    if upgrade { text(b"upgrade") } else { text(b"") }
}

/// The address of the last try, as nginx's own `$upstream_addr` writes it.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn peer(r: *mut ngx_http_request_t) -> Option<ngx_str_t> {
    // SAFETY: the states are null or the request's.
    unsafe {
        let states = (*r).upstream_states.as_ref()?;
        let last = std::slice::from_raw_parts(states.elts.cast::<nginx_sys::ngx_http_upstream_state_t>(), states.nelts)
            .last()?;
        last.peer.as_ref().copied()
    }
}

/// The request's id: the client's where it is well-formed, else made once. Subrequests have their main request's.
///
/// # Safety
///
/// `r` is a live request and `context` its record.
pub unsafe fn request_id(r: *mut ngx_http_request_t, context: &mut Context) -> &[u8] {
    // SAFETY: the caller's promise.
    unsafe {
        if context.request_id.len == 0 {
            let view = View::new((*r).main);
            context.request_id = match view.header(b"x-request-id") {
                Header::One(id) if is_well_formed(id) => raw::copy((*r).pool, id).unwrap_or(text(b"-")),
                _ => made(r).unwrap_or(text(b"-")),
            };
        }
        bytes(context.request_id)
    }
}

/// What may stand in a log, a header and a JSON string as it is.
fn is_well_formed(id: &[u8]) -> bool {
    (8..=128).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// A UUIDv7 (RFC 9562): sorted by time, with random bits from the worker's generator.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn made(r: *mut ngx_http_request_t) -> Option<ngx_str_t> {
    let [first, second] = with_worker(Worker::random).unwrap_or_else(secret);
    let id = gateway::gateway::uuid_v7(recent(), first, second);
    // SAFETY: the caller's promise.
    unsafe { raw::copy((*r).pool, &id) }
}
