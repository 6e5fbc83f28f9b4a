//! What travels: vfio-user 0.1 as QEMU documents it (`docs/interop/vfio-user.rst`). Sections are named by
//! their titles there, constants that VFIO defines by their names in `<linux/vfio.h>`.
//!
//! All integers have the byte order of the host; client and server run on one machine.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The major version spoken here; the other side must speak the same.
pub const MAJOR: u16 = 0;
/// The highest minor version spoken here.
pub const MINOR: u16 = 1;

/// The most bytes of data that a region access may carry (capability `max_data_xfer_size`), which is also the
/// default of a client that does not name a limit.
pub const MAX_DATA: u32 = 1 << 20;
/// The most file descriptors that one message may carry (capability `max_msg_fds`). QEMU takes no server that
/// says more.
pub const MAX_FDS: usize = 16;
/// The most ranges of memory that may be mapped at a time: the default of the capability `max_dma_maps`.
pub const MAX_MAPPINGS: usize = 65_535;
/// The most bytes of a message, with its header: a region write of [`MAX_DATA`] bytes.
pub const MAX_MESSAGE: usize = size_of::<Header>() + size_of::<RegionAccess>() + MAX_DATA as usize;

/// Section "Header": what every message begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// Chosen by the side that asks, repeated in the answer. Says nothing else.
    pub id: u16,
    /// A [`Command`].
    pub command: u16,
    /// Bytes of the message, header and all.
    pub size: u32,
    /// [`HeaderFlags`], and the type of the message in bits 0 to 3: [`REQUEST`] or [`REPLY`].
    pub flags: u32,
    /// In an answer that failed: an errno, or 0.
    pub error: u32,
}

/// Bits 0 to 3 of a header's flags: the type.
pub const TYPE: u32 = 0xf;
/// The type of a message that asks.
pub const REQUEST: u32 = 0;
/// The type of a message that answers.
pub const REPLY: u32 = 1;

bitflags! {
    /// Flags of a header beside the type.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HeaderFlags: u32 {
        /// No answer is wanted.
        const NO_REPLY = 1 << 4;
        /// The request failed; the answer is a header alone.
        const ERROR = 1 << 5;
    }
}

/// Section "Commands". What is not here is answered as unsupported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// `VFIO_USER_VERSION`: [`Version`], then JSON that ends with a NUL.
    Version = 1,
    /// `VFIO_USER_DMA_MAP`: [`DmaMap`]; no payload in the answer.
    DmaMap = 2,
    /// `VFIO_USER_DMA_UNMAP`: [`DmaUnmap`] both ways.
    DmaUnmap = 3,
    /// `VFIO_USER_DEVICE_GET_INFO`: [`DeviceInfo`] both ways.
    DeviceGetInfo = 4,
    /// `VFIO_USER_DEVICE_GET_REGION_INFO`: [`RegionInfo`] both ways.
    DeviceGetRegionInfo = 5,
    /// `VFIO_USER_DEVICE_GET_IRQ_INFO`: [`IrqInfo`] both ways.
    DeviceGetIrqInfo = 7,
    /// `VFIO_USER_DEVICE_SET_IRQS`: [`IrqSet`], then a byte per vector with [`IrqSetFlags::DATA_BOOL`]; no
    /// payload in the answer.
    DeviceSetIrqs = 8,
    /// `VFIO_USER_REGION_READ`: [`RegionAccess`]; the same and the data in the answer.
    RegionRead = 9,
    /// `VFIO_USER_REGION_WRITE`: [`RegionAccess`] and the data; the first alone in the answer.
    RegionWrite = 10,
    /// `VFIO_USER_DMA_READ`, server to client: [`DmaAccess`]; the same and the data in the answer.
    DmaRead = 11,
    /// `VFIO_USER_DMA_WRITE`, server to client: [`DmaAccess`] and the data; the first alone in the answer.
    DmaWrite = 12,
    /// `VFIO_USER_DEVICE_RESET`: no payloads.
    DeviceReset = 13,
}

/// Section "VFIO_USER_VERSION", without the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct Version {
    pub major: u16,
    /// In the answer at most what was asked for.
    pub minor: u16,
}

/// Section "VFIO_USER_DMA_MAP"; `flags` are [`DmaMapFlags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct DmaMap {
    pub argsz: u32,
    pub flags: u32,
    /// Where the range begins in the file that comes along.
    pub offset: u64,
    /// Where it begins for the function.
    pub address: u64,
    pub size: u64,
}

bitflags! {
    /// Flags of [`DmaMap`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DmaMapFlags: u32 {
        /// `VFIO_DMA_MAP_FLAG_READ`: the function may read.
        const READ = 1 << 0;
        /// `VFIO_DMA_MAP_FLAG_WRITE`: the function may write.
        const WRITE = 1 << 1;
    }
}

/// Section "VFIO_USER_DMA_UNMAP"; `flags` are [`DmaUnmapFlags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct DmaUnmap {
    pub argsz: u32,
    pub flags: u32,
    pub address: u64,
    /// Its bytes; in the answer the bytes that were unmapped.
    pub size: u64,
}

bitflags! {
    /// Flags of [`DmaUnmap`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DmaUnmapFlags: u32 {
        /// `VFIO_DMA_UNMAP_FLAG_ALL`: everything; address and size are 0.
        const ALL = 1 << 1;
    }
}

