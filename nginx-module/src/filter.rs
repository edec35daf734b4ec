//! The header filter: the moment at which a peer has answered, and the headers that tell a client where it stands.

use nginx_sys::{ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_http_top_header_filter, ngx_int_t};

use crate::context::Context;
use crate::process::{now, with_worker};
use crate::raw::{self, fence, rc};
use crate::{answer, cache, conf, context, problem, reply};

static mut NEXT: ngx_http_output_header_filter_pt = None;

/// Puts the filter in front of those that are already there.
///
/// # Safety
///
/// Called while the configuration is read, in one thread.
pub unsafe fn install() {
    // SAFETY: the caller's promise.
    unsafe {
        NEXT = ngx_http_top_header_filter;
        ngx_http_top_header_filter = Some(filter);
    }
}

/// `gateway_debug_headers`: says on the answer what was decided. An upstream's own lines of these names give way.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet, and `context` is its record.
#[cold]
unsafe fn tell(r: *mut ngx_http_request_t, context: &Context) {
    let ticket = &context.ticket;
    let lines: [(&'static [u8], &str); 4] = [
        (b"X-Gateway-Route", ticket.route_name()),
        (b"X-Gateway-Upstream", ticket.upstream_name()),
        (b"X-Gateway-Decision", ticket.decision()),
        (b"X-Gateway-Reason", ticket.reason()),
    ];
    // SAFETY: the caller's promise; an element with a hash of 0 is not sent.
    unsafe {
        for element in raw::headers(&(*r).headers_out.headers) {
            if lines.iter().any(|(name, _)| raw::bytes(element.key).eq_ignore_ascii_case(name)) {
                (*std::ptr::from_ref(element).cast_mut()).hash = 0;
            }
        }
        for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
            reply::set(r, name, value.as_bytes());
        }
    }
}

unsafe extern "C" fn filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    let word = fence("header filter", None, || {
        // SAFETY: nginx calls filters with a live request.
        unsafe {
            let context = match context::find(r) {
                Some(context) => context,
                None if problem::is_error(r) && problem::is_on(r) => context::obtain(r)?,
                None => return None,
            };
            let word = if problem::is_error(r) { problem::word(r, context) } else { None };
            if let Some(u) = (*r).upstream.as_ref()
                && u.headers_in.status_n != 0
                && context.ticket.is_trying()
            {
                let now = now();
                with_worker(|worker| worker.answered(&mut context.ticket, now));
            }
            if std::ptr::eq(r, (*r).main) && conf::loc_conf(r).is_some_and(|conf| conf.debug == 1) {
                tell(r, context);
            }
            if context.ticket.is_cached() && !context.replied {
                cache::answered(r, context);
            }
            // An answer of our own already carries them.
            if !context.replied && !context.ticket.is_shadow() && std::ptr::eq(r, (*r).main) {
                let mut buffer = [0u8; 512];
                for (name, value) in context.ticket.limit_headers(&mut buffer) {
                    reply::set(r, name, value);
                }
                answer::add_lines(r, context);
            }
            Some((word?, context))
        }
    });
    // SAFETY: set once by `install` before any request.
    let next = || match unsafe { NEXT } {
        // SAFETY: the next filter is nginx's own or another module's; `r` is live.
        Some(next) => unsafe { next(r) },
        None => rc::OK,
    };
    match word {
        None => next(),
        // SAFETY: `r` is live and its header on its way.
        Some((word, context)) => fence("last word", rc::ERROR, || unsafe { answer::say(r, context, word, next) }),
    }
}
