//! At most 24 bytes and 10 % for a held tick, counted at the allocator. One test: it counts the whole process.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tickcast_core::window::{WindowConfig, Windows};

/// The system's allocator, counting what is handed out.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What an instrument takes whatever it holds.
const INSTRUMENT_BYTES: usize = 3_000;

#[test]
fn a_held_tick_takes_24_bytes_and_less_than_a_tenth_more() {
    const MINUTE: i64 = 60_000_000_000;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
    let mut noise = move |below: i64| (random.next_u64() % below as u64) as i64;
    let step = 90 * MINUTE / 400_000;
    for instruments in [1usize, 300] {
        for order in ["in order", "jitter", "shuffled", "backwards", "two feeds"] {
            let before = ALLOCATED.load(Relaxed);
            let mut windows = Windows::new(WindowConfig::default()).expect("the default configuration is allowed");
            for i in 0..400_000i64 {
                let timestamp_ns = match order {
                    "in order" => i * step,
                    "jitter" => i * step + noise(MINUTE / 60),
                    "shuffled" => i * step + noise(10 * MINUTE),
                    "backwards" => 90 * MINUTE - i * step,
                    _ => i * step + (i / instruments as i64 % 2) * 15 * MINUTE,
                };
                let code = (i as usize % instruments) as u32;
                let entered = windows.enter(code, 10.0, 1, timestamp_ns);
                windows.settle(code, entered.ticket, true);
            }
            let used = ALLOCATED.load(Relaxed) - before;
            assert!(used.abs_diff(windows.bytes() as usize) < 1_000, "{used} used, {} stated", windows.bytes());
            let allowed = windows.held() as usize * 264 / 10 + instruments * INSTRUMENT_BYTES;
            let per_tick = (used - instruments * 1_500) as f64 / windows.held() as f64;
            assert!(used <= allowed, "{order}, {instruments}: {used} bytes, {allowed} allowed, {per_tick} a tick");
        }
    }
}
