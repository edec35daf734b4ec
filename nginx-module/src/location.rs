//! Routes that name a location of nginx.conf (`location: "@grpc"`): whatever a location can say of how a request is passed
//! on (`grpc_pass`, buffers, caches), it can say for one route.
//!
//! The request changes its location after access: what the location that it came to says of who may come, `deny` and
//! `auth_request` among it, has been heard. Done in the access phase, that would be skipped (NGINX.md k5).

use std::ffi::c_void;

use gateway::types::Reason;
use nginx_sys::{
    ngx_http_core_module, ngx_http_core_srv_conf_t, ngx_http_request_t, ngx_http_update_location_config, ngx_int_t,
};

use crate::context::{self, Context};
use crate::process::with_worker;
use crate::raw::{self, Level, bytes, fence, rc};
use crate::{access, conf, mirror};

pub unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("precontent", 500, || {
        // SAFETY: nginx calls phase handlers with a live request.
        unsafe {
            if conf::loc_conf(r).is_none_or(|conf| conf.mode == conf::mode::OFF) {
                return rc::DECLINED;
            }
            let Some(context) = context::find(r) else { return rc::DECLINED };
            // Only the location that the request was decided in sends it on.
            if context.ticket.was_refused() || !access::is_decided(r, context) {
                return rc::DECLINED;
            }
            if context.ticket.goes_elsewhere()
                && context.switched != (*r).loc_conf
                && let Err(status) = switch(r, context)
            {
                return status;
            }
            mirror::send(r, context)
        }
    })
}

/// Hands the request to the location that its route names; the status where the server has none of this name.
///
/// # Safety
///
/// `r` is a live request, and `context` is its record.
unsafe fn switch(r: *mut ngx_http_request_t, context: &mut Context) -> Result<(), ngx_int_t> {
    // SAFETY: the caller's promise.
    unsafe {
        let ticket = &context.ticket;
        let found = with_worker(|worker| worker.location(ticket, |name| find(r, name).ok_or(name.to_owned())));
        match found.flatten() {
            None => Ok(()),
            Some(Ok(conf)) => {
                context.switched = conf;
                (*r).loc_conf = conf;
                // An answer of the route's own or of the location it came to.
                (*r).content_handler = None;
                ngx_http_update_location_config(r);
                Ok(())
            }
            Some(Err(name)) => {
                let why = format!("route \"{}\": its server has no location \"{name}\"", ticket.route_name());
                raw::log(Level::Error, (*(*r).connection).log, &why);
                with_worker(|worker| worker.refused(&mut context.ticket, Reason::LocationUnknown));
                Err(Reason::LocationUnknown.status() as ngx_int_t)
            }
        }
    }
}

/// The configuration of the named location `name` of the request's server.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn find(r: *mut ngx_http_request_t, name: &str) -> Option<*mut *mut c_void> {
    // SAFETY: the caller's promise; the list of named locations ends in null.
    unsafe {
        let server = raw::slot((*r).srv_conf, ngx_http_core_module.ctx_index).cast::<ngx_http_core_srv_conf_t>();
        let mut place = server.as_ref()?.named_locations;
        while let Some(location) = place.as_ref()?.as_ref() {
            if bytes(location.name) == name.as_bytes() {
                return Some(location.loc_conf);
            }
            place = place.add(1);
        }
        None
    }
}
