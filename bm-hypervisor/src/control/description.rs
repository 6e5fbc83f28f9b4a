//! What a board is made of, as the API and embedders see it.

use serde::{Deserialize, Serialize};

use super::{board::Board, registers::Identity, served::Served};
use crate::{
    config::{MacAddress, Rates},
    device::{Kind, blk, features::names},
    port::Port,
};

/// A board's functions, and what its IO-Bond has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Description {
    /// In order of their numbers.
    pub functions: Vec<FunctionDescription>,
    /// Places that are free for functions.
    pub free: Vec<FreePlace>,
    /// How many of each resource the IO-Bond has.
    pub device: DeviceLimits,
}

/// One function: its device, its back end and its driver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FunctionDescription {
    /// Its number, below 8.
    pub index: u8,
    /// `net`, `blk` or `console`.
    pub device: String,
    /// Path of its back end's socket.
    pub back_end: String,
    /// Whether the back end is connected.
    pub alive: bool,
    /// `device_status` as its driver reads it.
    pub status: u8,
    /// Names of the features that it offers, separated by blanks.
    pub offered: String,
    /// Names of the features that its driver accepted.
    pub negotiated: String,
    /// Number of its first queue context.
    pub first_context: u8,
    /// How many virtqueues it has.
    pub queues: u16,
    /// How many of them run.
    pub running_queues: u16,
    /// The sizes of its rings and slot pools.
    pub rings: Rings,
    /// Capacity of a disk in bytes.
    pub capacity: Option<u64>,
    /// Address of a network function.
    pub mac: Option<String>,
    /// Whether the link of a network function is up.
    pub link_up: Option<bool>,
    /// What it is limited to, if it is.
    #[serde(default)]
    pub limits: Option<Rates>,
    /// Times that a queue of it had to wait for its limits; wraps at 2^32.
    #[serde(default)]
    pub delays: u32,
}

/// Rings and slot pools of a function's queues, but for a network function's control queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rings {
    /// Largest guest ring, in descriptors.
    pub guest: u16,
    /// Shadow vring, in descriptors.
    pub shadow: u16,
    /// Bytes of a slot.
    pub slot_size: u32,
    /// Slots of each queue.
    pub slots: u16,
}

/// A place in which a function may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FreePlace {
    /// The number of the function that is added here.
    pub index: u8,
    /// How many virtqueues the function may have.
    pub queues: u16,
}

/// What an IO-Bond has, as its identification registers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct DeviceLimits {
    /// How many PCI functions it can show to the board.
    pub functions: u8,
    /// How many queue contexts it has, for all functions together.
    pub queues: u8,
    /// How many DMA windows it has; a board takes one.
    pub windows: u8,
    /// Descriptors of the longest ring, guest or shadow.
    pub ring: u32,
    /// Bytes of base memory that the board's pool takes.
    pub pool: u64,
}

impl Served {
    fn describe(&self, (limits, delays): (Option<Rates>, u32)) -> FunctionDescription {
        let device = self.function.device();
        let (kind, sizes) = (device.kind, device.sizes);
        let mac = device.config.first_chunk::<6>().and_then(|bytes| MacAddress::new(*bytes).ok());
        FunctionDescription {
            index: self.id.index() as u8,
            device: kind.name().into(),
            back_end: self.back_end.socket().display().to_string(),
            alive: self.alive,
            status: self.function.status().bits(),
            offered: names(kind, self.function.offered()),
            negotiated: names(kind, self.function.negotiated()),
            first_context: self.first_context,
            queues: self.queues(),
            running_queues: self.running.len() as u16,
            rings: Rings {
                guest: sizes.guest,
                shadow: sizes.shadow,
                slot_size: sizes.slot_size,
                slots: sizes.slots,
            },
            capacity: (kind == Kind::Blk).then(|| blk::capacity(&device.config).saturating_mul(blk::SECTOR)),
            mac: mac.filter(|_| kind == Kind::Net).map(|mac| mac.to_string()),
            link_up: (kind == Kind::Net).then_some(self.link_up),
            limits,
            delays,
        }
    }
}

impl Identity {
    fn limits(&self, pool: u64) -> DeviceLimits {
        DeviceLimits {
            functions: self.sizes.functions(),
            queues: self.sizes.queues(),
            windows: self.sizes.windows(),
            ring: 1 << self.sizes.ring_log2().min(15),
            pool,
        }
    }
}

impl<P: Port> Board<P> {
    fn limits_of(&self, served: &Served) -> (Option<Rates>, u32) {
        if self.identity.features.limits() { self.registers.limits(served.id) } else { (None, 0) }
    }

    /// The board's functions, free places, and IO-Bond.
    pub(super) fn describe(&self) -> Description {
        let places = (0..).zip(&self.contexts).zip(&self.functions);
        let free = places.filter(|(_, served)| served.is_none());
        Description {
            functions: self.present().map(|served| served.describe(self.limits_of(served))).collect(),
            free: free.map(|((index, contexts), _)| FreePlace { index, queues: contexts.count }).collect(),
            device: self.identity.limits(self.pool.length()),
        }
    }
}
