//! Recorded files: `instrument_id,price,volume,timestamp_ns`, one tick a line, gzip'd or not.
//!
//! Rows are numbered from 0 after the header, and keep their number whether they can be decoded or not: it is the
//! offset of their position. Blank lines are no rows. A quoted field can't span lines, since none of the four can hold
//! a line end: whatever a stray quote does, it spoils its own line only. An empty `timestamp_ns` is an absent one: 0.

use super::decimal::{self, Refused};
use super::error::{At, DecodeError, shown, shown_bytes};
use super::ids::Ids;
use super::{Options, Target, reserve};
use crate::{Decoded, Error, Result, Undecodable};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first line of a file.
pub const HEADER: &str = "instrument_id,price,volume,timestamp_ns";

const COLUMNS: [&str; 4] = ["instrument_id", "price", "volume", "timestamp_ns"];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Also the longest line: what has longer ones is no file of ticks, and reading it fails.
const BUFFER_BYTES: usize = 256 * 1024;

/// What another file calls the four columns, and in what its times are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// Column of the instrument id, or the one instrument of the whole file.
    pub instrument: Instrument,
    /// Column of the price.
    pub price: String,
    /// Column of the volume.
    pub volume: String,
    /// Column of the event time.
    pub timestamp: String,
    /// Nanoseconds of a unit of the event time: 1, 10^3, 10^6 or 10^9.
    pub unit_ns: u64,
}

/// Where the instrument id stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instrument {
    /// In this column.
    Column(String),
    /// Nowhere: all ticks are of this one.
    All(String),
}

impl Default for Columns {
    fn default() -> Self {
        let [id, price, volume, timestamp] = COLUMNS.map(str::to_owned);
        Columns { instrument: Instrument::Column(id), price, volume, timestamp, unit_ns: 1 }
    }
}

/// Where the columns of another file are.
struct Places {
    /// Fields of a row.
    width: usize,
    /// Of instrument id, price, volume and event time.
    at: [usize; 4],
    /// Instead of an instrument id.
    instrument: Option<Vec<u8>>,
    unit_ns: u64,
}

/// Rows of a file.
#[derive(Debug, Clone, Default)]
pub struct CsvBatch {
    /// Ticks and undecodable rows; `message` is the row minus `first_row`, `index` is 0.
    pub decoded: Decoded,
    /// Row of the first one, from 0.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// Bytes of the file, as it lies on the disk, that have been read so far.
    pub bytes_read: u64,
}

/// Reads a recorded file row by row.
pub struct CsvReader<R> {
    lines: Lines<R>,
    path: PathBuf,
    options: Options,
    /// `None`: the columns are ours.
    places: Option<Places>,
    next_row: u64,
    bytes_read: Arc<AtomicU64>,
    bytes_total: Option<u64>,
}

impl CsvReader<Box<dyn Read + Send>> {
    /// Opens a file, gzip'd (told by its first bytes) or not, and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`] where it can't be read, [`Error::File`] where the header is another one, [`Error::Config`] for
    /// wrong scales.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        Self::open_as(path, options, &Columns::default())
    }

    /// Opens a file with other columns.
    ///
    /// # Errors
    /// As [`CsvReader::open`]; the header has to have these columns.
    pub fn open_as(path: impl AsRef<Path>, options: &Options, columns: &Columns) -> Result<Self> {
        let path = path.as_ref();
        let unreadable = |source| Error::Io { what: "cannot open", path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let bytes_total = file.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
        let bytes_read = Arc::new(AtomicU64::new(0));
        let input = plain(Counted { input: file, bytes: bytes_read.clone() }).map_err(|source| Error::Io {
            what: "cannot read",
            path: path.to_owned(),
            source,
        })?;
        let mut reader = CsvReader::new_as(input, path, options, columns)?;
        reader.bytes_total = bytes_total;
        reader.bytes_read = bytes_read;
        Ok(reader)
    }
}

impl<R: Read> CsvReader<R> {
    /// Reads plain text from `input`, beginning with the header; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`CsvReader::open`].
    pub fn new(input: R, path: &Path, options: &Options) -> Result<Self> {
        Self::new_as(input, path, options, &Columns::default())
    }

    /// Reads plain text with other columns.
    ///
    /// # Errors
    /// As [`CsvReader::open_as`].
    pub fn new_as(input: R, path: &Path, options: &Options, columns: &Columns) -> Result<Self> {
        options.validate()?;
        let mut reader = CsvReader {
            lines: Lines::new(input),
            path: path.to_owned(),
            options: options.clone(),
            places: None,
            next_row: 0,
            bytes_read: Arc::default(),
            bytes_total: None,
        };
        reader.header(columns)?;
        Ok(reader)
    }

