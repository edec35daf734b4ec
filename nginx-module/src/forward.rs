//! What a forwarded request carries: headers that only we may set, identity, and the path that was matched.
//!
//! Our headers are put into the request itself rather than into `proxy_set_header` lines: whatever passes the request
//! on (`proxy_pass`, `grpc_pass`, `fastcgi_pass`) sends them, and a line of the user's own still wins.

use std::ffi::c_uint;

use gateway::gateway::Worker;
use gateway::log::trace::Trace;
use nginx_sys::{
    ngx_connection_local_sockaddr, ngx_hash_key, ngx_http_request_t, ngx_inet_get_port, ngx_list_init, ngx_list_t,
    ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};

use crate::context::{self, Context};
use crate::raw::{self, bytes, headers, rc, text};
use crate::{process, variable};

/// A header that we set on every forwarded request, after the client's copies are dropped.
struct Own {
    name: &'static [u8],
    /// nginx looks headers up by the hash of the lower-case name.
    lower: &'static [u8],
    hash: ngx_uint_t,
}

const fn own(name: &'static [u8], lower: &'static [u8]) -> Own {
    let mut hash: ngx_uint_t = 0;
    let mut rest = lower;
    while let [byte, tail @ ..] = rest {
        hash = hash.wrapping_mul(31).wrapping_add(*byte as ngx_uint_t);
        rest = tail;
    }
    Own { name, lower, hash }
}

static REAL_IP: Own = own(b"X-Real-IP", b"x-real-ip");
static FORWARDED_FOR: Own = own(b"X-Forwarded-For", b"x-forwarded-for");
static FORWARDED_HOST: Own = own(b"X-Forwarded-Host", b"x-forwarded-host");
static FORWARDED_PROTO: Own = own(b"X-Forwarded-Proto", b"x-forwarded-proto");
static FORWARDED_PORT: Own = own(b"X-Forwarded-Port", b"x-forwarded-port");
static REQUEST_ID: Own = own(b"X-Request-Id", b"x-request-id");

static TRACE_PARENT: Own = own(b"traceparent", b"traceparent");

static OWN: [&Own; 7] =
    [&REAL_IP, &FORWARDED_FOR, &FORWARDED_HOST, &FORWARDED_PROTO, &FORWARDED_PORT, &REQUEST_ID, &TRACE_PARENT];

/// What vendors say beside `traceparent`, and nothing without it.
const TRACE_STATE: &[u8] = b"tracestate";

/// Header lines that a route set and that gave way to them; both lists are empty until something is pushed.
pub struct Changes {
    set: ngx_list_t,
    dropped: ngx_list_t,
}

impl Changes {
    pub const fn new() -> Self {
        // SAFETY: all-zero bytes are a list without parts, which `headers` takes for an empty one.
        unsafe { Self { set: std::mem::zeroed(), dropped: std::mem::zeroed() } }
    }
}

/// Appends `element` to a list of [`Changes`]. False when there was no memory.
///
/// # Safety
///
/// `r` is a live request, and `element` one of its header lines.
unsafe fn note(r: *mut ngx_http_request_t, list: &mut ngx_list_t, element: &ngx_table_elt_t) -> bool {
    // SAFETY: the caller's promise; the list stays where it is, in the request's record.
    unsafe {
        if list.part.elts.is_null() && ngx_list_init(list, (*r).pool, 4, size_of::<ngx_table_elt_t>()) != rc::OK {
            return false;
        }
        raw::push_header(list, element.key, element.lowcase_key, element.hash, element.value).is_some()
    }
}

/// Whether one of `changes` is the very line `element`; names that we set have memory of their own.
///
/// # Safety
///
/// All are header lines of a live request.
unsafe fn is_set(changes: &Changes, element: &ngx_table_elt_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { headers(&changes.set).any(|ours| ours.key.data == element.key.data) }
}

/// Makes the headers the client's again before another route takes the request: what one route sets is meant for its
/// own upstream, and is no credential of the client. False when there was no memory.
///
/// # Safety
///
/// `r` is a live main request, and `context` is its record.
pub unsafe fn undo(r: *mut ngx_http_request_t, context: &mut Context) -> bool {
    // SAFETY: the caller's promise; the lines live as long as the request.
    unsafe {
        if context.changes.set.part.elts.is_null() {
            context.changes.dropped = std::mem::zeroed();
            return true;
        }
        let changes = std::mem::replace(&mut context.changes, Changes::new());
        copy_headers(r, |element| !is_set(&changes, element))
            && headers(&changes.dropped).all(|element| {
                let list = &raw mut (*r).headers_in.headers;
                raw::push_header(list, element.key, element.lowcase_key, element.hash, element.value).is_some()
            })
    }
}

/// Makes a list of headers where the request has none to push to: nginx makes none for HTTP/0.9, which has no headers.
/// False when there was no memory.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn has_list(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let list = &raw mut (*r).headers_in.headers;
        !(*list).part.elts.is_null() || ngx_list_init(list, (*r).pool, 4, size_of::<ngx_table_elt_t>()) == rc::OK
    }
}

