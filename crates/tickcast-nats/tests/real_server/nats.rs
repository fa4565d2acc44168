//! Core NATS sources and publishers against a real server: what is lost is counted.

use crate::common::{PATIENCE, Server, eventually, offer, outgoing, payload, pull};
use std::sync::Arc;
use std::time::Duration;
use tickcast_core::decode::{Format, Options};
use tickcast_nats::{Error, NatsConfig, NatsSource, Outgoing, Publisher, PublisherConfig, Servers, State};

fn config(server: &Server, subject: &str) -> NatsConfig {
    NatsConfig {
        servers: server.servers(),
        subject: subject.to_owned(),
        queue: None,
        format: None,
        options: Options::default(),
        max_rows: 4_096,
        capacity: 65_536,
    }
}

fn open(config: NatsConfig) -> NatsSource {
    let source = NatsSource::open(config).expect("a source");
    eventually("live", || source.health().state == State::Live);
    source
}

fn read(source: &NatsSource, count: usize) -> Vec<(u64, i64)> {
    pull(|rows| source.poll(rows), |time| source.wait(time), |came| came.len() >= count)
}

fn send(publisher: &Publisher, numbers: std::ops::Range<i64>) {
    let count = (numbers.end - numbers.start) as usize;
    assert_eq!(offer(publisher, outgoing(numbers, false), PATIENCE), Ok(count));
    assert_eq!(publisher.flush(PATIENCE), Ok(true));
}

#[test]
fn messages_come_in_order_with_a_counter_as_offset() {
    let Some(server) = Server::start() else { return };
    let source = open(config(&server, "ticks.*"));
    send(&server.publisher("ticks.eq", false), 0..2_000);
    let expected: Vec<(u64, i64)> = (0..2_000).map(|n| (n as u64 + 1, n)).collect();
    assert_eq!(read(&source, 2_000), expected);
    assert_eq!(source.meters().lost, 0);
}

#[test]
fn taken_and_lost_are_all_that_was_sent() {
    let Some(server) = Server::start() else { return };
    let source = open(NatsConfig { capacity: 100, max_rows: 10, ..config(&server, "ticks") });
    let sent = 20_000;
    send(&server.publisher("ticks", false), 0..sent);
    // Nobody has pulled: far more than fits has arrived. The last message tells that all the others were decided on.
    let probe = server.publisher("ticks", false);
    let mut last = sent;
    let mut taken = 0u64;
    eventually("caught up", || {
        send(&probe, last..last + 1);
        last += 1;
        let came = read(&source, 1);
        taken += came.len() as u64;
        came.last().is_some_and(|&(_, volume)| volume == last - 1) && source.meters().lost + taken == last as u64
    });
    assert!(source.meters().lost > sent as u64 / 2, "{:?}", source.meters());
}

#[test]
fn a_queue_group_shares_the_messages() {
    let Some(server) = Server::start() else { return };
    let member = || open(NatsConfig { queue: Some("desk".to_owned()), ..config(&server, "ticks") });
    let (one, two) = (member(), member());
    send(&server.publisher("ticks", false), 0..500);
    eventually("all have come", || one.meters().messages + two.meters().messages == 500);
    assert!(one.meters().messages > 0 && two.meters().messages > 0);
}

#[test]
fn the_header_names_the_format_and_what_cannot_be_decoded_keeps_its_place() {
    let Some(server) = Server::start() else { return };
    let source = open(NatsConfig { format: Some(Format::Proto), ..config(&server, "ticks") });
    let publisher = server.publisher("ticks", false);
    let json = Arc::from([("tickcast-format".to_owned(), "json".to_owned())]);
    let messages = vec![
        Outgoing { payload: payload(1), headers: Arc::clone(&json), ..Outgoing::default() },
        Outgoing { payload: payload(2), ..Outgoing::default() },
        Outgoing { payload: payload(3), headers: json, ..Outgoing::default() },
    ];
    assert_eq!(offer(&publisher, messages, PATIENCE), Ok(3));
    let (mut volumes, mut bad) = (Vec::new(), Vec::new());
    eventually("three", || {
        if let Some(batch) = source.poll(100).expect("readable") {
            volumes.extend_from_slice(&batch.decoded.ticks.volume);
            bad.extend(batch.decoded.undecodable.iter().map(|u| batch.origin.offset[u.message as usize]));
        }
        volumes.len() + bad.len() == 3
    });
    assert_eq!((volumes, bad), (vec![1, 3], vec![2]));
}

