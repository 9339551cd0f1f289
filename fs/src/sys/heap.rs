//! Memory that the allocator keeps for later, given back.

/// Gives the kernel back what was freed. The allocator keeps what lies between pieces still in use:
/// after a large piece of work that is most of what the work took.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes no pointer and may be called at any time, by any thread.
    let _ = unsafe { libc::malloc_trim(0) };
}
