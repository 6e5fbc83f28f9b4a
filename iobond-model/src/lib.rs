//! The IO-Bond as code: what sits between a compute board, which sees virtio PCI functions, and its base
//! server, which sees registers and shadow vrings in its own memory.
//!
//! * [`front_end`]: a function as the board sees it, configuration space, BAR, MSI-X;
//! * [`mailbox`]: board accesses that the base has to answer;
//! * [`shadow`]: the queue engine, guest ring to shadow vring and back;
//! * [`fabric`] and [`windows`]: the engine's only way out, and the gates in it;
//! * [`qos`]: limits on rates, and a link that boards share;
//! * [`device`]: one IO-Bond put together, with its register file;
//! * [`live`]: the world of wall-clock time and memory maps;
//! * [`cycle`]: the world of virtual time, links and a DMA engine;
//! * [`timing`]: every latency and width of that, with its source.
//!
//! All but [`live`] is pure: no clock, no threads, no memory of a board or base. Time is an argument or the
//! fabric's, and what has to happen outside is handed out as an [`device::Effect`].
//!
//! Left out: the base's side (crate `bm-hypervisor`), back ends (crate `vhost-backends`), and packed rings.
//! There are no sockets and no files here, apart from mapping what the base hands over.

pub mod cycle;
pub mod device;
pub mod fabric;
pub mod front_end;
mod links;
pub mod live;
pub mod mailbox;
pub mod qos;
pub mod shadow;
mod time;
pub mod timing;
pub mod windows;
