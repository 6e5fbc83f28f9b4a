//! Cuts a stream of bytes into JSON texts, which follow one another without any framing, as SPDK's clients
//! send them; blanks and new lines in between do no harm.

/// Cuts whatever is pushed into it. What it holds is bounded.
#[derive(Debug)]
pub(super) struct Splitter {
    limit: usize,
    buffer: Vec<u8>,
    /// Where in the buffer the text begins that is not complete; what stands before it is done with.
    start: usize,
    /// Bytes of the buffer that were looked at.
    seen: usize,
    state: State,
}

/// What the bytes that were looked at leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing: the next text is still to begin.
    Between,
    /// Brackets that are open, of either kind. Whether they match is for the parser to say.
    Inside { depth: u32 },
    /// A string in a text.
    Text { depth: u32, escaped: bool },
    /// A line that is not JSON, and how much of it was skipped.
    Garbage { skipped: usize },
}

/// Why there is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsplit {
    /// Neither an object nor an array begins here; what follows is skipped, up to the end of the line.
    #[error("expected `{{` or `[`")]
    Garbage,
    /// It is longer than the limit. There is nothing after this.
    #[error("longer than {0} bytes")]
    TooLong(usize),
}

impl Splitter {
    /// Texts of up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), start: 0, seen: 0, state: State::Between }
    }

    /// Takes bytes as they come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.seen -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a text has begun that is not complete.
    pub(super) fn is_waiting(&self) -> bool {
        self.state != State::Between
    }

    /// The next complete text. None until more is pushed.
    pub(super) fn next(&mut self) -> Option<Result<Vec<u8>, Unsplit>> {
        while let Some(byte) = self.buffer.get(self.seen).copied() {
            self.seen += 1;
            let before = self.state;
            self.state = before.after(byte);
            let length = self.seen - self.start;
            match (before, self.state) {
                (State::Between, State::Between) | (State::Garbage { .. }, State::Between) => {
                    self.start = self.seen;
                }
                (State::Between, State::Garbage { .. }) => {
                    self.start = self.seen;
                    return Some(Err(Unsplit::Garbage));
                }
                (_, State::Garbage { skipped }) => {
                    self.start = self.seen;
                    if skipped > self.limit {
                        return Some(Err(Unsplit::TooLong(self.limit)));
                    }
                }
                _ if length > self.limit => return Some(Err(Unsplit::TooLong(self.limit))),
                (_, State::Between) => {
                    let text = self.buffer.get(self.start..self.seen).unwrap_or_default().to_vec();
                    self.start = self.seen;
                    return Some(Ok(text));
                }
                _ => {}
            }
        }
        None
    }
}

impl State {
    fn after(self, byte: u8) -> Self {
        match self {
            Self::Between => match byte {
                b'{' | b'[' => Self::Inside { depth: 1 },
                b' ' | b'\t' | b'\r' | b'\n' => Self::Between,
                _ => Self::Garbage { skipped: 1 },
            },
            Self::Inside { depth } => match byte {
                b'{' | b'[' => Self::Inside { depth: depth.saturating_add(1) },
                b'}' | b']' if depth == 1 => Self::Between,
                b'}' | b']' => Self::Inside { depth: depth - 1 },
                b'"' => Self::Text { depth, escaped: false },
                _ => self,
            },
            Self::Text { depth, escaped: true } => Self::Text { depth, escaped: false },
            Self::Text { depth, escaped: false } => match byte {
                b'"' => Self::Inside { depth },
                b'\\' => Self::Text { depth, escaped: true },
                _ => self,
            },
            Self::Garbage { skipped } => match byte {
                b'\n' => Self::Between,
                _ => Self::Garbage { skipped: skipped.saturating_add(1) },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// All that comes out when `bytes` go in, in pieces.
    fn split(limit: usize, bytes: &[u8], piece: usize) -> Vec<Result<String, Unsplit>> {
        let mut splitter = Splitter::new(limit);
        let mut found = vec![];
        for piece in bytes.chunks(piece.max(1)) {
            splitter.push(piece);
            while let Some(text) = splitter.next() {
                let end = matches!(text, Err(Unsplit::TooLong(_)));
                found.push(text.map(|text| String::from_utf8_lossy(&text).into_owned()));
                if end {
                    return found;
                }
            }
            assert!(splitter.buffer.len() <= limit + piece.len());
        }
        found
    }

    #[test]
    fn texts_end_where_their_brackets_do() {
        let stream = br#" {"a":"}]\"{"}{"b":[{}]}
            [1,"\\"]
            {"c": "#;
        let expected = [r#"{"a":"}]\"{"}"#, r#"{"b":[{}]}"#, r#"[1,"\\"]"#].map(|text| Ok(text.into()));
        for piece in [1, 2, 3, 7, 100] {
            assert_eq!(split(100, stream, piece), expected);
        }
    }

    #[test]
    fn a_line_of_garbage_is_one_error_and_the_next_line_is_read() {
        let found = split(100, b"GET / HTTP/1.1 {}\n{}\n}\n[]", 5);
        assert_eq!(found, [Err(Unsplit::Garbage), Ok("{}".into()), Err(Unsplit::Garbage), Ok("[]".into())]);
    }

    #[test]
    fn what_is_too_long_ends_it() {
        assert_eq!(split(8, b"{\"abcd\":1}{}", 3), [Err(Unsplit::TooLong(8))]);
        assert_eq!(split(8, b"{\"a\":10}{}", 3), [Ok("{\"a\":10}".into()), Ok("{}".into())]);
        assert_eq!(split(8, &[b'x'; 50], 3), [Err(Unsplit::Garbage), Err(Unsplit::TooLong(8))]);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\[\\]{}\"\\\\,: ]{0,12}".prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_stream_of_json_comes_out_as_it_went_in(
            values in prop::collection::vec((value(), any::<bool>(), "[ \t\r\n]{0,3}"), 0..8),
            piece in 1usize..64,
        ) {
            // Objects and arrays alone stand at the top.
            let values: Vec<_> = values
                .into_iter()
                .map(|(value, pretty, blanks)| {
                    let value = if value.is_object() || value.is_array() { value } else { json!([value]) };
                    (value, pretty, blanks)
                })
                .collect();
            let stream: String = values
                .iter()
                .map(|(value, pretty, blanks)| match pretty {
                    true => format!("{value:#}{blanks}"),
                    false => format!("{value}{blanks}"),
                })
                .collect();
            let found: Vec<Value> = split(1 << 20, stream.as_bytes(), piece)
                .into_iter()
                .map(|text| serde_json::from_str(&text.unwrap()).unwrap())
                .collect();
            prop_assert_eq!(found, values.into_iter().map(|(value, ..)| value).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_split_alike_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
            prop_assert_eq!(split(64, &bytes, piece), split(64, &bytes, 1));
        }

        #[test]
        fn brackets_quotes_and_new_lines_are_split_alike_in_any_pieces(text in "[\\[\\]{}\"\\\\\n a]{0,300}", piece in 1usize..50) {
            prop_assert_eq!(split(64, text.as_bytes(), piece), split(64, text.as_bytes(), 1));
        }
    }
}
