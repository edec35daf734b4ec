//! Directives: what nginx.conf may say, how it merges, and how one directive becomes many.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::{mem, ptr};

use gateway::config::{Checked, Document, Secrets};
use gateway::gateway::LAST_GOOD;
use gateway::types::Terms;
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE2, NGX_CONF_TAKE3, NGX_HTTP_LOC_CONF,
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF,
    NGX_HTTP_SRV_CONF_OFFSET, NGX_HTTP_UPS_CONF, ngx_array_push, ngx_buf_t, ngx_command_t, ngx_conf_file_t,
    ngx_conf_full_name, ngx_conf_parse, ngx_conf_t, ngx_core_module, ngx_cycle_t, ngx_flag_t, ngx_http_core_loc_conf_t,
    ngx_http_core_module, ngx_http_handler_pt, ngx_http_request_t, ngx_int_t, ngx_parse_size, ngx_pool_cleanup_add,
    ngx_shm_zone_t, ngx_str_t, ngx_uint_t,
};

use crate::raw::{self, CONF_ERROR, CONF_OK, DUPLICATE, bytes, conf_error, fence, text};
use crate::rights::{AsWorkers, Workers};
use crate::{admin, content, dashboard, folder, log, ngx_http_gateway_module, upstream, zone};

const UNSET: ngx_flag_t = -1;

/// One for all of `http {}`.
#[repr(C)]
pub struct MainConf {
    /// The region, from `gateway_zone`; null without it.
    pub zone: *mut ngx_shm_zone_t,
    /// The file that it is in, empty where there is none, and its size, bytes.
    pub zone_file: ngx_str_t,
    pub zone_size: usize,
    /// The document's path, from `gateway_config`; empty without it.
    pub document: ngx_str_t,
    /// `gateway_config … mode=api`: the document is the first one alone.
    pub is_api: bool,
    /// Whether there is a `gateway_admin`, …
    pub admin: bool,
    /// … and its audit log; null without it, and while a configuration is only tested.
    pub audit: crate::admin::Audit,
    /// The state folder, from `gateway_state`; empty without it.
    pub state: ngx_str_t,
    /// What was read at this start or reload; freed with the cycle's pool.
    pub taken: *mut Taken,
    /// The cycle whose configuration this is.
    pub cycle: *mut ngx_cycle_t,
    /// The log, from `gateway_log`.
    pub log: log::Sink,
    /// What this machine is called.
    pub node: ngx_str_t,
    /// What directives name of the document, the latest first; looked up once it is read.
    pub named: *mut Named,
    /// The claims that variables name.
    pub claims: *mut Claim,
    /// Whether a variable says what our decisions cost.
    pub is_timed: bool,
    /// The first directive that needs a region, for the error message when there is none.
    pub needed_by: *const c_char,
}

/// The document and what it refers to.
pub struct Taken {
    /// `None` where it is bad, at a start that may go on with the last good one.
    pub document: Option<Document>,
    /// The files that were read, the document among them.
    pub files: Vec<String>,
}

/// One a block `upstream {}`; nginx makes one for each `server {}` too, where nothing is said.
#[repr(C)]
pub struct SrvConf {
    /// The document's upstream that `gateway_balancer` names; empty where it is the route's.
    pub upstream: ngx_str_t,
}

/// A claim that a variable of nginx.conf names.
#[repr(C)]
pub struct Claim {
    pub next: *mut Claim,
    /// The variable's name.
    pub variable: ngx_str_t,
    /// The claim's dotted path.
    pub path: ngx_str_t,
}

/// One a location.
#[repr(C)]
pub struct LocConf {
    /// One of [`mode`].
    pub mode: ngx_flag_t,
    /// The route that takes the requests of this location; empty where it is looked for, null where nothing is said.
    pub route: ngx_str_t,
    /// Whether the location itself has `gateway_pass`; like `proxy_pass`, not inherited.
    pub passes: ngx_flag_t,
    /// `gateway_debug_headers`.
    pub debug: ngx_flag_t,
    /// `gateway_problem`.
    pub problem: ngx_flag_t,
    /// `gateway_admin`; null without it, and not inherited.
    pub admin: *mut crate::admin::Admin,
    /// `gateway_dashboard`; null without it, and not inherited.
    pub dashboard: *mut gateway::admin::Page,
}

