//! IO-Bond's own PCI function as the base sees it: what identifies it, and what lies where in its BAR beside
//! the register map.
//!
//! Vendor and device only help people to find it: software goes by `ident.magic` and `ident.version`.

use crate::offsets::queues;

/// Vendor: Xilinx, whose FPGAs IO-Bond is built for. An emulator has the same, as it is the same device.
pub const VENDOR: u16 = 0x10EE;
/// Device: what Xilinx's PCIe hard block calls an endpoint of eight lanes of generation 3 by default (PG213).
pub const DEVICE: u16 = 0x9038;
/// Class code: processing accelerator (PCI Code and ID Assignment 1.11, 1.19).
pub const CLASS: u8 = 0x12;

/// The BAR with everything in it, 64-bit memory, not prefetchable; it takes BAR registers 0 and 1.
pub const BAR: u8 = 0;
/// Size of that BAR in bytes. The register map begins at 0.
pub const BAR_SIZE: u32 = 0x8000;
/// MSI-X table, in a page of its own.
pub const MSIX_TABLE: u32 = 0x7000;
/// MSI-X pending bits.
pub const MSIX_PBA: u32 = 0x7800;
/// MSI-X vectors.
pub const MSIX_VECTORS: u16 = 1;
/// The vector that `board.wake` asks for.
pub const WAKE_VECTOR: u16 = 0;

const _: () = assert!(queues::BASE + queues::COUNT * queues::STRIDE <= MSIX_TABLE && MSIX_PBA < BAR_SIZE);
