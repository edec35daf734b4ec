//! What a process has: its worker, its clock, the leader's tick.
//!
//! A worker's state hangs in one cell that is filled after the fork. nginx calls us on one thread and our calls into
//! the library are pure, so the cell is never entered twice at once: nothing inside [`with_worker`] calls nginx.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use gateway::admin::Desk;
use gateway::config::SystemSecrets;
use gateway::gateway::{Event, Leader, Severity, Worker};
use gateway::state::{Identity, Region};
use gateway::types::Now;
use nginx_sys::{
    NGX_PROCESS_HELPER, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_add_timer, ngx_cached_time, ngx_current_msec,
    ngx_cycle, ngx_cycle_t, ngx_event_t, ngx_exiting, ngx_int_t, ngx_msec_t, ngx_path_t, ngx_process, ngx_quit,
    ngx_terminate,
};

use crate::conf::{Claim, MainConf};
use crate::raw::{self, Level, fence, rc};
use crate::{log, ngx_http_gateway_module, zone};

/// How often the leader looks at the document and rebuilds the pick tables, milliseconds.
const LEAD_EVERY: ngx_msec_t = 250;
/// How often a worker looks whether there is a leader at all, milliseconds.
const WATCH_EVERY: ngx_msec_t = 1_000;

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    static LEADER: RefCell<Option<(Leader, Desk)>> = const { RefCell::new(None) };
    static LAST: Cell<(ngx_msec_t, Now)> = const { Cell::new((0, Now { mono: 0, wall: 0 })) };
    /// The claims that variables name, and whether one says what our decisions cost.
    static USED: Cell<(*const Claim, bool)> = const { Cell::new((ptr::null(), false)) };
    static REGION: Cell<Option<Region>> = const { Cell::new(None) };
    /// This module's configuration, where there is a log.
    static LOGS: Cell<*const MainConf> = const { Cell::new(ptr::null()) };
    /// The region and the worker slot in which this process counts.
    static PLACE: Cell<Option<(Region, u32)>> = const { Cell::new(None) };
}

/// Calls the library on behalf of this process. `None` before the fork, in processes that serve nobody, and should it
/// ever be entered twice.
pub fn with_worker<T>(body: impl FnOnce(&mut Worker) -> T) -> Option<T> {
    WORKER.with(|cell| cell.try_borrow_mut().ok().and_then(|mut worker| worker.as_mut().map(body)))
}

/// Both clocks. nginx's own time is cached, in milliseconds, and lags under load (NGINX.md k8), so limits and
/// latencies read the monotonic clock; the wall clock only has to be right to a second.
pub fn now() -> Now {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let mono = time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000;
    // SAFETY: nginx sets the pointer at start, before any module runs.
    let wall = unsafe { ngx_cached_time.as_ref() }
        .map_or(0, |time| time.sec.cast_unsigned() * 1_000_000 + time.msec as u64 * 1_000);
    let now = Now { mono, wall };
    // SAFETY: a global of nginx.
    LAST.set((unsafe { ngx_current_msec }, now));
    now
}

/// The time of the last [`now`] where that was within the same millisecond: the callbacks of one step of a request
/// come one after another, and need not all ask the kernel.
pub fn recent() -> Now {
    let (msec, last) = LAST.get();
    // SAFETY: a global of nginx.
    if msec == unsafe { ngx_current_msec } && last.mono != 0 { last } else { now() }
}

/// The claims that variables of nginx.conf name.
pub fn claims() -> impl Iterator<Item = &'static Claim> {
    let mut next = USED.get().0;
    std::iter::from_fn(move || {
        // SAFETY: the records live as long as the cycle, and so as long as this process serves anybody.
        let claim = unsafe { next.as_ref() }?;
        next = claim.next;
        Some(claim)
    })
}

/// This module's configuration, where there is a log.
pub fn logs() -> Option<&'static MainConf> {
    // SAFETY: null or the cycle's, which lives as long as this process serves anybody.
    unsafe { LOGS.get().as_ref() }
}

/// Whether a variable or the log says what our decisions cost.
pub fn is_timed() -> bool {
    USED.get().1
}

/// A secret for keyed hashes, from the kernel.
pub fn secret() -> [u64; 2] {
    let mut secret = [0u64; 2];
    // SAFETY: 16 writable bytes. Before the kernel's pool is ready the call blocks, which at start is what we want.
    unsafe { libc::getrandom(secret.as_mut_ptr().cast(), 16, 0) };
    secret
}

/// Counts a fenced panic and says where it was; called with the panic already caught.
pub fn panicked(place: &str) {
    if let Some((region, slot)) = PLACE.get() {
        gateway::gateway::count_panic(region, slot);
    }
    // SAFETY: nginx's current cycle has a log as long as the process lives.
    let log = unsafe { ngx_cycle.as_ref() }.map_or(ptr::null_mut(), |cycle| cycle.log);
    raw::log(Level::Alert, log, &format!("panic in {place}; only the request at hand is affected"));
}

