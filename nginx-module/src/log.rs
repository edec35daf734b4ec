//! `gateway_log`: a line of JSON for each request, into a file that nginx opens and reopens like any log.
//!
//! A worker copies its lines into the log's own shared zone and goes on (`state::tables::lines`); the process that leads
//! writes them to the file, every [`EVERY`] milliseconds, on behalf of all. A disk that hangs or is full holds up that
//! process alone: the zone fills, and what finds no room there is dropped and counted.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64};

use gateway::log::redact::Redact;
use gateway::log::trace::Trace;
use gateway::log::{Record, TRIES_MAX, Try};
use gateway::state::Region;
use gateway::state::tables::lines::{Lines, Taken};
use nginx_sys::{
    ngx_add_timer, ngx_cached_time, ngx_command_t, ngx_conf_full_name, ngx_conf_open_file, ngx_conf_t, ngx_cycle,
    ngx_event_t, ngx_http_request_t, ngx_http_upstream_state_t, ngx_int_t, ngx_log_t, ngx_msec_t, ngx_open_file_t,
    ngx_parse_size, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_pool_t, ngx_str_t,
};

use crate::conf::{MainConf, argument, arguments, main_conf, need, shown};
use crate::context::Context;
use crate::process::{self, now, with_worker};
use crate::raw::{self, CONF_ERROR, CONF_OK, DUPLICATE, Level, bytes, conf_error, fence, rc, text};
use crate::view::View;
use crate::{access, cache, ngx_http_gateway_module};
use gateway::types::{Header, Request};

/// How often lines are written, milliseconds.
const EVERY: ngx_msec_t = 20;
/// How long a process that ends waits until its lines are written, in steps of 10 ms.
const LAST_STEPS: u32 = 50;
/// So much is written at a time, bytes.
const PIECE: usize = 1 << 20;
/// Room for lines on their way, where `buffer` does not say.
const BUFFER: usize = 32 << 20;
/// Below this not every worker that a region may have finds room, bytes: nginx takes a little for itself.
const BUFFER_MIN: usize = 9 << 20;
/// How often a disk that takes nothing is complained of, microseconds.
const COMPLAIN: u64 = 60_000_000;

/// The log, where nginx.conf has one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sink {
    /// The file; null without a log.
    file: *mut ngx_open_file_t,
    zone: *mut ngx_shm_zone_t,
    /// Also requests that the gateway did not decide on.
    all: bool,
    /// Values of all query parameters are hidden; `hidden` names some.
    hides_all: bool,
    /// Names with commas between them.
    hidden: ngx_str_t,
}

impl Sink {
    pub fn is_on(&self) -> bool {
        !self.file.is_null()
    }

    fn redact(&self) -> Redact {
        // SAFETY: the argument of a directive, which lives as long as the cycle.
        let names = unsafe { bytes(self.hidden) }.split(|byte| *byte == b',').filter(|name| !name.is_empty());
        Redact { all: self.hides_all, names: names.map(|name| name.to_ascii_lowercase().into()).collect() }
    }
}

pub unsafe extern "C" fn set(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_log", CONF_ERROR, || {
        need(cf, c"gateway_log");
        // SAFETY: nginx hands over this module's main configuration.
        let Some(main) = (unsafe { conf.cast::<MainConf>().as_mut() }) else { return CONF_ERROR };
        if main.log.is_on() {
            return DUPLICATE;
        }
        let mut path = argument(cf, 1);
        let name = shown(path);
        if name.contains("://") || name.starts_with("syslog:") || name.contains('$') {
            return conf_error(cf, &format!("\"gateway_log\" writes to a file, and \"{name}\" is the name of none"));
        }
        let mut size = BUFFER;
        for word in arguments(cf).iter().skip(2).copied() {
            let said = shown(word);
            match said.split_once('=') {
                None if said == "all" => main.log.all = true,
                Some(("buffer", value)) => {
                    let mut given = ngx_str_t { len: value.len(), ..word };
                    // SAFETY: the value is the end of the word.
                    given.data = unsafe { word.data.add(word.len - value.len()) };
                    // SAFETY: a valid string.
                    let bytes = unsafe { ngx_parse_size(&raw mut given) };
                    size = usize::try_from(bytes).unwrap_or(0);
                    if size < BUFFER_MIN {
                        let text =
                            format!("invalid \"{said}\" of \"gateway_log\": a size of at least {}m", BUFFER_MIN >> 20);
                        return conf_error(cf, &text);
                    }
                }
                Some(("redact", "all")) => main.log.hides_all = true,
                Some(("redact", value)) if !value.is_empty() => {
                    main.log.hidden = ngx_str_t { len: value.len(), ..word };
                    // SAFETY: as above.
                    main.log.hidden.data = unsafe { word.data.add(word.len - value.len()) };
                }
                _ => {
                    let text = "it takes \"all\", \"buffer=SIZE\" and \"redact=NAME,...\" or \"redact=all\"";
                    return conf_error(cf, &format!("invalid \"{said}\" of \"gateway_log\": {text}"));
                }
            }
        }
        // SAFETY: `path` is valid; relative names begin at the prefix, as those of nginx's own logs do.
        unsafe {
            if path.len == 0 || ngx_conf_full_name((*cf).cycle, &raw mut path, 0) != rc::OK {
                return conf_error(cf, "\"gateway_log\" needs a path");
            }
            main.log.file = ngx_conf_open_file((*cf).cycle, &raw mut path);
            let mut name = text(b"gateway_log");
            main.log.zone = ngx_shared_memory_add(cf, &raw mut name, size, (&raw mut ngx_http_gateway_module).cast());
            let Some(zone) = main.log.zone.as_mut() else { return CONF_ERROR };
            zone.init = Some(init);
        }
        if main.log.file.is_null() { CONF_ERROR } else { CONF_OK }
    })
}

