//! JetStream sources against a real server: nothing missing, nothing doubled, whatever happens to the server.

use crate::common::{PATIENCE, Server, eventually, offer, outgoing, publish, pull};
use std::time::Duration;
use tickcast_core::decode::Options;
use tickcast_core::{Position, position::Origin};
use tickcast_nats::{AtHand, Error, JetStreamConfig, JetStreamSource, NewStream, Start, StartedFrom, State};

fn config(server: &Server, subject: &str) -> JetStreamConfig {
    JetStreamConfig {
        servers: server.servers(),
        subject: subject.to_owned(),
        stream: Some("TICKS".to_owned()),
        durable: None,
        start: Start::All,
        positions: Vec::new(),
        at_hand: None,
        create: None,
        format: None,
        trades: false,
        options: Options::default(),
        max_rows: 4_096,
        window: 500,
    }
}

fn open(config: JetStreamConfig) -> JetStreamSource {
    JetStreamSource::open(config).expect("a source")
}

fn read(source: &JetStreamSource, count: usize) -> Vec<(u64, i64)> {
    pull(|rows| source.poll(rows), |time| source.wait(time), |came| came.len() >= count)
}

/// Reads so many messages; returns the sequences of those that only fill windows, and of the others.
fn read_apart(source: &JetStreamSource, count: usize) -> (Vec<u64>, Vec<u64>) {
    let (mut silent, mut others) = (Vec::new(), Vec::new());
    eventually("all of them", || {
        if let Some(batch) = source.poll(1_000).expect("readable") {
            let into = if batch.origin.silent { &mut silent } else { &mut others };
            into.extend(batch.origin.offset);
        }
        silent.len() + others.len() >= count
    });
    (silent, others)
}

fn live(source: &JetStreamSource) {
    eventually("live", || source.health().state == State::Live);
}

/// Waits for the error that ends a source.
fn refusal(source: &JetStreamSource) -> String {
    eventually("failed", || source.health().state == State::Failed);
    match source.poll(1) {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

fn numbered(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, i64)> {
    range.map(|n| (n, n as i64)).collect()
}

#[test]
fn what_was_published_before_and_after_comes_once_and_in_order() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks.>\"", "");
    let publisher = server.publisher("ticks.eq", true);
    publish(&publisher, 1..1_001);
    let source = open(config(&server, "ticks.>"));
    assert_eq!(read(&source, 1_000), numbered(1..=1_000));
    publish(&publisher, 1_001..1_501);
    assert_eq!(read(&source, 500), numbered(1_001..=1_500));
    let meters = source.meters();
    assert_eq!((meters.messages, meters.lost, meters.repeats, meters.pending), (1_500, 0, 0, 0));
    source.close();
    assert_eq!(source.poll(1).expect_err("closed"), Error::Closed { url: source.url().to_owned() });
}

#[test]
fn a_server_killed_in_the_middle_of_the_stream_costs_nothing() {
    let Some(mut server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    let publisher = server.publisher("ticks", true);
    let source = open(config(&server, "ticks"));
    live(&source);
    let total = 12_000;
    let sending = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            // More at a time than fits into the library's buffers, so that a kill finds some of it half sent.
            for start in (1..=total).step_by(4_000) {
                assert_eq!(offer(&publisher, outgoing(start..start + 4_000, true), PATIENCE), Ok(4_000));
            }
            publisher.flush(PATIENCE)
        });
        let mut came = read(&source, 3_000);
        for more in [3_000, 3_000] {
            server.kill();
            eventually("reconnecting", || source.health().state == State::Reconnecting);
            server.up();
            came.extend(read(&source, more));
        }
        came.extend(read(&source, total as usize - came.len()));
        let volumes: Vec<i64> = came.iter().map(|&(_, volume)| volume).collect();
        assert_eq!(volumes, (1..=total).collect::<Vec<_>>());
        assert!(came.windows(2).all(|pair| pair[0].0 < pair[1].0), "sequences rise");
        sender.join().expect("the sender ends")
    });
    assert_eq!(sending, Ok(true));
    let published = publisher.published();
    assert_eq!((published.confirmed, published.failed, published.unconfirmed), (total as u64, 0, 0), "{published:?}");
    assert!(source.meters().disconnects >= 2);
    assert_eq!((source.meters().lost, source.meters().lost_at_most), (0, 0));
}

