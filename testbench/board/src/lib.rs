//! What runs on a compute board. Here: a software board, whose CPU is a thread of this process.
//!
//! It does all that firmware, kernel and drivers do on hardware, and reaches its devices only through
//! [`bus::Bus`]:
//!
//! * [`pci`] finds functions, places BARs, reads capabilities;
//! * [`memory`] and [`hal`] are its RAM and DMA, [`queue`] its virtqueues on crate `virtio-drivers`;
//! * [`transport`] drives a function through common configuration, MSI-X and doorbells;
//! * [`blk`], [`net`] and [`tcp`] are what runs on it;
//! * [`direct`] puts the same drivers on a vhost-user back end with no IO-Bond between, to compare with.
//!
//! Left out: legacy and transitional interfaces, INTx and MSI, packed rings, PCI bridges, and a real CPU.

pub mod blk;
pub mod bus;
pub mod direct;
pub mod hal;
pub mod memory;
pub mod net;
pub mod pci;
pub mod queue;
pub mod tcp;
#[cfg(test)]
mod test_bus;
pub mod transport;
