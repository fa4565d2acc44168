//! The tape as a file: created whole under another name, taken up by its name, locked beside it.

use super::layout::{Layout, MAGIC, Sizes, VERSION, header};
use super::memory::{Memory, Ordering};
use super::protocol::Bell;
use super::{LOCK_FILE, Shared, TAPE_FILE};
use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a held lock is tried again: readers that look whether a writer lives hold it for an instant.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);

/// Says where an operation of the system failed.
pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

/// Creates the run directory, private to the user, if it is not there.
pub(crate) fn create_run_dir(run_dir: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir);
    made.map_err(io_error("cannot create run directory", run_dir))
}

/// The lock of the writer; given back when dropped, or by the system when the process dies.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Takes the lock and leaves the own process id in it.
    pub fn take(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(io_error("cannot open", &path))?;
        let start = Instant::now();
        while !try_lock(&file, libc::LOCK_EX).map_err(io_error("cannot lock", &path))? {
            if start.elapsed() > LOCK_PATIENCE {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(Error::Busy { path: run_dir.join(TAPE_FILE), pid: text.trim().parse().unwrap_or(0) });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let noted =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(io_error("cannot write", &path))?;
        Ok(Lock(file))
    }
}

/// Whether a writer holds the lock of the tape at `tape_path`.
pub(crate) fn is_locked(tape_path: &Path) -> bool {
    let file = File::open(tape_path.with_file_name(LOCK_FILE));
    // The shared lock, if we get it, goes with the file at the end of this function.
    file.is_ok_and(|file| try_lock(&file, libc::LOCK_SH).is_ok_and(|got| !got))
}

fn try_lock(file: &File, kind: libc::c_int) -> io::Result<bool> {
    // SAFETY: the descriptor is open; flock touches no memory of ours.
    if unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        e if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        e => Err(e),
    }
}

/// Maps the tape at `path`, whose header must make sense.
///
/// # Errors
/// [`Error::Io`] where it can't be opened, [`Error::Tape`] where it is no tape of this version.
pub(crate) fn open_existing(path: &Path) -> Result<Shared> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error("cannot open", path))?;
    let not_a_tape = |what: String| Error::Tape { path: path.to_owned(), what };
    let metadata = file.metadata().map_err(io_error("cannot inspect", path))?;
    if metadata.len() < (header::WORDS * 8) as u64 {
        return Err(not_a_tape(format!("{} bytes are too few for a tape", metadata.len())));
    }
    let map = memmap2::MmapOptions::new().map_raw(&file).map_err(io_error("cannot map", path))?;
    let memory = Memory::Map(map);
    let word = |at: usize| memory.words()[at].load(Ordering::Acquire);
    if word(header::MAGIC) != MAGIC {
        return Err(not_a_tape("the file is no tape".to_owned()));
    }
    if word(header::VERSION) != VERSION {
        let found = word(header::VERSION);
        return Err(not_a_tape(format!("has layout version {found}, this tickcast reads version {VERSION}")));
    }
    let size = |at: usize| usize::try_from(word(at)).unwrap_or(usize::MAX).min(1 << 24);
    let sizes = Sizes {
        bytes: word(header::BYTES),
        enrichments: size(header::ENRICHMENTS),
        max_instruments: size(header::MAX_INSTRUMENTS),
        max_reasons: size(header::MAX_REASONS),
    };
    let layout = Layout::new(sizes).ok().filter(|_| sizes.bytes == metadata.len());
    let layout = layout.ok_or_else(|| not_a_tape("its header does not fit its size".to_owned()))?;
    let identity = Some((metadata.dev(), metadata.ino()));
    Ok(Shared { memory, layout, path: path.to_owned(), identity })
}

/// Creates a tape of this layout, all zeros but allocated whole, under the name that [`publish`] replaces.
///
/// # Errors
/// [`Error::Tape`] where there is no room, [`Error::Io`] where the system refuses otherwise.
pub(crate) fn create(path: &Path, layout: Layout) -> Result<Shared> {
    let temporary = temporary(path);
    let _ = std::fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(&temporary).map_err(io_error("cannot create", &temporary))?;
    let bytes = layout.sizes.bytes;
    let mut allocated = allocate_if_free(&file, path, bytes);
    if allocated.is_err() && old_one_would_do(path, bytes) {
        // The new tape replaces the one that is there in any case.
        supersede(path);
        let _ = std::fs::remove_file(path);
        allocated = allocate_if_free(&file, path, bytes);
    }
    if let Err(error) = allocated {
        let _ = std::fs::remove_file(&temporary);
        return Err(no_room(path, bytes, error));
    }
    let map = memmap2::MmapOptions::new().map_raw(&file).map_err(io_error("cannot map", &temporary))?;
    let metadata = file.metadata().map_err(io_error("cannot inspect", &temporary))?;
    let identity = Some((metadata.dev(), metadata.ino()));
    Ok(Shared { memory: Memory::Map(map), layout, path: path.to_owned(), identity })
}

/// Gives the tape from [`create`] its name. What had it before stays mapped by its readers, and tells them.
pub(crate) fn publish(shared: &Shared) -> Result<()> {
    supersede(&shared.path);
    std::fs::rename(temporary(&shared.path), &shared.path)
        .map_err(io_error("cannot put the new tape in place at", &shared.path))
}

/// Tells the readers of the tape at `path`, if one is there, that another takes its place.
fn supersede(path: &Path) {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return };
    let Ok(map) = memmap2::MmapOptions::new().map_raw(&file) else { return };
    let memory = Memory::Map(map);
    let words = memory.words();
    if words.len() < header::WORDS || words[header::MAGIC].load(Ordering::Relaxed) != MAGIC {
        return;
    }
    words[header::SUPERSEDED].store(1, Ordering::Release);
    if words[header::VERSION].load(Ordering::Relaxed) == VERSION {
        Bell { rings: &words[header::RINGS], waiting: &words[header::WAITING] }.ring_out();
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Allocates where there is room: to try without would take all that there is from everybody, for a moment.
fn allocate_if_free(file: &File, path: &Path, bytes: u64) -> io::Result<()> {
    if path.parent().and_then(free_bytes).is_some_and(|free| free < bytes) {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    allocate(file, bytes)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    loop {
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(mut file: &File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes), &mut file).map(|_| ())
}

/// Whether there would be room without the tape that is there now.
fn old_one_would_do(path: &Path, bytes: u64) -> bool {
    let old = std::fs::metadata(path).map_or(0, |file| file.len());
    let free = path.parent().and_then(free_bytes).unwrap_or(0);
    old > 0 && free.saturating_add(old) >= bytes
}

fn no_room(path: &Path, bytes: u64, error: io::Error) -> Error {
    let free = path.parent().and_then(free_bytes).map_or_else(|| "?".to_owned(), |n| n.to_string());
    let what = format!("needs {bytes} bytes, {free} are free ({error}): lower tape.bytes, or use another --run-dir");
    Error::Tape { path: path.to_owned(), what }
}

fn free_bytes(directory: &Path) -> Option<u64> {
    let name = std::ffi::CString::new(directory.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` ends with a zero byte, and `found` has room for what is written.
    if unsafe { libc::statvfs(name.as_ptr(), found.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call above succeeded, so it filled the structure.
    let found = unsafe { found.assume_init() };
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between systems")]
    Some((found.f_bavail as u64).saturating_mul(found.f_frsize as u64))
}

/// Returns a number for this boot of the machine; 0 where the system has none.
pub(crate) fn boot() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}
