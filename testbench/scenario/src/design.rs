//! What is chosen of IO-Bond's design.

use serde::{Deserialize, Serialize};

/// How a back end learns that there are buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// bm-hypervisor reads the HEAD registers, a PCIe read each, and kicks it: the paper's design.
    Registers,
    /// bm-hypervisor looks at the HEADs in the status page, and kicks it.
    StatusPage,
    /// It polls the shadow vring itself.
    #[default]
    Ring,
}

/// What is chosen of the design, the timing apart. By default what this project does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Design {
    /// How back ends learn that there are buffers.
    pub notice: Notice,
    /// Doorbells carry the available index (virtio 1.3, 2.9).
    pub notification_data: bool,
    /// Both sides suppress notifications by index (virtio 1.3, 2.7.7 and 2.7.10).
    pub event_idx: bool,
    /// The driver waits for interrupts; otherwise it polls its used rings and wants none.
    pub interrupts: bool,
}

impl Default for Design {
    fn default() -> Self {
        Self { notice: Notice::Ring, notification_data: true, event_idx: false, interrupts: true }
    }
}

impl Design {
    /// The paper's: registers are polled, and a doorbell carries no index.
    pub const PAPER: Self =
        Self { notice: Notice::Registers, notification_data: false, event_idx: false, interrupts: true };
}
