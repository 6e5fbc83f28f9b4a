//! What can go wrong with a back end. Every message names the socket, and the vhost-user message at which it
//! happened.

use std::{io, path::PathBuf, time::Duration};

use crate::device::Lacks;

/// A problem with the back end at one socket.
#[derive(Debug, thiserror::Error)]
#[error("back end {}: {problem}", socket.display())]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub struct BackEndError {
    pub socket: PathBuf,
    pub problem: Problem,
}

/// What a back end did, or failed to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the messages")]
pub enum Problem {
    /// No process listens at its socket.
    #[error("cannot connect within {within:?}: {source}; is the back end running, and does it listen there?")]
    Connect { within: Duration, source: io::Error },
    /// The socket cannot be listened at.
    #[error("cannot listen there: {0}; is the path free and its directory writable?")]
    Listen(io::Error),
    /// It is to connect, and did not in time.
    #[error("did not connect within {0:?}; is it running, and told to connect there?")]
    DidNotConnect(Duration),
    /// It did not answer in time.
    #[error("no answer to {message} within {within:?}; is it a vhost-user back end?")]
    NoAnswer { message: &'static str, within: Duration },
    /// The connection ended in the middle of an exchange.
    #[error("closed the connection at {message}; its own log should say why")]
    Closed { message: &'static str },
    /// It answered what no back end answers.
    #[error("answered {message} with nonsense ({detail}); is it a vhost-user back end?")]
    Nonsense { message: &'static str, detail: String },
    /// It refused a message.
    #[error("refused {message}; its own log should say why")]
    Refused { message: &'static str },
    /// The connection ended while nothing was asked.
    #[error("died: it closed its connection; restart it, and the board too if it has on_loss = \"reset\"")]
    Died,
    /// It sent a message without being asked.
    #[error("sent a message that was not asked for; is it a vhost-user back end?")]
    Unasked,
    /// It moved a used index further than the ring is long.
    #[error(
        "moved the used index of vring {vring} from {from} to {to}, further than the ring of {size} is long"
    )]
    UsedJump { vring: u16, from: u16, to: u16, size: u16 },
    /// Another one came in its place, and cannot continue its work.
    #[error("came back {what}; start it as it was, and have the driver reset the function")]
    Changed { what: String },
    /// Its used ring says that chains were used which it never had.
    #[error("was lost, and what it left undone in vring {vring} is not known: its used ring is inconsistent")]
    Untold { vring: u16 },
    /// It cannot serve the function.
    #[error("{0}")]
    Lacks(#[from] Lacks),
    /// The system refused something that the connection needs.
    #[error("cannot set up the connection: {0}")]
    System(#[from] io::Error),
}
