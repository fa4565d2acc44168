//! What can't be mended by trying again. Everything else is a state ([`crate::Health`]), not an error.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong, where, and what to do.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value that is not allowed.
    #[error("{key} = {value}: {allowed}")]
    Config {
        /// The option's name.
        key: &'static str,
        /// The value found.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The server's answer rules out that it would work at another attempt.
    #[error("{url}: {what}; {remedy}")]
    Refused {
        /// What was to be opened, without secrets.
        url: String,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The operating system gave no thread or pipe.
    #[error("{url}: cannot start: {what}")]
    System {
        /// What was to be opened, without secrets.
        url: String,
        /// What the system said.
        what: String,
    },
    /// It was closed.
    #[error("{url} is closed")]
    Closed {
        /// What was closed, without secrets.
        url: String,
    },
}
