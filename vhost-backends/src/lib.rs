//! vhost-user servers that a shadow vring, or any vhost-user front end, is handed to.
//!
//! * [`blk`]: a disk. It serves a raw image file as a virtio-blk device.
//! * [`net`]: a learning Ethernet switch. Each port is a virtio-net device at a socket of its own.
//! * [`console`]: a virtio-console device for terminals that connect to a Unix socket.
//!
//! Each is a library call ([`blk::serve`], [`net::serve`], [`console::serve`]) and a thin binary
//! (`vhost-blk`, `vhost-net`, `vhost-console`). In each, what a request, a frame or a keystroke means is pure
//! logic (no sockets, no threads, no clock) beside the adapter that moves it. The vhost-user messages are
//! read and answered by crate `vhost`.
//!
//! A server prints `listening on PATH` to stdout for each socket that a front end may connect to. It serves
//! front ends one after the other at each socket, and ends on SIGTERM or SIGINT, when it removes its sockets.
//! Logs go through `tracing`.
//!
//! What a driver puts into a ring is hostile: it ends in a refused request, a dropped frame or a ring that
//! stops until it is set up anew, within bounded work and memory, and no other front end notices.
//!
//! # Left out
//!
//! * Packed rings, dirty page logging, RESET_DEVICE and DEVICE_STATE. In-flight tracking is the disk's only:
//!   a frame or a keystroke that was under way is gone with its server.
//! * A ring without a kick descriptor is refused.
//! * A front end *process* is trusted not to truncate the file behind its memory table: that is SIGBUS for
//!   us.
//! * The virtio-net control queue and configuration space. They belong to the front end.
//! * Several ports of a console (MULTIPORT) and its emergency write.

pub mod blk;
mod chain;
pub mod console;
mod error;
mod inflight;
mod link;
pub mod net;
mod ring;
mod server;
mod session;
mod signals;

pub use error::Error;
pub use server::Peering;
