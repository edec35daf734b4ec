//! The region in nginx's shared memory: made at a first start, found again at a reload.

use std::ffi::c_void;
use std::ptr::NonNull;

use gateway::gateway as pipeline;
use gateway::state::{Identity, Region};
use nginx_sys::{
    ngx_conf_t, ngx_int_t, ngx_log_t, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_pool_t, ngx_str_t,
};

use crate::conf::{self, MainConf};
use crate::raw::{self, Level, fence, rc};
use crate::{ngx_http_gateway_module, process};

/// Declares the zone; nginx maps it and calls [`init`] once the whole configuration is read.
pub fn add(cf: *mut ngx_conf_t, name: &mut ngx_str_t, size: usize) -> Result<*mut ngx_shm_zone_t, String> {
    if size < pipeline::ZONE_MIN {
        return Err(format!(
            "zone \"{}\" of {size} bytes is too small: \"gateway_zone\" needs at least {} bytes",
            conf::shown(*name),
            pipeline::ZONE_MIN
        ));
    }
    // SAFETY: `cf` and `name` are valid; the tag is the module's address, as nginx's own modules do.
    let zone = unsafe { ngx_shared_memory_add(cf, name, size, (&raw mut ngx_http_gateway_module).cast()) };
    // SAFETY: null or the cycle's.
    let Some(entry) = (unsafe { zone.as_mut() }) else {
        return Err(format!("zone \"{}\" cannot be declared", conf::shown(*name)));
    };
    entry.init = Some(init);
    entry.data = conf::main_conf(cf).map_or(std::ptr::null_mut(), |main| (main as *mut MainConf).cast());
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
    let region = if reload {
        region(zone).ok_or("the zone of the running gateway has another layout: restart nginx instead of reloading")?
    } else {
        make(zone)?
    };
    // SAFETY: `conf::check` ran before; the document lives as long as this cycle.
    let Some(document) = (unsafe { main.checked.as_mut() }) else { return Err("there is no document".into()) };
    let now = process::now();
    let done = match pipeline::Leader::take(region, Identity::current()) {
        Ok(Some(mut leader)) => {
            let done = leader.publish(document, now).map_err(|error| {
                format!("{}: {error}; a larger \"gateway_zone\" is needed", conf::shown(main.document))
            })?;
            for warning in done.warnings {
                raw::log(Level::Warning, log, &warning);
            }
            // What is revoked is so from the first request on.
            leader.follow(now, &mut |event| raw::log(process::level(event.severity), log, &event.text));
            Ok(())
        }
        // The process that leads the running gateway watches the same document and applies it.
        Ok(None) => Ok(()),
        Err(error) => Err(format!("the region cannot be recovered: {error}")),
    };
    // What is live stands in the region: the workers that are forked now need no copy of the secrets on their heaps.
    document.auth.clear();
    done
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
