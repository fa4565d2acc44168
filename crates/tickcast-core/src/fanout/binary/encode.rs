//! Trades to the bytes of a frame.

use super::super::frame::{Block, Frame, Pick};
use super::super::subscription::{Dictionary, Subscription};
use super::{
    HEADER_BYTES, INSTRUMENT_STRING, MAGIC, REASON_STRING, RECORD_BYTES, SECTION_HEAD_BYTES, STAGES_BYTES, frame_flags,
    ids,
};
use crate::Status;
use crate::tape::{Record, Snapshot, SnapshotEntry};

/// Bytes that a trade takes beside its record, at most, where it has no strings: id, sequence, stages.
const BESIDE_BYTES: usize = 24 + 8 + STAGES_BYTES;

/// How many entries of the tape's dictionaries the receivers of a frame know already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Known {
    /// Instruments with codes below this.
    pub instruments: u32,
    /// Reasons of the dictionary up to this one.
    pub reasons: u32,
}

/// How a binary frame is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Binary<'a> {
    /// The tape's dictionaries, at least up to the codes in the run.
    pub dictionary: &'a Dictionary,
    /// What the receivers know of them. After the frame they know all of `dictionary`.
    pub known: Known,
}

/// The fixed part of a header, but for flags and sizes.
struct Header {
    count: u32,
    first: u64,
    last: u64,
    sent_ns: i64,
    oldest_ns: i64,
    newest_ns: i64,
    record_bytes: u16,
}

/// A frame that is being put together.
struct Writer {
    out: Vec<u8>,
    flags: u32,
}

impl Writer {
    fn new(header: &Header, room: usize) -> Self {
        let mut out = Vec::with_capacity(HEADER_BYTES + room);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&header.count.to_le_bytes());
        out.extend_from_slice(&header.first.to_le_bytes());
        out.extend_from_slice(&header.last.to_le_bytes());
        for time in [header.sent_ns, header.oldest_ns, header.newest_ns] {
            out.extend_from_slice(&time.to_le_bytes());
        }
        out.extend_from_slice(&header.record_bytes.to_le_bytes());
        out.extend_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        Writer { out, flags: 0 }
    }

    /// Appends a section; `write` returns its count. Sections have to come in order of their bits.
    fn section(&mut self, flag: u32, write: impl FnOnce(&mut Vec<u8>) -> u32) {
        debug_assert!(flag > self.flags & 0xFFFF);
        self.flags |= flag;
        let at = self.out.len();
        self.out.extend_from_slice(&[0; SECTION_HEAD_BYTES]);
        let count = write(&mut self.out);
        self.out.resize(self.out.len().next_multiple_of(8), 0);
        let size = (self.out.len() - at) as u32;
        self.out[at..at + 4].copy_from_slice(&size.to_le_bytes());
        self.out[at + 4..at + 8].copy_from_slice(&count.to_le_bytes());
    }

    fn dictionary(&mut self, binary: &Binary<'_>) {
        let Binary { dictionary, known } = binary;
        let now = dictionary.known();
        if now.instruments > known.instruments {
            let names = dictionary.instruments(known.instruments);
            self.section(frame_flags::INSTRUMENTS, |out| write_entries(out, known.instruments, names));
        }
        if now.reasons > known.reasons {
            let names = dictionary.reasons(known.reasons);
            self.section(frame_flags::REASONS, |out| write_entries(out, known.reasons, names));
        }
    }

    fn seqs(&mut self, seqs: impl Iterator<Item = u64>) {
        self.section(frame_flags::SEQS, |out| seqs.map(|seq| out.extend_from_slice(&seq.to_le_bytes())).count() as u32);
    }

    fn finish(mut self) -> Vec<u8> {
        self.out[52..56].copy_from_slice(&self.flags.to_le_bytes());
        self.out
    }
}

/// First code u32, 0 u32, the end of each string in the bytes u32, the bytes.
fn write_entries<'a>(out: &mut Vec<u8>, first: u32, names: impl Iterator<Item = &'a str> + Clone) -> u32 {
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let mut end = 0;
    for name in names.clone() {
        end += name.len() as u32;
        out.extend_from_slice(&end.to_le_bytes());
    }
    names.map(|name| out.extend_from_slice(name.as_bytes())).count() as u32
}