#[test]
fn a_source_reads_on_behind_its_position() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    let publisher = server.publisher("ticks", true);
    publish(&publisher, 1..101);
    let first = open(config(&server, "ticks"));
    read(&first, 100);
    let stream = first.started().expect("started").stream;
    first.close();
    let mut mine = Origin::new(stream, 0);
    mine.push(40, 0, 0);
    let other = Position { stream: stream ^ 1, partition: 0, offset: 90, index: 0 };
    let positions = vec![other, mine.last()[0]];
    let second = open(JetStreamConfig { positions, ..config(&server, "ticks") });
    assert_eq!(read(&second, 60), numbered(41..=100));
    let started = second.started().expect("started");
    assert_eq!((started.stream, started.sequence, started.from), (stream, 41, StartedFrom::Position));
}

#[test]
fn windows_are_read_again_where_what_is_at_hand_is_too_little_for_them() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 1..101);
    let first = open(config(&server, "ticks"));
    read(&first, 100);
    let stream = first.started().expect("started").stream;
    first.close();
    let position = |offset| Position { stream, partition: 0, offset, index: 0 };
    for (oldest, begin) in [(vec![position(30)], 1), (vec![position(1)], 41), (Vec::new(), 1)] {
        let at_hand = Some(AtHand { oldest, reach_ns: 3_600_000_000_000 });
        let positions = vec![position(40)];
        let source = open(JetStreamConfig { positions, at_hand, ..config(&server, "ticks") });
        let (silent, others) = read_apart(&source, 101 - begin as usize);
        assert_eq!(silent, Vec::from_iter(begin..=40));
        assert_eq!(others, Vec::from_iter(41..=100));
        assert_eq!(source.begins_anew(), begin <= 40);
        source.close();
    }
}

#[test]
fn a_saved_position_is_found_again_and_the_further_one_wins() {
    let Some(mut server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 1..101);
    let durable = || JetStreamConfig { durable: Some("desk".to_owned()), ..config(&server, "ticks") };
    let first = open(durable());
    read(&first, 100);
    assert_eq!(first.load_position(), None);
    let stream = first.started().expect("started").stream;
    first.save_position(stream, 30, u16::MAX, None);
    eventually("written", || first.saved_position() == Some((30, u16::MAX)));
    first.save_position(stream, 70, 3, None);
    first.save_position(stream, 60, 3, None);
    first.save_position(!stream, 90, 3, None);
    first.close();
    assert_eq!(first.saved_position(), Some((70, 3)), "closing writes the last one");

    let behind = Position { stream, partition: 0, offset: 10, index: 0 };
    let second_config = JetStreamConfig { positions: vec![behind], ..durable() };
    server.kill();
    server.up();
    let second = open(second_config);
    let (silent, others) = read_apart(&second, 90);
    assert_eq!(silent, Vec::from_iter(11..=70), "what another processor has judged meanwhile fills the windows");
    assert_eq!(others, Vec::from_iter(71..=100));
    assert_eq!(second.load_position(), Some((70, 3)));
    assert_eq!(second.started().map(|s| s.from), Some(StartedFrom::Durable));
}

#[test]
fn without_a_position_the_windows_are_filled_from_the_lowest_that_was_saved() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 1..101);
    let durable = || JetStreamConfig { durable: Some("desk".to_owned()), ..config(&server, "ticks") };
    for (position, lowest, begin) in [(50, None, 1), (70, Some(20), 1), (80, None, 20)] {
        let source = open(durable());
        let (silent, others) = read_apart(&source, 101 - begin as usize);
        assert_eq!([silent, others].concat(), Vec::from_iter(begin..=100));
        let stream = source.started().expect("started").stream;
        source.save_position(stream, position, u16::MAX, lowest);
        source.close();
    }
    let (silent, others) = read_apart(&open(durable()), 81);
    assert_eq!(silent, Vec::from_iter(20..=80), "what was needed before is enough later");
    assert_eq!(others, Vec::from_iter(81..=100));
}

