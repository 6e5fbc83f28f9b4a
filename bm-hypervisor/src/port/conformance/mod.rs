//! What every port has to do, checked with a live IO-Bond: whether registers are reached in order, memory is
//! reached where it was mapped and granted and nowhere else, and the wake-up interrupt comes when it was
//! asked for.
//!
//! The suite needs no driver on the board. It takes the IO-Bond for itself and leaves it reset:
//! `bm-hypervisor selftest` runs it on hardware that has just been plugged in.

mod bench;
mod checks;

use super::{Port, PortError};

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The port does not do as it is told.
    #[error(transparent)]
    Port(#[from] PortError),
    /// There is no memory to test with.
    #[error("no memory to test with: {0}")]
    Memory(#[from] std::io::Error),
    /// Something else came out than should have.
    #[error("{what}: {found:#x} instead of {expected:#x}")]
    #[allow(missing_docs, reason = "the fields are those of the message")]
    Differs { what: String, found: u64, expected: u64 },
    /// Something happened that should not, or did not that should.
    #[error("{0}")]
    Behaviour(&'static str),
}

/// One thing that a port has to do.
#[derive(Clone, Copy, Debug)]
pub struct Check<P> {
    /// What it is, as a sentence.
    pub name: &'static str,
    run: fn(&P) -> Result<(), Failure>,
}

impl<P: Port> Check<P> {
    /// Takes the IO-Bond back to power-on and runs this check.
    ///
    /// # Errors
    /// The first [`Failure`].
    pub fn run(&self, port: &P) -> Result<(), Failure> {
        port.reset()?;
        let result = (self.run)(port);
        port.reset()?;
        result
    }
}

/// Every check, in the order in which they build on one another.
#[must_use]
pub fn checks<P: Port>() -> Vec<Check<P>> {
    checks::all()
}
