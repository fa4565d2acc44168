//! A real nats-server for the tests, and ticks to send through it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tickcast_nats::{Batch, Outgoing, Publisher, PublisherConfig, Result, Servers};

/// Longest wait for anything in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A nats-server with JetStream on a free loopback port; ended when dropped.
pub struct Server {
    binary: PathBuf,
    data: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts one, or says loudly that there is none.
    pub fn start() -> Option<Server> {
        Self::start_with("")
    }

    /// Starts one with further lines of configuration.
    pub fn start_with(settings: &str) -> Option<Server> {
        let Some(binary) = binary() else {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: no nats-server; put one on PATH or name it in TICKCAST_NATS_SERVER"
            );
            return None;
        };
        let data = tempfile::tempdir().expect("a folder");
        let config = format!("jetstream: {{store_dir: \"{}\"}}\n{settings}\n", data.path().display());
        std::fs::write(data.path().join("server.conf"), config).expect("a configuration");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let mut server = Server { binary, data, port, child: None };
        server.up();
        Some(server)
    }

    /// Starts it again on the same port and data.
    pub fn up(&mut self) {
        let child = Command::new(&self.binary)
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-c"])
            .arg(self.data.path().join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        eventually("nats-server greets", || greets(self.port));
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    pub fn servers(&self) -> Servers {
        Servers { urls: vec![format!("nats://127.0.0.1:{}", self.port)], ..Servers::default() }
    }

    /// A request to the server's JetStream API over a connection of its own; returns the answer.
    pub fn api(&self, what: &str, body: &str) -> serde_json::Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let bytes = runtime.block_on(async {
            let client = async_nats::connect(format!("127.0.0.1:{}", self.port)).await.expect("connects");
            let answer = client.request(format!("$JS.API.{what}"), body.to_owned().into()).await.expect("an answer");
            answer.payload.to_vec()
        });
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// Creates a stream; `more` are further members of its configuration, such as `,"max_msgs":10`.
    pub fn stream(&self, name: &str, subjects: &str, more: &str) {
        let body = format!("{{\"name\":\"{name}\",\"subjects\":[{subjects}],\"storage\":\"file\"{more}}}");
        let answer = self.api(&format!("STREAM.CREATE.{name}"), &body);
        assert!(answer.get("error").is_none(), "{answer}");
    }

    pub fn publisher(&self, subject: &str, jetstream: bool) -> Publisher {
        Publisher::open(PublisherConfig {
            servers: self.servers(),
            subject: subject.to_owned(),
            jetstream,
            stream: None,
            create: None,
            format: None,
            window: 5_000,
        })
        .expect("a publisher")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("TICKCAST_NATS_SERVER").map(PathBuf::from);
    let on_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).map(|dir| dir.join("nats-server")).collect::<Vec<_>>())
        .unwrap_or_default();
    named.into_iter().chain(on_path).find(|path: &PathBuf| Path::is_file(path))
}

fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO")
}

/// Waits until it is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Pulls until `enough` says so of what came: stream offset and volume of each tick.
pub fn pull(
    poll: impl Fn(usize) -> Result<Option<Batch>>,
    wait: impl Fn(Duration) -> bool,
    enough: impl Fn(&[(u64, i64)]) -> bool,
) -> Vec<(u64, i64)> {
    let end = Instant::now() + PATIENCE;
    let mut came = Vec::new();
    while !enough(&came) {
        assert!(Instant::now() < end, "only {} came: {:?}", came.len(), came.last());
        wait(Duration::from_millis(50));
        if let Some(batch) = poll(1_000).expect("readable") {
            assert_eq!(batch.decoded.undecodable, [], "everything is decodable");
            let ticks = &batch.decoded.ticks;
            came.extend(ticks.message.iter().zip(&ticks.volume).map(|(&m, &v)| (batch.origin.offset[m as usize], v)));
        }
    }
    came
}

/// Payload of a tick whose volume is `number`.
pub fn payload(number: i64) -> Vec<u8> {
    format!("{{\"instrumentId\":\"ABC\",\"price\":39.5,\"volume\":{number},\"timestampNs\":1700000000000000000}}")
        .into_bytes()
}

/// Messages with these volumes; with an id each if `ids`.
pub fn outgoing(numbers: std::ops::Range<i64>, ids: bool) -> Vec<Outgoing> {
    numbers
        .map(|n| Outgoing { payload: payload(n), message_id: ids.then(|| format!("m{n}")), ..Outgoing::default() })
        .collect()
}

/// Publishes what is accepted within `timeout`; returns how many were.
pub fn offer(publisher: &Publisher, messages: Vec<Outgoing>, timeout: Duration) -> Result<usize> {
    publisher.publish(&mut messages.into(), timeout)
}

/// Publishes all of it and waits until all of it is confirmed.
pub fn publish(publisher: &Publisher, numbers: std::ops::Range<i64>) {
    let count = (numbers.end - numbers.start) as usize;
    let before = publisher.published().confirmed;
    assert_eq!(offer(publisher, outgoing(numbers, true), PATIENCE), Ok(count));
    assert_eq!(publisher.flush(PATIENCE), Ok(true));
    assert_eq!(publisher.published().confirmed - before, count as u64, "{:?}", publisher.published());
}