/// What `gateway` may say.
pub mod mode {
    use super::ngx_flag_t;
    pub const OFF: ngx_flag_t = 0;
    pub const ON: ngx_flag_t = 1;
    /// On for what has a route, off for what has none.
    pub const OPTIONAL: ngx_flag_t = 2;
    /// Decides and enforces nothing.
    pub const SHADOW: ngx_flag_t = 3;
}

const MODES: [(&str, ngx_flag_t); 4] =
    [("on", mode::ON), ("off", mode::OFF), ("optional", mode::OPTIONAL), ("shadow", mode::SHADOW)];

/// A name that has to stand in the document, and the directive's place.
#[repr(C)]
pub struct Named {
    next: *mut Named,
    /// The directive, which says what kind of thing is named.
    directive: ngx_str_t,
    name: ngx_str_t,
    file: ngx_str_t,
    line: ngx_uint_t,
}

/// The directives, documented in the README in nginx's own form.
pub static mut COMMANDS: [ngx_command_t; 16] = [
    command(c"gateway_zone", NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE2 | NGX_CONF_TAKE3, set_zone, MAIN),
    command(c"gateway_config", NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1 | NGX_CONF_TAKE2, set_config, MAIN),
    command(c"gateway_state", NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, folder::set, MAIN),
    command(c"gateway_log", NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE, log::set, MAIN),
    command(c"gateway_node", NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, log::set_node, MAIN),
    command(c"gateway", NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, set_gateway, LOC),
    command(c"gateway_route", NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, set_route, LOC),
    command(c"gateway_pass", NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, set_pass, LOC),
    command(c"gateway_balancer", NGX_HTTP_UPS_CONF | NGX_CONF_NOARGS | NGX_CONF_TAKE1, upstream::set, SRV),
    command(
        c"gateway_debug_headers",
        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
        set_debug,
        LOC,
    ),
    command(
        c"gateway_problem",
        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
        set_problem,
        LOC,
    ),
    command(c"gateway_metrics", NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set_metrics, LOC),
    command(c"gateway_admin", NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, admin::set, LOC),
    command(c"gateway_dashboard", NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS | NGX_CONF_TAKE1, dashboard::set, LOC),
    command(c"gateway_health", NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, set_health, LOC),
    END,
];

const MAIN: usize = NGX_HTTP_MAIN_CONF_OFFSET;
const SRV: usize = NGX_HTTP_SRV_CONF_OFFSET;
const LOC: usize = NGX_HTTP_LOC_CONF_OFFSET;

type Setter = unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

const fn command(name: &'static std::ffi::CStr, kind: u32, set: Setter, conf: usize) -> ngx_command_t {
    // nginx compares the names of directives as C strings.
    ngx_command_t {
        name: text(name.to_bytes()),
        type_: kind as ngx_uint_t,
        set: Some(set),
        conf,
        offset: 0,
        post: ptr::null_mut(),
    }
}

const END: ngx_command_t =
    ngx_command_t { name: text(b""), type_: 0, set: None, conf: 0, offset: 0, post: ptr::null_mut() };

pub unsafe extern "C" fn create_main(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls this with a valid `cf`; an all-zero MainConf is valid.
    unsafe { raw::zeroed::<MainConf>((*cf).pool).cast() }
}

pub unsafe extern "C" fn create_srv(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls this with a valid `cf`; an all-zero SrvConf is valid.
    unsafe { raw::zeroed::<SrvConf>((*cf).pool).cast() }
}

pub unsafe extern "C" fn create_loc(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls this with a valid `cf`; an all-zero LocConf is valid.
    let conf: *mut LocConf = unsafe { raw::zeroed((*cf).pool) };
    // SAFETY: null when there was no memory, else ours alone.
    if let Some(conf) = unsafe { conf.as_mut() } {
        conf.mode = UNSET;
        conf.debug = UNSET;
        conf.problem = UNSET;
        conf.passes = UNSET;
    }
    conf.cast()
}

pub unsafe extern "C" fn merge_loc(cf: *mut ngx_conf_t, parent: *mut c_void, child: *mut c_void) -> *mut c_char {
    // SAFETY: nginx merges the structures that `create_loc` made.
    let (Some(parent), Some(child)) =
        (unsafe { parent.cast::<LocConf>().as_ref() }, unsafe { child.cast::<LocConf>().as_mut() })
    else {
        return CONF_ERROR;
    };
    if child.mode == UNSET {
        let inherited = if parent.mode == UNSET { mode::OFF } else { parent.mode };
        // Who names a route here wants it to be asked here.
        child.mode = if inherited == mode::OFF && child.route.len != 0 { mode::ON } else { inherited };
    }
    if child.route.data.is_null() {
        child.route = parent.route;
    }
    if child.debug == UNSET {
        child.debug = parent.debug.max(0);
    }
    if child.problem == UNSET {
        child.problem = parent.problem.max(0);
    }
    if child.passes == UNSET {
        // An `if` is a location of its own, without a name, and passes on what the one around it does.
        child.passes = if core_conf(cf).is_some_and(|core| core.noname() == 1) { parent.passes.max(0) } else { 0 };
    }
    CONF_OK
}