/// What the slab pool's `data` points at.
#[repr(C)]
struct Block {
    words: *const AtomicU64,
    count: usize,
}

unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, old: *mut c_void) -> ngx_int_t {
    fence("log zone init", rc::ERROR, || {
        if !old.is_null() {
            return rc::OK;
        }
        // SAFETY: a zone begins with nginx's slab pool, and a fresh one is zero beyond. The small block takes its page
        // first, then the large one all whole pages that are left.
        unsafe {
            (*zone).data = zone.cast();
            let pool = (*zone).shm.addr.cast::<ngx_slab_pool_t>();
            if !(*pool).data.is_null() {
                return rc::OK;
            }
            let block: *mut Block = ngx_slab_alloc(pool, size_of::<Block>()).cast();
            let Some(block) = block.as_mut() else { return rc::ERROR };
            let size = (*pool).pfree * nginx_sys::ngx_pagesize;
            let words = ngx_slab_alloc(pool, size).cast::<AtomicU64>();
            if words.is_null() {
                return rc::ERROR;
            }
            *block = Block { words, count: size / 8 };
            (*pool).data = ptr::from_mut(block).cast();
        }
        rc::OK
    })
}

/// The lines of the zone.
fn lines(sink: &Sink, region: Region) -> Option<Lines<'static>> {
    // SAFETY: `init` ran in the master; the zone stays mapped as long as the process lives, and its words are used as
    // atomics alone.
    unsafe {
        let pool = sink.zone.as_ref()?.shm.addr.cast::<ngx_slab_pool_t>().as_ref()?;
        let block = pool.data.cast::<Block>().as_ref()?;
        Lines::new(std::slice::from_raw_parts(block.words, block.count), region.workers() as usize)
    }
}

/// Has this process's worker write to the log.
pub fn join(main: &MainConf, region: Region) {
    if main.log.is_on()
        && let Some(lines) = lines(&main.log, region)
    {
        with_worker(|worker| worker.log_to(lines, main.log.redact()));
    }
}

