//! A function of an IO-Bond before another process that hosts the board: configuration space, BAR, interrupts
//! and memory of one [`Bond`] as vfio-user carries them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use iobond_model::{
    device::Access,
    front_end::Message,
    live::{Bond, Environment, SharedFiles},
};
use iobond_spec::{
    MAX_FUNCTIONS,
    address::{BoardAddr, FunctionId},
    function::{BAR_SIZE, MSIX_CAP, MSIX_ENTRY_SIZE, MSIX_PBA, MSIX_TABLE, MSIX_VECTORS},
};
use iobond_vfio_user::{
    Client, Description, DmaMapping, Errno, Function, Irq, Region, RegionDescription, Server, ServerError,
};

use super::{
    accesses::{read, write},
    base_function::BaseLine,
    granted_memory::GrantedMemory,
    wake_up::WakeUp,
};

/// Bytes of configuration space of a PCI Express function (PCIe 5.0, 7.2.2).
const CONFIG_SIZE: u64 = 4096;
/// High byte of MSI-X message control, and MSI-X Enable in it (PCIe 5.0, 7.7.2.2).
const MSIX_CONTROL_HIGH: u64 = MSIX_CAP as u64 + 3;
const MSIX_ENABLE: u8 = 1 << 7;
/// Words of an MSI-X table entry.
const ENTRY_WORDS: u32 = MSIX_ENTRY_SIZE / 4;

/// The board's interrupt controller is the hosting process's: messages become eventfds. The base's is too,
/// where the base is another process.
#[derive(Debug)]
pub struct InterruptLines {
    board: [Mutex<Option<Arc<Client>>>; MAX_FUNCTIONS],
    base: Option<Arc<BaseLine>>,
    wake_up: Arc<WakeUp>,
}

impl InterruptLines {
    /// Lines of a board whose IO-Bond is polled by the thread that sleeps on `wake_up`.
    #[must_use]
    pub fn new(wake_up: Arc<WakeUp>) -> Self {
        Self { board: Default::default(), base: None, wake_up }
    }

    /// The same, with the line of a base that is another process.
    pub(super) fn with_base(self, base: Arc<BaseLine>) -> Self {
        Self { base: Some(base), ..self }
    }

    fn connect(&self, function: FunctionId, client: Option<Arc<Client>>) {
        *self.board[function.index()].lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    fn trigger(&self, function: usize, irq: Irq, vector: u16) {
        let Some(line) = self.board.get(function) else { return };
        if let Some(client) = &*line.lock().unwrap_or_else(PoisonError::into_inner) {
            client.trigger(irq, vector);
        }
    }
}

impl Environment for InterruptLines {
    /// The message is one that `BoardFunction` put into the MSI-X table. A driver that reaches the table
    /// past its host (by the PCI access capability) can only make it name other vectors of its own board.
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

    fn wake_poller(&self) {
        self.wake_up.wake();
    }

    fn has_base_interrupt(&self) -> bool {
        self.base.is_some()
    }

    fn interrupt_base(&self) {
        if let Some(base) = &self.base {
            base.raise();
        }
    }
}

/// One function of `bond`, to be served.
pub(super) struct BoardFunction {
    bond: Arc<Bond>,
    id: FunctionId,
    lines: Arc<InterruptLines>,
    memory: GrantedMemory,
}

impl BoardFunction {
    /// Function `id` of `bond`, whose interrupts go to `lines`. `files` are shared with the board's other
    /// functions.
    pub(super) fn new(
        bond: Arc<Bond>,
        id: FunctionId,
        lines: Arc<InterruptLines>,
        files: Arc<SharedFiles>,
    ) -> Self {
        let memory = GrantedMemory::new(format!("function {}", id.index()), files);
        Self { bond, id, lines, memory }
    }

    fn set_client(&self, client: Option<Arc<Client>>) {
        self.memory.set_client(client.clone());
        self.lines.connect(self.id, client);
    }

    /// Writes the MSI-X table as the host of a board does with the function's own: the driver's table is the
    /// host's to emulate, and what the function sends is just which of its vectors it is.
    fn program_msix_table(&self, wait: &mut dyn FnMut()) {
        for vector in 0..u32::from(MSIX_VECTORS) {
            let entry = [self.id.index() as u32, 0, vector, 0];
            for (word, value) in (0..ENTRY_WORDS).zip(entry) {
                let at = MSIX_TABLE + vector * MSIX_ENTRY_SIZE + 4 * word;
                let access = Access::BarWrite { function: self.id, offset: at, width: 4, value };
                self.bond.access(access, wait);
            }
        }
    }
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
        // The queues stop first: none may be in the memory that the client takes along.
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
        read(offset, data, |at, width| match region {
            Region::Config => {
                let offset = u16::try_from(at).map_err(|_| Errno::INVAL)?;
                Ok(self.bond.access(Access::ConfigRead { function: self.id, offset, width }, wait))
            }
            Region::Bar0 => {
                let offset = u32::try_from(at).map_err(|_| Errno::INVAL)?;
                Ok(self.bond.access(Access::BarRead { function: self.id, offset, width }, wait))
            }
            _ => Err(Errno::INVAL),
        })
    }

    fn write(&self, region: Region, offset: u64, data: &[u8], wait: &mut dyn FnMut()) -> Result<(), Errno> {
        write(offset, data, |at, width, value| match region {
            Region::Config => {
                let control = MSIX_CONTROL_HIGH.checked_sub(at).filter(|index| *index < width.into());
                if control.is_some_and(|index| value.to_le_bytes()[index as usize] & MSIX_ENABLE != 0) {
                    self.program_msix_table(wait);
                }
                let offset = u16::try_from(at).map_err(|_| Errno::INVAL)?;
                self.bond.access(Access::ConfigWrite { function: self.id, offset, width, value }, wait);
                Ok(())
            }
            Region::Bar0 => {
                let offset = u32::try_from(at).map_err(|_| Errno::INVAL)?;
                if !is_msix(offset) {
                    self.bond.access(Access::BarWrite { function: self.id, offset, width, value }, wait);
                }
                Ok(())
            }
            _ => Err(Errno::INVAL),
        })
    }

    fn map(&self, mapping: DmaMapping) -> Result<(), Errno> {
        self.memory.map(self.bond.board_memory(self.id), mapping)
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

/// Has each function of a board on its socket.
///
/// # Errors
/// A socket that cannot be listened on; none is then.
pub fn serve_functions(
    bond: &Arc<Bond>,
    lines: &Arc<InterruptLines>,
    sockets: &[PathBuf],
) -> Result<Vec<Server>, ServerError> {
    let files = Arc::new(SharedFiles::default());
    let serve = |(id, socket): (FunctionId, &PathBuf)| {
        let function = BoardFunction::new(Arc::clone(bond), id, Arc::clone(lines), Arc::clone(&files));
        Server::start(socket, Arc::new(function) as Arc<dyn Function>)
    };
    FunctionId::all().zip(sockets).map(serve).collect()
}
