//! A round trip through the server: what was sent before it has been taken in.
//!
//! The library's own flush only says that bytes were written to the socket.

use crate::link::{Connection, chain};
use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use std::time::Duration;
use tokio::time::Instant;

/// How often to look for the server's refusal while the echo is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Sends messages to itself.
pub(crate) struct Echo {
    client: Client,
    inbox: String,
    subscription: Subscriber,
    number: u64,
}

/// How a round trip ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// The server has taken in what was sent before.
    Done,
    /// We may not publish to our own inbox: there are no round trips for this user.
    Denied,
}

impl Echo {
    /// Whether a subject is one of its own.
    pub(crate) fn owns(&self, subject: &str) -> bool {
        subject.starts_with(&self.inbox)
    }

    pub(crate) async fn new(client: &Client) -> Result<Self, String> {
        let inbox = client.new_inbox();
        let subscription = client.subscribe(format!("{inbox}.*")).await.map_err(|error| chain(&error))?;
        Ok(Echo { client: client.clone(), inbox, subscription, number: 0 })
    }

    /// Makes one round trip.
    ///
    /// # Errors
    /// Why the connection is of no use.
    pub(crate) async fn round(&mut self, connection: &mut Connection, timeout: Duration) -> Result<Round, String> {
        self.number += 1;
        let subject = format!("{}.{}", self.inbox, self.number);
        let end = Instant::now() + timeout;
        self.send(&subject, end).await?;
        loop {
            tokio::select! {
                echo = self.subscription.next() => match echo {
                    Some(echo) if echo.subject.as_str() == subject => return Ok(Round::Done),
                    Some(_) => {}
                    None => return Err("connection lost".to_owned()),
                },
                why = connection.gone() => return Err(why),
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    if connection.denies(&subject) {
                        return Ok(Round::Denied);
                    }
                    if connection.may_have_dropped() {
                        self.send(&subject, end).await?;
                    }
                }
                () = tokio::time::sleep_until(end) => return Err("no answer from the server".to_owned()),
            }
        }
    }

    async fn send(&self, subject: &str, end: Instant) -> Result<(), String> {
        match tokio::time::timeout_at(end, self.client.publish(subject.to_owned(), "".into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("the connection takes nothing".to_owned()),
        }
    }
}
