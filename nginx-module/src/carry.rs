//! From the worker that has a call to the leader that answers it, and back.
//!
//! The leader listens at `leader.sock` in the state folder (0600, in a folder that is 0700), in nginx's event loop, so
//! that a call is taken at once and not at the next tick. A connection is one call: one message with its head, and beside
//! it the descriptor of a file in memory with its body, however large; one message back of the same form. So nothing is
//! split, copied through a socket's buffer or left behind in a folder, and who dies closes the connection, which the
//! other one hears of.
//!
//! While nobody listens, as for a moment at a reload, the worker tries again, and so it does with a call that only reads
//! where the leader dies over it. One that writes is sent once: nobody knows whether it was done.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::mem::{self, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use gateway::admin::{self, Answer, BODY_MAX, Call, Problem, table};
use nginx_sys::{
    ngx_add_timer, ngx_close_connection, ngx_connection_t, ngx_cycle, ngx_del_timer, ngx_event_actions, ngx_event_t,
    ngx_get_connection, ngx_http_block_reading, ngx_http_request_t, ngx_http_run_posted_requests,
    ngx_http_test_reading, ngx_msec_t, ngx_pool_cleanup_add, ngx_post_event, ngx_posted_events,
};

use crate::process::{now, with_leader};
use crate::raw::{self, Level, fence, rc};
use crate::{admin as api, process};

/// How long a worker waits for an answer, milliseconds; the leader does not begin what nobody waits for.
const WAIT: ngx_msec_t = 10_000;
/// How often it tries to reach a leader, and how long, milliseconds.
const AGAIN: ngx_msec_t = 50;
const REACH: u64 = 3_000;
/// The longest head of a call, bytes: nginx takes no longer lines than that by default.
const HEAD_MAX: usize = 64 << 10;
const SOCKET: &str = "leader.sock";

thread_local! {
    static LISTENER: Cell<*mut ngx_connection_t> = const { Cell::new(ptr::null_mut()) };
}

/// A call that waits for its answer.
#[repr(C)]
struct Carried {
    /// Tries again to reach a leader; first, so that it leads back here.
    timer: ngx_event_t,
    request: *mut ngx_http_request_t,
    call: Call,
    state: PathBuf,
    /// When it began, monotonic microseconds.
    began: u64,
    /// To the leader; null while there is none.
    connection: *mut ngx_connection_t,
}

impl Carried {
    /// Whether another leader is still waited for.
    fn is_patient(&self) -> bool {
        now().mono.saturating_sub(self.began) < REACH * 1_000
    }
}

/// Whether a socket in the folder has a name that is short enough.
pub fn check(state: &Path) -> Result<(), String> {
    address(&state.join(format!("{SOCKET}.{}", u32::MAX))).map(drop).map_err(|_| {
        format!("\"gateway_state\": the path {} is too long for a socket in it: at most 84 bytes", state.display())
    })
}