impl LocConf {
    /// On which terms requests are decided on here.
    pub fn terms(&self) -> Terms<'_> {
        if self.mode == mode::OFF || self.route.len == 0 && self.mode != mode::SHADOW {
            return Terms::default();
        }
        // SAFETY: `remember` has looked whether the name is text; it lives as long as the cycle.
        let route = (self.route.len != 0).then(|| unsafe { std::str::from_utf8_unchecked(bytes(self.route)) });
        Terms { route, shadow: self.mode == mode::SHADOW }
    }
}

/// The main configuration while the file is being read.
pub fn main_conf<'a>(cf: *mut ngx_conf_t) -> Option<&'a mut MainConf> {
    // SAFETY: inside `http {}` `cf.ctx` is an ngx_http_conf_ctx_t with a slot for this module.
    unsafe {
        let context: *mut nginx_sys::ngx_http_conf_ctx_t = (*cf).ctx.cast();
        raw::slot((*context).main_conf, ngx_http_gateway_module.ctx_index).cast::<MainConf>().as_mut()
    }
}

/// The location's configuration of a request.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn loc_conf<'a>(r: *mut ngx_http_request_t) -> Option<&'a LocConf> {
    // SAFETY: a live request has a slot for every HTTP module.
    unsafe { raw::slot((*r).loc_conf, ngx_http_gateway_module.ctx_index).cast::<LocConf>().as_ref() }
}

/// The words of the directive being read.
pub fn arguments<'a>(cf: *mut ngx_conf_t) -> &'a [ngx_str_t] {
    // SAFETY: nginx sets `cf.args` to an array of strings before it calls a directive's handler.
    unsafe {
        let args = &*(*cf).args;
        std::slice::from_raw_parts(args.elts.cast::<ngx_str_t>(), args.nelts)
    }
}

pub fn argument(cf: *mut ngx_conf_t, index: usize) -> ngx_str_t {
    arguments(cf).get(index).copied().unwrap_or(text(b""))
}

/// An argument as text for a message.
pub fn shown(value: ngx_str_t) -> String {
    // SAFETY: arguments live as long as the cycle.
    String::from_utf8_lossy(unsafe { bytes(value) }).into_owned()
}

/// Remembers which directive first needs a region and a document.
pub fn need(cf: *mut ngx_conf_t, directive: &'static std::ffi::CStr) {
    if let Some(conf) = main_conf(cf)
        && conf.needed_by.is_null()
    {
        conf.needed_by = directive.as_ptr();
    }
}

unsafe extern "C" fn set_zone(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_zone", CONF_ERROR, || {
        // SAFETY: nginx hands over this module's main configuration.
        let Some(main) = (unsafe { conf.cast::<MainConf>().as_mut() }) else { return CONF_ERROR };
        if !main.zone.is_null() {
            return conf_error(cf, "\"gateway_zone\" directive is duplicate: there is one region for all workers");
        }
        let (mut name, mut size) = (argument(cf, 1), argument(cf, 2));
        // SAFETY: `size` is a valid string.
        let length = unsafe { ngx_parse_size(&raw mut size) };
        let Ok(length) = usize::try_from(length) else {
            return conf_error(cf, &format!("invalid size \"{}\" of \"gateway_zone\"", shown(size)));
        };
        if arguments(cf).len() > 3 {
            let word = argument(cf, 3);
            // SAFETY: arguments are valid strings.
            let path = unsafe { bytes(word) }.strip_prefix(b"file=").filter(|path| !path.is_empty());
            let Some(path) = path else {
                let text = "of \"gateway_zone\", it must be \"file=PATH\"";
                return conf_error(cf, &format!("invalid parameter \"{}\" {text}", shown(word)));
            };
            let mut file = ngx_str_t { len: path.len(), data: path.as_ptr().cast_mut() };
            // SAFETY: a piece of the argument, which ends with it; a relative path begins at the prefix of nginx.
            if unsafe { ngx_conf_full_name((*cf).cycle, &raw mut file, 0) } != raw::rc::OK {
                return CONF_ERROR;
            }
            main.zone_file = file;
        }
        main.zone_size = length;
        match zone::add(cf, &mut name, main) {
            Ok(zone) => {
                main.zone = zone;
                CONF_OK
            }
            Err(message) => conf_error(cf, &message),
        }
    })
}

