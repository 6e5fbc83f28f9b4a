//! Changes of device configuration under a running driver: the link of a network function, the capacity of a
//! disk.

use serde::{Deserialize, Serialize};

use super::{Served, queues::Work};
use crate::{
    Error,
    control::resources::Resources,
    device::{Device, Kind, blk, net},
    port::Port,
    register_writes,
};

/// How large a disk was and is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Resized {
    /// What its driver knew before.
    pub before: u64,
    /// What it knows now.
    pub now: u64,
}

impl Served {
    /// Whether vring `index` is to carry traffic: none of a network function does while its link is down, or
    /// beyond the pairs that its driver uses.
    pub(super) fn carries(&self, vring: u16) -> bool {
        let negotiated = self.function.negotiated();
        let is_net = self.function.device().kind == Kind::Net;
        !is_net || self.link_up && net::is_in_pairs(vring, self.pairs, negotiated)
    }

    /// Takes the link of a network function up or down: its vrings stop to carry frames, and the driver is
    /// told.
    pub(in crate::control) fn set_link<P: Port>(
        &mut self,
        up: bool,
        resources: &Resources<'_, P>,
    ) -> Result<(), Error> {
        self.link_up = up;
        self.tell_change(net::STATUS_FIELD, &net::status(up), resources);
        self.enable_vrings()
    }

    /// Has the back end, if there is one, carry traffic on those of its vrings that are to.
    pub(super) fn enable_vrings(&mut self) -> Result<(), Error> {
        if !self.alive {
            return Ok(());
        }
        let vrings = self.running.iter().filter_map(|queue| match queue.work {
            Work::BackEnd(vring) => Some((vring, self.carries(vring))),
            Work::Control(_) => None,
        });
        let vrings: Vec<_> = vrings.collect();
        for (vring, carries) in vrings {
            self.back_end.enable_vring(vring, carries)?;
        }
        Ok(())
    }

    /// The device that a back end makes, with what commands have changed of it since.
    pub(in crate::control) fn as_changed(&self, mut device: Device) -> Device {
        if device.kind == Kind::Net {
            net::set_link(&mut device.config, self.link_up);
        }
        device
    }

    /// Asks the back end of a disk how large it is now, and tells the driver if that has changed; unless it
    /// is not as large as `expected`, in bytes. The rest of the configuration space was settled when the
    /// function was made.
    pub(in crate::control) fn resize<P: Port>(
        &mut self,
        expected: Option<u64>,
        resources: &Resources<'_, P>,
    ) -> Result<Resized, Error> {
        let before = blk::capacity(&self.function.device().config).saturating_mul(blk::SECTOR);
        let space = self.back_end.config_space(blk::CONFIG_SIZE)?.unwrap_or_default();
        let now = blk::capacity(&space).saturating_mul(blk::SECTOR);
        let as_expected = expected.is_none_or(|expected| expected == now);
        if as_expected && let Some(capacity) = space.first_chunk::<8>() {
            self.tell_change(blk::CAPACITY_FIELD, capacity, resources);
        }
        Ok(Resized { before, now })
    }

    /// Replaces a field of device configuration, and raises the configuration change interrupt if that
    /// changed it.
    fn tell_change<P: Port>(&mut self, offset: usize, field: &[u8], resources: &Resources<'_, P>) {
        if self.function.reconfigure(offset, field)
            && let Some(vector) = self.function.change_vector()
        {
            resources.registers.write(register_writes::inject_config_change(self.id, vector));
        }
    }
}
