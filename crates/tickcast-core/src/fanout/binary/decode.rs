//! The bytes of a frame back to trades. Whatever the bytes are, reading them ends in a frame or in an error.

use super::{
    HEADER_BYTES, INSTRUMENT_STRING, MAGIC, REASON_STRING, RECORD_BYTES, SECTION_HEAD_BYTES, STAGES_BYTES, frame_flags,
    ids,
};
use crate::tape::{NO_INSTRUMENT, TEXT_REASON};
use crate::{Status, TradeId};

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a frame: {what}, at byte {at} of {size}")]
pub struct FrameError {
    /// What was found.
    pub what: &'static str,
    /// Where.
    pub at: usize,
    /// Size of the whole.
    pub size: usize,
}

/// A reader of bytes that never goes beyond their end.
#[derive(Debug)]
pub(super) struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Bytes<'a> {
    pub fn new(all: &'a [u8]) -> Self {
        Bytes { all, at: 0, end: all.len() }
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], FrameError> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.end).ok_or_else(|| self.wrong("it is cut short"))?;
        let taken = &self.all[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// The next `n` bytes as a reader of their own.
    fn part(&mut self, n: usize) -> Result<Bytes<'a>, FrameError> {
        let at = self.at;
        self.take(n)?;
        Ok(Bytes { all: self.all, at, end: self.at })
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.take(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.take(8).map(word)
    }

    fn rest(&self) -> usize {
        self.end - self.at
    }

    pub fn wrong(&self, what: &'static str) -> FrameError {
        FrameError { what, at: self.at, size: self.all.len() }
    }
}

fn word(b: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| b[i]))
}

/// New entries of a dictionary: the strings of the codes from `first` on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entries<'a> {
    /// Code of the first, counted from 0.
    pub first: u32,
    /// The strings.
    pub names: Vec<&'a str>,
}

/// Times of a trade on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// When the tick came in, ns since the Unix epoch.
    pub ingest_ns: i64,
    /// Microseconds of the stage decode.
    pub decode_us: u32,
    /// Microseconds of the stage rules.
    pub rules_us: u32,
    /// Microseconds of the stage enrich.
    pub enrich_us: u32,
    /// Microseconds from ingest to the tape.
    pub tape_us: u32,
    /// Microseconds from ingest to this frame.
    pub sent_us: u32,
}

/// A frame that was read, borrowed from its bytes.
#[derive(Debug, Clone)]
pub struct FrameView<'a> {
    /// Whether it is a `snapshot`.
    pub is_snapshot: bool,
    /// First sequence covered.
    pub seq: u64,
    /// Last sequence covered; `seq - 1` where there is none.
    pub to_seq: u64,
    /// Clock of the sender when the frame was made, ns since the Unix epoch.
    pub sent_ns: i64,
    /// Oldest and newest event time of its trades, ns since the Unix epoch; 0 where there are none.
    pub ticks_ns: (i64, i64),
    /// New instruments.
    pub instruments: Entries<'a>,
    /// New reasons, counted from 0: reason code `k > 0` of a record is the `k - 1`-th.
    pub reasons: Entries<'a>,
    /// Trade ids; empty if the frame has none.
    pub ids: Vec<TradeId>,
    /// How many trades that were wanted are left out for newer ones; `None`: nothing was conflated.
    pub conflated: Option<u64>,
    seqs: Option<&'a [u8]>,
    stages: Option<&'a [u8]>,
    strings: Vec<(u32, u32, &'a str)>,
    records: &'a [u8],
    record_bytes: usize,
}

/// One record, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a>(&'a [u8]);

