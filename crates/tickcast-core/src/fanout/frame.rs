//! Runs of trades to frames.

use super::binary::micros;
use super::subscription::{Dictionary, Filter};
use crate::tape::{NO_INSTRUMENT, Record, Run};
use hashbrown::{HashMap, HashSet};

/// Upper ends of the latency buckets, milliseconds; one more bucket takes what is beyond.
pub const AGE_BUCKETS_MS: [f64; 14] =
    [1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 250.0, 1_000.0, 10_000.0];

const BUCKETS: usize = AGE_BUCKETS_MS.len() + 1;

/// How old the trades of a frame were when it was made: counts per bucket, and the sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ages {
    /// Trades per bucket of [`AGE_BUCKETS_MS`].
    pub counts: [u32; BUCKETS],
    /// Sum of the ages, milliseconds.
    pub sum_ms: f64,
}

impl Ages {
    /// Returns the age of a single trade.
    pub fn of(age_ns: i64) -> Self {
        let mut ages = Ages::default();
        ages.add(age_ns);
        ages
    }

    pub(super) fn add(&mut self, age_ns: i64) {
        // A stamp ahead of the clock counts as no age at all.
        let ms = age_ns.max(0) as f64 / 1e6;
        let bucket = AGE_BUCKETS_MS.iter().position(|&end| ms <= end).unwrap_or(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.sum_ms += ms;
    }
}

/// One encoded `trades` message.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Last sequence covered. Trades beyond a full frame are left for the next one.
    pub to_seq: u64,
    /// Number of trades in it; 0: nothing of the range was wanted, `body` is empty.
    pub trades: u32,
    /// The message.
    pub body: Vec<u8>,
    /// Time from a trade's ingest to this frame.
    pub since_ingest: Ages,
    /// Time from a trade's own timestamp to this frame.
    pub since_event: Ages,
}

/// Which trades of a run a frame gets, and what it tells of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pick<'a> {
    /// Rows of the run, ascending.
    pub rows: &'a [u32],
    /// Whether the times of every stage come along.
    pub stages: bool,
    /// How many trades that were wanted are left out for newer ones; `None`: the frame does not conflate.
    pub conflated: Option<u64>,
}

impl<'a> Pick<'a> {
    /// These rows, and nothing besides.
    pub fn rows(rows: &'a [u32]) -> Self {
        Pick { rows, ..Pick::default() }
    }
}

/// A run of trades, ready to be picked from for many clients.
#[derive(Debug)]
pub struct Block<'a> {
    records: Vec<Record<'a>>,
    to_seq: u64,
    rows_of: Option<HashMap<u32, Vec<u32>>>,
}

impl<'a> Block<'a> {
    /// Wraps a run.
    pub fn new(run: &'a Run) -> Self {
        Self::of(run.iter().collect(), (run.first() + run.len() as u64).saturating_sub(1))
    }

    /// Wraps single trades, ascending by sequence, which stand for everything up to `to_seq`.
    pub fn of(records: Vec<Record<'a>>, to_seq: u64) -> Self {
        Block { records, to_seq, rows_of: None }
    }

    /// The trades.
    pub fn records(&self) -> &[Record<'a>] {
        &self.records
    }

    /// Puts the rows that a filter wants into `rows`, ascending.
    ///
    /// The first filter for single instruments sorts the run by instrument, so that thousands of small subscriptions
    /// don't each look at every trade.
    pub fn select(&mut self, filter: &Filter, rows: &mut Vec<u32>) {
        rows.clear();
        let Some(codes) = filter.codes() else {
            let wanted = self.records.iter().enumerate().filter(|(_, r)| filter.admits_status(r));
            rows.extend(wanted.map(|(row, _)| row as u32));
            return;
        };
        let records = &self.records;
        let rows_of = self.rows_of.get_or_insert_with(|| by_instrument(records));
        for code in codes {
            let known = rows_of.get(code).map_or(&[][..], Vec::as_slice);
            rows.extend(known.iter().filter(|&&row| filter.admits_status(&records[row as usize])));
        }
        let unnamed = rows_of.get(&NO_INSTRUMENT).map_or(&[][..], Vec::as_slice);
        rows.extend(unnamed.iter().filter(|&&row| filter.admits_text(&records[row as usize])));
        rows.sort_unstable();
    }

    /// Puts the newest row of each instrument that a filter wants into `rows`, ascending; returns how many rows it
    /// wants in all. Instruments without a code count as one.
    pub fn select_newest(&mut self, filter: &Filter, dictionary: &Dictionary, rows: &mut Vec<u32>) -> u64 {
        rows.clear();
        let mut seen = HashSet::new();
        let mut wanted = 0;
        for (row, record) in self.records.iter().enumerate().rev() {
            let code = dictionary.code_of(record);
            if filter.admits_status(record) && filter.admits_code(code) {
                wanted += 1;
                if seen.insert(code) {
                    rows.push(row as u32);
                }
            }
        }
        rows.reverse();
        wanted
    }

