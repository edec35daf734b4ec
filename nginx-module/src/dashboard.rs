//! `gateway_dashboard`: the page over the API. It holds nothing secret, so nobody is asked for a token here: the page
//! asks for one, and the API is what says no.

use std::ffi::{c_char, c_void};

use gateway::admin::Page;
use gateway::types::{Method, Request};
use nginx_sys::{ngx_command_t, ngx_conf_t, ngx_http_discard_request_body, ngx_http_request_t, ngx_int_t};

use crate::conf::{self, LocConf, argument, shown};
use crate::raw::{self, CONF_ERROR, CONF_OK, DUPLICATE, conf_error, fence, rc};
use crate::reply::{self, set as put};
use crate::view::View;

pub unsafe extern "C" fn set(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_dashboard", CONF_ERROR, || {
        // SAFETY: nginx hands over this module's location configuration.
        let Some(location) = (unsafe { conf.cast::<LocConf>().as_mut() }) else { return CONF_ERROR };
        if !location.dashboard.is_null() {
            return DUPLICATE;
        }
        let word = shown(argument(cf, 1));
        let api = match word.strip_prefix("api=") {
            Some(api) => api,
            None if word.is_empty() => "/v1/",
            None => {
                let text = format!("invalid parameter \"{word}\" of \"gateway_dashboard\": it must be \"api=PATH\"");
                return conf_error(cf, &text);
            }
        };
        let page = match Page::new(api) {
            Ok(page) => page,
            Err(error) => {
                return conf_error(cf, &format!("invalid \"api={api}\" of \"gateway_dashboard\": {error}"));
            }
        };
        let placed = conf::set_content(cf, handler);
        if placed != CONF_OK {
            return placed;
        }
        location.dashboard = conf::keep(cf, page);
        if location.dashboard.is_null() { CONF_ERROR } else { CONF_OK }
    })
}

/// What a page needs so that no other has a hand in it.
const HEADERS: [(&[u8], &[u8]); 6] = [
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Cache-Control", b"no-store"),
];

unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("dashboard", 500, || {
        // SAFETY: nginx calls content handlers with a live request; the configuration lives as long as the cycle.
        unsafe {
            let Some(page) = conf::loc_conf(r).and_then(|conf| conf.dashboard.as_ref()) else { return 500 };
            if !matches!(View::new(r).method(), Method::Get | Method::Head) {
                return if put(r, b"Allow", b"GET, HEAD") { 405 } else { 500 };
            }
            let discarded = ngx_http_discard_request_body(r);
            if discarded != rc::OK {
                return discarded;
            }
            let mut ok = put(r, b"Content-Security-Policy", page.policy.as_bytes());
            for (name, value) in HEADERS {
                ok &= put(r, name, value);
            }
            if !ok {
                return 500;
            }
            reply::send(r, 200, raw::text(b"text/html; charset=utf-8"), page.body.as_bytes())
        }
    })
}
