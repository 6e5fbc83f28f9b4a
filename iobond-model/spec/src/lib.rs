//! What the two sides of an IO-Bond agree on.
//!
//! Three parties meet at an IO-Bond: the board's driver, which sees virtio PCI functions; the device itself,
//! as Rust model or as RTL; and bm-hypervisor on the base. This crate holds the facts that more than one of
//! them must know, and nothing else:
//!
//! * [`registers`] and [`offsets`]: the base-side register map, generated from `regs/iobond.rdl`;
//! * [`register_access`]: the typed map over any 32-bit register transport;
//! * [`address`]: board and base addresses, which never mix;
//! * `queue_context`: what the base writes into the registers of a queue, and its codec;
//! * [`ring`]: layouts and index arithmetic of split virtqueues;
//! * [`status_page`]: what IO-Bond writes back into base memory;
//! * [`base_function`]: the same for IO-Bond's own function on the base;
//! * [`function`]: where things lie in a function's configuration space and BAR.
//!
//! Left out: behaviour of any kind, virtio feature bits and device configuration (crate `virtio-bindings` has
//! them), and packed rings, which the register map names but no device offers yet.

#![no_std]

pub mod address;
pub mod base_function;
pub mod function;
pub mod offsets;
#[cfg(not(doctest))]
pub mod queue_context;
#[cfg(not(doctest))] // PeakRDL leaves the registers out where examples in documentation are collected
pub mod register_access;
pub mod ring;
pub mod status_page;

/// The base-side register map as PeakRDL generates it; never edited.
#[allow(missing_docs, unsafe_code, unused_qualifications, clippy::all, clippy::expect_used, clippy::undocumented_unsafe_blocks)]
#[rustfmt::skip]
pub mod registers;

/// PCI functions that one IO-Bond can hold (`ident.sizes.functions`).
pub const MAX_FUNCTIONS: usize = offsets::functions::COUNT as usize;

/// Queue contexts of one IO-Bond (`ident.sizes.queues`).
pub const MAX_QUEUES: usize = offsets::queues::COUNT as usize;

/// DMA windows of one IO-Bond (`ident.sizes.windows`).
pub const MAX_WINDOWS: usize = offsets::windows::COUNT as usize;

/// Largest ring, guest or shadow (virtio 1.3, 2.7: "queue size is at most 32768").
pub const MAX_RING: u16 = 32768;

/// `ident.magic`: `IOBD`.
pub const MAGIC: u32 = 0x494F_4244;

/// What a read of a device that is gone returns, and what an expired board read completes with.
pub const ALL_ONES: u32 = u32::MAX;
