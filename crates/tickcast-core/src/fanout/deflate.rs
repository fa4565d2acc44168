//! Compression of whole messages, once for all who get them.
//!
//! A compressed message is binary: the magic `TCz1` (u32), the size of what it holds (u32), and a raw DEFLATE stream of
//! the JSON text or the binary frame. What would not become smaller goes out as it is.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write as _;

/// First four bytes: `TCz1`.
pub const DEFLATE_MAGIC: u32 = u32::from_le_bytes(*b"TCz1");
/// Below this it is not worth the trouble.
const LEAST_BYTES: usize = 256;

/// Returns the message compressed; `None` where that does not pay.
pub fn deflate(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < LEAST_BYTES {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() / 2);
    out.extend_from_slice(&DEFLATE_MAGIC.to_le_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
    let mut encoder = DeflateEncoder::new(out, Compression::fast());
    // Writing to memory does not fail.
    encoder.write_all(body).ok()?;
    let out = encoder.finish().ok()?;
    (out.len() < body.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;
    use std::io::Read as _;

    proptest! {
        #[test]
        fn what_is_compressed_comes_back_and_is_smaller(word in "[a-z]{1,8}", times in 0usize..400) {
            let body = word.repeat(times).into_bytes();
            match deflate(&body) {
                None => prop_assert!(body.len() < LEAST_BYTES),
                Some(out) => {
                    prop_assert!(out.len() < body.len());
                    prop_assert_eq!(&out[..4], b"TCz1");
                    prop_assert_eq!(u32::from_le_bytes([out[4], out[5], out[6], out[7]]) as usize, body.len());
                    let mut back = Vec::new();
                    prop_assert!(DeflateDecoder::new(&out[8..]).read_to_end(&mut back).is_ok());
                    prop_assert_eq!(back, body);
                }
            }
        }
    }
}
