//! The heap of a process that has read a large document.

/// Gives back to the system what is free in the heap. Reading a document of 100,000 routes takes some 200 MB for a moment,
/// in pieces so small that the allocator keeps the pages; what the master keeps, every worker that it forks has too.
pub fn give_back() {
    // SAFETY: changes nothing that anybody can name.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