unsafe extern "C" fn set_config(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_config", CONF_ERROR, || {
        // SAFETY: nginx hands over this module's main configuration.
        let Some(main) = (unsafe { conf.cast::<MainConf>().as_mut() }) else { return CONF_ERROR };
        if main.document.len != 0 {
            return conf_error(cf, "\"gateway_config\" directive is duplicate");
        }
        let mut path = argument(cf, 1);
        // SAFETY: `path` is valid; a relative one is completed with the folder of nginx.conf, as `include` does.
        if path.len == 0 || unsafe { ngx_conf_full_name((*cf).cycle, &raw mut path, 1) } != raw::rc::OK {
            return conf_error(cf, "\"gateway_config\" needs a path");
        }
        main.document = path;
        let mode = shown(argument(cf, 2));
        main.is_api = match mode.as_str() {
            "" | "mode=file" => false,
            "mode=api" => true,
            other => {
                let text = "it must be \"mode=file\" or \"mode=api\"";
                return conf_error(cf, &format!("invalid parameter \"{other}\" of \"gateway_config\": {text}"));
            }
        };
        CONF_OK
    })
}

unsafe extern "C" fn set_gateway(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway", CONF_ERROR, || {
        need(cf, c"gateway");
        // SAFETY: nginx hands over this module's location configuration.
        let Some(location) = (unsafe { conf.cast::<LocConf>().as_mut() }) else { return CONF_ERROR };
        let word = shown(argument(cf, 1));
        let Some((_, mode)) = MODES.into_iter().find(|(name, _)| *name == word) else {
            let text = "it must be \"on\", \"off\", \"optional\" or \"shadow\"";
            return conf_error(cf, &format!("invalid value \"{word}\" in \"gateway\" directive, {text}"));
        };
        if location.passes == 1 {
            return if mode == mode::ON { CONF_OK } else { beside_pass(cf, &word) };
        }
        if location.mode != UNSET {
            return DUPLICATE;
        }
        location.mode = mode;
        CONF_OK
    })
}

fn beside_pass(cf: *mut ngx_conf_t, word: &str) -> *mut c_char {
    let text = "which is \"gateway on\" and leaves the location nowhere else to go: use \"proxy_pass\" there";
    conf_error(cf, &format!("\"gateway {word}\" stands beside \"gateway_pass\", {text}"))
}

unsafe extern "C" fn set_debug(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    set_flag(cf, c"gateway_debug_headers", conf, |location| &mut location.debug)
}

unsafe extern "C" fn set_problem(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    set_flag(cf, c"gateway_problem", conf, |location| &mut location.problem)
}

/// A directive of a location that is `on` or `off`; `conf` is this module's configuration of it.
fn set_flag(
    cf: *mut ngx_conf_t,
    directive: &'static std::ffi::CStr,
    conf: *mut c_void,
    field: impl FnOnce(&mut LocConf) -> &mut ngx_flag_t,
) -> *mut c_char {
    fence("flag", CONF_ERROR, || {
        need(cf, directive);
        // SAFETY: nginx hands over this module's location configuration.
        let Some(location) = (unsafe { conf.cast::<LocConf>().as_mut() }) else { return CONF_ERROR };
        let flag = field(location);
        if *flag != UNSET {
            return DUPLICATE;
        }
        *flag = match shown(argument(cf, 1)).as_str() {
            "on" => 1,
            "off" => 0,
            word => {
                let name = directive.to_string_lossy();
                let text = "directive, it must be \"on\" or \"off\"";
                return conf_error(cf, &format!("invalid value \"{word}\" in \"{name}\" {text}"));
            }
        };
        CONF_OK
    })
}

unsafe extern "C" fn set_route(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_route", CONF_ERROR, || {
        need(cf, c"gateway_route");
        // SAFETY: nginx hands over this module's location configuration.
        let Some(location) = (unsafe { conf.cast::<LocConf>().as_mut() }) else { return CONF_ERROR };
        if !location.route.data.is_null() {
            return DUPLICATE;
        }
        let name = argument(cf, 1);
        location.route = match shown(name).as_str() {
            "off" => text(b""),
            _ => match remember(cf, name) {
                Ok(()) => name,
                Err(error) => return error,
            },
        };
        CONF_OK
    })
}

