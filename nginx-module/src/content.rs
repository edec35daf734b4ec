//! Our own endpoints.

use gateway::types::Method;
use nginx_sys::{ngx_http_discard_request_body, ngx_http_request_t, ngx_int_t};

use crate::process::{now, with_worker};
use crate::raw::{self, fence, rc};
use crate::reply;
use crate::view::View;
use gateway::types::Request;

/// `gateway_metrics`: what Prometheus scrapes.
pub unsafe extern "C" fn metrics(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("metrics", 500, || {
        // SAFETY: nginx calls content handlers with a live request.
        unsafe {
            answer(r, b"text/plain; version=0.0.4; charset=utf-8", || {
                with_worker(|worker| worker.metrics(now())).map(String::into_bytes)
            })
        }
    })
}

/// `gateway_health live`: this process runs its event loop and has its place in the region.
pub unsafe extern "C" fn live(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("health", 500, || {
        // SAFETY: as above.
        unsafe { answer(r, b"application/json", || with_worker(|_| b"{\"status\":\"UP\"}\n".to_vec())) }
    })
}

/// # Safety
///
/// `r` is a live request.
unsafe fn answer(r: *mut ngx_http_request_t, kind: &'static [u8], body: impl FnOnce() -> Option<Vec<u8>>) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        if !matches!(View::new(r).method(), Method::Get | Method::Head) {
            return 405;
        }
        let discarded = ngx_http_discard_request_body(r);
        if discarded != rc::OK {
            return discarded;
        }
        match body() {
            Some(body) => reply::send(r, 200, raw::text(kind), &body),
            None => 503,
        }
    }
}
