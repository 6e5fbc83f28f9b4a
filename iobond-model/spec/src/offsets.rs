//! Offsets of the base-side registers. Generated from iobond.rdl by `cargo xtask registers`; do not edit.

/// Size of the register map in bytes, rounded up to a power of two as a BAR must be.
pub const BAR0_SIZE: u32 = 0x8000;

/// Identification: offsets inside one such register file.
pub mod ident {
    /// Offset of the (first) register file in BAR0.
    pub const BASE: u32 = 0x0000;
    /// How many there are.
    pub const COUNT: u32 = 1;
    /// Bytes from one to the next; of a single one, its size.
    pub const STRIDE: u32 = 0x1c;
    /// Magic, software access `r`, reset value 0x494f4244.
    pub const MAGIC: u32 = 0x000;
    /// Version, software access `r`, reset value 0x10002.
    pub const VERSION: u32 = 0x004;
    /// Sizes, software access `r`, reset value 0xf084008.
    pub const SIZES: u32 = 0x008;
    /// Features, software access `r`, reset value 0xfd.
    pub const FEATURES: u32 = 0x00c;
    /// Time, low, software access `r`, reset value 0x0.
    pub const TIME_LO: u32 = 0x010;
    /// Time, high, software access `r`, reset value 0x0.
    pub const TIME_HI: u32 = 0x014;
    /// Scratch, software access `rw`, reset value 0x0.
    pub const SCRATCH: u32 = 0x018;
}

/// Board: offsets inside one such register file.
pub mod board {
    /// Offset of the (first) register file in BAR0.
    pub const BASE: u32 = 0x0040;
    /// How many there are.
    pub const COUNT: u32 = 1;
    /// Bytes from one to the next; of a single one, its size.
    pub const STRIDE: u32 = 0x18;
    /// Control, software access `rw`, reset value 0x0.
    pub const CONTROL: u32 = 0x000;
    /// State, software access `r`, reset value 0x0.
    pub const STATE: u32 = 0x004;
    /// Unsupported requests, software access `r`, reset value 0x0.
    pub const UNSUPPORTED_REQUESTS: u32 = 0x008;
    /// Refused register accesses, software access `r`, reset value 0x0.
    pub const REFUSED_ACCESSES: u32 = 0x00c;
    /// DMA faults, software access `r`, reset value 0x0.
    pub const DMA_FAULTS: u32 = 0x010;
    /// Wake, software access `w`, reset value 0x0.
    pub const WAKE: u32 = 0x014;
}

/// Mailbox: offsets inside one such register file.
pub mod mailbox {
    /// Offset of the (first) register file in BAR0.
    pub const BASE: u32 = 0x0080;
    /// How many there are.
    pub const COUNT: u32 = 1;
    /// Bytes from one to the next; of a single one, its size.
    pub const STRIDE: u32 = 0x28;
    /// Request, software access `r`, reset value 0x0.
    pub const REQUEST: u32 = 0x000;
    /// Offset, software access `r`, reset value 0x0.
    pub const OFFSET: u32 = 0x004;
    /// Data, software access `r`, reset value 0x0.
    pub const DATA: u32 = 0x008;
    /// Answer data, software access `rw`, reset value 0x0.
    pub const ANSWER_DATA: u32 = 0x00c;
    /// Answer, software access `w`, reset value 0x0.
    pub const ANSWER: u32 = 0x010;
    /// Deadline, software access `rw`, reset value 0xc350.
    pub const DEADLINE: u32 = 0x014;
    /// Fill, software access `r`, reset value 0x400000.
    pub const FILL: u32 = 0x018;
    /// Expired reads, software access `r`, reset value 0x0.
    pub const EXPIRED_READS: u32 = 0x01c;
    /// Expired writes, software access `r`, reset value 0x0.
    pub const EXPIRED_WRITES: u32 = 0x020;
    /// Late answers, software access `r`, reset value 0x0.
    pub const LATE_ANSWERS: u32 = 0x024;
}

