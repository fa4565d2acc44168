//! [`Windows`] against the definition, with chunks of their real size: late ticks, ties, wrong clocks, lagging verdicts.

use proptest::prelude::*;
use tickcast_core::window::{Ticket, WindowConfig, Windows};

#[path = "window_reference/mod.rs"]
mod reference;

use reference::{play, steps};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_value_is_the_correctly_rounded_definition(
        steps in steps(2_000, 3, 1_500),
        hold_ns in 1_500i64..4_000,
    ) {
        play(WindowConfig { window_ns: 1_500, hold_ns, max_bytes: None }, &steps)?;
    }
}