/// Keeps that the directive being read names `name`, to look for it once the document is read.
pub fn remember(cf: *mut ngx_conf_t, name: ngx_str_t) -> Result<(), *mut c_char> {
    let (directive, shown) = (argument(cf, 0), shown(name));
    // SAFETY: the argument is valid.
    if shown.is_empty() || shown.contains('$') || std::str::from_utf8(unsafe { bytes(name) }).is_err() {
        let directive = self::shown(directive);
        return Err(conf_error(cf, &format!("invalid name \"{shown}\" in \"{directive}\": it takes no variables")));
    }
    let Some(main) = main_conf(cf) else { return Err(CONF_ERROR) };
    // SAFETY: nginx calls a directive's handler with the file that is being read; the record lives in the cycle's pool.
    unsafe {
        let (named, file) = (raw::zeroed::<Named>((*cf).pool), (*cf).conf_file);
        let Some(place) = named.as_mut() else { return Err(CONF_ERROR) };
        *place = Named { next: main.named, directive, name, file: (*file).file.name, line: (*file).line };
        main.named = named;
    }
    Ok(())
}

/// A mistake that shows when the directive's block is long read, and where the directive stands.
pub type Complaint = (ngx_str_t, ngx_uint_t, String);

/// What directives name and `document` does not have.
pub fn missing_names(main: &MainConf, document: &Document) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut named = main.named;
    // SAFETY: the records live as long as the cycle.
    while let Some(entry) = unsafe { named.as_ref() } {
        named = entry.next;
        let (directive, name) = (shown(entry.directive), shown(entry.name));
        let path = shown(main.document);
        let complaint = if directive == "gateway_route" {
            match document.routes.iter().find(|route| route.name == name) {
                Some(route) if route.enabled => continue,
                Some(_) => format!("route \"{name}\" of {path} is not enabled"),
                None => format!("there is no route \"{name}\" in {path}"),
            }
        } else if document.upstreams.iter().any(|upstream| upstream.name == name) {
            continue;
        } else {
            format!("there is no upstream \"{name}\" in {path}")
        };
        complaints.push((entry.file, entry.line, format!("\"{directive}\": {complaint}")));
    }
    complaints.reverse();
    complaints
}

/// Reports a mistake that shows when the directive's block is long read; nginx adds `file` and `line`.
pub fn conf_error_at(cf: *mut ngx_conf_t, file: ngx_str_t, line: ngx_uint_t, text: &str) {
    // SAFETY: nginx reads name and line of the structure, and that its descriptor is one; `cf.conf_file` is put back.
    unsafe {
        let mut place: ngx_conf_file_t = mem::zeroed();
        (place.file.name, place.line) = (file, line);
        let outer = mem::replace(&mut (*cf).conf_file, &raw mut place);
        conf_error(cf, text);
        (*cf).conf_file = outer;
    }
}

/// `gateway_pass NAME;` is `gateway on` and a `proxy_pass` with all that has to go with it.
unsafe extern "C" fn set_pass(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_pass", CONF_ERROR, || {
        need(cf, c"gateway_pass");
        // SAFETY: nginx hands over this module's location configuration.
        let Some(location) = (unsafe { conf.cast::<LocConf>().as_mut() }) else { return CONF_ERROR };
        let name = shown(argument(cf, 1));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return conf_error(cf, &format!("invalid upstream \"{name}\" in \"gateway_pass\": name an upstream block"));
        }
        if location_handler(cf).is_some_and(|handler| handler.is_some()) {
            return conf_error(
                cf,
                "\"gateway_pass\" is duplicate, or stands beside what answers this location already",
            );
        }
        if location.mode != UNSET && location.mode != mode::ON {
            let word = MODES.into_iter().find(|(_, mode)| *mode == location.mode).map_or("", |(word, _)| word);
            return beside_pass(cf, word);
        }
        location.mode = mode::ON;
        location.passes = 1;
        if parse_lines(cf, &expansion(&name)) != CONF_OK {
            // What nginx said names no file and no line.
            return conf_error(
                cf,
                "\"gateway_pass\" sets \"proxy_pass\", \"proxy_http_version\" and \"proxy_next_upstream\" itself: leave \
                 them out of this location",
            );
        }
        CONF_OK
    })
}

