//! What a route answers by itself, and the header lines that every answer to a request carries.

use std::slice;

use gateway::gateway::{Reply, Worker};
use nginx_sys::{
    ngx_http_discard_request_body, ngx_http_finalize_request, ngx_http_request_t, ngx_int_t, ngx_palloc, ngx_str_t,
};

use crate::context::{self, Context};
use crate::process::with_worker;
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

/// Puts the lines into the response's header; the content type has a place of its own there and is returned. `None` when
/// there was no memory.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet, and `lines` are of `kept`, which is its own.
unsafe fn write(r: *mut ngx_http_request_t, kept: &Kept, lines: &[Line]) -> Option<ngx_str_t> {
    // SAFETY: the caller's promise.
    unsafe {
        let is_type = |line: &&Line| bytes(line.name).eq_ignore_ascii_case(b"content-type");
        let written = lines.iter().rev().find(is_type).map(|line| line.value);
        for line in lines.iter().filter(|line| !is_type(line)) {
            let headers = &raw mut (*r).headers_out.headers;
            let element = raw::push_header(headers, line.name, std::ptr::null_mut(), 1, line.value)?;
            // Or the gzip filter would encode it once more.
            if bytes(line.name).eq_ignore_ascii_case(b"content-encoding") {
                (*r).headers_out.content_encoding = element;
            }
        }
        let none = if kept.body.len == 0 { text(b"") } else { text(b"text/plain; charset=utf-8") };
        Some(written.unwrap_or(none))
    }
}

/// What the gateway says where all tries have failed, instead of nginx's page for the status.
#[derive(Clone, Copy)]
pub enum LastWord {
    /// The route's answer, which is kept.
    Kept,
    /// A refusal.
    Refusal(Reply),
}

/// All tries of the request have failed, and nginx is about to answer with `status`: finds out what is said instead, for
/// [`say`] to say it when the header comes by.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet, and `context` is its record.
pub unsafe fn prepare_last_word(r: *mut ngx_http_request_t, context: &mut Context, status: u16) {
    context.last_word = with_worker(|worker| match worker.failed(&mut context.ticket, status) {
        Err(refusal) => Some(LastWord::Refusal(refusal)),
        // SAFETY: the caller's promise.
        Ok(_) => unsafe { keep_answer(r, &mut context.kept, worker) }.then_some(LastWord::Kept),
    })
    .flatten();
    if let Some(LastWord::Kept) = context.last_word {
        // nginx is not to look for a page of the location's, which has a say in refusals alone.
        // SAFETY: the caller's promise.
        unsafe { (*r).set_error_page(1) };
    }
}

/// Whether the header that is about to be sent is that of nginx's own page: a page of the location's goes before a refusal.
///
/// # Safety
///
/// `r` is a live request whose header is about to be sent.
pub unsafe fn is_to_be_said(r: *mut ngx_http_request_t, word: &LastWord) -> bool {
    // SAFETY: the caller's promise.
    matches!(word, LastWord::Kept) || unsafe { (*r).error_page() == 0 || (*r).internal() == 0 }
}

/// Keeps the answer that `worker` has, behind the lines of any answer that are kept already. False when there was no
/// memory.
///
/// # Safety
///
/// `r` is a live request, and `kept` is its own.
unsafe fn keep_answer(r: *mut ngx_http_request_t, kept: &mut Kept, worker: &Worker) -> bool {
    // SAFETY: the caller's promise; the array has room for each line that is written.
    unsafe {
        let before = kept.lines().get(..kept.anywhere).unwrap_or_default();
        let count = before.len() + worker.answer_headers().count();
        let lines: *mut Line = ngx_palloc((*r).pool, count.max(1) * size_of::<Line>()).cast();
        if lines.is_null() {
            return false;
        }
        for (index, line) in before.iter().enumerate() {
            lines.add(index).write(*line);
        }
        for (index, (name, value)) in worker.answer_headers().enumerate() {
            let (Some(name), Some(value)) = (raw::copy((*r).pool, name), raw::copy((*r).pool, value)) else {
                return false;
            };
            lines.add(before.len() + index).write(Line { name, value });
        }
        let (status, body) = worker.response();
        let Some(body) = raw::copy((*r).pool, body) else { return false };
        *kept = Kept { lines, count, anywhere: before.len(), status, body };
        true
    }
}

/// Sends `word` in the place of the page whose header comes by, and makes nginx leave the page's body out. `next` is the
/// rest of the header filters; lines of any answer are there already.
///
/// # Safety
///
/// `r` is a live request whose header is just being sent, and `context` is its record.
pub unsafe fn say(
    r: *mut ngx_http_request_t,
    context: &mut Context,
    word: LastWord,
    next: impl FnOnce() -> ngx_int_t,
) -> ngx_int_t {
    // SAFETY: the caller's promise; the body lives as long as the request, or is copied.
    unsafe {
        let kept = context.kept;
        let refusal;
        let (status, kind, body) = match word {
            LastWord::Kept => {
                let own = kept.lines().get(kept.anywhere..).unwrap_or_default();
                let Some(kind) = write(r, &kept, own) else { return rc::ERROR };
                (kept.status, kind, bytes(kept.body))
            }
            LastWord::Refusal(answer) => {
                let Some(written) = reply::write(r, &answer, context) else { return rc::ERROR };
                refusal = written;
                (refusal.status, text(refusal.content_type), refusal.body.as_slice())
            }
        };
        (*r).err_status = 0;
        (*r).headers_out.status_line.len = 0;
        reply::prepare(r, status, kind, body.len());
        let sent = next();
        if sent == rc::ERROR || sent > rc::OK || (*r).header_only() != 0 {
            return sent;
        }
        let sent = reply::send_body(r, body);
        (*r).set_header_only(1);
        sent
    }
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
        let Some(kind) = write(r, &kept, kept.lines()) else { return 500 };
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
