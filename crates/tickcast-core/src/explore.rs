//! Looking through the tape: for people who ask what was refused, and why, now and then.
//!
//! Nothing is indexed. The tape is read from its newest trade back, in runs, as any cursor reads it: a whole tape of a
//! few hundred MiB takes a fraction of a second, and the writer notices nothing.

use crate::tape::{NO_REASON, NO_RULE, Read, Record, Run, SCREEN_RULE, TEXT_REASON, TapeReader};
use crate::{Status, TradeId};
use hashbrown::HashMap;
use serde_json::{Value, json};

/// Trades of one run.
const RUN: u64 = 2048;

/// Rows of a list that tells how often; the rest is left out.
const MOST_NAMES: usize = 50;

/// Series of reasons over time; the others are one more.
const MOST_SERIES: usize = 12;

/// What a trade must be like; what is not said lets everything pass.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The instrument.
    pub instrument: Option<String>,
    /// The status.
    pub status: Option<Status>,
    /// The group of the reason: up to the value that it names (see [`group`]).
    pub reason: Option<String>,
    /// The rule that refused it; `screen` for the built-in checks.
    pub rule: Option<String>,
}

/// Names of the tape's codes, as they are now.
struct Names {
    instruments: Vec<String>,
    reasons: Vec<String>,
    rules: Vec<String>,
}

impl Names {
    fn of(tape: &TapeReader) -> Self {
        Names { instruments: tape.instruments(0), reasons: tape.reasons(0), rules: tape.rules() }
    }

    fn instrument<'a>(&'a self, record: &Record<'a>) -> &'a str {
        match record.instrument_text() {
            Some(text) => text,
            None => self.instruments.get(record.instrument() as usize).map_or("", String::as_str),
        }
    }

    fn reason<'a>(&'a self, record: &Record<'a>) -> &'a str {
        match record.reason() {
            NO_REASON => "",
            TEXT_REASON => record.reason_text().unwrap_or(""),
            code => self.reasons.get(usize::from(code) - 1).map_or("", String::as_str),
        }
    }

    fn rule(&self, record: &Record<'_>) -> Option<&str> {
        match record.rule() {
            NO_RULE => None,
            SCREEN_RULE => Some("screen"),
            number => self.rules.get(usize::from(number) - 1).map(String::as_str),
        }
    }
}

impl Query {
    fn matches(&self, names: &Names, record: &Record<'_>) -> bool {
        self.status.is_none_or(|status| record.status() == status)
            && self.instrument.as_deref().is_none_or(|id| names.instrument(record) == id)
            && self.reason.as_deref().is_none_or(|reason| group(names.reason(record)) == reason)
            && self.rule.as_deref().is_none_or(|rule| names.rule(record) == Some(rule))
    }
}

/// Returns a reason without the value that it names: `Processing error: price: must be > 0, was -5` and `…, was -6` are
/// one.
pub fn group(reason: &str) -> &str {
    reason.split_once(", was ").map_or(reason, |(before, _)| before)
}

/// Returns the trades that match, newest first, as a JSON object.
///
/// `before`: only sequences below; `limit`: most trades; `scan`: most sequences to look through. The answer says down
/// to which sequence it has looked.
pub fn search(tape: &TapeReader, query: &Query, before: Option<u64>, limit: usize, scan: u64) -> Vec<u8> {
    let names = Names::of(tape);
    let (head, oldest) = (tape.head(), tape.oldest().max(1));
    let top = before.map_or(head, |seq| seq.saturating_sub(1).min(head));
    let bottom = oldest.max(top.saturating_sub(scan.max(1) - 1));
    let (mut seqs, mut rules, mut trades) = (Vec::new(), Vec::new(), Vec::<Vec<u8>>::new());
    let mut scanned = top.saturating_add(1);
    walk_back(tape, top, bottom, |record| {
        if trades.len() >= limit {
            return false;
        }
        scanned = record.seq();
        if query.matches(&names, record) {
            seqs.push(record.seq());
            rules.push(names.rule(record).map(str::to_owned));
            trades.push(record.json().to_vec());
        }
        true
    });
    if trades.len() < limit {
        scanned = bottom;
    }
    let epoch = format!("{:016x}", tape.epoch());
    let about =
        json!({"epoch": epoch, "head": head, "oldest": oldest, "scannedTo": scanned, "seqs": seqs, "rules": rules});
    let mut out = about.to_string().into_bytes();
    out.pop();
    out.extend_from_slice(b",\"trades\":[");
    out.extend_from_slice(&trades.join(&b','));
    out.extend_from_slice(b"]}");
    out
}