    /// Size of the file on the disk, bytes; `None` for a pipe.
    pub fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// Returns the next rows, at most `max_rows` (and at least one, but at the end: `None`).
    ///
    /// # Errors
    /// [`Error::Io`] where reading fails, such as a gzip'd file that is cut off; the rows before come first.
    pub fn next_batch(&mut self, max_rows: usize) -> Result<Option<CsvBatch>> {
        let mut batch = CsvBatch { first_row: self.next_row, ..CsvBatch::default() };
        reserve(&mut batch.decoded.ticks, max_rows.min(65_536));
        let mut ids = Ids::new();
        while batch.rows < max_rows.clamp(1, u32::MAX as usize) as u64 {
            let line = match self.lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(source) if batch.rows == 0 => return Err(self.unreadable(source)),
                Err(source) => {
                    self.lines.failed = Some(source);
                    break;
                }
            };
            if line.bytes.is_empty() {
                continue;
            }
            let message = batch.rows as u32;
            batch.rows += 1;
            let mut target = Target { out: &mut batch.decoded, ids: &mut ids, message, options: &self.options };
            if let Err(error) = push(&mut target, &line, self.places.as_ref()) {
                let bytes = line.bytes.to_vec();
                batch.decoded.undecodable.push(Undecodable { message, index: None, bytes, error });
            }
        }
        self.next_row += batch.rows;
        batch.bytes_read = self.bytes_read.load(Ordering::Relaxed);
        Ok((batch.rows > 0).then_some(batch))
    }

    fn header(&mut self, columns: &Columns) -> Result<()> {
        let found = match self.lines.next_line() {
            Ok(Some(line)) => line.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line.bytes).to_vec(),
            Ok(None) => Vec::new(),
            Err(source) => return Err(self.unreadable(source)),
        };
        if *columns != Columns::default() {
            let places = Places::find(&found, columns);
            self.places = Some(places.map_err(|what| Error::File { path: self.path.clone(), what })?);
            return Ok(());
        }
        let same = if found.contains(&b'"') {
            quoted(&found).is_some_and(|record| record.iter().eq(COLUMNS.map(str::as_bytes)))
        } else {
            found == HEADER.as_bytes()
        };
        if same {
            return Ok(());
        }
        let what = if found.is_empty() {
            format!("is empty, must begin with the header {HEADER}")
        } else {
            format!("header must be {HEADER}, was {}", shown_bytes(&found))
        };
        Err(Error::File { path: self.path.clone(), what })
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::Io { what: "cannot read", path: self.path.clone(), source }
    }
}

/// The lines of a text.
struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// What of `buffer` has not been handed out.
    start: usize,
    end: usize,
    at_end: bool,
    /// A failure that came while rows before it were at hand.
    failed: Option<io::Error>,
    /// How many lines have been handed out.
    count: u64,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Lines { input, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, at_end: false, failed: None, count: 0 }
    }

    /// Returns the next line without its end; `None` at the end of the file.
    fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = 0;
        let len = loop {
            let rest = &self.buffer[self.start..self.end];
            if let Some(found) = memchr::memchr(b'\n', &rest[searched..]) {
                break searched + found;
            }
            if self.at_end {
                if rest.is_empty() {
                    return Ok(None);
                }
                break rest.len();
            }
            searched = rest.len();
            self.fill()?;
        };
        let bytes = &self.buffer[self.start..self.start + len];
        self.start = (self.start + len + 1).min(self.end);
        self.count += 1;
        Ok(Some(Line { bytes: bytes.strip_suffix(b"\r").unwrap_or(bytes), number: self.count }))
    }

    /// Reads more behind what has not been handed out.
    fn fill(&mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            let what = format!("line {} is longer than {BUFFER_BYTES} bytes", self.count + 1);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += read;
        self.at_end = read == 0;
        Ok(())
    }
}

/// A line without its end.
struct Line<'a> {
    bytes: &'a [u8],
    /// From 1.
    number: u64,
}

impl Places {
    /// Finds the columns in a header; or says what is wrong with it.
    fn find(header: &[u8], columns: &Columns) -> std::result::Result<Self, String> {
        let record = quoted(header).ok_or_else(|| format!("a quote is not closed in {}", shown_bytes(header)))?;
        let place = |name: &str| {
            let missing = || format!("header must have the column {name}, was {}", shown_bytes(header));
            record.iter().position(|found| found == name.as_bytes()).ok_or_else(missing)
        };
        let (id, instrument) = match &columns.instrument {
            Instrument::Column(name) => (place(name)?, None),
            Instrument::All(id) => (0, Some(id.clone().into_bytes())),
        };
        let at = [id, place(&columns.price)?, place(&columns.volume)?, place(&columns.timestamp)?];
        Ok(Places { width: record.len(), at, instrument, unit_ns: columns.unit_ns })
    }

