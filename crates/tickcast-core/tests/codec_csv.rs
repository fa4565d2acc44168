//! Recorded files: rows keep their numbers, what is wrong spoils its own row only.

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::path::Path;
use tickcast_core::decode::csv::{Columns, CsvReader, HEADER, Instrument};
use tickcast_core::decode::{Options, decode};
use tickcast_core::encode::json;
use tickcast_core::{Decoded, Error};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Reads everything in batches of `max_rows`; (row, id, price, volume, time) of ticks, (row, bytes, error) of others.
type Tick = (u64, String, u64, i64, i64);
type Bad = (u64, Vec<u8>, String);

fn read_all<R: Read>(mut reader: CsvReader<R>, max_rows: usize) -> (Vec<Tick>, Vec<Bad>) {
    let (mut ticks, mut bad, mut next_row) = (Vec::new(), Vec::new(), 0);
    while let Some(batch) = reader.next_batch(max_rows).expect("readable") {
        assert_eq!(batch.first_row, next_row);
        assert!(batch.rows > 0 && batch.rows <= max_rows as u64);
        next_row += batch.rows;
        let Decoded { ticks: t, undecodable } = batch.decoded;
        assert_eq!(t.len() + undecodable.len(), batch.rows as usize);
        for i in 0..t.len() {
            let row = batch.first_row + u64::from(t.message[i]);
            assert_eq!(t.index[i], 0);
            ticks.push((row, t.id(i).to_owned(), t.price[i].to_bits(), t.volume[i], t.timestamp_ns[i]));
        }
        for u in undecodable {
            bad.push((batch.first_row + u64::from(u.message), u.bytes, u.error.to_string()));
        }
    }
    (ticks, bad)
}

fn plain(text: &str) -> CsvReader<&[u8]> {
    CsvReader::new(text.as_bytes(), Path::new("ticks.csv"), &Options::default()).expect("header")
}

#[test]
fn wrong_rows_are_undecodable_alone_and_rows_keep_their_numbers() {
    let text = format!(
        "\u{feff}{HEADER}\r\nABC,39.5,100,5\r\n\nABC,39.5,1.5,5\n\"A\"\"B,C\",\"1\",2,\nABC,x,1,1\n\"ABC,1,1,1\nABC,1,1\n\
         ABC,1,1,1,1,1\nABC,nan,-1,0\nABC,1e999,1,1\nABC,1,1,9223372036854775808\nABC,1, 1,1\nlast,.5,3.0,-4"
    );
    for max_rows in [1, 2, 100] {
        let (ticks, bad) = read_all(plain(&text), max_rows);
        let expected =
            [(0, "ABC", 39.5, 100, 5), (2, "A\"B,C", 1.0, 2, 0), (7, "ABC", f64::NAN, -1, 0), (11, "last", 0.5, 3, -4)];
        assert_eq!(ticks, expected.map(|(r, id, p, v, t)| (r, id.to_owned(), p.to_bits(), v, t)));
        let errors: Vec<_> = bad.iter().map(|(row, _, error)| (*row, error.as_str())).collect();
        assert_eq!(
            errors,
            [
                (1, "volume: must be a whole number, was 1.5 (in line 4)"),
                (3, "price: must be a number, was \"x\" (in line 6)"),
                (4, "expected 4 fields, found a quote that is not closed (in line 7)"),
                (5, "expected 4 fields, found 3 in ABC,1,1 (in line 8)"),
                (6, "expected 4 fields, found 6 in ABC,1,1,1,1,1 (in line 9)"),
                (8, "price: must fit a double, was 1e999 (in line 11)"),
                (9, "timestamp_ns: must fit int64, was 9223372036854775808 (in line 12)"),
                (10, "volume: must be an integer, was \" 1\" (in line 13)"),
            ]
        );
        assert_eq!(bad[2].1, b"\"ABC,1,1,1");
    }
}

