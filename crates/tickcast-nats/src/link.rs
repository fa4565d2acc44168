//! Where the servers are, and one connection to one of them.

use crate::status::lock;
use crate::{Error, Result};
use async_nats::connection::State as Wire;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest wait for a connection, its handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between pings; a server that leaves two unanswered is taken for dead.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// How often the connection is looked at besides its events.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Longest wait for the answer to a request; a request that is under way while a server restarts gets none.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// The library's own pause before it connects again: never, connecting again is ours (`crate::thread`).
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What the server says when a subject may not be read; it is the end of that session.
pub(crate) const SUBSCRIPTION_DENIED: &str = "Permissions Violation for Subscription";
/// What the server says when a subject may not be published to; the subject stands behind it in quotes.
const PUBLISH_DENIED: &str = "Permissions Violation for Publish to ";
/// So many denials are kept. The library keeps 128 events until it is our turn, and drops the others.
const MOST_DENIALS: usize = 100;

/// NATS servers, and how to be let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers {
    /// `nats://[user[:password]@]host[:port]` or `tls://…`, one or more, also several behind a comma. A user without a
    /// password is a token.
    pub urls: Vec<String>,
    /// File with a JWT and an NKey seed (`.creds`).
    pub credentials: Option<PathBuf>,
    /// File with the root certificates to trust (PEM), instead of the system's.
    pub root_certificates: Option<PathBuf>,
    /// Name of this client as the server shows it; empty: `tickcast`.
    pub name: String,
}

/// Checked addresses, and which of them to try next.
pub(crate) struct Link {
    servers: Servers,
    addresses: Vec<ServerAddr>,
    next: usize,
    subscription_capacity: usize,
}

/// Why there is no connection.
pub(crate) enum NoConnection {
    /// Worth trying again.
    Yet(String),
    /// The server does not let us in.
    Denied(String),
}

/// A live connection. Dropped with the runtime that it was made in.
pub(crate) struct Connection {
    pub(crate) client: Client,
    gone: mpsc::UnboundedReceiver<String>,
    said: Arc<Mutex<Said>>,
}

impl Link {
    /// Checks the addresses.
    ///
    /// # Errors
    /// [`Error::Config`] for an address that is none, or if there is none.
    pub(crate) fn new(servers: Servers, subscription_capacity: usize) -> Result<Self> {
        const ALLOWED: &str = "one or more of nats://[user[:password]@]host[:port] or tls://…";
        let wrong = |value: &str| Error::Config { key: "servers", value: mask(value), allowed: ALLOWED };
        let mut addresses = Vec::new();
        for url in servers.urls.iter().flat_map(|urls| urls.split(',')).map(str::trim).filter(|url| !url.is_empty()) {
            let address: ServerAddr = url.parse().map_err(|_| wrong(url))?;
            if address.host().is_empty() || !matches!(address.scheme(), "nats" | "tls") {
                return Err(wrong(url));
            }
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(wrong(""));
        }
        Ok(Link { servers, addresses, next: 0, subscription_capacity })
    }

    /// Returns the addresses for people: `host:port,…`.
    pub(crate) fn shown(&self) -> String {
        let hosts: Vec<String> = self.addresses.iter().map(|a| format!("{}:{}", a.host(), a.port())).collect();
        hosts.join(",")
    }

    /// Connects to the next server of the list.
    pub(crate) async fn connect(&mut self) -> std::result::Result<Connection, NoConnection> {
        let address = self.addresses[self.next % self.addresses.len()].clone();
        self.next += 1;
        let shown = format!("{}:{}", address.host(), address.port());
        let (tell, gone) = mpsc::unbounded_channel();
        let connected = Arc::new(AtomicBool::new(false));
        let said: Arc<Mutex<Said>> = Arc::default();
        let events = Events { tell, said: Arc::clone(&said) };
        let options = self.options(&address, events, Arc::clone(&connected)).await?;
        match options.connect(address).await {
            Ok(client) => {
                connected.store(true, Ordering::Relaxed);
                self.next -= 1; // the one that worked comes first next time
                Ok(Connection { client, gone, said })
            }
            Err(error) => {
                let why = format!("cannot connect to {shown}: {}", chain(&error));
                Err(match error.kind() {
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                        NoConnection::Denied(why)
                    }
                    _ => NoConnection::Yet(why),
                })
            }
        }
    }

    async fn options(
        &self,
        address: &ServerAddr,
        events: Events,
        connected: Arc<AtomicBool>,
    ) -> std::result::Result<ConnectOptions, NoConnection> {
        let name = if self.servers.name.is_empty() { "tickcast" } else { &self.servers.name };
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(self.subscription_capacity)
            .ignore_discovered_servers()
            .reconnect_delay_callback(move |_| if connected.load(Ordering::Relaxed) { NEVER } else { Duration::ZERO })
            .event_callback(move |event| {
                events.take(event);
                std::future::ready(())
            });
        options = match (address.username(), address.password()) {
            (Some(user), Some(password)) => options.user_and_password(decoded(user), decoded(password)),
            (Some(token), None) => options.token(decoded(token)),
            _ => options,
        };
        if let Some(file) = &self.servers.credentials {
            options = options.credentials_file(file).await.map_err(|error| {
                NoConnection::Denied(format!("cannot use the credentials in {}: {error}", file.display()))
            })?;
        }
        if let Some(file) = &self.servers.root_certificates {
            options = options.add_root_certificates(file.clone());
        }
        Ok(options)
    }
}

/// What the library tells of a connection.
struct Events {
    tell: mpsc::UnboundedSender<String>,
    said: Arc<Mutex<Said>>,
}

