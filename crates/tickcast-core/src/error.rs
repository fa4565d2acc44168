//! The one error enum of the core. A payload that can't be decoded is data ([`crate::Undecodable`]), not an error.

use std::path::PathBuf;

/// Result of a core operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with which value, where.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done, such as `cannot open`.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value that is not allowed.
    #[error("{key} = {value}: {allowed}")]
    Config {
        /// The configuration key.
        key: &'static str,
        /// The value found.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A recorded file whose head is not what it has to be.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what was expected.
        what: String,
    },
    /// A tape file that can't be read or written as a tape.
    #[error("tape {}: {what}", path.display())]
    Tape {
        /// The tape's file.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// A tape's size that has no room for what it is to hold.
    #[error(
        "tape.bytes = {bytes}: {instruments} instruments and {enrichments} enrichments take at least {least}; raise it, or \
         lower tape.max_instruments"
    )]
    Size {
        /// The size found, bytes.
        bytes: u64,
        /// The least that there must be, bytes.
        least: u64,
        /// Room for so many instruments.
        instruments: u32,
        /// Further columns.
        enrichments: usize,
    },
    /// Another process writes this tape.
    #[error("tape {} has a writer already, pid {pid}: stop it, or use another --run-dir", path.display())]
    Busy {
        /// The tape's file.
        path: PathBuf,
        /// The process that holds the lock; 0 if it could not be told.
        pid: u32,
    },
}
