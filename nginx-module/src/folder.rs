//! `gateway_state`: the folder for what outlives the region.
//!
//! nginx makes it as it makes the paths of its caches: at a start, by the master, 0700 and the workers' own. `nginx -t`
//! only looks whether that could be done.

use std::ffi::{c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use gateway::state::Folder;
use nginx_sys::{
    NGX_PROCESS_SIGNALLER, ngx_add_path, ngx_command_t, ngx_conf_full_name, ngx_conf_t, ngx_path_t, ngx_process,
    ngx_test_config,
};

use crate::conf::{MainConf, argument};
use crate::ngx_http_gateway_module;
use crate::raw::{self, CONF_ERROR, CONF_OK, DUPLICATE, bytes, conf_error, fence, rc};

impl MainConf {
    /// The state folder, where there is one.
    pub fn folder(&self) -> Option<Folder> {
        (self.state.len != 0).then(|| Folder::new(&path(self)))
    }
}

fn path(main: &MainConf) -> PathBuf {
    // SAFETY: the name lives as long as the cycle.
    let name = unsafe { bytes(main.state) };
    Path::new(std::ffi::OsStr::from_bytes(name)).to_owned()
}

pub unsafe extern "C" fn set(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    fence("gateway_state", CONF_ERROR, || {
        // SAFETY: nginx hands over this module's main configuration.
        let Some(main) = (unsafe { conf.cast::<MainConf>().as_mut() }) else { return CONF_ERROR };
        if main.state.len != 0 {
            return DUPLICATE;
        }
        let mut name = argument(cf, 1);
        // As nginx names its caches: without a slash at the end, since it compares the names of its paths.
        // SAFETY: arguments are valid strings.
        while name.len > 1 && unsafe { bytes(name) }.last() == Some(&b'/') {
            name.len -= 1;
        }
        // SAFETY: `name` is valid; a relative one begins at the prefix of nginx, as those of caches do.
        if name.len == 0 || unsafe { ngx_conf_full_name((*cf).cycle, &raw mut name, 0) } != rc::OK {
            return conf_error(cf, "\"gateway_state\" needs a path");
        }
        main.state = name;
        let folder = path(main);
        let parent = folder.parent().unwrap_or(Path::new("/"));
        let complaint = match std::fs::metadata(&folder) {
            Ok(meta) if meta.is_dir() => None,
            Ok(_) => Some(format!("{} is no folder", folder.display())),
            Err(_) if parent.is_dir() => None,
            Err(_) => Some(format!("there is no folder {} to make it in", parent.display())),
        };
        if let Some(complaint) = complaint {
            return conf_error(cf, &format!("\"gateway_state\": {complaint}"));
        }
        // SAFETY: globals of nginx, set before the configuration is read.
        if unsafe { ngx_test_config == 1 || ngx_process == NGX_PROCESS_SIGNALLER as usize } {
            return CONF_OK;
        }
        if add(cf, main) { CONF_OK } else { CONF_ERROR }
    })
}

/// Puts the folder among the paths that nginx makes; nginx says it where another directive uses the same one.
fn add(cf: *mut ngx_conf_t, main: &MainConf) -> bool {
    // SAFETY: `cf` and its file are valid while a directive is read; the structure is the pool's, and nginx keeps it.
    unsafe {
        let mut entry: *mut ngx_path_t = raw::zeroed((*cf).pool);
        let Some(place) = entry.as_mut() else { return false };
        place.name = main.state;
        // What tells it from a path of nginx's own.
        place.data = (&raw mut ngx_http_gateway_module).cast();
        place.conf_file = (*(*cf).conf_file).file.name.data;
        place.line = (*(*cf).conf_file).line;
        let given = entry;
        ngx_add_path(cf, &raw mut entry) == rc::OK && ptr::eq(entry, given)
    }
}
