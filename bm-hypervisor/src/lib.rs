//! One bm-hypervisor per compute board: polls the board's IO-Bond, answers for its virtio functions, and
//! hands its shadow vrings to vhost-user back ends. It virtualises no CPU and no memory.
//!
//! # Embedding
//!
//! ```no_run
//! # fn demo<P: bm_hypervisor::port::Port + 'static>(
//! #     port: std::sync::Arc<P>,
//! #     done: impl Fn() -> bool,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use bm_hypervisor::config::{BackEndConfig, BlkConfig, BoardConfig, FunctionConfig};
//!
//! let disk = FunctionConfig::Blk(BlkConfig::new(BackEndConfig::new("/run/disk.sock")));
//! let board = BoardConfig::new("board0", vec![disk]);        // or BoardConfig::from_toml(text)
//! let (mut poller, control) = bm_hypervisor::start(board, port)?;   // back ends must be up: bounded wait
//! while !done() {
//!     poller.pass();                                          // on any one thread, as often as it likes
//! }
//! if let Some(failure) = control.failure() {                  // now and then, from any thread
//!     eprintln!("{failure}");
//! }
//! drop(poller);                                               // or keep passing on another thread
//! let statistics = control.stop()?;
//! # let _ = statistics; Ok(())
//! # }
//! ```
//!
//! [`start`] connects the back ends, makes the base memory, programs the IO-Bond behind the
//! [`Port`](port::Port), and gives the board power. From then on two threads work for the board:
//!
//! * the **poll thread** is the embedder's. It calls [`Poller::pass`]: a bounded pass that reads the status
//!   page (or registers), kicks back ends that ask for it, and posts TAIL writes. It never sleeps, never
//!   allocates, and makes no system call but a kick. Forwarded accesses are noticed here, so a board that is
//!   not polled waits for its configuration reads until the mailbox deadline. One thread may poll many
//!   boards, and do other work in between. It need not pass all the time: after [`Poller::arm`] it may sleep
//!   until the [`PollWaker`] or the IO-Bond wakes it.
//! * the **control thread** is started by [`start`] and ended by [`Control::stop`]. It answers forwarded
//!   accesses ([`virtio_pci`]), talks vhost-user ([`vhost_user`]), and starts and stops queues. It sleeps
//!   when there is nothing to do.
//!
//! [`Control::handle`] is for commands from other threads: power, reset, functions that are added and
//! removed, the size of a disk, the link of a network. [`api::Server`] serves them to other processes, such
//! as `bmctl`, and tells Prometheus what was counted.
//!
//! A driver's mistake stops its queue and asks the driver for a reset. A back end that dies is waited for
//! while its queues stand still, and resumes what was outstanding when it is there again
//! ([`config::OnLoss`]). One that talks nonsense, or comes back as another, stops its function and is
//! reported by [`Control::failure`]; no thread waits for it without a bound.
//!
//! A hypervisor that may be ended at any moment starts with [`start_kept`]: it resumes the board from what a
//! [`keep::Keeper`] kept of a previous process, and the board notices a pause.
//!
//! [`port::vfio`] is a port to an IO-Bond in this machine, [`port::vfio_user`] to one that another process
//! serves, [`placement`] puts threads on cores, and [`check`] says beforehand whether the machine can serve a
//! board.
//!
//! Measurements hook into the pass with an [`Observer`]: `poller.observed_by(observer)`.
//!
//! # Left out
//!
//! VGA, packed rings, live migration.

pub mod api;
pub mod check;
pub mod config;
mod control;
pub mod device;
mod error;
mod event;
pub mod journal;
pub mod keep;
mod lifecycle;
pub mod logging;
pub mod machine;
pub mod placement;
mod poll;
pub mod pool;
pub mod port;
pub mod probe;
pub mod register_writes;
pub mod vhost_user;
pub mod virtio_pci;

pub use self::{
    control::{
        Control, Resized,
        commands::CommandError,
        description::{Description, DeviceLimits, FreePlace, FunctionDescription, Rings},
        handle::Handle,
        start, start_kept,
        statistics::{
            BackEndState, FunctionStatistics, MailboxStatistics, QueueCounters, QueueState, QueueStatistics,
            Statistics,
        },
    },
    error::Error,
    lifecycle::BoardState,
    poll::{
        BareEvent, BareEvents, BareQueue, Observer, PollWaker, Poller, Progress, channel::PollStatistics,
    },
};
