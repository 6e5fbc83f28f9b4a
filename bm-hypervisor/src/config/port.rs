//! Where a board's IO-Bond is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::PciAddress;

/// How the base reaches a board's IO-Bond.
///
/// ```toml
/// port = { vfio = "0000:01:00.0" }              # a device in this machine, bound to vfio-pci
/// port = { vfio-user = "/run/iobond.sock" }     # served by another process
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortConfig {
    /// The base function of an IO-Bond in this machine, through the kernel's VFIO.
    Vfio(PciAddress),
    /// The Unix socket at which another process serves the base function over vfio-user.
    VfioUser(PathBuf),
}
