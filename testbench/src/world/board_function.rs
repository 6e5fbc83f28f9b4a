//! A function of an IO-Bond before another process that hosts the board: configuration space, BAR, interrupts and memory of
//! one [`Bond`] as vfio-user carries them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use iobond_model::{
    fabric::Fault,
    front_end::Message,
    live::{
        Backing, BoardInterrupts, BoardMapError, Bond, Permission, RemoteMemory, ShareError, SharedFiles,
    },
};
use iobond_spec::{
    MAX_FUNCTIONS,
    address::{BoardAddr, FunctionId},
    function::{BAR_SIZE, MSIX_CAP, MSIX_ENTRY_SIZE, MSIX_PBA, MSIX_TABLE, MSIX_VECTORS},
};
use iobond_vfio_user::{Client, Description, DmaMapping, Errno, Function, Irq, Region, RegionDescription};

/// Bytes of configuration space of a PCI Express function (PCIe 5.0, 7.2.2).
const CONFIG_SIZE: u64 = 4096;
/// High byte of MSI-X message control, and MSI-X Enable in it (PCIe 5.0, 7.7.2.2).
const MSIX_CONTROL_HIGH: u64 = MSIX_CAP as u64 + 3;
const MSIX_ENABLE: u8 = 1 << 7;
/// Words of an MSI-X table entry.
const ENTRY_WORDS: u32 = MSIX_ENTRY_SIZE / 4;

/// The board's interrupt controller is the hosting process's: messages become eventfds.
#[derive(Debug, Default)]
pub(super) struct InterruptLines([Mutex<Option<Arc<Client>>>; MAX_FUNCTIONS]);

impl InterruptLines {
    fn connect(&self, function: FunctionId, client: Option<Arc<Client>>) {
        *self.0[function.index()].lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    fn trigger(&self, function: usize, irq: Irq, vector: u16) {
        let Some(line) = self.0.get(function) else { return };
        if let Some(client) = &*line.lock().unwrap_or_else(PoisonError::into_inner) {
            client.trigger(irq, vector);
        }
    }
}

impl BoardInterrupts for InterruptLines {
    /// The message is one that [`BoardFunction`] put into the MSI-X table. A driver that reaches the table past its host (by the
    /// PCI access capability) can only make it name other vectors of its own board.
    fn message(&self, message: Message) {
        let (Ok(function), Ok(vector)) = (usize::try_from(message.address), u16::try_from(message.data))
        else {
            return;
        };
        self.trigger(function, Irq::Msix, vector);
    }

    fn intx(&self, function: FunctionId) {
        self.trigger(function.index(), Irq::Intx, 0);
    }
}

/// Memory that came without a file that can be mapped: the client is asked for every access.
struct ClientMemory(Arc<Client>);

impl RemoteMemory for ClientMemory {
    fn read(&self, at: BoardAddr, into: &mut [u8]) -> Result<(), Fault> {
        let len = into.len() as u64;
        self.0.dma_read(at.0, into).map_err(|error| {
            tracing::warn!("{error}");
            Fault::Board { at, len }
        })
    }

    fn write(&self, at: BoardAddr, from: &[u8]) -> Result<(), Fault> {
        self.0.dma_write(at.0, from).map_err(|error| {
            tracing::warn!("{error}");
            Fault::Board { at, len: from.len() as u64 }
        })
    }
}

/// One function of `bond`, to be served.
pub(super) struct BoardFunction {
    bond: Arc<Bond>,
    id: FunctionId,
    lines: Arc<InterruptLines>,
    files: Arc<SharedFiles>,
    client: Mutex<Option<Arc<Client>>>,
    warned: AtomicBool,
}

impl BoardFunction {
    /// Function `id` of `bond`, whose interrupts go to `lines`. `files` are shared with the board's other functions.
    pub(super) fn new(
        bond: Arc<Bond>,
        id: FunctionId,
        lines: Arc<InterruptLines>,
        files: Arc<SharedFiles>,
    ) -> Self {
        Self { bond, id, lines, files, client: Mutex::default(), warned: AtomicBool::new(false) }
    }

    fn set_client(&self, client: Option<Arc<Client>>) {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&client);
        self.lines.connect(self.id, client);
    }

    /// Writes the MSI-X table as the host of a board does with the function's own: the driver's table is the host's to emulate, and
    /// what the function sends is just which of its vectors it is.
    fn program_msix_table(&self, wait: &mut dyn FnMut()) {
        for vector in 0..u32::from(MSIX_VECTORS) {
            let entry = [self.id.index() as u32, 0, vector, 0];
            for (word, value) in (0..ENTRY_WORDS).zip(entry) {
                let at = MSIX_TABLE + vector * MSIX_ENTRY_SIZE + 4 * word;
                self.bond.bar_write(self.id, at, 4, value, wait);
            }
        }
    }

    /// The client that granted a range, as memory.
    fn remote(&self) -> Result<Backing, Errno> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().map(|client| Backing::Remote(Arc::new(ClientMemory(client)))).ok_or(Errno::NODEV)
    }

    fn backing(&self, mapping: DmaMapping) -> Result<Backing, Errno> {
        let Some((file, offset)) = mapping.file else { return self.remote() };
        match self.files.share(file, offset, mapping.size, mapping.writable) {
            Ok(backing) => Ok(backing),
            Err(reason @ ShareError::Unsealed) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "function {}: {reason}; its host is asked for every access, which is slow. QEMU: \
                         -object memory-backend-memfd,share=on",
                        self.id.index()
                    );
                }
                self.remote()
            }
            Err(reason) => {
                tracing::warn!("function {}: memory at {:#x}: {reason}", self.id.index(), mapping.address);
                Err(Errno::INVAL)
            }
        }
    }
}