    /// The trades in these rows.
    pub(super) fn rows<'b>(&'b self, rows: &'b [u32]) -> impl Iterator<Item = &'b Record<'a>> {
        rows.iter().map(|&row| &self.records[row as usize])
    }

    /// Last sequence of the run.
    pub(super) fn last_seq(&self) -> u64 {
        self.to_seq
    }

    /// Last sequence that a frame covers of which the first `taken` of `rows` found room.
    pub(super) fn to_seq(&self, rows: &[u32], taken: usize) -> u64 {
        if taken < rows.len() { self.records[rows[taken - 1] as usize].seq() } else { self.last_seq() }
    }

    /// Encodes the `trades` message that holds the rows of `pick` and covers `seq` up to the end of the run, or up to
    /// the last trade that fits into `max_bytes` (at least one is taken).
    ///
    /// # Panics
    /// If the rows are not rows of the run.
    pub fn frame(&self, seq: u64, pick: &Pick<'_>, max_bytes: usize, now_ns: i64) -> Frame {
        let Pick { rows, stages, conflated } = *pick;
        if rows.is_empty() {
            return Frame { to_seq: self.last_seq(), ..Frame::default() };
        }
        let (taken, bytes) = self.fitting(rows, max_bytes);
        let mut frame = Frame { to_seq: self.to_seq(rows, taken), trades: taken as u32, ..Frame::default() };
        let rows = &rows[..taken];
        let mut numbers = itoa::Buffer::new();
        let mut body = Vec::with_capacity(bytes + 128);
        body.extend_from_slice(b"{\"type\":\"trades\",\"seq\":");
        body.extend_from_slice(numbers.format(seq).as_bytes());
        body.extend_from_slice(b",\"toSeq\":");
        body.extend_from_slice(numbers.format(frame.to_seq).as_bytes());
        body.extend_from_slice(b",\"sentNs\":\"");
        body.extend_from_slice(numbers.format(now_ns).as_bytes());
        body.extend_from_slice(b"\",\"trades\":[");
        for record in self.rows(rows) {
            body.extend_from_slice(record.json());
            body.push(b',');
            frame.since_ingest.add(now_ns.saturating_sub(record.ingest_ns()));
            frame.since_event.add(now_ns.saturating_sub(record.timestamp_ns()));
        }
        close_list(&mut body);
        if taken as u64 != frame.to_seq - seq + 1 {
            write_seqs(&mut body, self.rows(rows).map(Record::seq));
        }
        if stages {
            self.write_stages(&mut body, rows, now_ns);
        }
        if let Some(conflated) = conflated {
            body.extend_from_slice(b",\"conflated\":");
            body.extend_from_slice(numbers.format(conflated).as_bytes());
        }
        body.push(b'}');
        frame.body = body;
        frame
    }

    fn write_stages(&self, body: &mut Vec<u8>, rows: &[u32], now_ns: i64) {
        body.extend_from_slice(b",\"stages\":{");
        write_column(body, "ingestNs", self.rows(rows).map(|r| format!("\"{}\"", r.ingest_ns())));
        for (name, of) in STAGES {
            body.push(b',');
            write_column(body, name, self.rows(rows).map(|r| of(r).to_string()));
        }
        body.push(b',');
        let sent = self.rows(rows).map(|r| micros(now_ns.saturating_sub(r.ingest_ns())).to_string());
        write_column(body, "sent", sent);
        body.push(b'}');
    }

    /// How many of `rows` fit into `max_bytes`, and the bytes that they and their numbers take.
    fn fitting(&self, rows: &[u32], max_bytes: usize) -> (usize, usize) {
        let mut bytes = 0;
        for (taken, &row) in rows.iter().enumerate() {
            let more = self.records[row as usize].json().len() + 16;
            if taken > 0 && bytes + more > max_bytes {
                return (taken, bytes);
            }
            bytes += more;
        }
        (rows.len(), bytes)
    }
}

type StageOf = fn(&Record<'_>) -> u32;

const STAGES: [(&str, StageOf); 4] = [
    ("decode", |r| r.decode_us()),
    ("rules", |r| r.rules_us()),
    ("enrich", |r| r.enrich_us()),
    ("tape", |r| r.tape_us()),
];

fn write_column(body: &mut Vec<u8>, name: &str, values: impl Iterator<Item = String>) {
    body.extend_from_slice(format!("\"{name}\":[").as_bytes());
    for value in values {
        body.extend_from_slice(value.as_bytes());
        body.push(b',');
    }
    close_list(body);
}

fn by_instrument(records: &[Record<'_>]) -> HashMap<u32, Vec<u32>> {
    let mut rows_of: HashMap<u32, Vec<u32>> = HashMap::new();
    for (row, record) in records.iter().enumerate() {
        rows_of.entry(record.instrument()).or_default().push(row as u32);
    }
    rows_of
}

/// Turns the comma after the last element, if there is one, into the end of the list.
pub(super) fn close_list(body: &mut Vec<u8>) {
    if body.last() == Some(&b',') {
        body.pop();
    }
    body.push(b']');
}

/// Appends the column of sequences.
pub(super) fn write_seqs(body: &mut Vec<u8>, seqs: impl Iterator<Item = u64>) {
    let mut numbers = itoa::Buffer::new();
    body.extend_from_slice(b",\"seqs\":[");
    for seq in seqs {
        body.extend_from_slice(numbers.format(seq).as_bytes());
        body.push(b',');
    }
    close_list(body);
}
