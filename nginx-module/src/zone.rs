//! The region in nginx's shared memory: made at a first start, found again at a reload.
//!
//! With `file=` nginx's zone holds nothing but where the region is mapped. Its name then says path and size, so that a
//! reload that changes one of them begins with a fresh zone and opens the file, as a start does.

use std::cell::RefCell;
use std::ffi::c_void;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::rc::{Rc, Weak};

use gateway::config::Document;
use gateway::gateway::{
    self as pipeline, CarryError, DOCUMENT_MAX, LAST_GOOD, Leader, PublishError, Published, Standing,
};
use gateway::state::{FileRegion, Folder, Found, Identity, Region, SharedRegion, give_back};
use gateway::types::Now;
use nginx_sys::{
    ngx_conf_t, ngx_cycle_t, ngx_int_t, ngx_log_t, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc,
    ngx_slab_pool_t, ngx_str_t,
};

use crate::conf::{self, MainConf, Recording};
use crate::raw::{self, Level, fence, rc};
use crate::rights::{AsWorkers, Workers};
use crate::{ngx_http_gateway_module, process};

/// Declares the zone; nginx maps it and calls [`init`] once the whole configuration is read.
pub fn add(cf: *mut ngx_conf_t, name: &mut ngx_str_t, main: &mut MainConf) -> Result<*mut ngx_shm_zone_t, String> {
    let mut size = main.zone_size;
    if size < pipeline::ZONE_MIN {
        return Err(format!(
            "zone \"{}\" of {size} bytes is too small: \"gateway_zone\" needs at least {} bytes",
            conf::shown(*name),
            pipeline::ZONE_MIN
        ));
    }
    if main.zone_file.len != 0 {
        let whole = format!("{} {size} {}", conf::shown(*name), conf::shown(main.zone_file));
        // SAFETY: the cycle's pool, which zones outlive no longer than it is compared with.
        *name = unsafe { raw::copy((*cf).pool, whole.as_bytes()) }.ok_or("no memory")?;
        size = PLACE_SIZE;
    }
    // SAFETY: `cf` and `name` are valid; the tag is the module's address, as nginx's own modules do.
    let zone = unsafe { ngx_shared_memory_add(cf, name, size, (&raw mut ngx_http_gateway_module).cast()) };
    // SAFETY: null or the cycle's.
    let Some(entry) = (unsafe { zone.as_mut() }) else {
        return Err(format!("zone \"{}\" cannot be declared", conf::shown(*name)));
    };
    entry.init = Some(init);
    entry.data = ptr::from_mut(main).cast();
    Ok(zone)
}

/// The region of a zone that has been initialised.
pub fn region(zone: *mut ngx_shm_zone_t) -> Option<Region> {
    // SAFETY: a zone's memory begins with nginx's slab pool; `data` is where [`init`] put our block's address, and the
    // block's size stands in its first word's neighbour, which `attach` checks.
    unsafe {
        let pool = zone.as_ref()?.shm.addr.cast::<ngx_slab_pool_t>().as_ref()?;
        let block = NonNull::new(pool.data.cast::<Block>())?;
        let base = NonNull::new(block.as_ref().base)?;
        Region::attach(base, block.as_ref().size).ok()
    }
}

/// Bytes of a zone that only says where the region is.
const PLACE_SIZE: usize = 64 << 10;

/// What the slab pool's `data` points at.
#[repr(C)]
struct Block {
    base: *mut u8,
    size: usize,
}

unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, old: *mut c_void) -> ngx_int_t {
    fence("zone init", rc::ERROR, || {
        // SAFETY: nginx calls this in the master with a mapped zone, whose `data` is the main configuration.
        let (log, main) = unsafe { ((*zone).shm.log, (*zone).data.cast::<MainConf>().as_ref()) };
        let Some(main) = main else { return rc::ERROR };
        match prepare(zone, !old.is_null(), main, log) {
            Ok(()) => rc::OK,
            Err(message) => {
                raw::log(Level::Emergency, log, &message);
                rc::ERROR
            }
        }
    })
}

