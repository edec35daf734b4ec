//! Bodies: at most as large as the route says, and what was signed (RFC 9530).
//!
//! A body with a length is refused by it before anything of it is read; of any other the bytes are counted as they come
//! in, whoever reads it. A body that must hash to something is read whole in the access phase, hashed piece by piece as nginx takes it in, and compared before
//! anything of it goes to an upstream: also with `proxy_request_buffering off`, as nobody can take back what a backend
//! has begun to work on. nginx keeps it as it keeps any body, in memory or in a temporary file, which is never read for
//! the sake of the hash.

use gateway::auth::signature::{BodyDigest, BodyHasher};
use gateway::types::Reason;
use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_http_core_run_phases, ngx_http_finalize_request, ngx_http_read_client_request_body,
    ngx_http_request_body_filter_pt, ngx_http_request_t, ngx_http_top_request_body_filter, ngx_int_t,
};

use crate::context::{self, Context};
use crate::process::with_worker;
use crate::raw::{fence, rc};

/// How far the comparison has come.
pub enum Body {
    /// Nothing was asked of it.
    Unread,
    /// It is coming in; then access goes on with what is kept here.
    Reading { digest: BodyDigest, hasher: BodyHasher, then: ngx_int_t },
    /// It is there, and access has to judge it.
    Read { digest: BodyDigest, hasher: BodyHasher, then: ngx_int_t },
    /// It is the one that was signed.
    Right,
}

impl Body {
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right)
    }
}

static mut NEXT: ngx_http_request_body_filter_pt = None;

/// Puts the filter in front of those that are already there.
///
/// # Safety
///
/// Called while the configuration is read, in one thread.
pub unsafe fn install() {
    // SAFETY: the caller's promise.
    unsafe {
        NEXT = ngx_http_top_request_body_filter;
        ngx_http_top_request_body_filter = Some(filter);
    }
}

/// Every piece comes by here once, before anybody writes it to a file.
unsafe extern "C" fn filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    let taken = fence("request body filter", true, || {
        // SAFETY: nginx calls filters with a live request and a chain of buffers that ends in null.
        unsafe {
            let Some(context) = context::find(r) else { return true };
            if let Some(most) = context.ticket.max_body()
                && ((*r).headers_in.chunked() != 0 || (*r).headers_in.content_length_n < 0)
            {
                each(chain, |buffer| {
                    context.received = context.received.saturating_add(memory(buffer).len() as u64);
                    true
                });
                if context.received > most {
                    with_worker(|worker| worker.refused(&mut context.ticket, Reason::BodyTooLarge));
                    return false;
                }
            }
            if let Body::Reading { hasher, .. } = &mut context.body {
                each(chain, |buffer| {
                    hasher.update(memory(buffer));
                    true
                });
            }
        }
        true
    });
    if !taken {
        return Reason::BodyTooLarge.status() as ngx_int_t;
    }
    // SAFETY: set once by `install` before any request.
    match unsafe { NEXT } {
        // SAFETY: the next filter is nginx's own or another module's; `r` and `chain` are live.
        Some(next) => unsafe { next(r, chain) },
        None => rc::ERROR,
    }
}

/// Has the body read, and access come again when it is there: then [`verdict`] has something to say, which is `then`
/// where the body is the right one.
///
/// # Safety
///
/// `r` is a live main request, and `context` is its record; the caller touches neither afterwards.
pub unsafe fn read(
    r: *mut ngx_http_request_t,
    context: &mut Context,
    digest: BodyDigest,
    then: ngx_int_t,
) -> ngx_int_t {
    // SAFETY: the caller's promise; an internal redirect or another module may have had the body read before.
    unsafe {
        let mut hasher = digest.hasher();
        if let Some(body) = (*r).request_body.as_ref()
            && !each(body.bufs, |buffer| hash(buffer, &mut hasher))
        {
            return 500;
        }
        context.body = Body::Reading { digest, hasher, then };
        let rc = ngx_http_read_client_request_body(r, Some(done));
        if rc >= 300 {
            return rc;
        }
        // The reader holds the request on its own account.
        ngx_http_finalize_request(r, rc::DONE);
        rc::DONE
    }
}