#[test]
fn a_source_starts_with_what_was_stored_since() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks.*\"", "");
    let (mine, others) = (server.publisher("ticks.mine", true), server.publisher("ticks.others", true));
    publish(&mine, 1..11);
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    publish(&others, 11..16);
    publish(&mine, 16..21);
    let since = |since_ns| JetStreamConfig { start: Start::Since(since_ns), ..config(&server, "ticks.mine") };
    let now_ns = moment.as_nanos() as i64;
    for (since_ns, first, waiting) in [(0, 1, 15), (now_ns, 11, 5), (now_ns + 3_600_000_000_000, 21, 0)] {
        let source = open(since(since_ns));
        eventually("it reads", || source.waiting().is_some());
        assert_eq!(source.waiting(), Some(waiting));
        let started = source.started().expect("started");
        assert_eq!((started.sequence, started.from), (first, StartedFrom::Since));
        let came = read(&source, waiting as usize);
        assert_eq!(came.len(), waiting as usize);
        assert!(came.iter().all(|&(sequence, _)| sequence >= first && !(11..16).contains(&sequence)));
        source.close();
    }
}

#[test]
fn starting_new_leaves_out_what_is_there() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    let publisher = server.publisher("ticks", true);
    publish(&publisher, 1..11);
    let source = open(JetStreamConfig { start: Start::New, ..config(&server, "ticks") });
    live(&source);
    publish(&publisher, 11..21);
    assert_eq!(read(&source, 10), numbered(11..=20));
}

#[test]
fn what_the_limits_removed_is_counted_exactly() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", ",\"max_msgs\":100,\"discard\":\"old\"");
    publish(&server.publisher("ticks", true), 1..251);
    let probe = open(config(&server, "ticks"));
    assert_eq!(read(&probe, 100), numbered(151..=250));
    assert_eq!(probe.meters().lost, 0, "what was gone before the start is no loss");
    let stream = probe.started().expect("started").stream;
    let positions = vec![Position { stream, partition: 0, offset: 20, index: 0 }];
    let source = open(JetStreamConfig { positions, ..config(&server, "ticks") });
    assert_eq!(read(&source, 100), numbered(151..=250));
    assert_eq!(source.meters().lost, 130, "21 to 150");
}

#[test]
fn a_deleted_message_is_a_loss_of_one() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 1..11);
    server.api("STREAM.MSG.DELETE.TICKS", "{\"seq\":5}");
    let source = open(config(&server, "ticks"));
    let came: Vec<u64> = read(&source, 9).iter().map(|&(sequence, _)| sequence).collect();
    assert_eq!(came, [1, 2, 3, 4, 6, 7, 8, 9, 10]);
    assert_eq!(source.meters().lost, 1);
}

#[test]
fn other_subjects_of_the_stream_are_neither_read_nor_lost() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks.*\"", "");
    let (ours, others) = (server.publisher("ticks.a", true), server.publisher("ticks.b", true));
    for n in 0..5 {
        publish(&others, 100 + n..101 + n);
        publish(&ours, n..n + 1);
    }
    let source = open(config(&server, "ticks.a"));
    let volumes: Vec<i64> = read(&source, 5).iter().map(|&(_, volume)| volume).collect();
    assert_eq!(volumes, [0, 1, 2, 3, 4]);
    assert_eq!((source.meters().lost, source.meters().lost_at_most), (0, 0));
}

#[test]
fn a_consumer_deleted_behind_our_back_is_made_again() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    let publisher = server.publisher("ticks", true);
    publish(&publisher, 1..11);
    let source = open(config(&server, "ticks"));
    assert_eq!(read(&source, 10), numbered(1..=10));
    let names = server.api("CONSUMER.NAMES.TICKS", "{}");
    for name in names["consumers"].as_array().expect("names") {
        server.api(&format!("CONSUMER.DELETE.TICKS.{}", name.as_str().expect("a name")), "{}");
    }
    eventually("noticed", || source.meters().disconnects == 1);
    publish(&publisher, 11..21);
    assert_eq!(read(&source, 10), numbered(11..=20));
}