/// The directives that `gateway_pass` stands for.
fn expansion(upstream: &str) -> String {
    format!(
        "proxy_pass http://{upstream};
         proxy_http_version 1.1;
         proxy_next_upstream error timeout invalid_header http_502 http_503;
         proxy_set_header Host $gateway_host;
         proxy_set_header Connection $gateway_connection;
         proxy_set_header Upgrade $http_upgrade;
         "
    )
}

/// Runs `lines` through nginx's own parser as if they stood in the file (what the `-g` option does).
pub fn parse_lines(cf: *mut ngx_conf_t, lines: &str) -> *mut c_char {
    // SAFETY: the copy lives in the cycle's pool, as do the strings that nginx's parser takes from it; the buffer and
    // the file structure outlive the call, and `cf.conf_file` is put back.
    unsafe {
        let Some(copy) = raw::copy((*cf).pool, lines.as_bytes()) else { return CONF_ERROR };
        let mut buffer: ngx_buf_t = mem::zeroed();
        buffer.start = copy.data;
        buffer.pos = copy.data;
        buffer.last = copy.data.add(copy.len);
        buffer.end = buffer.last;
        buffer.set_temporary(1);
        let mut file: ngx_conf_file_t = mem::zeroed();
        file.file.fd = -1;
        file.buffer = &raw mut buffer;
        let (outer, args) = ((*cf).conf_file, (*cf).args);
        file.line = (*outer).line;
        file.file.name = (*outer).file.name;
        (*cf).conf_file = &raw mut file;
        let result = ngx_conf_parse(cf, ptr::null_mut());
        (*cf).conf_file = outer;
        (*cf).args = args;
        result
    }
}

unsafe extern "C" fn set_metrics(cf: *mut ngx_conf_t, _: *mut ngx_command_t, _: *mut c_void) -> *mut c_char {
    need(cf, c"gateway_metrics");
    set_content(cf, content::metrics)
}

unsafe extern "C" fn set_health(cf: *mut ngx_conf_t, _: *mut ngx_command_t, _: *mut c_void) -> *mut c_char {
    fence("gateway_health", CONF_ERROR, || {
        need(cf, c"gateway_health");
        match shown(argument(cf, 1)).as_str() {
            "live" => set_content(cf, content::live),
            other @ ("ready" | "full") => conf_error(cf, &format!("\"gateway_health {other}\" is not supported yet")),
            other => conf_error(cf, &format!("invalid value \"{other}\" of \"gateway_health\": it must be \"live\"")),
        }
    })
}

pub fn set_content(
    cf: *mut ngx_conf_t,
    handler: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t,
) -> *mut c_char {
    let Some(place) = location_handler(cf) else { return CONF_ERROR };
    if place.is_some() {
        return conf_error(
            cf,
            &format!("\"{}\" stands beside what answers this location already", shown(argument(cf, 0))),
        );
    }
    *place = Some(handler);
    CONF_OK
}

/// Has `value` live as long as the cycle; null when there is no memory.
pub fn keep<T>(cf: *mut ngx_conf_t, value: T) -> *mut T {
    let value = Box::into_raw(Box::new(value));
    // SAFETY: the pool is the cycle's; the record frees what it was given, once.
    unsafe {
        match ngx_pool_cleanup_add((*cf).pool, 0).as_mut() {
            Some(cleanup) => {
                cleanup.handler = Some(free::<T>);
                cleanup.data = value.cast();
                value
            }
            None => {
                drop(Box::from_raw(value));
                ptr::null_mut()
            }
        }
    }
}

unsafe extern "C" fn free<T>(data: *mut c_void) {
    // SAFETY: `keep` made the box and gave it to this record alone.
    drop(unsafe { Box::from_raw(data.cast::<T>()) });
}

/// What answers the location that is being read.
fn location_handler<'a>(cf: *mut ngx_conf_t) -> Option<&'a mut ngx_http_handler_pt> {
    core_conf(cf).map(|core| &mut core.handler)
}

/// The name of the location that is being read.
pub fn location_name(cf: *mut ngx_conf_t) -> String {
    core_conf(cf).map_or_else(String::new, |core| shown(core.name))
}

