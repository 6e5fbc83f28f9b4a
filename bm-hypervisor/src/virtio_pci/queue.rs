//! The registers of one virtqueue in the common configuration structure (virtio 1.3, 4.1.4.3).

use iobond_spec::{
    address::BoardAddr,
    function::{MSIX_VECTORS, NO_VECTOR},
    ring::split::{AVAIL_ALIGN, DESC_ALIGN, USED_ALIGN, avail_bytes, desc_bytes, used_bytes},
};

/// One virtqueue as its driver set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Largest ring, in descriptors.
    pub max_size: u16,
    /// Size of the ring, in descriptors: a power of two, at most `max_size`.
    pub size: u16,
    /// MSI-X vector, or [`NO_VECTOR`].
    pub vector: u16,
    /// Whether the driver enabled it, and it was neither refused nor reset since.
    pub enabled: bool,
    /// Address of the descriptor table (`queue_desc`).
    pub desc: BoardAddr,
    /// Address of the available ring (`queue_driver`).
    pub avail: BoardAddr,
    /// Address of the used ring (`queue_device`).
    pub used: BoardAddr,
}

impl Queue {
    /// A queue after reset.
    pub fn new(max_size: u16) -> Self {
        let nowhere = BoardAddr(0);
        Self {
            max_size,
            size: max_size,
            vector: NO_VECTOR,
            enabled: false,
            desc: nowhere,
            avail: nowhere,
            used: nowhere,
        }
    }

    /// Whether every area is aligned (virtio 1.3, 2.7) and ends before the end of the address space. Whether
    /// there is memory is for IO-Bond to find out.
    pub fn is_well_formed(&self) -> bool {
        let fits = |address: BoardAddr, align, bytes| {
            address.is_aligned(align) && address.checked_add(bytes).is_some()
        };
        fits(self.desc, DESC_ALIGN, desc_bytes(self.size))
            && fits(self.avail, AVAIL_ALIGN, avail_bytes(self.size))
            && fits(self.used, USED_ALIGN, used_bytes(self.size))
    }

    /// Takes a new size if it is a power of two that fits; whether it was.
    pub fn set_size(&mut self, size: u16) -> bool {
        let good = size.is_power_of_two() && size <= self.max_size;
        if good {
            self.size = size;
        }
        good
    }
}

/// The vector that a driver finds after writing `vector`: [`NO_VECTOR`] if there is none of that number
/// (virtio 1.3, 4.1.5.1.2.1).
pub fn map_vector(vector: u16) -> u16 {
    if vector < MSIX_VECTORS { vector } else { NO_VECTOR }
}