fn address(path: &Path) -> io::Result<libc::sockaddr_un> {
    // SAFETY: all-zero bytes are a valid address.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
    Ok(address)
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a plain system call; the descriptor is nobody else's.
    unsafe {
        let fd = libc::socket(libc::AF_UNIX, kind, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Sends `call` to the leader; the request is answered when it has answered, or has not.
///
/// # Safety
///
/// `r` is a live request that is held for this call; the caller does not touch it afterwards.
pub unsafe fn send(r: *mut ngx_http_request_t, mut call: Call, state: PathBuf) {
    let began = now().mono;
    call.until = began + WAIT as u64 * 1_000;
    // SAFETY: the caller's promise; the record is the request's, and frees what it was given, once. All-zero bytes are a
    // valid, inactive event, and the box does not move while the timer is armed.
    unsafe {
        let Some(cleanup) = ngx_pool_cleanup_add((*r).pool, 0).as_mut() else {
            return api::end(r, &Problem::Internal.because("no memory"));
        };
        let connection = (*r).connection;
        let mut carried =
            Box::new(Carried { timer: mem::zeroed(), request: r, call, state, began, connection: ptr::null_mut() });
        carried.timer.handler = Some(again);
        // Debug builds of nginx read a descriptor behind `data`.
        carried.timer.data = connection.cast();
        carried.timer.log = (*connection).log;
        let carried = Box::into_raw(carried);
        cleanup.handler = Some(abandon);
        cleanup.data = carried.cast();
        // Hears of a client that goes away; also of one that did before anybody listened.
        (*r).read_event_handler = Some(ngx_http_test_reading);
        let read = (*connection).read;
        if (*read).ready() != 0 {
            ngx_post_event(read, &raw mut ngx_posted_events);
        }
        attempt(carried);
    }
}

/// # Safety
///
/// `carried` is live, and its request waits.
unsafe fn attempt(carried: *mut Carried) {
    // SAFETY: the caller's promise.
    let one = unsafe { &mut *carried };
    match reach(one) {
        Ok(connection) => {
            one.connection = connection;
            // SAFETY: the connection is new and ours.
            unsafe {
                (*connection).data = carried.cast();
                (*(*connection).read).handler = Some(answered);
                ngx_add_timer((*connection).read, WAIT);
            }
        }
        // Nobody listens, or nobody has come to it yet.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOENT | libc::EAGAIN))
                && one.is_patient() =>
        {
            // SAFETY: the timer is not armed and its memory does not move.
            unsafe { ngx_add_timer(&raw mut one.timer, AGAIN) };
        }
        Err(error) => {
            let detail = format!("the leader cannot be reached ({error}), and nothing was done");
            // SAFETY: the request waits.
            unsafe { end(carried, &Problem::Leader.because(detail), true) };
        }
    }
}

/// A connection to the leader on which the call was sent.
fn reach(one: &Carried) -> io::Result<*mut ngx_connection_t> {
    let socket = socket()?;
    let address = address(&one.state.join(SOCKET))?;
    // SAFETY: the address is valid memory of the size that is given.
    let done = unsafe {
        let size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    send_message(&socket, &admin::encode_call(&one.call), &one.call.body)?;
    watched(socket)
}

/// A connection of nginx's around `socket`, which the event loop reads.
fn watched(socket: OwnedFd) -> io::Result<*mut ngx_connection_t> {
    // SAFETY: the current cycle is live; the connection is ours until it is closed, which closes the descriptor.
    unsafe {
        let log = (*ngx_cycle).log;
        let connection = ngx_get_connection(socket.as_raw_fd(), log);
        if connection.is_null() {
            return Err(io::Error::other("no connection is free (\"worker_connections\")"));
        }
        mem::forget(socket);
        (*(*connection).read).log = log;
        (*(*connection).write).log = log;
        // The bindings have neither NGX_READ_EVENT nor NGX_CLEAR_EVENT (NGINX.md b).
        let interest = (libc::EPOLLIN | libc::EPOLLRDHUP) as isize;
        let add = ngx_event_actions.add;
        // Until it has a handler nothing can come: events are handled after this.
        if add.map_or(rc::ERROR, |add| add((*connection).read, interest, libc::EPOLLET as u32 as usize)) != rc::OK {
            ngx_close_connection(connection);
            return Err(io::Error::other("the socket cannot be watched"));
        }
        Ok(connection)
    }
}

/// The time to try again has come.
unsafe extern "C" fn again(event: *mut ngx_event_t) {
    fence("admin retry", (), || {
        // SAFETY: our timer is the first field of a `Carried`, which is live as long as it is armed.
        unsafe { attempt(event.cast()) };
    });
}

/// The leader has answered, or is gone, or was too slow.
unsafe extern "C" fn answered(event: *mut ngx_event_t) {
    fence("admin answer", (), || {
        // SAFETY: the event is that of a connection that `attempt` made, whose record is live as long as it is open.
        unsafe {
            let connection = (*event).data.cast::<ngx_connection_t>();
            let carried = (*connection).data.cast::<Carried>();
            if (*event).timedout() != 0 {
                let detail = "the leader did not answer in time: whether the call was carried out is not known";
                return end(carried, &Problem::Timeout.because(detail), true);
            }
            let answer = match receive((*connection).fd) {
                Ok(Some((head, body))) => admin::decode_answer(&head, body),
                Ok(None) => None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (*event).set_ready(0),
                Err(_) => None,
            };
            match answer {
                Some(answer) => end(carried, &answer, false),
                None if (*carried).is_patient()
                    && !table::find(&(*carried).call).is_ok_and(|found| found.endpoint.writes) =>
                {
                    close(carried);
                    ngx_add_timer(&raw mut (*carried).timer, AGAIN);
                }
                None => {
                    let detail = "the leader went away: whether the call was carried out is not known";
                    end(carried, &Problem::Leader.because(detail), true);
                }
            }
        }
    });
}

/// Ends the request; `is_ours`: the answer is this process's own.
///
/// # Safety
///
/// `carried` is live, and its request waits.
unsafe fn end(carried: *mut Carried, answer: &Answer, is_ours: bool) {
    // SAFETY: the caller's promise; afterwards only the client's connection is touched, which outlives the callbacks.
    unsafe {
        close(carried);
        let r = (*carried).request;
        let call = Call { body: Vec::new(), ..mem::take(&mut (*carried).call) };
        let client = (*r).connection;
        (*r).read_event_handler = Some(ngx_http_block_reading);
        if is_ours {
            api::finish(r, &call, answer);
        } else {
            api::end(r, answer);
        }
        ngx_http_run_posted_requests(client);
    }
}

/// # Safety
///
/// `carried` is live.
unsafe fn close(carried: *mut Carried) {
    // SAFETY: the caller's promise; both are ours alone.
    unsafe {
        if (*carried).timer.timer_set() != 0 {
            ngx_del_timer(&raw mut (*carried).timer);
        }
        let connection = mem::replace(&mut (*carried).connection, ptr::null_mut());
        if !connection.is_null() {
            ngx_close_connection(connection);
        }
    }
}

/// The request is over, with or without an answer.
unsafe extern "C" fn abandon(data: *mut c_void) {
    fence("admin cleanup", (), || {
        // SAFETY: `send` made the box and gave it to this record alone.
        unsafe {
            let carried = data.cast::<Carried>();
            close(carried);
            drop(Box::from_raw(carried));
        }
    });
}

/// Listens for calls in the folder `state`: this process leads. Whoever listened there before is dead.
pub fn listen(state: &Path) -> io::Result<()> {
    if !LISTENER.get().is_null() {
        return Ok(());
    }
    let socket = socket()?;
    let beside = state.join(format!("{SOCKET}.{}", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let address = address(&beside)?;
    // SAFETY: the address is valid memory of the size that is given; the mask is put back.
    let done = unsafe {
        let mask = libc::umask(0o177);
        let size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        let done = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size);
        libc::umask(mask);
        if done == 0 { libc::listen(socket.as_raw_fd(), 128) } else { done }
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // At once: nobody meets a name with nobody behind it.
    std::fs::rename(&beside, state.join(SOCKET))?;
    let connection = watched(socket)?;
    // SAFETY: the connection is new and ours. Not a client's: nobody waits for it to be closed.
    unsafe {
        (*(*connection).read).handler = Some(accept);
        (*(*connection).read).set_channel(1);
    }
    LISTENER.set(connection);
    Ok(())
}

/// Somebody has a call.
unsafe extern "C" fn accept(event: *mut ngx_event_t) {
    fence("admin accept", (), || {
        // SAFETY: the event is that of the connection that `listen` made; descriptors are fresh and nobody else's.
        unsafe {
            let listener = (*event).data.cast::<ngx_connection_t>();
            loop {
                let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                let fd = libc::accept4((*listener).fd, ptr::null_mut(), ptr::null_mut(), flags);
                if fd < 0 {
                    return;
                }
                match watched(OwnedFd::from_raw_fd(fd)) {
                    Ok(connection) => {
                        (*(*connection).read).handler = Some(called);
                        // A call comes with its connection.
                        ngx_add_timer((*connection).read, WAIT);
                    }
                    Err(error) => raw::log(Level::Alert, (*ngx_cycle).log, &format!("a call cannot be taken: {error}")),
                }
            }
        }
    });
}

/// A call is there.
unsafe extern "C" fn called(event: *mut ngx_event_t) {
    fence("admin call", (), || {
        // SAFETY: the event is that of a connection that `accept` made.
        unsafe {
            let connection = (*event).data.cast::<ngx_connection_t>();
            if (*event).timedout() != 0 {
                return ngx_close_connection(connection);
            }
            let received = receive((*connection).fd);
            if received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
            if let Ok(Some((head, body))) = received
                && let Some(call) = admin::decode_call(&head, body)
            {
                let answer = answer(&call);
                api::audit(admin::line(&call, &answer, now()));
                let socket = mem::ManuallyDrop::new(OwnedFd::from_raw_fd((*connection).fd));
                // Who does not wait any more does not get it.
                let _ = send_message(&socket, &admin::encode_answer(&answer), &answer.body);
            }
            ngx_close_connection(connection);
        }
    });
}

fn answer(call: &Call) -> Answer {
    let answer = fence("admin desk", None, || {
        with_leader(|leader, desk| desk.answer(call, leader, now(), &mut |event| process::tell(&event)))
    });
    answer.unwrap_or_else(|| Problem::Leader.because("this process does not lead any more, and nothing was done"))
}

/// One message: a head, and beside it a file in memory with the body.
fn send_message(socket: &OwnedFd, head: &[u8], body: &[u8]) -> io::Result<()> {
    if head.len() > HEAD_MAX {
        return Err(io::Error::other("the call's path, query and headers are too long"));
    }
    let file = if body.is_empty() { None } else { Some(in_memory(body)?) };
    let mut piece = libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: head.len() };
    // SAFETY: all pointers are to live memory of the sizes that are given; the control buffer is aligned and has room for
    // one descriptor, as the macros work it out.
    unsafe {
        let mut control = [0u64; 8];
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        if let Some(file) = &file {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as usize;
            let Some(header) = libc::CMSG_FIRSTHDR(&raw const message).as_mut() else {
                return Err(io::Error::other("no room"));
            };
            header.cmsg_level = libc::SOL_SOCKET;
            header.cmsg_type = libc::SCM_RIGHTS;
            header.cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as usize;
            libc::CMSG_DATA(header).cast::<i32>().write_unaligned(file.as_raw_fd());
        }
        match libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) {
            sent if sent < 0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// The message that is there; `None` = the other one has closed.
fn receive(fd: i32) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut head = vec![0; HEAD_MAX];
    let mut piece = libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: head.len() };
    // SAFETY: as in `send_message`; a descriptor that comes is ours from then on.
    unsafe {
        let mut control = [0u64; 8];
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        let got = libc::recvmsg(fd, &raw mut message, libc::MSG_CMSG_CLOEXEC);
        let Ok(got) = usize::try_from(got) else { return Err(io::Error::last_os_error()) };
        let mut file = None;
        if let Some(header) = libc::CMSG_FIRSTHDR(&raw const message).as_ref()
            && (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
        {
            file = Some(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned()));
        }
        if got == 0 {
            return Ok(None);
        }
        head.truncate(got);
        let body = file.map(content).transpose()?.unwrap_or_default();
        Ok(Some((head, body)))
    }
}

fn in_memory(body: &[u8]) -> io::Result<OwnedFd> {
    use std::io::Write;
    // SAFETY: a plain system call with a C string; the descriptor is nobody else's.
    let fd = unsafe {
        let fd = libc::memfd_create(c"gateway-call".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut file = std::fs::File::from(fd);
    file.write_all(body)?;
    Ok(file.into())
}

fn content(fd: OwnedFd) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(fd);
    let size = file.metadata()?.len();
    // An answer may be a document that is written out.
    if size > 8 * BODY_MAX {
        return Err(io::Error::other("a body is too large"));
    }
    let mut content = vec![0; size as usize];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}