/// Counts what is not VALID, by reason over time, by rule and by instrument, as a JSON object.
///
/// Time is that of arrival, where a trade has one, else its own. `buckets`: most bars of the time line; `scan`: most
/// sequences to look through, from the newest back.
pub fn rejects(tape: &TapeReader, query: &Query, buckets: usize, scan: u64) -> Vec<u8> {
    let names = Names::of(tape);
    let (head, oldest) = (tape.head(), tape.oldest().max(1));
    let bottom = oldest.max(head.saturating_sub(scan.max(1) - 1));
    let mut found = Tally::default();
    walk_back(tape, head, bottom, |record| {
        let at_ns = if record.ingest_ns() > 0 { record.ingest_ns() } else { record.timestamp_ns() };
        found.see(at_ns);
        if record.status() != Status::Valid && query.matches(&names, record) {
            found.add(at_ns, group(names.reason(record)), names.rule(record), names.instrument(record));
        }
        true
    });
    let answer = found.answer(buckets.max(1));
    let mut answer = answer.as_object().cloned().unwrap_or_default();
    answer.insert("oldest".to_owned(), json!(bottom));
    answer.insert("head".to_owned(), json!(head));
    Value::Object(answer).to_string().into_bytes()
}

/// What a look through the tape has counted.
#[derive(Default)]
struct Tally {
    trades: u64,
    span_s: Option<(i64, i64)>,
    reasons: HashMap<String, HashMap<i64, u64>>,
    rules: HashMap<String, u64>,
    instruments: HashMap<String, u64>,
}

impl Tally {
    fn see(&mut self, at_ns: i64) {
        let second = at_ns.div_euclid(1_000_000_000);
        self.trades += 1;
        let (from, to) = self.span_s.unwrap_or((second, second));
        self.span_s = Some((from.min(second), to.max(second)));
    }

    fn add(&mut self, at_ns: i64, reason: &str, rule: Option<&str>, instrument: &str) {
        *self.reasons.entry_ref(reason).or_default().entry(at_ns.div_euclid(1_000_000_000)).or_default() += 1;
        *self.rules.entry_ref(rule.unwrap_or("")).or_default() += 1;
        *self.instruments.entry_ref(instrument).or_default() += 1;
    }

    fn answer(&self, buckets: usize) -> Value {
        let (from, to) = self.span_s.unwrap_or((0, -1));
        let width = nice_seconds((to - from + 1).max(1), buckets as i64);
        let start = from.div_euclid(width);
        let count = if self.span_s.is_some() { (to.div_euclid(width) - start + 1) as usize } else { 0 };
        let times: Vec<i64> = (0..count as i64).map(|i| (start + i) * width).collect();
        let totals = ranked(self.reasons.iter().map(|(name, seconds)| (name.as_str(), seconds.values().sum())));
        let mut reasons = Vec::new();
        for &(name, total) in totals.iter().take(MOST_SERIES) {
            let mut counts = vec![0u64; count];
            for (&second, &n) in &self.reasons[name] {
                if let Some(bar) = counts.get_mut((second.div_euclid(width) - start) as usize) {
                    *bar += n;
                }
            }
            reasons.push(json!({"name": name, "count": total, "counts": counts}));
        }
        let listed = |counts: &HashMap<String, u64>| {
            let ranked = ranked(counts.iter().map(|(name, &count)| (name.as_str(), count)));
            let rows = ranked.into_iter().take(MOST_NAMES);
            rows.map(|(name, count)| json!({"name": name, "count": count})).collect::<Vec<_>>()
        };
        json!({
            "trades": self.trades,
            "rejects": totals.iter().map(|(_, count)| count).sum::<u64>(),
            "bucketS": width,
            "times": times,
            "reasons": reasons,
            "rules": listed(&self.rules),
            "instruments": listed(&self.instruments),
        })
    }
}

/// Most frequent first, equal ones by name.
fn ranked<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Vec<(&'a str, u64)> {
    let mut ranked: Vec<_> = counts.collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    ranked
}

/// Returns a width of bars that people can read, s, so that `span` seconds need at most about `buckets` of them.
fn nice_seconds(span: i64, buckets: i64) -> i64 {
    const WIDTHS: [i64; 14] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600];
    let least = span.div_euclid(buckets.max(1)) + 1;
    WIDTHS.into_iter().find(|&width| width >= least).unwrap_or(least.div_euclid(86_400) * 86_400 + 86_400)
}

/// Returns how long the stages of the newest trades took, µs: median, 99th percentile and most, as a JSON object.
pub fn stages(tape: &TapeReader, newest: u64) -> Vec<u8> {
    let head = tape.head();
    let bottom = tape.oldest().max(1).max(head.saturating_sub(newest.max(1) - 1));
    let mut columns: [Vec<u32>; 4] = Default::default();
    walk_back(tape, head, bottom, |record| {
        let (decode, rules, enrich) = (record.decode_us(), record.rules_us(), record.enrich_us());
        let before = decode.saturating_add(rules).saturating_add(enrich);
        let times = [decode, rules, enrich, record.tape_us().saturating_sub(before)];
        columns.iter_mut().zip(times).for_each(|(column, us)| column.push(us));
        true
    });
    let trades = columns[0].len();
    let mut answer = serde_json::Map::from_iter([("trades".to_owned(), json!(trades))]);
    for (name, column) in ["decode", "rules", "enrich", "tape"].into_iter().zip(&mut columns) {
        column.sort_unstable();
        let at = |share: f64| column.get(((trades as f64 * share) as usize).min(trades.saturating_sub(1))).copied();
        answer.insert(name.to_owned(), json!({"p50": at(0.5), "p99": at(0.99), "max": column.last()}));
    }
    Value::Object(answer).to_string().into_bytes()
}