/// Section "VFIO_USER_DEVICE_GET_INFO"; `flags` are [`DeviceFlags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct DeviceInfo {
    /// Asked: the most bytes of payload that the answer may have. Answered: the bytes it needs.
    pub argsz: u32,
    pub flags: u32,
    pub num_regions: u32,
    pub num_irqs: u32,
}

bitflags! {
    /// Flags of [`DeviceInfo`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceFlags: u32 {
        /// `VFIO_DEVICE_FLAGS_RESET`: [`Command::DeviceReset`] works.
        const RESET = 1 << 0;
        /// `VFIO_DEVICE_FLAGS_PCI`: regions and interrupts have the indices of a PCI function.
        const PCI = 1 << 1;
    }
}

/// Section "VFIO_USER_DEVICE_GET_REGION_INFO"; `flags` are [`RegionFlags`], `index` is that of a region.
///
/// A region that the client can map would have `VFIO_REGION_INFO_FLAG_MMAP` (bit 2) in `flags`, its file
/// beside the answer and the place in it in `offset`; when only parts can be mapped also
/// `VFIO_REGION_INFO_FLAG_CAPS` (bit 3), and a `VFIO_REGION_INFO_CAP_SPARSE_MMAP` behind this structure, at
/// `cap_offset`. Beware: when any BAR of a function can be mapped, QEMU posts no writes to any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct RegionInfo {
    /// Asked: the most bytes of payload that the answer may have. Answered: the bytes it needs.
    pub argsz: u32,
    pub flags: u32,
    pub index: u32,
    /// Where capabilities begin, from the start of this structure; 0 for none.
    pub cap_offset: u32,
    pub size: u64,
    /// Where it begins in its file; 0 without one.
    pub offset: u64,
}

bitflags! {
    /// Flags of [`RegionInfo`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RegionFlags: u32 {
        /// `VFIO_REGION_INFO_FLAG_READ`.
        const READ = 1 << 0;
        /// `VFIO_REGION_INFO_FLAG_WRITE`.
        const WRITE = 1 << 1;
    }
}

/// Section "VFIO_USER_DEVICE_GET_IRQ_INFO"; `flags` are [`IrqFlags`], `count` are vectors of the type
/// `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct IrqInfo {
    /// Asked: the most bytes of payload that the answer may have. Answered: the bytes it needs.
    pub argsz: u32,
    pub flags: u32,
    pub index: u32,
    pub count: u32,
}

bitflags! {
    /// Flags of [`IrqInfo`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IrqFlags: u32 {
        /// `VFIO_IRQ_INFO_EVENTFD`: signals an eventfd.
        const EVENTFD = 1 << 0;
        /// `VFIO_IRQ_INFO_MASKABLE`: can be masked.
        const MASKABLE = 1 << 1;
        /// `VFIO_IRQ_INFO_AUTOMASKED`: masks itself when it fires.
        const AUTOMASKED = 1 << 2;
    }
}

/// Section "VFIO_USER_DEVICE_SET_IRQS", without the booleans: `count` vectors from `start` on of the type
/// `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct IrqSet {
    /// Bytes of this structure and the booleans.
    pub argsz: u32,
    /// [`IrqSetFlags`]: one that tells the data and one that tells the action.
    pub flags: u32,
    pub index: u32,
    pub start: u32,
    pub count: u32,
}

bitflags! {
    /// Flags of [`IrqSet`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IrqSetFlags: u32 {
        /// `VFIO_IRQ_SET_DATA_NONE`: for each vector.
        const DATA_NONE = 1 << 0;
        /// `VFIO_IRQ_SET_DATA_BOOL`: for each vector whose byte is not 0.
        const DATA_BOOL = 1 << 1;
        /// `VFIO_IRQ_SET_DATA_EVENTFD`: an eventfd for each vector comes along, or none to take them back.
        const DATA_EVENTFD = 1 << 2;
        /// `VFIO_IRQ_SET_ACTION_MASK`.
        const ACTION_MASK = 1 << 3;
        /// `VFIO_IRQ_SET_ACTION_UNMASK`.
        const ACTION_UNMASK = 1 << 4;
        /// `VFIO_IRQ_SET_ACTION_TRIGGER`.
        const ACTION_TRIGGER = 1 << 5;
    }
}

/// Sections "VFIO_USER_REGION_READ" and "VFIO_USER_REGION_WRITE", without the `count` bytes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct RegionAccess {
    pub offset: u64,
    pub region: u32,
    pub count: u32,
}

/// Sections "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE", without the `count` bytes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the section")]
pub struct DmaAccess {
    pub address: u64,
    pub count: u64,
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<Version>() == 4);
    assert!(size_of::<DmaMap>() == 32);
    assert!(size_of::<DmaUnmap>() == 24);
    assert!(size_of::<DeviceInfo>() == 16);
    assert!(size_of::<RegionInfo>() == 32);
    assert!(size_of::<IrqInfo>() == 16);
    assert!(size_of::<IrqSet>() == 20);
    assert!(size_of::<RegionAccess>() == 16);
    assert!(size_of::<DmaAccess>() == 16);
};
