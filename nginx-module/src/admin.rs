//! `gateway_admin`: the API in a location. Who asks is looked at here, what is asked is the library's to answer.
//!
//! A call goes through nginx's own reading of bodies, whatever its method, and then either has its answer at once or is
//! carried to the leader ([`carry`](crate::carry)). Nothing that waits is waited for: the request is suspended.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::ptr;

use gateway::admin::{self, Answer, Call, Problem};
use gateway::auth::{Lookup, Operators};
use gateway::types::{Header, Now, Request, SECOND};
use nginx_sys::{
    NGX_PROCESS_SIGNALLER, ngx_command_t, ngx_conf_full_name, ngx_conf_open_file, ngx_conf_t,
    ngx_http_finalize_request, ngx_http_read_client_request_body, ngx_http_request_t, ngx_int_t, ngx_open_file_t,
    ngx_pool_cleanup_add, ngx_process,
};

use crate::conf::{self, LocConf, MainConf, argument, shown};
use crate::process::{cycle_conf, now, with_worker};
use crate::raw::{self, CONF_ERROR, CONF_OK, DUPLICATE, bytes, conf_error, fence, rc};
use crate::view::View;
use crate::{body, carry, reply};

/// What `gateway_admin` says of its location.
pub struct Admin {
    operators: Operators,
    /// The location's name without a slash at the end: what stands before `/v1/`.
    prefix: String,
}

thread_local! {
    /// Refusals that were not written to the audit log, and the second of the last one that was.
    static UNSAID: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

pub unsafe extern "C" fn set(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_admin", CONF_ERROR, || {
        conf::need(cf, c"gateway_admin");
        // SAFETY: nginx hands over this module's location configuration.
        let Some(location) = (unsafe { conf.cast::<LocConf>().as_mut() }) else { return CONF_ERROR };
        if !location.admin.is_null() {
            return DUPLICATE;
        }
        let word = shown(argument(cf, 1));
        let Some(path) = word.strip_prefix("token_file=").filter(|path| !path.is_empty()) else {
            let text = format!("invalid parameter \"{word}\" of \"gateway_admin\": it must be \"token_file=PATH\"");
            return conf_error(cf, &text);
        };
        if let Some(main) = conf::main_conf(cf) {
            main.admin = true;
        }
        let placed = conf::set_content(cf, handler);
        if placed != CONF_OK {
            return placed;
        }
        // A document may be larger than nginx lets in by itself.
        if conf::parse_lines(cf, &format!("client_max_body_size {};", admin::BODY_MAX)) != CONF_OK {
            return conf_error(
                cf,
                "\"gateway_admin\" sets \"client_max_body_size\" itself: leave it out of this location",
            );
        }
        // SAFETY: a global of nginx, set before the configuration is read.
        if unsafe { ngx_process } == NGX_PROCESS_SIGNALLER as usize {
            return CONF_OK;
        }
        match read(cf, path) {
            Ok(operators) => {
                let name = conf::location_name(cf);
                let prefix = name.trim_end_matches('/').to_owned();
                location.admin = keep(cf, Admin { operators, prefix });
                if location.admin.is_null() { CONF_ERROR } else { CONF_OK }
            }
            Err(error) => conf_error(cf, &format!("\"gateway_admin\": {error}")),
        }
    })
}