fn core_conf<'a>(cf: *mut ngx_conf_t) -> Option<&'a mut ngx_http_core_loc_conf_t> {
    // SAFETY: inside a location, and while it is merged, `cf.ctx` has its configuration of the core module.
    unsafe {
        let context: *mut nginx_sys::ngx_http_conf_ctx_t = (*cf).ctx.cast();
        raw::slot((*context).loc_conf, ngx_http_core_module.ctx_index).cast::<ngx_http_core_loc_conf_t>().as_mut()
    }
}

/// Reads and checks the document once the whole file is read; nginx refuses to start, and keeps the old configuration
/// at a reload, when it is bad.
pub fn check(cf: *mut ngx_conf_t) -> Result<(), ()> {
    let Some(main) = main_conf(cf) else { return Err(()) };
    if main.needed_by.is_null() && main.zone.is_null() && main.document.len == 0 {
        return Ok(());
    }
    let mut complaint = None;
    if main.zone.is_null() {
        complaint = Some("gateway_zone");
    } else if main.document.len == 0 {
        complaint = Some("gateway_config");
    }
    if let Some(missing) = complaint {
        let by = if main.needed_by.is_null() {
            if main.zone.is_null() { "gateway_config" } else { "gateway_zone" }.into()
        } else {
            // SAFETY: the names are C string literals.
            unsafe { std::ffi::CStr::from_ptr(main.needed_by) }.to_string_lossy()
        };
        raw::conf_log(cf, raw::Level::Emergency, &format!("\"{by}\" needs \"{missing}\" in the \"http\" block"));
        return Err(());
    }
    // `nginx -s stop` has neither the environment nor an interest in what the document says.
    // SAFETY: a global of nginx, set before the configuration is read.
    if unsafe { nginx_sys::ngx_process } == nginx_sys::NGX_PROCESS_SIGNALLER as usize {
        return Ok(());
    }
    log::name_node(cf);
    // SAFETY: the cycle whose configuration is being read.
    main.cycle = unsafe { (*cf).cycle };
    if let Err(complaint) = admin::check(cf, main) {
        raw::conf_log(cf, raw::Level::Emergency, &complaint);
        return Err(());
    }
    let path = shown(main.document);
    // What the workers have written is read as they could.
    // SAFETY: the cycle is live; where the user is still to be read, it is the master's word that counts.
    let workers = if main.is_api { unsafe { Workers::of(main.cycle) } } else { None };
    let secrets = Recording::of(AsWorkers(workers));
    let document = match read_policy(cf, main, &secrets) {
        Ok(checked) => {
            for warning in &checked.warnings {
                raw::conf_log(cf, raw::Level::Warning, &format!("gateway: {warning}"));
            }
            let (names, zones) =
                (missing_names(main, &checked.document), missing_zones(main, &path, &checked.document));
            for (file, line, text) in &names {
                conf_error_at(cf, *file, *line, text);
            }
            for text in &zones {
                raw::conf_log(cf, raw::Level::Emergency, &format!("gateway: {text}"));
            }
            if !names.is_empty() || !zones.is_empty() {
                return Err(());
            }
            Some(checked.document)
        }
        Err(errors) => {
            let goes_on = main.is_first_start() && main.folder().is_some_and(|folder| folder.holds(LAST_GOOD));
            let level = if goes_on { raw::Level::Error } else { raw::Level::Emergency };
            for line in errors {
                raw::conf_log(cf, level, &format!("gateway: {line}"));
            }
            if !goes_on {
                return Err(());
            }
            None
        }
    };
    let files = secrets.keep(main);
    let taken = Box::into_raw(Box::new(Taken { document, files }));
    main.taken = taken;
    // SAFETY: the pool is the cycle's; the record frees the document with it.
    unsafe {
        let cleanup = nginx_sys::ngx_pool_cleanup_add((*cf).pool, 0);
        if let Some(cleanup) = cleanup.as_mut() {
            cleanup.handler = Some(free_taken);
            cleanup.data = taken.cast();
        }
    }
    Ok(())
}

impl MainConf {
    /// Whether this is the start of nginx: neither a reload nor a test, whose configuration has to be right.
    pub fn is_first_start(&self) -> bool {
        // SAFETY: a cycle that is made has the one before it, whose configuration is null where there was none (what
        // nginx's own macro looks at); a global of nginx.
        unsafe { (*(*self.cycle).old_cycle).conf_ctx.is_null() && nginx_sys::ngx_test_config == 0 }
    }
}

