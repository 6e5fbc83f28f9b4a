//! The in-process IO-Bond as a [`Port`]: registers are calls, DMA mappings are maps of the same memfd.
//!
//! The one place where the model and bm-hypervisor meet. Left out: what either does.

use std::{ops::Deref, sync::Arc};

use bm_hypervisor::port::{Port, PortError, Region};
use iobond_model::live::{Bond, MapError, Mapping};
use iobond_spec::{address::BaseAddr, register_access::RegisterIo};

/// A [`Bond`] as the base reaches it.
#[derive(Clone)]
pub struct ModelPort(pub Arc<Bond>);

impl Deref for ModelPort {
    type Target = Bond;
    fn deref(&self) -> &Bond {
        &self.0
    }
}

impl RegisterIo for ModelPort {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset)
    }

    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        self.0.write32(offset, value);
    }
}

impl Port for ModelPort {
    fn map_dma(&self, region: &Region<'_>) -> Result<(), PortError> {
        let &Region { file, file_offset, length, iova } = region;
        // A length that this machine cannot address overlaps something for certain.
        let mapped = usize::try_from(length).map_err(|_| PortError::Overlap { iova, length })?;
        let mapping = Mapping { file, file_offset, length: mapped, iova };
        self.map(&mapping).map_err(|error| match error {
            MapError::System { source, .. } => PortError::System { iova, length, source },
            MapError::Overlap { .. } | MapError::NotMapped { .. } => PortError::Overlap { iova, length },
        })
    }

    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError> {
        self.unmap(iova).map_err(|_| PortError::NotMapped { iova })
    }

    fn reset(&self) -> Result<(), PortError> {
        self.reset_base();
        Ok(())
    }
}
