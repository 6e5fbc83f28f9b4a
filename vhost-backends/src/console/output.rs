//! What the driver printed of late, for terminals that read it at a pace of their own. Pure.

use std::collections::VecDeque;

/// What a terminal that connects is shown of the past, in bytes.
pub(crate) const REPLAY: usize = 64 << 10;

/// How far behind a terminal may be, in bytes: about a second of a driver that prints as fast as it can.
pub(crate) const KEPT: usize = 4 << 20;

/// The last [`KEPT`] bytes of output, one copy for all terminals.
///
/// A position is the number of bytes printed before it since the server started.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: VecDeque<u8>,
    /// Position of the first byte that is kept.
    start: u64,
}

/// What was printed there is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forgotten;

impl Output {
    /// The driver printed `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..excess);
        self.start += excess as u64;
    }

    /// The position behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Where a terminal that connects now begins to read.
    pub(crate) fn replay(&self) -> u64 {
        self.end() - self.bytes.len().min(REPLAY) as u64
    }

    /// What was printed from `position` on, in two pieces.
    pub(crate) fn since(&self, position: u64) -> Result<[&[u8]; 2], Forgotten> {
        let skip = position.checked_sub(self.start).ok_or(Forgotten)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let (first, second) = self.bytes.as_slices();
        let of_second = skip.saturating_sub(first.len());
        Ok([first.get(skip..).unwrap_or_default(), second.get(of_second..).unwrap_or_default()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_replay_is_the_last_of_what_was_printed() {
        let mut output = Output::default();
        assert_eq!(output.since(output.replay()).unwrap().concat(), b"");
        output.push(b"short");
        assert_eq!(output.since(output.replay()).unwrap().concat(), b"short");
        output.push(&[b'x'; REPLAY - 2]);
        let replay = output.since(output.replay()).unwrap().concat();
        assert_eq!((replay.len(), &replay[..3]), (REPLAY, &b"rtx"[..]));
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let mut output = Output::default();
        output.push(&[0; KEPT]);
        assert!(output.since(0).is_ok());
        output.push(&[0]);
        assert_eq!(output.since(0), Err(Forgotten));
        assert_eq!(output.since(1).unwrap().concat().len(), KEPT);
        output.push(&[0; 2 * KEPT]);
        assert_eq!(output.since(1), Err(Forgotten));
        assert_eq!(output.since(output.end() - 1).unwrap().concat().len(), 1);
    }

    proptest! {
        /// Terminals that read as much as they please, when they please, have read the same in the end.
        #[test]
        fn readers_of_any_pace_see_the_same(
            turns in prop::collection::vec((0usize..300_000, 0usize..3, 0usize..400_000), 1..40),
        ) {
            let mut output = Output::default();
            let mut printed = Vec::new();
            let mut readers = [0usize; 3];
            for (len, reader, appetite) in turns {
                let bytes: Vec<u8> = (printed.len()..printed.len() + len).map(|at| (at / 7) as u8).collect();
                printed.extend_from_slice(&bytes);
                output.push(&bytes);
                prop_assert_eq!(output.end(), printed.len() as u64);
                let at = &mut readers[reader];
                match output.since(*at as u64) {
                    Ok(pieces) => {
                        let seen = pieces.concat();
                        prop_assert!(seen == printed[*at..]);
                        *at += seen.len().min(appetite);
                    }
                    Err(Forgotten) => {
                        prop_assert!(printed.len() - *at > KEPT);
                        *at = printed.len();
                    }
                }
            }
        }
    }
}
