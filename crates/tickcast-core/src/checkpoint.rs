//! The windows on disk, for sources that can't be read again: written step by step beside the judging.
//!
//! A step copies some of the settled ticks, and notes up to which sequence of the tape they are settled; what came to
//! the tape after that is taken from there. So steps need not be of one moment: each segment of an instrument's time
//! has a sequence of its own, and together with the tape it is exact.
//!
//! ## The file, little-endian
//! `TCWINDOW`, version u32, epoch u64, time of writing i64, event clock i64; then segments: 1 u8, length of the
//! instrument id u16, the id, sequence u64, after i64, through i64, count u32, and for each tick time i64, price f64,
//! volume u64 (highest bit: VALID); the last one of an instrument ends with the newest evicted time i64, length u8, and
//! for each of the times that eviction goes by, how many ticks ago u8, time i64. Then 0 u8, number of ticks u64, and
//! CRC-32 of everything before u32.

use crate::judge::Judge;
use crate::window::{Clock, Segment, Tick};
use crate::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"TCWINDOW";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 36;
/// Ticks that one step copies, about.
const STEP_TICKS: usize = 16_384;
/// Instruments that one step looks at, at most.
const STEP_INSTRUMENTS: u32 = 2_048;
const VALID: u64 = 1 << 63;
const SEGMENT: u8 = 1;
const END: u8 = 0;

/// A checkpoint that is being written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    sum: crc32fast::Hasher,
    buffer: Vec<u8>,
    instrument: u32,
    after_ns: i64,
    ticks: u64,
}

impl Writer {
    /// Begins a file beside `path`, for windows over the tape of this epoch; `now_ns` is the wall clock.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin(path: &Path, epoch: u64, event_clock_ns: i64, now_ns: i64) -> Result<Self> {
        let temporary = path.with_extension("new");
        let file = File::create(&temporary).map_err(|source| io("cannot create", &temporary, source))?;
        let mut buffer = Vec::with_capacity(HEADER_BYTES);
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&VERSION.to_le_bytes());
        buffer.extend_from_slice(&epoch.to_le_bytes());
        buffer.extend_from_slice(&now_ns.to_le_bytes());
        buffer.extend_from_slice(&event_clock_ns.to_le_bytes());
        let sum = crc32fast::Hasher::new();
        let path = path.to_owned();
        Ok(Writer { path, temporary, file, sum, buffer, instrument: 0, after_ns: i64::MIN, ticks: 0 })
    }

    /// Copies some more, in bounded time; false once everything is copied. All that is settled must be on the tape, up
    /// to `sequence`.
    pub fn step(&mut self, judge: &Judge, sequence: u64) -> bool {
        let windows = judge.windows();
        let (mut left, last) = (STEP_TICKS, self.instrument.saturating_add(STEP_INSTRUMENTS));
        while self.instrument < windows.instruments() && self.instrument < last && left > 0 {
            let Some(segment) = windows.segment(self.instrument, self.after_ns, left) else {
                self.instrument += 1;
                continue;
            };
            self.put_segment(judge.names().get(self.instrument), sequence, &segment);
            left = left.saturating_sub(segment.ticks.len().max(1));
            self.after_ns = segment.through_ns;
            if segment.through_ns == i64::MAX {
                self.put_clock(
                    &windows.clock(self.instrument).unwrap_or(Clock { evicted_ns: i64::MIN, recent: vec![] }),
                );
                self.after_ns = i64::MIN;
                self.instrument += 1;
            }
        }
        self.instrument < windows.instruments()
    }

    /// Brings what was copied to the file; may take its time.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self) -> Result<()> {
        self.sum.update(&self.buffer);
        self.file.write_all(&self.buffer).map_err(|source| io("cannot write", &self.temporary, source))?;
        self.buffer.clear();
        Ok(())
    }

    /// Puts the file in its place, once it is on the disk; returns how many ticks it has.
    ///
    /// # Errors
    /// [`Error::Io`]; an earlier file is still there then.
    pub fn finish(mut self) -> Result<u64> {
        self.buffer.push(END);
        self.buffer.extend_from_slice(&self.ticks.to_le_bytes());
        self.write()?;
        let sum = self.sum.clone().finalize().to_le_bytes();
        let path = &self.temporary;
        self.file.write_all(&sum).map_err(|source| io("cannot write", path, source))?;
        self.file.sync_all().map_err(|source| io("cannot flush", path, source))?;
        std::fs::rename(path, &self.path).map_err(|source| io("cannot rename", path, source))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|f| f.sync_all()).map_err(|source| io("cannot flush", folder, source))?;
        Ok(self.ticks)
    }

    fn put_segment(&mut self, name: &str, sequence: u64, segment: &Segment) {
        let out = &mut self.buffer;
        out.push(SEGMENT);
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&segment.after_ns.to_le_bytes());
        out.extend_from_slice(&segment.through_ns.to_le_bytes());
        out.extend_from_slice(&(segment.ticks.len() as u32).to_le_bytes());
        for tick in &segment.ticks {
            let volume = tick.volume as u64 | if tick.valid { VALID } else { 0 };
            out.extend_from_slice(&tick.timestamp_ns.to_le_bytes());
            out.extend_from_slice(&tick.price.to_le_bytes());
            out.extend_from_slice(&volume.to_le_bytes());
        }
        self.ticks += segment.ticks.len() as u64;
    }

    fn put_clock(&mut self, clock: &Clock) {
        self.buffer.extend_from_slice(&clock.evicted_ns.to_le_bytes());
        self.buffer.push(clock.recent.len() as u8);
        for (ago, time_ns) in &clock.recent {
            self.buffer.push(*ago);
            self.buffer.extend_from_slice(&time_ns.to_le_bytes());
        }
    }
}

