//! The windows with tiny chunks and blocks, so that short runs split, drop and skip them all.

use super::reference::{play, steps};
use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_value_is_the_correctly_rounded_definition(
        steps in steps(400, 6, 300),
        hold_ns in 300i64..800,
    ) {
        play(WindowConfig { window_ns: 300, hold_ns, max_bytes: None }, &steps)?;
    }
}