#[test]
fn another_header_a_missing_file_and_a_wrong_scale_are_refused_by_name() {
    let error = |text: &str| match CsvReader::new(text.as_bytes(), Path::new("x.csv"), &Options::default()) {
        Ok(_) => panic!("{text}"),
        Err(error) => error.to_string(),
    };
    assert_eq!(error("time,price\n"), format!("x.csv: header must be {HEADER}, was time,price"));
    assert_eq!(error(""), format!("x.csv: is empty, must begin with the header {HEADER}"));
    assert!(plain("\"instrument_id\",price,volume,\"timestamp_ns\"").next_batch(1).expect("readable").is_none());

    let directory = tempfile::tempdir().expect("directory");
    let missing = directory.path().join("none.csv");
    assert!(matches!(CsvReader::open(&missing, &Options::default()), Err(Error::Io { path, .. }) if path == missing));
    let wrong = Options { volume_scale: 3, ..Options::default() };
    assert!(matches!(CsvReader::new(HEADER.as_bytes(), Path::new("x"), &wrong), Err(Error::Config { .. })));
}

#[test]
fn a_gzip_of_several_members_is_read_whole_and_progress_is_that_of_the_file() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ticks.csv.gz");
    let halves = [format!("{HEADER}\nABC,1,1,1\nAB"), "C,2,2,2\n".to_owned()];
    let bytes = halves.map(|half| gzip(half.as_bytes())).concat();
    std::fs::write(&path, &bytes).expect("written");
    let mut reader = CsvReader::open(&path, &Options::default()).expect("header");
    assert_eq!(reader.bytes_total(), Some(bytes.len() as u64));
    let batch = reader.next_batch(10).expect("readable").expect("rows");
    assert_eq!((batch.decoded.ticks.len(), batch.bytes_read), (2, bytes.len() as u64));
    assert!(reader.next_batch(10).expect("end").is_none());
}

#[test]
fn a_gzip_that_is_cut_off_gives_its_rows_and_then_an_error() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ticks.csv.gz");
    let rows: String = (0..50_000).map(|i| format!("ABC,{i}.5,{},{}\n", i + 1, i * 7919)).collect();
    let bytes = gzip(format!("{HEADER}\n{rows}").as_bytes());
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    let mut reader = CsvReader::open(&path, &Options::default()).expect("header");
    let mut read = 0;
    let error = loop {
        match reader.next_batch(1000) {
            Ok(Some(batch)) => read += batch.decoded.ticks.len(),
            Ok(None) => panic!("a cut file ended well"),
            Err(error) => break error,
        }
    };
    assert!(read > 10_000, "{read}");
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}

#[test]
fn a_line_without_end_is_an_error_and_does_not_fill_the_memory() {
    let endless = HEADER.as_bytes().chain(&b"\nABC,1,1,1\n"[..]).chain(std::io::repeat(b'x'));
    let mut reader = CsvReader::new(endless, Path::new("x.csv"), &Options::default()).expect("header");
    assert_eq!(reader.next_batch(10).expect("one row").expect("one row").rows, 1);
    let error = std::error::Error::source(&reader.next_batch(10).expect_err("endless")).map(ToString::to_string);
    assert_eq!(error.as_deref(), Some("line 3 is longer than 262144 bytes"));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic_or_lose_a_row(body in "([a-z\",\r\n0-9.é-]|\"\"|ABC,1,1,1\n){0,60}", max_rows in 1usize..5) {
        let text = format!("{HEADER}\n{body}");
        let (ticks, bad) = read_all(plain(&text), max_rows);
        let mut rows: Vec<_> = ticks.iter().map(|t| t.0).chain(bad.iter().map(|b| b.0)).collect();
        rows.sort_unstable();
        let lines = body.split('\n').filter(|line| !line.strip_suffix('\r').unwrap_or(line).is_empty()).count() as u64;
        prop_assert!(rows.into_iter().eq(0..lines));
    }

    /// The same ticks from a file, gzip'd or not, and from a queue are the same columns.
    #[test]
    fn csv_and_json_agree(ticks in prop::collection::vec(("[A-Z/, \"é]{1,9}", -1e300f64..1e300, any::<i64>(), any::<i64>()), 1..30), gz: bool) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(HEADER.split(',')).expect("memory");
        let mut lines = Vec::new();
        for (id, price, volume, time) in &ticks {
            writer.write_record([id.as_str(), &price.to_string(), &volume.to_string(), &time.to_string()]).expect("memory");
            json::write_tick(&mut lines, id, *price, *volume, *time);
            lines.push(b'\n');
        }
        let text = writer.into_inner().expect("memory");
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("ticks");
        std::fs::write(&path, if gz { gzip(&text) } else { text }).expect("written");
        let mut reader = CsvReader::open(&path, &Options::default()).expect("header");
        let batch = reader.next_batch(100).expect("readable").expect("rows");
        let queue = decode([(None, &lines[..])], &Options::default());
        prop_assert_eq!((&batch.decoded.undecodable, &queue.undecodable), (&vec![], &vec![]));
        let (file, queue) = (batch.decoded.ticks, queue.ticks);
        prop_assert_eq!((file.price, file.volume, file.timestamp_ns, file.instrument), (queue.price, queue.volume, queue.timestamp_ns, queue.instrument));
        prop_assert!(file.names.iter().eq(queue.names.iter()));
    }
}

