//! Memory that the allocator keeps for later, given back.

/// Pieces from this size on are mapped by themselves: more than the 256 KiB in which headers are read,
/// which come and go.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 260 << 10;

/// Has large pieces mapped by themselves, so that freeing them gives them back at once. Left alone, the
/// allocator raises that size to the largest piece that was ever freed, and the holes that tables leave
/// behind when they grow are ours for ever.
pub fn map_large() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes two numbers and no pointer; it may be called by any thread.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN) };
}

/// Gives the kernel back what was freed. The allocator keeps what lies between pieces still in use:
/// after a large piece of work that is most of what the work took.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes no pointer and may be called at any time, by any thread.
    let _ = unsafe { libc::malloc_trim(0) };
}
