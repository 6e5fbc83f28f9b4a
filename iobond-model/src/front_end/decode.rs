//! What an offset in a function's BAR means. One table for every function, as in hardware.

use iobond_spec::function::{
    COMMON, COMMON_SIZE, DEVICE, DEVICE_SIZE, ISR, MSIX_ENTRY_SIZE, MSIX_PBA, MSIX_TABLE, MSIX_VECTORS,
    NOTIFY, NOTIFY_MULTIPLIER, NOTIFY_SIZE,
};

/// What answers an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Common or device configuration: the base, over the mailbox.
    Forwarded,
    /// The ISR status, one byte that a read clears (virtio 1.3, 4.1.4.5).
    Isr,
    /// The doorbell of this virtqueue index.
    Doorbell(u16),
    /// The MSI-X table, at this byte offset.
    MsixTable(u32),
    /// The MSI-X pending bits, at this byte offset.
    MsixPba(u32),
    /// Nothing: the access is an unsupported request.
    Nothing,
}

const MSIX_TABLE_SIZE: u32 = MSIX_VECTORS as u32 * MSIX_ENTRY_SIZE;
const MSIX_PBA_SIZE: u32 = MSIX_VECTORS as u32 / 8;

/// Decodes an access of `width` bytes at `offset` in the BAR. Accesses must be 1, 2 or 4 bytes wide,
/// naturally aligned, and lie inside one structure (virtio 1.3, 4.1.3.1; PCIe 5.0, 7.7.2 for MSI-X, which
/// takes only 4 bytes here).
pub fn decode(offset: u32, width: u8) -> Target {
    let bytes = u32::from(width);
    if !matches!(width, 1 | 2 | 4) || !offset.is_multiple_of(bytes) {
        return Target::Nothing;
    }
    let inside = |start: u32, size: u32| offset >= start && bytes <= size && offset - start <= size - bytes;
    match width {
        _ if inside(COMMON, COMMON_SIZE) || inside(DEVICE, DEVICE_SIZE) => Target::Forwarded,
        1 if inside(ISR, 1) => Target::Isr,
        2 | 4 if inside(NOTIFY, NOTIFY_SIZE) && offset.is_multiple_of(NOTIFY_MULTIPLIER) => {
            Target::Doorbell(((offset - NOTIFY) / NOTIFY_MULTIPLIER) as u16)
        }
        4 if inside(MSIX_TABLE, MSIX_TABLE_SIZE) => Target::MsixTable(offset - MSIX_TABLE),
        4 if inside(MSIX_PBA, MSIX_PBA_SIZE) => Target::MsixPba(offset - MSIX_PBA),
        _ => Target::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_structure_answers_its_own_accesses() {
        assert_eq!(decode(COMMON + 0x14, 1), Target::Forwarded);
        assert_eq!(decode(DEVICE + 0xffc, 4), Target::Forwarded);
        assert_eq!(decode(ISR, 1), Target::Isr);
        assert_eq!(decode(NOTIFY + 8, 2), Target::Doorbell(2));
        assert_eq!(decode(NOTIFY + 8, 4), Target::Doorbell(2));
        assert_eq!(decode(MSIX_TABLE + 12, 4), Target::MsixTable(12));
        assert_eq!(decode(MSIX_PBA + 4, 4), Target::MsixPba(4));
    }

    #[test]
    fn nothing_answers_the_rest() {
        for (offset, width) in [
            (COMMON + 1, 2),
            (COMMON, 8),
            (COMMON, 3),
            (COMMON, 0),
            (COMMON + COMMON_SIZE, 4),
            (ISR, 4),
            (ISR + 1, 1),
            (NOTIFY, 1),
            (NOTIFY + 2, 2),
            (MSIX_TABLE, 2),
            (MSIX_PBA + 8, 4),
            (u32::MAX - 3, 4),
        ] {
            assert_eq!(decode(offset, width), Target::Nothing, "{width} bytes at {offset:#x}");
        }
    }
}