/// The line of a request that has just ended; `context` is its record, where it has one.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn request(r: *mut ngx_http_request_t, context: Option<&mut Context>, main: &MainConf) {
    let is_ours = context.as_ref().is_some_and(|context| !context.ticket.decision().is_empty());
    // SAFETY: the caller's promise.
    if !is_ours && !main.log.all || !ptr::eq(r, unsafe { (*r).main }) {
        return;
    }
    // SAFETY: the caller's promise; what is borrowed lives as long as the request, its connection or the cycle.
    unsafe {
        let mut tries = [Try::default(); TRIES_MAX];
        let count = tries_of(r, &mut tries);
        let headers = &(*r).headers_in;
        let value = |line: *mut nginx_sys::ngx_table_elt_t| line.as_ref().map_or(&[][..], |line| bytes(line.value));
        let target = bytes((*r).unparsed_uri);
        let (uri, args) = match target.iter().position(|byte| *byte == b'?') {
            Some(mark) => (target.get(..mark).unwrap_or_default(), target.get(mark + 1..).unwrap_or_default()),
            None => (target, &[][..]),
        };
        let host = value(headers.host);
        let trace = match context.as_ref().and_then(|context| context.trace) {
            Some(trace) => Some(trace),
            None => match View::new(r).header(b"traceparent") {
                Header::One(value) => Trace::parse(value),
                _ => None,
            },
        };
        let mut shown_trace = [0_u8; gateway::log::trace::LENGTH];
        if let Some(trace) = trace {
            shown_trace = trace.write();
        }
        let part = |from: usize, to: usize| match trace {
            Some(_) => shown_trace.get(from..to).unwrap_or_default(),
            None => &[],
        };
        let time = ngx_cached_time.as_ref().map_or((0, 0), |time| (time.sec, time.msec as i64));
        let took = (time.0 - (*r).start_sec) * 1_000 + (time.1 - (*r).start_msec as i64);
        let record = Record {
            wall: now().wall,
            method: bytes((*r).method_name),
            uri,
            args,
            host: if host.is_empty() { bytes(headers.server) } else { host },
            client_ip: bytes((*(*r).connection).addr_text),
            user_agent: value(headers.user_agent),
            referer: value(headers.referer),
            status: access::status(r),
            bytes_sent: u64::try_from((*(*r).connection).sent).unwrap_or(0),
            request_time: u64::try_from(took).unwrap_or(0),
            tries: tries.get(..count).unwrap_or_default(),
            cache_status: cache::status(r),
            trace_id: part(3, 35),
            span_id: part(36, 52),
            node: bytes(main.node),
            ..Record::default()
        };
        with_worker(|worker| {
            let Some(context) = context.filter(|_| is_ours) else { return worker.log(&record) };
            let breaker = worker.breaker_state(&context.ticket, process::recent());
            let ticket = &context.ticket;
            worker.log(&Record {
                request_id: bytes(context.request_id),
                user_id: bytes(context.user),
                route: ticket.route_name(),
                upstream: ticket.upstream_name(),
                consumer: ticket.consumer(),
                variant: ticket.variant(),
                decision: ticket.decision(),
                reason: ticket.reason(),
                limit: ticket.limit_status(),
                breaker,
                gateway_time: Some(context.spent),
                ..record
            })
        });
    }
}

