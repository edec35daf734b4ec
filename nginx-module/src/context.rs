//! What we keep for one request: found again after internal redirects, gone with the request's pool.

use std::ffi::c_void;
use std::ptr;

use gateway::gateway::{Answer, Ticket};
use gateway::log::trace::Trace;
use gateway::types::Reason;
use nginx_sys::{ngx_http_request_t, ngx_http_upstream_conf_t, ngx_int_t, ngx_pool_cleanup_add, ngx_str_t, ngx_uint_t};

use crate::answer::{Kept, LastWord};
use crate::body::Body;
use crate::forward::Changes;
use crate::raw::{self, fence};
use crate::{access, ask, ngx_http_gateway_module, process};

/// One of an upstream's callbacks.
pub type Callback = Option<unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t>;

/// One request's (or subrequest's) record.
#[repr(C)]
pub struct Context {
    /// Whose it is; subrequests share the main request's pool.
    pub request: *mut ngx_http_request_t,
    /// The library's part.
    pub ticket: Ticket,
    /// The URI as it was left when it was decided on; access runs again after internal redirects.
    pub decided: ngx_str_t,
    /// The route that the place named where it was decided on; empty where none was.
    pub route: ngx_str_t,
    /// The claims that variables name, as many as there are; null where the caller is not known.
    pub claims: *const ngx_str_t,
    /// When it was looked at last, and how long our decisions have taken where a variable asks; microseconds.
    pub began: u64,
    pub spent: u64,
    /// Whether `complete` was called.
    pub completed: bool,
    /// The body of an answer of ours was sent; the header filter leaves it alone.
    pub replied: bool,
    /// What is said instead of the page that nginx is about to send.
    pub last_word: Option<LastWord>,
    /// The status for which a page of the location's answers; 0 = none does.
    pub paged: ngx_uint_t,
    /// nginx's own callback for the end of its upstream, where ours stands in its place.
    pub finalize: Option<unsafe extern "C" fn(*mut ngx_http_request_t, ngx_int_t)>,
    /// How far the comparison of the body with what was signed has come.
    pub body: Body,
    /// The configuration of the location that passes it on, once its route has named another one.
    pub switched: *mut *mut c_void,
    /// nginx's own callbacks that begin a try's answer, and the next try, where ours stand in their place.
    pub status_line: Callback,
    pub reinit: Callback,
    /// The peer under way has answered with something else than HTTP.
    pub garbage: bool,
    /// The peer that answered did not do so to the end.
    pub cut: bool,
    /// A copy was made of it for its route's mirror.
    pub copied: bool,
    /// So many bytes of a body without a length have come.
    pub received: u64,
    /// What the library said of the answer.
    pub kept: Kept,
    /// What the route made of the client's headers.
    pub changes: Changes,
    /// Why it was refused, where another module may let it in all the same.
    pub weighed: Option<Reason>,
    /// The id under which it waits; 0 = it does not.
    pub waiting: u64,
    /// What it has waited for …
    pub answer: Option<Answer>,
    /// … or that it has waited too long.
    pub gave_up: bool,
    /// The copy of the location's settings that its upstream uses; null = none was made.
    pub own_conf: *mut ngx_http_upstream_conf_t,
    /// Whether it fetches a new answer for the cache while an old one is given.
    pub refreshes: bool,
    /// Made once, when something asks for it.
    pub request_id: ngx_str_t,
    /// The trace that it belongs to, and our span in it.
    pub trace: Option<Trace>,
    /// Whether the client said so, and not we alone.
    pub is_traced: bool,
    /// Who sent it, for the log; empty where there is none.
    pub user: ngx_str_t,
}

/// The record of `r`, if it has one.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn find<'a>(r: *mut ngx_http_request_t) -> Option<&'a mut Context> {
    // SAFETY: `r` is live, its ctx table has a slot for every HTTP module, its pool's cleanup records are linked until
    // null, and those with our handler hold a Context.
    unsafe {
        let index = ngx_http_gateway_module.ctx_index;
        let context = raw::slot((*r).ctx, index).cast::<Context>();
        if let Some(context) = context.as_mut() {
            return Some(context);
        }
        // An internal redirect zeroes the table; the cleanup record stays.
        if (*r).internal() == 0 && (*r).filter_finalize() == 0 {
            return None;
        }
        let mut record = (*(*r).pool).cleanup;
        while let Some(current) = record.as_ref() {
            if current
                .handler
                .is_some_and(|handler| std::ptr::fn_addr_eq(handler, release as unsafe extern "C" fn(*mut c_void)))
                && let Some(context) = current.data.cast::<Context>().as_mut()
                && ptr::eq(context.request, r)
            {
                *(*r).ctx.add(index) = current.data;
                return Some(context);
            }
            record = current.next;
        }
        None
    }
}

/// The record of `r`, made when there is none; `None` when there is no memory.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn obtain<'a>(r: *mut ngx_http_request_t) -> Option<&'a mut Context> {
    // SAFETY: the caller's promise.
    if let Some(context) = unsafe { find(r) } {
        return Some(context);
    }
    const { assert!(align_of::<Context>() <= align_of::<usize>(), "nginx's pools align small pieces to a word") };
    // SAFETY: the record's memory is in the request's pool, aligned to a word, and written whole before anything reads it.
    unsafe {
        let record = ngx_pool_cleanup_add((*r).pool, size_of::<Context>()).as_mut()?;
        let place = record.data.cast::<Context>();
        place.write(Context {
            request: r,
            ticket: Ticket::new(),
            decided: raw::text(b""),
            route: raw::text(b""),
            claims: ptr::null(),
            began: 0,
            spent: 0,
            completed: false,
            replied: false,
            last_word: None,
            paged: 0,
            finalize: None,
            body: Body::Unread,
            received: 0,
            copied: false,
            status_line: None,
            reinit: None,
            garbage: false,
            cut: false,
            switched: ptr::null_mut(),
            kept: Kept::NOTHING,
            changes: Changes::new(),
            weighed: None,
            waiting: 0,
            answer: None,
            gave_up: false,
            own_conf: ptr::null_mut(),
            refreshes: false,
            request_id: raw::text(b""),
            trace: None,
            is_traced: false,
            user: raw::text(b""),
        });
        record.handler = Some(release);
        *(*r).ctx.add(ngx_http_gateway_module.ctx_index) = place.cast::<c_void>();
        place.as_mut()
    }
}

/// Runs when the pool goes: whatever the request still holds (a probe's place, a count in flight) is given back.
unsafe extern "C" fn release(data: *mut c_void) {
    fence("request cleanup", (), || {
        let place = data.cast::<Context>();
        // SAFETY: as below.
        if let Some(waiting) = unsafe { place.as_ref() }.map(|context| context.waiting).filter(|id| *id != 0) {
            ask::forget(waiting);
        }
        // SAFETY: the record's data is the Context that `obtain` wrote; nobody uses it after this last handler.
        unsafe {
            if let Some(context) = place.as_mut()
                && !context.completed
            {
                context.completed = true;
                if context.refreshes {
                    // Nobody logs a subrequest.
                    access::complete(context);
                } else {
                    process::with_worker(|worker| worker.abandon(&mut context.ticket));
                }
            }
            place.drop_in_place();
        }
    });
}
