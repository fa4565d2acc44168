//! Decoders: what is taken, what is refused and how that is said, and that no bytes at all make them panic.

use proptest::prelude::*;
use std::collections::HashMap;
use tickcast_core::decode::{At, DecodeError, Format, MAX_TICKS, Options, decode};
use tickcast_core::encode::{json, proto};
use tickcast_core::{Decoded, Undecodable};

fn one(format: impl Into<Option<Format>>, payload: impl AsRef<[u8]>) -> Decoded {
    decode([(format.into(), payload.as_ref())], &Options::default())
}

fn json_error(payload: &str) -> String {
    let decoded = one(Format::Json, payload);
    assert_eq!((decoded.ticks.len(), decoded.undecodable.len()), (0, 1), "{payload}");
    decoded.undecodable[0].error.to_string()
}

fn tick(id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    proto::write_tick(&mut out, id, 39.5, 100, 1_723_161_255_342_000_000);
    out
}

#[test]
fn format_is_told_by_the_first_byte_and_protobuf_ids_that_look_like_json_stay_protobuf() {
    assert_eq!(Format::detect(b"{\"price\":1}"), Format::Json);
    assert_eq!(Format::detect(b"\n\t [1]"), Format::Json);
    assert_eq!(Format::detect(b""), Format::Proto);
    assert_eq!(Format::detect(b" \n"), Format::Proto);
    for id in ["{23456789", "[234567890", "{234567890123", "[2345678901234567890123456789012"] {
        assert!(matches!(id.len(), 9 | 10 | 13 | 32), "lengths that are JSON whitespace");
        assert_eq!(Format::detect(&tick(id)), Format::Proto, "{id}");
    }
    for format in [Format::Proto, Format::ProtoBatch, Format::Json] {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    assert_eq!(Format::from_name("JSON"), None);
}

#[test]
fn json_takes_integers_as_numbers_or_strings_and_a_missing_time_as_zero() {
    let decoded = one(
        None,
        r#" {"instrumentId":"A\u00e9\ud83d\ude00","price":-1.5e2,"volume":"12","timestampNs":34,"x":[{"y":"\""},null,true]}
            {"volume":1e3,"price":0,"instrumentId":"B","price":7,"timestampNs":null}

            {"price":1,"volume":5.0,"instru\u006dentId":""}"#,
    );
    assert_eq!(decoded.undecodable, []);
    let t = &decoded.ticks;
    assert_eq!((t.id(0), t.price[0], t.volume[0], t.timestamp_ns[0]), ("Aé😀", -150.0, 12, 34));
    assert_eq!((t.id(1), t.price[1], t.volume[1], t.timestamp_ns[1]), ("B", 7.0, 1000, 0));
    assert_eq!((t.id(2), t.price[2], t.volume[2], t.timestamp_ns[2]), ("", 1.0, 5, 0));
    assert_eq!(t.index, [0, 1, 2]);
}

#[test]
fn json_errors_name_field_value_and_place() {
    for (payload, message) in [
        (r#"{"price":1,"volume":1}"#, "instrumentId: is missing (at byte 0)"),
        (r#"{"instrumentId":7,"price":1,"volume":1}"#, "instrumentId: must be a string, was 7 (at byte 16)"),
        (r#"{"instrumentId":"A","price":"1","volume":1}"#, "price: must be a number, was \"1\" (at byte 28)"),
        (r#"{"instrumentId":"A","price":null,"volume":1}"#, "price: must be a number, was null (at byte 28)"),
        (r#"{"instrumentId":"A","price":1e999,"volume":1}"#, "price: must fit a double, was 1e999 (at byte 28)"),
        (r#"{"instrumentId":"A","price":1,"volume":1.5}"#, "volume: must be a whole number, was 1.5 (at byte 39)"),
        (r#"{"instrumentId":"A","price":1,"volume":"x"}"#, "volume: must be an integer, was \"x\" (at byte 39)"),
        (r#"{"instrumentId":"A","price":1,"volume":true}"#, "volume: must be an integer, was true (at byte 39)"),
        (
            r#"{"instrumentId":"A","price":1,"volume":1,"timestampNs":"9223372036854775808"}"#,
            "timestampNs: must fit int64, was \"9223372036854775808\" (at byte 55)",
        ),
        (
            r#"{"instrumentId":"\ud800","price":1,"volume":1}"#,
            "instrumentId: must be a string of whole characters, was \"\\ud800\" (at byte 16)",
        ),
        ("[5]", "tick: must be an object, was 5 (at byte 1)"),
        ("5", "expected an object or an array, found '5' (at byte 0)"),
        ("", "expected an object or an array, found the end (at byte 0)"),
        (r#"{"price":01}"#, "expected , or }, found '1' (at byte 10)"),
        (r#"{"price":1} {"price":2}"#, "expected the end of the line, found '{' (at byte 12)"),
        ("[] ]", "expected the end of the payload, found ']' (at byte 3)"),
        ("{\"a\":\"x\ny\"}", "expected the end of the string, found '\\n' (at byte 7)"),
    ] {
        assert_eq!(json_error(payload), message, "{payload}");
    }
}

#[test]
fn one_wrong_element_is_undecodable_alone_and_broken_syntax_takes_the_payload_with_it() {
    let good = r#"{"instrumentId":"ABC","price":1,"volume":1}"#;
    let decoded = one(Format::Json, format!(r#"[{good}, {{"price":1}} ,3,{good}]"#));
    assert_eq!(decoded.ticks.index, [0, 3]);
    let bad: Vec<_> = decoded.undecodable.iter().map(|u| (u.index, &u.bytes[..])).collect();
    assert_eq!(bad, [(Some(1), &br#"{"price":1}"#[..]), (Some(2), b"3")]);

    let payload = format!(r#"[{good},{{"price":1}},{good}"#);
    let decoded = decode([(None, good.as_bytes()), (None, payload.as_bytes())], &Options::default());
    assert_eq!(decoded.ticks.message, [0]);
    assert_eq!(decoded.undecodable.len(), 1);
    assert_eq!((decoded.undecodable[0].message, decoded.undecodable[0].index), (1, None));
    assert_eq!(decoded.undecodable[0].bytes, payload.as_bytes());
}

#[test]
fn a_message_holds_65535_ticks_and_not_one_more() {
    for more in [0, 1] {
        let mut text = String::from("[");
        let mut batch = Vec::new();
        for i in 0..MAX_TICKS + more {
            text.push_str(if i == 0 { "" } else { "," });
            text.push_str(r#"{"instrumentId":"ABC","price":1,"volume":1}"#);
            proto::write_batch_tick(&mut batch, "ABC", 1.0, 1, 0);
        }
        text.push(']');
        for decoded in [one(Format::Json, &text), one(Format::ProtoBatch, &batch)] {
            let whole = more == 0;
            assert_eq!(decoded.ticks.len(), if whole { MAX_TICKS } else { 0 });
            assert_eq!(decoded.ticks.index.last(), whole.then_some(&65_534));
            assert_eq!(decoded.undecodable.len(), usize::from(!whole));
            assert!(
                decoded
                    .undecodable
                    .iter()
                    .all(|u| matches!(u.error, DecodeError::TooManyTicks { .. }) && u.index.is_none())
            );
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_not_recursed_into() {
    let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
    assert!(json_error(&deep).starts_with("expected less than 128 values within one another"));
    let groups = vec![0x2b; 100_000]; // start of group 5, again and again
    assert_eq!(one(Format::Proto, groups).undecodable.len(), 1);
}

#[test]
fn protobuf_errors_name_field_value_and_place() {
    for (payload, message) in [
        (&b"\x0a\x05ABC"[..], "instrument_id: needs 5 more bytes, 3 are left (at byte 2)"),
        (b"\x0a\x02A\xff", "instrument_id: is not UTF-8, was \"A\\xff\" (at byte 3)"),
        (b"\x11\0\0\0", "price: needs 8 more bytes, 3 are left (at byte 1)"),
        (b"\x18\x80", "volume: needs 2 more bytes, 1 are left (at byte 1)"),
        (
            b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            "expected a varint of at most 64 bits, found \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x02 (at byte 1)",
        ),
        (b"\x10\x01", "price: must have wire type 1, had 0 (at byte 0)"),
        (b"\x22\x01A", "timestamp_ns: must have wire type 0, had 2 (at byte 0)"),
        (b"\x02\x01", "expected a protobuf field, found \\x02 (at byte 0)"),
        (b"\x2f", "expected a protobuf field, found wire type 7 at depth 0 (at byte 0)"),
        (b"\x2c", "expected a protobuf field, found wire type 4 at depth 0 (at byte 0)"),
    ] {
        let decoded = one(Format::Proto, payload);
        assert_eq!(decoded.ticks.len(), 0, "{message}");
        assert_eq!(decoded.undecodable[0].error.to_string(), message);
        assert_eq!(decoded.undecodable[0].index, None);
    }
}

#[test]
fn a_wrong_tick_in_a_batch_is_undecodable_alone_and_broken_framing_takes_all() {
    let frame = |ticks: &[&[u8]]| ticks.iter().flat_map(|t| [&[0x0a, t.len() as u8], *t].concat()).collect::<Vec<u8>>();
    let good = tick("ABC");
    let unknown = b"\x10\x07"; // field 2 of the batch
    let payload = [&frame(&[&good, b"\x10\x01"])[..], unknown, &frame(&[&good])].concat();
    let decoded = one(Format::ProtoBatch, &payload);
    assert_eq!(decoded.ticks.index, [0, 2]);
    let error = DecodeError::WireType { field: "price", expected: 1, was: 0, at: At::Byte(good.len() + 4) };
    assert_eq!(decoded.undecodable, [Undecodable { message: 0, index: Some(1), bytes: b"\x10\x01".to_vec(), error }]);

    let cut = &payload[..payload.len() - 1];
    let decoded = one(Format::ProtoBatch, cut);
    assert_eq!((decoded.ticks.len(), decoded.undecodable.len()), (0, 1));
    assert_eq!((decoded.undecodable[0].index, &decoded.undecodable[0].bytes[..]), (None, cut));
}

#[test]
fn volumes_are_scaled_exactly_per_instrument_or_refused() {
    let scales = HashMap::from([("BTC".to_owned(), 100_000_000), ("ETH".to_owned(), 1)]);
    let options = Options { volume_scale: 1000, per_instrument_scale: scales };
    options.validate().expect("powers of ten");
    let payload = r#"[{"instrumentId":"BTC","price":1,"volume":0.02}, {"instrumentId":"ETH","price":1,"volume":"2"},
        {"instrumentId":"XYZ","price":1,"volume":"0.125"}, {"instrumentId":"XYZ","price":1,"volume":0.0001},
        {"instrumentId":"BTC","price":1,"volume":92233720369}]"#;
    let mut wire = Vec::new();
    proto::write_tick(&mut wire, "BTC", 1.0, 3, 0);
    let mut over = Vec::new();
    proto::write_tick(&mut over, "BTC", 1.0, i64::MAX, 0);
    let decoded = decode([(None, payload.as_bytes()), (None, &wire), (None, &over)], &options);
    assert_eq!(decoded.ticks.volume, [2_000_000, 2, 125, 300_000_000]);
    let errors: Vec<_> = decoded.undecodable.iter().map(|u| u.error.to_string()).collect();
    assert_eq!(errors[0], "volume: must be a multiple of 1/1000, was 0.0001 (at byte 196)");
    assert_eq!(errors[1], "volume: must fit int64 once multiplied by 100000000, was 92233720369 (at byte 254)");
    assert_eq!(errors[2], "volume: must fit int64 once multiplied by 100000000, was 9223372036854775807 (at byte 15)");

    for scale in [0, 2, 20, 10_000_000_000_000_000_000] {
        let wrong = Options { volume_scale: scale, ..Options::default() };
        assert!(wrong.validate().expect_err("no power of ten up to 10^18").to_string().contains("volume_scale"));
        let _ = decode([(None, payload.as_bytes()), (None, &wire)], &wrong); // does not panic either
    }
}

/// Pieces that make bytes look like messages, so that the deeper branches are reached.
fn nearly_payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        Just(tick("ABCDEF")),
        Just(br#"{"instrumentId":"A\u00e9","price":1e400,"volume":"#.to_vec()),
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\ud800",
            "\n",
            "1",
            "-",
            "e9",
            ".",
            "null",
            "\"price\":",
            "\"volume\":\"1\""
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::sample::select(vec![
            &b"\x0a"[..],
            b"\x11",
            b"\x18",
            b"\x20",
            b"\x2b\x2c",
            b"\x80\x80",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A field of a message, encoded.
fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let number = 5u64..1 << 29;
    prop_oneof![
        (number.clone(), any::<u64>()).prop_map(|(n, v)| [varint(n << 3), varint(v)].concat()),
        (number.clone(), any::<[u8; 8]>()).prop_map(|(n, v)| [&varint(n << 3 | 1)[..], &v].concat()),
        (number.clone(), any::<[u8; 4]>()).prop_map(|(n, v)| [&varint(n << 3 | 5)[..], &v].concat()),
        (number.clone(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(n, v)| [
            varint(n << 3 | 2),
            varint(v.len() as u64),
            v
        ]
        .concat()),
        (number, any::<u64>()).prop_map(|(n, v)| [
            varint(n << 3 | 3),
            vec![8],
            varint(v),
            vec![0x13, 0x14],
            varint(n << 3 | 4)
        ]
        .concat()),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic_or_lose_a_payload(payload in nearly_payload(), scale in prop::sample::select(vec![1u64, 1000, 10u64.pow(18)])) {
        let options = Options { volume_scale: scale, ..Options::default() };
        for format in [None, Some(Format::Proto), Some(Format::ProtoBatch), Some(Format::Json)] {
            let decoded = decode([(format, &payload[..])], &options);
            let t = &decoded.ticks;
            let rows = [t.instrument.len(), t.volume.len(), t.timestamp_ns.len(), t.message.len(), t.index.len()];
            prop_assert_eq!(rows, [t.len(); 5]);
            // Indexes of ticks and of what is undecodable are the message's, each once; or it is undecodable whole.
            let mut indexes: Vec<_> = t.index.iter().copied().chain(decoded.undecodable.iter().filter_map(|u| u.index)).collect();
            indexes.sort_unstable();
            let whole = decoded.undecodable.iter().any(|u| u.index.is_none());
            prop_assert!(indexes.iter().copied().eq(0..indexes.len() as u16));
            prop_assert!(!whole || (indexes.is_empty() && decoded.undecodable.len() == 1 && decoded.undecodable[0].bytes == payload));
        }
    }

    #[test]
    fn every_tick_gets_a_row_where_all_are_answered(payloads in prop::collection::vec(nearly_payload(), 0..8)) {
        let formats = [Format::Proto, Format::ProtoBatch, Format::Json];
        for format in formats {
            let decoded = decode(payloads.iter().map(|p| (Some(format), &p[..])), &Options::default());
            let places = |ticks: &tickcast_core::TickBatch| -> Vec<_> {
                ticks.message.iter().copied().zip(ticks.index.iter().copied()).collect()
            };
            let mut expected = places(&decoded.ticks);
            expected.extend(decoded.undecodable.iter().map(|u| (u.message, u.index.unwrap_or(0))));
            expected.sort_unstable();
            let undecodable = decoded.undecodable.clone();
            let good: Vec<_> = (0..decoded.ticks.len()).map(|i| (decoded.ticks.id(i).to_owned(), decoded.ticks.price[i].to_bits())).collect();
            let (ticks, broken) = decoded.with_rows_for_broken();
            prop_assert_eq!(places(&ticks), expected);
            prop_assert_eq!(broken.len(), undecodable.len());
            for (broken, why) in broken.iter().zip(&undecodable) {
                let row = broken.row as usize;
                prop_assert_eq!((ticks.message[row], ticks.index[row]), (why.message, why.index.unwrap_or(0)));
                prop_assert_eq!((ticks.id(row), ticks.price[row].is_nan()), ("", true));
                prop_assert_eq!(&broken.reason, &format!("Processing error: {}", why.error));
            }
            let rows = (0..ticks.len()).filter(|&row| broken.iter().all(|b| b.row as usize != row));
            prop_assert_eq!(rows.map(|i| (ticks.id(i).to_owned(), ticks.price[i].to_bits())).collect::<Vec<_>>(), good);
        }
    }

    #[test]
    fn protobuf_fields_come_in_any_order_repeated_and_among_unknown_ones(
        noise in prop::collection::vec(unknown_field(), 0..6),
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        id in ".{0,10}", price: f64, volume: i64, time: i64, twice: bool, padded: bool,
    ) {
        let fields = |id: &str, price: f64, volume: i64, time: i64| {
            let tag = |tag: u8| if padded { vec![tag | 0x80, 0x80, 0] } else { vec![tag] };
            [
                [tag(0x0a), varint(id.len() as u64), id.as_bytes().to_vec()].concat(),
                [tag(0x11), price.to_le_bytes().to_vec()].concat(),
                [tag(0x18), varint(volume as u64)].concat(),
                [tag(0x20), varint(time as u64)].concat(),
            ]
        };
        let mut payload = Vec::new();
        let mut noise = noise.into_iter();
        if twice {
            payload.extend(fields("earlier", -1.0, 7, 8).concat());
        }
        for i in order {
            payload.extend(noise.next().unwrap_or_default());
            payload.extend(&fields(&id, price, volume, time)[i]);
        }
        payload.extend(noise.flatten());
        let decoded = one(Format::Proto, &payload);
        prop_assert_eq!(&decoded.undecodable, &[]);
        let t = &decoded.ticks;
        prop_assert_eq!((t.id(0), t.price[0].to_bits(), t.volume[0], t.timestamp_ns[0]), (&id[..], price.to_bits(), volume, time));
    }

    #[test]
    fn every_cut_of_a_protobuf_tick_is_refused_or_a_shorter_tick(at in 0usize..31) {
        let whole = tick("ABCDEF");
        let decoded = one(Format::Proto, &whole[..at.min(whole.len())]);
        let between_fields = [0, 8, 17, 19, whole.len()].contains(&at.min(whole.len()));
        prop_assert_eq!(decoded.undecodable.is_empty(), between_fields);
    }

    /// The scanner takes and refuses what serde_json does, in whole and in parts.
    #[test]
    fn json_grammar_is_that_of_serde_json(text in r#"([\[\]{},:" \n0-9eE.+-]|true|null|\\[nu"x]|"a"|"price":){0,12}"#) {
        let payload = format!("[{text}]");
        let broken = one(Format::Json, &payload).undecodable.iter().any(|u| u.index.is_none());
        prop_assert_eq!(broken, serde_json::from_str::<Vec<serde::de::IgnoredAny>>(&payload).is_err(), "{}", payload);
    }

    #[test]
    fn json_doubles_and_integers_are_exact(price in "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?", volume: i64, quoted: bool) {
        let quote = if quoted { "\"" } else { "" };
        let decoded = one(None, format!(r#"{{"instrumentId":"A","price":{price},"volume":{quote}{volume}{quote}}}"#));
        prop_assert_eq!(decoded.ticks.price[0].to_bits(), price.parse::<f64>().expect("number").to_bits());
        prop_assert_eq!(decoded.ticks.volume[0], volume);
    }
}

#[test]
fn json_tick_of_the_encoder_is_the_documented_one() {
    let mut out = Vec::new();
    json::write_tick(&mut out, "A\"B", 39.5, 100, 5);
    assert_eq!(out, br#"{"instrumentId":"A\"B","price":39.5,"volume":"100","timestampNs":"5"}"#);
}
