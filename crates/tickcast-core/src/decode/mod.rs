//! Payloads to columns.

/// Why a payload, or an element of it, could not be decoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Bytes that are not of the format.
    #[error("{0}")]
    Malformed(String),
}
