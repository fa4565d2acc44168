//! Every interleaving of the three agreements, and every value that a relaxed load may return:
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release -p tickcast-core --lib tape::protocol`.

#![allow(clippy::unwrap_used, reason = "a model may panic")]

use super::super::memory::{AtomicU64, Ordering, load_ring, store_ring};
use super::{Bell, Flip, Span};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// Words that threads of a model share.
fn words<const N: usize>() -> Arc<[AtomicU64; N]> {
    Arc::new(std::array::from_fn(|_| AtomicU64::new(0)))
}

/// A ring of two trades of two words each: head, oldest, then the words.
const SLOTS: u64 = 2;

fn span(words: &[AtomicU64; 6]) -> Span<'_> {
    Span { head: &words[0], oldest: &words[1] }
}

fn append(words: &[AtomicU64; 6], seq: u64) {
    if seq > SLOTS {
        span(words).give_up(seq - SLOTS + 1);
    }
    store_ring(&words[2..], seq * 2, &[seq, seq]);
    span(words).publish(seq);
}

#[test]
fn delivered_and_in_gaps_is_written_and_nothing_is_torn() {
    loom::model(|| {
        let words = words::<6>();
        span(&words).give_up(1);
        append(&words, 1);
        let writer = thread::spawn({
            let words = words.clone();
            move || (2..=4).for_each(|seq| append(&words, seq))
        });
        let (mut next, mut delivered, mut in_gaps) = (1, 0, 0);
        let mut read = |words: &[AtomicU64; 6]| {
            let head = span(words).head();
            while next <= head {
                let mut copy = [0; 2];
                load_ring(&words[2..], next * 2, &mut copy);
                match span(words).still_holds(next) {
                    Ok(()) => {
                        assert_eq!(copy, [next, next]);
                        delivered += 1;
                        next += 1;
                    }
                    Err(oldest) => {
                        in_gaps += oldest - next;
                        next = oldest;
                    }
                }
            }
        };
        read(&words);
        writer.join().unwrap();
        read(&words);
        assert_eq!(delivered + in_gaps, 4);
    });
}

/// The snapshot of [`super::super::snapshot`], of one instrument: head, oldest, ring of two, applied, version, copies.
#[test]
fn snapshot_is_the_newest_as_of_its_head() {
    loom::model(|| {
        let words = words::<8>();
        let snapshot = |words: &[AtomicU64; 8]| -> (u64, u64) {
            let span = Span { head: &words[0], oldest: &words[1] };
            let applied = words[4].load(Ordering::Acquire);
            let mut newest = [0];
            Flip { version: &words[5], copies: &words[6..] }.read(&mut newest);
            let head = span.head();
            for seq in applied + 1..=head {
                let mut slot = [0];
                load_ring(&words[2..4], seq, &mut slot);
                if span.still_holds(seq).is_err() {
                    return (0, 0);
                }
                newest[0] = newest[0].max(slot[0]);
            }
            (head, newest[0])
        };
        let append = |words: &[AtomicU64; 8], seq: u64| {
            let span = Span { head: &words[0], oldest: &words[1] };
            if seq > SLOTS {
                span.give_up(seq - SLOTS + 1);
            }
            store_ring(&words[2..4], seq, &[seq]);
            span.publish(seq);
            Flip { version: &words[5], copies: &words[6..] }.write(|copy| copy[0].store(seq, Ordering::Relaxed));
            words[4].store(seq, Ordering::Release);
        };
        append(&words, 1);
        let writer = thread::spawn({
            let words = words.clone();
            move || (2..=3).for_each(|seq| append(&words, seq))
        });
        let (head, newest) = snapshot(&words);
        assert_eq!(newest, head);
        writer.join().unwrap();
        assert_eq!(snapshot(&words), (3, 3));
    });
}

#[test]
fn flipped_value_is_read_whole_and_never_goes_back() {
    loom::model(|| {
        let words = words::<5>();
        let flip = |words: &[AtomicU64; 5]| {
            let mut copy = [0; 2];
            let version = Flip { version: &words[0], copies: &words[1..] }.read(&mut copy);
            (version, copy)
        };
        let write = |words: &[AtomicU64; 5], value: u64| {
            Flip { version: &words[0], copies: &words[1..] }.write(|to| {
                to[0].store(value, Ordering::Relaxed);
                to[1].store(value, Ordering::Relaxed);
            });
        };
        write(&words, 1);
        let writer = thread::spawn({
            let words = words.clone();
            move || (2..=4).for_each(|value| write(&words, value))
        });
        let (first, copy) = flip(&words);
        assert_eq!(copy, [first, first]);
        let (second, copy) = flip(&words);
        assert_eq!(copy, [second, second]);
        assert!(second >= first);
        writer.join().unwrap();
        assert_eq!(flip(&words), (4, [4, 4]));
    });
}

/// What the kernel does for a futex: looking and falling asleep is one step.
#[derive(Default)]
struct Kernel {
    lock: Mutex<()>,
    asleep: Condvar,
}

impl Kernel {
    fn wait(&self, word: &AtomicU64, seen: u64) {
        let guard = self.lock.lock().unwrap();
        if word.load(Ordering::Acquire) == seen {
            drop(self.asleep.wait(guard).unwrap());
        }
    }

    fn wake_all(&self) {
        drop(self.lock.lock().unwrap());
        self.asleep.notify_all();
    }
}

/// Sleepers wait for heads 1 and 2; a wake-up lost would leave a thread asleep for ever, which loom reports.
fn no_wake_up_is_lost(sleepers: usize) {
    loom::model(move || {
        let words = words::<3>();
        let kernel = Arc::new(Kernel::default());
        let threads: Vec<_> = (0..sleepers)
            .map(|_| {
                let (words, kernel) = (words.clone(), kernel.clone());
                thread::spawn(move || {
                    let bell = Bell { rings: &words[1], waiting: &words[2] };
                    loop {
                        let rings = bell.prepare();
                        if words[0].load(Ordering::Acquire) == 2 {
                            break;
                        }
                        kernel.wait(bell.rings, rings);
                    }
                })
            })
            .collect();
        let bell = Bell { rings: &words[1], waiting: &words[2] };
        for head in 1..=2 {
            words[0].store(head, Ordering::Release);
            if bell.ring() {
                kernel.wake_all();
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn one_sleeper_loses_no_wake_up() {
    no_wake_up_is_lost(1);
}

#[test]
fn two_sleepers_lose_no_wake_up() {
    no_wake_up_is_lost(2);
}
