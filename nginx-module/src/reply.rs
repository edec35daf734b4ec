//! Answers of our own: refusals as RFC 9457 problem details, HTML for people, trailers for gRPC.

use std::fmt::Write;
use std::ptr;

use gateway::gateway::Reply;
use gateway::types::{Header, Method, Protocol, Request, prefers_html};
use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_http_discard_request_body, ngx_http_finalize_request, ngx_http_output_filter,
    ngx_http_request_t, ngx_http_send_header, ngx_int_t, ngx_str_t,
};

use crate::answer;
use crate::context::Context;
use crate::raw::{self, bytes, rc};
use crate::variable;
use crate::view::View;

/// Answers `r` with the refusal and ends the access phase.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn refuse(r: *mut ngx_http_request_t, answer: &Reply, context: &mut Context) -> ngx_int_t {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        // Else nginx would ask a client that waits for 100 Continue to send what is thrown away.
        (*r).set_expect_tested(1);
        let discarded = ngx_http_discard_request_body(r);
        if discarded != rc::OK {
            return discarded;
        }
        // An error page that is itself refused answers with the refusal's status, as nginx's own refusals do.
        (*r).err_status = 0;
        let Some(Written { status, content_type, body }) = write(r, answer, context) else { return 500 };
        let mut ok = true;
        let mut limit = [0u8; 512];
        for (name, value) in context.ticket.limit_headers(&mut limit) {
            ok &= set(r, name, value);
        }
        if !(ok && answer::add_lines(r, context)) {
            return 500;
        }
        let rc = send(r, status, raw::text(content_type), &body);
        ngx_http_finalize_request(r, rc);
        rc::DONE
    }
}

/// What a refusal says beside its header lines.
pub struct Written {
    pub status: u16,
    pub content_type: &'static [u8],
    pub body: Vec<u8>,
}

/// Sets the header lines of the refusal, apart from those of any answer; `None` when there was no memory.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet.
pub unsafe fn write(r: *mut ngx_http_request_t, answer: &Reply, context: &mut Context) -> Option<Written> {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        let view = View::new(r);
        let (status, kind, body) = form(&view, answer, variable::request_id(r, context))?;
        let mut ok = true;
        if let Some(grpc) = kind.grpc_status {
            ok &= set(r, b"grpc-status", grpc.as_bytes()) && set(r, b"grpc-message", answer.reason.public().as_bytes());
        }
        if answer.retry_after != 0 {
            ok &= set(r, b"Retry-After", answer.retry_after.to_string().as_bytes());
        }
        if answer.reason.status() == 405 {
            let allow: Vec<_> = answer.allow.iter().map(Method::name).collect();
            ok &= set(r, b"Allow", allow.join(", ").as_bytes());
        }
        if answer.reason.status() == 401 {
            for challenge in answer.challenges.iter() {
                ok &= set(r, b"WWW-Authenticate", challenge.as_bytes());
            }
        }
        ok.then_some(Written { status, content_type: kind.content_type, body })
    }
}

struct Form {
    content_type: &'static [u8],
    grpc_status: Option<&'static str>,
}

fn form(view: &View, answer: &Reply, request_id: &[u8]) -> Option<(u16, Form, Vec<u8>)> {
    let reason = answer.reason;
    if view.protocol() == Protocol::Grpc {
        let form = Form { content_type: b"application/grpc", grpc_status: Some(reason.grpc_status()) };
        return Some((200, form, Vec::new()));
    }
    let title = reason.title();
    let mut body = String::with_capacity(256);
    if matches!(view.header(b"accept"), Header::One(accept) if prefers_html(accept)) {
        let (status, detail) = (reason.status(), reason.detail());
        write!(
            body,
            "<!DOCTYPE html>\n<html><head><title>{status} {title}</title></head>\n\
             <body><h1>{status} {title}</h1><p>{detail}</p></body></html>\n"
        )
        .ok()?;
        return Some((status, Form { content_type: b"text/html", grpc_status: None }, body.into_bytes()));
    }
    // Nothing of the client's stands in the body but its own request id, which is checked to be harmless.
    writeln!(
        body,
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{}\",\"code\":\"{}\",\
         \"request_id\":\"{}\"}}",
        reason.status(),
        reason.detail(),
        reason.public(),
        std::str::from_utf8(request_id).ok()?
    )
    .ok()?;
    Some((reason.status(), Form { content_type: b"application/problem+json", grpc_status: None }, body.into_bytes()))
}

/// Adds a response header; false when there was no memory.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet.
pub unsafe fn set(r: *mut ngx_http_request_t, name: &'static [u8], value: &[u8]) -> bool {
    // SAFETY: the caller's promise; the copy lives as long as the request.
    unsafe {
        let Some(value) = raw::copy((*r).pool, value) else { return false };
        raw::push_header(&raw mut (*r).headers_out.headers, raw::text(name), ptr::null_mut(), 1, value).is_some()
    }
}

/// Sends a whole answer from memory.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet.
pub unsafe fn send(r: *mut ngx_http_request_t, status: u16, kind: ngx_str_t, body: &[u8]) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        prepare(r, status, kind, body.len());
        let sent = ngx_http_send_header(r);
        if sent == rc::ERROR || sent > rc::OK || (*r).header_only() != 0 {
            return sent;
        }
        send_body(r, body)
    }
}

/// Says in the header what is sent.
///
/// # Safety
///
/// `r` is a live request whose header was not sent yet.
pub unsafe fn prepare(r: *mut ngx_http_request_t, status: u16, kind: ngx_str_t, length: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        (*r).headers_out.status = status.into();
        (*r).headers_out.content_length_n = length as nginx_sys::off_t;
        (*r).headers_out.content_type = kind;
        (*r).headers_out.content_type_len = bytes(kind).split(|&byte| byte == b';').next().map_or(0, <[u8]>::len);
        (*r).headers_out.last_modified_time = -1;
    }
}

/// Sends a whole body from memory.
///
/// # Safety
///
/// `r` is a live request whose header was sent.
pub unsafe fn send_body(r: *mut ngx_http_request_t, body: &[u8]) -> ngx_int_t {
    // SAFETY: the caller's promise; buffer and chain live in the request's pool, the link only during the call, as
    // nginx's filters copy what they keep.
    unsafe {
        let buffer: *mut ngx_buf_t = raw::zeroed((*r).pool);
        let Some(content) = raw::copy((*r).pool, body) else { return 500 };
        let Some(data) = buffer.as_mut() else { return 500 };
        data.pos = content.data;
        data.last = content.data.add(content.len);
        data.set_memory(u32::from(!body.is_empty()));
        let main = std::ptr::eq(r, (*r).main);
        data.set_last_buf(u32::from(main));
        data.set_last_in_chain(1);
        // An empty buffer that is neither the last one nor this is an error to the copy filter.
        data.set_sync(u32::from(body.is_empty() && !main));
        let mut link = ngx_chain_t { buf: buffer, next: ptr::null_mut() };
        ngx_http_output_filter(r, &raw mut link)
    }
}

/// The request's own bytes as text for a log line.
///
/// # Safety
///
/// As for [`bytes`].
pub unsafe fn lossy(value: ngx_str_t) -> String {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { bytes(value) }).into_owned()
}