fn prepare(zone: *mut ngx_shm_zone_t, reload: bool, main: &MainConf, log: *mut ngx_log_t) -> Result<(), String> {
    // SAFETY: `conf::check` ran before; what it read lives as long as this cycle.
    let Some(taken) = (unsafe { main.taken.as_mut() }) else { return Err("there is no document".into()) };
    // SAFETY: the cycle is live, and its configuration is read.
    let workers = unsafe { Workers::of(main.cycle) };
    if taken.document.is_some()
        && let Some(workers) = workers
    {
        let unreadable = workers.unreadable(&taken.files);
        if !unreadable.is_empty() {
            return Err(unreadable.join("; "));
        }
    }
    let (region, mut file, from) = if reload {
        let region = region(zone);
        (
            region.ok_or("the zone of the running gateway has another layout: restart nginx instead of reloading")?,
            None,
            None,
        )
    } else if main.zone_file.len == 0 {
        (make(zone)?, None, None)
    } else {
        open(main, log)?
    };
    let done = match Leader::take(region, Identity::current()) {
        Ok(Some(mut leader)) => {
            if let Some(folder) = main.folder() {
                match gateway::admin::read_overlays(&folder, process::now()) {
                    Ok(overlays) => leader.lay(overlays),
                    Err(text) => raw::log(Level::Error, log, &text),
                }
            }
            publish(&mut leader, main, taken.document.as_ref(), workers, from, log)
        }
        // The process that leads the running gateway watches the same document and applies it.
        Ok(None) => Ok(()),
        Err(error) => Err(format!("the region cannot be recovered: {error}")),
    };
    // What is live stands in the region: the workers that are forked now need no copy of the secrets on their heaps.
    taken.document = None;
    give_back();
    done?;
    if let Some(mut file) = file.take() {
        file.install().map_err(|error| format!("{}: {error}", conf::shown(main.zone_file)))?;
        note(zone, region)?;
        MAPPED.with_borrow_mut(|mapped| mapped.push(Rc::downgrade(&hold(main, Rc::new(file)))));
    } else if main.zone_file.len != 0 {
        // The mapping of the cycle before this one is this one's, too.
        MAPPED.with_borrow(|mapped| {
            let all = mapped.iter().filter_map(Weak::upgrade);
            all.filter(|file| file.region().is(&region)).for_each(|file| drop(hold(main, file)));
        });
    }
    Ok(())
}

thread_local! {
    /// The files that this master has mapped.
    static MAPPED: RefCell<Vec<Weak<FileRegion>>> = const { RefCell::new(Vec::new()) };
}

/// A region, the file that it is in, and another from which content is to be brought over; `true`: by another clock.
type Opened = (Region, Option<FileRegion>, Option<(FileRegion, bool)>);

/// The region in the file that `gateway_zone` names.
fn open(main: &MainConf, log: *mut ngx_log_t) -> Result<Opened, String> {
    let (name, size) = (conf::shown(main.zone_file), main.zone_size);
    let (path, told) = (Path::new(&name), |error: gateway::state::FileError| format!("{name}: {error}"));
    // SAFETY: a global of nginx.
    if unsafe { nginx_sys::ngx_test_config } == 1 {
        let region = SharedRegion::new(size, process::secret()).map_err(|error| error.to_string())?;
        // A test ends right after this.
        return Ok((std::mem::ManuallyDrop::new(region).region(), None, None));
    }
    let useless = |why: String| raw::log(Level::Warning, log, &format!("{name} {why}: it is made anew"));
    let fresh = |secret, replaces| FileRegion::make(path, size, secret, replaces).map_err(told);
    let (file, from) = match FileRegion::open(path, size).map_err(told)? {
        Found::Whole(file) => match Leader::take(file.region(), Identity::current()) {
            Ok(_) => (file, None),
            Err(damage) => {
                useless(format!("cannot be used: {damage}"));
                (fresh(process::secret(), true)?, None)
            }
        },
        Found::Other(old, booted) => (fresh(old.region().secret(), true)?, Some((old, booted))),
        Found::Nothing => (fresh(process::secret(), false)?, None),
        Found::Useless(why) => {
            useless(why);
            (fresh(process::secret(), true)?, None)
        }
    };
    let region = file.region();
    region.keep_out_of_cores();
    Ok((region, Some(file), from))
}

/// Keeps `file` mapped as long as the cycle lives.
fn hold(main: &MainConf, file: Rc<FileRegion>) -> Rc<FileRegion> {
    // SAFETY: the cycle's pool; the record drops what it was given.
    unsafe {
        if let Some(cleanup) = nginx_sys::ngx_pool_cleanup_add((*main.cycle).pool, 0).as_mut() {
            cleanup.handler = Some(let_go);
            cleanup.data = Rc::into_raw(file.clone()).cast_mut().cast();
        }
    }
    file
}

unsafe extern "C" fn let_go(data: *mut c_void) {
    fence("zone", (), || {
        // SAFETY: what `hold` gave to this record alone.
        drop(unsafe { Rc::from_raw(data.cast_const().cast::<FileRegion>()) });
    });
}

/// The last act of a master: what is in files is on the disk, where nobody uses it any more.
pub unsafe extern "C" fn end(_: *mut ngx_cycle_t) {
    fence("exit master", (), || {
        MAPPED.with_borrow(|mapped| mapped.iter().filter_map(Weak::upgrade).for_each(|file| file.settle()));
    });
}