impl<'a> FrameView<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`FrameError`] where the bytes are none, or one that does not hang together.
    pub fn parse(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut bytes = Bytes::new(body);
        if bytes.u32()? != MAGIC {
            return Err(FrameError { what: "it does not begin with TCb1", at: 0, size: body.len() });
        }
        let count = bytes.u32()? as usize;
        let (seq, to_seq) = (bytes.u64()?, bytes.u64()?);
        let [sent_ns, oldest_ns, newest_ns] = [bytes.u64()?, bytes.u64()?, bytes.u64()?].map(|word| word as i64);
        let (record_bytes, header_bytes) = (usize::from(bytes.u16()?), usize::from(bytes.u16()?));
        let flags = bytes.u32()?;
        if record_bytes < RECORD_BYTES || record_bytes % 8 != 0 || header_bytes < HEADER_BYTES || header_bytes % 8 != 0
        {
            return Err(bytes.wrong("sizes of header and record that can't be"));
        }
        bytes.take(header_bytes - HEADER_BYTES)?;
        // Before anything is set aside for so many trades.
        if count > bytes.rest() / record_bytes {
            return Err(bytes.wrong("more trades than bytes for them"));
        }
        let mut frame = FrameView {
            is_snapshot: flags & frame_flags::SNAPSHOT != 0,
            seq,
            to_seq,
            sent_ns,
            ticks_ns: (oldest_ns, newest_ns),
            instruments: Entries::default(),
            reasons: Entries::default(),
            ids: Vec::new(),
            conflated: None,
            seqs: None,
            stages: None,
            strings: Vec::new(),
            records: &[],
            record_bytes,
        };
        for flag in (0..16).map(|bit| 1 << bit).filter(|flag| flags & flag != 0) {
            frame.read_section(flag, &mut bytes, count)?;
        }
        if bytes.rest() != count * record_bytes {
            return Err(bytes.wrong("the records don't fill the rest"));
        }
        frame.records = bytes.take(count * record_bytes)?;
        frame.check_range(count).map_err(|what| FrameError { what, at: 8, size: body.len() })?;
        Ok(frame)
    }

    fn read_section(&mut self, flag: u32, bytes: &mut Bytes<'a>, rows: usize) -> Result<(), FrameError> {
        let (size, count) = (bytes.u32()? as usize, bytes.u32()?);
        if size < SECTION_HEAD_BYTES || !size.is_multiple_of(8) {
            return Err(bytes.wrong("size of a section that can't be"));
        }
        let mut section = bytes.part(size - SECTION_HEAD_BYTES)?;
        match flag {
            frame_flags::INSTRUMENTS => self.instruments = read_entries(&mut section, count)?,
            frame_flags::REASONS => self.reasons = read_entries(&mut section, count)?,
            frame_flags::IDS => self.ids = ids::read(&mut section, count, rows)?,
            frame_flags::SEQS => self.seqs = Some(column(&mut section, count, rows, 8)?),
            frame_flags::STRINGS => self.strings = read_strings(&mut section, count, rows)?,
            frame_flags::STAGES => self.stages = Some(column(&mut section, count, rows, STAGES_BYTES)?),
            frame_flags::CONFLATED => self.conflated = Some(section.u64()?),
            // Of a later version.
            _ => {}
        }
        Ok(())
    }

    /// The range must be one, and its sequences ascend within it.
    fn check_range(&self, count: usize) -> Result<(), &'static str> {
        let Some(covered) = self.to_seq.checked_add(1).and_then(|end| end.checked_sub(self.seq)) else {
            return Err("a range of sequences that ends before it begins");
        };
        let Some(seqs) = self.seqs else {
            return if covered == count as u64 { Ok(()) } else { Err("trades are left out, and no sequences given") };
        };
        let mut next = self.seq;
        for seq in seqs.chunks_exact(8).map(word) {
            if seq < next || seq > self.to_seq {
                return Err("sequences that don't ascend within the range");
            }
            next = seq + 1;
        }
        Ok(())
    }

    /// Number of trades.
    pub fn len(&self) -> usize {
        self.records.len() / self.record_bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Sequence of trade `row`, counted from 0.
    ///
    /// # Panics
    /// If there are not that many; so do the others that take a row.
    pub fn seq_of(&self, row: usize) -> u64 {
        assert!(row < self.len(), "row {row} of {}", self.len());
        self.seqs.map_or(self.seq + row as u64, |seqs| word(&seqs[row * 8..]))
    }

    /// Whether the trades are numbered one by one: some of the range are left out.
    pub fn has_seqs(&self) -> bool {
        self.seqs.is_some()
    }

    /// The record of a trade.
    pub fn row(&self, row: usize) -> Row<'a> {
        Row(&self.records[row * self.record_bytes..(row + 1) * self.record_bytes])
    }

    /// Times of a trade, if the frame has them.
    pub fn stages_of(&self, row: usize) -> Option<Stages> {
        let at = &self.stages?[row * STAGES_BYTES..(row + 1) * STAGES_BYTES];
        let us = |i: usize| u32::from_le_bytes([at[i], at[i + 1], at[i + 2], at[i + 3]]);
        Some(Stages {
            ingest_ns: word(at) as i64,
            decode_us: us(8),
            rules_us: us(12),
            enrich_us: us(16),
            tape_us: us(20),
            sent_us: us(24),
        })
    }

    /// Instrument id of a trade, where it is in no dictionary.
    pub fn instrument_text(&self, row: usize) -> Option<&'a str> {
        (self.row(row).instrument() == NO_INSTRUMENT).then(|| self.string(row, INSTRUMENT_STRING)).flatten()
    }

    /// Reason of a trade, where it is in no dictionary.
    pub fn reason_text(&self, row: usize) -> Option<&'a str> {
        (self.row(row).reason() == TEXT_REASON).then(|| self.string(row, REASON_STRING)).flatten()
    }

    fn string(&self, row: usize, kind: u32) -> Option<&'a str> {
        let found = self.strings.binary_search_by_key(&(row as u32, kind), |&(row, kind, _)| (row, kind));
        found.ok().map(|at| self.strings[at].2)
    }
}