/// Cuts `len` bytes at `offset` into naturally aligned accesses of at most four bytes, as PCI knows them: where each begins in the
/// whole, and its width.
fn accesses(offset: u64, len: usize) -> impl Iterator<Item = (usize, u8)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let fits = |width: &u8| at.is_multiple_of(u64::from(*width)) && usize::from(*width) <= len - done;
        let width = [4, 2, 1].into_iter().find(fits).filter(|_| done < len)?;
        done += usize::from(width);
        Some((done - usize::from(width), width))
    })
}

/// Whether an access lies in the MSI-X table or its pending bits, which the client emulates.
fn is_msix(offset: u32) -> bool {
    let table = u32::from(MSIX_VECTORS) * MSIX_ENTRY_SIZE;
    (MSIX_TABLE..MSIX_TABLE + table).contains(&offset) || (MSIX_PBA..MSIX_PBA + 8).contains(&offset)
}

impl Function for BoardFunction {
    fn description(&self) -> Description {
        let bytes = |size| RegionDescription { size, readable: true, writable: true };
        Description::default()
            .with_region(Region::Bar0, bytes(u64::from(BAR_SIZE)))
            .with_region(Region::Config, bytes(CONFIG_SIZE))
            .with_vectors(Irq::Intx, 1)
            .with_vectors(Irq::Msix, MSIX_VECTORS)
            // Hosts ask for it. It never comes: what goes wrong with a function shows in its device status.
            .with_vectors(Irq::Err, 1)
    }

    fn attach(&self, client: Arc<Client>) {
        self.set_client(Some(client));
    }

    fn detach(&self) {
        // The queues stop first, so that what the client takes along is in nobody's use.
        self.bond.reset(self.id);
        self.set_client(None);
        self.unmap_all();
    }

    fn read(
        &self,
        region: Region,
        offset: u64,
        data: &mut [u8],
        wait: &mut dyn FnMut(),
    ) -> Result<(), Errno> {
        for (done, width) in accesses(offset, data.len()) {
            let at = offset + done as u64;
            let value = match region {
                Region::Config => {
                    self.bond.config_read(self.id, u16::try_from(at).map_err(|_| Errno::INVAL)?, width, wait)
                }
                Region::Bar0 => {
                    self.bond.bar_read(self.id, u32::try_from(at).map_err(|_| Errno::INVAL)?, width, wait)
                }
                _ => return Err(Errno::INVAL),
            };
            data[done..done + usize::from(width)].copy_from_slice(&value.to_le_bytes()[..usize::from(width)]);
        }
        Ok(())
    }

    fn write(&self, region: Region, offset: u64, data: &[u8], wait: &mut dyn FnMut()) -> Result<(), Errno> {
        for (done, width) in accesses(offset, data.len()) {
            let at = offset + done as u64;
            let bytes = &data[done..done + usize::from(width)];
            let value = bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            match region {
                Region::Config => {
                    let control =
                        MSIX_CONTROL_HIGH.checked_sub(at).and_then(|index| bytes.get(index as usize));
                    if control.is_some_and(|control| control & MSIX_ENABLE != 0) {
                        self.program_msix_table(wait);
                    }
                    let at = u16::try_from(at).map_err(|_| Errno::INVAL)?;
                    self.bond.config_write(self.id, at, width, value, wait);
                }
                Region::Bar0 => {
                    let at = u32::try_from(at).map_err(|_| Errno::INVAL)?;
                    if !is_msix(at) {
                        self.bond.bar_write(self.id, at, width, value, wait);
                    }
                }
                _ => return Err(Errno::INVAL),
            }
        }
        Ok(())
    }

    fn map(&self, mapping: DmaMapping) -> Result<(), Errno> {
        let (at, size) = (BoardAddr(mapping.address), mapping.size);
        let permission = Permission { read: mapping.readable, write: mapping.writable };
        let backing = self.backing(mapping)?;
        self.bond.board_memory(self.id).map(at, size, permission, backing).map_err(|error| match error {
            BoardMapError::Overlap { .. } => Errno::EXIST,
            BoardMapError::Range { .. } | BoardMapError::NotMapped { .. } => Errno::INVAL,
        })
    }

    fn unmap(&self, address: u64, size: u64) -> Result<(), Errno> {
        self.bond.board_memory(self.id).unmap(BoardAddr(address), size).map_err(|_| Errno::NOENT)
    }

    fn unmap_all(&self) {
        self.bond.board_memory(self.id).unmap_all();
    }

    fn reset(&self) {
        self.bond.reset(self.id);
    }

    fn intx_asserted(&self) -> bool {
        self.bond.intx_asserted(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_cut_where_pci_would() {
        let cut = |offset, len| accesses(offset, len).collect::<Vec<_>>();
        assert_eq!(cut(0, 4), [(0, 4)]);
        assert_eq!(cut(8, 8), [(0, 4), (4, 4)]);
        assert_eq!(cut(1, 7), [(0, 1), (1, 2), (3, 4)]);
        assert_eq!(cut(6, 3), [(0, 2), (2, 1)]);
        assert_eq!(cut(0, 4096).len(), 1024);
        assert_eq!(cut(3, 0), []);
    }
}
