//! What a client may not do.

/// A client broke the protocol. Its connection ends with this as the reason; another may follow.
///
/// A request that is well made and cannot be met (an unknown region, memory that is mapped already) is none:
/// it is answered with an errno.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum Violation {
    /// The size in a header is smaller than a header or larger than the largest message.
    #[error(
        "command {command}: a message of {size} bytes (16..={} are possible)",
        crate::protocol::MAX_MESSAGE
    )]
    MessageSize { command: u16, size: u32 },
    /// A message is neither a request nor a reply.
    #[error("flags {flags:#x} are those of neither a request nor a reply")]
    MessageType { flags: u32 },
    /// A message came with more descriptors than any may.
    #[error(
        "{found} file descriptors with one message (at most {} were agreed on)",
        crate::protocol::MAX_FDS
    )]
    TooManyFds { found: usize },
    /// Descriptors were lost on their way: there were too many, or this process has too many open.
    #[error(
        "file descriptors did not arrive: too many came, or this process has too many open (see `ulimit -n`)"
    )]
    FdsLost,
    /// The payload is not the one of this command.
    #[error("command {command}: a payload of {found} bytes, not {expected}")]
    PayloadSize { command: u16, found: usize, expected: usize },
    /// More or fewer descriptors than this command has.
    #[error("command {command}: {found} file descriptors, not {expected}")]
    FdCount { command: u16, found: usize, expected: usize },
    /// The first message was not the version.
    #[error("command {command} before a version was agreed on")]
    NoVersion { command: u16 },
    /// A version was proposed again, or without waiting for the answer.
    #[error("a version cannot be proposed twice, or without waiting for the answer")]
    VersionAgain,
    /// There is no server for this version.
    #[error("the client speaks version {major}.{minor}, this server 0.0 and 0.1")]
    Version { major: u16, minor: u16 },
    /// The capabilities cannot be read.
    #[error("the client's capabilities are not the JSON that is expected: {reason}")]
    Capabilities { reason: String },
    /// A reply to nothing that was asked, or not fit to be the reply.
    #[error("reply {id} to command {command} with {payload} bytes answers nothing that was asked")]
    UnaskedReply { id: u16, command: u16, payload: usize },
}
