//! What can go wrong with a back end. Every message names the socket, and the vhost-user message at which it happened.

use std::{io, path::PathBuf, time::Duration};

use crate::device::Lacks;

/// Trouble with the back end at one socket.
#[derive(Debug, thiserror::Error)]
#[error("back end {}: {problem}", socket.display())]
pub struct BackEndError {
    /// The path of its socket.
    pub socket: PathBuf,
    /// What happened.
    pub problem: Problem,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Nobody listens.
    #[error("cannot connect within {within:?}: {source}; is the back end running, and does it listen there?")]
    Connect {
        /// How long was tried.
        within: Duration,
        /// What the system said last.
        source: io::Error,
    },
    /// The socket cannot be listened at.
    #[error("cannot listen there: {0}; is the path free and its directory writable?")]
    Listen(io::Error),
    /// Nobody connected.
    #[error("did not connect within {0:?}; is it running, and told to connect there?")]
    DidNotConnect(Duration),
    /// No answer.
    #[error("no answer to {message} within {within:?}; is it a vhost-user back end?")]
    NoAnswer {
        /// The message.
        message: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// The connection ended in the middle of an exchange.
    #[error("closed the connection at {message}; its own log should say why")]
    Closed {
        /// The message.
        message: &'static str,
    },
    /// An answer that is none.
    #[error("answered {message} with nonsense ({detail}); is it a vhost-user back end?")]
    Nonsense {
        /// The message.
        message: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The back end says no.
    #[error("refused {message}; its own log should say why")]
    Refused {
        /// The message.
        message: &'static str,
    },
    /// The connection ended while nothing was asked.
    #[error("died: it closed its connection; restart it, and the board too if it has on_loss = \"reset\"")]
    Died,
    /// The back end spoke unasked.
    #[error("sent something that nobody asked for; is it a vhost-user back end?")]
    Unasked,
    /// It moved a used index further than the ring is long.
    #[error(
        "moved the used index of vring {vring} from {from} to {to}, further than the ring of {size} is long"
    )]
    UsedJump {
        /// The vring.
        vring: u16,
        /// The last index that was good.
        from: u16,
        /// Where it went.
        to: u16,
        /// Size of the shadow vring.
        size: u16,
    },
    /// Another one came in its place, and cannot go on with its work.
    #[error("came back {what}; start it as it was, and have the driver reset the function")]
    Changed {
        /// What is different.
        what: String,
    },
    /// Its used ring says that chains were used which it never had.
    #[error(
        "was lost, and nobody can tell what it left undone in vring {vring}: its used ring is inconsistent"
    )]
    Untold {
        /// The vring.
        vring: u16,
    },
    /// It cannot serve the function.
    #[error("{0}")]
    Lacks(#[from] Lacks),
    /// The system refused something that the connection needs.
    #[error("cannot set up the connection: {0}")]
    System(#[from] io::Error),
}
