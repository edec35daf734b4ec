//! TLS towards an upstream that the document describes: one `upstream {}` block speaks plain HTTP to one and TLS to the
//! next.
//!
//! nginx takes everything about TLS from the upstream's configuration, of which each request may have a copy of its own.
//! The parsed keys and certificates are a worker's: made at the first request after they changed, found again by the
//! number of the settings ([`gateway::balancer::Tls::identity`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};

use gateway::balancer::{ArchivedTls, ArchivedTlsVersion};
use gateway::gateway::Ticket;
use nginx_sys::{
    BIO, BIO_free, BIO_new_mem_buf, ERR_clear_error, EVP_PKEY_free, NGX_SSL_BUFSIZE, NGX_SSL_TLSv1_2, NGX_SSL_TLSv1_3,
    PEM_read_bio_PrivateKey, PEM_read_bio_X509, SSL_CTRL_CHAIN_CERT, SSL_CTX, SSL_CTX_check_private_key, SSL_CTX_ctrl,
    SSL_CTX_free, SSL_CTX_get_cert_store, SSL_CTX_set_alpn_protos, SSL_CTX_set_default_verify_paths, SSL_CTX_up_ref,
    SSL_CTX_use_PrivateKey, SSL_CTX_use_certificate, SSL_SESSION, SSL_SESSION_free, X509, X509_STORE_add_cert,
    X509_free, ngx_cycle, ngx_http_request_t, ngx_http_upstream_conf_t, ngx_http_upstream_t, ngx_peer_connection_t,
    ngx_pool_cleanup_add, ngx_ssl_client_session_cache, ngx_ssl_create, ngx_ssl_get_session, ngx_ssl_set_session,
    ngx_ssl_t, ngx_uint_t,
};

use crate::process::with_worker;
use crate::raw::{self, Level, bytes, fence, text};

/// So many settings are kept parsed; then all are forgotten, and made again when they are asked for.
const CONTEXTS_MAX: usize = 256;
/// Likewise of sessions.
const SESSIONS_MAX: usize = 4_096;

thread_local! {
    /// By the number of the settings, and whether HTTP/2 is spoken.
    static CONTEXTS: RefCell<HashMap<(u64, bool), Context>> = RefCell::new(HashMap::new());
    /// By the number of the connection and the address.
    static SESSIONS: RefCell<HashMap<(u64, [u8; 28]), Session>> = RefCell::new(HashMap::new());
}

/// Settings as OpenSSL has them. Connections and requests hold references of their own.
struct Context {
    context: NonNull<SSL_CTX>,
    verify: bool,
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { SSL_CTX_free(self.context.as_ptr()) };
    }
}

/// A session that may be taken up again.
struct Session(NonNull<SSL_SESSION>);

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { SSL_SESSION_free(self.0.as_ptr()) };
    }
}

/// Makes the request's connections TLS ones, as its upstream wants them; `conf` is the request's own copy. False, with a
/// line in the log, where that cannot be.
///
/// # Safety
///
/// `r` is live, `u` is its upstream and `conf` lives as long as it.
pub unsafe fn apply(
    r: *mut ngx_http_request_t,
    u: &mut ngx_http_upstream_t,
    conf: &mut ngx_http_upstream_conf_t,
    ticket: &Ticket,
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let log = (*(*r).connection).log;
        let complain = |why: &str| {
            raw::log(Level::Error, log, &format!("TLS to upstream \"{}\": {why}", ticket.upstream_name()));
            false
        };
        let is_grpc = bytes(conf.module) == b"grpc";
        if !is_grpc && bytes(conf.module) != b"proxy" {
            return complain("only \"proxy_pass\" and \"grpc_pass\" speak it");
        }
        let Some((context, verify)) = context(ticket, is_grpc) else { return complain("its settings cannot be used") };
        let ssl: *mut ngx_ssl_t = raw::zeroed((*r).pool);
        let cleanup = ngx_pool_cleanup_add((*r).pool, 0);
        let (Some(ssl), Some(cleanup)) = (ssl.as_mut(), cleanup.as_mut()) else {
            SSL_CTX_free(context);
            return false;
        };
        cleanup.handler = Some(forget);
        cleanup.data = context.cast();
        ssl.ctx = context;
        ssl.log = log;
        ssl.buffer_size = NGX_SSL_BUFSIZE as usize;
        conf.ssl = ssl;
        // What a location says of TLS is meant for upstreams of nginx.conf.
        conf.ssl_name = ptr::null_mut();
        conf.ssl_certificate = ptr::null_mut();
        conf.ssl_certificate_key = ptr::null_mut();
        conf.ssl_server_name = 1;
        conf.ssl_verify = verify.into();
        conf.ssl_session_reuse = 1;
        u.set_ssl(1);
        u.schema = if is_grpc { text(b"grpcs://") } else { text(b"https://") };
    }
    true
}