/// What was taken from a checkpoint.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Epoch of the tape that its sequences are of.
    pub epoch: u64,
    /// When it was begun, ns since the Unix epoch.
    pub written_ns: i64,
    /// Ticks.
    pub ticks: u64,
    /// Lowest sequence of a segment: the tape has to go on right behind it, at the latest.
    pub lowest: Option<u64>,
    /// For each instrument: until which time, and settled up to which sequence; in order of time.
    segments: HashMap<String, Vec<(i64, u64)>>,
}

impl Restored {
    /// Whether a trade of the same tape is in the checkpoint, or was evicted before it.
    pub fn has(&self, instrument_id: &str, timestamp_ns: i64, sequence: u64) -> bool {
        let Some(segments) = self.segments.get(instrument_id) else { return false };
        let at = segments.partition_point(|(through_ns, _)| *through_ns < timestamp_ns);
        segments.get(at).is_some_and(|(_, settled)| sequence <= *settled)
    }
}

/// Takes the windows of a checkpoint in; `None` if there is no file. Those of the judge must be empty.
///
/// # Errors
/// [`Error::File`] for a file that is no whole checkpoint of this version, [`Error::Io`]: the windows are empty then.
pub fn restore(path: &Path, judge: &mut Judge) -> Result<Option<Restored>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|source| io("cannot open", path, source))?,
    };
    let bytes = check(path, &file)?;
    let file = File::open(path).map_err(|source| io("cannot open", path, source))?;
    let mut source = Source { path, from: BufReader::with_capacity(1 << 20, file), left: bytes - 4 };
    match source.restore(judge) {
        Ok(restored) => Ok(Some(restored)),
        Err(error) => {
            judge.clear()?;
            Err(error)
        }
    }
}