/// Row u32, kind u32, end in the bytes u32 for each string; the bytes.
fn write_strings(out: &mut Vec<u8>, strings: &[(u32, u32, &str)]) -> u32 {
    let mut end = 0;
    for (row, kind, text) in strings {
        end += text.len() as u32;
        for number in [row, kind, &end] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    strings.iter().for_each(|(_, _, text)| out.extend_from_slice(text.as_bytes()));
    strings.len() as u32
}

fn write_stages(out: &mut Vec<u8>, record: &Record<'_>, sent_ns: i64) {
    out.extend_from_slice(&record.ingest_ns().to_le_bytes());
    let sent_us = micros(sent_ns.saturating_sub(record.ingest_ns()));
    for us in [record.decode_us(), record.rules_us(), record.enrich_us(), record.tape_us(), sent_us, 0] {
        out.extend_from_slice(&us.to_le_bytes());
    }
}

/// Returns a duration in whole µs, as far as they fit.
pub(in super::super) fn micros(ns: i64) -> u32 {
    u32::try_from(ns.max(0) / 1_000).unwrap_or(u32::MAX)
}

impl Block<'_> {
    /// Encodes the `trades` frame that holds the rows of `pick` and covers `seq` up to the end of the run, or up to the
    /// last trade that fits into `max_bytes` (at least one is taken).
    ///
    /// # Panics
    /// If the rows are not rows of the run.
    pub fn binary(&self, seq: u64, pick: &Pick<'_>, max_bytes: usize, now_ns: i64, how: &Binary<'_>) -> Frame {
        let Pick { rows, stages, .. } = *pick;
        if rows.is_empty() {
            return Frame { to_seq: self.last_seq(), ..Frame::default() };
        }
        let (taken, room) = fitting(self.rows(rows), max_bytes);
        let to_seq = self.to_seq(rows, taken);
        let rows = &rows[..taken];
        let mut frame = Frame { to_seq, trades: taken as u32, ..Frame::default() };
        let (mut oldest_ns, mut newest_ns) = (i64::MAX, i64::MIN);
        let mut strings = Vec::new();
        for (row, record) in (0u32..).zip(self.rows(rows)) {
            frame.since_ingest.add(now_ns.saturating_sub(record.ingest_ns()));
            frame.since_event.add(now_ns.saturating_sub(record.timestamp_ns()));
            oldest_ns = oldest_ns.min(record.timestamp_ns());
            newest_ns = newest_ns.max(record.timestamp_ns());
            strings.extend(record.instrument_text().map(|text| (row, INSTRUMENT_STRING, text)));
            strings.extend(record.reason_text().map(|text| (row, REASON_STRING, text)));
        }
        let record_bytes = self.records()[0].row().len() as u16;
        let header = Header {
            count: frame.trades,
            first: seq,
            last: to_seq,
            sent_ns: now_ns,
            oldest_ns,
            newest_ns,
            record_bytes,
        };
        let mut writer = Writer::new(&header, room);
        writer.dictionary(how);
        writer.section(frame_flags::IDS, |out| ids::write(out, self.rows(rows).map(|r| r.id())));
        if taken as u64 != to_seq - seq + 1 {
            writer.seqs(self.rows(rows).map(|r| r.seq()));
        }
        if !strings.is_empty() {
            writer.section(frame_flags::STRINGS, |out| write_strings(out, &strings));
        }
        if stages {
            writer.section(frame_flags::STAGES, |out| {
                self.rows(rows).map(|record| write_stages(out, record, now_ns)).count() as u32
            });
        }
        if let Some(conflated) = pick.conflated {
            writer.section(frame_flags::CONFLATED, |out| {
                out.extend_from_slice(&conflated.to_le_bytes());
                1
            });
        }
        self.rows(rows).for_each(|record| writer.out.extend_from_slice(record.row()));
        frame.body = writer.finish();
        frame
    }
}

/// How many of the trades fit into `max_bytes`, at least one, and the bytes that they take.
fn fitting<'a>(records: impl Iterator<Item = &'a Record<'a>>, max_bytes: usize) -> (usize, usize) {
    let (mut bytes, mut taken) = (0, 0);
    for record in records {
        let text = |text: Option<&str>| text.map_or(0, |t| t.len() + 12);
        let more = record.row().len() + BESIDE_BYTES + text(record.instrument_text()) + text(record.reason_text());
        if taken > 0 && bytes + more > max_bytes {
            break;
        }
        bytes += more;
        taken += 1;
    }
    (taken, bytes)
}

/// Returns the `snapshot` frame: of each instrument wanted the newest VALID trade, ascending by sequence.
///
/// `enrichments` is the number of the tape's.
pub fn snapshot(
    taken: &Snapshot,
    subscription: &Subscription,
    now_ns: i64,
    how: &Binary<'_>,
    enrichments: usize,
) -> Vec<u8> {
    let mut entries: Vec<SnapshotEntry<'_>> = Vec::new();
    if subscription.admits_status(Status::Valid) {
        entries.extend(taken.iter().filter(|e| subscription.admits_instrument(e.trade().instrument_id)));
    }
    entries.sort_unstable_by_key(SnapshotEntry::seq);
    write_snapshot(&entries, taken.to_seq(), now_ns, how, enrichments)
}

/// Returns the `snapshot` frame of a tape that has nothing yet.
pub fn empty_snapshot(now_ns: i64, how: &Binary<'_>, enrichments: usize) -> Vec<u8> {
    write_snapshot(&[], 0, now_ns, how, enrichments)
}

fn write_snapshot(
    entries: &[SnapshotEntry<'_>],
    to_seq: u64,
    now_ns: i64,
    how: &Binary<'_>,
    enrichments: usize,
) -> Vec<u8> {
    let times = || entries.iter().map(|e| e.trade().timestamp_ns);
    let record_bytes = RECORD_BYTES + 8 * enrichments;
    let header = Header {
        count: entries.len() as u32,
        first: 1,
        last: to_seq,
        sent_ns: now_ns,
        oldest_ns: times().min().unwrap_or(0),
        newest_ns: times().max().unwrap_or(0),
        record_bytes: record_bytes as u16,
    };
    let mut writer = Writer::new(&header, entries.len() * (record_bytes + BESIDE_BYTES));
    writer.dictionary(how);
    writer.section(frame_flags::IDS, |out| ids::write(out, entries.iter().map(|e| e.trade().id)));
    writer.seqs(entries.iter().map(SnapshotEntry::seq));
    writer.flags |= frame_flags::SNAPSHOT;
    entries.iter().for_each(|entry| writer.out.extend_from_slice(entry.row()));
    writer.finish()
}
