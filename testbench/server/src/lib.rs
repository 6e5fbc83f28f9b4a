//! Base servers with their boards: back ends in processes of their own, an IO-Bond and a bm-hypervisor for
//! each board.
//!
//! * a [`BaseServer`] is [`Live`] with boards that are software of this process, or [`Served`] with machines
//!   of their own, which see their functions over vfio-user; [`emulate`] starts a scenario's IO-Bonds alone,
//!   whose base is elsewhere, too;
//! * [`guest`] is Linux on a board, [`instance`] a base with guests that stays up, [`terminal`] a user's way
//!   to them.
//!
//! Left out: what boards do with their functions, IO-Bond (crate `iobond-model`), its base side
//! (`bm-hypervisor`), and the devices' back ends (`vhost-backends`).

mod back_end;
mod back_ends;
mod base_core;
mod base_server;
mod bus;
mod emulated;
mod error;
pub mod guest;
mod hypervisor;
pub mod instance;
mod live;
mod places;
mod served;
mod stamps;
pub mod terminal;

pub use back_end::{BackEndError, BackEndProcess, end_with_parent};
pub use back_ends::BackEndCommand;
pub use base_server::{BaseBoard, BaseServer, Detach};
pub use bus::LiveBus;
pub use emulated::emulate;
pub use error::LiveError;
pub use live::{BoardHandle, Live};
pub use served::{Served, ServedBoard, Sockets};
