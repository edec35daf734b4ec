//! Errors that nginx answers by itself: what is said in the place of its page.
//!
//! nginx answers an error in one place, which sets `err_status` before it sends the header of its page; an answer of an
//! upstream or of a file never has it, but for one that comes as a page of the location's (`error_page`). Those begin with
//! the rewrite phase, where [`mark`] sees the status of the error that they are for.

use gateway::gateway::Reply;
use nginx_sys::{NGX_HTTP_VERSION_10, ngx_http_request_t, ngx_int_t, ngx_uint_t};

use crate::answer::LastWord;
use crate::context::{self, Context};
use crate::process::with_worker;
use crate::raw::{fence, rc};
use crate::view::View;
use crate::{access, conf, reply};

/// The rewrite phase: a page of the location's has the last word on its status.
pub unsafe extern "C" fn mark(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls phase handlers with a live request.
    if unsafe { (*r).err_status } != 0 {
        // SAFETY: as above.
        unsafe { note(r) };
    }
    rc::DECLINED
}

/// # Safety
///
/// `r` is a live request.
#[cold]
unsafe fn note(r: *mut ngx_http_request_t) {
    fence("error page", (), || {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(context) = context::obtain(r) {
                context.paged = (*r).err_status;
            }
        }
    });
}

/// Whether the header that comes by is that of an error of nginx's.
///
/// # Safety
///
/// `r` is a live request whose header is about to be sent.
pub unsafe fn is_error(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller's promise.
    (400..600).contains(&unsafe { (*r).err_status })
}

/// Whether an error of nginx's is said otherwise in this location, whoever decided on the request.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn is_on(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::eq(r, (*r).main) && conf::loc_conf(r).is_some_and(|conf| conf.problem == 1) }
}

/// What is said instead of the page whose header comes by; `None` where the page is right.
///
/// # Safety
///
/// `r` is a live request for which [`is_error`], and `context` is its record.
#[cold]
pub unsafe fn word(r: *mut ngx_http_request_t, context: &mut Context) -> Option<LastWord> {
    let word = context.last_word.take();
    if let Some(LastWord::Kept) = word {
        return word;
    }
    // SAFETY: the caller's promise.
    let status = unsafe { (*r).err_status };
    if context.replied || context.paged == status {
        return None;
    }
    if let Some(LastWord::Refusal(refusal)) = word
        && (502..=504).contains(&status)
    {
        with_worker(|worker| worker.refused(&mut context.ticket, refusal.reason));
        return word;
    }
    // SAFETY: as above.
    unsafe {
        let is_on = is_on(r);
        // One of ours that came when access was over, as of a body that grows too long; with `satisfy any` it is not known
        // whose it is.
        if let Some(reason) = context.ticket.refusal()
            && ngx_uint_t::from(reason.status()) == status
            && !context.ticket.is_shadow()
            && std::ptr::eq(r, (*r).main)
            && (is_on || !access::satisfies_any(r))
        {
            return Some(LastWord::Refusal(Reply::new(reason)));
        }
        let is_said =
            is_on && (*r).http_version >= NGX_HTTP_VERSION_10 as ngx_uint_t && !reply::wants_page(&View::new(r));
        is_said.then_some(LastWord::Error(status as u16))
    }
}