#[test]
fn a_stream_made_again_is_read_from_its_beginning_under_its_own_id() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 1..11);
    let source = open(config(&server, "ticks"));
    assert_eq!(read(&source, 10), numbered(1..=10));
    server.api("STREAM.DELETE.TICKS", "{}");
    eventually("noticed", || source.health().state == State::Reconnecting);
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 101..104);
    source.wait(PATIENCE);
    let mut batch = None;
    eventually("a batch", || {
        batch = source.poll(100).expect("readable");
        batch.is_some()
    });
    let batch = batch.expect("a batch");
    assert_eq!(batch.decoded.ticks.volume[0], 101);
    assert_ne!(batch.origin.stream, source.started().expect("started").stream);
}

#[test]
fn without_anybody_pulling_the_stream_keeps_the_messages() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 1..5_001);
    let source = open(JetStreamConfig { max_rows: 200, window: 100, ..config(&server, "ticks") });
    eventually("the handover is full", || source.meters().messages >= 200);
    let consumer = server.api("CONSUMER.NAMES.TICKS", "{}")["consumers"][0].clone();
    let consumer = format!("CONSUMER.INFO.TICKS.{}", consumer.as_str().expect("a name"));
    let mut info = serde_json::Value::Null;
    eventually("nothing more is asked for", || {
        info = server.api(&consumer, "{}");
        info["num_waiting"] == 0
    });
    // 200 rows handed over, at most 200 in hand, at most 150 asked for.
    assert!(info["delivered"]["stream_seq"].as_u64().is_some_and(|sequence| sequence <= 550), "{info}");
    assert_eq!(read(&source, 5_000), numbered(1..=5_000));
}

#[test]
fn streams_that_cannot_be_read_on_from_a_position_are_refused() {
    let Some(server) = Server::start() else { return };
    server.stream("WORK", "\"work\"", ",\"retention\":\"workqueue\"");
    server.stream("TICKS", "\"ticks\"", "");
    let of = |stream: &str, subject: &str| {
        refusal(&open(JetStreamConfig { stream: Some(stream.to_owned()), ..config(&server, subject) }))
    };
    let at = format!("jetstream://127.0.0.1:{}", server.port);
    assert_eq!(
        of("WORK", "work"),
        format!(
            "{at}/work?stream=WORK: stream \"WORK\" has workqueue retention; use a stream with limits retention: the \
             others delete what was read, so that a restart could not read on from its position"
        )
    );
    let missing = of("NOSUCH", "ticks");
    assert!(
        missing.starts_with(&format!("{at}/ticks?stream=NOSUCH: there is no stream \"NOSUCH\"; create")),
        "{missing}"
    );
    let mismatch = of("TICKS", "tocks");
    assert!(mismatch.contains("has the subjects [\"ticks\"], none of which is \"tocks\""), "{mismatch}");
}

#[test]
fn the_stream_is_found_by_its_subject_or_created_if_so_wished() {
    let Some(server) = Server::start() else { return };
    let unnamed = || JetStreamConfig { stream: None, ..config(&server, "ticks") };
    assert!(refusal(&open(unnamed())).contains("not exactly one stream"));
    let create = Some(NewStream { max_bytes: Some(1 << 20), max_age: Some(Duration::from_secs(60)) });
    let created = open(JetStreamConfig { create, ..config(&server, "ticks") });
    live(&created);
    let found = open(unnamed());
    live(&found);
    assert_eq!(found.started().map(|s| s.stream), created.started().map(|s| s.stream));
    let info = server.api("STREAM.INFO.TICKS", "{}");
    assert_eq!(
        (info["config"]["max_bytes"].as_u64(), info["config"]["retention"].as_str()),
        (Some(1 << 20), Some("limits"))
    );
}

