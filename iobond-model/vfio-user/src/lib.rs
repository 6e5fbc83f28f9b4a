//! A vfio-user server: PCI functions for virtual machines and other processes, over a Unix socket.

mod client;
mod function;
pub mod protocol;
mod server;

pub use client::{Client, DmaError};
pub use function::{Description, DmaMapping, Function, Irq, Region, RegionDescription};
pub use rustix::io::Errno;
pub use server::{Server, ServerError};