/// Finds out to which trace the request belongs. One that is logged is a span of its own, of the client's trace or of one
/// that begins here; of what is not logged nobody would ever find the span, and the client's goes on.
///
/// # Safety
///
/// `r` is a live main request whose headers are still the client's, and `context` is its record.
pub unsafe fn trace(r: *mut ngx_http_request_t, context: &mut Context, worker: &mut Worker) {
    if context.trace.is_some() {
        return;
    }
    // SAFETY: the caller's promise.
    let mut lines = unsafe {
        headers(&(*r).headers_in.headers)
            .filter(|element| bytes(element.key).eq_ignore_ascii_case(TRACE_PARENT.lower))
            .map(|element| bytes(element.value))
    };
    let given = lines.next().and_then(Trace::parse).filter(|_| lines.next().is_none());
    context.is_traced = given.is_some();
    context.trace = match (process::logs(), given) {
        (None, given) => given,
        (Some(_), Some(given)) => Some(given.continued(worker.random().first().copied().unwrap_or(1))),
        (Some(_), None) => {
            let ([high, low], [span, _]) = (worker.random(), worker.random());
            Some(Trace::begin([high, low, span]))
        }
    };
}

/// Whether the client's copies of the header are dropped, in whatever spelling a backend may take for it.
fn is_dropped(name: &[u8], context: &Context, worker: &Worker) -> bool {
    let is_own = matches!(name.first(), Some(b'x' | b't'))
        && OWN.iter().any(|own| {
            own.lower.len() == name.len()
                && own.lower.iter().zip(name).all(|(own, byte)| own == byte || (*own == b'-' && *byte == b'_'))
        });
    is_own || (name == TRACE_STATE && !context.is_traced) || (worker.replaces_headers() && worker.is_replaced(name))
}

/// Takes the headers that only we may set, and those that the route sets, out of what the client sent. False when there
/// was no memory.
///
/// # Safety
///
/// `r` is a live main request, and `context` is its record.
pub unsafe fn strip(r: *mut ngx_http_request_t, context: &mut Context, worker: &Worker) -> bool {
    // SAFETY: the caller's promise; names and elements live as long as the request.
    unsafe {
        let incoming = &(*r).headers_in.headers;
        let name = |element: &ngx_table_elt_t| std::slice::from_raw_parts(element.lowcase_key, element.key.len);
        if !headers(incoming).any(|element| is_dropped(name(element), context, worker)) {
            return true;
        }
        let noted = headers(incoming).filter(|element| worker.is_set(name(element))).all(|element| {
            let is_own = OWN.iter().any(|own| own.lower == name(element));
            is_own || note(r, &mut context.changes.dropped, element)
        });
        noted && copy_headers(r, |element| !is_dropped(name(element), context, worker))
    }
}

/// Gives a subrequest a list of headers of its own, so that what is added for it does not reach its parent. What an
/// earlier route set on it, or on a request above it, is not taken along. False when there was no memory.
///
/// # Safety
///
/// `r` is a live subrequest.
pub unsafe fn own_headers(r: *mut ngx_http_request_t, worker: &Worker) -> bool {
    // SAFETY: the caller's promise, and as in `strip`.
    unsafe {
        let name = |element: &ngx_table_elt_t| std::slice::from_raw_parts(element.lowcase_key, element.key.len);
        let is_of_above = |element: &ngx_table_elt_t| {
            let mut above = r;
            while let Some(request) = above.as_ref() {
                if context::find(above).is_some_and(|context| is_set(&context.changes, element)) {
                    return true;
                }
                above = request.parent;
            }
            false
        };
        copy_headers(r, |element| {
            let gives_way = worker.replaces_headers() && worker.is_replaced(name(element));
            !gives_way && !is_of_above(element)
        })
    }
}

/// Whether what `worker` decided changes the path or the headers of what is sent on.
///
/// # Safety
///
/// `r` is the live request that `worker` looked at last.
pub unsafe fn changes(r: *mut ngx_http_request_t, worker: &Worker) -> bool {
    // SAFETY: the caller's promise.
    let uri = unsafe { bytes((*r).uri) };
    worker.forwarded_query().is_some()
        || worker.forwarded_path().is_some_and(|path| path != uri)
        || worker.request_headers().next().is_some()
}

/// Replaces the list of the request's headers by one with those that `keeps` names. Entries are copied: nginx's own
/// pointers go on to the old ones, and an entry that is merely zeroed would still be forwarded.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn copy_headers(r: *mut ngx_http_request_t, keeps: impl Fn(&ngx_table_elt_t) -> bool) -> bool {
    // SAFETY: the caller's promise; names and elements live as long as the request.
    unsafe {
        let incoming = &(*r).headers_in.headers;
        let mut kept: ngx_list_t = std::mem::zeroed();
        if ngx_list_init(&raw mut kept, (*r).pool, 20, size_of::<ngx_table_elt_t>()) != rc::OK {
            return false;
        }
        for element in headers(incoming).filter(|element| keeps(element)) {
            let pushed = raw::push_header(&raw mut kept, element.key, element.lowcase_key, element.hash, element.value);
            if pushed.is_none() {
                return false;
            }
        }
        (*r).headers_in.headers = kept;
        // `last` points at the first part of a list that still fits into it, and that part has moved.
        if (*r).headers_in.headers.part.next.is_null() {
            (*r).headers_in.headers.last = &raw mut (*r).headers_in.headers.part;
        }
    }
    true
}

