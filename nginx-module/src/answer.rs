//! What a route answers by itself, and the header lines that every answer to a request carries.

use std::slice;

use gateway::gateway::Worker;
use nginx_sys::{
    ngx_http_discard_request_body, ngx_http_finalize_request, ngx_http_request_t, ngx_int_t, ngx_palloc, ngx_str_t,
};

use crate::context::{self, Context};
use crate::raw::{self, bytes, fence, headers, rc, text};
use crate::reply;

/// What the library said of an answer, kept in the request's pool: other requests are decided on before it is sent.
#[derive(Clone, Copy)]
pub struct Kept {
    lines: *const Line,
    count: usize,
    /// How many of the lines stand on whatever answer; those behind them belong to the route's own.
    anywhere: usize,
    /// Status and body, where the route answers by itself.
    status: u16,
    body: ngx_str_t,
}

#[derive(Clone, Copy)]
struct Line {
    name: ngx_str_t,
    value: ngx_str_t,
}

impl Kept {
    pub const NOTHING: Self = Self { lines: std::ptr::null(), count: 0, anywhere: 0, status: 0, body: text(b"") };

    fn lines(&self) -> &[Line] {
        if self.lines.is_null() {
            return &[];
        }
        // SAFETY: `keep` wrote so many lines, which live as long as the request that holds this record.
        unsafe { slice::from_raw_parts(self.lines, self.count) }
    }
}

/// Keeps what `worker` says of the answer to the request that it has just decided on; `responds` where it has the whole
/// of it. False when there was no memory.
///
/// # Safety
///
/// `r` is a live request, and `context` is its record.
pub unsafe fn keep(r: *mut ngx_http_request_t, context: &mut Context, worker: &Worker, responds: bool) -> bool {
    // SAFETY: the caller's promise, here and below; the array has room for each line that is written.
    unsafe {
        context.kept = Kept::NOTHING;
        let anywhere = worker.response_headers().count();
        let count = anywhere + if responds { worker.answer_headers().count() } else { 0 };
        if count > 0 {
            let lines: *mut Line = ngx_palloc((*r).pool, count * size_of::<Line>()).cast();
            if lines.is_null() {
                return false;
            }
            let all = worker.response_headers().chain(worker.answer_headers()).take(count);
            for (index, (name, value)) in all.enumerate() {
                let (Some(name), Some(value)) = (raw::copy((*r).pool, name), raw::copy((*r).pool, value)) else {
                    return false;
                };
                lines.add(index).write(Line { name, value });
            }
            (context.kept.lines, context.kept.count, context.kept.anywhere) = (lines, count, anywhere);
        }
        if responds {
            let (status, body) = worker.response();
            let Some(body) = raw::copy((*r).pool, body) else { return false };
            (context.kept.status, context.kept.body) = (status, body);
        }
        true
    }
}

/// Puts the kept lines of any answer into the response's header; what an upstream says of other origins gives way to them. False when
/// there was no memory.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet, and `context` is its record.
pub unsafe fn add_lines(r: *mut ngx_http_request_t, context: &Context) -> bool {
    // SAFETY: the caller's promise; an element with a hash of 0 is not sent.
    unsafe {
        if context.ticket.owns_cors() {
            for element in headers(&(*r).headers_out.headers) {
                if gateway::cors::is_ours(bytes(element.key)) {
                    (*std::ptr::from_ref(element).cast_mut()).hash = 0;
                }
            }
        }
        context.kept.lines().iter().take(context.kept.anywhere).all(|line| {
            raw::push_header(&raw mut (*r).headers_out.headers, line.name, std::ptr::null_mut(), 1, line.value)
                .is_some()
        })
    }
}

/// Answers a preflight and ends the access phase.
///
/// # Safety
///
/// `r` is a live request, and `context` is its record with the answer kept in it.
pub unsafe fn preflight(r: *mut ngx_http_request_t, context: &mut Context) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        let rc = send(r, context);
        ngx_http_finalize_request(r, rc);
        rc::DONE
    }
}

/// Whether the route answers by itself.
pub fn is_kept(context: &Context) -> bool {
    context.kept.status != 0
}

/// Has the route answer when the content phase comes: until then others may still refuse the request.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn at_content(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    unsafe { (*r).content_handler = Some(content) }
}

unsafe extern "C" fn content(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("answer", 500, || {
        // SAFETY: nginx calls content handlers with a live request.
        unsafe {
            match context::find(r) {
                Some(context) => send(r, context),
                None => 500,
            }
        }
    })
}

/// # Safety
///
/// `r` is a live request whose header was not sent yet, and `context` is its record.
unsafe fn send(r: *mut ngx_http_request_t, context: &mut Context) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        (*r).set_expect_tested(1);
        let discarded = ngx_http_discard_request_body(r);
        if discarded != rc::OK {
            return discarded;
        }
        let kept = context.kept;
        // The type has a place of its own in nginx's header.
        let is_type = |line: &&Line| bytes(line.name).eq_ignore_ascii_case(b"content-type");
        let written = kept.lines().iter().rev().find(is_type).map(|line| line.value);
        let none = if kept.body.len == 0 { text(b"") } else { text(b"text/plain; charset=utf-8") };
        let kind = written.unwrap_or(none);
        for line in kept.lines().iter().filter(|line| !is_type(line)) {
            let pushed =
                raw::push_header(&raw mut (*r).headers_out.headers, line.name, std::ptr::null_mut(), 1, line.value);
            let Some(element) = pushed else { return 500 };
            // Or the gzip filter would encode it once more.
            if bytes(line.name).eq_ignore_ascii_case(b"content-encoding") {
                (*r).headers_out.content_encoding = element;
            }
        }
        let mut limit = [0u8; 512];
        for (name, value) in context.ticket.limit_headers(&mut limit) {
            if !reply::set(r, name, value) {
                return 500;
            }
        }
        context.replied = true;
        reply::send(r, kept.status, kind, bytes(kept.body))
    }
}