/// Writes the tries of `r` into `place`, and says how many there are.
///
/// # Safety
///
/// `r` is a live request.
unsafe fn tries_of(r: *mut ngx_http_request_t, place: &mut [Try<'_>; TRIES_MAX]) -> usize {
    // SAFETY: the caller's promise; the states are the request's.
    unsafe {
        let Some(states) = (*r).upstream_states.as_ref() else { return 0 };
        let states = std::slice::from_raw_parts(states.elts.cast::<ngx_http_upstream_state_t>(), states.nelts);
        let mut count = 0;
        // What has no peer stands between the tries of one upstream and those of the next.
        for (place, (state, peer)) in
            place.iter_mut().zip(states.iter().filter_map(|state| Some((state, state.peer.as_ref()?))))
        {
            let answered = state.response_time != ngx_msec_t::MAX;
            *place = Try {
                address: bytes(*peer),
                status: u16::try_from(state.status).unwrap_or(0),
                time: answered.then_some(state.response_time as u64),
            };
            count += 1;
        }
        count
    }
}

/// What writes lines to the file.
struct Writer {
    lines: Lines<'static>,
    /// What is being written, and how far that has come.
    piece: Vec<u8>,
    at: usize,
    /// Whose lines those are.
    taken: Vec<Taken>,
    /// The descriptor that it was begun with.
    fd: i32,
    /// When the disk was last complained of.
    complained: u64,
}

thread_local! {
    static WRITER: RefCell<Option<Writer>> = const { RefCell::new(None) };
}

/// The event of the next writing.
static DRAIN: AtomicPtr<ngx_event_t> = AtomicPtr::new(ptr::null_mut());

/// This process leads: it writes the lines of all from now on.
pub fn begin(main: &MainConf, region: Region) {
    if !main.log.is_on() {
        return;
    }
    let Some(lines) = lines(&main.log, region) else { return };
    let started = WRITER.with(|cell| {
        let Ok(mut writer) = cell.try_borrow_mut() else { return false };
        let is_new = writer.is_none();
        writer.get_or_insert_with(|| Writer::new(lines));
        is_new
    });
    if started {
        process::tick(&DRAIN, EVERY, drain);
    }
}

unsafe extern "C" fn drain(event: *mut ngx_event_t) {
    fence("log", (), || {
        WRITER.with(|cell| {
            // SAFETY: the current cycle is live.
            let (Some(main), log) = (unsafe { (process::main_conf(), (*ngx_cycle).log) }) else { return };
            if let Ok(mut writer) = cell.try_borrow_mut()
                && let Some(writer) = writer.as_mut()
            {
                writer.run(&main.log, log);
            }
        });
        if !process::is_ending() {
            // SAFETY: the event is ours and has just fired.
            unsafe { ngx_add_timer(event, EVERY) };
        }
    });
}

/// The process ends. Its lines are written by who leads; where nobody does any more, as all processes end, by itself.
pub fn end(main: &MainConf, region: Region, slot: Option<u32>) {
    if !main.log.is_on() {
        return;
    }
    // SAFETY: the current cycle is live.
    let log = unsafe { (*ngx_cycle).log };
    for step in 0..LAST_STEPS {
        let written = process::lead_at_last(region, || {
            WRITER.with(|cell| {
                if let Ok(mut writer) = cell.try_borrow_mut() {
                    let lines = lines(&main.log, region);
                    let writer = writer.take().or_else(|| Some(Writer::new(lines?)));
                    writer.into_iter().for_each(|mut writer| writer.run(&main.log, log));
                }
            });
        });
        if written {
            return;
        }
        let Some((lines, slot)) = lines(&main.log, region).zip(slot) else { return };
        if lines.is_empty(slot) {
            return;
        }
        if step + 1 < LAST_STEPS {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Writer {
    const fn new(lines: Lines<'static>) -> Self {
        Self { lines, piece: Vec::new(), at: 0, taken: Vec::new(), fd: -1, complained: 0 }
    }

    /// Writes what there is.
    fn run(&mut self, sink: &Sink, log: *mut ngx_log_t) {
        // SAFETY: the file lives as long as the cycle; nginx puts another descriptor there when it reopens its logs.
        let fd = unsafe { sink.file.as_ref() }.map_or(-1, |file| file.fd);
        if fd < 0 {
            return;
        }
        if fd != self.fd {
            // What the old file got of a line is a piece of it; the new one gets it whole.
            let begun = self.piece.get(..self.at).unwrap_or_default();
            self.at = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            self.fd = fd;
        }
        loop {
            if self.piece.is_empty() {
                self.gather();
            }
            if self.piece.is_empty() {
                return;
            }
            // SAFETY: an open descriptor that nginx owns, and that is not closed here.
            let mut file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
            while let Some(rest) = self.piece.get(self.at..).filter(|rest| !rest.is_empty()) {
                match file.write(rest) {
                    Ok(written) if written > 0 => self.at += written,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    other => {
                        let now = now().mono;
                        if now.saturating_sub(self.complained) >= COMPLAIN || self.complained == 0 {
                            self.complained = now.max(1);
                            let why =
                                other.err().map_or_else(|| "nothing is written".to_owned(), |error| error.to_string());
                            raw::log(
                                Level::Alert,
                                log,
                                &format!("\"gateway_log\": {why}; lines are dropped once there is no room for them"),
                            );
                        }
                        return;
                    }
                }
            }
            self.piece.clear();
            self.at = 0;
            for taken in self.taken.drain(..) {
                self.lines.done(taken);
            }
            self.complained = 0;
        }
    }

    /// Takes lines out of the zone.
    fn gather(&mut self) {
        self.taken = self.lines.take(&mut self.piece, PIECE);
    }
}

/// `gateway_node NAME`: what this machine is called.
pub unsafe extern "C" fn set_node(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_node", CONF_ERROR, || {
        // SAFETY: nginx hands over this module's main configuration.
        let Some(main) = (unsafe { conf.cast::<MainConf>().as_mut() }) else { return CONF_ERROR };
        if main.node.len != 0 {
            return DUPLICATE;
        }
        let name = argument(cf, 1);
        let said = shown(name);
        if !is_node(said.as_bytes()) {
            let text = "1 to 128 letters, digits, \".\", \"_\" and \"-\"";
            return conf_error(cf, &format!("invalid name \"{said}\" in \"gateway_node\": {text}"));
        }
        main.node = name;
        CONF_OK
    })
}

fn is_node(name: &[u8]) -> bool {
    (1..=128).contains(&name.len()) && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// Gives this machine a name where nginx.conf has none: `GATEWAY_NODE_ID` of the environment, else the host's.
pub fn name_node(cf: *mut ngx_conf_t) {
    let Some(main) = main_conf(cf).filter(|main| main.node.len == 0) else { return };
    let given = std::env::var("GATEWAY_NODE_ID").ok().filter(|name| is_node(name.as_bytes()));
    // SAFETY: nginx writes the host's name when the configuration begins to be read; the copy lives as long as the cycle.
    unsafe {
        let host = (*(*cf).cycle).hostname;
        let name = given.as_ref().map_or(bytes(host), |name| name.as_bytes());
        main.node = raw::copy((*cf).pool, name).unwrap_or(host);
    }
}