fn other_columns() -> Columns {
    Columns {
        instrument: Instrument::Column("symbol".to_owned()),
        price: "price".to_owned(),
        volume: "amount".to_owned(),
        timestamp: "timestamp".to_owned(),
        unit_ns: 1000,
    }
}

fn mapped<'a>(text: &'a str, columns: &Columns, scale: u64) -> tickcast_core::Result<CsvReader<&'a [u8]>> {
    let options = Options { volume_scale: scale, ..Options::default() };
    CsvReader::new_as(text.as_bytes(), Path::new("trades.csv"), &options, columns)
}

#[test]
fn other_peoples_columns_are_found_by_name_and_times_are_exact() {
    let text = "exchange,\"symbol\",timestamp,id,price,amount\nx,XBT,1583020803145000,7,8531.5,0.02\n\
                x,\"A,B\",1.5,7,1,1\nx,XBT,1,7,1\nx,XBT,1.0005,7,1,1\n";
    let (ticks, bad) = read_all(mapped(text, &other_columns(), 100).expect("header"), 10);
    assert_eq!(
        ticks,
        [
            (0, "XBT".to_owned(), 8531.5f64.to_bits(), 2, 1_583_020_803_145_000_000),
            (1, "A,B".to_owned(), 1f64.to_bits(), 100, 1500),
        ]
    );
    assert_eq!(bad.iter().map(|(row, _, _)| *row).collect::<Vec<_>>(), [2, 3]);
    assert!(bad[0].2.contains("as many fields as the header has"), "{}", bad[0].2);
}

#[test]
fn a_column_that_is_not_there_is_named() {
    let wrong = mapped("symbol,price,timestamp\n", &other_columns(), 1).err().expect("an error").to_string();
    assert!(wrong.contains("amount") && wrong.contains("symbol,price,timestamp"), "{wrong}");
}

#[test]
fn one_instrument_may_stand_for_a_column() {
    let columns = Columns { instrument: Instrument::All("ETH/USDT".to_owned()), ..other_columns() };
    let (ticks, bad) = read_all(mapped("timestamp,price,amount\n5,2.5,3\n", &columns, 1).expect("header"), 10);
    assert_eq!(ticks, [(0, "ETH/USDT".to_owned(), 2.5f64.to_bits(), 3, 5000)]);
    assert!(bad.is_empty());
}

proptest! {
    /// Columns in any order, among others, give the ticks that they give in ours.
    #[test]
    fn the_order_of_columns_does_not_show(
        rows in prop::collection::vec(("[A-Z\",]{1,6}", -9.0f64..9.0, any::<i64>(), any::<i64>()), 0..30),
        order in Just(vec![0usize, 1, 2, 3, 4, 4]).prop_shuffle(),
    ) {
        let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let (mut ours, mut theirs) = (format!("{HEADER}\n"), String::new());
        let names = ["symbol", "price", "amount", "timestamp", "other"];
        theirs += &(order.iter().map(|&i| names[i]).collect::<Vec<_>>().join(",") + "\n");
        for (id, price, volume, time) in &rows {
            let fields = [quote(id), price.to_string(), volume.to_string(), time.to_string(), "x".to_owned()];
            ours += &(fields[..4].join(",") + "\n");
            theirs += &(order.iter().map(|&i| fields[i].clone()).collect::<Vec<_>>().join(",") + "\n");
        }
        let columns = Columns { unit_ns: 1, ..other_columns() };
        prop_assert_eq!(read_all(mapped(&theirs, &columns, 1).expect("header"), 7).0, read_all(plain(&ours), 7).0);
    }
}