/// Status page: offsets inside one such register file.
pub mod status_page {
    /// Offset of the (first) register file in BAR0.
    pub const BASE: u32 = 0x00c0;
    /// How many there are.
    pub const COUNT: u32 = 1;
    /// Bytes from one to the next; of a single one, its size.
    pub const STRIDE: u32 = 0xc;
    /// Address, low, software access `rw`, reset value 0x0.
    pub const ADDRESS_LO: u32 = 0x000;
    /// Address, high, software access `rw`, reset value 0x0.
    pub const ADDRESS_HI: u32 = 0x004;
    /// Control, software access `rw`, reset value 0x0.
    pub const CONTROL: u32 = 0x008;
}

/// DMA window: offsets inside one such register file.
pub mod windows {
    /// Offset of the (first) register file in BAR0.
    pub const BASE: u32 = 0x0100;
    /// How many there are.
    pub const COUNT: u32 = 8;
    /// Bytes from one to the next; of a single one, its size.
    pub const STRIDE: u32 = 0x20;
    /// Address, low, software access `rw`, reset value 0x0.
    pub const ADDRESS_LO: u32 = 0x000;
    /// Address, high, software access `rw`, reset value 0x0.
    pub const ADDRESS_HI: u32 = 0x004;
    /// Length, low, software access `rw`, reset value 0x0.
    pub const LENGTH_LO: u32 = 0x008;
    /// Length, high, software access `rw`, reset value 0x0.
    pub const LENGTH_HI: u32 = 0x00c;
    /// Control, software access `rw`, reset value 0x0.
    pub const CONTROL: u32 = 0x010;
}

/// Function: offsets inside one such register file.
pub mod functions {
    /// Offset of the (first) register file in BAR0.
    pub const BASE: u32 = 0x1000;
    /// How many there are.
    pub const COUNT: u32 = 8;
    /// Bytes from one to the next; of a single one, its size.
    pub const STRIDE: u32 = 0x400;
    /// Control, software access `rw`, reset value 0x0.
    pub const CONTROL: u32 = 0x000;
    /// State, software access `r`, reset value 0x0.
    pub const STATE: u32 = 0x004;
    /// Inject, software access `w`, reset value 0x0.
    pub const INJECT: u32 = 0x008;
    /// Interrupts sent, software access `r`, reset value 0x0.
    pub const INTERRUPTS: u32 = 0x00c;
    /// Config image word, software access `rw`, reset value 0x0.
    pub const CONFIG: u32 = 0x100;
    /// How many of [`CONFIG`] there are, 4 bytes apart.
    pub const CONFIG_COUNT: u32 = 64;
    /// Config mask word, software access `rw`, reset value 0x0.
    pub const MASK: u32 = 0x200;
    /// How many of [`MASK`] there are, 4 bytes apart.
    pub const MASK_COUNT: u32 = 64;
}

/// Quality of service: offsets inside one such register file.
pub mod qos {
    /// Offset of the (first) register file in BAR0.
    pub const BASE: u32 = 0x3000;
    /// How many there are.
    pub const COUNT: u32 = 8;
    /// Bytes from one to the next; of a single one, its size.
    pub const STRIDE: u32 = 0x20;
    /// Control, software access `rw`, reset value 0x0.
    pub const CONTROL: u32 = 0x000;
    /// Delays, software access `r`, reset value 0x0.
    pub const DELAYS: u32 = 0x004;
    /// Operations, low, software access `rw`, reset value 0x0.
    pub const OPERATIONS_LO: u32 = 0x008;
    /// Operations, high, software access `rw`, reset value 0x0.
    pub const OPERATIONS_HI: u32 = 0x00c;
    /// Bytes, low, software access `rw`, reset value 0x0.
    pub const BYTES_LO: u32 = 0x010;
    /// Bytes, high, software access `rw`, reset value 0x0.
    pub const BYTES_HI: u32 = 0x014;
    /// Burst of operations, software access `rw`, reset value 0x0.
    pub const OPERATIONS_BURST: u32 = 0x018;
    /// Burst of bytes, software access `rw`, reset value 0x0.
    pub const BYTES_BURST: u32 = 0x01c;
}