/// Undoes [`apply`] where the next try goes to an upstream that is spoken to in clear.
pub fn end(u: &mut ngx_http_upstream_t) {
    u.set_ssl(0);
    // SAFETY: a request's upstream has a configuration.
    let is_grpc = unsafe { u.conf.as_ref() }.is_some_and(|conf| unsafe { bytes(conf.module) } == b"grpc");
    u.schema = if is_grpc { text(b"grpc://") } else { text(b"http://") };
}

unsafe extern "C" fn forget(data: *mut c_void) {
    // SAFETY: the record holds a reference of its own.
    unsafe { SSL_CTX_free(data.cast()) };
}

/// The settings of the request's upstream, a reference more, and whether nodes are verified.
fn context(ticket: &Ticket, is_grpc: bool) -> Option<(*mut SSL_CTX, bool)> {
    let key = (ticket.tls(), is_grpc);
    CONTEXTS.with(|contexts| {
        let mut contexts = contexts.try_borrow_mut().ok()?;
        if let Some(known) = contexts.get(&key) {
            return known.share();
        }
        // SAFETY: a global of nginx, set before any request comes.
        let log = unsafe { ngx_cycle.as_ref() }.map_or(ptr::null_mut(), |cycle| cycle.log);
        let made = with_worker(|worker| worker.tls(ticket, |tls| Context::new(tls, is_grpc, log))).flatten()?;
        // SAFETY: what OpenSSL has against a certificate would be taken for an error of the next connection.
        unsafe { ERR_clear_error() };
        let made = match made {
            Ok(made) => made,
            Err(why) => {
                raw::log(Level::Error, log, &format!("TLS to upstream \"{}\": {why}", ticket.upstream_name()));
                return None;
            }
        };
        if contexts.len() >= CONTEXTS_MAX {
            contexts.clear();
        }
        let shared = made.share();
        contexts.insert(key, made);
        shared
    })
}

/// A text in memory that OpenSSL reads from.
struct Source(NonNull<BIO>);

impl Source {
    /// The text must outlive what is returned.
    fn new(text: &str) -> Option<Self> {
        let length = c_int::try_from(text.len()).ok()?;
        // SAFETY: OpenSSL reads these bytes until `BIO_free`.
        NonNull::new(unsafe { BIO_new_mem_buf(text.as_ptr().cast(), length) }).map(Self)
    }

    fn certificate(&self) -> Option<NonNull<X509>> {
        // SAFETY: the source is live; a passphrase is not asked for as there is none to give.
        NonNull::new(unsafe { PEM_read_bio_X509(self.0.as_ptr(), ptr::null_mut(), None, EMPTY.cast_mut().cast()) })
    }
}

/// An empty passphrase, so that nobody is asked for one at a terminal.
const EMPTY: *const std::ffi::c_char = c"".as_ptr();

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: the source is ours.
        unsafe { BIO_free(self.0.as_ptr()) };
    }
}

