//! What can end a board, or keep it from starting.

use std::io;

use iobond_spec::address::FunctionId;

use crate::{config::ConfigError, port::PortError, vhost_user::BackEndError};

/// What can end a board, or keep it from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A back end cannot be used, or not any longer.
    #[error(transparent)]
    BackEnd(#[from] BackEndError),
    /// The pool cannot be reached by the device.
    #[error(transparent)]
    Port(#[from] PortError),
    /// There is no base memory for the pool.
    #[error(
        "no {bytes} bytes of {kind} for rings and slots: {source}; make ring.slots smaller, or reserve more"
    )]
    #[allow(missing_docs, reason = "the fields are those of the message")]
    Memory { bytes: u64, kind: &'static str, source: io::Error },
    /// The system refused a thread or an event.
    #[error("cannot start the control thread: {0}")]
    System(#[from] io::Error),
    /// The registers read all ones.
    #[error(
        "the IO-Bond is gone: its registers read all ones; does it still have power, and is its link up?"
    )]
    DeviceGone,
    /// The registers are not those of an IO-Bond.
    #[error("no IO-Bond: ident.magic reads {0:#010x} instead of 0x494f4244; is this the right device?")]
    NotAnIoBond(u32),
    /// The register map has changed.
    #[error(
        "the IO-Bond has version {found} of the register map, this program knows {known}; update the older one"
    )]
    Version {
        /// `ident.version.major` as it reads.
        found: u16,
        /// What this program was built for.
        known: u16,
    },
    /// The device lacks something that nothing works without.
    #[error("the IO-Bond has no {0}, which this board needs; is its bitstream the right one?")]
    Missing(&'static str),
    /// The device is too small for the board.
    #[error("the board needs {wanted} {what}, its IO-Bond has {there}")]
    TooFew {
        /// Contexts, windows and the like, in the plural.
        what: &'static str,
        /// How many the configuration asks for.
        wanted: usize,
        /// How many there are.
        there: usize,
    },
    /// IO-Bond refused a queue.
    #[error("{function}, queue {queue}: IO-Bond refused the context ({reason})")]
    Queue {
        /// The function to which the queue belongs.
        function: FunctionId,
        /// Index of the queue in the function.
        queue: u16,
        /// What `queues[n].state.error` reads.
        reason: String,
    },
    /// A queue was to be taken back, and the poll thread did not give it.
    #[error(
        "{function}, queue {queue}: the poll thread does not answer; call Poller::pass until Control::stop returned, or drop the Poller first"
    )]
    PollerStuck {
        /// The function to which the queue belongs.
        function: FunctionId,
        /// Index of the queue in the function.
        queue: u16,
    },
    /// The control thread panicked.
    #[error(
        "the control thread panicked; this is a defect in bm-hypervisor, its message is on standard error"
    )]
    Panicked,
}
