//! NATS and JetStream on a tokio thread.