/// Reads the file once to see whether it is whole; returns its length.
fn check(path: &Path, mut file: &File) -> Result<u64> {
    let bytes = file.metadata().map_err(|source| io("cannot read", path, source))?.len();
    if bytes < HEADER_BYTES as u64 + 13 {
        return Err(damaged(path, format!("it has {bytes} bytes, fewer than any checkpoint")));
    }
    let (mut sum, mut left, mut piece) = (crc32fast::Hasher::new(), bytes - 4, vec![0; 1 << 20]);
    while left > 0 {
        let some = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut piece[..some]).map_err(|source| io("cannot read", path, source))?;
        sum.update(&piece[..some]);
        left -= some as u64;
    }
    let mut stated = [0; 4];
    file.read_exact(&mut stated).map_err(|source| io("cannot read", path, source))?;
    if sum.finalize() != u32::from_le_bytes(stated) {
        return Err(damaged(path, "its checksum is wrong".to_owned()));
    }
    Ok(bytes)
}

/// A checkpoint that is being read.
struct Source<'p> {
    path: &'p Path,
    from: BufReader<File>,
    left: u64,
}

impl Source<'_> {
    fn restore(&mut self, judge: &mut Judge) -> Result<Restored> {
        if &self.take::<8>()? != MAGIC {
            return Err(damaged(self.path, "it is no checkpoint of windows".to_owned()));
        }
        let version = self.u32()?;
        if version != VERSION {
            return Err(damaged(self.path, format!("it is of version {version}, this one reads {VERSION}")));
        }
        let mut restored = Restored { epoch: self.u64()?, written_ns: self.i64()?, ..Restored::default() };
        judge.advance_clock(self.i64()?);
        while self.take::<1>()? == [SEGMENT] {
            self.take_segment(judge, &mut restored)?;
        }
        if self.u64()? != restored.ticks || self.left > 0 {
            return Err(damaged(self.path, "it does not hang together".to_owned()));
        }
        Ok(restored)
    }

    fn take_segment(&mut self, judge: &mut Judge, restored: &mut Restored) -> Result<()> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let mut name = vec![0; length];
        self.fill(&mut name)?;
        let name = String::from_utf8(name).map_err(|_| damaged(self.path, "an instrument is no text".to_owned()))?;
        let sequence = self.u64()?;
        let (after_ns, through_ns, count) = (self.i64()?, self.i64()?, self.u32()?);
        if u64::from(count) * 24 > self.left {
            return Err(damaged(self.path, format!("{name} has {count} ticks, more than there are bytes")));
        }
        let mut ticks = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (timestamp_ns, price, volume) = (self.i64()?, f64::from_bits(self.u64()?), self.u64()?);
            ticks.push(Tick { timestamp_ns, price, volume: (volume & !VALID) as i64, valid: volume & VALID != 0 });
        }
        let windows = judge.windows_of(&name);
        let mut fits = windows.take_segment(&Segment { after_ns, through_ns, ticks });
        if through_ns == i64::MAX {
            let clock = self.clock()?;
            fits = fits && judge.windows_of(&name).set_clock(&clock);
        }
        if !fits {
            return Err(damaged(self.path, format!("{name} has ticks that can't be")));
        }
        restored.ticks += u64::from(count);
        restored.lowest = Some(restored.lowest.map_or(sequence, |lowest| lowest.min(sequence)));
        restored.segments.entry(name).or_default().push((through_ns, sequence));
        Ok(())
    }

    fn clock(&mut self) -> Result<Clock> {
        let evicted_ns = self.i64()?;
        let [length] = self.take()?;
        let mut recent = Vec::with_capacity(usize::from(length));
        for _ in 0..length {
            let [ago] = self.take()?;
            recent.push((ago, self.i64()?));
        }
        Ok(Clock { evicted_ns, recent })
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.take()?))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() as u64 > self.left {
            return Err(damaged(self.path, "it ends too soon".to_owned()));
        }
        self.left -= bytes.len() as u64;
        self.from.read_exact(bytes).map_err(|source| io("cannot read", self.path, source))
    }
}

fn damaged(path: &Path, why: String) -> Error {
    Error::File { path: path.to_owned(), what: format!("is no checkpoint to go on from: {why}") }
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { what, path: path.to_owned(), source }
}
