//! Why there can be no such link.

/// A link that PCI Express does not have, or on which nothing would move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcieError {
    /// No link has so many lanes (PCIe 5.0, 7.5.3.6).
    #[error("lanes = {lanes}: there is no such link; choose 1, 2, 4, 8, 12, 16 or 32")]
    Lanes {
        /// What was asked for.
        lanes: u8,
    },
    /// Device Control cannot say this size (PCIe 5.0, 7.5.3.4).
    #[error("{field} = {bytes}: choose a power of two from 128 to 4096")]
    Size {
        /// `max_payload` or `max_read_request`.
        field: &'static str,
        /// What was asked for.
        bytes: u16,
    },
    /// PCI Express allows it; yet no completion would ever be as large as a write, which nobody means who says so.
    #[error(
        "max_payload = {max_payload} is more than max_read_request = {max_read_request}, so no completion could be so \
         large; raise max_read_request or lower max_payload"
    )]
    PayloadOverRead {
        /// MPS in bytes.
        max_payload: u16,
        /// MRRS in bytes.
        max_read_request: u16,
    },
    /// Link Control cannot say this boundary (PCIe 5.0, 7.5.3.7).
    #[error("completion_boundary = {bytes}: a read completion boundary is 64 or 128 bytes")]
    Boundary {
        /// What was asked for.
        bytes: u16,
    },
    /// The largest TLP never gets its credits (PCIe 5.0, 2.6.1).
    #[error(
        "credits.{field} = {credits}: a TLP with max_payload = {max_payload} bytes would wait for ever; advertise {needs} \
         or more"
    )]
    Credits {
        /// Kind of credits.
        field: &'static str,
        /// What the receiver advertises.
        credits: u16,
        /// What the largest TLP takes.
        needs: u16,
        /// MPS in bytes.
        max_payload: u16,
    },
}
