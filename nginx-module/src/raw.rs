//! The thin layer between nginx's C structures and ordinary Rust: strings, pools, logs, the fence.
//!
//! ngx-rust hands out `&'static mut` from shared references and fences nothing (NGINX.md h), so what this module
//! touches on the request path goes through the few functions here.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

use nginx_sys::{
    NGX_LOG_ALERT, NGX_LOG_CRIT, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_conf_t, ngx_int_t,
    ngx_list_push, ngx_list_t, ngx_log_error_core, ngx_log_t, ngx_pcalloc, ngx_pnalloc, ngx_pool_t, ngx_str_t,
    ngx_table_elt_t, ngx_uint_t,
};

/// Return codes as nginx's functions give them (`NGX_OK` and so on are i32 in the bindings).
pub mod rc {
    use super::ngx_int_t;
    pub const OK: ngx_int_t = 0;
    pub const ERROR: ngx_int_t = -1;
    pub const AGAIN: ngx_int_t = -2;
    pub const BUSY: ngx_int_t = -3;
    pub const DONE: ngx_int_t = -4;
    pub const DECLINED: ngx_int_t = -5;
}

/// What a directive's handler returns.
pub const CONF_OK: *mut c_char = ptr::null_mut();
pub const CONF_ERROR: *mut c_char = usize::MAX as *mut c_char;
/// nginx names directive, file and line.
pub const DUPLICATE: *mut c_char = c"is duplicate".as_ptr().cast_mut();

#[derive(Clone, Copy)]
pub enum Level {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
}

impl Level {
    const fn number(self) -> ngx_uint_t {
        (match self {
            Self::Emergency => NGX_LOG_EMERG,
            Self::Alert => NGX_LOG_ALERT,
            Self::Critical => NGX_LOG_CRIT,
            Self::Error => NGX_LOG_ERR,
            Self::Warning => NGX_LOG_WARN,
            Self::Notice => NGX_LOG_NOTICE,
        }) as ngx_uint_t
    }
}

/// Writes one line to `log`; control characters are shown as spaces so that nothing can forge a second line.
pub fn log(level: Level, log: *mut ngx_log_t, text: &str) {
    // SAFETY: nginx hands out logs that live as long as their cycle, connection or request; a null one is skipped.
    let enabled = unsafe { log.as_ref() }.is_some_and(|log| log.log_level >= level.number());
    if !enabled {
        return;
    }
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // nginx cuts lines at 2,048 bytes.
    let shown = clean.get(..clean.floor_char_boundary(1_900)).unwrap_or(&clean);
    // SAFETY: `log` is valid (above); the format takes a length and a pointer, which outlive the call.
    unsafe {
        ngx_log_error_core(level.number(), log, 0, c"gateway: %*s".as_ptr(), shown.len(), shown.as_ptr());
    }
}

/// Reports a mistake in the configuration; nginx adds file and line of the directive.
pub fn conf_error(cf: *mut ngx_conf_t, text: &str) -> *mut c_char {
    conf_log(cf, Level::Emergency, text);
    CONF_ERROR
}

pub fn conf_log(cf: *mut ngx_conf_t, level: Level, text: &str) {
    // SAFETY: nginx calls directive handlers with a valid `cf`; the format takes a length and a pointer.
    unsafe {
        nginx_sys::ngx_conf_log_error(level.number(), cf, 0, c"%*s".as_ptr(), text.len(), text.as_ptr());
    }
}

/// Runs `body`; a panic becomes `fallback` and one counted log line instead of the end of the worker.
pub fn fence<T>(place: &'static str, fallback: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(_) => {
            crate::process::panicked(place);
            fallback
        }
    }
}

/// The bytes of an nginx string; nginx strings are not NUL-terminated and may be empty with a null pointer.
///
/// # Safety
///
/// `text` describes readable memory that outlives the borrow which the caller makes of it.
pub unsafe fn bytes<'a>(text: ngx_str_t) -> &'a [u8] {
    if text.data.is_null() || text.len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(text.data, text.len) }
}

/// An nginx string over static memory.
pub const fn text(value: &'static [u8]) -> ngx_str_t {
    ngx_str_t { len: value.len(), data: value.as_ptr().cast_mut() }
}

/// Zeroed memory for one `T` from a pool; null when there is none left.
///
/// # Safety
///
/// `pool` is a live pool, and all-zero bytes are a valid `T`.
pub unsafe fn zeroed<T>(pool: *mut ngx_pool_t) -> *mut T {
    // SAFETY: the caller's promise; nginx aligns to 16 bytes, which covers every type used here.
    unsafe { ngx_pcalloc(pool, size_of::<T>()).cast() }
}

/// A copy of `value` in a pool, with a NUL behind it as nginx's own parser leaves one: what reads headers and names of
/// variables looks there. `None` when there is no memory left.
///
/// # Safety
///
/// `pool` is a live pool and outlives the use of the copy.
pub unsafe fn copy(pool: *mut ngx_pool_t, value: &[u8]) -> Option<ngx_str_t> {
    // SAFETY: the caller's promise.
    let data: *mut u8 = unsafe { ngx_pnalloc(pool, value.len().saturating_add(1)) }.cast();
    if data.is_null() {
        return None;
    }
    // SAFETY: `data` has room for `value` and one byte more, and cannot overlap it, being fresh memory.
    unsafe {
        ptr::copy_nonoverlapping(value.as_ptr(), data, value.len());
        data.add(value.len()).write(0);
    }
    Some(ngx_str_t { len: value.len(), data })
}

/// Pushes one header line with every field set; `ngx_list_push` hands out uninitialised memory (NGINX.md h).
///
/// # Safety
///
/// `list` is a live header list, `key`, `lower` and `value` point into memory that lives as long as it.
pub unsafe fn push_header(
    list: *mut ngx_list_t,
    key: ngx_str_t,
    lower: *mut u8,
    hash: ngx_uint_t,
    value: ngx_str_t,
) -> Option<*mut ngx_table_elt_t> {
    // SAFETY: the caller's promise.
    let element: *mut ngx_table_elt_t = unsafe { ngx_list_push(list) }.cast();
    if element.is_null() {
        return None;
    }
    // SAFETY: the list's elements are header lines; the element is ours alone and large enough; zero first, since
    // newer versions of nginx have a `next` field.
    unsafe {
        ptr::write_bytes(element, 0, 1);
        (*element).hash = hash;
        (*element).key = key;
        (*element).value = value;
        (*element).lowcase_key = lower;
    }
    Some(element)
}

/// The elements of a header list.
///
/// # Safety
///
/// `list` is a live list of header lines that is not changed while the iterator is used.
pub unsafe fn headers<'a>(list: &'a ngx_list_t) -> impl Iterator<Item = &'a ngx_table_elt_t> + 'a {
    let mut part = &raw const list.part;
    let mut index = 0;
    std::iter::from_fn(move || {
        loop {
            // SAFETY: the parts of a live list are linked until null, each with `nelts` elements.
            let current = unsafe { part.as_ref() }?;
            if index < current.nelts {
                // SAFETY: `index` is below `nelts`.
                let element = unsafe { current.elts.cast::<ngx_table_elt_t>().add(index).as_ref() };
                index += 1;
                return element;
            }
            part = current.next;
            index = 0;
        }
    })
}

/// Pointer arithmetic for nginx's configuration slots.
pub fn slot(table: *mut *mut c_void, index: usize) -> *mut c_void {
    if table.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: nginx allocates one slot a module; `index` is a module's `ctx_index`.
    unsafe { *table.add(index) }
}