/// Set in every worker after the fork.
pub unsafe extern "C" fn init(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    fence("init process", rc::ERROR, || {
        // The default hook prints several raw lines to stderr, which is the error log.
        std::panic::set_hook(Box::new(|info| {
            // Other threads keep away from nginx's log; whoever waits for them tells.
            if std::thread::current().name() == Some(crate::ask::THREAD) {
                return;
            }
            // SAFETY: as in `panicked`.
            let log = unsafe { ngx_cycle.as_ref() }.map_or(ptr::null_mut(), |cycle| cycle.log);
            raw::log(Level::Alert, log, &info.to_string());
        }));
        // SAFETY: nginx passes the live cycle.
        let Some(main) = (unsafe { cycle_conf(cycle) }) else { return rc::OK };
        if main.zone.is_null() {
            return rc::OK;
        }
        // SAFETY: nginx's log of this cycle.
        let log = unsafe { (*cycle).log };
        let Some(region) = zone::region(main.zone) else {
            raw::log(Level::Emergency, log, "the region cannot be read");
            return rc::ERROR;
        };
        REGION.set(Some(region));
        if main.zone_file.len != 0 {
            // SAFETY: a global of nginx, set before modules are initialised; asks who the parent is.
            let master = match unsafe { (ngx_process, libc::getppid()) } {
                (process, _) if process == NGX_PROCESS_SINGLE as usize => Identity::current(),
                (_, parent) => Identity::of(parent.cast_unsigned()),
            };
            region.belongs_to(master);
        }
        USED.set((main.claims, main.is_timed));
        if main.log.is_on() {
            LOGS.set(main);
        }
        // SAFETY: a global of nginx, set before modules are initialised.
        let process = unsafe { ngx_process };
        if process == NGX_PROCESS_WORKER as usize || process == NGX_PROCESS_SINGLE as usize {
            if !start_worker(region) {
                // nginx would not start another in the place of a worker that fails here.
                raw::log(
                    Level::Alert,
                    log,
                    "every worker slot of the region is taken by old workers that still have connections: requests are \
                     refused until one is free (\"worker_shutdown_timeout\" bounds how long that takes)",
                );
            }
            start_watch();
        }
        rc::OK
    })
}

/// Takes a place in the region; false while all are taken.
fn start_worker(region: Region) -> bool {
    let Some(worker) = Worker::start(region, Identity::current(), secret()) else { return false };
    PLACE.set(Some((region, worker.slot())));
    WORKER.with(|cell| cell.replace(Some(worker)));
    if let Some(main) = logs() {
        log::join(main, region);
    }
    true
}

pub unsafe extern "C" fn exit(_: *mut ngx_cycle_t) {
    fence("exit process", (), || {
        crate::ask::end();
        if let (Some(main), Some((region, slot))) = (logs(), PLACE.get()) {
            log::end(main, region, Some(slot));
        }
        LEADER.with(RefCell::take);
        WORKER.with(RefCell::take);
        // The mapping goes with the cycle.
        PLACE.take();
        REGION.take();
    });
}

/// This module's main configuration of a cycle.
///
/// # Safety
///
/// `cycle` is live.
pub unsafe fn cycle_conf<'a>(cycle: *mut ngx_cycle_t) -> Option<&'a MainConf> {
    // SAFETY: the http module keeps its ngx_http_conf_ctx_t in its slot of the cycle; null without `http {}`.
    unsafe {
        let slot = (*cycle).conf_ctx.add(nginx_sys::ngx_http_module.index);
        let context = (*slot).cast::<nginx_sys::ngx_http_conf_ctx_t>().as_ref()?;
        raw::slot(context.main_conf, ngx_http_gateway_module.ctx_index).cast::<MainConf>().as_ref()
    }
}

/// Makes nginx run a cache manager process, which leads: nginx keeps exactly one, respawns it when it dies, and no
/// client waits on it. nginx starts one when any of its paths has a manager callback; the body's temporary path, which
/// every configuration has, is lent one.
pub fn lend_manager(cycle: *mut ngx_cycle_t) {
    // SAFETY: the cycle's paths are pointers to path structures that live as long as the cycle.
    unsafe {
        let paths = &(*cycle).paths;
        let entries = std::slice::from_raw_parts(paths.elts.cast::<*mut ngx_path_t>(), paths.nelts);
        for path in entries.iter().filter_map(|path| path.as_mut()) {
            if path.manager.is_none() && path.loader.is_none() && path.purger.is_none() {
                path.manager = Some(manage);
                return;
            }
        }
    }
}

unsafe extern "C" fn manage(_: *mut std::ffi::c_void) -> ngx_msec_t {
    fence("cache manager", LEAD_EVERY, || {
        // SAFETY: globals of nginx, set before the process runs.
        if unsafe { ngx_process } == NGX_PROCESS_HELPER as usize {
            lead();
        }
        LEAD_EVERY
    })
}

