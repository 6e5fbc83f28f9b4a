//! Links: how many bytes packets and frames take on a wire, and how long these take. Nothing here has a
//! state.

mod ethernet;
mod pcie;

pub use ethernet::Ethernet;
pub use pcie::{Credits, Generation, Link, Pcie, PcieError, Tlp};