/// Sets the headers of route and identity, and the path. False when there was no memory.
///
/// # Safety
///
/// `r` is a live request, `worker` has just decided on it, and [`strip`] was called. A subrequest shares its parent's
/// list of headers: [`own_headers`] gives it one of its own first. `context` is its record.
pub unsafe fn apply(r: *mut ngx_http_request_t, context: &mut Context, worker: &Worker) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        for (name, value) in worker.request_headers() {
            let time;
            let value = match value {
                // The one value that only we know.
                b"$gateway_time" => {
                    time = variable::seconds(process::now().mono.saturating_sub(context.began));
                    time.as_bytes()
                }
                value => value,
            };
            let (Some(key), Some(lower), Some(value)) =
                (raw::copy((*r).pool, name), raw::copy((*r).pool, name), raw::copy((*r).pool, value))
            else {
                return false;
            };
            let hash = ngx_hash_key(lower.data, lower.len);
            let pushed = raw::push_header(&raw mut (*r).headers_in.headers, key, lower.data, hash, value);
            if !pushed.is_some_and(|element| note(r, &mut context.changes.set, &*element)) {
                return false;
            }
        }
        if let Some(path) = worker.forwarded_path() {
            let Some(copy) = raw::copy((*r).pool, path) else { return false };
            if path != bytes((*r).uri) {
                // `alias` and a URI in `proxy_pass` cut the location's name off, which may be longer than the new path.
                (*r).set_valid_location(0);
            }
            (*r).uri = copy;
            // Without both, nginx would send the target as it came, or the new path unescaped (NGINX.md k1).
            (*r).set_valid_unparsed_uri(0);
            (*r).set_quoted_uri(1);
        }
        if let Some(query) = worker.forwarded_query() {
            let Some(copy) = raw::copy((*r).pool, query) else { return false };
            (*r).args = copy;
        }
    }
    true
}

/// Says where the request came from and what it is called. False when there was no memory.
///
/// # Safety
///
/// `r` is a live main request whose copies of these headers were stripped; `context` is its record.
pub unsafe fn describe(r: *mut ngx_http_request_t, context: &Context) -> bool {
    // SAFETY: the caller's promise; all values live as long as the request or its connection.
    unsafe {
        let connection = (*r).connection;
        let address = (*connection).addr_text;
        let host = (*r).headers_in.host.as_ref().map_or((*r).headers_in.server, |host| host.value);
        #[cfg(ngx_feature = "http_ssl")]
        let secure = !(*connection).ssl.is_null();
        #[cfg(not(ngx_feature = "http_ssl"))]
        let secure = false;
        let proto = if secure { text(b"https") } else { text(b"http") };
        let Some(port) = local_port(r) else { return false };
        let trace = match context.trace {
            None => text(b""),
            Some(trace) => match raw::copy((*r).pool, &trace.write()) {
                Some(copy) => copy,
                None => return false,
            },
        };
        [
            (&REAL_IP, address),
            (&FORWARDED_FOR, address),
            (&FORWARDED_HOST, host),
            (&FORWARDED_PROTO, proto),
            (&FORWARDED_PORT, port),
            (&REQUEST_ID, context.request_id),
            (&TRACE_PARENT, trace),
        ]
        .into_iter()
        .all(|(own, value)| {
            bytes(value).is_empty()
                || raw::push_header(
                    &raw mut (*r).headers_in.headers,
                    text(own.name),
                    own.lower.as_ptr().cast_mut(),
                    own.hash,
                    value,
                )
                .is_some()
        })
    }
}

/// The port that the client spoke to, as text; empty for unix sockets.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn local_port(r: *mut ngx_http_request_t) -> Option<ngx_str_t> {
    // SAFETY: the caller's promise. nginx asks the kernel once a connection where a listener has no address of its own.
    let port: c_uint = unsafe {
        let connection = (*r).connection;
        if ngx_connection_local_sockaddr(connection, std::ptr::null_mut(), 0) != rc::OK {
            return Some(text(b""));
        }
        ngx_inet_get_port((*connection).local_sockaddr).into()
    };
    match port {
        0 => Some(text(b"")),
        80 => Some(text(b"80")),
        443 => Some(text(b"443")),
        port => {
            let mut digits = [0u8; 5];
            let (mut start, mut rest) = (digits.len(), port);
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
                start -= 1;
                if rest == 0 {
                    break;
                }
            }
            // SAFETY: the caller's promise.
            unsafe { raw::copy((*r).pool, digits.get(start..)?) }
        }
    }
}
