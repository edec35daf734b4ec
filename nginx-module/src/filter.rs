//! The header filter: the moment at which a peer has answered, and the headers that tell a client where it stands.

use gateway::gateway::Reply;
use nginx_sys::{ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_http_top_header_filter, ngx_int_t};

use crate::context::Context;
use crate::process::{now, with_worker};
use crate::raw::{fence, rc};
use crate::{answer, cache, context, reply};

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

unsafe extern "C" fn filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    let done = fence("header filter", None, || {
        // SAFETY: nginx calls filters with a live request.
        unsafe {
            let context = context::find(r)?;
            if context.late.is_some()
                && let Some(reply) = late(r, context)
            {
                with_worker(|worker| worker.refused(&mut context.ticket, reply.reason));
                return Some(reply::replace(r, &reply, context));
            }
            if let Some(u) = (*r).upstream.as_ref()
                && u.headers_in.status_n != 0
                && context.ticket.is_trying()
            {
                let now = now();
                with_worker(|worker| worker.answered(&mut context.ticket, now));
            }
            if context.ticket.is_cached() && !context.replied {
                cache::answered(r, context);
            }
            // An answer of our own already carries them.
            if !context.replied && std::ptr::eq(r, (*r).main) {
                let mut buffer = [0u8; 512];
                for (name, value) in context.ticket.limit_headers(&mut buffer) {
                    reply::set(r, name, value);
                }
                answer::add_lines(r, context);
            }
        }
        None
    });
    if let Some(rc) = done {
        return rc;
    }
    // SAFETY: set once by `install` before any request.
    match unsafe { NEXT } {
        // SAFETY: the next filter is nginx's own or another module's; `r` is live.
        Some(next) => unsafe { next(r) },
        None => rc::OK,
    }
}

/// Why nobody was to be asked, where nginx is about to say that nobody could be: the cache had nothing to give instead,
/// and the location has no page of its own for that.
///
/// # Safety
///
/// `r` is a live request whose header is about to be sent.
#[cold]
unsafe fn late(r: *mut ngx_http_request_t, context: &mut Context) -> Option<Reply> {
    let reply = context.late.take()?;
    // SAFETY: the caller's promise.
    let is_ours = unsafe {
        let has_page = (*r).error_page() != 0 && (*r).internal() != 0;
        (*r).cached() == 0 && (*r).err_status == 502 && !has_page && std::ptr::eq(r, (*r).main)
    };
    is_ours.then_some(reply)
}