    /// Returns the four fields, or how many fields there are instead of as many as the header has.
    fn pick<'a>(&'a self, fields: impl Iterator<Item = &'a [u8]>) -> std::result::Result<[&'a [u8]; 4], usize> {
        let (mut picked, mut found) = ([&[][..]; 4], 0);
        for field in fields {
            for (place, wanted) in self.at.iter().zip(&mut picked) {
                if *place == found {
                    *wanted = field;
                }
            }
            found += 1;
        }
        if found != self.width {
            return Err(found);
        }
        if let Some(id) = &self.instrument {
            picked[0] = id;
        }
        Ok(picked)
    }
}

/// Returns the four fields of a row, or how many there are instead.
fn pick<'a>(
    places: Option<&'a Places>,
    fields: impl Iterator<Item = &'a [u8]>,
) -> std::result::Result<[&'a [u8]; 4], usize> {
    match places {
        None => four(fields),
        Some(places) => places.pick(fields),
    }
}

/// Appends the tick of a row.
fn push(target: &mut Target<'_>, line: &Line<'_>, places: Option<&Places>) -> std::result::Result<(), DecodeError> {
    let at = At::Line(line.number);
    let wrong = |found| columns(line, places.is_some(), found);
    let record;
    let fields = if line.bytes.contains(&b'"') {
        record = quoted(line.bytes).ok_or_else(|| wrong("a quote that is not closed".to_owned()))?;
        pick(places, record.iter())
    } else {
        pick(places, line.bytes.split(|&b| b == b','))
    };
    let [id, price, volume, timestamp_ns] = fields.map_err(|n| wrong(format!("{n} in {}", shown_bytes(line.bytes))))?;
    let price = double(price, at)?;
    let volume = int64("volume", volume, target.scale_of(id), at)?;
    let unit_ns = places.map_or(1, |p| p.unit_ns);
    let timestamp_ns = if timestamp_ns.is_empty() { 0 } else { int64("timestamp_ns", timestamp_ns, unit_ns, at)? };
    target.push(id, (price, volume, timestamp_ns), 0).map_err(|_| not_utf8("instrument_id", id, at))
}

fn columns(line: &Line<'_>, other: bool, found: String) -> DecodeError {
    let expected = if other { "as many fields as the header has" } else { "4 fields" };
    DecodeError::Syntax { expected, found, at: At::Line(line.number) }
}

/// Returns the four fields, or how many there are instead.
fn four<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> std::result::Result<[&'a [u8]; 4], usize> {
    let mut four = [&[][..]; 4];
    for (found, field) in four.iter_mut().enumerate() {
        *field = fields.next().ok_or(found)?;
    }
    match fields.count() {
        0 => Ok(four),
        more => Err(4 + more),
    }
}

/// Splits a line with quotes in it; `None` where one is left open.
fn quoted(line: &[u8]) -> Option<csv::ByteRecord> {
    if line.iter().filter(|&&b| b == b'"').count() % 2 != 0 {
        return None;
    }
    let mut record = csv::ByteRecord::new();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).buffer_capacity(line.len()).from_reader(line);
    reader.read_byte_record(&mut record).ok().map(|_| record)
}

fn not_utf8(field: &'static str, bytes: &[u8], at: At) -> DecodeError {
    DecodeError::Utf8 { field, was: shown_bytes(bytes), at }
}

fn double(bytes: &[u8], at: At) -> std::result::Result<f64, DecodeError> {
    if let Some(value) = decimal::plain_double(bytes) {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| not_utf8("price", bytes, at))?;
    decimal::double(text).or_else(|refused| match (refused, text.parse::<f64>()) {
        // NaN and inf are doubles, for the screen to refuse; digits that overflow are not.
        (Refused::OutOfRange, Ok(value)) if !text.contains(|c: char| c.is_ascii_digit()) => Ok(value),
        (Refused::OutOfRange, _) => {
            Err(DecodeError::OutOfRange { field: "price", kind: "a double", scale: 1, was: shown(text), at })
        }
        _ => {
            Err(DecodeError::WrongType { field: "price", expected: "a number", was: format!("{:?}", shown(text)), at })
        }
    })
}

fn int64(field: &'static str, bytes: &[u8], scale: u64, at: At) -> std::result::Result<i64, DecodeError> {
    decimal::scaled(bytes, scale).map_err(|refused| {
        let was = shown_bytes(bytes);
        match refused {
            Refused::NotANumber => {
                DecodeError::WrongType { field, expected: "an integer", was: format!("\"{was}\""), at }
            }
            Refused::Inexact => DecodeError::Inexact { field, scale, was, at },
            Refused::OutOfRange => DecodeError::OutOfRange { field, kind: "int64", scale, was, at },
        }
    })
}

/// Returns the plain text of a file that may be gzip'd, in one member or several.
fn plain(mut input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::with_capacity(GZIP_MAGIC.len());
    input.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
    let gzipped = head == GZIP_MAGIC;
    let whole = io::Cursor::new(head).chain(input);
    Ok(if gzipped { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// Counts what is read of a file.
struct Counted<R> {
    input: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
