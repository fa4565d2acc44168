//! Subjects with wildcards: `*` stands for one token, `>` for one or more at the end.
//!
//! Source: NATS documentation, "Subject-Based Messaging".

/// Whether every subject that `inner` stands for is one that `outer` stands for.
pub(crate) fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Whether a subject can be published to, and is one of those that a pattern with wildcards stands for.
pub fn subject_covers(pattern: &str, subject: &str) -> bool {
    is_literal(subject) && covers(pattern, subject)
}

/// Whether some subject is one that both stand for.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(x), Some(y)) if x == y => {}
            _ => return false,
        }
    }
}

/// Whether it can be subscribed to: tokens are not empty and hold no white space, `>` stands last.
pub(crate) fn is_valid(subject: &str) -> bool {
    let tokens: Vec<&str> = subject.split('.').collect();
    tokens.iter().enumerate().all(|(i, token)| {
        !token.is_empty()
            && !token.contains(|c: char| c.is_whitespace() || c.is_control())
            && (*token != ">" || i + 1 == tokens.len())
    })
}

/// Whether it can be published to: valid, and without wildcards.
pub(crate) fn is_literal(subject: &str) -> bool {
    is_valid(subject) && subject.split('.').all(|token| token != "*" && token != ">")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_cover_and_overlap_as_documented() {
        for (outer, inner, covered, overlapping) in [
            ("ticks.>", "ticks.a.b", true, true),
            ("ticks.>", "ticks", false, false),
            ("ticks.*", "ticks.>", false, true),
            ("ticks.*.x", "ticks.a.*", false, true),
            (">", "ticks.*", true, true),
            ("ticks.a", "ticks.b", false, false),
            ("a.*", "a.b.c", false, false),
        ] {
            assert_eq!(covers(outer, inner), covered, "{outer} covers {inner}");
            assert_eq!(overlap(outer, inner), overlapping, "{outer} overlaps {inner}");
        }
    }

    #[test]
    fn subjects_with_empty_tokens_or_spaces_are_refused() {
        assert!(is_valid("ticks.*.>") && is_literal("ticks.eq.ABC"));
        for bad in ["", "a..b", "a b", ">.a", ".a", "a."] {
            assert!(!is_valid(bad), "{bad:?}");
        }
        assert!(!is_literal("ticks.*"));
    }

    proptest! {
        /// A literal subject is the same question for both, and covering implies overlapping.
        #[test]
        fn covering_is_overlapping(pattern in "[ab*](\\.[ab*]){0,3}(\\.>)?", literal in "[ab](\\.[ab]){0,4}") {
            prop_assert_eq!(covers(&pattern, &literal), overlap(&pattern, &literal));
        }
    }
}
