//! Linux on a compute board: QEMU as the board's processor and memory, with the board's functions on its PCI
//! bus.
//!
//! ```text
//!   guest.toml ---- GuestFiles --+
//!   scenario ------ Board -------+-- Machine -- command line -- Qemu (a process) -- vfio-user -- IO-Bond
//!   --accel ------- Accelerator -+                  |
//!                                                  Qmp (power button, reset, quit)
//! ```
//!
//! QEMU gives the guest no device of its own but a serial port: whatever else it drives is IO-Bond's. Left
//! out: what serves the functions' sockets ([`crate`]), and when guests are started and stopped
//! ([`crate::instance`]).

mod accelerator;
mod kernel;
mod manifest;
mod process;
mod qemu;
mod qmp;

pub use accelerator::{Accelerator, Choice, Wanted};
pub use kernel::{KernelError, check_kernel};
pub use manifest::{GuestFiles, ManifestError, find};
pub use process::{Ended, Qemu, launch};
pub use qemu::{Machine, SERIAL_LOG, SERIAL_SOCKET};
pub use qmp::{Qmp, QmpError};