/// The server's complaints.
#[derive(Default)]
struct Said {
    last: Option<String>,
    denials: Denials,
}

/// What may not be published, as the server says it: subject and words, as often as it says it.
#[derive(Debug, Default)]
pub(crate) struct Denials(Vec<(String, String)>);

impl Denials {
    fn take_in(&mut self, said: &str) {
        let subject = said.split_once(PUBLISH_DENIED).map(|(_, quoted)| quoted.trim_matches('"').to_owned());
        let Some(subject) = subject else { return };
        if self.is_full() {
            self.0.pop(); // the last one is always there: it may be the answer to a round trip
        }
        self.0.push((subject, said.to_owned()));
    }

    /// There may have been more.
    fn is_full(&self) -> bool {
        self.0.len() == MOST_DENIALS
    }

    /// The server's words about a subject.
    pub(crate) fn of(&self, subject: &str) -> Option<&str> {
        self.0.iter().find(|(denied, _)| denied == subject).map(|(_, said)| said.as_str())
    }

    /// The server's words where they don't tell which messages it has not taken: about a subject that is none of
    /// theirs, or there may have been more words than are kept.
    pub(crate) fn unclear(&self, is_theirs: impl Fn(&str) -> bool) -> Option<&str> {
        self.0.iter().find(|(denied, _)| self.is_full() || !is_theirs(denied)).map(|(_, said)| said.as_str())
    }
}

impl Events {
    fn take(&self, event: Event) {
        let end = match event {
            Event::Disconnected | Event::Closed => "connection lost".to_owned(),
            Event::LameDuckMode => "the server is shutting down".to_owned(),
            Event::ServerError(error) => {
                // Most of these are about one request and leave the connection up.
                let said = error.to_string();
                let mut kept = lock(&self.said);
                kept.denials.take_in(&said);
                kept.last = Some(said.clone());
                drop(kept);
                if !said.contains(SUBSCRIPTION_DENIED) {
                    return;
                }
                format!("the server says: {said}")
            }
            _ => return,
        };
        // Nobody listens any more when the session has ended.
        let _ = self.tell.send(end);
    }
}

impl Connection {
    /// Waits until the connection is gone and returns why. May be dropped and called again.
    pub(crate) async fn gone(&mut self) -> String {
        loop {
            tokio::select! {
                why = self.gone.recv() => {
                    let why = why.unwrap_or_else(|| "connection lost".to_owned());
                    return match self.said().filter(|said| !why.contains(said.as_str())) {
                        Some(said) => format!("{why}; the server says: {said}"),
                        None => why,
                    };
                }
                // Events can be crowded out by others; the state can't.
                () = tokio::time::sleep(LOOK_INTERVAL) => if !self.is_up() {
                    return "connection lost".to_owned();
                },
            }
        }
    }

    /// The server's last complaint on this connection.
    pub(crate) fn said(&self) -> Option<String> {
        lock(&self.said).last.clone()
    }

    /// Whether the server says that a subject may not be published to.
    pub(crate) fn denies(&self, subject: &str) -> bool {
        lock(&self.said).denials.of(subject).is_some()
    }

    /// Whether there were so many denials that the library may have dropped the one that is waited for.
    pub(crate) fn may_have_dropped(&self) -> bool {
        lock(&self.said).denials.is_full()
    }

    /// What the server has said about subjects that may not be published to, each answer once.
    ///
    /// All that came in before now is among it.
    pub(crate) async fn take_denials(&self) -> Denials {
        // The library's task for events has been woken, and has its turn before we go on.
        tokio::task::yield_now().await;
        std::mem::take(&mut lock(&self.said).denials)
    }

    fn is_up(&self) -> bool {
        self.client.connection_state() != Wire::Disconnected
    }
}

/// Pause before attempt `attempt` (from 0): doubling from 20 ms to 1 s, of which a random half to all.
pub(crate) fn pause(attempt: u32) -> Duration {
    let whole = Duration::from_millis(20).saturating_mul(1 << attempt.min(10)).min(MAX_PAUSE);
    whole.mul_f64(0.5 + 0.5 * (random() >> 11) as f64 / (1u64 << 53) as f64)
}

/// Returns random bits from the operating system's seed of hash maps.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Returns an error with its causes, each named once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Replaces what stands before `@` in an address.
fn mask(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((front, host)) => {
            let scheme = front.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}***@{host}")
        }
        None => url.to_owned(),
    }
}

/// Undoes percent-encoding in a user or password.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(urls: &[&str]) -> Result<Link> {
        Link::new(Servers { urls: urls.iter().map(|&u| u.to_owned()).collect(), ..Servers::default() }, 10)
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        let link = link(&["nats://me:secret@a:1,tls://b", "nats://token@c:3"]).map(|l| l.shown());
        assert_eq!(link, Ok("a:1,b:4222,c:3".to_owned()));
    }

    #[test]
    fn wrong_addresses_are_refused_without_their_secrets() {
        for bad in [&["http://me:secret@a"][..], &[], &[" , "], &["nats://me:secret@a:port"]] {
            let text = link(bad).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(text.starts_with("servers = ") && !text.contains("secret"), "{bad:?}: {text}");
        }
    }

    #[test]
    fn pauses_grow_to_their_limit_and_vary() {
        for attempt in 0..40 {
            let whole = (20u64 << attempt.min(10)).min(1000);
            let pause = pause(attempt).as_millis() as u64;
            assert!((whole / 2..=whole).contains(&pause), "{attempt}: {pause}");
        }
        assert_ne!(pause(30), pause(30));
    }

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(decoded("p%40ss%2fw%zz%"), "p@ss/w%zz%");
    }
}
