//! What is done with a server and its boards: a file to a disk and back, the same file from board to board,
//! and measurements.
//!
//! [`demonstration`] is the flow that `bmhive demo` and `bmhive run` carry out; [`disk`] and [`link`] are its
//! parts, generic over the driver's transport so that a bench can run them with and without an IO-Bond.

mod counters;
pub mod demonstration;
pub mod disk;
mod faults;
pub mod file;
pub mod link;
pub mod simulated;

use std::time::{Duration, Instant};

use bmhive_server::LiveError;
use results::ScenarioRecord;
use scenario::{Extent, Scenario, ScenarioError};
use software_board::{
    blk::BlkError, memory::MemoryError, net::NetError, pci::PciError, tcp::TcpError,
    transport::TransportError,
};

/// Work that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum WorkloadError {
    /// The world broke; most other errors follow from such a failure.
    #[error(transparent)]
    World(#[from] LiveError),
    /// A board's functions could not be found.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// A function could not be driven.
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Blk(#[from] BlkError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// Nothing came back in time.
    #[error("{what}: nothing happened for {waited:?}")]
    Stuck { what: &'static str, waited: Duration },
    /// The file does not fit on the disk.
    #[error(
        "a file of {bytes} bytes does not fit on {device}, which has {capacity}; give the disk a larger size_mib, or name a smaller --file"
    )]
    TooLarge { device: String, bytes: u64, capacity: u64 },
    /// A file of the host's could not be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File { path: std::path::PathBuf, source: std::io::Error },
    /// A process's share of the processors could not be read.
    #[error("cannot read processor times: {0}")]
    Meter(std::io::Error),
    /// The run was to end early.
    #[error("interrupted")]
    Interrupted,
    /// Something that a bench is made of failed.
    #[error("{what}: {source}")]
    Bench { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// A bench did another number of things than it measures, so its figure would be wrong.
    #[error("{found} {what} instead of {expected}")]
    Count { what: &'static str, found: usize, expected: usize },
    /// A guest did not come up, or did not do what it was asked.
    #[error("guest of {board}: {source}")]
    Guest { board: String, source: std::io::Error },
    /// A scenario that is built in is refused.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The scenario has not what the workload needs.
    #[error("the workload needs {0}")]
    Needs(&'static str),
}

impl WorkloadError {
    /// An error of something that a bench is made of.
    pub(crate) fn bench<E: std::error::Error + Send + Sync + 'static>(
        what: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Bench { what, source: source.into() }
    }
}

/// How long nothing may happen before work counts as stuck.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Looks between two questions whether the world still stands.
const LOOKS: u32 = 1024;

/// Bounds a wait: notices when nothing has happened for too long, and asks now and then whether the world
/// still stands.
pub struct Watch<'a> {
    what: &'static str,
    healthy: &'a dyn Fn() -> Result<(), WorkloadError>,
    looks: u32,
    idle_since: Option<Instant>,
}

impl<'a> Watch<'a> {
    /// Watches over `what`; `healthy` says whether the world still stands.
    pub fn new(what: &'static str, healthy: &'a dyn Fn() -> Result<(), WorkloadError>) -> Self {
        Self { what, healthy, looks: 0, idle_since: None }
    }

    /// Something happened, or nothing did. A part of the world that this work does not need may break, too:
    /// so the question is asked while all goes well as well.
    ///
    /// # Errors
    /// What `healthy` says, or [`WorkloadError::Stuck`].
    pub fn look(&mut self, happened: bool) -> Result<(), WorkloadError> {
        self.looks = self.looks.wrapping_add(1);
        let closely = self.looks.is_multiple_of(LOOKS);
        if closely {
            (self.healthy)()?;
        }
        if happened {
            self.idle_since = None;
            return Ok(());
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        if closely && since.elapsed() > TIMEOUT {
            return Err(WorkloadError::Stuck { what: self.what, waited: since.elapsed() });
        }
        Ok(())
    }
}

/// What a result says of `scenario`.
pub(crate) fn record(scenario: &Scenario) -> ScenarioRecord {
    ScenarioRecord::new(&scenario.name, &scenario.file, &scenario.text)
}

/// Whether a measurement of `extent` is over after `done` requests and `elapsed`.
pub(crate) fn is_over(extent: Extent, done: u64, elapsed: Duration) -> bool {
    match extent {
        Extent::Count(count) => done >= count,
        Extent::Time(time) => elapsed >= time,
    }
}
