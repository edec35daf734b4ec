//! Whoever owns a region's memory: the heap in tests and in a single process, an anonymous shared mapping across
//! forks. In nginx the zone owns it.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::{Region, RegionError};

/// A region on the heap, for tests and for one process. Handles must not be used after it is dropped.
pub struct HeapRegion {
    region: Region,
    block: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns a block of the heap, which any thread may free.
unsafe impl Send for HeapRegion {}
// SAFETY: it hands out `&Region` alone, which is `Sync`.
unsafe impl Sync for HeapRegion {}

impl HeapRegion {
    /// A fresh region of `size` bytes.
    pub fn new(size: usize, secret: [u64; 2]) -> Result<Self, RegionError> {
        // More alignment would make the allocator clear the memory by hand, which commits every page of it.
        let total = size.saturating_add(64);
        let layout =
            Layout::from_size_align(total, 16).map_err(|_| RegionError::TooLarge { most: isize::MAX as usize })?;
        // SAFETY: the layout is not empty.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(RegionError::Memory(libc::ENOMEM))?;
        let skip = block.as_ptr().align_offset(64);
        // SAFETY: at most 63 bytes are skipped and `size` remain; zeroed, and dropped with `self`.
        match unsafe { Region::format(block.add(skip), size, secret) } {
            Ok(region) => Ok(Self { region, block, layout }),
            Err(error) => {
                // SAFETY: allocated above with this layout.
                unsafe { dealloc(block.as_ptr(), layout) };
                Err(error)
            }
        }
    }

    /// The handle.
    #[must_use]
    pub fn region(&self) -> Region {
        self.region
    }
}

impl Deref for HeapRegion {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.region
    }
}

impl Drop for HeapRegion {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.block.as_ptr(), self.layout) };
    }
}

/// A region in an anonymous shared mapping: made before a fork, used by all its processes. Handles must not be used
/// after it is dropped; a child that ends without unwinding never drops it, and need not.
pub struct SharedRegion {
    region: Region,
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: it owns a mapping, which any thread may unmap.
unsafe impl Send for SharedRegion {}
// SAFETY: it hands out `&Region` alone, which is `Sync`.
unsafe impl Sync for SharedRegion {}

impl SharedRegion {
    /// A fresh region of `size` bytes.
    pub fn new(size: usize, secret: [u64; 2]) -> Result<Self, RegionError> {
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size.max(1),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let failed = || RegionError::Memory(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
        let base = NonNull::new(base).filter(|base| base.as_ptr() != libc::MAP_FAILED).ok_or_else(failed)?;
        // SAFETY: `size` zeroed bytes, mapped until `self` is dropped.
        match unsafe { Region::format(base.cast(), size, secret) } {
            Ok(region) => Ok(Self { region, base: base.cast(), size }),
            Err(error) => {
                // SAFETY: mapped above.
                unsafe { libc::munmap(base.as_ptr(), size.max(1)) };
                Err(error)
            }
        }
    }

    /// The handle.
    #[must_use]
    pub fn region(&self) -> Region {
        self.region
    }
}

impl Deref for SharedRegion {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.region
    }
}

impl Drop for SharedRegion {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tables::breaker;

    #[test]
    fn a_region_is_refused_rather_than_misread() {
        assert!(matches!(HeapRegion::new(4096, [0; 2]), Err(RegionError::TooSmall { needed }) if needed > 4096));
        assert!(matches!(SharedRegion::new(0, [0; 2]), Err(RegionError::TooSmall { .. })));
        let owner = SharedRegion::new(1 << 20, [1, 2]).unwrap();
        assert_eq!((owner.secret(), owner.generation(), owner.workers()), ([1, 2], 0, 32));
        let attach = |base: NonNull<u8>, size| {
            // SAFETY: mapped as long as `owner` lives.
            unsafe { Region::attach(base, size) }.map(|_| ())
        };
        assert_eq!(attach(owner.base, 1 << 20), Ok(()));
        assert_eq!(attach(owner.base, 1 << 19), Err(RegionError::TooSmall { needed: 960 << 10 }));
        assert_eq!(attach(owner.base, (1 << 20) - 4096), Err(RegionError::Size { found: 1 << 20 }));
        owner.memory.put_u64(8, 1);
        assert_eq!(attach(owner.base, 1 << 20), Err(RegionError::Layout { found: 1 }));
        owner.memory.put_u64(0, 1);
        assert_eq!(attach(owner.base, 1 << 20), Err(RegionError::Magic));
        let heap = HeapRegion::new(1 << 20, [0; 2]).unwrap();
        assert!(heap.rate_words().len() / 2 > 20_000);
        assert!(heap.peer_words().len() / 24 >= 340 && heap.breaker_words().len() / breaker::WIDTH >= 70);
        assert!(heap.shard_words(31).len() >= 512 && heap.shard_words(32).is_empty());
    }
}