/// Takes the lease where it is free, and does the leader's work where this process has it. True when it leads.
fn lead() -> bool {
    LEADER.with(|cell| {
        let Ok(mut slot) = cell.try_borrow_mut() else { return false };
        // SAFETY: the current cycle is live.
        let (Some(main), log) = (unsafe { (cycle_conf(ngx_cycle), (*ngx_cycle).log) }) else { return false };
        if slot.is_none() {
            let Some(region) = REGION.get() else { return false };
            match Leader::take(region, Identity::current()) {
                Ok(Some(mut leader)) => {
                    if let Some(folder) = main.folder() {
                        leader.keep_in(folder);
                    }
                    let mut desk = Desk::new(main.site(), Box::new(SystemSecrets));
                    desk.begin(&mut leader, now(), &mut |event| tell(&event));
                    if main.admin
                        && let Err(error) = crate::carry::listen(&desk.site().state)
                    {
                        raw::log(Level::Alert, log, &format!("no call of the admin API can be taken: {error}"));
                    }
                    if let (None, Some(slot)) = (PLACE.get(), leader.slot()) {
                        PLACE.set(Some((region, slot)));
                    }
                    raw::log(Level::Notice, log, "this process leads");
                    crate::log::begin(main, region);
                    *slot = Some((leader, desk));
                }
                Ok(None) => return false,
                Err(error) => {
                    raw::log(Level::Alert, log, &format!("the region cannot be recovered: {error}"));
                    return false;
                }
            }
        }
        let Some((leader, _)) = slot.as_mut() else { return false };
        leader.tick(now(), &mut |event: Event| tell(&event));
        true
    })
}

/// Calls `body` with what this process leads with; `None` where it does not lead.
pub fn with_leader<T>(body: impl FnOnce(&mut Leader, &mut Desk) -> T) -> Option<T> {
    LEADER.with(|cell| {
        let mut slot = cell.try_borrow_mut().ok()?;
        let (leader, desk) = slot.as_mut()?;
        Some(body(leader, desk))
    })
}

/// Writes what the leader has to say into the log.
pub fn tell(event: &Event) {
    // SAFETY: the current cycle is live.
    raw::log(level(event.severity), unsafe { (*ngx_cycle).log }, &event.text);
}

/// An event's severity as nginx has it.
pub const fn level(severity: Severity) -> Level {
    match severity {
        Severity::Error => Level::Error,
        Severity::Warning => Level::Warning,
        Severity::Notice => Level::Notice,
    }
}

/// The worker's own tick: keeps its counters tidy, and leads where nobody else does.
fn start_watch() {
    tick(&WATCH, WATCH_EVERY, watch);
}

/// Has `handler` called in `after` milliseconds; it arms the event again if it wants to be called once more. `held` keeps
/// the event.
pub fn tick(held: &'static AtomicPtr<ngx_event_t>, after: ngx_msec_t, handler: unsafe extern "C" fn(*mut ngx_event_t)) {
    // The event lives as long as the process; debug builds of nginx read a descriptor behind `data` (NGINX.md g).
    let event: &'static mut ngx_event_t = Box::leak(Box::new(
        // SAFETY: all-zero bytes are a valid, inactive event.
        unsafe { std::mem::zeroed() },
    ));
    let ident: &'static mut [usize; 4] = Box::leak(Box::new([usize::MAX; 4]));
    event.data = ident.as_mut_ptr().cast();
    event.handler = Some(handler);
    // SAFETY: the current cycle is live.
    event.log = unsafe { (*ngx_cycle).log };
    // A tick must not keep an old worker from exiting.
    event.set_cancelable(1);
    // nginx lets go of an event that has fired and is not armed again, as in a worker that ends.
    held.store(event, Ordering::Relaxed);
    // SAFETY: the event is valid and not armed.
    unsafe { ngx_add_timer(event, after) };
}

/// Whether this process has been told to end.
pub fn is_ending() -> bool {
    // SAFETY: globals of nginx.
    unsafe { ngx_exiting != 0 || ngx_quit != 0 || ngx_terminate != 0 }
}

/// This module's configuration of the current cycle.
pub fn main_conf<'a>() -> Option<&'a MainConf> {
    // SAFETY: the current cycle is live.
    unsafe { cycle_conf(ngx_cycle) }
}

/// Calls `body` where this process leads, or can as nobody else does any more; false where somebody else does. For one
/// that ends.
pub fn lead_at_last(region: Region, body: impl FnOnce()) -> bool {
    LEADER.with(|cell| {
        let leads = cell.try_borrow().is_ok_and(|leader| leader.is_some());
        let taken = if leads { None } else { Leader::take(region, Identity::current()).ok().flatten() };
        if !leads && taken.is_none() {
            return false;
        }
        body();
        true
    })
}

/// The event of the tick, held for as long as the process lives.
static WATCH: AtomicPtr<ngx_event_t> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" fn watch(event: *mut ngx_event_t) {
    fence("worker tick", (), || {
        if with_worker(Worker::tidy).is_none()
            && let Some(region) = REGION.get()
        {
            start_worker(region);
        }
        let leads = lead();
        // SAFETY: globals of nginx; the event is ours and has just fired.
        unsafe {
            if !is_ending() {
                ngx_add_timer(event, if leads { LEAD_EVERY } else { WATCH_EVERY });
            }
        }
    });
}