/// Queue context: offsets inside one such register file.
pub mod queues {
    /// Offset of the (first) register file in BAR0.
    pub const BASE: u32 = 0x4000;
    /// How many there are.
    pub const COUNT: u32 = 64;
    /// Bytes from one to the next; of a single one, its size.
    pub const STRIDE: u32 = 0x80;
    /// Control, software access `rw`, reset value 0xffff0000.
    pub const CONTROL: u32 = 0x000;
    /// State, software access `r`, reset value 0x0.
    pub const STATE: u32 = 0x004;
    /// Sizes, software access `rw`, reset value 0x0.
    pub const SIZES: u32 = 0x008;
    /// Features, software access `rw`, reset value 0x0.
    pub const FEATURES: u32 = 0x00c;
    /// Guest descriptors, low, software access `rw`, reset value 0x0.
    pub const GUEST_DESC_LO: u32 = 0x010;
    /// Guest descriptors, high, software access `rw`, reset value 0x0.
    pub const GUEST_DESC_HI: u32 = 0x014;
    /// Guest available ring, low, software access `rw`, reset value 0x0.
    pub const GUEST_AVAIL_LO: u32 = 0x018;
    /// Guest available ring, high, software access `rw`, reset value 0x0.
    pub const GUEST_AVAIL_HI: u32 = 0x01c;
    /// Guest used ring, low, software access `rw`, reset value 0x0.
    pub const GUEST_USED_LO: u32 = 0x020;
    /// Guest used ring, high, software access `rw`, reset value 0x0.
    pub const GUEST_USED_HI: u32 = 0x024;
    /// Shadow descriptors, low, software access `rw`, reset value 0x0.
    pub const SHADOW_DESC_LO: u32 = 0x028;
    /// Shadow descriptors, high, software access `rw`, reset value 0x0.
    pub const SHADOW_DESC_HI: u32 = 0x02c;
    /// Shadow available ring, low, software access `rw`, reset value 0x0.
    pub const SHADOW_AVAIL_LO: u32 = 0x030;
    /// Shadow available ring, high, software access `rw`, reset value 0x0.
    pub const SHADOW_AVAIL_HI: u32 = 0x034;
    /// Shadow used ring, low, software access `rw`, reset value 0x0.
    pub const SHADOW_USED_LO: u32 = 0x038;
    /// Shadow used ring, high, software access `rw`, reset value 0x0.
    pub const SHADOW_USED_HI: u32 = 0x03c;
    /// Slots, low, software access `rw`, reset value 0x0.
    pub const SLOTS_LO: u32 = 0x040;
    /// Slots, high, software access `rw`, reset value 0x0.
    pub const SLOTS_HI: u32 = 0x044;
    /// Slot size, software access `rw`, reset value 0x0.
    pub const SLOT_SIZE: u32 = 0x048;
    /// Slot count, software access `rw`, reset value 0x0.
    pub const SLOT_COUNT: u32 = 0x04c;
    /// HEAD, software access `r`, reset value 0x0.
    pub const HEAD: u32 = 0x050;
    /// TAIL, software access `rw`, reset value 0x0.
    pub const TAIL: u32 = 0x054;
    /// Forwarded, software access `r`, reset value 0x0.
    pub const FORWARDED: u32 = 0x058;
    /// Retired, software access `r`, reset value 0x0.
    pub const RETIRED: u32 = 0x05c;
    /// Bytes up, software access `r`, reset value 0x0.
    pub const BYTES_UP: u32 = 0x060;
    /// Bytes down, software access `r`, reset value 0x0.
    pub const BYTES_DOWN: u32 = 0x064;
    /// Stalls, software access `r`, reset value 0x0.
    pub const STALLS: u32 = 0x068;
    /// Doorbells, software access `r`, reset value 0x0.
    pub const DOORBELLS: u32 = 0x06c;
    /// Interrupts, software access `r`, reset value 0x0.
    pub const INTERRUPTS: u32 = 0x070;
}
