//! The client of a function, as the function sees it.

use crate::Irq;

/// Why an access to the client's memory failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmaError {
    /// There is no client any more.
    #[error("DMA of {len} bytes at {address:#x}: the client has gone")]
    Gone {
        /// Where the access began.
        address: u64,
        /// Its bytes.
        len: usize,
    },
}

/// The client that uses a function.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// Raises `vector` of `irq`.
    pub fn trigger(&self, _irq: Irq, _vector: u16) {}

    /// Reads `into.len()` bytes of the client's memory at `address`, through the client.
    ///
    /// # Errors
    /// When the client refuses, takes too long or is gone.
    pub fn dma_read(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        Err(DmaError::Gone { address, len: into.len() })
    }

    /// Writes `from` to the client's memory at `address`, through the client.
    ///
    /// # Errors
    /// When the client refuses, takes too long or is gone.
    pub fn dma_write(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        Err(DmaError::Gone { address, len: from.len() })
    }
}
