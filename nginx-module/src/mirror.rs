//! Copies of requests for another upstream (`canary.mirror`): a subrequest in the background, with the body, whose answer
//! is thrown away.
//!
//! A copy is made of what is about to be passed on: it goes on where the request stands, in the same location, with the
//! headers and the path that were made for the request, and differs in its upstream alone. The client does not wait for
//! it; its connection is used for the next request once the copy is over, as with nginx's own `mirror`.

use std::ptr;

use gateway::gateway::Ticket;
use nginx_sys::{
    NGX_HTTP_SUBREQUEST_BACKGROUND, NGX_HTTP_SUBREQUEST_CLONE, ngx_http_finalize_request,
    ngx_http_read_client_request_body, ngx_http_request_t, ngx_http_subrequest, ngx_int_t, ngx_uint_t,
};

use crate::body;
use crate::context::{self, Context};
use crate::process::{now, with_worker};
use crate::raw::{Level, fence, log, rc};

/// Sends a copy of the request where its route wants one. `DECLINED`: the request goes on; `DONE`: its body is read first.
///
/// # Safety
///
/// `r` is a live request in the precontent phase, and `context` is its record; the caller touches neither after `DONE`.
pub unsafe fn send(r: *mut ngx_http_request_t, context: &mut Context) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        if !context.ticket.is_mirrored() || context.copied || !ptr::eq(r, (*r).main) {
            return rc::DECLINED;
        }
        context.copied = true;
        let headers = &(*r).headers_in;
        if headers.content_length_n <= 0 && headers.chunked() == 0 || !(*r).request_body.is_null() {
            copy(r, context);
            return rc::DECLINED;
        }
        // Both read the body, so it has to be there whole.
        let rc = ngx_http_read_client_request_body(r, Some(read));
        if rc >= 300 {
            return rc;
        }
        ngx_http_finalize_request(r, rc::DONE);
        rc::DONE
    }
}

unsafe extern "C" fn read(r: *mut ngx_http_request_t) {
    fence("mirrored body", (), || {
        // SAFETY: nginx calls this with the request that `send` had read.
        unsafe {
            if let Some(context) = context::find(r) {
                copy(r, context);
            }
        }
    });
    // SAFETY: as above.
    unsafe { body::go_on(r) };
}

/// # Safety
///
/// `r` is a live main request, and `context` is its record.
unsafe fn copy(r: *mut ngx_http_request_t, context: &Context) {
    // SAFETY: the caller's promise; the copy's record is made before anything runs it.
    unsafe {
        let mut ticket = Ticket::new();
        if !with_worker(|worker| worker.mirror(&context.ticket, &mut ticket, now())).unwrap_or(false) {
            return;
        }
        let mut sr: *mut ngx_http_request_t = ptr::null_mut();
        let flags = (NGX_HTTP_SUBREQUEST_BACKGROUND | NGX_HTTP_SUBREQUEST_CLONE) as ngx_uint_t;
        let (uri, args) = (&raw mut (*r).uri, &raw mut (*r).args);
        if ngx_http_subrequest(r, uri, args, &raw mut sr, ptr::null_mut(), flags) != rc::OK {
            log(Level::Error, (*(*r).connection).log, "a copy for the mirror could not be made");
            return;
        }
        (*sr).set_header_only(1);
        (*sr).set_quoted_uri((*r).quoted_uri());
        (*sr).method = (*r).method;
        (*sr).method_name = (*r).method_name;
        if let Some(copy) = context::obtain(sr) {
            copy.ticket = ticket;
            copy.decided = (*sr).uri;
        }
    }
}
