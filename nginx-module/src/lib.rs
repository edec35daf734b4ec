//! ngx-gateway as a dynamic module for nginx.
//!
//! nginx keeps the I/O; this crate turns its callbacks into the library's three calls and their results into nginx's.
//! One feature a file: [`conf`] directives, [`zone`] the region, [`folder`] what outlives it, [`rights`] what the workers may read, [`process`] what a worker has, [`access`] the phases,
//! [`ask`] what they wait for, [`upstream`] the balancer, `tls` its encrypted connections, [`forward`] what goes to a
//! peer, [`location`] who passes it on, [`log`] what is written down of it, [`mirror`] its copies, [`answer`] what a route answers by itself, [`filter`] the response's header, [`cache`] nginx's cache, [`body`] the
//! request's body, [`admin`] the API and [`carry`] its way to the leader, [`variable`], [`content`], [`reply`], [`problem`] errors that are nginx's; [`raw`]
//! is the thin layer over C. Every function that nginx calls is fenced against panics.

mod access;
mod admin;
mod answer;
mod ask;
mod body;
mod cache;
mod carry;
mod conf;
mod content;
mod context;
mod dashboard;
mod filter;
mod folder;
mod forward;
mod location;
mod log;
mod mirror;
mod problem;
mod process;
mod raw;
mod reply;
mod rights;
#[cfg(ngx_feature = "http_ssl")]
mod tls;
mod upstream;
mod variable;
mod view;
mod zone;

use std::ffi::c_char;
use std::ptr;

use nginx_sys::{
    NGX_HTTP_MODULE, NGX_RS_MODULE_SIGNATURE, nginx_version, ngx_array_push, ngx_conf_t, ngx_http_core_main_conf_t,
    ngx_http_core_module, ngx_http_handler_pt, ngx_http_module_t, ngx_http_phases_NGX_HTTP_ACCESS_PHASE,
    ngx_http_phases_NGX_HTTP_LOG_PHASE, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE,
    ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE, ngx_http_phases_NGX_HTTP_REWRITE_PHASE, ngx_int_t, ngx_module_t,
    ngx_uint_t,
};

use raw::{fence, rc};

unsafe extern "C" {
    // Not in the bindings of every version.
    static ngx_http_upstream_module: ngx_module_t;
}

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(before),
    postconfiguration: Some(after),
    create_main_conf: Some(conf::create_main),
    init_main_conf: None,
    create_srv_conf: Some(conf::create_srv),
    merge_srv_conf: None,
    create_loc_conf: Some(conf::create_loc),
    merge_loc_conf: Some(conf::merge_loc),
};

/// The module as nginx finds it.
#[unsafe(no_mangle)]
pub static mut ngx_http_gateway_module: ngx_module_t = ngx_module_t {
    ctx_index: ngx_uint_t::MAX,
    index: ngx_uint_t::MAX,
    name: ptr::null_mut(),
    spare0: 0,
    spare1: 0,
    version: nginx_version as ngx_uint_t,
    signature: NGX_RS_MODULE_SIGNATURE.as_ptr(),
    ctx: (&raw const CONTEXT).cast_mut().cast(),
    commands: (&raw mut conf::COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_master: None,
    init_module: None,
    init_process: Some(process::init),
    init_thread: None,
    exit_thread: None,
    exit_process: Some(process::exit),
    exit_master: Some(zone::end),
    spare_hook0: 0,
    spare_hook1: 0,
    spare_hook2: 0,
    spare_hook3: 0,
    spare_hook4: 0,
    spare_hook5: 0,
    spare_hook6: 0,
    spare_hook7: 0,
};

/// What `load_module` looks for: the modules of this file, …
#[unsafe(no_mangle)]
pub static mut ngx_modules: [*mut ngx_module_t; 2] = [&raw mut ngx_http_gateway_module, ptr::null_mut()];

/// … their names, …
#[unsafe(no_mangle)]
pub static mut ngx_module_names: [*const c_char; 2] = [c"ngx_http_gateway_module".as_ptr(), ptr::null()];

/// … and where they stand among the filters (an empty table would put them last, NGINX.md a).
#[unsafe(no_mangle)]
pub static mut ngx_module_order: [*const c_char; 3] =
    [c"ngx_http_gateway_module".as_ptr(), c"ngx_http_copy_filter_module".as_ptr(), ptr::null()];

unsafe extern "C" fn before(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes the configuration being read.
    fence("preconfiguration", rc::ERROR, || if unsafe { variable::add(cf) } { rc::OK } else { rc::ERROR })
}

unsafe extern "C" fn after(cf: *mut ngx_conf_t) -> ngx_int_t {
    fence("postconfiguration", rc::ERROR, || {
        if conf::check(cf).is_err() {
            return rc::ERROR;
        }
        if conf::main_conf(cf).is_none_or(|main| main.zone.is_null()) {
            // Loaded but unused: no handler, no filter, no cost.
            return rc::OK;
        }
        // SAFETY: nginx passes the configuration being read; the arrays are those of its core module.
        unsafe {
            let added = push_handler(cf, ngx_http_phases_NGX_HTTP_REWRITE_PHASE, Some(problem::mark))
                && push_handler(cf, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, Some(access::subrequest))
                && push_handler(cf, ngx_http_phases_NGX_HTTP_ACCESS_PHASE, Some(access::handler))
                && push_handler(cf, ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE, Some(location::handler))
                && push_handler(cf, ngx_http_phases_NGX_HTTP_LOG_PHASE, Some(access::log_handler));
            if !added {
                return rc::ERROR;
            }
            if !variable::note_used(cf) {
                return rc::ERROR;
            }
            filter::install();
            body::install();
            process::lend_manager((*cf).cycle);
        }
        rc::OK
    })
}

/// # Safety
///
/// `cf` is the configuration being read, inside `http {}`.
unsafe fn push_handler(cf: *mut ngx_conf_t, phase: u32, handler: ngx_http_handler_pt) -> bool {
    // SAFETY: the caller's promise; the core module's main configuration has an array of handlers a phase.
    unsafe {
        let context: *mut nginx_sys::ngx_http_conf_ctx_t = (*cf).ctx.cast();
        let core = raw::slot((*context).main_conf, ngx_http_core_module.ctx_index).cast::<ngx_http_core_main_conf_t>();
        let Some(core) = core.as_mut() else { return false };
        let Some(phase) = core.phases.get_mut(phase as usize) else { return false };
        match ngx_array_push(&raw mut phase.handlers).cast::<ngx_http_handler_pt>().as_mut() {
            Some(slot) => {
                *slot = handler;
                true
            }
            None => false,
        }
    }
}