/// The tokens in the file at `path`, which is relative to the folder of nginx.conf.
fn read(cf: *mut ngx_conf_t, path: &str) -> Result<Operators, String> {
    // SAFETY: the copy lives in the cycle's pool.
    let path = unsafe {
        let mut name = raw::copy((*cf).pool, path.as_bytes()).ok_or("no memory")?;
        if ngx_conf_full_name((*cf).cycle, &raw mut name, 1) != rc::OK {
            return Err("no memory".to_owned());
        }
        shown(name)
    };
    let meta = std::fs::metadata(&path).map_err(|error| format!("{path}: {error}"))?;
    if !meta.is_file() {
        return Err(format!("{path} is no file"));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(format!(
            "{path} has mode {mode:04o}, so that anybody on this machine can use it: \"chmod 0600\" it"
        ));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Operators::parse(&text).map_err(|error| format!("{path}: {error}"))
}

/// Has `value` live as long as the cycle; null when there is no memory.
fn keep(cf: *mut ngx_conf_t, value: Admin) -> *mut Admin {
    let value = Box::into_raw(Box::new(value));
    // SAFETY: the pool is the cycle's; the record frees what it was given, once.
    unsafe {
        match ngx_pool_cleanup_add((*cf).pool, 0).as_mut() {
            Some(cleanup) => {
                cleanup.handler = Some(free);
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

unsafe extern "C" fn free(data: *mut c_void) {
    // SAFETY: `keep` made the box and gave it to this record alone.
    drop(unsafe { Box::from_raw(data.cast::<Admin>()) });
}

/// What the directive needs beside itself, once the whole file is read.
pub fn check(cf: *mut ngx_conf_t, main: &mut MainConf) -> Result<(), String> {
    if main.is_api && main.state.len == 0 {
        return Err("\"gateway_config … mode=api\" needs \"gateway_state\" in the \"http\" block".to_owned());
    }
    if !main.admin {
        return Ok(());
    }
    if main.state.len == 0 {
        return Err("\"gateway_admin\" needs \"gateway_state\" in the \"http\" block".to_owned());
    }
    carry::check(&main.site().state)?;
    // SAFETY: globals of nginx, set before the configuration is read.
    if unsafe { nginx_sys::ngx_test_config == 1 || ngx_process == NGX_PROCESS_SIGNALLER as usize } {
        return Ok(());
    }
    let name = format!("{}/audit.log", shown(main.state));
    // SAFETY: the name lives in the cycle's pool; nginx opens the file with its others, and reopens it with them.
    unsafe {
        let mut name = raw::copy((*cf).pool, name.as_bytes()).ok_or("no memory")?;
        main.audit = ngx_conf_open_file((*cf).cycle, &raw mut name);
    }
    if main.audit.is_null() { Err("no memory".to_owned()) } else { Ok(()) }
}

unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    fence("admin", 500, || {
        // SAFETY: nginx calls content handlers with a live request.
        unsafe {
            if !ptr::eq(r, (*r).main) {
                return 403;
            }
            let now = now();
            let Some((mut call, client, admin)) = head(r) else { return 500 };
            if let Err(answer) = admit(r, &mut call, client, admin, now) {
                // Else nginx would ask a client that waits for 100 Continue to send what is thrown away.
                (*r).set_expect_tested(1);
                let discarded = nginx_sys::ngx_http_discard_request_body(r);
                if discarded != rc::OK {
                    return discarded;
                }
                refused(&call, &answer, now);
                return write(r, &answer);
            }
            (*r).set_request_body_in_single_buf(1);
            let rc = ngx_http_read_client_request_body(r, Some(arrived));
            if rc >= 300 { rc } else { rc::DONE }
        }
    })
}

/// The call without its body; the path is from the location's name on.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn head<'a>(r: *mut ngx_http_request_t) -> Option<(Call, IpAddr, &'a Admin)> {
    // SAFETY: the caller's promise; the configuration lives as long as the cycle.
    unsafe {
        let admin = conf::loc_conf(r)?.admin.as_ref()?;
        let view = View::new(r);
        let target = reply::lossy((*r).unparsed_uri);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path = path.strip_prefix(&admin.prefix).filter(|rest| rest.starts_with("/v1/")).unwrap_or(path);
        let text = |name: &[u8]| view.header(name).one().map(|value| String::from_utf8_lossy(value).into_owned());
        let client = view.client();
        let call = Call {
            method: reply::lossy((*r).method_name),
            path: path.to_owned(),
            query: query.to_owned(),
            if_match: text(b"if-match"),
            if_none_match: text(b"if-none-match"),
            content_type: text(b"content-type").unwrap_or_default(),
            from: client.to_string(),
            ..Call::default()
        };
        Some((call, client, admin))
    }
}

/// The token that `r` shows.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn token<T>(r: *mut ngx_http_request_t, take: impl FnOnce(Option<&[u8]>) -> T) -> T {
    // SAFETY: the caller's promise.
    let view = unsafe { View::new(r) };
    match view.header(b"authorization") {
        Header::One(value) => match gateway::auth::bearer(value) {
            Lookup::Found(token) => take(Some(token)),
            // Something was tried.
            Lookup::Malformed => take(Some(b"")),
            Lookup::Absent => take(None),
        },
        Header::Absent => take(None),
        Header::Many => take(Some(b"")),
    }
}

/// Looks whose token it is; else the refusal.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn admit(
    r: *mut ngx_http_request_t,
    call: &mut Call,
    client: IpAddr,
    admin: &Admin,
    now: Now,
) -> Result<(), Answer> {
    let late = |wait: u64| {
        let mut answer = Problem::Throttled.because("too many wrong tokens from this address: no token is looked at");
        answer.header("Retry-After", &wait.div_ceil(SECOND).max(1).to_string());
        answer
    };
    match with_worker(|worker| worker.may_guess(client, now)) {
        None => return Err(Problem::Internal.because("this process has no place in the zone")),
        Some(Err(wait)) => return Err(late(wait)),
        Some(Ok(())) => {}
    }
    // SAFETY: the caller's promise.
    let found = unsafe { token(r, |token| token.map(|token| admin.operators.find(token).map(str::to_owned))) };
    match found {
        Some(Some(name)) => {
            call.who = name;
            Ok(())
        }
        // Who shows nothing guesses nothing.
        None => Err(Problem::Token.because("a token is needed: `Authorization: Bearer TOKEN`")),
        Some(None) => match with_worker(|worker| worker.guessed_wrong(client, now)) {
            Some(true) => Err(Problem::Token.because("this token is not among those of \"gateway_admin\"")),
            _ => Err(late(SECOND)),
        },
    }
}

/// The body is there.
unsafe extern "C" fn arrived(r: *mut ngx_http_request_t) {
    fence("admin body", (), || {
        // SAFETY: nginx calls this with the request whose body was read, which it holds on this account.
        unsafe {
            let Some((mut call, _, admin)) = head(r) else { return ngx_http_finalize_request(r, 500) };
            call.who =
                token(r, |token| token.and_then(|token| admin.operators.find(token)).unwrap_or_default().to_owned());
            match body::whole(r) {
                Some(body) => call.body = body,
                None => return finish(r, &call, &Problem::Internal.because("the body cannot be read")),
            }
            let now = now();
            let Some(site) = cycle_conf(nginx_sys::ngx_cycle).map(MainConf::site) else {
                return ngx_http_finalize_request(r, 500);
            };
            match with_worker(|worker| admin::here(&call, &site, worker, now)) {
                None => finish(r, &call, &Problem::Internal.because("this process has no place in the zone")),
                Some(Some(answer)) => finish(r, &call, &answer),
                Some(None) => carry::send(r, call, site.state),
            }
        }
    });
}

/// Ends `r` with an answer of this process's own.
///
/// # Safety
///
/// `r` is a live request that is held for this call; the caller does not touch it afterwards.
pub unsafe fn finish(r: *mut ngx_http_request_t, call: &Call, answer: &Answer) {
    audit(admin::line(call, answer, now()));
    // SAFETY: the caller's promise.
    unsafe { end(r, answer) }
}

/// Ends `r` with `answer`, of which somebody else has kept account.
///
/// # Safety
///
/// As [`finish`].
pub unsafe fn end(r: *mut ngx_http_request_t, answer: &Answer) {
    // SAFETY: the caller's promise.
    unsafe {
        let rc = write(r, answer);
        ngx_http_finalize_request(r, rc);
    }
}

/// # Safety
///
/// `r` is a live request whose header was not sent yet.
unsafe fn write(r: *mut ngx_http_request_t, answer: &Answer) -> ngx_int_t {
    // SAFETY: the caller's promise; the copies live as long as the request.
    unsafe {
        let Some(kind) = raw::copy((*r).pool, answer.content_type.as_bytes()) else { return 500 };
        let mut ok = add(r, "Cache-Control", "no-store");
        for (name, value) in &answer.headers {
            ok &= add(r, name, value);
        }
        if !ok {
            return 500;
        }
        // Conditions were looked at, on what was there before the call and not on the answer to it.
        (*r).set_disable_not_modified(1);
        reply::send(r, answer.status, kind, &answer.body)
    }
}

/// # Safety
///
/// `r` is a live request whose header was not sent yet.
unsafe fn add(r: *mut ngx_http_request_t, name: &str, value: &str) -> bool {
    // SAFETY: the caller's promise; the copies live as long as the request.
    unsafe {
        let (Some(key), Some(value)) = (raw::copy((*r).pool, name.as_bytes()), raw::copy((*r).pool, value.as_bytes()))
        else {
            return false;
        };
        raw::push_header(&raw mut (*r).headers_out.headers, key, ptr::null_mut(), 1, value).is_some()
    }
}

/// Writes a line for a call that was not let in. Throttled ones get one a second, which says how many others there were.
fn refused(call: &Call, answer: &Answer, now: Now) {
    let (unsaid, last) = UNSAID.get();
    if answer.status == 429 && now.wall / SECOND == last {
        return UNSAID.set((unsaid + 1, last));
    }
    UNSAID.set((0, if answer.status == 429 { now.wall / SECOND } else { last }));
    audit(Some(admin::refused(call, answer, now, unsaid)));
}

/// Appends a line to the audit log, with one write.
pub fn audit(line: Option<String>) {
    let Some(line) = line else { return };
    // SAFETY: the cycle and its open files live as long as the process; the line is readable memory.
    unsafe {
        let Some(file) = cycle_conf(nginx_sys::ngx_cycle).and_then(|main| main.audit.as_ref()) else {
            return;
        };
        let written = libc::write(file.fd, line.as_ptr().cast(), line.len());
        if written != line.len() as isize {
            let text = format!("the audit log cannot be written: {}", std::io::Error::last_os_error());
            raw::log(raw::Level::Alert, (*nginx_sys::ngx_cycle).log, &text);
        }
    }
}

impl MainConf {
    /// What the admin API has to know.
    pub fn site(&self) -> admin::Site {
        // SAFETY: the names live as long as the cycle.
        let path = |text| Path::new(std::ffi::OsStr::new(&*String::from_utf8_lossy(unsafe { bytes(text) }))).to_owned();
        let mode = if self.is_api { admin::Mode::Api } else { admin::Mode::File };
        admin::Site { mode, document: path(self.document), state: path(self.state) }
    }
}

/// The audit log as nginx opened it.
pub type Audit = *mut ngx_open_file_t;
