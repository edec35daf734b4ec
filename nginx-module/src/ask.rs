//! Requests that wait for what somebody else finds out: the library says [`Decision::Ask`], one thread of this process
//! answers, the event loop goes on with the request.
//!
//! The thread knows no nginx: it takes a question, pushes an answer and writes to an eventfd that the loop reads. What it
//! is handed is a key, never a request, so a client that goes away takes no more with it than its entry here. It is started
//! by the first question, after the fork, with all signals blocked.
//!
//! Each waiting request has a timer that nginx does not cancel: a worker that is told to go stays until its requests
//! have their answers, or have waited too long.
//!
//! [`Decision::Ask`]: gateway::gateway::Decision::Ask

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gateway::gateway::{Answer, Ask, Question};
use nginx_sys::{
    ngx_add_timer, ngx_close_connection, ngx_connection_t, ngx_cycle, ngx_del_timer, ngx_event_actions, ngx_event_t,
    ngx_get_connection, ngx_http_block_reading, ngx_http_core_run_phases, ngx_http_request_t,
    ngx_http_run_posted_requests, ngx_http_test_reading, ngx_msec_t, ngx_post_event, ngx_posted_events,
};

use crate::context;
use crate::process::{now, with_worker};
use crate::raw::{self, Level, fence, rc};

/// The name of the thread.
pub const THREAD: &str = "gateway-ask";

/// How long a request waits, milliseconds.
const WAIT: ngx_msec_t = 30_000;
/// How long a process that ends waits for its thread, in steps of 10 ms; what it computes is lost anyway.
const JOIN_STEPS: u32 = 20;

thread_local! {
    #[allow(clippy::vec_box, reason = "nginx keeps the address of an armed timer")]
    static WAITING: RefCell<Vec<Box<Waiting>>> = const { RefCell::new(Vec::new()) };
    static ASKS: RefCell<Option<Asks>> = const { RefCell::new(None) };
    static NEXT: Cell<u64> = const { Cell::new(1) };
}

/// A request that waits.
#[repr(C)]
struct Waiting {
    /// Fires when it has waited too long; first, so that it leads back here.
    timer: ngx_event_t,
    id: u64,
    ask: Ask,
    request: *mut ngx_http_request_t,
}

/// What the loop and the thread share.
struct Shared {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// An eventfd.
    event: i32,
}

#[derive(Default)]
struct Inner {
    questions: VecDeque<Question>,
    answers: Vec<Answer>,
    ends: bool,
}