/// Adds up, instrument by instrument, what has arrived since a time, as a JSON object of columns.
///
/// Per instrument: VALID trades, their volume and the price of the oldest, what is not VALID, and `recent`, VALID trades
/// since `recent_ns`. Instruments that nothing came of are left out, and so are names that never were one: they may be
/// anything, and endless. `complete`: the tape reaches back to `since_ns`.
pub fn activity(tape: &TapeReader, since_ns: i64, recent_ns: i64) -> Vec<u8> {
    let names = Names::of(tape);
    let (head, oldest) = (tape.head(), tape.oldest().max(1));
    let mut by_code: Vec<Activity> = vec![Activity::default(); names.instruments.len()];
    let codes: HashMap<&str, usize> = names.instruments.iter().map(String::as_str).zip(0..).collect();
    let mut others: HashMap<String, Activity> = HashMap::new();
    let mut complete = oldest == 1;
    walk_back(tape, head, oldest, |record| {
        let at_ns = if record.ingest_ns() > 0 { record.ingest_ns() } else { record.timestamp_ns() };
        if at_ns < since_ns {
            complete = true;
            return false;
        }
        let valid = record.status() == Status::Valid;
        let found = match record.instrument_text() {
            None => by_code.get_mut(record.instrument() as usize),
            // What fails the screen has no code, though its instrument may have one.
            Some(name) => match codes.get(name) {
                Some(&code) => by_code.get_mut(code),
                None if valid => Some(others.entry_ref(name).or_default()),
                None => None,
            },
        };
        if let Some(found) = found {
            found.add(record, valid, at_ns >= recent_ns);
        }
        true
    });
    let coded = names.instruments.iter().map(String::as_str).zip(&by_code);
    let all = coded.chain(others.iter().map(|(name, found)| (name.as_str(), found)));
    let rows: Vec<_> = all.filter(|(_, found)| found.trades + found.rejects > 0).collect();
    let column = |of: fn(&Activity) -> Value| rows.iter().map(|(_, found)| of(found)).collect::<Vec<_>>();
    json!({
        "epoch": format!("{:016x}", tape.epoch()),
        "head": head,
        "complete": complete,
        "instruments": rows.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "trades": column(|found| json!(found.trades)),
        "volume": column(|found| json!(found.volume.to_string())),
        "first": column(|found| json!(found.first)),
        "rejects": column(|found| json!(found.rejects)),
        "recent": column(|found| json!(found.recent)),
    })
    .to_string()
    .into_bytes()
}

/// What came of one instrument.
#[derive(Debug, Clone, Default)]
struct Activity {
    trades: u64,
    volume: i128,
    /// Price of the oldest VALID trade.
    first: Option<f64>,
    rejects: u64,
    recent: u64,
}

impl Activity {
    /// Adds a trade, newest first.
    fn add(&mut self, record: &Record<'_>, valid: bool, recent: bool) {
        if !valid {
            self.rejects += 1;
            return;
        }
        self.trades += 1;
        self.volume += i128::from(record.volume());
        self.first = Some(record.price());
        self.recent += u64::from(recent);
    }
}

/// Returns the sequence of the trade with that id, the newest if there are several; `None`: not on the tape.
pub fn find(tape: &TapeReader, id: TradeId) -> Option<u64> {
    let mut found = None;
    walk_back(tape, tape.head(), tape.oldest().max(1), |record| {
        if record.id() == id {
            found = Some(record.seq());
        }
        found.is_none()
    });
    found
}

/// Reads a trade id of 32 hex digits.
pub fn parse_id(text: &str) -> Option<TradeId> {
    let digits = text.as_bytes();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut id = [0u8; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(TradeId(id))
}

/// Shows the trades `top` down to `bottom`, newest first, until `visit` says that it has seen enough. Holes, and what the
/// writer overruns meanwhile, are passed over.
fn walk_back(tape: &TapeReader, top: u64, bottom: u64, mut visit: impl FnMut(&Record<'_>) -> bool) {
    let (mut run, mut end) = (Run::default(), top);
    let mut parts: Vec<Run> = Vec::new();
    while end >= bottom && end > 0 {
        let start = end.saturating_sub(RUN - 1).max(bottom).max(1);
        let mut from = start;
        while from <= end {
            match tape.read(from, end, &mut run) {
                Read::Done { to } if to >= from => {
                    parts.push(std::mem::take(&mut run));
                    from = to + 1;
                }
                Read::Done { .. } => break,
                Read::Overrun { oldest } => from = oldest.max(from + 1),
                Read::Hole { to } => from = to.max(from) + 1,
            }
        }
        for part in parts.drain(..).rev() {
            for record in part.iter().rev() {
                if !visit(&record) {
                    return;
                }
            }
        }
        if start <= 1 {
            return;
        }
        end = start - 1;
    }
}