/// The document to begin with: in api mode the last revision, once there is one.
fn read_policy<S: Secrets>(
    cf: *mut ngx_conf_t,
    main: &MainConf,
    secrets: &Recording<S>,
) -> Result<Checked, Vec<String>> {
    let site = main.site();
    if main.is_api
        && let Some(last) = gateway::admin::last_document(&site.state, secrets)?
    {
        for text in last.wrong {
            raw::conf_log(cf, raw::Level::Error, &format!("gateway: {text}"));
        }
        return Ok(last.checked);
    }
    secrets.files.borrow_mut().push(shown(main.document));
    gateway::gateway::read_document_with(&site.document, secrets)
}

/// The zones of routes with `cache` that nginx does not have, a line each.
pub fn missing_zones(main: &MainConf, path: &str, document: &Document) -> Vec<String> {
    let caches = document.routes.iter().filter_map(|route| Some((&route.name, &route.cache.as_ref()?.zone)));
    let missing = caches.filter(|(_, zone)| !has_cache(main, zone));
    let told = missing.map(|(name, zone)| {
        let what = format!("there is no \"proxy_cache_path\" with \"keys_zone={zone}:...\"");
        format!("{path}: route \"{name}\": cache.zone: {what}")
    });
    told.collect()
}

/// Whether one of nginx's modules that pass requests on has a cache in the zone `name`.
fn has_cache(main: &MainConf, name: &str) -> bool {
    const MODULES: [&[u8]; 4] =
        [b"ngx_http_proxy_module", b"ngx_http_fastcgi_module", b"ngx_http_uwsgi_module", b"ngx_http_scgi_module"];
    // SAFETY: the cycle's lists of zones and modules are complete by now; the latter ends in null. A zone's tag is the
    // module that asked for it.
    unsafe {
        let cycle = &*main.cycle;
        let mut part = &raw const cycle.shared_memory.part;
        while let Some(current) = part.as_ref() {
            let zones = current.elts.cast::<ngx_shm_zone_t>();
            for index in 0..current.nelts {
                let zone = &*zones.add(index);
                if bytes(zone.shm.name) != name.as_bytes() {
                    continue;
                }
                let mut modules = cycle.modules;
                while let Some(module) = (*modules).as_ref() {
                    let named =
                        !module.name.is_null() && MODULES.contains(&std::ffi::CStr::from_ptr(module.name).to_bytes());
                    if named && ptr::eq(ptr::from_ref(module).cast::<c_void>(), zone.tag) {
                        return true;
                    }
                    modules = modules.add(1);
                }
            }
            part = current.next;
        }
    }
    false
}

/// Reads secrets as usual and remembers what the document refers to: nginx clears the environment of its workers but
/// for the names on its list, files may be the master's alone, and the leader reads the document again.
pub struct Recording<S> {
    from: S,
    names: RefCell<Vec<String>>,
    files: RefCell<Vec<String>>,
}

impl<S: Secrets> Secrets for Recording<S> {
    fn env(&self, name: &str) -> Option<String> {
        self.names.borrow_mut().push(name.to_owned());
        self.from.env(name)
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        self.files.borrow_mut().push(path.to_owned());
        self.from.file(path)
    }

    fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        self.files.borrow_mut().push(path.to_owned());
        self.from.list(path)
    }
}

impl<S> Recording<S> {
    /// Reads from `from`.
    pub fn of(from: S) -> Self {
        Self { from, names: RefCell::default(), files: RefCell::default() }
    }

    /// Puts the names on nginx's own `env` list, as if the configuration had named them. The files that were read.
    pub fn keep(self, main: &MainConf) -> Vec<String> {
        for name in self.names.into_inner() {
            // SAFETY: the core module's configuration and its list live as long as the cycle, as does the copy.
            unsafe {
                let slot = *(*main.cycle).conf_ctx.add(ngx_core_module.index);
                let Some(core) = slot.cast::<nginx_sys::ngx_core_conf_t>().as_mut() else { break };
                let Some(copy) = raw::copy((*main.cycle).pool, name.as_bytes()) else { break };
                if let Some(entry) = ngx_array_push(&raw mut core.env).cast::<ngx_str_t>().as_mut() {
                    *entry = copy;
                }
            }
        }
        let mut files = self.files.into_inner();
        files.sort_unstable();
        files.dedup();
        files
    }
}

unsafe extern "C" fn free_taken(data: *mut c_void) {
    // SAFETY: `check` made the box and gave it to this record alone.
    drop(unsafe { Box::from_raw(data.cast::<Taken>()) });
}
