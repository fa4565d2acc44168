//! What the encoders write is what the forms ask for, and what a reader gets back.

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tickcast_core::decode::{Format, Options, decode};
use tickcast_core::encode::{json as json_form, proto};
use tickcast_core::{Decoded, Status, Trade, TradeId};

/// A trade that owns its parts.
#[derive(Debug, Clone)]
struct Owned {
    id: [u8; 16],
    instrument_id: String,
    price: f64,
    volume: i64,
    timestamp_ns: i64,
    status: Status,
    reason: Option<String>,
    vwap_20m: f64,
    enrichments: Vec<f64>,
}

impl Owned {
    fn trade(&self) -> Trade<'_> {
        Trade {
            id: TradeId(self.id),
            instrument_id: &self.instrument_id,
            price: self.price,
            volume: self.volume,
            timestamp_ns: self.timestamp_ns,
            status: self.status,
            reason: self.reason.as_deref(),
            vwap_20m: self.vwap_20m,
            enrichments: &self.enrichments,
        }
    }
}

fn trades() -> impl Strategy<Value = Owned> {
    let status = prop_oneof![Just(Status::Unknown), Just(Status::Valid), Just(Status::Invalid)];
    let enrichments = prop::collection::vec(any::<f64>(), 2);
    (
        any::<[u8; 16]>(),
        ".{0,12}",
        any::<f64>(),
        any::<i64>(),
        any::<i64>(),
        status,
        any::<Option<String>>(),
        any::<f64>(),
        enrichments,
    )
        .prop_map(|(id, instrument_id, price, volume, timestamp_ns, status, reason, vwap_20m, enrichments)| {
            Owned { id, instrument_id, price, volume, timestamp_ns, status, reason, vwap_20m, enrichments }
        })
}

fn valid() -> Owned {
    Owned {
        id: [0xab; 16],
        instrument_id: "BTC/USD".to_owned(),
        price: 0.1,
        volume: i64::MAX,
        timestamp_ns: 1_723_161_255_342_000_000,
        status: Status::Valid,
        reason: None,
        vwap_20m: 1e21,
        enrichments: vec![f64::NAN, 2.5],
    }
}

/// The form of the design, built by another library.
fn expected(trade: &Trade<'_>, names: [&str; 2]) -> Value {
    let mut value = json!({
        "tradeId": std::str::from_utf8(&trade.id.hex()).expect("hex"),
        "instrumentId": trade.instrument_id,
        "price": trade.price, // not finite: null
        "volume": trade.volume.to_string(),
        "timestampNs": trade.timestamp_ns.to_string(),
        "status": trade.status.name(),
    });
    if let Some(reason) = trade.reason {
        value["reason"] = reason.into();
    }
    if trade.vwap_20m.is_finite() {
        value["vwap20m"] = trade.vwap_20m.into();
    }
    for (name, enrichment) in names.iter().zip(trade.enrichments) {
        if enrichment.is_finite() {
            value[*name] = (*enrichment).into();
        }
    }
    value
}

#[test]
fn json_trade_has_the_bytes_of_the_plain_form() {
    let mut out = b"before ".to_vec();
    json_form::write_trade(&mut out, &valid().trade(), &json_form::EnrichmentKeys::new(&["none", "no\"tional"]));
    let text = String::from_utf8(out).expect("UTF-8");
    assert_eq!(
        text,
        "before {\"tradeId\":\"abababababababababababababababab\",\"instrumentId\":\"BTC/USD\",\"price\":0.1,\
         \"volume\":\"9223372036854775807\",\"timestampNs\":\"1723161255342000000\",\"status\":\"VALID\",\
         \"vwap20m\":1e+21,\"no\\\"tional\":2.5}"
    );
}