struct Asks {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    connection: *mut ngx_connection_t,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing panics while it holds this; should it ever, the queues are whole all the same.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes `r` wait for what `ask` asks for, and has `question` answered; `None` where that is under way already. The id
/// goes to [`forget`]; `None` where it could not be begun.
///
/// # Safety
///
/// `r` is a live main request in the access phase, whose handler returns `NGX_AGAIN` next.
pub unsafe fn wait(r: *mut ngx_http_request_t, ask: Ask, question: Option<Question>) -> Option<u64> {
    if let Some(question) = question {
        let ask = question.ask();
        if !push(question) {
            let now = now();
            with_worker(|worker| worker.learn(Answer::failed(ask), now));
            return None;
        }
    }
    let id = NEXT.replace(NEXT.get().wrapping_add(1).max(1));
    // SAFETY: the caller's promise; all-zero bytes are a valid, inactive event, and the box does not move while the
    // timer is armed.
    unsafe {
        let connection = (*r).connection;
        let mut waiting = Box::new(Waiting { timer: std::mem::zeroed(), id, ask, request: r });
        waiting.timer.handler = Some(too_long);
        // Debug builds of nginx read a descriptor behind `data`.
        waiting.timer.data = connection.cast();
        waiting.timer.log = (*connection).log;
        ngx_add_timer(&raw mut waiting.timer, WAIT);
        WAITING.with(|all| all.borrow_mut().push(waiting));
        // Hears of a client that goes away; also of one that did before anybody listened.
        (*r).read_event_handler = Some(ngx_http_test_reading);
        let read = (*connection).read;
        if (*read).ready() != 0 {
            ngx_post_event(read, &raw mut ngx_posted_events);
        }
    }
    Some(id)
}

/// The request with this id is over. What nobody waits for any more and nobody has begun with is not begun.
pub fn forget(id: u64) {
    let Some(ask) = remove(id) else { return };
    let is_wanted = WAITING.with(|all| all.try_borrow().is_ok_and(|all| all.iter().any(|waiting| waiting.ask == ask)));
    let dropped = !is_wanted
        && ASKS
            .with(|cell| {
                let slot = cell.try_borrow().ok()?;
                let mut inner = slot.as_ref()?.shared.lock();
                let index = inner.questions.iter().position(|question| question.ask() == ask)?;
                inner.questions.remove(index)
            })
            .is_some();
    if dropped {
        let now = now();
        with_worker(|worker| worker.learn(Answer::failed(ask), now));
    }
}

/// Takes a request out of those that wait; what it waits for.
fn remove(id: u64) -> Option<Ask> {
    let mut waiting = WAITING.with(|all| {
        let mut all = all.try_borrow_mut().ok()?;
        let index = all.iter().position(|waiting| waiting.id == id)?;
        Some(all.swap_remove(index))
    })?;
    if waiting.timer.timer_set() != 0 {
        // SAFETY: the timer is armed and its memory has not moved.
        unsafe { ngx_del_timer(&raw mut waiting.timer) };
    }
    Some(waiting.ask)
}

/// Hands `question` to the thread, which is started where there is none; false where that failed.
fn push(question: Question) -> bool {
    ASKS.with(|cell| {
        let Ok(mut slot) = cell.try_borrow_mut() else { return false };
        if slot.is_none() {
            match start() {
                Ok(asks) => *slot = Some(asks),
                Err(error) => {
                    // SAFETY: the current cycle is live.
                    raw::log(Level::Alert, unsafe { (*ngx_cycle).log }, &format!("no thread for passwords: {error}"));
                    return false;
                }
            }
        }
        let Some(asks) = slot.as_ref() else { return false };
        asks.shared.lock().questions.push_back(question);
        asks.shared.wake.notify_one();
        true
    })
}

fn start() -> Result<Asks, String> {
    // SAFETY: plain system calls; each result is checked.
    let event = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if event < 0 {
        return Err(format!("eventfd: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the current cycle is live; the connection is ours until it is closed. Closing it closes the descriptor.
    let connection = unsafe {
        let connection = ngx_get_connection(event, (*ngx_cycle).log);
        if connection.is_null() {
            libc::close(event);
            return Err("no connection is free (\"worker_connections\")".to_owned());
        }
        let read = (*connection).read;
        (*read).handler = Some(answered);
        (*read).log = (*ngx_cycle).log;
        // Not a client's: nobody waits for it to be closed.
        (*read).set_channel(1);
        // The bindings have neither NGX_READ_EVENT nor NGX_CLEAR_EVENT (NGINX.md b).
        let interest = (libc::EPOLLIN | libc::EPOLLRDHUP) as isize;
        let added = ngx_event_actions.add.map_or(rc::ERROR, |add| add(read, interest, libc::EPOLLET as u32 as usize));
        if added != rc::OK {
            ngx_close_connection(connection);
            return Err("the eventfd cannot be watched".to_owned());
        }
        connection
    };
    let shared = Arc::new(Shared { inner: Mutex::default(), wake: Condvar::new(), event });
    match spawn(Arc::clone(&shared)) {
        Ok(thread) => Ok(Asks { shared, thread, connection }),
        Err(error) => {
            // SAFETY: as above.
            unsafe { ngx_close_connection(connection) };
            Err(error.to_string())
        }
    }
}

/// A thread takes its signal mask from who starts it: nginx's signals are for nginx's own thread.
fn spawn(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    // SAFETY: both sets are valid memory; the mask is put back before this returns.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || work(&shared));
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        thread
    }
}

/// The thread.
fn work(shared: &Shared) {
    let mut inner = shared.lock();
    loop {
        if inner.ends {
            return;
        }
        let Some(question) = inner.questions.pop_front() else {
            inner = shared.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(inner);
        let ask = question.ask();
        // Whatever happens, whoever waits hears of it.
        let answer = catch_unwind(AssertUnwindSafe(|| question.answer())).unwrap_or(Answer::failed(ask));
        inner = shared.lock();
        inner.answers.push(answer);
        // Under the lock, as the descriptor is closed only after `ends` was set.
        if !inner.ends {
            let one = 1u64;
            // SAFETY: eight readable bytes. A counter that is full wakes its reader all the same.
            unsafe { libc::write(shared.event, (&raw const one).cast(), 8) };
        }
    }
}

/// The loop hears that there are answers.
unsafe extern "C" fn answered(event: *mut ngx_event_t) {
    fence("answers", (), || {
        let answers = ASKS.with(|cell| {
            let slot = cell.try_borrow().ok()?;
            let shared = &slot.as_ref()?.shared;
            let mut count = 0u64;
            // SAFETY: eight writable bytes of a descriptor of ours that does not block; the event is ours.
            unsafe {
                libc::read(shared.event, (&raw mut count).cast(), 8);
                if let Some(event) = event.as_mut() {
                    event.set_ready(0);
                }
            }
            Some(std::mem::take(&mut shared.lock().answers))
        });
        for answer in answers.into_iter().flatten() {
            deliver(answer);
        }
    });
}

/// Goes on with every request that waits for `answer`.
fn deliver(answer: Answer) {
    if answer == Answer::failed(answer.ask()) {
        crate::process::panicked("a look at a password");
    }
    let now = now();
    with_worker(|worker| worker.learn(answer, now));
    // One at a time: what a request does next may end another.
    let first_bound = NEXT.get();
    loop {
        let found = WAITING.with(|all| {
            let all = all.try_borrow().ok()?;
            let waiting = all.iter().find(|waiting| waiting.ask == answer.ask() && waiting.id < first_bound)?;
            Some((waiting.id, waiting.request))
        });
        let Some((id, r)) = found else { return };
        remove(id);
        // SAFETY: a request that is over has taken its entry away, so this one is live.
        unsafe { resume(r, id, Some(answer)) };
    }
}

/// It has waited too long.
unsafe extern "C" fn too_long(event: *mut ngx_event_t) {
    fence("wait", (), || {
        // SAFETY: our timers are the first field of a `Waiting`, whose request is live as long as it is kept.
        unsafe {
            let waiting = event.cast::<Waiting>();
            let (id, r) = ((*waiting).id, (*waiting).request);
            forget(id);
            resume(r, id, None);
        }
    });
}

/// # Safety
///
/// `r` is a live request that waited under `id`.
unsafe fn resume(r: *mut ngx_http_request_t, id: u64, answer: Option<Answer>) {
    // SAFETY: the caller's promise; afterwards only the connection is touched, which outlives its requests' callbacks.
    unsafe {
        let Some(context) = context::find(r).filter(|context| context.waiting == id) else { return };
        context.waiting = 0;
        context.answer = answer;
        context.gave_up = answer.is_none();
        let connection = (*r).connection;
        (*r).read_event_handler = Some(ngx_http_block_reading);
        (*r).write_event_handler = Some(ngx_http_core_run_phases);
        ngx_http_core_run_phases(r);
        ngx_http_run_posted_requests(connection);
    }
}

/// The process ends: the thread is told so, and waited for a little.
pub fn end() {
    let Some(Asks { shared, thread, connection }) = ASKS.with(RefCell::take) else { return };
    shared.lock().ends = true;
    shared.wake.notify_one();
    for _ in 0..JOIN_STEPS {
        if thread.is_finished() {
            let _ = thread.join();
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: ours, open, and closed once; a thread that still computes does not write any more.
    unsafe { ngx_close_connection(connection) };
}
