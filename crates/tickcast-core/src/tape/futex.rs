//! Sleeping on a word that other processes change.

use super::memory::AtomicU64;
use std::time::Duration;

/// Sleeps until woken, `timeout` or a signal; not at all if the low half of `word` is not that of `seen` any more.
#[cfg(all(target_os = "linux", not(loom), not(miri)))]
pub(crate) fn wait(word: &AtomicU64, seen: u64, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the address is that of a live, aligned word, whose low half comes first (little-endian); the kernel
    // only reads it. FUTEX_WAIT without the private flag works across processes. The result does not matter: the
    // caller looks again in any case.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen as u32, &raw const timeout, 0usize, 0u32);
    }
}

/// Wakes everybody who sleeps on `word`.
#[cfg(all(target_os = "linux", not(loom), not(miri)))]
pub(crate) fn wake_all(word: &AtomicU64) {
    // SAFETY: as above; FUTEX_WAKE takes the address as a name only.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX, 0usize, 0usize, 0u32);
    }
}

/// Sleeps a little, where there is no futex between processes.
#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
pub(crate) fn wait(word: &AtomicU64, seen: u64, timeout: Duration) {
    if word.load(super::memory::Ordering::Acquire) == seen {
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
    }
}

/// Nothing to do: the sleepers look for themselves.
#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
pub(crate) fn wake_all(_word: &AtomicU64) {}