#[test]
fn the_stream_id_survives_a_restart_of_the_server() {
    let Some(mut server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    let before = server.api("STREAM.INFO.TICKS", "{}")["created"].clone();
    server.kill();
    server.up();
    assert_eq!(server.api("STREAM.INFO.TICKS", "{}")["created"], before);
}

#[test]
fn a_source_waits_for_a_server_that_is_not_there_yet() {
    let Some(mut server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 1..11);
    server.kill();
    let source = open(config(&server, "ticks"));
    eventually("it says why", || source.health().detail.contains("cannot connect"));
    assert_eq!((source.health().state, source.poll(1).map(|b| b.is_none())), (State::Reconnecting, Ok(true)));
    server.up();
    assert_eq!(read(&source, 10), numbered(1..=10));
}

#[test]
fn wrong_credentials_end_the_source_with_a_hint() {
    let Some(server) = Server::start_with("authorization: {user: me, password: right}") else { return };
    let mut config = config(&server, "ticks");
    config.servers.urls = vec![format!("nats://me:wrong@127.0.0.1:{}", server.port)];
    let text = refusal(&open(config.clone()));
    assert!(
        text.contains("authorization violation") && text.contains("check user") && !text.contains("wrong"),
        "{text}"
    );
    config.servers.urls = vec![format!("nats://me:right@127.0.0.1:{}", server.port)];
    config.create = Some(NewStream::default());
    live(&open(config));
}

#[test]
fn a_stream_that_ends_before_the_position_is_refused() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    publish(&server.publisher("ticks", true), 1..11);
    let probe = open(config(&server, "ticks"));
    live(&probe);
    let stream = probe.started().expect("started").stream;
    let at = |offset| vec![Position { stream, partition: 0, offset, index: 0 }];
    let text = refusal(&open(JetStreamConfig { positions: at(12), ..config(&server, "ticks") }));
    assert!(text.contains("ends at sequence 10, but 12 was read already"), "{text}");
    live(&open(JetStreamConfig { positions: at(10), ..config(&server, "ticks") }));
}

#[test]
fn where_other_subjects_expire_too_the_loss_has_an_upper_bound() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks.*\"", ",\"max_msgs\":10,\"discard\":\"old\"");
    let (ours, others) = (server.publisher("ticks.a", true), server.publisher("ticks.b", true));
    publish(&ours, 0..1);
    let probe = open(config(&server, "ticks.a"));
    live(&probe);
    let stream = probe.started().expect("started").stream;
    publish(&others, 100..115);
    publish(&ours, 1..6);
    // 21 messages, the last 10 are held; of 2 to 11 nobody knows whose they were.
    let positions = vec![Position { stream, partition: 0, offset: 1, index: 0 }];
    let source = open(JetStreamConfig { positions, ..config(&server, "ticks.a") });
    assert_eq!(read(&source, 5), (17..=21).zip(1..=5).collect::<Vec<_>>());
    assert_eq!((source.meters().lost, source.meters().lost_at_most), (0, 10));
}

#[test]
fn without_ids_a_kill_leaves_some_unconfirmed_and_none_doubled() {
    let Some(mut server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    let publisher = server.publisher("ticks", true);
    let source = open(config(&server, "ticks"));
    live(&source);
    let total = 12_000;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| offer(&publisher, outgoing(1..total + 1, false), PATIENCE));
        eventually("in the middle of it", || source.poll(100).is_ok() && source.meters().messages > 500);
        server.kill();
        server.up();
        assert_eq!(sender.join().expect("the sender ends"), Ok(total as usize));
    });
    assert_eq!(publisher.flush(PATIENCE), Ok(true));
    let published = publisher.published();
    assert_eq!(published.confirmed + published.unconfirmed, total as u64, "{published:?}");
    assert_eq!((published.failed, published.duplicates), (0, 0));
    let state = server.api("STREAM.INFO.TICKS", "{}")["state"].clone();
    let held = state["messages"].as_u64().expect("a number");
    assert!((published.confirmed..=total as u64).contains(&held), "{held} of {published:?}");
}