/// Makes the document live; at the start of nginx, where that cannot be, the last one that was.
fn publish(
    leader: &mut Leader,
    main: &MainConf,
    document: Option<&Document>,
    workers: Option<Workers>,
    from: Option<(FileRegion, bool)>,
    log: *mut ngx_log_t,
) -> Result<(), String> {
    let (path, now) = (conf::shown(main.document), process::now());
    let unfit = |path: &str, error: PublishError| format!("{path}: {error}; a larger \"gateway_zone\" is needed");
    let from = from.as_ref();
    let why = match document.map(|document| fill(leader, from, Standing::Current, document, now, log)) {
        Some(Ok(done)) => {
            settle(leader, done, log);
            return Ok(());
        }
        Some(Err(error)) => unfit(&path, error),
        None => format!("{path} is bad"),
    };
    let folder = main.folder().filter(|folder| main.is_first_start() && folder.holds(LAST_GOOD));
    let Some(folder) = folder else { return Err(why) };
    let shown = folder.path().join(LAST_GOOD).display().to_string();
    let document = last_good(main, &folder, &shown, workers).map_err(|error| format!("{why}; {error}"))?;
    let done = fill(leader, from, Standing::LastGood, &document, now, log).map_err(|error| unfit(&shown, error))?;
    raw::log(Level::Critical, log, &format!("{why}; starting with what was live last, {shown}"));
    settle(leader, done, log);
    Ok(())
}

/// Publishes `document`, with what is in `from`, if there is anything.
fn fill(
    leader: &mut Leader,
    from: Option<&(FileRegion, bool)>,
    standing: Standing,
    document: &Document,
    now: Now,
    log: *mut ngx_log_t,
) -> Result<Published, PublishError> {
    if let Some((old, booted)) = from {
        match leader.carry(old.region(), *booted, standing, document, now) {
            Ok(done) => return Ok(done),
            Err(CarryError::Unfit(error)) => return Err(error),
            Err(CarryError::Damaged(damage)) => {
                raw::log(Level::Warning, log, &format!("nothing of the old region is kept: {damage}"));
            }
        }
    }
    leader.publish_as(standing, document, now)
}

/// What the state folder keeps, read as the workers can: it is theirs.
fn last_good(main: &MainConf, folder: &Folder, path: &str, workers: Option<Workers>) -> Result<Document, String> {
    let secrets = Recording::of(AsWorkers(workers));
    let text = AsWorkers(workers).read(|| match folder.read(LAST_GOOD, DOCUMENT_MAX) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err("it is gone".to_owned()),
        Err(error) => Err(error.to_string()),
    });
    let text = text.map_err(|error| format!("{path}: {error}"))?;
    let checked = pipeline::check_document(&text, path, &secrets).map_err(|lines| lines.join("; "))?;
    secrets.keep(main);
    let names = conf::missing_names(main, &checked.document);
    let names = names.into_iter().map(|(file, line, text)| format!("{text} in {}:{line}", conf::shown(file)));
    let wrong: Vec<_> = names.chain(conf::missing_zones(main, path, &checked.document)).collect();
    if wrong.is_empty() { Ok(checked.document) } else { Err(format!("{path}: {}", wrong.join("; "))) }
}

fn settle(leader: &mut Leader, done: Published, log: *mut ngx_log_t) {
    for warning in done.warnings {
        raw::log(Level::Warning, log, &warning);
    }
    // What is revoked is so from the first request on.
    leader.follow(process::now(), &mut |event| raw::log(process::level(event.severity), log, &event.text));
}

/// Takes everything that the slab pool has for one block and formats it.
fn make(zone: *mut ngx_shm_zone_t) -> Result<Region, String> {
    // SAFETY: a fresh zone begins with a slab pool; its pages are zero. The order of the two allocations matters: the
    // small one takes its page first, then the large one takes all whole pages that are left.
    unsafe {
        let pool = (*zone).shm.addr.cast::<ngx_slab_pool_t>();
        let block: *mut Block = ngx_slab_alloc(pool, size_of::<Block>()).cast();
        let Some(block) = block.as_mut() else { return Err("the zone has no room for its own header".into()) };
        let size = (*pool).pfree * nginx_sys::ngx_pagesize;
        let base = ngx_slab_alloc(pool, size).cast::<u8>();
        let Some(memory) = NonNull::new(base) else { return Err(format!("the zone has no room for {size} bytes")) };
        let region = Region::format(memory, size, process::secret()).map_err(|error| error.to_string())?;
        // Before the first secret stands in it, and before there is a worker: a fork inherits it.
        region.keep_out_of_cores();
        block.base = base;
        block.size = size;
        (*pool).data = (block as *mut Block).cast();
        Ok(region)
    }
}

/// Has the zone say where the region is.
fn note(zone: *mut ngx_shm_zone_t, region: Region) -> Result<(), String> {
    let (base, size) = region.extent();
    // SAFETY: a fresh zone begins with a slab pool.
    unsafe {
        let pool = (*zone).shm.addr.cast::<ngx_slab_pool_t>();
        let block: *mut Block = ngx_slab_alloc(pool, size_of::<Block>()).cast();
        let Some(place) = block.as_mut() else { return Err("the zone has no room for its own header".into()) };
        *place = Block { base: base.as_ptr(), size };
        (*pool).data = block.cast();
    }
    Ok(())
}