#[test]
fn a_restarted_server_is_subscribed_to_again() {
    let Some(mut server) = Server::start() else { return };
    let source = open(config(&server, "ticks"));
    server.kill();
    eventually("reconnecting", || source.health().state == State::Reconnecting);
    let since = source.health().since_ns;
    eventually("it says what it does", || source.health().detail.contains("cannot connect"));
    assert_eq!(source.health().since_ns, since);
    server.up();
    eventually("live", || source.health().state == State::Live);
    send(&server.publisher("ticks", false), 0..10);
    assert_eq!(read(&source, 10).len(), 10);
    assert_eq!(source.meters().disconnects, 1);
}

#[test]
fn a_publisher_keeps_account_of_every_message_while_the_server_is_gone() {
    let Some(mut server) = Server::start() else { return };
    let publisher = server.publisher("ticks", false);
    send(&publisher, 0..100);
    server.kill();
    eventually("noticed", || publisher.health().state == State::Reconnecting);
    assert_eq!(offer(&publisher, outgoing(0..50, false), PATIENCE), Ok(50));
    assert_eq!(publisher.flush(Duration::from_millis(50)), Ok(false));
    server.up();
    assert_eq!(publisher.flush(PATIENCE), Ok(true));
    let published = publisher.published();
    assert_eq!((published.confirmed, published.unconfirmed, published.failed), (150, 0, 0), "{published:?}");
    publisher.close(PATIENCE);
    assert!(matches!(offer(&publisher, outgoing(0..1, false), PATIENCE), Err(Error::Closed { .. })));
}

#[test]
fn a_full_window_makes_the_publisher_wait_and_says_how_many_it_took() {
    let Some(mut server) = Server::start() else { return };
    server.kill();
    let publisher = Publisher::open(PublisherConfig { window: 10, ..publisher_config(&server) }).expect("a publisher");
    assert_eq!(offer(&publisher, outgoing(0..25, false), Duration::from_millis(20)), Ok(10));
    assert_eq!(publisher.published().waiting, 10);
    publisher.close(Duration::ZERO);
    assert_eq!(publisher.published().unconfirmed, 10);
}

#[test]
fn a_publisher_says_what_is_wrong_with_its_stream_or_message() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", ",\"max_msgs\":2,\"discard\":\"new\"");
    let open = |stream: &str, subject: &str| {
        let config = PublisherConfig { jetstream: true, stream: Some(stream.to_owned()), ..publisher_config(&server) };
        Publisher::open(PublisherConfig { subject: subject.to_owned(), ..config }).expect("a publisher")
    };
    for (stream, subject, what) in
        [("NOSUCH", "ticks", "there is no stream \"NOSUCH\""), ("TICKS", "tocks", "takes the subjects [\"ticks\"]")]
    {
        let publisher = open(stream, subject);
        eventually("failed", || publisher.health().state == State::Failed);
        let text = offer(&publisher, outgoing(0..1, false), PATIENCE).expect_err("refused").to_string();
        assert!(text.contains(what), "{text}");
    }
    let publisher = open("TICKS", "ticks");
    let mut messages = outgoing(0..4, true);
    messages[1].message_id = Some("m0".to_owned());
    messages.push(Outgoing { payload: vec![b' '; 2 << 20], ..Outgoing::default() });
    assert_eq!(offer(&publisher, messages, PATIENCE), Ok(5));
    assert_eq!(publisher.flush(PATIENCE), Ok(true));
    let published = publisher.published();
    assert_eq!((published.confirmed, published.duplicates, published.failed), (3, 1, 2), "{published:?}");
}

#[test]
fn a_message_for_a_subject_without_a_stream_fails_and_holds_up_nobody() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", "");
    let publisher = server.publisher("ticks", true);
    let mut messages = outgoing(0..3, true);
    messages[1].subject = Some(Arc::from("elsewhere"));
    assert_eq!(offer(&publisher, messages, PATIENCE), Ok(3));
    assert_eq!(publisher.flush(PATIENCE), Ok(true));
    let published = publisher.published();
    assert_eq!((published.confirmed, published.failed), (2, 1), "{published:?}");
    assert_eq!(published.last_failure.as_deref(), Some("no stream takes its subject"));
}

