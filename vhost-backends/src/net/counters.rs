//! What became of the frames of a port.

use std::fmt;

/// Counters of one connection to a port. Every frame that a board sends ends in exactly one of the first
/// group; every copy that is meant for a board in exactly one of the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// From the board, and sent on.
    pub(crate) forwarded: u64,
    /// From the board, for a station at the same port, or of a kind that no bridge forwards.
    pub(crate) filtered: u64,
    /// From the board: not a chain, a bad length, a bad header, a group address as source.
    pub(crate) malformed: u64,
    /// To the board, and in its buffers.
    pub(crate) delivered: u64,
    /// To the board, but it had no buffers and the backlog was full, or its ring was stopped.
    pub(crate) no_buffers: u64,
    /// To the board, but longer than its buffers.
    pub(crate) too_long: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { forwarded, filtered, malformed, delivered, no_buffers, too_long } = self;
        write!(
            out,
            "{forwarded} frames forwarded, {filtered} filtered, {malformed} malformed; \
             {delivered} delivered, dropped {no_buffers} without buffers and {too_long} too long"
        )
    }
}
