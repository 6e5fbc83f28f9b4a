//! vfio-user: PCI functions for virtual machines and other processes, over a Unix socket (protocol 0.1, as
//! QEMU 10.1 and later speak it with `vfio-user-pci`).
//!
//! * [`Function`] is the interface: what is served implements it, and gets a [`Client`] to raise interrupts
//!   with and to reach memory that came without a file;
//! * [`Server`] listens on a socket, one for each function, and serves one client after the other from one
//!   thread;
//! * [`RemoteFunction`] is the other end, for a host that is no virtual machine: a function that another
//!   process serves;
//! * [`session`] says what each request does, [`message`] cuts a stream into messages, [`protocol`] has the
//!   layouts: all three without a socket.
//!
//! A client is hostile. Whatever it sends is answered, answered with an errno, or ends its connection with a
//! [`Violation`]; what is kept for it is bounded, and so is every wait for it.
//!
//! Left out: regions that the client maps, region I/O descriptors, several writes in one message, dirty pages
//! and migration (all answered as unsupported or not offered), a second socket for the server's own requests,
//! and eventfds that mask.

mod client;
mod description;
mod dma;
mod function;
mod inbox;
mod interrupts;
mod mappings;
pub mod message;
pub mod protocol;
mod remote;
mod server;
pub mod session;
mod stream;
mod version;
mod violation;

pub use client::{Client, DmaError};
pub use description::{Description, Irq, Region, RegionDescription};
pub use function::{DmaMapping, Function};
pub use remote::{RemoteError, RemoteFunction};
pub use rustix::io::Errno;
pub use server::{Server, ServerError};
pub use violation::Violation;