#[test]
fn proto_trade_leaves_out_defaults_but_an_optional_empty_reason() {
    let nothing = Owned {
        id: [0; 16],
        instrument_id: String::new(),
        price: 0.0,
        volume: 0,
        timestamp_ns: 0,
        status: Status::Unknown,
        reason: Some(String::new()),
        vwap_20m: f64::NAN,
        enrichments: vec![],
    };
    let mut out = Vec::new();
    proto::write_trade(&mut out, &nothing.trade());
    let id = [&[0x0a, 32][..], &[b'0'; 32]].concat();
    assert_eq!(out, [&id[..], &[0x3a, 0]].concat());

    out.clear();
    proto::write_trade(&mut out, &Trade { reason: None, price: -0.0, volume: -1, ..nothing.trade() });
    let price = [0x19, 0, 0, 0, 0, 0, 0, 0, 0x80];
    let volume = [0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(out, [&id[..], &price, &volume].concat());
}

#[test]
fn proto_trade_numbers_its_fields_as_the_schema_does() {
    let mut out = Vec::new();
    let trade =
        Owned { reason: Some("why".to_owned()), price: 1.0, volume: 300, timestamp_ns: 1, vwap_20m: 2.0, ..valid() };
    proto::write_trade(&mut out, &trade.trade());
    let expected = [
        &[0x0a, 32][..],
        b"abababababababababababababababab",
        &[0x12, 7],
        b"BTC/USD",
        &[0x19],
        &1.0f64.to_le_bytes(),
        &[0x20, 0xac, 0x02],
        &[0x28, 1],
        &[0x30, 1],
        &[0x3a, 3],
        b"why",
        &[0x41],
        &2.0f64.to_le_bytes(),
    ];
    assert_eq!(out, expected.concat());
}

/// Ticks with a price that is no NaN, so that rows can be compared.
fn ticks() -> impl Strategy<Value = Vec<(String, f64, i64, i64)>> {
    let price = any::<f64>().prop_filter("not NaN", |p| !p.is_nan());
    prop::collection::vec((".{0,12}", price, any::<i64>(), any::<i64>()), 0..20)
}

fn rows(decoded: &Decoded) -> Vec<(String, f64, i64, i64)> {
    assert_eq!(decoded.undecodable, []);
    let t = &decoded.ticks;
    (0..t.len()).map(|i| (t.id(i).to_owned(), t.price[i], t.volume[i], t.timestamp_ns[i])).collect()
}

proptest! {
    #[test]
    fn json_trade_reads_back(trade in trades()) {
        let mut out = Vec::new();
        json_form::write_trade(&mut out, &trade.trade(), &json_form::EnrichmentKeys::new(&["a", "b\n"]));
        let read: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&out).expect("JSON");
        let wanted = expected(&trade.trade(), ["a", "b\n"]);
        let wanted = wanted.as_object().expect("object");
        prop_assert!(read.keys().eq(wanted.keys()));
        for (key, value) in wanted {
            let text = read[key].get();
            match value.as_f64() {
                // As text: serde_json's own doubles may be off by a last digit.
                Some(double) => prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(double.to_bits())),
                None => prop_assert_eq!(&serde_json::from_str::<Value>(text).expect("JSON"), value),
            }
        }
    }

    #[test]
    fn a_batch_of_trades_is_its_trades_with_their_lengths(trades in prop::collection::vec(trades(), 0..5)) {
        let mut out = Vec::new();
        trades.iter().for_each(|trade| proto::write_batch_trade(&mut out, &trade.trade()));
        let mut rest = &out[..];
        for trade in &trades {
            let mut one = Vec::new();
            proto::write_trade(&mut one, &trade.trade());
            let mut len = one.len();
            prop_assert_eq!(rest[0], 1 << 3 | 2);
            rest = &rest[1..];
            while len >= 0x80 {
                prop_assert_eq!(rest[0], len as u8 | 0x80);
                (rest, len) = (&rest[1..], len >> 7);
            }
            prop_assert_eq!(rest[0], len as u8);
            prop_assert_eq!(&rest[1..=one.len()], &one[..]);
            rest = &rest[1 + one.len()..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn proto_ticks_round_trip(ticks in ticks()) {
        let mut batch = Vec::new();
        let mut singles = Vec::new();
        for (id, price, volume, time) in &ticks {
            proto::write_batch_tick(&mut batch, id, *price, *volume, *time);
            let mut single = Vec::new();
            proto::write_tick(&mut single, id, *price, *volume, *time);
            singles.push(single);
        }
        let one = decode([(Some(Format::ProtoBatch), &batch[..])], &Options::default());
        prop_assert_eq!(rows(&one), ticks.clone());
        prop_assert!(one.ticks.index.iter().copied().eq(0..ticks.len() as u16));
        let many = decode(singles.iter().map(|s| (Some(Format::Proto), &s[..])), &Options::default());
        prop_assert_eq!(rows(&many), ticks.clone());
        prop_assert!(many.ticks.message.iter().copied().eq(0..ticks.len() as u32));
    }

    #[test]
    fn json_ticks_round_trip(ticks in ticks(), separator in prop_oneof![Just(","), Just("\n")]) {
        prop_assume!(ticks.iter().all(|t| t.1.is_finite()) && !ticks.is_empty());
        let mut out = Vec::new();
        for (i, (id, price, volume, time)) in ticks.iter().enumerate() {
            out.extend_from_slice(if i > 0 { separator.as_bytes() } else { b"" });
            json_form::write_tick(&mut out, id, *price, *volume, *time);
        }
        if separator == "," {
            out = [b"[", &out[..], b"]"].concat();
        }
        let decoded = decode([(None, &out[..])], &Options::default());
        prop_assert_eq!(rows(&decoded), ticks);
    }
}