#[test]
fn which_messages_have_failed_is_known_and_whether_it_is_for_good() {
    let Some(server) = Server::start() else { return };
    server.stream("TICKS", "\"ticks\"", ",\"max_msg_size\":1000");
    let publisher = server.publisher("ticks", true);
    let numbers = |publisher: &Publisher| {
        let failures = publisher.take_failures();
        let mut numbers: Vec<(u64, bool)> = failures.iter().map(|failure| (failure.number, failure.for_good)).collect();
        numbers.sort_unstable();
        numbers
    };
    let mut messages = outgoing(0..6, true);
    messages[1].subject = Some(Arc::from("elsewhere"));
    messages[3].payload = vec![b'x'; 2_000];
    messages[4].payload = vec![b'x'; 2 << 20];
    assert_eq!(offer(&publisher, messages, PATIENCE), Ok(6));
    assert_eq!(publisher.flush(PATIENCE), Ok(true));
    assert_eq!(numbers(&publisher), [(1, false), (3, true), (4, true)]);
    let mut messages = outgoing(6..9, true);
    messages[1].payload = vec![b'x'; 2_000];
    assert_eq!(offer(&publisher, messages, PATIENCE), Ok(3));
    assert_eq!(publisher.flush(PATIENCE), Ok(true));
    assert_eq!(numbers(&publisher), [(7, true)]);
    assert_eq!(publisher.published().confirmed, 5);
}

#[test]
fn what_the_server_does_not_permit_is_said() {
    let settings = "authorization: {users: [
        {user: reader, password: p, permissions: {publish: {deny: \">\"}, subscribe: [\"ticks\", \"_INBOX.>\"]}},
        {user: writer, password: p, permissions: {publish: [\"ticks\"], subscribe: [\"_INBOX.>\"]}}]}";
    let Some(server) = Server::start_with(settings) else { return };
    let servers =
        |user: &str| Servers { urls: vec![format!("nats://{user}:p@127.0.0.1:{}", server.port)], ..Servers::default() };
    let source = open(NatsConfig { servers: servers("reader"), ..config(&server, "ticks") });
    let denied = NatsSource::open(NatsConfig { servers: servers("reader"), ..config(&server, "secret") });
    let denied = denied.expect("a source");
    eventually("failed", || denied.health().state == State::Failed);
    let text = denied.poll(1).expect_err("refused").to_string();
    assert!(text.contains("Permissions Violation for Subscription to \"secret\""), "{text}");
    let writer = PublisherConfig { servers: servers("writer"), ..publisher_config(&server) };
    send(&Publisher::open(writer).expect("a publisher"), 0..100);
    assert_eq!(read(&source, 100).len(), 100);
    assert_eq!(source.meters().lost, 0);
}

#[test]
fn what_may_not_be_published_has_failed_and_nothing_else() {
    let settings = "authorization: {users: [
        {user: some, password: p, permissions: {publish: [\"ticks\", \"_INBOX.>\"], subscribe: \"_INBOX.>\"}},
        {user: mute, password: p, permissions: {publish: [\"ticks\"], subscribe: \"_INBOX.>\"}}]}";
    let Some(server) = Server::start_with(settings) else { return };
    for user in ["some", "mute"] {
        let servers =
            Servers { urls: vec![format!("nats://{user}:p@127.0.0.1:{}", server.port)], ..Servers::default() };
        let publisher = Publisher::open(PublisherConfig { servers, ..publisher_config(&server) }).expect("a publisher");
        let mut messages = outgoing(0..10, true);
        for number in [3, 7] {
            messages[number].subject = Some(Arc::from("secret"));
        }
        assert_eq!(offer(&publisher, messages, PATIENCE), Ok(10));
        assert_eq!(publisher.flush(PATIENCE), Ok(true));
        let published = publisher.published();
        assert_eq!((published.confirmed, published.failed), (8, 2), "{user}: {published:?}");
        let said = published.last_failure.unwrap_or_default();
        assert!(said.contains("Permissions Violation for Publish to \"secret\""), "{user}: {said}");
        // More than the library tells of at a time.
        let mut many = outgoing(0..5_000, true);
        many.iter_mut().for_each(|message| message.subject = Some(Arc::from("secret")));
        assert_eq!(offer(&publisher, many, PATIENCE), Ok(5_000));
        assert_eq!(publisher.flush(PATIENCE), Ok(true));
        assert_eq!((publisher.published().failed, publisher.published().unconfirmed), (5_002, 0), "{user}");
        assert_eq!(offer(&publisher, outgoing(0..10, true), PATIENCE), Ok(10));
        assert_eq!(publisher.flush(PATIENCE), Ok(true));
        assert_eq!(publisher.published().confirmed, 18, "{user}");
    }
}

fn publisher_config(server: &Server) -> PublisherConfig {
    PublisherConfig {
        servers: server.servers(),
        subject: "ticks".to_owned(),
        jetstream: false,
        stream: None,
        create: None,
        format: None,
        window: 5_000,
    }
}
