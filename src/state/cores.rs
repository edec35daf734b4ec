//! What a core dump leaves out: a region holds secrets of the policy, and a dump is sent to people who may not have them.

use super::Region;

const PAGE: usize = 4096;

impl Region {
    /// Leaves the region's whole pages out of core dumps of this process and of those that it forks from now on
    /// (`MADV_DONTDUMP`). Where the kernel will not, nothing else is worse for it.
    pub fn keep_out_of_cores(&self) {
        let (base, size) = self.extent();
        let skip = base.as_ptr().align_offset(PAGE);
        let length = size.saturating_sub(skip) / PAGE * PAGE;
        if length > 0 {
            // SAFETY: whole pages inside the region, whose content and protection stay as they are.
            unsafe { libc::madvise(base.add(skip).as_ptr().cast(), length, libc::MADV_DONTDUMP) };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::state::SharedRegion;

    /// The `VmFlags` of the mapping that holds `address`.
    fn flags(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((from, to)) = range
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                is_inside = (from..to).contains(&address);
            }
            if is_inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.to_owned();
            }
        }
        panic!("no mapping holds {address:x}");
    }

    #[test]
    fn the_kernel_leaves_it_out() {
        let size = 2 << 20;
        let region = SharedRegion::new(size, [1, 2]).unwrap();
        let (base, _) = region.extent();
        let first = base.as_ptr().addr();
        let dumped = |address| !flags(address).split(' ').any(|flag| flag == "dd");
        assert!(dumped(first) && dumped(first + size - 1), "a mapping is dumped as it is made");
        region.keep_out_of_cores();
        assert!(!dumped(first) && !dumped(first + size / 2) && !dumped(first + size - 1));
    }
}
