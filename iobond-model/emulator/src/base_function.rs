//! IO-Bond's own function before a base that another process is: configuration space, registers, interrupt
//! and base memory of one [`Bond`] as vfio-user carries them. A bm-hypervisor is its client, or a QEMU whose
//! guest runs one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iobond_model::{
    device::base_config,
    front_end::ConfigSpace,
    live::{Bond, SharedFiles},
};
use iobond_spec::{
    ALL_ONES,
    address::BaseAddr,
    base_function::{BAR_SIZE, MSIX_TABLE, MSIX_VECTORS, WAKE_VECTOR},
    register_access::RegisterIo,
};
use iobond_vfio_user::{Client, Description, DmaMapping, Errno, Function, Irq, Region, RegionDescription};

use super::{
    accesses::{read, write},
    granted_memory::GrantedMemory,
};

/// Bytes of configuration space of a PCI Express function (PCIe 5.0, 7.2.2).
const CONFIG_SIZE: u64 = 4096;

/// The interrupt of the base function: its vector's eventfd, which the client gave.
#[derive(Debug, Default)]
pub(super) struct BaseLine(Mutex<Option<Arc<Client>>>);

impl BaseLine {
    fn client(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn raise(&self) {
        if let Some(client) = &*self.client() {
            client.trigger(Irq::Msix, WAKE_VECTOR);
        }
    }
}

/// The base function of `bond`, to be served.
pub(super) struct BaseFunction {
    bond: Arc<Bond>,
    line: Arc<BaseLine>,
    config: Mutex<ConfigSpace>,
    memory: GrantedMemory,
}

impl BaseFunction {
    /// The function of `bond`, which interrupts by `line`.
    pub(super) fn new(bond: Arc<Bond>, line: Arc<BaseLine>, name: String) -> Self {
        bond.set_base_mastering(false);
        let memory = GrantedMemory::new(name, Arc::new(SharedFiles::default()));
        Self { bond, line, config: Mutex::new(base_config()), memory }
    }

    fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config_write(&self, at: u16, width: u8, value: u32) {
        let (event, mastering) = {
            let mut config = self.config();
            (config.write(at, width, value), config.bus_master())
        };
        self.bond.set_base_mastering(mastering);
        if event.reset {
            self.reset();
        }
    }
}

/// A register access: four bytes, in the register map, while the function decodes memory.
fn register(at: u64, width: u8) -> Option<u32> {
    u32::try_from(at).ok().filter(|at| width == 4 && *at < MSIX_TABLE)
}

impl Function for BaseFunction {
    fn description(&self) -> Description {
        let bytes = |size| RegionDescription { size, readable: true, writable: true };
        Description::default()
            .with_region(Region::Bar0, bytes(u64::from(BAR_SIZE)))
            .with_region(Region::Config, bytes(CONFIG_SIZE))
            .with_vectors(Irq::Msix, MSIX_VECTORS)
            // Hosts ask for it. It never comes: a device that is gone reads all ones.
            .with_vectors(Irq::Err, 1)
    }

    fn attach(&self, client: Arc<Client>) {
        self.memory.set_client(Some(Arc::clone(&client)));
        *self.line.client() = Some(client);
    }

    /// A base that is gone leaves a device that was reset, as the kernel's vfio-pci does when its device is
    /// let go.
    fn detach(&self) {
        self.reset();
        *self.line.client() = None;
        self.memory.set_client(None);
        self.unmap_all();
    }

    fn read(&self, region: Region, offset: u64, data: &mut [u8], _: &mut dyn FnMut()) -> Result<(), Errno> {
        read(offset, data, |at, width| match region {
            Region::Config => {
                let at = u16::try_from(at).map_err(|_| Errno::INVAL)?;
                Ok(self.config().read(at, width))
            }
            // Its MSI-X table and pending bits are the host's to emulate.
            Region::Bar0 if !self.config().memory_enable() => Ok(ALL_ONES),
            Region::Bar0 => Ok(register(at, width).map_or(0, |at| self.bond.read32(at))),
            _ => Err(Errno::INVAL),
        })
    }

    fn write(&self, region: Region, offset: u64, data: &[u8], _: &mut dyn FnMut()) -> Result<(), Errno> {
        write(offset, data, |at, width, value| {
            match region {
                Region::Config => {
                    self.config_write(u16::try_from(at).map_err(|_| Errno::INVAL)?, width, value);
                }
                Region::Bar0 => {
                    if let Some(at) = register(at, width).filter(|_| self.config().memory_enable()) {
                        self.bond.write32(at, value);
                    }
                }
                _ => return Err(Errno::INVAL),
            }
            Ok(())
        })
    }

    fn map(&self, mapping: DmaMapping) -> Result<(), Errno> {
        self.memory.map(self.bond.base_memory(), mapping)
    }

    fn unmap(&self, address: u64, size: u64) -> Result<(), Errno> {
        self.bond.base_memory().unmap(BaseAddr(address), size).map_err(|_| Errno::NOENT)
    }

    fn unmap_all(&self) {
        self.bond.base_memory().unmap_all();
    }

    /// A function-level reset: memory that is mapped stays, as it is the host's I/O MMU that maps it.
    fn reset(&self) {
        self.config().reset();
        self.bond.set_base_mastering(false);
        self.bond.reset_base();
    }

    fn intx_asserted(&self) -> bool {
        false
    }
}