fn column<'a>(section: &mut Bytes<'a>, count: u32, rows: usize, width: usize) -> Result<&'a [u8], FrameError> {
    if count as usize != rows {
        return Err(section.wrong("a column that is not as long as there are trades"));
    }
    section.take(rows * width)
}

fn read_entries<'a>(section: &mut Bytes<'a>, count: u32) -> Result<Entries<'a>, FrameError> {
    let first = section.u32()?;
    section.u32()?;
    let ends = section.take((count as usize).saturating_mul(4))?;
    let mut start = 0;
    let mut names = Vec::with_capacity(count as usize);
    for end in ends.chunks_exact(4) {
        let end = u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
        names.push(text(section, &mut start, end)?);
    }
    if first.checked_add(count).is_none() {
        return Err(section.wrong("codes beyond the last"));
    }
    Ok(Entries { first, names })
}

fn read_strings<'a>(section: &mut Bytes<'a>, count: u32, rows: usize) -> Result<Vec<(u32, u32, &'a str)>, FrameError> {
    let mut heads = section.part((count as usize).saturating_mul(12))?;
    let mut start = 0;
    let mut strings: Vec<(u32, u32, &str)> = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (row, kind, end) = (heads.u32()?, heads.u32()?, heads.u32()?);
        let ascending = strings.last().is_none_or(|&(r, k, _)| (r, k) < (row, kind));
        if row as usize >= rows || !ascending {
            return Err(heads.wrong("strings that are not in order of the trades"));
        }
        strings.push((row, kind, text(section, &mut start, end)?));
    }
    Ok(strings)
}

/// The next string: from where the last ended to `end`.
fn text<'a>(section: &mut Bytes<'a>, start: &mut u32, end: u32) -> Result<&'a str, FrameError> {
    let len = end.checked_sub(*start).ok_or_else(|| section.wrong("a string that ends before it begins"))?;
    *start = end;
    let bytes = section.take(len as usize)?;
    std::str::from_utf8(bytes).map_err(|_| section.wrong("a string that is no UTF-8"))
}

impl<'a> Row<'a> {
    /// The record: 40 bytes, and 8 more for each enrichment.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Code of the instrument; [`NO_INSTRUMENT`]: its id is a string of the frame.
    pub fn instrument(&self) -> u32 {
        word(self.0) as u32
    }

    /// Verdict; UNKNOWN for one that this version does not know.
    pub fn status(&self) -> Status {
        Status::from_number(self.0[4]).unwrap_or_default()
    }

    /// Flags, see [`crate::tape::flags`].
    pub fn flags(&self) -> u8 {
        self.0[5]
    }

    /// Code of the reason: 0: none, [`TEXT_REASON`]: a string of the frame, `k`: the `k`-th of the dictionary.
    pub fn reason(&self) -> u16 {
        u16::from_le_bytes([self.0[6], self.0[7]])
    }

    /// Event time, ns since the Unix epoch.
    pub fn timestamp_ns(&self) -> i64 {
        word(&self.0[8..]) as i64
    }

    /// Price, quote currency per unit.
    pub fn price(&self) -> f64 {
        f64::from_bits(word(&self.0[16..]))
    }

    /// Volume, units traded.
    pub fn volume(&self) -> i64 {
        word(&self.0[24..]) as i64
    }

    /// 20-minute VWAP; NaN where there is none.
    pub fn vwap_20m(&self) -> f64 {
        f64::from_bits(word(&self.0[32..]))
    }

    /// Enrichments in the order of `hello`; NaN where absent.
    pub fn enrichments(&self) -> impl ExactSizeIterator<Item = f64> + use<'a> {
        self.0[RECORD_BYTES..].chunks_exact(8).map(|bytes| f64::from_bits(word(bytes)))
    }
}
