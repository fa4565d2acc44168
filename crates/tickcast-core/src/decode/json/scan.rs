//! A scanner of JSON text: checks the grammar and hands out values as spans, converting nothing.

use super::super::error::{At, DecodeError};

/// What the scanner gives: errors are boxed, so that all else fits registers.
pub(super) type Scan<T> = Result<T, Box<DecodeError>>;

/// Depth of nested values beyond which a text is refused.
const MAX_DEPTH: u32 = 128;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string without escapes.
    Text,
    /// A string with some.
    EscapedText,
    Number,
    Object,
    Array,
    Boolean,
    Null,
}

/// A value as it stands in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    pub kind: Kind,
    /// All of it, quotes included.
    pub text: &'a str,
    /// Where it begins, in bytes.
    pub at: usize,
}

impl<'a> Value<'a> {
    /// The string between its quotes.
    pub fn inner(&self) -> &'a str {
        &self.text[1..self.text.len() - 1]
    }

    /// The string that the escapes mean; `None` where a surrogate stands alone.
    pub fn unescape(&self) -> Option<String> {
        serde_json::from_str(self.text).ok()
    }
}

/// A place in a text.
pub(super) struct Scanner<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Scanner { text, at: 0 }
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    pub fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Skips whitespace; says whether there was a line feed in it.
    #[inline]
    pub fn space(&mut self) -> bool {
        let mut line_feed = false;
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.peek() {
            line_feed |= byte == b'\n';
            self.at += 1;
        }
        line_feed
    }

    /// The error that something else should have stood here.
    #[cold]
    pub fn expected(&self, expected: &'static str) -> Box<DecodeError> {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("{c:?}"),
            None => "the end".to_owned(),
        };
        Box::new(DecodeError::Syntax { expected, found, at: At::Byte(self.at) })
    }

    /// Reads the value at hand.
    pub fn value(&mut self) -> Scan<Value<'a>> {
        let at = self.at;
        let kind = self.nested_value(0)?;
        Ok(self.value_from(at, kind))
    }

    /// The value that began at `at` and has just been read.
    #[inline]
    fn value_from(&self, at: usize, kind: Kind) -> Value<'a> {
        Value { kind, text: &self.text[at..self.at], at }
    }

    #[inline]
    fn nested_value(&mut self, depth: u32) -> Scan<Kind> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.members(depth, |_, _| {}).map(|()| Kind::Object),
            Some(b'[') => self.array(depth).map(|()| Kind::Array),
            Some(b't') => self.word("true", Kind::Boolean),
            Some(b'f') => self.word("false", Kind::Boolean),
            Some(b'n') => self.word("null", Kind::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn word(&mut self, word: &'static str, kind: Kind) -> Scan<Kind> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(kind);
        }
        Err(self.expected("a value"))
    }

    fn array(&mut self, depth: u32) -> Scan<()> {
        self.deeper(depth)?;
        self.at += 1;
        self.space();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.space();
            self.nested_value(depth + 1)?;
            self.space();
            if self.eat(b']') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.expected(", or ]"));
            }
        }
    }

    /// Reads the object at hand and hands each member to `each`.
    #[inline]
    pub fn members(&mut self, depth: u32, mut each: impl FnMut(&str, Value<'a>)) -> Scan<()> {
        self.deeper(depth)?;
        self.at += 1;
        self.space();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            let at = self.at;
            let kind = self.key()?;
            let key = self.value_from(at, kind);
            self.space();
            if !self.eat(b':') {
                return Err(self.expected(":"));
            }
            self.space();
            let at = self.at;
            let kind = self.nested_value(depth + 1)?;
            let value = self.value_from(at, kind);
            match key.kind {
                Kind::Text => each(key.inner(), value),
                // A key with a lone surrogate is none that is known.
                _ => each(&key.unescape().unwrap_or_default(), value),
            }
            self.space();
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.expected(", or }"));
            }
        }
    }

    #[inline]
    fn key(&mut self) -> Scan<Kind> {
        if self.peek() == Some(b'"') { self.string() } else { Err(self.expected("a key in quotes")) }
    }

    fn deeper(&self, depth: u32) -> Scan<()> {
        if depth < MAX_DEPTH { Ok(()) } else { Err(self.expected("less than 128 values within one another")) }
    }

    #[inline]
    fn string(&mut self) -> Scan<Kind> {
        self.at += 1;
        let mut kind = Kind::Text;
        loop {
            while let Some(eight) = self.text.as_bytes().get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
                let special = special_bytes(u64::from_le_bytes(*eight));
                self.at += special.trailing_zeros() as usize / 8;
                if special != 0 {
                    break;
                }
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(kind);
                }
                Some(b'\\') => {
                    kind = Kind::EscapedText;
                    self.escape()?;
                }
                Some(byte) if byte >= 0x20 => self.at += 1,
                _ => return Err(self.expected("the end of the string")),
            }
        }
    }

    fn escape(&mut self) -> Scan<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return Err(self.expected("a hexadecimal digit"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.expected("an escape")),
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Scan<Kind> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    #[inline]
    fn digits(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }
}

/// Returns a word whose lowest set bit, if any, is in the first of eight bytes that ends a run of plain characters:
/// a quote, a backslash, a control character. Bits above it mean nothing.
///
/// Source: "Hacker's Delight", zero bytes by carries, which spoil only what lies above a hit.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero_bytes = |x: u64| x.wrapping_sub(ONES) & !x;
    let quotes = zero_bytes(word ^ (ONES * b'"' as u64));
    let backslashes = zero_bytes(word ^ (ONES * b'\\' as u64));
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | backslashes | controls) & (ONES * 0x80)
}