impl Context {
    fn new(tls: &ArchivedTls, is_grpc: bool, log: *mut nginx_sys::ngx_log_t) -> Result<Self, &'static str> {
        let versions = match tls.min_version {
            ArchivedTlsVersion::V1_2 => NGX_SSL_TLSv1_2 | NGX_SSL_TLSv1_3,
            ArchivedTlsVersion::V1_3 => NGX_SSL_TLSv1_3,
        };
        // SAFETY: nginx fills the structure; what it made is ours from then on. Certificates and keys belong to the
        // context once they are taken, which a reference of their own or the giving away of ours stands for.
        unsafe {
            let mut ssl: ngx_ssl_t = std::mem::zeroed();
            ssl.log = log;
            if ngx_ssl_create(&raw mut ssl, versions as ngx_uint_t, ptr::null_mut()) != raw::rc::OK {
                return Err("OpenSSL makes no context");
            }
            let context = NonNull::new(ssl.ctx).ok_or("OpenSSL makes no context")?;
            let context = Self { context, verify: tls.verify };
            let raw = context.context.as_ptr();
            if ngx_ssl_client_session_cache(ptr::null_mut(), &raw mut ssl, 1) != raw::rc::OK {
                return Err("OpenSSL keeps no sessions");
            }
            // gRPC is HTTP/2, which a TLS connection has to agree on (RFC 9113, 3.2).
            if is_grpc && SSL_CTX_set_alpn_protos(raw, b"\x02h2".as_ptr(), 3) != 0 {
                return Err("OpenSSL does not offer HTTP/2");
            }
            match tls.ca.as_ref() {
                Some(ca) => {
                    let source = Source::new(ca).ok_or("no memory")?;
                    let store = SSL_CTX_get_cert_store(raw);
                    while let Some(certificate) = source.certificate() {
                        let added = X509_STORE_add_cert(store, certificate.as_ptr());
                        X509_free(certificate.as_ptr());
                        if added != 1 {
                            return Err("OpenSSL does not take a certificate of `ca`");
                        }
                    }
                }
                None if tls.verify && SSL_CTX_set_default_verify_paths(raw) != 1 => {
                    return Err("the system's authorities cannot be read");
                }
                None => {}
            }
            if let Some(client) = tls.client.as_ref() {
                let source = Source::new(&client.chain).ok_or("no memory")?;
                let leaf = source.certificate().ok_or("OpenSSL does not read `cert`")?;
                let used = SSL_CTX_use_certificate(raw, leaf.as_ptr());
                X509_free(leaf.as_ptr());
                if used != 1 {
                    return Err("OpenSSL does not take `cert`");
                }
                while let Some(next) = source.certificate() {
                    // The context has it afterwards.
                    if SSL_CTX_ctrl(raw, SSL_CTRL_CHAIN_CERT as c_int, 0, next.as_ptr().cast()) != 1 {
                        X509_free(next.as_ptr());
                        return Err("OpenSSL does not take a certificate of `cert`");
                    }
                }
                let source = Source::new(&client.key.0).ok_or("no memory")?;
                let key = PEM_read_bio_PrivateKey(source.0.as_ptr(), ptr::null_mut(), None, EMPTY.cast_mut().cast());
                let key = NonNull::new(key).ok_or("OpenSSL does not read `key`")?;
                let used = SSL_CTX_use_PrivateKey(raw, key.as_ptr());
                EVP_PKEY_free(key.as_ptr());
                if used != 1 || SSL_CTX_check_private_key(raw) != 1 {
                    return Err("OpenSSL does not take `key`");
                }
            }
            Ok(context)
        }
    }

    fn share(&self) -> Option<(*mut SSL_CTX, bool)> {
        let context = self.context.as_ptr();
        // SAFETY: the context is live as long as we hold it.
        (unsafe { SSL_CTX_up_ref(context) } == 1).then_some((context, self.verify))
    }
}

/// Lets the handshake of `pc` take up the session of an earlier connection of the same kind.
///
/// # Safety
///
/// `pc` is a connection in its TLS handshake.
pub unsafe fn resume(pc: &mut ngx_peer_connection_t, connection: u64, address: &[u8; 28]) {
    fence("TLS session", (), || {
        // SAFETY: the caller's promise.
        unsafe {
            if pc.connection.as_ref().is_none_or(|c| c.ssl.is_null()) {
                return;
            }
            SESSIONS.with(|sessions| {
                if let Ok(sessions) = sessions.try_borrow()
                    && let Some(session) = sessions.get(&(connection, *address))
                {
                    ngx_ssl_set_session(pc.connection, session.0.as_ptr());
                }
            });
        }
    });
}

/// Keeps the session of `pc` for the next connection of the same kind.
///
/// # Safety
///
/// `pc` is a connection whose TLS handshake is over.
pub unsafe fn keep(pc: &mut ngx_peer_connection_t, connection: u64, address: &[u8; 28]) {
    fence("TLS session", (), || {
        // SAFETY: the caller's promise; the reference that OpenSSL gives is ours.
        unsafe {
            if pc.connection.as_ref().is_none_or(|c| c.ssl.is_null()) {
                return;
            }
            let Some(session) = NonNull::new(ngx_ssl_get_session(pc.connection)).map(Session) else { return };
            SESSIONS.with(|sessions| {
                let Ok(mut sessions) = sessions.try_borrow_mut() else { return };
                if sessions.len() >= SESSIONS_MAX {
                    sessions.clear();
                }
                sessions.insert((connection, *address), session);
            });
        }
    });
}