unsafe extern "C" fn done(r: *mut ngx_http_request_t) {
    fence("request body", (), || {
        // SAFETY: nginx calls this with the request that `read` had read.
        unsafe {
            if let Some(context) = context::find(r) {
                context.body = match std::mem::replace(&mut context.body, Body::Unread) {
                    Body::Reading { digest, hasher, then } => Body::Read { digest, hasher, then },
                    other => other,
                };
            }
        }
    });
    // SAFETY: as above.
    unsafe { go_on(r) };
}

/// Goes on with a request whose body was read: whoever passes it on sends that body.
///
/// # Safety
///
/// `r` is the live request; the caller does not touch it afterwards.
pub unsafe fn go_on(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    unsafe {
        (*r).set_preserve_body(1);
        (*r).write_event_handler = Some(ngx_http_core_run_phases);
        ngx_http_core_run_phases(r);
    }
}

/// What access does now that the body is there; `None` where it was not waited for.
pub fn verdict(context: &mut Context) -> Option<Result<ngx_int_t, Reason>> {
    if !matches!(context.body, Body::Read { .. }) {
        return None;
    }
    match std::mem::replace(&mut context.body, Body::Unread) {
        Body::Read { digest, hasher, then } if digest.is_of(hasher.clone()) => {
            context.body = Body::Right;
            Some(Ok(then))
        }
        _ => Some(Err(Reason::BodyDigest)),
    }
}

/// Calls `take` with each buffer until it says false; says whether it never did.
///
/// # Safety
///
/// `chain` is null or a chain of buffers that ends in null.
unsafe fn each(chain: *mut ngx_chain_t, mut take: impl FnMut(&ngx_buf_t) -> bool) -> bool {
    let mut link = chain;
    // SAFETY: the caller's promise.
    while let Some(current) = unsafe { link.as_ref() } {
        // SAFETY: as above; a link's buffer lives as long as it.
        if let Some(buffer) = unsafe { current.buf.as_ref() }
            && !take(buffer)
        {
            return false;
        }
        link = current.next;
    }
    true
}

/// What a buffer holds in memory.
fn memory(buffer: &ngx_buf_t) -> &[u8] {
    if buffer.pos.is_null() || buffer.last <= buffer.pos {
        return &[];
    }
    // SAFETY: `pos` to `last` is what nginx has put into the buffer's memory.
    unsafe { std::slice::from_raw_parts(buffer.pos, buffer.last.offset_from_unsigned(buffer.pos)) }
}

/// The whole of a body that was read; `None` where it cannot be.
///
/// # Safety
///
/// `r` is a live request whose body was read.
pub unsafe fn whole(r: *mut ngx_http_request_t) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    // SAFETY: the caller's promise.
    let is_whole = unsafe {
        match (*r).request_body.as_ref() {
            Some(body) => each(body.bufs, |buffer| pieces(buffer, &mut |piece| whole.extend_from_slice(piece))),
            None => true,
        }
    };
    is_whole.then_some(whole)
}

/// Hashes a buffer of a body that was there before; one that is in a file is read from it. False where it cannot be.
fn hash(buffer: &ngx_buf_t, hasher: &mut BodyHasher) -> bool {
    pieces(buffer, &mut |piece| hasher.update(piece))
}

/// Shows a buffer piece by piece; false where it is in a file that cannot be read.
fn pieces(buffer: &ngx_buf_t, take: &mut dyn FnMut(&[u8])) -> bool {
    if buffer.in_file() == 0 {
        take(memory(buffer));
        return true;
    }
    // SAFETY: a buffer in a file names one that is open.
    let Some(file) = (unsafe { buffer.file.as_ref() }) else { return false };
    let mut piece = vec![0u8; 64 << 10];
    let mut at = buffer.file_pos;
    while at < buffer.file_last {
        let wanted = usize::try_from(buffer.file_last - at).unwrap_or(0).min(piece.len());
        // SAFETY: `piece` has room for so many bytes.
        let got = unsafe { libc::pread(file.fd, piece.as_mut_ptr().cast(), wanted, at) };
        match usize::try_from(got).ok().filter(|got| *got > 0).and_then(|got| piece.get(..got)) {
            Some(bytes) => take(bytes),
            None => return false,
        }
        at += got as nginx_sys::off_t;
    }
    true
}
